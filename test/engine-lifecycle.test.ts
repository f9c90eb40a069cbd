/** The life of a run in the engine: every arrow, fencing, leases, tries, cancels, the log, the transcript. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CreateRun, Fault, ListRuns, type NewEntry } from '../src/contract/index.ts'
import { manualClock } from '../src/db/clock.ts'
import { folderBlobs } from '../src/engine/blobs.ts'
import type { Caller, UserCaller } from '../src/engine/caller.ts'
import { type Engine, openEngine } from '../src/engine/engine.ts'
import { serverThatAsks } from './house/asking.ts'
import { freshDatabase } from './house/database.ts'

type Database = Awaited<ReturnType<typeof freshDatabase>>
let database: Database
let clock: ReturnType<typeof manualClock>
let engine: Engine
let owner: UserCaller
let folder: string

const LIMITS = { lease_ms: 10_000, offer_ms: 1_000, begin_ms: 5_000, retry_first_ms: 1_000, retry_most_ms: 4_000 }

beforeEach(async () => {
  database = await freshDatabase()
  clock = manualClock()
  folder = await mkdtemp(join(tmpdir(), 'baton-engine-'))
  engine = await openEngine({
    database,
    clock,
    blobs: folderBlobs(folder),
    log: pino({ level: 'silent' }),
    server_id: randomUUID(),
    limits: LIMITS,
  })
  owner = (await engine.access.prepare()).caller
})
afterEach(async () => {
  await engine.close()
  await database.close()
  await rm(folder, { recursive: true, force: true })
})

const create = async (body: object = {}, key?: string) =>
  (
    await engine.runs.create(owner, CreateRun.parse({ prompt: 'hello', ...body }), {
      source: 'API',
      idempotency_key: key,
    })
  ).answer.run_id
const stateOf = async (run_id: string) => (await engine.runs.get(owner, run_id)).state
const entry = (number: number, text = `line ${number}`): NewEntry => ({
  number,
  at: clock.now().toISOString(),
  body: { kind: 'text', text },
})

async function connection(free = 10, worker_host = 'w1') {
  const connection_id = await engine.workers.open(owner, worker_host)
  return { connection_id, team_id: owner.team_id, worker_host, free }
}

/** Offers what is queued to a fresh worker connection and claims it. */
async function claim(free = 1) {
  const worker = await connection(free)
  const offers = await engine.dispatch.offer([worker])
  for (const offer of offers) {
    expect(
      await engine.workers.claimed(worker.connection_id, { task_id: offer.assignment.task_id, worker_id: 'w1' }),
    ).toBe(true)
  }
  return { worker, offers }
}

async function runner(offer: { assignment: { env_vars: Record<string, string>; execution_id: string } }) {
  const caller = await engine.access.identify({ token: offer.assignment.env_vars.WARP_API_KEY ?? '' })
  if (!caller) throw new Error('the token of the offer is not known')
  return { caller, execution_id: offer.assignment.execution_id }
}

/** A run that is INPROGRESS, and its runner. */
async function running(body: object = {}) {
  const run_id = await create(body)
  const { offers, worker } = await claim()
  const own = await runner(offers[0] as never)
  await engine.executions.start(own.caller, own.execution_id)
  return { run_id, worker, ...own }
}

const types = async () => (await engine.events.list(owner, { since: 0, limit: 500 })).map((event) => event.event_type)

test('a run goes from QUEUED over PENDING and CLAIMED to INPROGRESS and SUCCEEDED', async () => {
  const run_id = await create()
  expect(await stateOf(run_id)).toBe('QUEUED')
  const worker = await connection()
  const [offer] = await engine.dispatch.offer([worker])
  expect(await stateOf(run_id)).toBe('PENDING')
  expect(await engine.workers.claimed(worker.connection_id, { task_id: run_id, worker_id: 'w1' })).toBe(true)
  expect(await stateOf(run_id)).toBe('CLAIMED')
  const { caller, execution_id } = await runner(offer as never)
  const assignment = await engine.executions.start(caller, execution_id)
  expect(assignment).toMatchObject({ run_id, execution_id, number: 1, prompt: 'hello', entries_held: 0 })
  expect(await stateOf(run_id)).toBe('INPROGRESS')
  await engine.executions.append(caller, execution_id, [entry(1), entry(2)])
  await engine.executions.finish(caller, execution_id, {
    outcome: { outcome: 'SUCCEEDED', summary: 'done' },
    entries: 2,
  })
  const run = await engine.runs.get(owner, run_id)
  expect(run).toMatchObject({
    state: 'SUCCEEDED',
    status_message: { message: 'done' },
    is_sandbox_running: false,
    executions: 1,
  })
  expect(await types()).toEqual(['run_queued', 'run_in_progress', 'run_session_linked', 'run_succeeded'])
})

