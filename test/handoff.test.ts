/** What one execution leaves of its workspace, and what the next finds: by the runner, and by the routes alone. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AgentConfig, UploadTarget } from '../src/contract/index.ts'
import { SNAPSHOT_FILE_BYTES_MAX, SNAPSHOT_MANIFEST, SnapshotManifest } from '../src/contract/index.ts'
import { type Hand, workByHand } from './house/hand.ts'
import { type House, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let folder: string
let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-handoff-'))
  house = await startHouse({ max_concurrent_runs: 100 })
  worker = await house.worker({ capacity: 100 })
})
afterAll(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

const IDENTITY = ['-c', 'user.name=a', '-c', 'user.email=a@b']
const git = (cwd: string, ...args: string[]): string =>
  execFileSync('git', [...IDENTITY, ...args], { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()

const BARE = { repositories: [], setup_commands: [], variables: {} }

let repositories = 0
/** With one commit on `main`. */
function makeRepository(): { url: string; config: AgentConfig } {
  repositories += 1
  const url = join(folder, `origin-${repositories}`)
  mkdirSync(url)
  git(url, 'init', '--quiet', '--initial-branch=main')
  writeFileSync(join(url, 'kept.txt'), 'kept\n')
  writeFileSync(join(url, 'gone.txt'), 'gone\n')
  writeFileSync(join(url, '.gitignore'), 'ignored\n')
  git(url, 'add', '.')
  git(url, 'commit', '--quiet', '-m', 'first')
  return {
    url,
    config: { harness: { type: 'claude' }, environment: { ...BARE, repositories: [{ url, directory: 'app' }] } },
  }
}

const begin = async (
  config: AgentConfig,
  more: { snapshot_disabled?: boolean; initial_snapshot_token?: string } = {},
) => (await house.client.runs.create({ body: { prompt: 'Begin.', config, ...more } })).run_id
const followUp = (run_id: string) => house.client.followUps.create({ params: { run_id }, body: { message: 'Go on.' } })

