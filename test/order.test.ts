/**
 * Order under load, on two servers of which one is killed and comes back: whoever reads, and however, sees every
 * message of a child before that child's end, and the log without a gap, a repeat or a step back.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Event, Fault, routes } from '../src/contract/index.ts'
import { type Client, connect } from '../src/sdk/client.ts'
import { follow } from '../src/sdk/stream.ts'
import { type FreshDatabase, freshDatabase } from './house/database.ts'
import { type House, startHouse } from './house/house.ts'
import { callTool, openMcpClient, takeAgent } from './house/mcp-agent.ts'
import { freePort } from './house/port.ts'
import { type ServerProcess, startServerProcess, until } from './house/processes.ts'
import type { Piece } from './house/worker.ts'

const CHILDREN = 48
const NOTES = 3
const TEST_MS = 90_000

let folder: string
let database: FreshDatabase
let house: House
let other: ServerProcess
let there: { port: number; connection: FreshDatabase['connection']; blobs_dir: string }

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-order-'))
  database = await freshDatabase({ pool_max: 20 })
  house = await startHouse({ database, blobs_dir: folder, max_concurrent_runs: 500 })
  there = { port: await freePort(), connection: database.connection, blobs_dir: folder }
  other = await startServerProcess(there)
})
afterAll(async () => {
  await other.kill()
  await house.close()
  await database.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Asks until it is answered: a server that was killed may or may not have done what it was asked for. */
async function insist<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await ask()
    } catch (error) {
      if ((error instanceof Fault && error.status < 500) || tries > 300) throw error
      await pause(50)
    }
  }
}

const at = (url: string): Client => connect({ server: url, token: house.api_key, retries: 0 })
const result = (run_id: string) => `the result of ${run_id}.`

type Told = { message_id: string; run_id: string }

/** A child: some notes to its parent, its result, its end. Every step is repeated until it is answered. */
async function work(piece: Piece, parent: string, acknowledged: Told[]): Promise<void> {
  const send = async (body: string) => {
    const sent = await insist(() =>
      piece.runner.messages.send({
        body: { to: [parent], subject: 'word', body },
        headers: { 'idempotency-key': body },
      }),
    )
    for (const message_id of sent.message_ids) acknowledged.push({ message_id, run_id: piece.run_id })
  }
  for (let note = 1; note <= NOTES; note++) {
    await send(`note ${note} of ${piece.run_id}.`)
    await pause(Math.random() * 60)
  }
  await send(result(piece.run_id))
  await insist(() => piece.finish())
}

/** Runs that nobody reads of, so that the log is busy. */
async function makeNoise(client: Client, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const { run_id } = await insist(() =>
      client.runs.create({ body: { prompt: 'noise', config: { worker_host: 'nowhere' } } }),
    )
    await insist(() => client.runs.cancel({ params: { run_id } }))
    await pause(20)
  }
}

/** The whole log, by asking again and again, of one server and the other in turn. */
async function poll(clients: Client[], seen: Event[], signal: AbortSignal): Promise<void> {
  for (let turn = 0; !signal.aborted; turn++) {
    const since = seen.at(-1)?.sequence ?? 0
    const client = clients[turn % clients.length] as Client
    const page = await client.events.list({ query: { since, limit: 100 } }).catch(() => [])
    seen.push(...page)
    if (page.length === 0) await pause(5)
  }
}

/** A tree's events as they are streamed, over every break of the line. */
async function stream(client: Client, ancestor_run_id: string, seen: Event[], signal: AbortSignal): Promise<void> {
  const query = () => ({ ancestor_run_id, include_self: true, since: 0 })
  for await (const { frame } of follow(client, routes.events.stream, { query, signal })) seen.push(frame)
}

/** What the parent's own agent is answered, until it has heard of the end of every child. */
async function waitForAll(url: string, token: string, texts: string[], signal: AbortSignal): Promise<void> {
  const mcp = await openMcpClient(url, token, { hold_ms: 2000 })
  while (!signal.aborted && texts.join('').split(' has succeeded.').length - 1 < CHILDREN) {
    const { text, is_error, said } = await callTool(mcp, 'wait_for_events')
    if (is_error) throw new Error(text)
    if (said.status === 'events') texts.push(text)
  }
  await mcp.close()
}

const steps = (events: Event[]) => events.map((event) => event.sequence)

