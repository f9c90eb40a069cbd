/**
 * What a run's own token opens: for every route of the contract, by itself for a new one. What is not in `ALLOWED` must
 * refuse; what reads runs must show the token's own run and all that descends from it, and nothing else.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { API_PREFIX, Event, type Route, routes } from '../src/contract/index.ts'
import { type Client, connect } from '../src/sdk/client.ts'
import { sendFile } from './house/files.ts'
import { type House, startHouse } from './house/house.ts'
import type { Piece } from './house/worker.ts'

const all: Route[] = Object.values(routes).flatMap((group) => Object.values(group) as Route[])

/** Each with how it is asked about a run: `own`, `child`, `grandchild`, `parent`, `sibling`, `stranger`. */
const READS: Record<string, (run_id: string) => string> = {
  'runs.get': (run_id) => `/agent/runs/${run_id}`,
  'runs.list': (run_id) => `/agent/runs?ancestor_run_id=${run_id}`,
  'executions.list': (run_id) => `/agent/runs/${run_id}/executions`,
  'plans.ofRun': (run_id) => `/agent/runs/${run_id}/plans`,
  'transcripts.list': (run_id) => `/agent/runs/${run_id}/entries`,
  'transcripts.get': (run_id) => `/agent/runs/${run_id}/entries/000001.000000001`,
  'transcripts.download': (run_id) => `/agent/runs/${run_id}/transcript`,
  'conversations.ofRun': (run_id) => `/agent/runs/${run_id}/conversation`,
  'conversations.get': (run_id) => `/agent/conversations/${run_id}`,
  'handoff.attachments': (run_id) => `/agent/runs/${run_id}/handoff/attachments`,
  'events.list': (run_id) => `/agent/events?run_ids=${run_id}`,
  'events.stream': (run_id) => `/agent/events/stream?run_ids=${run_id}`,
  'events.follow': (run_id) => `/stream?run_ids=${run_id}`,
}
/** Of its own execution alone. */
const RUNNER = [
  'executions.start',
  'executions.heartbeat',
  'executions.control',
  'executions.append',
  'executions.deltas',
  'executions.finish',
  'executions.inbox',
  'executions.delivered',
  'executions.children',
  'executions.session',
  'executions.keep',
  'attachments.take',
]
/** Said or asked of a run in a body, which tells nothing of others' runs. */
const ABOUT: Record<string, object> = {
  'attachments.download': { attachment_ids: ['00000000-0000-4000-8000-000000000000'] },
  'events.report': { event_type: 'run_in_progress' },
  'events.client_event': {
    event_uuid: '00000000-0000-4000-8000-000000000000',
    event_name: 'agent_started',
    timestamp: '2026-01-01T00:00:00Z',
  },
}
/** The mailbox of its own run, and its own tree. */
const MAIL = ['messages.send', 'messages.list', 'messages.read', 'messages.delivered', 'events.cursor', 'trees.get']
/** Children of its own run. */
const TREE = ['runs.create', 'runs.cancel']
/** What its own tree made; it adds to its own run alone. */
const ARTIFACTS = [
  'artifacts.get',
  'artifacts.download',
  'artifacts.upload',
  'artifacts.confirm',
  'conversations.block_snapshot',
]
/** They name no run: the token does. */
const SUPPORT = all.filter((route) => route.name.startsWith('harness_support.')).map((route) => route.name)
const ALLOWED = new Set([
  ...Object.keys(READS),
  ...RUNNER,
  ...Object.keys(ABOUT),
  ...MAIL,
  ...TREE,
  ...ARTIFACTS,
  ...SUPPORT,
  'access.whoami',
  'federation.issue',
])

