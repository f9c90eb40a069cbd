/** What is kept of a workspace while its agent is at work, and what is left of it when the machine dies. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { SNAPSHOT_MANIFEST, SnapshotManifest } from '../src/contract/index.ts'
import { workByHand } from './house/hand.ts'
import { type House, startHouse } from './house/house.ts'
import { processesOf, startWorkerProcess, until, type WorkerProcess } from './house/processes.ts'

vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000 })

const STEP_MS = 40_000
const LIMITS = { checkpoint_ms: 300, lease_ms: 5_000, heartbeat_ms: 500, retry_first_ms: 50, retry_most_ms: 50 }

let folder: string
let house: House
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-checkpoints-'))
  house = await startHouse({ engine_limits: LIMITS, max_concurrent_runs: 10 })
})
afterAll(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

const IDENTITY = ['-c', 'user.name=a', '-c', 'user.email=a@b']
const git = (cwd: string, ...args: string[]): string =>
  execFileSync('git', [...IDENTITY, ...args], { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()

function makeRepository() {
  const url = mkdtempSync(join(folder, 'origin-'))
  git(url, 'init', '--quiet', '--initial-branch=main')
  writeFileSync(join(url, 'kept.txt'), 'kept\n')
  git(url, 'add', '.')
  git(url, 'commit', '--quiet', '-m', 'first')
  return { repositories: [{ url, directory: 'app' }], setup_commands: [], variables: {} }
}

type Kept = { upload_id: string; name: string; size_bytes: number }
/** Of the execution that is at work: what it has committed last. */
async function committed(run_id: string): Promise<Kept[]> {
  const { rows } = await sql<Kept>`
    select u.upload_id, u.name, u.size_bytes::int from snapshots s join runs r using (execution_id)
      join uploads u on u.upload_id = any(s.files) where r.run_id = ${run_id} order by u.name`.execute(
    house.database.kysely,
  )
  return rows
}
async function manifestOf(run_id: string): Promise<SnapshotManifest | null> {
  const { upload_id } = (await committed(run_id)).find(({ name }) => name === SNAPSHOT_MANIFEST) ?? {}
  if (upload_id === undefined) return null
  const body = { attachment_ids: [upload_id] }
  const found = await house.client.attachments.download({ params: { run_id }, body }).catch(() => null)
  const [file] = found?.attachments ?? []
  const response = file === undefined ? null : await fetch(file.download_url)
  // A later checkpoint has taken its place meanwhile.
  if (response === null || response.status === 404) return null
  expect(response.status).toBe(200)
  return SnapshotManifest.parse(await response.json())
}
const named = async (run_id: string) => (await committed(run_id)).map(({ name }) => name)

