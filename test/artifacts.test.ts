/** Artifacts: files that a run keeps, how they are read again, and who may. */
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ARTIFACT_BYTES_MAX, type Artifact, type NewFile } from '../src/contract/index.ts'
import { manualClock } from '../src/db/clock.ts'
import { type Home, makeHome } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'
import { type Agent, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

const MINUTE = 60_000
const clock = manualClock(new Date())

let home: Home
let house: House
let worker: ScriptedWorker
beforeAll(async () => {
  home = await makeHome()
  house = await startHouse({ clock, max_concurrent_runs: 50 })
  worker = await house.worker({ capacity: 50 })
})
afterAll(async () => {
  await house?.close()
  await home?.remove()
})

async function begun(): Promise<Agent> {
  await house.client.runs.create({ body: { prompt: 'make something' } })
  return takeAgent(house, worker)
}

const reported = async (agent: Agent, data: NewFile): Promise<string> => {
  const body = { artifact_type: 'FILE' as const, data }
  return (await house.clientFor(agent.token).harnessSupport.reportArtifact({ body })).artifact_uid
}
const file = (more: Partial<NewFile> = {}): NewFile => ({
  filepath: 'out/report.md',
  content: '# Räport\n',
  encoding: 'utf-8',
  ...more,
})
const read = (artifact_uid: string, client = house.client): Promise<Artifact> =>
  client.artifacts.get({ params: { artifact_uid } })
const downloadOf = (artifact: Artifact): string =>
  'download_url' in artifact.data ? artifact.data.download_url : 'nowhere'

test('a reported file is listed with its run, and its bytes come from a signed address without any key', async () => {
  const agent = await begun()
  const artifact_uid = await reported(agent, file({ title: 'Report', description: 'What came out' }))
  expect(await reported(agent, file({ title: 'Report', description: 'What came out' }))).toBe(artifact_uid)
  expect(await reported(agent, file({ title: 'Report', content: 'other' }))).not.toBe(artifact_uid)
  const kept = { filepath: 'out/report.md', filename: 'report.md', title: 'Report', description: 'What came out' }
  const run = await house.client.runs.get({ params: { run_id: agent.run_id } })
  expect(run.artifacts[0]).toEqual({
    artifact_type: 'FILE',
    created_at: expect.any(String),
    data: { artifact_uid, ...kept, mime_type: 'text/markdown', size_bytes: 10 },
  })
  const artifact = await read(artifact_uid)
  expect(artifact).toEqual({
    artifact_uid,
    artifact_type: 'FILE',
    created_at: expect.any(String),
    data: {
      ...kept,
      content_type: 'text/markdown',
      size_bytes: 10,
      sha256: createHash('sha256').update('# Räport\n').digest('hex'),
      download_url: expect.stringContaining(`${house.url}/artifacts/${artifact_uid}?`),
      expires_at: new Date(Math.floor((clock.now().getTime() + 15 * MINUTE) / 1000) * 1000).toISOString(),
    },
  })
  const response = await fetch(downloadOf(artifact))
  expect(await response.text()).toBe('# Räport\n')
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'text/markdown',
    'content-disposition': "attachment; filename*=UTF-8''report.md",
    'content-security-policy': "default-src 'none'; sandbox",
    'x-content-type-options': 'nosniff',
  })
})

test('an address that was changed, is of another artifact, or has expired serves nothing, on any server', async () => {
  const agent = await begun()
  const [one, two] = [await reported(agent, file()), await reported(agent, file({ content: 'two' }))]
  const url = downloadOf(await read(one))
  const { server, client } = await house.sibling()
  expect((await fetch(url.replace(house.url, server.url))).status).toBe(200)
  expect((await fetch(downloadOf(await read(one, client)).replace(server.url, house.url))).status).toBe(200)
  const later = url.replace(/expires=(\d+)/, (_, expires: string) => `expires=${Number(expires) + 60}`)
  const wrong = [later, url.replace(one, two), url.replace(/signature=./, 'signature='), url.replace(/\?.*/, '')]
  for (const changed of wrong) expect((await fetch(changed)).status, changed).toBe(403)
  expect((await fetch(url.replace(one, 'nonsense'))).status).toBe(403)
  clock.advance(16 * MINUTE)
  expect(await (await fetch(url)).json()).toMatchObject({ status: 403, error: /expired/ })
  expect((await fetch(downloadOf(await read(one)))).status).toBe(200)
})