test('events are numbered without gaps', async () => {
  await Promise.all(Array.from({ length: 20 }, () => create()))
  const events = await engine.events.list(owner, { since: 0, limit: 500 })
  expect(events.map((event) => event.sequence)).toEqual(Array.from({ length: 20 }, (_, at) => at + 1))
})

test('an execution that is no longer current is refused every write', async () => {
  const { run_id, caller, execution_id } = await running()
  clock.advance(LIMITS.lease_ms + 1)
  await engine.sweep.run()
  expect(await stateOf(run_id)).toBe('QUEUED')
  const refused = { code: 'conflict', retryable: false }
  await expect(engine.executions.append(caller, execution_id, [entry(1)])).rejects.toMatchObject(refused)
  await expect(engine.executions.heartbeat(caller, execution_id, {})).rejects.toMatchObject(refused)
  await expect(engine.executions.start(caller, execution_id)).rejects.toMatchObject(refused)
  await expect(engine.executions.check(caller, execution_id)).rejects.toMatchObject(refused)
  await expect(
    engine.executions.finish(caller, execution_id, { outcome: { outcome: 'SUCCEEDED' }, entries: 0 }),
  ).rejects.toMatchObject(refused)
  expect(await stateOf(run_id)).toBe('QUEUED')
})

test('a run whose runner dies is tried again, then ends as ERROR', async () => {
  const run_id = await create({ config: { max_tries: 2 } })
  const executions: string[] = []
  for (const number of [1, 2]) {
    const { offers } = await claim()
    expect(offers).toHaveLength(1)
    const own = await runner(offers[0] as never)
    executions.push(own.execution_id)
    expect(await engine.executions.start(own.caller, own.execution_id)).toMatchObject({ number })
    expect((await engine.runs.get(owner, run_id)).session_id).toBe(own.execution_id)
    clock.advance(LIMITS.lease_ms + 1)
    await engine.sweep.run()
    expect(await stateOf(run_id)).toBe(number === 1 ? 'QUEUED' : 'ERROR')
    clock.advance(LIMITS.retry_most_ms)
  }
  const run = await engine.runs.get(owner, run_id)
  expect(run.status_message).toMatchObject({ error_code: 'internal_error', retryable: true })
  expect(run.executions).toBe(2)
  const begun = ['run_queued', 'run_in_progress', 'run_session_linked']
  expect(await types()).toEqual([...begun, ...begun, 'run_errored'])
  const events = await engine.events.list(owner, { since: 0, limit: 500 })
  const refs = (event_type: string) => events.filter((e) => e.event_type === event_type).map(({ ref_id }) => ref_id)
  expect(refs('run_errored')).toEqual(['lease_lapsed'])
  expect(refs('run_session_linked')).toEqual(executions)
})

test('a retry waits for its time', async () => {
  const { run_id } = await running()
  clock.advance(LIMITS.lease_ms + 1)
  await engine.sweep.run()
  expect((await claim()).offers).toHaveLength(0)
  expect(await engine.runs.get(owner, run_id)).toMatchObject({ state: 'QUEUED', waiting_for: 'retry' })
  clock.advance(LIMITS.retry_most_ms)
  expect((await claim()).offers).toHaveLength(1)
})

test('a heartbeat renews the lease and tells of a cancel', async () => {
  const { run_id, caller, execution_id } = await running()
  for (let beat = 0; beat < 3; beat++) {
    clock.advance(LIMITS.lease_ms - 1)
    expect(await engine.executions.heartbeat(caller, execution_id, {})).toMatchObject({ cancel_requested: false })
    await engine.sweep.run()
  }
  expect(await stateOf(run_id)).toBe('INPROGRESS')
  await engine.runs.cancel(owner, run_id)
  expect(await engine.executions.heartbeat(caller, execution_id, {})).toMatchObject({ cancel_requested: true })
})

test('a server that just started believes no lease lapsed until one lease has gone by', async () => {
  const { run_id, caller, execution_id } = await running()
  clock.advance(LIMITS.lease_ms * 5)
  const second = await openEngine({
    database,
    clock,
    blobs: folderBlobs(folder),
    log: pino({ level: 'silent' }),
    server_id: randomUUID(),
    limits: LIMITS,
  })
  await second.sweep.run()
  expect(await stateOf(run_id)).toBe('INPROGRESS')
  await second.executions.heartbeat(caller, execution_id, {})
  clock.advance(LIMITS.lease_ms - 1)
  await second.sweep.run()
  expect(await stateOf(run_id)).toBe('INPROGRESS')
  await second.close()
})

