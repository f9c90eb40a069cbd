/**
 * A batch of 500 tasks, a fifth of whose tries fail, eight at a time, on a server that is killed twice: each task is
 * completed exactly once, never more than eight are at work as their worker sees it, and the pauses between tries are
 * those that docs/batches.md publishes.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Fault, type Outcome } from '../src/contract/index.ts'
import { connect } from '../src/sdk/client.ts'
import { type FreshDatabase, freshDatabase } from './house/database.ts'
import { freePort } from './house/port.ts'
import { type ServerProcess, startServerProcess, until } from './house/processes.ts'
import { openScriptedWorker, type Piece } from './house/worker.ts'

const TASKS = 500
const CONCURRENCY = 8
/** More than the batch may use, so that nothing but its concurrency holds it back. */
const CAPACITY = 24
const RETRY_FIRST_MS = 400
const RETRY_MOST_MS = 1_000
const LIMITS = { retry_first_ms: RETRY_FIRST_MS, retry_most_ms: RETRY_MOST_MS, offer_ms: 2_000 }

let database: FreshDatabase
let blobs_dir: string
let server: ServerProcess
let port: number
let url: string
let api_key = ''
const over = new AbortController()

async function startServer(): Promise<void> {
  server = await startServerProcess({ connection: database.connection, blobs_dir, port, engine_limits: LIMITS })
  url = server.url
  api_key = server.api_key ?? api_key
}

beforeAll(async () => {
  database = await freshDatabase({ pool_max: 4 })
  blobs_dir = await mkdtemp(join(tmpdir(), 'baton-proof-'))
  port = await freePort()
  await startServer()
  await database.kysely.updateTable('teams').set({ max_concurrent_runs: 1_000 }).execute()
}, 60_000)
afterAll(async () => {
  over.abort()
  await server.kill()
  await database.close()
  await rm(blobs_dir, { recursive: true, force: true })
})

/** While the server is away nobody answers; a refusal is an answer. */
async function persist<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (error instanceof Fault && !error.retryable) throw error
      if (over.signal.aborted) throw error
      await wait(50)
    }
  }
}

/** What the worker sees: who is at work now, and what became of each execution. */
const seen = { working: new Set<string>(), most: 0, succeeded: [] as string[], failed: 0 }
const held = new Map<string, { task_id: string; execution_id: string }>()

/** The same in every run of the test: a fifth of all tries fail. */
const fails = (name: string, number: number): boolean =>
  number < 8 && createHash('sha256').update(`${name} ${number}`).digest().readUInt32BE() % 5 === 0

async function workOn(piece: Piece): Promise<void> {
  const { run_id: task_id, execution_id } = piece
  held.set(execution_id, { task_id, execution_id })
  try {
    piece.claim()
    const { title, number } = await persist(piece.start)
    seen.working.add(execution_id)
    seen.most = Math.max(seen.most, seen.working.size)
    await wait(5)
    const outcome: Outcome = fails(title, number)
      ? { outcome: 'ERROR', failure: { error_code: 'resource_unavailable', message: 'Busy.', retryable: true } }
      : { outcome: 'SUCCEEDED' }
    // Said to the server from here on, whatever is heard of it.
    seen.working.delete(execution_id)
    await persist(() => piece.finish(outcome))
    if (outcome.outcome === 'SUCCEEDED') seen.succeeded.push(task_id)
    else seen.failed += 1
    piece.complete()
  } catch (error) {
    // An offer that lapsed while the server was away is another execution's by now.
    if (!(error instanceof Fault)) throw error
  } finally {
    seen.working.delete(execution_id)
    held.delete(execution_id)
  }
}

/** A worker that comes back whenever its server does. */
async function work(): Promise<void> {
  const under_way = new Set<Promise<void>>()
  while (!over.signal.aborted) {
    const running = [...held.values()]
    const worker = await openScriptedWorker({ url, api_key, capacity: CAPACITY, running }).catch(() => null)
    if (worker === null) {
      await wait(50)
      continue
    }
    worker.socket.on('error', () => undefined)
    let lost = false
    void worker.closed.then(() => {
      lost = true
    })
    while (!lost && !over.signal.aborted) {
      const piece = await worker.next(100).catch(() => null)
      if (piece === null) continue
      const working = workOn(piece).finally(() => under_way.delete(working))
      under_way.add(working)
    }
    worker.vanish()
  }
  await Promise.all(under_way)
}

