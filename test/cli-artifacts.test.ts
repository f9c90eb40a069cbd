/** The artifact commands: files go up, come down as they were, and nothing on the disk is lost by it. */
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Home, makeHome } from './cli/baton.ts'
import { sendFile } from './house/files.ts'
import { type House, startHouse } from './house/house.ts'
import { serveOnLoopback } from './house/loopback.ts'
import { type Agent, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

let home: Home
let house: House
let worker: ScriptedWorker
let outside: Record<string, string>
beforeAll(async () => {
  home = await makeHome()
  house = await startHouse({ max_concurrent_runs: 50 })
  worker = await house.worker({ capacity: 50 })
  outside = { BATON_SERVER: house.url, BATON_API_KEY: house.api_key }
})
afterAll(async () => {
  await house?.close()
  await home?.remove()
})

async function begun(): Promise<Agent> {
  await house.client.runs.create({ body: { prompt: 'make something' } })
  return takeAgent(house, worker)
}

const inside = (agent: Agent) => ({ BATON_SERVER: house.url, BATON_API_KEY: agent.token, OZ_RUN_ID: agent.run_id })
const run = (args: string[], env = outside, cwd = home.folder) => home.run(args, { env, cwd })
const json = async (args: string[], env = outside) => {
  const { code, stdout, stderr } = await run([...args, '--json'], env)
  expect(code, stderr).toBe(0)
  return JSON.parse(stdout) as Record<string, string>
}
const folder = async (name: string): Promise<string> => {
  const path = join(home.folder, name)
  await mkdir(path)
  return path
}

test('a file goes up from inside its run or for any, by run or conversation, and comes down as it was', async () => {
  const agent = await begun()
  const bytes = Buffer.from([0, 255, 1, 254])
  await writeFile(join(home.folder, 'data.bin'), bytes)
  await writeFile(join(home.folder, 'words.md'), '# Words\n')
  const kept = await json(['artifact', 'upload', 'data.bin', '--description', 'Bytes'], inside(agent))
  expect(kept).toEqual({
    artifact_uid: expect.any(String),
    filepath: 'data.bin',
    description: 'Bytes',
    mime_type: 'application/octet-stream',
    size_bytes: 4,
  })
  const words = await json(['artifact', 'upload', join(home.folder, 'words.md'), '--run-id', agent.run_id])
  expect(words).toMatchObject({ filepath: 'words.md', mime_type: 'text/markdown', description: null })
  const { conversation_id = '' } = await house.client.runs.get({ params: { run_id: agent.run_id } })
  expect(await json(['artifact', 'upload', 'words.md', '--conversation-id', conversation_id])).toEqual(words)
  const report = ['harness-support', 'report-artifact', 'file', '--file', 'words.md']
  expect(await json(report, inside(agent))).toMatchObject({ artifact_uid: words.artifact_uid })
  expect(await json(['artifact', 'get', kept.artifact_uid ?? ''])).toEqual({
    artifact_uid: kept.artifact_uid,
    artifact_type: 'FILE',
    created_at: expect.any(String),
    download_url: expect.stringContaining(house.url),
    expires_at: expect.any(String),
    content_type: 'application/octet-stream',
    filepath: 'data.bin',
    filename: 'data.bin',
    description: 'Bytes',
    size_bytes: 4,
    title: null,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  })
  expect(await json(['artifact', 'download', kept.artifact_uid ?? '', '-o', 'copy.bin'])).toEqual({
    artifact_uid: kept.artifact_uid,
    artifact_type: 'FILE',
    path: join(home.folder, 'copy.bin'),
  })
  expect(await readFile(join(home.folder, 'copy.bin'))).toEqual(bytes)
  const piped = await run(['artifact', 'download', words.artifact_uid ?? '', '-o', '-'])
  expect(piped.stdout).toBe('# Words\n')
})

test('what cannot be is said with what to do', async () => {
  const absent = await run(['artifact', 'get', crypto.randomUUID()])
  expect(absent).toMatchObject({ code: 5, stderr: expect.stringContaining('There is no artifact') })
  await writeFile(join(home.folder, 'a.txt'), 'a')
  expect((await run(['artifact', 'upload', 'a.txt'])).code).toBe(2)
  expect((await run(['artifact', 'upload', 'a.txt', '--run-id', 'x', '--conversation-id', 'y'])).code).toBe(2)
  expect((await run(['artifact', 'upload', 'nowhere.txt', '--run-id', crypto.randomUUID()])).code).toBe(2)
  const unknown = await run(['artifact', 'upload', 'a.txt', '--run-id', crypto.randomUUID()])
  expect(unknown).toMatchObject({ code: 5, stderr: expect.stringContaining('There is no run') })
  expect((await run(['artifact', '--help'])).stdout).not.toContain('upload')
})

test('a download takes the last part of a name, and replaces nothing unless it is told to', async () => {
  const agent = await begun()
  const { artifact_uid } = await sendFile(house.client, { run_id: agent.run_id, filepath: 'deep/er/name.txt' }, 'new')
  const cwd = await folder('replacing')
  await writeFile(join(cwd, 'name.txt'), 'old')
  const refused = await run(['artifact', 'download', artifact_uid], outside, cwd)
  expect(refused).toMatchObject({ code: 6, stderr: expect.stringContaining('is there already') })
  expect(await readFile(join(cwd, 'name.txt'), 'utf8')).toBe('old')
  expect((await run(['artifact', 'download', artifact_uid, '--force'], outside, cwd)).code).toBe(0)
  expect(await readFile(join(cwd, 'name.txt'), 'utf8')).toBe('new')
  await symlink(join(cwd, 'elsewhere'), join(cwd, 'link'))
  expect((await run(['artifact', 'download', artifact_uid, '-o', 'link'], outside, cwd)).code).not.toBe(0)
  expect((await readdir(cwd)).sort()).toEqual(['link', 'name.txt'])
  const nowhere = await run(['artifact', 'download', artifact_uid, '-o', 'no/such/folder/x'], outside, cwd)
  expect(nowhere).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be written') })
})

/** A server of which the first connection breaks after half of the file, and that may send something else. */
async function brokenServer(content: Buffer, sent = content) {
  const ranges: (string | undefined)[] = []
  const sum = createHash('sha256').update(content).digest('hex')
  const artifact = (url: string) => ({
    artifact_uid: crypto.randomUUID(),
    artifact_type: 'FILE',
    created_at: new Date().toISOString(),
    data: {
      download_url: `${url}/file`,
      expires_at: new Date().toISOString(),
      content_type: 'application/octet-stream',
      filename: '..\\../evil.bin',
      filepath: 'evil.bin',
      sha256: sum,
    },
  })
  const serve = (range: string | undefined, response: ServerResponse): void => {
    ranges.push(range)
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0)
    const part = { 'content-range': `bytes ${from}-${sent.length - 1}/${sent.length}` }
    response.writeHead(from > 0 ? 206 : 200, {
      etag: '"x"',
      'content-length': sent.length - from,
      ...(from > 0 && part),
    })
    if (ranges.length > 1) response.end(sent.subarray(from))
    else response.write(sent.subarray(0, sent.length / 2), () => setTimeout(() => response.destroy(), 50))
  }
  const url = await serveOnLoopback((request, _body, response) => {
    if (request.url === '/file') return serve(request.headers.range, response)
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(artifact(`http://${request.headers.host}`)))
  })
  const env = { BATON_SERVER: url, BATON_API_KEY: house.api_key }
  return { env, ranges }
}

test('a connection that breaks is taken up where it broke, and no name of a server leads out of the folder', async () => {
  const content = Buffer.alloc(200_000, 'abc')
  const server = await brokenServer(content)
  const cwd = await folder('broken')
  const { code, stderr } = await run(['artifact', 'download', crypto.randomUUID()], server.env, cwd)
  expect(code, stderr).toBe(0)
  expect(await readdir(cwd)).toEqual(['evil.bin'])
  expect((await readFile(join(cwd, 'evil.bin'))).equals(content)).toBe(true)
  expect(server.ranges).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]\d*-$/)])
})

test('what comes with another SHA-256 is not kept', async () => {
  const server = await brokenServer(Buffer.alloc(1_000, 'a'), Buffer.alloc(1_000, 'b'))
  const cwd = await folder('damaged')
  const damaged = await run(['artifact', 'download', crypto.randomUUID()], server.env, cwd)
  expect(damaged).toMatchObject({ code: 1, stderr: expect.stringContaining('SHA-256') })
  expect(await readdir(cwd)).toEqual([])
})