test.each<[string, Partial<NewFile>, RegExp]>([
  ['a path that leads out', { filepath: '../report.md' }, /relative/],
  ['a path from the root', { filepath: '/etc/passwd' }, /relative/],
  ['a path with a backslash', { filepath: 'a\\..\\b' }, /relative/],
  ['a name with a folder', { filename: 'a/b' }, /no folder/],
  ['a name that is a folder', { filename: '..' }, /no folder/],
  ['a name with a line break', { filename: 'a\nb' }, /no folder/],
  ['a type with a header in it', { mime_type: 'text/html\r\nx: y' }, /MIME/],
  ['what is no base64', { content: '!!!', encoding: 'base64' }, /base64/],
  ['a file that is too large', { content: 'x'.repeat(ARTIFACT_BYTES_MAX + 1) }, /at most 1048576/],
])('%s is refused', async (_, more, words) => {
  const agent = await begun()
  await expect(reported(agent, file(more))).rejects.toMatchObject({ code: 'invalid_request' })
  const refused = await reported(agent, file(more)).catch((error: unknown) => JSON.stringify([String(error), error]))
  expect(refused).toMatch(words)
})

test('a file of exactly the limit is kept, in characters that take up more', async () => {
  const agent = await begun()
  const content = '"'.repeat(ARTIFACT_BYTES_MAX)
  const artifact = await read(await reported(agent, file({ content })))
  expect(await (await fetch(downloadOf(artifact))).text()).toBe(content)
})

test('a plan is read with its text', async () => {
  await house.client.runs.create({ body: { prompt: 'plan something', mode: 'plan' } })
  const agent = await takeAgent(house, worker)
  await agent.call('propose_plan', { plan: '# The plan\n\nOne step.', agents: [] })
  const { plans } = await house.client.plans.ofRun({ params: { run_id: agent.run_id } })
  const [plan] = plans
  const document_uid = plan?.plan_id
  expect(await read(plan?.artifact_uid ?? '')).toEqual({
    artifact_uid: plan?.artifact_uid,
    artifact_type: 'PLAN',
    created_at: plan?.created_at,
    data: {
      document_uid,
      notebook_uid: document_uid,
      title: 'The plan',
      content: '# The plan\n\nOne step.',
      content_type: 'text/markdown',
    },
  })
})

test('an agent reports a file with its tool, and is told in words what is missing', async () => {
  const agent = await begun()
  const { said } = await agent.call('report_artifact', {
    artifact_type: 'file',
    filename: 'notes.txt',
    content: 'noted',
    title: 'Notes',
  })
  const artifact = await read(String(said.artifact_uid))
  expect(artifact.data).toMatchObject({ filename: 'notes.txt', title: 'Notes', content_type: 'text/plain' })
  const wrong = await agent.call('report_artifact', { artifact_type: 'FILE', filename: 'notes.txt' })
  expect(wrong).toMatchObject({ is_error: true, text: expect.stringMatching(/Not recorded: content/) })
})

