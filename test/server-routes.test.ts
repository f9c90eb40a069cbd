/** What holds for every route of the contract, whoever asks and whatever it names: a new one is in these tables by itself. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Problem, type Route, routes } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'
import {
  ask as askAt,
  bodyOf,
  fill,
  guarded,
  named,
  namesIn,
  newKeyring,
  OPEN,
  openStage,
  type Parts,
  paramsOf,
  personalOf,
  type Stage,
  table,
  unknownFor,
  valuesFor,
  withBody,
} from './house/route-table.ts'

const wrongKey = `wk-1.${'ab'.repeat(32)}`

let house: House
let stage: Stage
let run_id: string
let values: Record<string, string>
/** What each kind of caller shows: of the first team, and of another. */
let keys: Record<'user' | 'execution' | 'worker', string>
let others: Record<'user' | 'execution', string>
/** Of the first team, too: one who may only look, and an agent. */
let viewer: string
let agent: string
/** What is personal to one of the first team. */
let personal: Record<string, string>

const tokenOf = ({ piece }: Stage) => piece.assignment.env_vars.WARP_API_KEY ?? ''

beforeAll(async () => {
  // Offers that nobody takes are not to keep what a test waits for from being offered.
  const keyring = await newKeyring()
  house = await startHouse({ keyring, limits: { wrong_keys_a_minute: 100_000 }, max_concurrent_runs: 10_000 })
  stage = await openStage(house, house)
  run_id = stage.piece.run_id
  values = await fill(stage)
  const worker = await house.server.engine.access.createKey(house.owner, { name: 'worker', scope: 'worker' })
  keys = { user: house.api_key, execution: tokenOf(stage), worker: worker.api_key }
  viewer = (await house.addMember('viewer', 'viewer')).api_key
  const made = { name: 'agent', agent_uid: values.identity_uid ?? '', expires_at: null }
  agent = (await house.client.apiKeys.create({ body: made })).api_key
  const person = await house.addMember('personal', 'member')
  personal = await fill(await openStage(house, person, { team: false }))
  const other = await house.addTeam('another')
  others = { user: other.api_key, execution: tokenOf(await openStage(house, other)) }
})
afterAll(() => house.close())

/** A key that the route accepts. */
const goodKey = (route: Route) => (route.callers.includes('user') ? keys.user : keys.execution)

const ask = (route: Route, { key = goodKey(route), ...parts }: Partial<Parts> = {}) =>
  askAt(house.url, route, { key, ...parts, values: { ...valuesFor(route, values), ...parts.values } })

/** With a body that it accepts, where it takes one. */
const askWell = (route: Route, parts: Partial<Parts> = {}) =>
  ask(route, { ...(withBody.includes(route) ? { body: JSON.stringify(bodyOf(route)) } : {}), ...parts })

async function problemOf(response: Response): Promise<Problem> {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  const problem = Problem.parse(await response.json())
  expect(problem.status).toBe(response.status)
  expect(problem.error).toMatch(/\S/)
  expect(problem.trace_id).toBe(response.headers.get('x-trace-id'))
  expect(JSON.stringify(problem)).not.toMatch(/node_modules|\.ts:\d|select |postgres/i)
  return problem
}

/** All that an answer says, but for the ids that were asked for and what is of this one request. */
async function said(response: Response, asked: string[]): Promise<unknown> {
  const { status, headers } = response
  let text = await response.text()
  for (const id of asked) text = text.replaceAll(id, '<asked>')
  text = text.replace(/"trace_id":"[^"]+"/, '').replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '<id>')
  return { status, type: headers.get('content-type'), again: headers.get('x-should-retry'), text }
}

test('the routes that take no credentials are known, each with its reason', () => {
  const open = table.filter((route) => route.callers.length === 0).map((route) => route.name)
  expect(open.sort(), 'Add it to OPEN in test/house/route-table.ts with the reason.').toEqual(Object.keys(OPEN).sort())
})

