/** Event streams: replay joined to live, resumed anywhere, slow readers, what each reader sees. */
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { createParser } from 'eventsource-parser'
import { afterEach, expect, test } from 'vitest'
import { type EntryBody, Event, type Run, StreamFrame } from '../src/contract/index.ts'
import { enqueueEvents } from './house/events.ts'
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

type Frame = { id: string | undefined; frame: unknown }
type Line = {
  frames: Frame[]
  answer: IncomingMessage
  cut(): void
  ended: Promise<void>
  until(done: () => boolean, wait_ms?: number): Promise<void>
}

/** A raw stream: every frame as it came. */
function listen(house: House, path: string, headers: Record<string, string> = {}, port = house.port): Promise<Line> {
  const frames: Frame[] = []
  const wakers = new Set<() => void>()
  const parser = createParser({
    onEvent(event) {
      frames.push({ id: event.id, frame: JSON.parse(event.data) })
      for (const wake of wakers) wake()
    },
  })
  return new Promise((resolve, reject) => {
    const asked: ClientRequest = request(
      {
        host: '127.0.0.1',
        port,
        path: `/api/v1${path}`,
        headers: { authorization: `Bearer ${house.api_key}`, ...headers },
      },
      (answer) => {
        if (answer.statusCode !== 200) return reject(new Error(`answered ${answer.statusCode}`))
        answer.on('data', (chunk) => parser.feed(String(chunk)))
        const ended = new Promise<void>((done) => {
          answer.on('close', () => done())
          answer.on('error', () => done())
        })
        resolve({
          frames,
          answer,
          ended,
          cut: () => asked.destroy(),
          async until(done, wait_ms = 10_000) {
            const late = Date.now() + wait_ms
            while (!done()) {
              if (Date.now() > late) throw new Error(`Only ${frames.length} frames came within ${wait_ms} ms.`)
              await new Promise<void>((next) => {
                const wake = () => {
                  clearTimeout(timer)
                  wakers.delete(wake)
                  next()
                }
                const timer = setTimeout(wake, 50)
                wakers.add(wake)
              })
            }
          },
        })
      },
    )
    asked.on('error', reject)
    asked.end()
  })
}

const sequences = (line: Line): number[] => line.frames.map(({ frame }) => Event.parse(frame).sequence)
const framed = (line: Line): StreamFrame[] => line.frames.map(({ frame }) => StreamFrame.parse(frame))
const events = (line: Line): Event[] => framed(line).flatMap((frame) => (frame.type === 'event' ? [frame.event] : []))

test('a stream cut anywhere and resumed by its last id has neither gap nor duplicate', async () => {
  const house = await start()
  const { run_id } = await house.client.runs.create({ body: { prompt: 'log' } })
  let writing = true
  const writer = (async () => {
    while (writing) {
      await enqueueEvents(house, run_id, 1 + Math.floor(Math.random() * 5))
      await sleep(Math.random() * 10)
    }
  })()
  const got: number[] = []
  let last: string | undefined
  for (let cuts = 0; cuts < 60; cuts++) {
    const line = await listen(
      house,
      last === undefined ? '/agent/events/stream?since=0' : '/agent/events/stream',
      last === undefined ? {} : { 'last-event-id': last },
    )
    await sleep(Math.random() * 25)
    line.cut()
    await line.ended
    got.push(...sequences(line))
    last = line.frames.at(-1)?.id ?? last
  }
  writing = false
  await writer
  const line = await listen(house, '/agent/events/stream', { 'last-event-id': last ?? '0' })
  const all = await house.server.engine.events.read(0, 1_000_000)
  await line.until(() => got.length + line.frames.length >= all.length)
  got.push(...sequences(line))
  line.cut()
  expect(all.length).toBeGreaterThan(100)
  expect(got).toEqual(all.map((event) => event.sequence))
}, 60_000)

test('readers that join at any moment while events flow see each later one once and in order', async () => {
  // Few events are kept in memory, so that some joins replay from the database.
  const house = await start({ limits: { events_kept: 50 } })
  const { run_id } = await house.client.runs.create({ body: { prompt: 'log' } })
  const lines: { since: number; line: Line }[] = []
  for (let round = 0; round < 30; round++) {
    const since = Math.floor(Math.random() * (await house.server.engine.events.head()))
    const [line] = await Promise.all([
      listen(house, `/agent/events/stream?since=${since}`),
      enqueueEvents(house, run_id, 20),
    ])
    lines.push({ since, line })
  }
  const head = await house.server.engine.events.head()
  for (const { since, line } of lines) {
    await line.until(() => line.frames.length >= head - since)
    expect(sequences(line)).toEqual(Array.from({ length: head - since }, (_, at) => since + 1 + at))
    line.cut()
  }
}, 60_000)

