/** What holds for every route of the contract: a new one is in these tables by itself. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { API_PREFIX, Problem, REQUEST_BYTES_MAX, type Route, routes } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'

const all: Route[] = Object.values(routes).flatMap((group) => Object.values(group) as Route[])
const guarded = all.filter((route) => route.callers.length > 0)
const withBody = all.filter((route) => route.method !== 'GET' && route.method !== 'DELETE')
const wrongKey = `wk-1.${'ab'.repeat(32)}`

let house: House
let run_id: string
let execution_token: string
let execution_id: string
let message_id: string
let environment_uid: string
let identity_uid: string

beforeAll(async () => {
  house = await startHouse({ limits: { wrong_keys_a_minute: 100_000 } })
  const worker = await house.worker()
  const run = await house.client.runs.create({ body: { prompt: 'routes' } })
  run_id = run.run_id
  const piece = await worker.next()
  execution_id = piece.execution_id
  piece.claim()
  await piece.start()
  await piece.append({ kind: 'text', text: 'hello' })
  const sent = await house.client.messages.send({ body: { to: [run_id], subject: 'routes', body: 'hello' } })
  message_id = sent.message_ids[0] ?? ''
  environment_uid = (await house.client.environments.create({ body: { name: 'routes' } })).uid
  identity_uid = (await house.client.identities.create({ body: { name: 'routes' } })).uid
  execution_token = piece.assignment.env_vars.WARP_API_KEY ?? ''
})
afterAll(() => house.close())

/** A key that the route accepts. */
const goodKey = (route: Route) => (route.callers.includes('user') ? house.api_key : execution_token)

type Parts = {
  key?: string | null
  body?: string
  headers?: Record<string, string>
  path?: string
  values?: Record<string, string>
}