describe.each(named(guarded))('%s', (_, route) => {
  test('refuses who shows no key, by each of its paths', async () => {
    for (const path of [undefined, ...(route.aliases ?? [])]) {
      const response = await ask(route, { key: null, ...(path === undefined ? {} : { path }) })
      expect(response.status).toBe(401)
      expect((await problemOf(response)).type).toMatch(/authentication_required$/)
      expect(response.headers.get('www-authenticate')).toBe('Bearer')
    }
  })

  test('refuses a key that it does not know, and one that is no key', async () => {
    for (const key of [wrongKey, 'wk-1.short', 'x', `bx-1.${'0'.repeat(64)}`]) {
      const response = await ask(route, { key })
      expect(response.status).toBe(401)
      await problemOf(response)
    }
  })

  test('refuses a key of a kind that it does not name', async () => {
    for (const kind of ['user', 'execution', 'worker'] as const) {
      if (route.callers.includes(kind)) continue
      const response = await ask(route, { key: keys[kind] })
      expect(response.status, kind).toBe(403)
      await problemOf(response)
    }
  })

  test.runIf(route.callers.includes('user'))('is open to who may only look exactly if it says so', async () => {
    const response = await askWell(route, { key: viewer })
    if (route.role === 'viewer') expect(response.status).not.toBe(403)
    else {
      expect(response.status).toBe(403)
      expect((await problemOf(response)).error).toContain(`the role ${route.role}`)
    }
    await response.body?.cancel().catch(() => undefined)
  })

  test.runIf(route.people || route.role === 'admin' || route.role === 'owner')('refuses an agent', async () => {
    const response = await askWell(route, { key: agent })
    expect(response.status).toBe(403)
    expect((await problemOf(response)).type).toMatch(/not_authorized$/)
  })

  const params = paramsOf(route)

  test.runIf(params.length > 0)('does not find an id that nobody has', async () => {
    const mine = valuesFor(route, values)
    const unknown = unknownFor(route)
    for (const names of params.length > 1 ? [params, ...params.map((one) => [one])] : [params]) {
      const asked = Object.fromEntries(names.map((one) => [one, unknown[one] ?? '']))
      // What is no id by itself is the same in both.
      if (names.every((one) => asked[one] === mine[one])) continue
      const response = await askWell(route, { values: asked })
      expect(response.status, JSON.stringify(asked)).toBe(404)
      expect((await problemOf(response)).type).toMatch(/resource_not_found$/)
    }
  })

  test.runIf(params.length > 0)("answers another team's ids as those that nobody has", async () => {
    for (const kind of ['user', 'execution'] as const) {
      if (!route.callers.includes(kind)) continue
      const mine = valuesFor(route, values)
      const unknown = { ...mine, ...unknownFor(route) }
      const asked = await askWell(route, { key: others[kind] })
      if (kind === 'user') expect(asked.status).toBe(404)
      else expect([403, 404]).toContain(asked.status)
      const absent = await askWell(route, { key: others[kind], values: unknown })
      expect(await said(asked, Object.values(mine)), kind).toEqual(await said(absent, Object.values(unknown)))
    }
  })

  test.runIf(personalOf(route).length > 0 && route.callers.includes('user'))(
    'answers what is personal to a colleague as what nobody has',
    async () => {
      const theirs = valuesFor(route, personal)
      const unknown = { ...theirs, ...unknownFor(route) }
      const asked = await askWell(route, { values: theirs })
      const absent = await askWell(route, { values: unknown })
      expect(asked.status).toBe(404)
      expect(await said(asked, Object.values(theirs))).toEqual(await said(absent, Object.values(unknown)))
    },
  )

  test.runIf(params.length > 0)('does not find what is no id', async () => {
    for (const wrong of ['nonsense', '%00', "1'--", 'null', '../runs']) {
      const part = encodeURIComponent(wrong)
      const response = await askWell(route, { values: Object.fromEntries(params.map((name) => [name, part])) })
      expect(response.status, wrong).toBe(404)
      await problemOf(response)
    }
  })

  const query = namesIn(route.query)
  test.runIf(query.length > 0)("is told of another team's runs in a query as of none", async () => {
    for (const { name } of query) {
      const unknown = randomUUID()
      const asked = await ask(route, { key: others.user, query: `${name}=${run_id}` })
      const absent = await ask(route, { key: others.user, query: `${name}=${unknown}` })
      expect(await said(asked, [run_id]), name).toEqual(await said(absent, [run_id, unknown]))
    }
  })

  const body = withBody.includes(route) && params.length === 0 ? namesIn(route.body) : []
  test.runIf(body.length > 0 && route.callers.includes('user'))(
    "is told of another team's runs in a body as of none",
    async () => {
      for (const { name, several } of body) {
        const tell = async (id: string) => {
          const sent = { ...(bodyOf(route) as object), [name]: several ? [id] : id }
          return said(await ask(route, { key: others.user, body: JSON.stringify(sent) }), [id])
        }
        expect(await tell(run_id), name).toEqual(await tell(randomUUID()))
      }
    },
  )
})

test('aliases answer the same as what they stand for', async () => {
  const created = await ask(routes.runs.create, { path: '/agent/run', body: '{"prompt":"by the old name"}' })
  expect(created.status).toBe(200)
  const { run_id: made } = (await created.json()) as { run_id: string }
  const cancelled = await ask(routes.runs.cancel, { path: `/agent/tasks/${made}/cancel` })
  expect(await cancelled.json()).toBe(made)
})

test('"no body" is understood as nothing, as null and as an empty object', async () => {
  for (const body of [undefined, 'null', '{}', '']) {
    const { run_id: made } = await house.client.runs.create({ body: { prompt: 'to cancel' } })
    const response = await ask(routes.runs.cancel, {
      values: { run_id: made },
      ...(body === undefined ? {} : { body }),
    })
    expect(response.status, String(body)).toBe(200)
  }
})