async function work(hand: Hand): Promise<void> {
  const report = await workByHand(house, await worker.next(), folder, hand)
  expect(report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
}

const left = async (run_id: string, client = house.client) =>
  (await client.handoff.attachments({ params: { run_id } })).attachments
const manifestOf = async (run_id: string): Promise<SnapshotManifest> => {
  const found = (await left(run_id)).find(({ filename }) => filename === SNAPSHOT_MANIFEST)
  return SnapshotManifest.parse(await (await fetch(found?.download_url ?? '')).json())
}
const warnings = async (run_id: string) => {
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  return entries.flatMap(({ body }) => (body.kind === 'system' && body.level !== 'info' ? [body.text] : []))
}

test('a repository is found as it was left: commits, branch, changes, new files, and the index of the agent unharmed', async () => {
  const { url, config } = makeRepository()
  const run_id = await begin(config)
  let head = ''
  await work(async ({ start }) => {
    const app = start.workspace
    git(app, 'checkout', '--quiet', '-b', 'work/one')
    writeFileSync(join(app, 'committed.txt'), 'committed\n')
    git(app, 'add', '.')
    git(app, 'commit', '--quiet', '-m', 'second')
    head = git(app, 'rev-parse', 'HEAD')
    writeFileSync(join(app, 'kept.txt'), 'changed\n')
    rmSync(join(app, 'gone.txt'))
    mkdirSync(join(app, 'sub'))
    writeFileSync(join(app, 'sub/new.bin'), Buffer.from([0, 255, 10, 13]))
    writeFileSync(join(app, 'ignored'), 'not kept')
    return undefined
  })
  // The origin goes on meanwhile.
  writeFileSync(join(url, 'later.txt'), 'later\n')
  git(url, 'add', '.')
  git(url, 'commit', '--quiet', '-m', 'later')
  expect((await left(run_id)).map(({ filename }) => filename)).toEqual([
    'repo-1.bundle',
    'repo-1.patch',
    SNAPSHOT_MANIFEST,
  ])
  await followUp(run_id)
  await work(async ({ start, text }) => {
    const app = start.workspace
    expect(git(app, 'rev-parse', '--abbrev-ref', 'HEAD')).toBe('work/one')
    expect(git(app, 'rev-parse', 'HEAD')).toBe(head)
    const status = git(app, 'status', '--porcelain').split('\n')
    expect(status.map((line) => line.trim()).sort()).toEqual(['?? sub/', 'D gone.txt', 'M kept.txt'])
    expect(readFileSync(join(app, 'kept.txt'), 'utf8')).toBe('changed\n')
    expect(readFileSync(join(app, 'sub/new.bin'))).toEqual(Buffer.from([0, 255, 10, 13]))
    expect(existsSync(join(app, 'ignored'))).toBe(false)
    expect(text).toMatch(/workspace is as you left it/)
    git(app, 'checkout', '--quiet', '--', '.')
    rmSync(join(app, 'sub'), { recursive: true })
    return undefined
  })
  // What was taken back is not put back again.
  await followUp(run_id)
  await work(async ({ start }) => {
    expect(git(start.workspace, 'status', '--porcelain')).toBe('')
    expect(git(start.workspace, 'rev-parse', 'HEAD')).toBe(head)
    return undefined
  })
  expect(await warnings(run_id)).toEqual([])
}, 60_000)

test('what is committed while the snapshot is being taken is in it, commit and all', async () => {
  const { config } = makeRepository()
  const run_id = await begin(config)
  const tools = mkdtempSync(join(folder, 'tools-'))
  const path = process.env.PATH ?? ''
  // Someone who commits after the repository was looked at, and before its changes are read.
  const commit = `git add . && git ${IDENTITY.join(' ')} commit --quiet -m second && echo late >late.txt`
  const script = `#!/bin/sh
PATH='${path}'
case "$* " in
  *' add --all '*) mkdir '${tools}/once' 2>/dev/null && (unset GIT_INDEX_FILE; ${commit}) ;;
esac
exec git "$@"
`
  process.env.PATH = `${tools}:${path}`
  try {
    await work(async ({ start }) => {
      git(start.workspace, 'checkout', '--quiet', '-b', 'work')
      writeFileSync(join(start.workspace, 'committed.txt'), 'committed')
      writeFileSync(join(tools, 'git'), script, { mode: 0o755 })
      return undefined
    })
  } finally {
    process.env.PATH = path
  }
  expect(existsSync(join(tools, 'once'))).toBe(true)
  await followUp(run_id)
  await work(async ({ start }) => {
    expect(git(start.workspace, 'rev-parse', '--abbrev-ref', 'HEAD')).toBe('work')
    expect(git(start.workspace, 'log', '-1', '--format=%s')).toBe('second')
    expect(git(start.workspace, 'status', '--porcelain')).toBe('?? late.txt')
    expect(readFileSync(join(start.workspace, 'committed.txt'), 'utf8')).toBe('committed')
    return undefined
  })
  expect(await warnings(run_id)).toEqual([])
}, 60_000)

test('a run without repositories finds its files; with declarations just those; disabled none', async () => {
  const config = { harness: { type: 'claude' } }
  const plain = await begin(config)
  await work(async ({ start }) => {
    mkdirSync(join(start.workspace, 'out/deep'), { recursive: true })
    writeFileSync(join(start.workspace, 'out/deep/result.txt'), 'forty-two')
    return undefined
  })
  await followUp(plain)
  await work(async ({ start }) => {
    expect(readFileSync(join(start.workspace, 'out/deep/result.txt'), 'utf8')).toBe('forty-two')
    return undefined
  })
  const outside = join(folder, 'outside.txt')
  writeFileSync(outside, 'elsewhere')
  const declarations = join(folder, 'declared.jsonl')
  const line = (path: string) => JSON.stringify({ version: 1, kind: 'file', path })
  const variables = {
    OZ_SNAPSHOT_DECLARATIONS_FILE: declarations,
    OZ_SNAPSHOT_DECLARATIONS_SCRIPT: `printf '%s\\n' '${line(outside)}' '${line('/not/there')}' 'what' > ${declarations}`,
  }
  const declared = await begin({ ...config, environment: { ...BARE, variables } })
  await work(async ({ start }) => {
    writeFileSync(join(start.workspace, 'undeclared.txt'), 'x')
    return undefined
  })
  expect((await manifestOf(declared)).files).toMatchObject([
    { path: outside, status: 'uploaded' },
    { path: '/not/there', status: 'read_failed' },
  ])
  expect(await warnings(declared)).toEqual([
    expect.stringMatching(/Line 3 of .* declares nothing/),
    expect.stringMatching(/\/not\/there is not kept/),
  ])
  await followUp(declared)
  await work(async ({ start, text }) => {
    const [, path = ''] = /The file \S+ is at (\S+)\./.exec(text) ?? []
    expect(path.startsWith(join(start.env.BATON_ATTACHMENTS_DIR ?? '', 'handoff'))).toBe(true)
    expect(readFileSync(path, 'utf8')).toBe('elsewhere')
    expect(text).toMatch(/\/not\/there is not there/)
    expect(existsSync(join(start.workspace, 'undeclared.txt'))).toBe(false)
    return undefined
  })
  const disabled = await begin(config, { snapshot_disabled: true })
  await work(async ({ start }) => {
    writeFileSync(join(start.workspace, 'x'), 'x')
    return undefined
  })
  expect(await left(disabled)).toEqual([])
}, 60_000)

test('a snapshot, and the script that declares it, take no longer than the run says', async () => {
  const declared = join(folder, 'slow.jsonl')
  const script = (text: string) => ({
    environment: {
      ...BARE,
      variables: { OZ_SNAPSHOT_DECLARATIONS_FILE: declared, OZ_SNAPSHOT_DECLARATIONS_SCRIPT: text },
    },
  })
  const leave = async (config: AgentConfig) => {
    const run_id = await begin({ harness: { type: 'claude' }, ...config })
    await work(async ({ start }) => {
      writeFileSync(join(start.workspace, 'made.txt'), 'made')
      return undefined
    })
    return { files: (await left(run_id)).length, said: await warnings(run_id) }
  }
  expect(await leave({ ...script('sleep 600'), snapshot_script_timeout_secs: 1 })).toEqual({
    files: 2,
    said: [expect.stringMatching(/The script of OZ_SNAPSHOT_DECLARATIONS_SCRIPT took too long \(it may take 1 s/)],
  })
  const { files, said } = await leave({ ...script('sleep 600'), snapshot_upload_timeout_secs: 1 })
  expect(files).toBe(0)
  expect(said.at(-1)).toMatch(/^The workspace is not kept for the next execution: it took too long/)
}, 60_000)

test('what cannot be put back is told to the agent, who goes on', async () => {
  const { url, config } = makeRepository()
  const run_id = await begin(config)
  await work(async ({ start }) => {
    writeFileSync(join(start.workspace, 'kept.txt'), 'changed\n')
    return undefined
  })
  // The history is another one now.
  git(url, 'checkout', '--quiet', '--orphan', 'other')
  git(url, 'rm', '--quiet', '-rf', '.')
  git(url, 'commit', '--quiet', '--allow-empty', '-m', 'another')
  git(url, 'branch', '--quiet', '-D', 'main')
  git(url, 'reflog', 'expire', '--expire=now', '--all')
  git(url, 'gc', '--quiet', '--prune=now')
  await followUp(run_id)
  await work(async ({ text, start }) => {
    const [, path = ''] = /The repository app is not as it was: .* What there is of it is at (\S+)\.$/m.exec(text) ?? []
    expect(path.startsWith(start.env.BATON_ATTACHMENTS_DIR ?? '-')).toBe(true)
    expect(readFileSync(path, 'utf8')).toMatch(/\+changed/)
    return undefined
  })
}, 60_000)

/** Through the routes alone, as a client made for Oz does it. */
async function begun(): Promise<Piece> {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'x' } })
  const piece = await worker.next()
  expect(piece.run_id).toBe(run_id)
  piece.claim()
  await piece.start()
  return piece
}