let house: House
let piece: Piece
let stranger: Piece
let token: string
let client: Client
const runs = { own: '', child: '', grandchild: '', parent: '', sibling: '', stranger: '' }

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 10 })
  const worker = await house.worker({ capacity: 10 })
  const begin = async (): Promise<Piece> => {
    await house.client.runs.create({ body: { prompt: 'visible' } })
    const begun = await worker.next()
    begun.claim()
    await begun.start()
    await begun.append({ kind: 'text', text: 'said' })
    return begun
  }
  piece = await begin()
  const child = await begin()
  const grandchild = await begin()
  const parent = await begin()
  const sibling = await begin()
  stranger = await begin()
  Object.assign(runs, {
    own: piece.run_id,
    child: child.run_id,
    grandchild: grandchild.run_id,
    parent: parent.run_id,
    sibling: sibling.run_id,
    stranger: stranger.run_id,
  })
  await adopt(runs.own, [runs.parent])
  await adopt(runs.sibling, [runs.parent])
  await adopt(runs.child, [runs.parent, runs.own])
  await adopt(runs.grandchild, [runs.parent, runs.own, runs.child])
  token = piece.assignment.env_vars.WARP_API_KEY ?? ''
  client = connect({ server: house.url, token, retries: 0 })
})
afterAll(() => house.close())

async function adopt(run_id: string, ancestors: string[]): Promise<void> {
  const { kysely } = house.database
  const family = { parent_run_id: ancestors.at(-1) ?? null, root_run_id: ancestors[0] ?? run_id, ancestors }
  await kysely.updateTable('runs').set(family).where('run_id', '=', run_id).execute()
}

async function ask(route: Route, path: string, body?: string): Promise<number> {
  const response = await fetch(house.url + API_PREFIX + path, {
    method: route.method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body }),
  })
  await response.body?.cancel()
  return response.status
}

const named = (name: string): Route => {
  const route = all.find((one) => one.name === name)
  if (!route) throw new Error(`There is no route ${name}.`)
  return route
}

test.each(Object.keys(READS))('%s shows its own run and all below it, and no other run', async (name) => {
  const route = named(name)
  const path = READS[name] ?? String
  expect(await ask(route, path(runs.own)), 'own').toBe(200)
  expect(await ask(route, path(runs.child)), 'child').toBe(200)
  expect(await ask(route, path(runs.grandchild)), 'grandchild').toBe(200)
  // As in the public API, a list whose ancestor is not to be seen is a wrong question.
  const absent = name === 'runs.list' ? 400 : 404
  expect(await ask(route, path(runs.parent)), 'parent').toBe(absent)
  expect(await ask(route, path(runs.sibling)), 'sibling').toBe(absent)
  expect(await ask(route, path(runs.stranger)), 'stranger').toBe(absent)
  if (!path('').includes('?')) return
  const both = path(`${runs.own}&run_ids=${runs.stranger}`)
  if (both.includes('ancestor')) return
  expect(await ask(route, both), 'both').toBe(404)
})

test.each(RUNNER)('%s is for its own execution alone', async (name) => {
  const route = named(name)
  const bodies: Record<string, string> = {
    'executions.append': '{"entries":[]}',
    'executions.deltas': '{"deltas":[]}',
    'executions.delivered': '{"message_ids":[],"sequence":0}',
    'executions.keep': '{"session_id":"s","entries":0,"files":[]}',
    'executions.finish': '{"outcome":{"outcome":"CANCELLED"},"entries":0}',
  }
  const body = route.method === 'GET' ? undefined : (bodies[name] ?? '{}')
  expect(await ask(route, route.path.replace('{execution_id}', stranger.execution_id), body)).toBe(404)
  const { state } = await house.client.runs.get({ params: { run_id: runs.stranger } })
  expect(state).toBe('INPROGRESS')
})

test.each(Object.keys(ABOUT))('%s is answered for no run that is not its own or below', async (name) => {
  const route = named(name)
  const say = (run_id: string) => ask(route, route.path.replace('{run_id}', run_id), JSON.stringify(ABOUT[name]))
  for (const run_id of [runs.parent, runs.sibling, runs.stranger]) expect(await say(run_id)).toBe(404)
  // Of its own it is judged by what it says.
  expect([200, 400, 404, 409]).toContain(await say(runs.own))
})