test('another team, another run and an unknown uid see nothing; a task sees what it builds on', async () => {
  const agent = await begun()
  const artifact_uid = await reported(agent, file())
  const { client } = await house.addTeam('others')
  const absent = { code: 'resource_not_found' }
  await expect(read(artifact_uid, client)).rejects.toMatchObject(absent)
  await expect(read(crypto.randomUUID())).rejects.toMatchObject(absent)
  const stranger = await begun()
  await expect(read(artifact_uid, house.clientFor(stranger.token))).rejects.toMatchObject(absent)
  const foreign = house.clientFor(stranger.token).artifacts.create({ params: { run_id: agent.run_id }, body: file() })
  await expect(foreign).rejects.toMatchObject({ code: 'not_authorized' })
  expect(await read(artifact_uid, house.clientFor(agent.token))).toMatchObject({ artifact_uid })

  const tasks = [
    { name: 'make', prompt: 'x' },
    { name: 'use', prompt: 'x', depends_on: ['make'] },
  ]
  await house.client.batches.create({ body: { tasks } })
  const make = await takeAgent(house, worker)
  const made = await reported(make, file({ content: 'made' }))
  await make.finish({ outcome: 'SUCCEEDED' })
  const use = await takeAgent(house, worker)
  expect(use.assignment.env_vars.WARP_API_KEY).toBe(use.token)
  expect(await read(made, house.clientFor(use.token))).toMatchObject({ artifact_uid: made })
})

test('on the command line a file goes up from inside its run or for any, and comes down as it was', async () => {
  const agent = await begun()
  const out = { BATON_SERVER: house.url, BATON_API_KEY: house.api_key }
  const inside = { BATON_SERVER: house.url, BATON_API_KEY: agent.token, OZ_RUN_ID: agent.run_id }
  const bytes = Buffer.from([0, 255, 1, 254])
  await writeFile(join(home.folder, 'data.bin'), bytes)
  await writeFile(join(home.folder, 'words.md'), '# Words\n')
  const up = await home.run(['artifact', 'upload', 'data.bin', '--description', 'Bytes', '--json'], { env: inside })
  expect(up.code, up.stderr).toBe(0)
  const kept: { artifact_uid: string } = JSON.parse(up.stdout)
  expect(kept).toEqual({
    artifact_uid: expect.any(String),
    filepath: 'data.bin',
    description: 'Bytes',
    mime_type: 'application/octet-stream',
    size_bytes: 4,
  })
  const path = join(home.folder, 'words.md')
  const words = await home.run(['artifact', 'upload', path, '--run-id', agent.run_id, '--json'], { env: out })
  expect(JSON.parse(words.stdout)).toMatchObject({ filepath: 'words.md', mime_type: 'text/markdown' })
  const support = ['harness-support', 'report-artifact', 'file', '--file', 'words.md', '--json']
  const again = await home.run(support, { env: inside })
  expect(JSON.parse(again.stdout)).toMatchObject({ artifact_uid: JSON.parse(words.stdout).artifact_uid })
  const shown = await home.run(['artifact', 'get', kept.artifact_uid, '--json'], { env: out })
  expect(JSON.parse(shown.stdout)).toMatchObject({
    artifact_uid: kept.artifact_uid,
    artifact_type: 'FILE',
    filename: 'data.bin',
    download_url: expect.any(String),
  })
  const down = await home.run(['artifact', 'download', kept.artifact_uid, '-O', 'copy.bin', '--json'], { env: out })
  expect(JSON.parse(down.stdout)).toEqual({
    artifact_uid: kept.artifact_uid,
    artifact_type: 'FILE',
    path: join(home.folder, 'copy.bin'),
  })
  expect(await readFile(join(home.folder, 'copy.bin'))).toEqual(bytes)
  const piped = await home.run(['artifact', 'get', JSON.parse(words.stdout).artifact_uid, '-O', '-'], { env: out })
  expect(piped.stdout).toBe('# Words\n')
  const absent = await home.run(['artifact', 'get', crypto.randomUUID()], { env: out })
  expect(absent).toMatchObject({ code: 5, stderr: expect.stringContaining('There is no artifact') })
  expect((await home.run(['artifact', 'upload', 'words.md'], { env: out })).code).toBe(2)
})