for (const state of ['QUEUED', 'PENDING', 'CLAIMED'] as const) {
  test(`a cancel of a ${state} run ends it at once and nothing begins after`, async () => {
    const run_id = await create()
    const worker = await connection()
    const offers = state === 'QUEUED' ? [] : await engine.dispatch.offer([worker])
    if (state === 'CLAIMED') await engine.workers.claimed(worker.connection_id, { task_id: run_id, worker_id: 'w1' })
    expect(await stateOf(run_id)).toBe(state)
    await engine.runs.cancel(owner, run_id)
    expect(await stateOf(run_id)).toBe('CANCELLED')
    if (state === 'PENDING')
      expect(await engine.workers.claimed(worker.connection_id, { task_id: run_id, worker_id: 'w1' })).toBe(false)
    for (const offer of offers) {
      const own = await runner(offer)
      await expect(engine.executions.start(own.caller, own.execution_id)).rejects.toMatchObject({ code: 'conflict' })
    }
    expect((await claim()).offers).toHaveLength(0)
    expect((await types()).filter((type) => type === 'run_cancelled')).toHaveLength(1)
  })
}

test('an acknowledged cancel wins over a success that is reported later', async () => {
  const { run_id, caller, execution_id } = await running()
  await engine.runs.cancel(owner, run_id)
  await engine.executions.finish(caller, execution_id, { outcome: { outcome: 'SUCCEEDED' }, entries: 0 })
  expect(await stateOf(run_id)).toBe('CANCELLED')
})

/** As `runs.ts` has it. */
const CANCEL_TRIES = 5
test.each([
  [CANCEL_TRIES - 1, true],
  [CANCEL_TRIES, false],
])(
  'a cancel that misses a run %i times, for it goes back to the queue and begins again, is accepted: %s',
  async (misses, accepted) => {
    let at_work: Awaited<ReturnType<typeof running>> | null = await running({ config: { max_tries: 20 } })
    const { run_id } = at_work
    let missed = 0
    const failure = { error_code: 'internal_error', message: 'lost', retryable: true } as const
    const server = await serverThatAsks({ database, clock }, async (text, go) => {
      // The run has begun whenever what has not begun is to be cancelled, and is queued whenever what has begun is.
      if (text.includes('with steps as') && at_work === null) {
        clock.advance(LIMITS.retry_most_ms)
        const { offers, worker } = await claim()
        const own = await runner(offers[0] as never)
        await engine.executions.start(own.caller, own.execution_id)
        at_work = { run_id, worker, ...own }
      } else if (text.includes('"cancel_requested_at" = ') && at_work !== null && missed < misses) {
        missed += 1
        const { caller, execution_id } = at_work
        at_work = null
        await engine.executions.finish(caller, execution_id, { outcome: { outcome: 'ERROR', failure }, entries: 0 })
      }
      return go()
    })
    const cancelled = server.runs.cancel(owner, run_id)
    if (accepted) {
      await cancelled
      expect(await engine.runs.get(owner, run_id)).toMatchObject({ state: 'INPROGRESS', cancel_requested: true })
    } else {
      await expect(cancelled).rejects.toMatchObject({
        code: 'conflict',
        retryable: true,
        message: expect.stringMatching(/Ask again/),
      })
      expect(await engine.runs.get(owner, run_id)).toMatchObject({ state: 'QUEUED', cancel_requested: false })
      await engine.runs.cancel(owner, run_id)
      expect(await stateOf(run_id)).toBe('CANCELLED')
    }
    expect(missed).toBe(misses)
    const said = (await types()).filter((type) => type === 'run_cancel_requested' || type === 'run_cancelled')
    expect(said).toEqual([accepted ? 'run_cancel_requested' : 'run_cancelled'])
  },
)

test('a cancel that nobody carries out is carried out by the sweep', async () => {
  const { run_id } = await running()
  await engine.runs.cancel(owner, run_id)
  await engine.sweep.run()
  expect(await engine.runs.get(owner, run_id)).toMatchObject({ state: 'INPROGRESS', cancel_requested: true })
  clock.advance(16_000)
  await engine.sweep.run()
  expect(await stateOf(run_id)).toBe('CANCELLED')
})

