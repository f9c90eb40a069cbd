/**
 * What was acknowledged is on the disk. Killing processes cannot show it, as the kernel keeps what they wrote: strace
 * shows which `fdatasync` and `fsync` came back between a request and its answer.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, type TestContext, test } from 'vitest'
import { type Database, openDatabase } from '../src/db/connect.ts'
import { type Embedded, openEmbedded } from '../src/db/embedded.ts'
import { migrate } from '../src/db/migrate.ts'
import { type House, startHouse } from './house/house.ts'

let folder: string
let embedded: Embedded
let database: Database
let house: House

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-durable-'))
  chmodSync(folder, 0o711)
  embedded = await openEmbedded({ data_dir: join(folder, 'data') })
  database = openDatabase({ connection: embedded.connection })
  await migrate(database)
  house = await startHouse({ database, blobs_dir: join(folder, 'blobs') })
}, 60_000)
afterAll(async () => {
  await house?.close()
  await database?.close()
  await embedded?.close()
  rmSync(folder, { recursive: true, force: true })
})

test('the embedded PostgreSQL waits for the disk before it says that something is committed', async () => {
  const { rows } = await sql<{ name: string; setting: string }>`
    select name, setting from pg_settings
    where name in ('fsync', 'synchronous_commit', 'full_page_writes') order by name`.execute(database.kysely)
  expect(rows.map(({ name, setting }) => `${name} = ${setting}`)).toEqual([
    'fsync = on',
    'full_page_writes = on',
    'synchronous_commit = on',
  ])
})

/** A sync that came back, with the moments between which it was under way, in seconds. */
type Sync = { pid: number; path: string; began: number; ended: number }

test('a run is in the synced log before its creation is answered; reading it syncs nothing', async (context) => {
  const backends = await clientBackends()
  const tracer = await trace([embedded.pid(), ...backends]).catch((reason: Error) => reason)
  if (tracer instanceof Error) return skip(context, tracer.message)
  const create = await moments(() => house.client.runs.create({ body: { prompt: 'durable' } }))
  const get = await moments(() => house.client.runs.get({ params: { run_id: create.answer.run_id } }))
  const others = new Set(await otherProcesses())
  const syncs = (await tracer.stop()).filter(({ pid }) => !others.has(pid))
  expect(during(syncs, create).map(({ path }) => path)).toContainEqual(expect.stringContaining('/pg_wal/'))
  expect(during(syncs, get)).toEqual([])
}, 60_000)

test('a large entry is synced, with its folders, before its row, and that before the answer', async (context) => {
  const worker = await house.worker()
  await house.client.runs.create({ body: { prompt: 'large' } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const tracer = await trace([process.pid, embedded.pid(), ...(await clientBackends())]).catch(
    (reason: Error) => reason,
  )
  if (tracer instanceof Error) return skip(context, tracer.message)
  const text = randomBytes(200_000).toString('hex')
  const append = await moments(() => piece.append({ kind: 'text', text }))
  const others = new Set(await otherProcesses())
  const syncs = during(
    (await tracer.stop()).filter(({ pid }) => !others.has(pid)),
    append,
  )
  const { blob_id } = await database.kysely
    .selectFrom('entries')
    .select('blob_id')
    .where('run_id', '=', piece.run_id)
    .executeTakeFirstOrThrow()
  const blobs = join(folder, 'blobs')
  const shelf = join(blobs, String(blob_id).slice(0, 2))
  const of_file = syncs.find(({ path }) => path.startsWith(join(blobs, 'drafts')))
  const of_shelf = syncs.find(({ path }) => path === shelf)
  const of_folder = syncs.find(({ path }) => path === blobs)
  const of_row = syncs.filter(({ path }) => path.includes('/pg_wal/')).at(-1)
  expect(of_file?.ended).toBeLessThanOrEqual(of_shelf?.began ?? 0)
  expect(of_shelf?.ended).toBeLessThanOrEqual(of_row?.ended ?? 0)
  expect(of_folder?.ended).toBeLessThanOrEqual(of_row?.ended ?? 0)
}, 60_000)

function skip(context: TestContext, reason: string): never {
  process.stderr.write(`Skipped: ${context.task.name}: ${reason}\n`)
  return context.skip(reason)
}

type Moments<T> = { began: number; ended: number; answer: T }

async function moments<T>(work: () => Promise<T>): Promise<Moments<T>> {
  // Let what the last request left behind settle, so that it is not counted as this one's.
  await delay(50)
  const began = Date.now() / 1000
  const answer = await work()
  return { began, ended: (Date.now() + 1) / 1000, answer }
}

const during = (syncs: Sync[], { began, ended }: Moments<unknown>): Sync[] =>
  syncs.filter((sync) => sync.began >= began && sync.ended <= ended)

async function processes(client: boolean): Promise<number[]> {
  const { rows } = await sql<{ pid: number }>`
    select pid from pg_stat_activity where (backend_type = 'client backend') = ${client}`.execute(database.kysely)
  return rows.map(({ pid }) => pid)
}
const clientBackends = () => processes(true)
/** Checkpointer, writers and the like sync whenever they want. */
const otherProcesses = () => processes(false)

/** Rejects, with the reason, where strace is missing or may not look at these processes. */
async function trace(pids: number[]): Promise<{ stop(): Promise<Sync[]> }> {
  const file = join(folder, `trace-${randomBytes(4).toString('hex')}`)
  try {
    execFileSync('strace', ['-V'], { stdio: 'ignore' })
  } catch {
    throw new Error('strace is not installed: apt-get install strace')
  }
  const shown = ['-f', '-y', '-ttt', '-T', '-e', 'trace=fsync,fdatasync', '-o', file]
  const tracer = spawn('strace', [...shown, ...pids.flatMap((pid) => ['-p', String(pid)])], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  tracer.stderr.on('data', (bytes: Buffer) => {
    said += bytes.toString()
  })
  const gone = once(tracer, 'exit')
  while (!pids.every((pid) => new RegExp(`Process ${pid} attached`).test(said))) {
    if (tracer.exitCode !== null || /not permitted/i.test(said)) {
      await end(tracer, gone)
      throw new Error(`strace may not look at other processes here: ${said.trim().split('\n')[0]}`)
    }
    await Promise.race([once(tracer.stderr, 'data'), gone])
  }
  return {
    async stop() {
      await end(tracer, gone)
      return readSyncs(readFileSync(file, 'utf8'))
    },
  }
}

async function end(tracer: ChildProcess, gone: Promise<unknown>): Promise<void> {
  tracer.kill('SIGINT')
  await gone
}

/** Calls that others came between are two lines: `fsync(5</a> <unfinished ...>` and `<... fsync resumed>) = 0 <0.1>`. */
function readSyncs(text: string): Sync[] {
  const begun = new Map<number, { path: string; began: number }>()
  return text.split('\n').flatMap((line): Sync[] => {
    const [, pid, at, rest = ''] = /^(\d+) +(\d+\.\d+) (.*)$/.exec(line) ?? []
    const call = { path: /^f\w+\(\d+<([^>]*)>/.exec(rest)?.[1] ?? '', began: Number(at) }
    const took = /= 0 <([\d.]+)>$/.exec(rest)?.[1]
    if (rest.endsWith('<unfinished ...>')) begun.set(Number(pid), call)
    if (took === undefined) return []
    const { path, began } = rest.startsWith('<...') ? (begun.get(Number(pid)) ?? call) : call
    return [{ pid: Number(pid), path, began, ended: began + Number(took) }]
  })
}