const announced = (...names: string[]) => names.map((filename) => ({ filename, mime_type: 'text/plain' }))
async function put(targets: UploadTarget[], contents: string[]): Promise<void> {
  for (const [at, { url, method, headers }] of targets.entries()) {
    const response = await fetch(url, { method, headers: headers ?? {}, body: contents[at] ?? '' })
    expect(response.status).toBe(200)
  }
}
const contentsOf = async (run_id: string) =>
  Object.fromEntries(
    await Promise.all(
      (await left(run_id)).map(async ({ filename, download_url }) => [
        filename,
        await (await fetch(download_url)).text(),
      ]),
    ),
  )

test('a commit takes exactly its files, all or none; what it leaves counts when the execution has ended', async () => {
  const piece = await begun()
  const { handoff } = piece.runner
  const mode = 'checkpoint' as const
  const send = async (generation: string, contents: Record<string, string>) => {
    const names = Object.keys(contents)
    const { uploads } = await handoff.uploadSnapshot({ body: { mode, generation, files: announced(...names) } })
    await put(uploads, Object.values(contents))
  }
  const commit = (generation: string, ...files: string[]) => handoff.commitSnapshot({ body: { generation, files } })
  await send('g1', { a: 'one', b: 'two', c: 'never named' })
  expect(await commit('g1', 'a', 'b')).toEqual({ generation: 'g1' })
  expect(await commit('g1', 'a', 'b')).toEqual({ generation: 'g1' })
  await handoff.uploadSnapshot({ body: { mode, generation: 'g2', files: announced('a', 'b') } })
  await expect(commit('g2', 'a', 'b')).rejects.toMatchObject({
    status: 400,
    details: { errors: [{ pointer: '/files/0' }, { pointer: '/files/1' }] },
  })
  await send('g2', { a: 'three' })
  await expect(commit('g2', 'a', 'b')).rejects.toMatchObject({ message: expect.stringMatching(/not come: b\./) })
  await expect(commit('g2', 'a', 'a')).rejects.toMatchObject({ status: 400 })
  expect(await left(piece.run_id)).toEqual([])
  await piece.finish()
  expect(await contentsOf(piece.run_id)).toEqual({ a: 'one', b: 'two' })
  await expect(commit('g3', 'a')).rejects.toMatchObject({ status: 401 })
  const other = await house.addTeam('elsewhere')
  await expect(left(piece.run_id, other.client)).rejects.toMatchObject({ status: 404 })
  // The next execution leaves something else, or nothing: then that of before stays.
  for (const generation of [null, 'g4']) {
    await house.client.runs.retry({ params: { run_id: piece.run_id } })
    const next = await worker.next()
    next.claim()
    expect(await next.start()).toMatchObject({ restores: true })
    if (generation !== null) {
      const { uploads } = await next.runner.handoff.uploadSnapshot({
        body: { mode, generation, files: announced('d') },
      })
      await put(uploads, ['four'])
      await next.runner.handoff.commitSnapshot({ body: { generation, files: ['d'] } })
    }
    expect(await contentsOf(piece.run_id)).toEqual({ a: 'one', b: 'two' })
    await next.finish()
  }
  expect(await contentsOf(piece.run_id)).toEqual({ d: 'four' })
})