test('a cancel of an ended run is refused and changes nothing', async () => {
  const { run_id, caller, execution_id } = await running()
  await engine.executions.finish(caller, execution_id, { outcome: { outcome: 'SUCCEEDED' }, entries: 0 })
  await expect(engine.runs.cancel(owner, run_id)).rejects.toMatchObject({ code: 'invalid_request' })
  expect(await stateOf(run_id)).toBe('SUCCEEDED')
})

test('a second, different end changes nothing; the same end said again is answered', async () => {
  const { run_id, caller, execution_id } = await running()
  const success = { outcome: { outcome: 'SUCCEEDED' as const }, entries: 0 }
  await engine.executions.finish(caller, execution_id, success)
  expect(await engine.executions.finish(caller, execution_id, success)).toEqual({ state: 'SUCCEEDED' })
  const failure = { error_code: 'invalid_request' as const, message: 'no', retryable: false }
  await expect(
    engine.executions.finish(caller, execution_id, { outcome: { outcome: 'FAILED', failure }, entries: 0 }),
  ).rejects.toMatchObject({ code: 'conflict' })
  expect((await types()).filter((type) => /^run_(succeeded|failed|errored|cancelled)$/.test(type))).toEqual([
    'run_succeeded',
  ])
  expect(await stateOf(run_id)).toBe('SUCCEEDED')
})

test('a finish before all entries are held is refused, retryable', async () => {
  const { caller, execution_id } = await running()
  await engine.executions.append(caller, execution_id, [entry(1)])
  await expect(
    engine.executions.finish(caller, execution_id, { outcome: { outcome: 'SUCCEEDED' }, entries: 2 }),
  ).rejects.toMatchObject({ code: 'conflict', retryable: true })
})

test('a worker that says completed without a result makes no success', async () => {
  const { run_id, worker, execution_id } = await running({ config: { max_tries: 1 } })
  await engine.workers.ended(worker.connection_id, {
    type: 'task_completed',
    data: { task_id: run_id, execution_id, message: 'exit 0' },
  })
  expect(await engine.runs.get(owner, run_id)).toMatchObject({
    state: 'ERROR',
    status_message: { message: expect.stringContaining('no result') },
  })
})

test('what a worker says of an execution that was never offered to it counts for nothing', async () => {
  const { run_id } = await running()
  const other = await connection(1, 'w2')
  await engine.workers.ended(other.connection_id, { type: 'task_failed', data: { task_id: run_id, message: 'boo' } })
  expect(await stateOf(run_id)).toBe('INPROGRESS')
})

test('the limit of concurrent runs is kept and the excess starts by itself', async () => {
  const run_ids: string[] = []
  for (let n = 0; n < 7; n++) {
    clock.advance(1)
    run_ids.push(await create())
  }
  const { offers } = await claim(10)
  expect(offers).toHaveLength(4)
  const { answer } = await engine.runs.create(owner, CreateRun.parse({ prompt: 'more' }), { source: 'API' })
  expect(answer).toMatchObject({ state: 'QUEUED', at_capacity: true })
  expect((await claim(10)).offers).toHaveLength(0)
  expect(await engine.runs.get(owner, run_ids[6] as string)).toMatchObject({ waiting_for: 'capacity' })
  const own = await runner(offers[0] as never)
  await engine.executions.start(own.caller, own.execution_id)
  await engine.executions.finish(own.caller, own.execution_id, { outcome: { outcome: 'SUCCEEDED' }, entries: 0 })
  expect((await claim(10)).offers).toHaveLength(1)
})

test('a rejected or lapsed offer goes back to the queue and uses up no try', async () => {
  const run_id = await create()
  const worker = await connection()
  await engine.dispatch.offer([worker])
  await engine.workers.rejected(worker.connection_id, { task_id: run_id, reason: 'worker at maximum concurrency' })
  expect(await stateOf(run_id)).toBe('QUEUED')
  await engine.dispatch.offer([worker])
  clock.advance(LIMITS.offer_ms + 1)
  await engine.sweep.run()
  expect(await stateOf(run_id)).toBe('QUEUED')
  const { executions } = await engine.executions.list(owner, run_id)
  expect(executions.map((execution) => execution.outcome)).toEqual(['LAPSED', 'LAPSED'])
})

test('one idempotency key makes one run, also when a hundred ask at once', async () => {
  const answers = await Promise.all(Array.from({ length: 100 }, () => create({}, 'key-1')))
  expect(new Set(answers).size).toBe(1)
  const { runs } = await engine.runs.list(owner, ListRuns.parse({}))
  expect(runs).toHaveLength(1)
  await expect(create({ prompt: 'other' }, 'key-1')).rejects.toBeInstanceOf(Fault)
})

