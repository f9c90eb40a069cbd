/** The worker protocol over the real socket, the dispatch loop, and two servers on one database. */
import { afterEach, expect, test } from 'vitest'
import type { FromWorker } from '../src/contract/index.ts'
import { connect } from '../src/sdk/client.ts'
import { type House, type HouseOptions, startHouse } from './house/house.ts'

const houses: House[] = []
afterEach(async () => {
  for (const house of houses.splice(0)) await house.close()
})
async function start(options: HouseOptions = {}): Promise<House> {
  const house = await startHouse(options)
  houses.push(house)
  return house
}

const create = (house: House, prompt = 'work', worker_host?: string) =>
  house.client.runs.create({ body: { prompt, ...(worker_host && { config: { worker_host } }) } })
const stateOf = async (house: House, run_id: string) => (await house.client.runs.get({ params: { run_id } })).state

test('a run goes through a worker from create to SUCCEEDED, and its events come in order', async () => {
  const house = await start()
  const worker = await house.worker()
  const { run_id, state } = await create(house)
  expect(state).toBe('QUEUED')
  const piece = await worker.next()
  expect(piece.run_id).toBe(run_id)
  expect(piece.assignment.env_vars.WARP_API_KEY).toMatch(/^bx-1\./)
  await piece.work(3)
  expect(await stateOf(house, run_id)).toBe('SUCCEEDED')
  const events = await house.client.events.list({ query: { run_ids: [run_id] } })
  expect(events.map((event) => event.event_type)).toEqual([
    'run_queued',
    'run_in_progress',
    'run_session_linked',
    'run_succeeded',
  ])
  expect((await house.client.transcripts.list({ params: { run_id } })).entries.map((entry) => entry.number)).toEqual([
    1, 2, 3,
  ])
})

test('a harness called as what all objects have is one that nobody knows, and keeps no other run waiting', async () => {
  const house = await start()
  const worker = await house.worker()
  const body = { prompt: 'odd', config: { harness: { type: 'constructor' } } }
  const odd = await house.client.runs.create({ body })
  const plain = await create(house)
  const pieces = [await worker.next(), await worker.next()]
  expect(pieces.map(({ run_id }) => run_id).sort()).toEqual([odd.run_id, plain.run_id].sort())
})