test('without a mode each file counts by itself; too many, too large and badly named ones are refused', async () => {
  const piece = await begun()
  const { handoff } = piece.runner
  const upload = (body: Parameters<typeof handoff.uploadSnapshot>[0]['body']) => handoff.uploadSnapshot({ body })
  const { uploads } = await upload({ files: announced('x', 'y') })
  await put(uploads.slice(0, 1), ['only this'])
  for (let sent = 2; sent + 25 <= 100; sent += 25)
    await upload({ files: announced(...Array.from({ length: 25 }, (_, at) => `${sent + at}`)) })
  await expect(
    upload({ files: announced(...Array.from({ length: 24 }, (_, at) => `more-${at}`)) }),
  ).rejects.toMatchObject({ details: { errors: [{ pointer: '/files' }] } })
  await expect(upload({ files: announced(...Array.from({ length: 26 }, String)) })).rejects.toMatchObject({
    status: 400,
  })
  await expect(upload({ files: [] })).rejects.toMatchObject({ status: 400 })
  await expect(upload({ files: announced('../x') })).rejects.toMatchObject({ status: 400 })
  await expect(upload({ files: announced('z', 'z') })).rejects.toMatchObject({ status: 400 })
  await expect(upload({ mode: 'checkpoint', files: announced('z') })).rejects.toMatchObject({
    details: { errors: [{ pointer: '/generation' }] },
  })
  for (const generation of ['a__b', '', 'a b', 'x'.repeat(129)])
    await expect(upload({ mode: 'checkpoint', generation, files: announced('z') })).rejects.toMatchObject({
      status: 400,
    })
  const [large] = (await upload({ mode: 'checkpoint', generation: 'g', files: announced('large') })).uploads
  const refused = await fetch(large?.url ?? '', {
    method: 'PUT',
    body: Buffer.alloc(SNAPSHOT_FILE_BYTES_MAX + 1),
  }).catch((error: Error) => String(error.cause))
  // The server answers and lets go of the connection while the body is still on its way.
  if (typeof refused === 'string') expect(refused).toMatch(/EPIPE|ECONNRESET|socket/i)
  else expect(refused.status).toBe(413)
  await piece.finish()
  expect(await contentsOf(piece.run_id)).toEqual({ x: 'only this' })
})

test('a run begins with what a client has left for it; its token is good for one run of its team', async () => {
  const files = announced('notes.txt')
  const { initial_snapshot_token, expires_at, uploads } = await house.client.handoff.upload({ body: { files } })
  expect(Date.parse(expires_at)).toBeGreaterThan(house.clock.now().getTime())
  await put(uploads, ['from here'])
  const other = await house.addTeam('stranger')
  const body = { prompt: 'Begin.', config: { harness: { type: 'claude' } }, initial_snapshot_token }
  const refusal = { status: 400, details: { errors: [{ pointer: '/initial_snapshot_token' }] } }
  await expect(other.client.runs.create({ body })).rejects.toMatchObject(refusal)
  const { run_id } = await house.client.runs.create({ body })
  await expect(house.client.runs.create({ body })).rejects.toMatchObject(refusal)
  await work(async ({ text, start }) => {
    const [, path = ''] = /^- notes\.txt is at (\S+)\.$/m.exec(text) ?? []
    expect(path.startsWith(join(start.env.BATON_ATTACHMENTS_DIR ?? '-', 'handoff'))).toBe(true)
    expect(readFileSync(path, 'utf8')).toBe('from here')
    return undefined
  })
  expect((await left(run_id)).map(({ filename }) => filename)).not.toContain('notes.txt')
})