test('files are kept with its own run alone, and read of its own run and all below it', async () => {
  const upload = (run_id: string) =>
    ask(named('artifacts.upload'), '/agent/artifacts/uploads', JSON.stringify({ run_id, filepath: 'notes.txt' }))
  expect(await upload(runs.own)).toBe(200)
  for (const run_id of [runs.parent, runs.sibling, runs.stranger, runs.grandchild])
    expect(await upload(run_id)).toBe(403)
  const theirs = await house.client.artifacts.upload({ body: { run_id: runs.grandchild, filepath: 'notes.txt' } })
  const confirm = `/agent/artifacts/uploads/${theirs.upload_id}/confirm`
  expect(await ask(named('artifacts.confirm'), confirm, '{}')).toBe(404)
  const uidOf = async (run_id: string) =>
    `/agent/artifacts/${(await sendFile(house.client, { run_id, filepath: 'notes.txt' }, 'seen')).artifact_uid}`
  expect(await ask(named('artifacts.get'), await uidOf(runs.grandchild))).toBe(200)
  expect(await ask(named('artifacts.get'), await uidOf(runs.sibling))).toBe(404)
  expect(await ask(named('artifacts.download'), `${await uidOf(runs.sibling)}/download`)).toBe(404)
})

test('mail goes to its own tree alone, and is read by its own run alone', async () => {
  const letter = { subject: 's', body: 'b' }
  expect(await ask(named('messages.send'), '/agent/messages', JSON.stringify({ to: [runs.stranger], ...letter }))).toBe(
    404,
  )
  expect(
    await ask(named('messages.send'), '/agent/messages', JSON.stringify({ to: [runs.grandchild], ...letter })),
  ).toBe(200)
  const { message_ids } = await house.client.messages.send({ body: { to: [runs.stranger], ...letter } })
  for (const name of ['messages.read', 'messages.delivered']) {
    expect(await ask(named(name), named(name).path.replace('{message_id}', message_ids[0] ?? ''), '{}'), name).toBe(404)
  }
  for (const run_id of [runs.child, runs.stranger]) {
    expect(await ask(named('messages.list'), `/agent/messages/${run_id}`)).toBe(404)
    expect(await ask(named('events.cursor'), `/agent/runs/${run_id}/event-sequence`, '{"sequence":1}')).toBe(404)
  }
  expect(await ask(named('trees.get'), `/agent/runs/${runs.grandchild}/tree`)).toBe(200)
  expect(await ask(named('trees.get'), `/agent/runs/${runs.stranger}/tree`)).toBe(404)
})

test.each(all.filter((route) => route.callers.length > 0 && !ALLOWED.has(route.name)).map((route) => route.name))(
  '%s is refused',
  async (name) => {
    const route = named(name)
    const path = route.path.replace('{run_id}', runs.own).replace('{execution_id}', piece.execution_id)
    expect(await ask(route, path, route.method === 'GET' || route.method === 'DELETE' ? undefined : '{}')).toBe(403)
  },
)

test('lists show what is visible, whatever they are asked for', async () => {
  const family = [runs.own, runs.child, runs.grandchild].sort()
  const listed = async (query: object) => (await client.runs.list({ query })).runs.map(({ run_id }) => run_id).sort()
  expect(await listed({})).toEqual(family)
  expect(await listed({ q: 'visible', state: ['INPROGRESS'], creator: house.owner.user_id })).toEqual(family)
  expect(await listed({ ancestor_run_id: runs.own })).toEqual([runs.child])
  expect(await listed({ ancestor_run_id: runs.child })).toEqual([runs.grandchild])
  const events = await client.events.list({})
  expect([...new Set(events.map(({ run_id }) => run_id))].sort()).toEqual(family)
})