test('a reader that takes nothing is put back to replay with bounded memory, and others do not wait', async () => {
  const house = await start({ limits: { stream_bytes_max: 32 * 1024, events_kept: 200, replay_events_max: 1_000_000 } })
  const { run_id } = await house.client.runs.create({ body: { prompt: 'log' } })
  const stuck = await Promise.all(Array.from({ length: 20 }, () => listen(house, '/agent/events/stream?since=0')))
  for (const line of stuck) line.answer.pause()
  const quick = await listen(house, '/agent/events/stream?since=0')
  global.gc?.()
  const before = process.memoryUsage().rss
  let slowest = 0
  for (let batch = 0; batch < 60; batch++) {
    const began = Date.now()
    await enqueueEvents(house, run_id, 500)
    const head = await house.server.engine.events.head()
    await quick.until(() => quick.frames.length >= head)
    slowest = Math.max(slowest, Date.now() - began)
  }
  expect(slowest).toBeLessThan(3_000)
  // 30,000 events of 250 bytes to 20 stuck readers would be 150 MB, were they kept.
  expect(process.memoryUsage().rss - before).toBeLessThan(120 * 1024 * 1024)
  const head = await house.server.engine.events.head()
  const [one] = stuck
  one?.answer.resume()
  await one?.until(() => (one?.frames.length ?? 0) >= head, 20_000)
  expect(one ? sequences(one) : []).toEqual(Array.from({ length: head }, (_, at) => at + 1))
  for (const line of [...stuck, quick]) line.cut()
}, 90_000)

test('a reader of our stream that is too far behind is told to read afresh', async () => {
  const house = await start({ limits: { replay_events_max: 100 } })
  const { run_id } = await house.client.runs.create({ body: { prompt: 'log' } })
  await enqueueEvents(house, run_id, 500)
  const head = await house.server.engine.events.head()
  const early = await listen(house, '/agent/events/stream?since=0')
  await early.until(() => early.frames.length >= head)
  early.cut()
  const line = await listen(house, '/stream?since=1')
  await line.until(() => line.frames.length >= 2)
  expect(framed(line).map((frame) => frame.type)).toEqual(['hello', 'reset'])
  expect(line.frames.map(({ id }) => id)).toEqual(['1', String(head)])
  await enqueueEvents(house, run_id, 3)
  await line.until(() => line.frames.length >= 5)
  expect(events(line).map((event) => event.sequence)).toEqual([head + 1, head + 2, head + 3])
  line.cut()
})

test('a reader that takes nothing for too long is cut off', async () => {
  const limits = { stream_bytes_max: 16 * 1024, stream_stalled_ms: 500, stream_keep_alive_ms: 200, streams_per_team: 1 }
  const house = await start({ limits })
  const { run_id } = await house.client.runs.create({ body: { prompt: 'log' } })
  const line = await listen(house, '/agent/events/stream?since=0')
  line.answer.pause()
  // The kernel takes some megabytes before the server can notice.
  await expect
    .poll(
      async () => {
        await enqueueEvents(house, run_id, 5_000)
        return listen(house, '/stream').then(
          (next) => {
            next.cut()
            return 'cut off'
          },
          () => 'still there',
        )
      },
      { timeout: 40_000, interval: 100 },
    )
    .toBe('cut off')
  line.answer.resume()
  await line.ended
  expect(line.frames.length).toBeLessThan(await house.server.engine.events.head())
}, 60_000)

test("children made later join an open stream of their parent; nobody else's events do", async () => {
  const house = await start()
  const parent = await house.client.runs.create({ body: { prompt: 'parent' } })
  const stranger = await house.client.runs.create({ body: { prompt: 'stranger' } })
  const children = await listen(house, `/agent/events/stream?ancestor_run_id=${parent.run_id}&since=0`)
  const family = await listen(house, `/agent/events/stream?ancestor_run_id=${parent.run_id}&include_self=true&since=0`)
  const child = await makeChild(house, parent.run_id)
  await enqueueEvents(house, child, 2)
  await enqueueEvents(house, stranger.run_id, 2)
  await enqueueEvents(house, parent.run_id, 1)
  await family.until(() => family.frames.length >= 4)
  await children.until(() => children.frames.length >= 2)
  expect(children.frames.map(({ frame }) => Event.parse(frame).run_id)).toEqual([child, child])
  expect(family.frames.map(({ frame }) => Event.parse(frame).run_id)).toEqual([
    parent.run_id,
    child,
    child,
    parent.run_id,
  ])
  const late = await listen(house, `/agent/events/stream?ancestor_run_id=${parent.run_id}&since=0`)
  await late.until(() => late.frames.length >= 2)
  for (const line of [children, family, late]) line.cut()
})