/** Every message of each child stands before its end. */
function expectMessagesFirst(events: Event[], told: Told[]): void {
  const ends = new Map(
    events.flatMap((event, place) => (event.event_type === 'run_succeeded' ? [[event.run_id, place] as const] : [])),
  )
  const messages = new Map(
    events.flatMap((event, place) => (event.event_type === 'new_message' ? [[event.ref_id, place] as const] : [])),
  )
  for (const { message_id, run_id } of told)
    expect(messages.get(message_id), `message ${message_id}`).toBeLessThan(ends.get(run_id) ?? -1)
}

test('every reader sees each message before the end of the child that sent it, and the log whole and in order', {
  timeout: TEST_MS,
}, async () => {
  const desk = await house.worker({ worker_host: 'desk', capacity: 1 })
  const lead_run = await house.client.runs.create({ body: { prompt: 'lead', config: { worker_host: 'desk' } } })
  const lead = await takeAgent(house, desk)
  const crews = [
    await house.worker({ worker_host: 'here', capacity: 100 }),
    await house.worker({ worker_host: 'there', capacity: 100, url: other.url }),
  ]
  const parent_run_id = lead_run.run_id
  const born = Array.from({ length: CHILDREN }, (_, place) =>
    house.client.runs.create({
      body: { prompt: 'child', parent_run_id, config: { worker_host: place % 2 === 0 ? 'here' : 'there' } },
    }),
  )
  await Promise.all(born)
  const children = await Promise.all(
    Array.from({ length: CHILDREN }, async (_, place) => {
      const piece = await (crews[place % 2] as (typeof crews)[number]).next(30_000)
      piece.claim()
      await piece.start()
      return piece
    }),
  )

  const over = new AbortController()
  const polled: Event[] = []
  const streamed: Event[][] = [[], []]
  const texts: string[] = []
  const readers = [
    poll([house.client, at(other.url)], polled, over.signal),
    stream(house.client, parent_run_id, streamed[0] as Event[], over.signal),
    stream(at(other.url), parent_run_id, streamed[1] as Event[], over.signal),
  ]
  const noise = new AbortController()
  const noises = [makeNoise(house.client, noise.signal), makeNoise(at(other.url), noise.signal)]
  const waiting = waitForAll(house.url, lead.token, texts, AbortSignal.timeout(TEST_MS - 20_000))

  const told: Told[] = []
  const working = children.map((piece) => work(piece, parent_run_id, told))
  await until('some messages are in', () => told.length > (CHILDREN * NOTES) / 3, 30_000)
  await other.kill()
  other = await startServerProcess(there)
  await Promise.all(working)
  await waiting
  noise.abort()
  await Promise.all(noises)

  const all = await database.kysely.selectFrom('events').select(['sequence', 'run_id']).orderBy('sequence').execute()
  const last = all.at(-1)?.sequence ?? 0
  const family = new Set([parent_run_id, ...children.map(({ run_id }) => run_id)])
  const own = all.filter(({ run_id }) => family.has(run_id)).map(({ sequence }) => sequence)
  const isWhole = () =>
    polled.at(-1)?.sequence === last && streamed.every((events) => events.at(-1)?.sequence === own.at(-1))
  await until('every reader is at the end', isWhole, 20_000)
  over.abort()
  await Promise.all(readers)

  expect(told).toHaveLength(CHILDREN * (NOTES + 1))
  const kept = await database.kysely
    .selectFrom('messages')
    .select('message_id')
    .where('recipient_run_id', '=', parent_run_id)
    .execute()
  expect(kept.map(({ message_id }) => message_id).sort()).toEqual(told.map(({ message_id }) => message_id).sort())

  expect(steps(polled)).toEqual(Array.from({ length: last }, (_, place) => place + 1))
  for (const events of streamed) expect(steps(events)).toEqual(own)
  for (const events of [polled, ...streamed]) expectMessagesFirst(events, told)

  const heard = texts.join('\n')
  const places = (words: string) =>
    [...heard.matchAll(new RegExp(words.replace(/[.()]/g, '\\$&'), 'g'))].map(({ index }) => index)
  for (const { run_id } of children) {
    const notes = Array.from({ length: NOTES }, (_, place) => `note ${place + 1} of ${run_id}.`)
    const found = [...notes, result(run_id), `(run ${run_id}) has succeeded.`].map(places)
    expect(found.map((one) => one.length)).toEqual(found.map(() => 1))
    expect(found.flat()).toEqual(found.flat().toSorted((a, b) => a - b))
  }
})