test('arrays in a query may be repeated, spelled with brackets or given once', async () => {
  const other = await house.client.runs.create({ body: { prompt: 'another' } })
  const count = async (query: string) =>
    ((await (await ask(routes.events.list, { path: `/agent/events?${query}` })).json()) as unknown[]).length
  const one = await count(`run_ids=${run_id}`)
  const both = await count(`run_ids=${run_id}&run_ids=${other.run_id}`)
  expect(one).toBeGreaterThan(0)
  expect(both).toBeGreaterThan(one)
  expect(await count(`run_ids[]=${run_id}&run_ids[]=${other.run_id}`)).toBe(both)
  expect(await count(`run_ids%5B%5D=${run_id}`)).toBe(one)
  const states = await ask(routes.runs.list, { path: '/agent/runs?state=INPROGRESS&state=in-progress' })
  expect(states.status).toBe(200)
})

test('a wrong query value is refused by name', async () => {
  for (const query of [
    'limit=0',
    'limit=501',
    'limit=many',
    'state=LOST',
    'limit=5&limit=6',
    'cursor=abc',
    'created_after=yesterday',
  ]) {
    const response = await ask(routes.runs.list, { path: `/agent/runs?${query}` })
    expect(response.status, query).toBe(400)
    await problemOf(response)
  }
})

test('an unknown path is not found, and another method is told what is allowed', async () => {
  for (const path of [
    '/_stainless_unknown_path',
    '/api/v1/_stainless_unknown_path',
    '/api/v2/agent/runs',
    '/api/v1/agent/runs/',
  ]) {
    const response = await fetch(house.url + path)
    expect(response.status, path).toBe(404)
    await problemOf(response)
  }
  const wrong = await fetch(`${house.url}/api/v1/agent/runs`, { method: 'DELETE' })
  expect(wrong.status).toBe(405)
  expect(wrong.headers.get('allow')?.split(', ').sort()).toEqual(['GET', 'POST'])
  await problemOf(wrong)
})

test('a refusal that must not be repeated says so to clients that repeat every 409', async () => {
  const { run_id: queued } = await house.client.runs.create({ body: { prompt: 'not yet' } })
  const response = await ask(routes.runs.retry, { values: { run_id: queued } })
  expect(response.status).toBe(409)
  expect(response.headers.get('x-should-retry')).toBe('false')
  expect((await problemOf(response)).retryable).toBe(false)
})

test('a hundred creates with one idempotency key at once make one run', async () => {
  const create = () => ask(routes.runs.create, { body: '{"prompt":"once"}', headers: { 'idempotency-key': 'the-one' } })
  const answers = await Promise.all(Array.from({ length: 100 }, create))
  expect(answers.map((answer) => answer.status)).toEqual(Array(100).fill(200))
  const made = new Set(
    await Promise.all(answers.map(async (answer) => ((await answer.json()) as { run_id: string }).run_id)),
  )
  expect(made.size).toBe(1)
  expect(answers.filter((answer) => answer.headers.get('idempotency-replayed') === 'true')).toHaveLength(99)
  const different = await ask(routes.runs.create, {
    body: '{"prompt":"twice"}',
    headers: { 'idempotency-key': 'the-one' },
  })
  expect(different.status).toBe(422)
}, 30_000)

test("a runner's token is worth nothing once its execution has ended, but for repeating its end", async () => {
  const worker = await house.worker({ worker_host: 'ender', capacity: 10_000 })
  const asked = await house.client.runs.create({ body: { prompt: 'end', config: { worker_host: 'ender' } } })
  let piece = await worker.next()
  while (piece.run_id !== asked.run_id) piece = await worker.next()
  await piece.work(1)
  await expect(piece.runner.access.whoami()).rejects.toMatchObject({ code: 'authentication_required' })
  await expect(piece.runner.runs.list({})).rejects.toMatchObject({ code: 'authentication_required' })
  expect(await piece.finish()).toEqual({ state: 'SUCCEEDED' })
  await expect(piece.append({ kind: 'text', text: 'late' })).rejects.toMatchObject({
    code: 'conflict',
    retryable: false,
  })
})

test('a team sees nothing of another, whatever it says', async () => {
  const other = await house.addTeam('outsiders')
  expect(await other.client.runs.list({})).toMatchObject({ runs: [] })
  expect(await other.client.events.list({})).toEqual([])
  expect(await other.client.workers.list()).toEqual({ workers: [] })
  await expect(other.client.events.list({ query: { run_ids: [run_id] } })).rejects.toMatchObject({ status: 404 })
  const forged = await fetch(`${house.url}/api/v1/agent/runs?team_id=${house.owner.team_id}`, {
    headers: { authorization: `Bearer ${other.api_key}`, 'x-team-id': house.owner.team_id },
  })
  expect(await forged.json()).toMatchObject({ runs: [] })
})