async function makeChild(house: House, parent_run_id: string): Promise<string> {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'child' } })
  const head = await house.server.engine.events.head()
  await house.database.kysely.deleteFrom('events').where('run_id', '=', run_id).execute()
  await house.database.kysely.updateTable('runs').set({ parent_run_id }).where('run_id', '=', run_id).execute()
  expect(head).toBeGreaterThan(0)
  return run_id
}

test('streams show a team its own events alone', async () => {
  const house = await start()
  const other = await house.addTeam('others')
  const mine = await house.client.runs.create({ body: { prompt: 'mine' } })
  const line = await listen(house, '/agent/events/stream?since=0', { authorization: `Bearer ${other.api_key}` })
  const follow = await listen(house, '/stream?since=0', { authorization: `Bearer ${other.api_key}` })
  await enqueueEvents(house, mine.run_id, 5)
  const theirs = await other.client.runs.create({ body: { prompt: 'theirs' } })
  await line.until(() => line.frames.length >= 1)
  await follow.until(() => follow.frames.length >= 2)
  expect(line.frames.map(({ frame }) => Event.parse(frame).run_id)).toEqual([theirs.run_id])
  expect(events(follow).map((event) => event.run_id)).toEqual([theirs.run_id])
  const refusals = ['/agent/events/stream?run_ids[]=', '/stream?run_ids=', '/agent/events/stream?ancestor_run_id=']
  for (const path of refusals) {
    await expect(listen(house, path + mine.run_id, { authorization: `Bearer ${other.api_key}` })).rejects.toThrow('404')
  }
  line.cut()
  follow.cut()
})