test('streams carry what is visible: replayed from the log, from memory and live', async () => {
  // What a server remembers it has read before this test made the runs a family.
  await poke([runs.own, runs.child, runs.grandchild])
  const forgetful = await house.sibling({ limits: { events_kept: 1 } })
  for (const server of [house.server, forgetful.server]) {
    for (const query of ['since=0', `since=0&ancestor_run_id=${runs.child}&include_self=true`]) {
      const below = [runs.child, runs.grandchild]
      const expected = query.includes('ancestor') ? below : [runs.own, ...below]
      const cut = new AbortController()
      const response = await fetch(`${server.url}${API_PREFIX}/agent/events/stream?${query}`, {
        signal: cut.signal,
        headers: { authorization: `Bearer ${token}` },
      })
      const seen: string[] = []
      const reading = read(response, (event) => seen.push(event.run_id))
      await expect.poll(() => expected.every((run_id) => seen.includes(run_id))).toBe(true)
      const before = seen.length
      await poke([runs.stranger, runs.sibling, runs.parent, runs.child])
      await expect.poll(() => seen.length).toBeGreaterThan(before)
      expect([...new Set(seen)].sort()).toEqual([...expected].sort())
      cut.abort()
      await reading
    }
  }
})

// Last, for it makes one run more.
test('it starts children of its own run alone, and cancels what is below it alone', async () => {
  const create = (body: object) => ask(named('runs.create'), '/agent/runs', JSON.stringify({ prompt: 'x', ...body }))
  await house.database.kysely.updateTable('teams').set({ max_depth: 5 }).execute()
  for (const of of [runs.parent, runs.sibling, runs.child, runs.stranger])
    expect(await create({ parent_run_id: of }), of).toBe(403)
  const { run_id } = await client.runs.create({ body: { prompt: 'x' } })
  expect(await house.client.runs.get({ params: { run_id } })).toMatchObject({
    parent_run_id: runs.own,
    root_run_id: runs.parent,
    source: 'ORCHESTRATION',
  })
  const cancel = (id: string) => ask(named('runs.cancel'), `/agent/runs/${id}/cancel`, '{}')
  for (const id of [runs.own, runs.parent, runs.sibling, runs.stranger]) expect(await cancel(id), id).toBe(404)
  expect(await cancel(run_id)).toBe(200)
  expect((await house.client.runs.get({ params: { run_id } })).state).toBe('CANCELLED')
})

/** Something happens in each of the runs, in this order. */
async function poke(run_ids: string[]): Promise<void> {
  const { sequence } = await house.database.kysely
    .selectFrom('event_counter')
    .select('value as sequence')
    .executeTakeFirstOrThrow()
  const events = run_ids.map((run_id, at) => ({
    sequence: sequence + at + 1,
    team_id: house.owner.team_id,
    event_type: 'run_in_progress',
    run_id,
    occurred_at: new Date(),
  }))
  await house.database.kysely.transaction().execute(async (write) => {
    await write.insertInto('events').values(events).execute()
    await write
      .updateTable('event_counter')
      .set({ value: sequence + events.length })
      .execute()
  })
  house.server.engine.bell.ring('log', {})
}

async function* frames(response: Response): AsyncGenerator<Event> {
  let text = ''
  for await (const bytes of response.body ?? []) {
    text += Buffer.from(bytes).toString()
    const whole = text.split('\n\n')
    text = whole.pop() ?? ''
    for (const frame of whole) {
      const data = /^data: (.*)$/m.exec(frame)?.[1]
      if (data !== undefined) yield Event.parse(JSON.parse(data))
    }
  }
}

/** Until the stream is cut. */
async function read(response: Response, seen: (event: Event) => void): Promise<void> {
  try {
    for await (const event of frames(response)) seen(event)
  } catch (thrown) {
    if (!(thrown instanceof DOMException)) throw thrown
  }
}