test('files are kept between two actions, or in the middle of a long one, each state once, and the end is the end', async () => {
  const worker = await house.worker({ worker_host: 'by-hand' })
  const config = { harness: { type: 'claude' }, worker_host: 'by-hand', environment: makeRepository() }
  const { run_id } = await house.client.runs.create({ body: { prompt: 'Begin.', config } })
  const report = await workByHand(house, await worker.next(), folder, async ({ start }) => {
    const { workspace: app, sink } = start
    sink.entry({ kind: 'tool_call', call_id: '1', name: 'bash', title: 'build', category: 'command' })
    writeFileSync(join(app, 'half.txt'), 'half')
    const during = await until('it was kept in the middle of an action', () => manifestOf(run_id), STEP_MS)
    expect(during.checkpoint).toBe('in_an_action')
    writeFileSync(join(app, 'whole.txt'), 'whole')
    sink.entry({ kind: 'tool_result', call_id: '1', status: 'completed', output: '' })
    const is = (what: string) => async () => {
      const manifest = await manifestOf(run_id)
      return manifest?.checkpoint === 'between_actions' && manifest.repos[0]?.status === what
    }
    await until('it was kept between two', is('uploaded'), STEP_MS)
    const { rows } = await sql<{
      generation: string
    }>`select generation from snapshots where run_id = ${run_id}`.execute(house.database.kysely)
    rmSync(join(app, 'half.txt'))
    rmSync(join(app, 'whole.txt'))
    await until('what was taken back is not kept', is('clean'), STEP_MS)
    expect(rows).toHaveLength(1)
    expect(await named(run_id)).toEqual([SNAPSHOT_MANIFEST])
    writeFileSync(join(app, 'last.txt'), 'last')
    return undefined
  })
  expect(report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
  expect(await named(run_id)).toEqual(['repo-1.patch', SNAPSHOT_MANIFEST])
  const last = await manifestOf(run_id)
  expect(last).toMatchObject({ version: 1 })
  expect(last).not.toHaveProperty('checkpoint')
})

test('a plain command, and a run that keeps nothing, leave none', async () => {
  const worker = await house.worker({ worker_host: 'none' })
  const left: number[] = []
  for (const more of [{ config: { harness: { type: 'command' } } }, { snapshot_disabled: true }]) {
    const config = { harness: { type: 'claude' }, ...more.config, worker_host: 'none' }
    const { run_id } = await house.client.runs.create({ body: { prompt: 'Begin.', ...more, config } })
    await workByHand(house, await worker.next(), folder, async ({ start }) => {
      writeFileSync(join(start.workspace, 'new.txt'), 'new')
      // Longer than it takes with the others, three times over.
      await new Promise((resolve) => setTimeout(resolve, 4 * LIMITS.checkpoint_ms))
      left.push((await committed(run_id)).length)
      return undefined
    })
  }
  expect(left).toEqual([0, 0])
})

test('a machine that dies takes no more along than what came after the last checkpoint', async () => {
  const place = mkdtempSync(join(folder, 'machines-'))
  const talker = {
    command: process.execPath,
    args: [join(import.meta.dirname, 'harnesses/talking-agent.ts')],
    env: { TALK: place, TALK_BY_RUN: '1' },
    tool_hold_ms: 300,
  }
  const machine = (name: string): WorkerProcess =>
    startWorkerProcess({
      server: house.url,
      api_key: house.api_key,
      worker_id: 'machines',
      state_dir: join(place, name),
      runner: [process.execPath, join(import.meta.dirname, 'house/runner-process.ts')],
      environment: { BATON_HARNESSES: JSON.stringify({ talker }) },
      allow_local_repositories: true,
    })
  const first = machine('first')
  const config = { harness: { type: 'talker' }, worker_host: 'machines', environment: makeRepository() }
  const { run_id } = await house.client.runs.create({ body: { prompt: 'HOLD', config } })
  type Said = { pid: number; text?: string }
  const said = (): Said[] => {
    const path = join(place, run_id, 'given.ndjson')
    const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : []
    return lines.map((line): Said => JSON.parse(line)).filter(({ text }) => text !== undefined)
  }
  const begun = (turns: number) => until(`agent ${turns} is at work`, () => said()[turns - 1], STEP_MS)
  const app = readlinkSync(`/proc/${(await begun(1)).pid}/cwd`)
  expect(app.startsWith(join(place, 'first'))).toBe(true)
  git(app, 'checkout', '--quiet', '-b', 'work')
  writeFileSync(join(app, 'committed.txt'), 'committed\n')
  git(app, 'add', '.')
  git(app, 'commit', '--quiet', '-m', 'second')
  const large = 'much work\n'.repeat(10_000)
  writeFileSync(join(app, 'large.txt'), large)
  await until(
    'all of it is kept',
    async () =>
      (await committed(run_id)).some(({ name, size_bytes }) => name === 'repo-1.patch' && size_bytes > large.length),
    STEP_MS,
  )
  const { execution_id = '' } = await house.client.runs.get({ params: { run_id } })
  await first.kill()
  for (const pid of processesOf(execution_id)) process.kill(pid, 'SIGKILL')
  await until('all its processes have gone', () => processesOf(execution_id).length === 0)
  rmSync(join(place, 'first'), { recursive: true, force: true })
  const second = machine('second')
  const { pid, text } = await begun(2)
  const there = readlinkSync(`/proc/${pid}/cwd`)
  expect(there.startsWith(join(place, 'second'))).toBe(true)
  expect(git(there, 'rev-parse', '--abbrev-ref', 'HEAD')).toBe('work')
  expect(git(there, 'log', '-1', '--format=%s')).toBe('second')
  expect(readFileSync(join(there, 'large.txt'), 'utf8')).toBe(large)
  expect(text).toMatch(/The workspace is as it was at \d{4}-.*; what was changed after that is lost\./)
  writeFileSync(join(place, run_id, 'open'), '')
  await until(
    'it has ended',
    async () => (await house.client.runs.get({ params: { run_id } })).state === 'SUCCEEDED',
    STEP_MS,
  )
  await second.kill()
})