async function ask(route: Route, parts: Parts = {}): Promise<Response> {
  const ids = { run_id, execution_id, message_id, environment_uid, identity_uid, batch_id: randomUUID(), version: '1' }
  const values = { ...ids, artifact_uid: randomUUID(), position: '000001.000000001', ...parts.values }
  const path =
    parts.path ??
    route.path.replace(/\{(\w+)\}/g, (_, name: string) => (values as Record<string, string>)[name] ?? name)
  const body = parts.body
  return fetch(house.url + API_PREFIX + path, {
    method: route.method,
    headers: {
      ...(parts.key === null ? {} : { authorization: `Bearer ${parts.key ?? goodKey(route)}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...parts.headers,
    },
    ...(body === undefined ? {} : { body }),
  })
}

async function problemOf(response: Response): Promise<Problem> {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  const problem = Problem.parse(await response.json())
  expect(problem.status).toBe(response.status)
  expect(problem.error).toMatch(/\S/)
  expect(problem.trace_id).toBe(response.headers.get('x-trace-id'))
  expect(JSON.stringify(problem)).not.toMatch(/node_modules|\.ts:\d|select |postgres/i)
  return problem
}

describe.each(guarded.map((route) => [route.name, route] as const))('%s', (_, route) => {
  test('refuses who shows no key', async () => {
    const response = await ask(route, { key: null })
    expect(response.status).toBe(401)
    expect((await problemOf(response)).type).toMatch(/authentication_required$/)
    expect(response.headers.get('www-authenticate')).toBe('Bearer')
  })

  test('refuses a key that it does not know, and one that is no key', async () => {
    for (const key of [wrongKey, 'wk-1.short', 'x', `bx-1.${'0'.repeat(64)}`]) {
      const response = await ask(route, { key })
      expect(response.status).toBe(401)
      await problemOf(response)
    }
  })

  test('refuses a key of a kind that it does not name', async () => {
    const worker_key = (await house.server.engine.access.createKey(house.owner, { name: 'worker', scope: 'worker' }))
      .api_key
    const keys = { user: house.api_key, execution: execution_token, worker: worker_key }
    for (const kind of ['user', 'execution', 'worker'] as const) {
      if (route.callers.includes(kind)) continue
      const response = await ask(route, { key: keys[kind] })
      expect(response.status, kind).toBe(403)
      await problemOf(response)
    }
  })

  test.runIf(route.path.includes('{'))("answers the same for another team's and for unknown ids", async () => {
    const bodies: Record<string, string> = {
      'executions.append': '{"entries":[]}',
      'executions.deltas': '{"deltas":[]}',
      'executions.finish': '{"outcome":{"outcome":"CANCELLED"},"entries":0}',
      'executions.delivered': '{"message_ids":[],"sequence":0}',
      'executions.keep': '{"session_id":"s","entries":0,"files":[]}',
      'events.cursor': '{"sequence":1}',
      'environments.replace': '{"name":"x"}',
      'batches.update': '{"concurrency":1}',
      'plans.revise': '{"message":"x"}',
      'followUps.create': '{"message":"x"}',
      'artifacts.create': '{"filepath":"x","content":"x"}',
    }
    const other = await house.addTeam(`other than ${route.name}`)
    if (route.callers.includes('user')) {
      const response = await ask(route, {
        key: other.api_key,
        ...(withBody.includes(route) ? { body: bodies[route.name] ?? '{}' } : {}),
      })
      expect(response.status).toBe(404)
      expect((await problemOf(response)).type).toMatch(/resource_not_found$/)
    }
    const unknown = randomUUID()
    const uid = unknown.replaceAll('-', '').slice(0, 22)
    const uids = { environment_uid: uid, identity_uid: uid }
    const values = { run_id: unknown, execution_id: unknown, message_id: unknown, artifact_uid: unknown, ...uids }
    const response = await ask(route, {
      values,
      ...(withBody.includes(route) ? { body: bodies[route.name] ?? '{}' } : {}),
    })
    expect(response.status).toBe(404)
    expect((await problemOf(response)).type).toMatch(/resource_not_found$/)
  })

  test.runIf(route.path.includes('{'))('does not find what is no id', async () => {
    for (const wrong of ['nonsense', '%00', "1'--", 'null', '../runs']) {
      const part = encodeURIComponent(wrong)
      const values = {
        run_id: part,
        execution_id: part,
        message_id: part,
        environment_uid: part,
        identity_uid: part,
        batch_id: part,
        artifact_uid: part,
      }
      const response = await ask(route, { values })
      expect(response.status, wrong).toBe(404)
      await problemOf(response)
    }
  })
})

describe.each(withBody.map((route) => [route.name, route] as const))('the body of %s', (_, route) => {
  test('that is no JSON is refused with the place', async () => {
    const response = await ask(route, { body: '{"prompt": "x",}' })
    expect(response.status).toBe(400)
    const problem = await problemOf(response)
    expect(problem.type).toMatch(/invalid_request$/)
    expect(problem.error).toMatch(/not valid JSON.*(position|ends too early)/)
  })

  test('of another type of content is refused', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
      const response = await ask(route, { body: '{}', headers: { 'content-type': type } })
      expect(response.status, type).toBe(415)
      await problemOf(response)
    }
  })

  test('that is compressed is refused', async () => {
    const response = await ask(route, { body: '{}', headers: { 'content-encoding': 'gzip' } })
    expect(response.status).toBe(415)
  })

  test('that is too large is refused', async () => {
    const most = route.body_bytes_max ?? REQUEST_BYTES_MAX
    const response = await ask(route, { body: `{"x":"${'y'.repeat(most)}"}` }).catch((error: unknown) => error)
    // The server may close the connection before all of it was sent; then fetch sees no answer.
    if (response instanceof Response) {
      expect(response.status).toBe(413)
      expect((await problemOf(response)).error).toContain(String(most))
    } else expect(String((response as Error).cause)).toMatch(/EPIPE|ECONNRESET|socket/i)
  })

  test('that nests too deep is refused', async () => {
    const response = await ask(route, { body: `{"x":${'['.repeat(100_000)}${']'.repeat(100_000)}}` })
    expect(response.status).toBe(400)
    expect((await problemOf(response)).error).toMatch(/nested deeper/)
  })

  test('of a wrong shape never ends in a bug', async () => {
    for (const body of [
      'null',
      '[]',
      '"text"',
      '7',
      'true',
      '{"__proto__":{"x":1}}',
      '{"entries":{},"deltas":{},"prompt":[],"outcome":5,"api_key":5}',
    ]) {
      const response = await ask(route, { body })
      expect(response.status, `${body}: ${await response.clone().text()}`).toBeLessThan(500)
    }
  })
})

test('a wrong field is named with its pointer and a sentence', async () => {
  const response = await ask(routes.runs.create, {
    body: JSON.stringify({ prompt: 7, config: { environment: { repositories: [{ url: '' }] } } }),
  })
  expect(response.status).toBe(400)
  const problem = await problemOf(response)
  expect(problem.error).toMatch(/^`prompt` is not valid: .+ \(and 1 more\)\.$/)
  expect(problem.errors?.map((error) => error.pointer)).toEqual(['/prompt', '/config/environment/repositories/0/url'])
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
  const worker = await house.worker({ worker_host: 'ender' })
  await house.client.runs.create({ body: { prompt: 'end', config: { worker_host: 'ender' } } })
  // What earlier tests had offered to workers that have gone must lapse first.
  const piece = await worker.next(25_000)
  await piece.work(1)
  await expect(piece.runner.access.whoami()).rejects.toMatchObject({ code: 'authentication_required' })
  await expect(piece.runner.runs.list({})).rejects.toMatchObject({ code: 'authentication_required' })
  expect(await piece.finish()).toEqual({ state: 'SUCCEEDED' })
  await expect(piece.append({ kind: 'text', text: 'late' })).rejects.toMatchObject({
    code: 'conflict',
    retryable: false,
  })
}, 40_000)

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
