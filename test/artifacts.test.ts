/** Artifacts: files that a run keeps, how they are read again, and who may. */
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ARTIFACT_BYTES_MAX, type Artifact, type NewFile, Problem, type ReportArtifact } from '../src/contract/index.ts'
import { manualClock } from '../src/db/clock.ts'
import { send, sendFile } from './house/files.ts'
import { type House, startHouse } from './house/house.ts'
import { type Agent, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

const MINUTE = 60_000
const clock = manualClock(new Date())

let house: House
let worker: ScriptedWorker
beforeAll(async () => {
  house = await startHouse({ clock, max_concurrent_runs: 50 })
  worker = await house.worker({ capacity: 50 })
})
afterAll(async () => {
  await house?.close()
})

async function begun(config = {}): Promise<Agent> {
  await house.client.runs.create({ body: { prompt: 'make something', config } })
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
  clock.advance(1)
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

test('a run lists each kind of artifact in its public shape, a plan with its version, and nothing else', async () => {
  await house.client.runs.create({ body: { prompt: 'plan something', mode: 'plan' } })
  const agent = await takeAgent(house, worker)
  const report = async (body: ReportArtifact) => {
    clock.advance(1)
    const reported = () => house.clientFor(agent.token).harnessSupport.reportArtifact({ body })
    const { artifact_uid } = await reported()
    expect(await reported()).toEqual({ artifact_uid })
    return artifact_uid
  }
  const pull = { url: 'https://git.example/a/b/pull/7', branch: 'fix' }
  await report({ artifact_type: 'PULL_REQUEST', data: pull })
  const page = { reference_type: 'issue', url: 'https://git.example/a/b/issues/8', title: 'It', metadata: { n: [1] } }
  await report({ artifact_type: 'EXTERNAL_REFERENCE', data: page })
  const file_uid = await report({ artifact_type: 'FILE', data: file() })
  clock.advance(1)
  const shot = { run_id: agent.run_id, filepath: 'shot.png', mime_type: 'image/png', description: 'The page' }
  const screenshot = await sendFile(house.client, { ...shot, artifact_type: 'SCREENSHOT' }, 'PNG')
  clock.advance(1)
  await agent.call('propose_plan', { plan: '# The plan', agents: [] })
  const { artifacts } = await house.client.runs.get({ params: { run_id: agent.run_id } })
  const facts = { filepath: 'out/report.md', filename: 'report.md', mime_type: 'text/markdown', size_bytes: 10 }
  const plan = { document_uid: expect.any(String), notebook_uid: expect.any(String), title: 'The plan', version: 1 }
  expect(artifacts.map(({ artifact_type, data }) => [artifact_type, data])).toEqual([
    ['PULL_REQUEST', pull],
    ['EXTERNAL_REFERENCE', page],
    ['FILE', { artifact_uid: file_uid, ...facts }],
    ['SCREENSHOT', { artifact_uid: screenshot.artifact_uid, mime_type: 'image/png', description: 'The page' }],
    ['PLAN', { artifact_uid: expect.any(String), ...plan }],
  ])
  for (const { created_at } of artifacts) expect(created_at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
  expect(await read(screenshot.artifact_uid)).toEqual({
    artifact_uid: screenshot.artifact_uid,
    artifact_type: 'SCREENSHOT',
    created_at: expect.any(String),
    data: {
      content_type: 'image/png',
      description: 'The page',
      download_url: expect.any(String),
      expires_at: expect.any(String),
    },
  })
})

test('what has no content of its own is not read as an artifact', async () => {
  const agent = await begun()
  const data = { url: 'https://git.example/a/b/pull/7', branch: 'fix' }
  const body = { artifact_type: 'PULL_REQUEST' as const, data }
  const { artifact_uid } = await house.clientFor(agent.token).harnessSupport.reportArtifact({ body })
  await expect(read(artifact_uid)).rejects.toMatchObject({ code: 'invalid_request' })
})

test('a file is served in ranges, so that a broken download goes on', async () => {
  const agent = await begun()
  const artifact_uid = await reported(agent, file({ content: '0123456789' }))
  const url = downloadOf(await read(artifact_uid))
  const ask = async (headers: Record<string, string>, method = 'GET') => {
    const response = await fetch(url, { headers, method })
    return [response.status, response.headers.get('content-range'), await response.text()]
  }
  const etag = (await fetch(url)).headers.get('etag') ?? ''
  expect(etag).toBe(`"${createHash('sha256').update('0123456789').digest('hex')}"`)
  expect(await ask({ range: 'bytes=2-4' })).toEqual([206, 'bytes 2-4/10', '234'])
  expect(await ask({ range: 'bytes=7-' })).toEqual([206, 'bytes 7-9/10', '789'])
  expect(await ask({ range: 'bytes=-3' })).toEqual([206, 'bytes 7-9/10', '789'])
  expect(await ask({ range: 'bytes=8-99', 'if-range': etag })).toEqual([206, 'bytes 8-9/10', '89'])
  expect(await ask({ range: 'bytes=8-', 'if-range': '"another"' })).toEqual([200, null, '0123456789'])
  const [status, where, text] = await ask({ range: 'bytes=10-' })
  expect([status, where]).toEqual([416, 'bytes */10'])
  expect(Problem.parse(JSON.parse(String(text)))).toMatchObject({ status: 416, error: expect.stringContaining('10') })
  expect(await ask({ range: 'bytes=10-' }, 'HEAD')).toEqual([416, 'bytes */10', ''])
  for (const odd of ['bytes=0-1,3-4', 'bytes=5-2', 'lines=1-2', 'bytes=-'])
    expect(await ask({ range: odd }), odd).toEqual([200, null, '0123456789'])
  expect(await ask({}, 'HEAD')).toEqual([200, null, ''])
})

test('what a run shows to all is read without a key, but for its path; nothing else is', async () => {
  const open = await begun({ session_sharing: { public_access: 'VIEWER' } })
  const closed = await begun()
  const nobody = house.clientFor(undefined)
  const artifact_uid = await reported(open, file())
  const { data } = await read(artifact_uid, nobody)
  expect(data).toMatchObject({ filename: 'report.md', sha256: expect.any(String) })
  expect(data).not.toHaveProperty('filepath')
  expect((await read(artifact_uid)).data).toHaveProperty('filepath')
  const stranger = await house.addTeam('strangers')
  expect((await read(artifact_uid, stranger.client)).data).toHaveProperty('filename')
  const led = await fetch(`${house.url}/api/v1/agent/artifacts/${artifact_uid}/download`)
  expect([led.redirected, await led.text()]).toEqual([true, '# Räport\n'])
  for (const uid of [await reported(closed, file()), crypto.randomUUID()])
    await expect(read(uid, nobody)).rejects.toMatchObject({ code: 'authentication_required', status: 401 })
  await expect(read(artifact_uid, house.clientFor('wk-1.wrong'))).rejects.toMatchObject({ status: 401 })
})

test('files are kept by whoever sees the run, by its id or its conversation, under any name that leads nowhere', async () => {
  const agent = await begun()
  const run = await house.client.runs.get({ params: { run_id: agent.run_id } })
  const conversation_id = run.conversation_id ?? ''
  const kept = await sendFile(house.clientFor(agent.token), { conversation_id, filepath: 'same.txt' }, 'one')
  const again = await sendFile(house.client, { run_id: agent.run_id, filepath: 'same.txt' }, 'one')
  const other = await sendFile(house.client, { run_id: agent.run_id, filepath: 'same.txt' }, 'two')
  expect(again).toEqual(kept)
  expect(other.artifact_uid).not.toBe(kept.artifact_uid)
  const odd = await sendFile(house.client, { run_id: agent.run_id, filepath: 'a b/ü "x".tar.gz' }, 'odd')
  const response = await fetch(downloadOf(await read(odd.artifact_uid)))
  expect(response.headers.get('content-disposition')).toContain(encodeURIComponent('ü "x".tar.gz'))
  expect(odd.mime_type).toBe('application/gzip')
  const plain = await sendFile(house.client, { run_id: agent.run_id, filepath: 'x.constructor' }, 'plain')
  expect(plain.mime_type).toMatch(/^(text\/plain|application\/octet-stream)$/)
  const upload = (body: object) => house.client.artifacts.upload({ body: { run_id: agent.run_id, ...body } as never })
  for (const filepath of ['../a', '/a', 'a/../../b', 'C:\\a', 'a\0b', 'a//b', '', '.', 'x'.repeat(1025)])
    await expect(upload({ filepath }), filepath).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(upload({ filepath: 'a', conversation_id })).rejects.toThrow(/one of run_id and conversation_id/)
  await expect(upload({ filepath: 'a', size_bytes: 2 ** 40 })).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(upload({ filepath: 'a.txt', artifact_type: 'SCREENSHOT' })).rejects.toThrow(/screenshot is image/)
  const unknown = house.client.artifacts.upload({ body: { conversation_id: crypto.randomUUID(), filepath: 'a' } })
  await expect(unknown).rejects.toMatchObject({ code: 'resource_not_found' })
})

test('an execution that was replaced adds nothing any more, by no way', async () => {
  const agent = await begun()
  const client = house.clientFor(agent.token)
  const { upload_id, upload_target } = await client.artifacts.upload({ body: { run_id: agent.run_id, filepath: 'a' } })
  await send(upload_target, 'late')
  await house.database.kysely
    .updateTable('runs')
    .set({ execution_id: null })
    .where('run_id', '=', agent.run_id)
    .execute()
  const { artifacts } = house.server.engine
  const caller = {
    kind: 'execution' as const,
    team_id: house.owner.team_id,
    owner_user_id: null,
    run_id: agent.run_id,
    execution_id: agent.execution_id,
    by: 'execution_token' as const,
    ended: false,
  }
  const superseded = { code: 'conflict' }
  const body = { artifact_type: 'FILE' as const, data: file() }
  await expect(artifacts.report(caller, body)).rejects.toMatchObject(superseded)
  await expect(artifacts.confirm(caller, upload_id, undefined)).rejects.toMatchObject(superseded)
  expect((await house.client.runs.get({ params: { run_id: agent.run_id } })).artifacts).toEqual([])
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
  const body = { run_id: agent.run_id, filepath: 'a.txt' }
  const foreign = house.clientFor(stranger.token).artifacts.upload({ body })
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