test('a failure whose reason nobody knows is ours, whatever it is called', async () => {
  const house = await start()
  const worker = await house.worker()
  const { run_id } = await house.client.runs.create({ body: { prompt: 'work', config: { max_tries: 1 } } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  worker.say({ type: 'task_failed', data: { task_id: run_id, message: 'boo', failure_reason: 'constructor' } })
  await expect.poll(() => stateOf(house, run_id)).toBe('ERROR')
})

test('a run is offered within 100 ms of its creation, most of the time', async () => {
  const house = await start()
  const worker = await house.worker()
  const waits: number[] = []
  for (let n = 0; n < 10; n++) {
    const began = performance.now()
    await create(house)
    const piece = await worker.next()
    waits.push(performance.now() - began)
    await piece.work(0)
  }
  expect(waits.sort((a, b) => a - b)[5]).toBeLessThan(100)
})

test('a worker is never offered more than the capacity that it said', async () => {
  const house = await start({ max_concurrent_runs: 10 })
  const worker = await house.worker({ capacity: 2 })
  for (let n = 0; n < 5; n++) await create(house)
  const held = [await worker.next(), await worker.next()]
  await expect(worker.next(300)).rejects.toThrow('offer')
  await held[0]?.work(0)
  const third = await worker.next()
  await expect(worker.next(300)).rejects.toThrow('offer')
  await third.work(0)
  await worker.next()
})

test('a public worker that says no hello is offered runs until it rejects one, then after it ends one', async () => {
  const house = await start({ max_concurrent_runs: 10, limits: { worker_full_ms: 60_000 } })
  const worker = await house.worker({ capacity: null })
  await create(house, 'first')
  const first = await worker.next()
  first.claim()
  await create(house, 'second')
  const second = await worker.next()
  second.reject()
  await expect.poll(() => stateOf(house, second.run_id)).toBe('QUEUED')
  await expect(worker.next(300)).rejects.toThrow('offer')
  await first.start()
  await first.finish()
  first.complete()
  const again = await worker.next()
  expect(again.run_id).toBe(second.run_id)
  await again.work(1)
  expect(await stateOf(house, second.run_id)).toBe('SUCCEEDED')
})

test('a public worker that never says that a run has ended is free again when it has', async () => {
  const house = await start({ max_concurrent_runs: 10 })
  const worker = await house.worker({ capacity: null })
  for (let n = 0; n < 12; n++) {
    await create(house)
    const piece = await worker.next()
    piece.claim()
    await piece.start()
    await piece.finish()
  }
})

test('a rejected run is offered to another worker', async () => {
  const house = await start()
  const full = await house.worker({ worker_host: 'full', capacity: 1 })
  const { run_id } = await create(house)
  const piece = await full.next()
  const spare = await house.worker({ worker_host: 'spare', capacity: 1 })
  piece.reject()
  const again = await spare.next()
  expect(again.run_id).toBe(run_id)
  expect(again.execution_id).not.toBe(piece.execution_id)
  await expect(piece.start()).rejects.toMatchObject({ code: 'conflict', retryable: false })
  await again.work(0)
})

test('a run for a named worker waits for it', async () => {
  const house = await start()
  const other = await house.worker({ worker_host: 'other' })
  const { run_id } = await create(house, 'picky', 'chosen')
  await expect(other.next(300)).rejects.toThrow('offer')
  const chosen = await house.worker({ worker_host: 'chosen' })
  expect((await chosen.next()).run_id).toBe(run_id)
})

test('what a worker was offered goes to another when it vanishes before it claims', async () => {
  const house = await start()
  const brief = await house.worker({ worker_host: 'brief' })
  const { run_id } = await create(house)
  await brief.next()
  brief.vanish()
  const other = await house.worker({ worker_host: 'other' })
  const piece = await other.next(5_000)
  expect(piece.run_id).toBe(run_id)
  await piece.work(1)
})

test('a worker that comes back keeps what it runs, and is told to end what is no longer wanted', async () => {
  const house = await start()
  const worker = await house.worker({ capacity: 3 })
  const kept = await create(house, 'kept')
  const dropped = await create(house, 'dropped')
  const pieces = [await worker.next(), await worker.next()]
  for (const piece of pieces) {
    piece.claim()
    await piece.start()
  }
  worker.vanish()
  await worker.closed
  await house.client.runs.cancel({ params: { run_id: dropped.run_id } })
  const running = pieces.map(({ run_id, execution_id }) => ({ task_id: run_id, execution_id }))
  const back = await house.worker({ capacity: 3, running })
  expect((await back.cancelled()).task_id).toBe(dropped.run_id)
  const piece = pieces.find((one) => one.run_id === kept.run_id)
  await piece?.append({ kind: 'text', text: 'still here' })
  await piece?.finish()
  expect(await stateOf(house, kept.run_id)).toBe('SUCCEEDED')
  expect(await house.client.workers.list()).toMatchObject({
    workers: [{ worker_host: 'scripted', connection_count: 1, capacity: 3 }],
  })
})

test('a cancel reaches the worker at once, and the run that it had not begun is over', async () => {
  const house = await start()
  const worker = await house.worker()
  const { run_id } = await create(house)
  const piece = await worker.next()
  piece.claim()
  await expect.poll(() => stateOf(house, run_id)).toBe('CLAIMED')
  const began = Date.now()
  await house.client.runs.cancel({ params: { run_id } })
  expect(await worker.cancelled()).toEqual({ task_id: run_id, execution_id: piece.execution_id })
  expect(Date.now() - began).toBeLessThan(1_000)
  expect(await stateOf(house, run_id)).toBe('CANCELLED')
  await expect(piece.start()).rejects.toMatchObject({ code: expect.stringMatching(/conflict|authentication_required/) })
})

test('a late claim is answered by a cancellation', async () => {
  const house = await start()
  const worker = await house.worker()
  const { run_id } = await create(house)
  const piece = await worker.next()
  await house.client.runs.cancel({ params: { run_id } })
  await worker.cancelled()
  piece.claim()
  expect((await worker.cancelled()).task_id).toBe(run_id)
})

test('a worker that says its sandbox has ended without a result ends the run, whatever its exit code', async () => {
  const house = await start({ engine_limits: { max_tries: 1 } })
  const worker = await house.worker()
  const { run_id } = await create(house)
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  piece.complete()
  await expect.poll(() => stateOf(house, run_id)).toBe('ERROR')
})

test('frames that nobody knows are passed over; a peer that sends nothing else is cut off', async () => {
  const house = await start()
  const worker = await house.worker()
  for (const frame of [
    '{"type":"heartbeat"}',
    '{"type":"later_frame","data":{}}',
    'not json',
    '[]',
    '{"type":"task_claimed","data":{}}',
  ])
    worker.socket.send(frame)
  worker.say({ type: 'task_claimed', data: { task_id: 'no-uuid', worker_id: 'x' } })
  worker.say({ type: 'task_completed', data: { task_id: crypto.randomUUID(), message: '' } } satisfies FromWorker)
  await create(house)
  await (await worker.next()).work(1)
  for (let n = 0; n < 30; n++) worker.socket.send('noise')
  expect(await worker.closed).toBe(1008)
})

test('a frame that is too large ends the connection, not the server', async () => {
  const house = await start({ limits: { worker_frame_bytes_max: 10_000 } })
  const worker = await house.worker()
  worker.socket.on('error', () => {})
  worker.socket.send('x'.repeat(20_000))
  expect(await worker.closed).toBe(1009)
  expect(await house.client.access.health()).toMatchObject({ status: 'ok' })
})

test("another team's worker is offered nothing of ours and cannot speak of our runs", async () => {
  const house = await start()
  const other = await house.addTeam('others')
  const theirs = await house.worker({ api_key: other.api_key, worker_host: 'scripted' })
  const { run_id } = await create(house)
  await expect(theirs.next(400)).rejects.toThrow('offer')
  const ours = await house.worker()
  const piece = await ours.next()
  piece.claim()
  await piece.start()
  theirs.say({ type: 'task_completed', data: { task_id: run_id, message: 'mine now' } })
  theirs.say({ type: 'task_failed', data: { task_id: run_id, message: 'mine now' } })
  theirs.say({ type: 'task_rejected', data: { task_id: run_id, reason: 'mine now' } })
  await piece.append({ kind: 'text', text: 'undisturbed' })
  expect(await stateOf(house, run_id)).toBe('INPROGRESS')
})

test("a run that cannot even be read holds up no other team's", async () => {
  const house = await start()
  const other = await house.addTeam('others')
  const { run_id } = await create(house)
  await house.database.kysely.updateTable('runs').set({ config: '{"harness": 5}' }).execute()
  const ours = await house.worker()
  const theirs = await house.worker({ api_key: other.api_key })
  const they = connect({ server: house.url, token: other.api_key })
  const made = await they.runs.create({ body: { prompt: 'work' } })
  expect((await theirs.next()).run_id).toBe(made.run_id)
  await house.database.kysely.updateTable('runs').set({ config: '{}' }).where('run_id', '=', run_id).execute()
  expect((await ours.next()).run_id).toBe(run_id)
})

test('a silent worker is pinged, and let go when it does not answer', async () => {
  const house = await start({ limits: { worker_ping_ms: 500, worker_silent_ms: 2_000 } })
  const worker = await house.worker()
  let pings = 0
  worker.socket.on('ping', () => {
    pings += 1
  })
  await expect.poll(() => pings, { timeout: 5_000 }).toBeGreaterThan(0)
  worker.socket.pause()
  await expect.poll(async () => (await house.client.workers.list()).workers.length, { timeout: 10_000 }).toBe(0)
  worker.socket.resume()
})

test('a worker whose key is revoked is let go', async () => {
  const house = await start({ limits: { identify_again_ms: 500 } })
  const { api_key } = await house.server.engine.access.createKey(house.owner, { name: 'brief', scope: 'worker' })
  const worker = await house.worker({ api_key })
  await house.database.kysely
    .updateTable('api_keys')
    .set({ revoked_at: new Date(0) })
    .where('name', '=', 'brief')
    .execute()
  expect(await worker.closed).toBe(1008)
})

test("two servers on one database run each run once, and keep the team's limit together", async () => {
  const house = await start({ max_concurrent_runs: 3 })
  const other = await house.sibling()
  const workers = [
    await house.worker({ worker_host: 'a', capacity: 10 }),
    await other.worker({ worker_host: 'b', capacity: 10 }),
  ]
  const done: string[] = []
  let at_once = 0
  let most = 0
  let open = true
  const loops = workers.map(async (worker) => {
    const pieces: Promise<void>[] = []
    while (open) {
      const piece = await worker.next(1_000).catch(() => null)
      if (!piece) continue
      most = Math.max(most, ++at_once)
      pieces.push(
        (async () => {
          piece.claim()
          await piece.start()
          await piece.append({ kind: 'text', text: worker.worker_host })
          // Counted down before the run ends: its end lets the next one in.
          at_once -= 1
          await piece.finish()
          piece.complete()
          done.push(piece.run_id)
        })(),
      )
    }
    await Promise.all(pieces)
  })
  const made = await Promise.all(
    Array.from({ length: 40 }, (_, at) =>
      (at % 2 ? other.client : house.client).runs.create({ body: { prompt: `run ${at}` } }),
    ),
  )
  await expect.poll(() => done.length, { timeout: 15_000 }).toBe(40)
  open = false
  await Promise.all(loops)
  expect(new Set(done)).toEqual(new Set(made.map((run) => run.run_id)))
  expect(most).toBeLessThanOrEqual(3)
  const { runs } = await house.client.runs.list({ query: { limit: 100, state: ['SUCCEEDED'] } })
  expect(runs).toHaveLength(40)
  expect(runs.every((run) => run.executions === 1)).toBe(true)
}, 30_000)

test('a cancel asked of one server reaches a worker of the other', async () => {
  const house = await start()
  const other = await house.sibling()
  const worker = await other.worker()
  const { run_id } = await create(house)
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  await house.client.runs.cancel({ params: { run_id } })
  expect((await worker.cancelled()).task_id).toBe(run_id)
})

test('closing the server says goodbye to its workers; work goes on at the next one', async () => {
  const house = await start()
  const worker = await house.worker()
  const { run_id } = await create(house)
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  await house.restart()
  expect(await worker.closed).toBe(1001)
  await piece.append({ kind: 'text', text: 'after the restart' })
  await piece.finish()
  expect(await stateOf(house, run_id)).toBe('SUCCEEDED')
})