type Pause = { run_id: string; execution_id: string; tries: number; ended_at: Date; not_before: Date }

/** Pauses as they stand on the rows while they last. */
async function samplePauses(pauses: Map<string, Pause>): Promise<void> {
  while (!over.signal.aborted) {
    const { rows } = await sql<Pause>`
      select runs.run_id, execution_id, tries, executions.ended_at, not_before
      from runs join executions using (execution_id)
      where runs.state = 'QUEUED' and runs.not_before is not null and executions.state = 'ended'`.execute(
      database.kysely,
    )
    for (const row of rows) pauses.set(row.execution_id, row)
    await wait(25)
  }
}

test('500 tasks through two deaths of the server', { timeout: 240_000 }, async () => {
  const client = connect({ server: url, token: api_key })
  const tasks = Array.from({ length: TASKS }, (_, n) => ({ name: `t${n}`, prompt: `do ${n}`, max_retries: 10 }))
  const { batch_id } = await client.batches.create({ body: { tasks, concurrency: CONCURRENCY } })
  const pauses = new Map<string, Pause>()
  const sampling = samplePauses(pauses)
  const working = work()
  for (const share of [0.3, 0.65]) {
    await until(`${share} is done`, () => seen.succeeded.length >= share * TASKS, 100_000)
    await server.kill()
    await startServer()
  }
  const batch = await until(
    'the batch has ended',
    async () => {
      const batch = await client.batches.get({ params: { batch_id } }).catch(() => null)
      return batch === null || batch.ended_at === null ? null : batch
    },
    100_000,
  )
  over.abort()
  await Promise.all([working, sampling])

  expect(batch).toMatchObject({
    state: 'completed',
    message: `${TASKS} of ${TASKS} tasks completed.`,
    counts: { completed: TASKS },
  })
  expect(seen.succeeded).toHaveLength(TASKS)
  expect(new Set(seen.succeeded).size).toBe(TASKS)
  const { rows: ends } = await sql<{ completed: number; runs: number; worst: number }>`
    select count(*)::int as completed, count(distinct run_id)::int as runs from executions
    where outcome = 'SUCCEEDED'`.execute(database.kysely)
  expect(ends[0]).toEqual({ completed: TASKS, runs: TASKS })
  const { rows: said } = await sql<{ count: number }>`
    select count(*)::int as count from events join runs using (run_id)
    where event_type = 'run_succeeded' and parent_run_id is not null`.execute(database.kysely)
  expect(said[0]?.count).toBe(TASKS)

  expect(seen.most).toBeLessThanOrEqual(CONCURRENCY)
  expect(seen.most).toBeGreaterThan(1)
  expect(seen.failed).toBeGreaterThan(TASKS / 10)
  await expectPauses([...pauses.values()])
})

/** Anything up to a step that doubles with each try, and nobody begins before his pause is over. */
async function expectPauses(pauses: Pause[]): Promise<void> {
  expect(pauses.length).toBeGreaterThan(40)
  const parts = pauses.map(({ tries, ended_at, not_before }) => {
    const step_ms = Math.min(RETRY_FIRST_MS * 2 ** (tries - 1), RETRY_MOST_MS)
    const pause_ms = not_before.getTime() - ended_at.getTime()
    expect(pause_ms).toBeGreaterThanOrEqual(0)
    expect(pause_ms).toBeLessThanOrEqual(step_ms)
    return pause_ms / step_ms
  })
  const mean = parts.reduce((sum, part) => sum + part, 0) / parts.length
  expect(mean).toBeGreaterThan(0.3)
  expect(mean).toBeLessThan(0.8)
  expect(Math.max(...parts) - Math.min(...parts)).toBeGreaterThan(0.5)
  const { rows: offers } = await sql<{ run_id: string; offered_at: Date }>`
    select run_id, offered_at from executions order by offered_at`.execute(database.kysely)
  for (const { run_id, ended_at, not_before } of pauses) {
    const next = offers.find((one) => one.run_id === run_id && one.offered_at > ended_at)
    expect(next?.offered_at.getTime()).toBeGreaterThanOrEqual(not_before.getTime())
  }
}