test('a followed transcript comes whole, in order, from where it was left, with live text before the entry', async () => {
  const house = await start()
  const worker = await house.worker()
  const { run_id } = await house.client.runs.create({ body: { prompt: 'talk' } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const text = (n: number): EntryBody => ({ kind: 'text', text: `entry ${n}` })
  await piece.append(...Array.from({ length: 120 }, (_, at) => text(at + 1)))
  const whole = await listen(house, `/stream?run_ids=${run_id}&entries_after=0.0`)
  const half = await listen(house, `/stream?run_ids=${run_id}&entries_after=1.60`)
  const fresh = await listen(house, `/stream?run_ids[]=${run_id}&entries_after[]=`)
  await expect(listen(house, `/stream?run_ids=${run_id}&entries_after=abc`)).rejects.toThrow('400')
  const numbers = (line: Line) =>
    framed(line).flatMap((frame) => (frame.type === 'entries' ? frame.entries.map((entry) => entry.number) : []))
  await whole.until(() => numbers(whole).length >= 120)
  await half.until(() => numbers(half).length >= 60)
  await fresh.until(() => framed(fresh).some((frame) => frame.type === 'hello'))
  // A watcher that is still reading what was there misses live text, which it can tell by the offset.
  await expect
    .poll(async () => {
      const { watched } = await piece.runner.executions.deltas({
        params: piece,
        body: { deltas: [{ kind: 'text', text: 'live', offset: 0, number: 121 }] },
      })
      return watched && [whole, half, fresh].every((line) => framed(line).some((frame) => frame.type === 'deltas'))
    })
    .toBe(true)
  for (let n = 121; n <= 180; n++) await piece.append(text(n))
  for (const [line, from] of [
    [whole, 1],
    [half, 61],
    [fresh, 121],
  ] as const) {
    await line.until(() => numbers(line).at(-1) === 180)
    expect(numbers(line)).toEqual(Array.from({ length: 181 - from }, (_, at) => from + at))
    const kinds = framed(line).map((frame) => frame.type)
    expect(kinds.indexOf('deltas')).toBeLessThan(kinds.lastIndexOf('entries'))
    line.cut()
  }
  await expect
    .poll(
      async () =>
        (
          await piece.runner.executions.deltas({
            params: piece,
            body: { deltas: [{ kind: 'text', text: 'x', offset: 0, number: 181 }] },
          })
        ).watched,
    )
    .toBe(false)
})

test('the control stream says cancel at once, also when it was asked for before', async () => {
  const house = await start()
  const worker = await house.worker()
  const { run_id } = await house.client.runs.create({ body: { prompt: 'stop me' } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const auth = { authorization: `Bearer ${piece.assignment.env_vars.WARP_API_KEY}` }
  const control = await listen(house, `/executions/${piece.execution_id}/control`, auth)
  await control.until(() => control.frames.length >= 1)
  const began = Date.now()
  await house.client.runs.cancel({ params: { run_id } })
  await control.until(() => control.frames.length >= 2)
  expect(Date.now() - began).toBeLessThan(1_000)
  const late = await listen(house, `/executions/${piece.execution_id}/control`, auth)
  await late.until(() => late.frames.length >= 2)
  expect(late.frames.map(({ frame }) => frame)).toEqual([{ type: 'hello' }, { type: 'cancel' }])
  await piece.finish({ outcome: 'CANCELLED' })
  expect((await house.client.runs.get({ params: { run_id } })).state).toBe<Run['state']>('CANCELLED')
  control.cut()
  late.cut()
})

test('a stream is kept alive, and ends when its key is revoked', async () => {
  const house = await start({ limits: { stream_keep_alive_ms: 100, identify_again_ms: 200 } })
  const { api_key } = await house.server.engine.access.createKey(house.owner, { name: 'brief', scope: 'personal' })
  const line = await listen(house, '/stream', { authorization: `Bearer ${api_key}` })
  let bytes = ''
  line.answer.on('data', (chunk) => {
    bytes += String(chunk)
  })
  await expect.poll(() => bytes).toContain(': keep-alive')
  expect(line.answer.headers['x-accel-buffering']).toBe('no')
  await house.database.kysely
    .updateTable('api_keys')
    .set({ revoked_at: new Date(0) })
    .where('name', '=', 'brief')
    .execute()
  await line.ended
})

test('a team may hold only so many streams', async () => {
  const house = await start({ limits: { streams_per_team: 2 } })
  const lines = [await listen(house, '/stream'), await listen(house, '/stream')]
  await expect(listen(house, '/stream')).rejects.toThrow('429')
  const other = await house.addTeam('others')
  lines.push(await listen(house, '/stream', { authorization: `Bearer ${other.api_key}` }))
  lines[0]?.cut()
  await expect
    .poll(() =>
      listen(house, '/stream').then(
        (line) => lines.push(line),
        () => 0,
      ),
    )
    .toBeGreaterThan(0)
  for (const line of lines) line.cut()
})

test('the streams of runs take nothing from those of people', async () => {
  const house = await start({ limits: { streams_per_team: 1, run_streams_per_team: 2 } })
  const worker = await house.worker()
  await house.client.runs.create({ body: { prompt: 'be followed' } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const auth = { authorization: `Bearer ${piece.assignment.env_vars.WARP_API_KEY}` }
  const control = `/executions/${piece.execution_id}/control`
  const lines = [await listen(house, control, auth), await listen(house, control, auth), await listen(house, '/stream')]
  await expect(listen(house, control, auth)).rejects.toThrow('429')
  await expect(listen(house, '/stream')).rejects.toThrow('429')
  for (const line of lines) line.cut()
  await piece.finish({ outcome: 'SUCCEEDED' })
})

test('what happens through one server is seen on a stream of another', async () => {
  const house = await start()
  const other = await house.sibling()
  const line = await listen(house, '/stream?since=0', {}, other.server.port)
  const began = Date.now()
  const { run_id } = await house.client.runs.create({ body: { prompt: 'seen elsewhere' } })
  await line.until(() => events(line).length >= 1)
  expect(Date.now() - began).toBeLessThan(1_000)
  expect(events(line)[0]).toMatchObject({ event_type: 'run_queued', run_id })
  // A position seen on one server may be ahead of what the other has read.
  const ahead = await house.server.engine.events.head()
  const resumed = await listen(house, '/agent/events/stream', { 'last-event-id': String(ahead) }, other.server.port)
  await enqueueEvents(house, run_id, 2)
  await resumed.until(() => resumed.frames.length >= 2)
  expect(sequences(resumed)).toEqual([ahead + 1, ahead + 2])
  line.cut()
  resumed.cut()
})

test('closing the server ends its streams with a hint, and a reader goes on at the next one', async () => {
  const house = await start()
  const { run_id } = await house.client.runs.create({ body: { prompt: 'on' } })
  const line = await listen(house, '/agent/events/stream?since=0')
  let bytes = ''
  line.answer.on('data', (chunk) => {
    bytes += String(chunk)
  })
  await line.until(() => line.frames.length >= 1)
  const began = Date.now()
  await house.restart()
  expect(Date.now() - began).toBeLessThan(5_000)
  await line.ended
  expect(bytes).toContain('retry: 1000')
  const again = await listen(house, '/agent/events/stream', { 'last-event-id': line.frames.at(-1)?.id ?? '' })
  await enqueueEvents(house, run_id, 1)
  await again.until(() => again.frames.length >= 1)
  expect(sequences(again)).toEqual([2])
  again.cut()
})