test('transcript entries are kept once, in order, and a gap is refused', async () => {
  const { run_id, caller, execution_id } = await running()
  expect(await engine.executions.append(caller, execution_id, [entry(1), entry(2)])).toEqual({ highest: 2 })
  expect(await engine.executions.append(caller, execution_id, [entry(2, 'changed'), entry(3)])).toEqual({ highest: 3 })
  await expect(engine.executions.append(caller, execution_id, [entry(5)])).rejects.toMatchObject({
    code: 'conflict',
    retryable: true,
  })
  await Promise.all(
    Array.from({ length: 8 }, () =>
      engine.executions.append(
        caller,
        execution_id,
        [4, 5, 6, 7].map((n) => entry(n)),
      ),
    ),
  )
  const { entries } = await engine.transcripts.list(owner, run_id, { limit: 50 })
  expect(entries.map((one) => (one.body.kind === 'text' ? one.body.text : ''))).toEqual(
    [1, 2, 3, 4, 5, 6, 7].map((n) => `line ${n}`),
  )
})

test('a large entry has its head in the row and its whole in a blob', async () => {
  const { run_id, caller, execution_id } = await running()
  const text = 'ä\u0000x'.repeat(20_000)
  await engine.executions.append(caller, execution_id, [entry(1, text)])
  const {
    entries: [head],
  } = await engine.transcripts.list(owner, run_id, { limit: 50 })
  expect(head?.cut?.bytes).toBeGreaterThan(60_000)
  const whole = await engine.transcripts.get(owner, run_id, head?.position ?? '')
  expect(whole.cut).toBeUndefined()
  expect(whole.body).toEqual({ kind: 'text', text: text.replaceAll('\u0000', '\ufffd') })
})

test('what a program prints is kept as it was, also what looks like an escape', async () => {
  const { run_id, caller, execution_id } = await running()
  const text = 'a \\u0000 b \\ud800 c'
  await engine.executions.append(caller, execution_id, [entry(1, text), entry(2, 'x\ud800y')])
  const { entries } = await engine.transcripts.list(owner, run_id, { limit: 50 })
  expect(entries.map((one) => one.body)).toEqual([
    { kind: 'text', text },
    { kind: 'text', text: 'x\ufffdy' },
  ])
})

test('another team sees nothing', async () => {
  const run_id = await create()
  const stranger: Caller = { ...owner, team_id: randomUUID() }
  await expect(engine.runs.get(stranger, run_id)).rejects.toMatchObject({ code: 'resource_not_found' })
  await expect(engine.runs.cancel(stranger, run_id)).rejects.toMatchObject({ code: 'resource_not_found' })
  await expect(engine.transcripts.list(stranger, run_id, { limit: 5 })).rejects.toMatchObject({
    code: 'resource_not_found',
  })
  await expect(engine.executions.list(stranger, run_id)).rejects.toMatchObject({ code: 'resource_not_found' })
  expect((await engine.runs.list(stranger, ListRuns.parse({}))).runs).toEqual([])
  expect(await engine.events.list(stranger, { since: 0, limit: 10 })).toEqual([])
})

test('an ended run can be asked for again under the same id', async () => {
  const { run_id, caller, execution_id } = await running()
  await engine.executions.append(caller, execution_id, [entry(1)])
  await engine.executions.finish(caller, execution_id, { outcome: { outcome: 'CANCELLED' }, entries: 1 })
  await expect(engine.runs.retry(owner, await create())).rejects.toMatchObject({ code: 'conflict' })
  await engine.runs.retry(owner, run_id)
  expect(await stateOf(run_id)).toBe('QUEUED')
})

test('a page of the list never repeats or skips a run while others are made', async () => {
  for (let n = 0; n < 12; n++) {
    clock.advance(n % 3)
    await create({ title: `run ${n}` })
  }
  const seen: string[] = []
  let cursor: string | undefined
  do {
    const page = await engine.runs.list(owner, ListRuns.parse({ limit: 5, sort_by: 'created_at', cursor }))
    seen.push(...page.runs.map((run) => run.title))
    cursor = page.page_info.next_cursor
    clock.advance(1)
    await create({ title: 'late' })
  } while (cursor)
  expect([...seen].sort()).toEqual(Array.from({ length: 12 }, (_, n) => `run ${n}`).sort())
  await expect(engine.runs.list(owner, ListRuns.parse({ cursor: 'nonsense' }))).rejects.toMatchObject({
    code: 'invalid_request',
  })
})
