/** The two lists at the end of the wire description: what is accepted liberally, and what is emitted strictly. */
import OzAPI from 'oz-agent-sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { API, answered, answerOf, ask, create, fetchFrom, NOBODY, ownWorker, refused, runOf, sdk } from './asking.ts'
import { CODES, CreatedRun, Events, MessageHeaders, Problem, RunItem, RunList } from './wire.ts'

const NONE = crypto.randomUUID()
let worker: Awaited<ReturnType<typeof ownWorker>>
beforeAll(async () => {
  worker = await ownWorker()
})
afterAll(() => worker.close())

const waiting = (more: Record<string, unknown> = {}) => create({ prompt: 'wait', config: NOBODY, ...more })

describe('accepted', () => {
  test.each([
    ['nothing', {}],
    ['a literal null', { body: 'null' }],
    ['an empty object', { body: '{}' }],
    ['null with a charset', { body: 'null', headers: { 'content-type': 'application/json; charset=utf-8' } }],
  ])('%s as the body of a cancel, on both of its paths', async (_, how) => {
    for (const of of ['runs', 'tasks']) {
      const run_id = await waiting()
      expect(await answered(['POST', `agent/${of}/${run_id}/cancel`, z.string()], how)).toBe(run_id)
    }
  })

  test('fields that nobody knows, at every depth', async () => {
    const body = {
      prompt: 'wait',
      surprise: { deep: [1, null] },
      runtime_skills: ['AAAA'],
      referenced_attachments: ['BBBB'],
      snapshot_disabled: true,
      config: { ...NOBODY, novelty: true, harness: { type: 'oz', flavour: 'new' } },
    }
    const made = await answered(['POST', 'agent/runs', CreatedRun], { body })
    await runOf(made.run_id)
  })

  test('both paths that make runs', async () => {
    for (const path of ['agent/runs', 'agent/run'])
      await answered(['POST', path, CreatedRun], { body: { prompt: 'wait', config: NOBODY } })
  })

  test.each(['IN_PROGRESS', 'INPROGRESS'])('%s as a state of the list', async (state) => {
    const piece = await worker.take()
    piece.claim()
    await piece.start()
    const { runs } = await answered(['GET', `agent/runs?limit=500&state=${state}`, RunList])
    expect(runs.find(({ run_id }) => run_id === piece.run_id)?.state).toBe('INPROGRESS')
    await piece.finish()
    piece.complete()
  })

  test.each([
    ['repeated', (a: string, b: string) => `run_ids=${a}&run_ids=${b}`],
    ['with brackets', (a: string, b: string) => `run_ids[]=${a}&run_ids[]=${b}`],
    ['with brackets in percent', (a: string, b: string) => `run_ids%5B%5D=${a}&run_ids%5b%5d=${b}`],
    ['once', (a: string, b: string) => `run_ids=${a}&run_ids[]=${b}`],
  ])('arrays in a query, %s', async (_, spell) => {
    const [a, b] = [await waiting(), await waiting()]
    await ask('POST', `agent/runs/${a}/cancel`)
    await ask('POST', `agent/runs/${b}/cancel`)
    const events = await answered(['GET', `agent/events?${spell(a, b)}`, Events])
    expect(new Set(events.map(({ run_id }) => run_id))).toEqual(new Set([a, b]))
  })

  test.each([
    'state=QUEUED&state=CANCELLED',
    'state[]=QUEUED&state[]=CANCELLED',
    'state%5B%5D=QUEUED&state%5B%5D=CANCELLED',
  ])('several states as %s', async (query) => {
    const mark = crypto.randomUUID()
    const [a, b] = [await waiting({ metadata: { mark } }), await waiting({ metadata: { mark } })]
    await ask('POST', `agent/runs/${a}/cancel`)
    for (const pair of [`metadata[mark]=${mark}`, `metadata%5Bmark%5D=${mark}`]) {
      const { runs } = await answered(['GET', `agent/runs?${query}&${pair}`, RunList])
      expect(runs.map(({ run_id }) => run_id).sort()).toEqual([a, b].sort())
    }
  })

  test('X-Oz-Api-Source names the source of a run', async () => {
    const body = { prompt: 'wait', config: NOBODY }
    for (const source of ['GITHUB_ACTION', 'CLI', 'WEB_APP']) {
      const made = await answered(['POST', 'agent/runs', CreatedRun], { body, headers: { 'x-oz-api-source': source } })
      expect((await runOf(made.run_id)).source).toBe(source)
    }
    expect((await runOf(await waiting())).source).toBe('API')
  })
})

describe('emitted', () => {
  test('a run always has task_id, is_sandbox_running and one agent_config', async () => {
    const run_id = await waiting()
    const { json } = await ask('GET', `agent/runs/${run_id}`)
    expect(RunItem.parse(json)).toMatchObject({ task_id: run_id, is_sandbox_running: false })
    expect(Object.keys(json ?? {}).filter((name) => /^agent_config/.test(name))).toEqual(['agent_config'])
  })

  test('a list always says whether there is more, also of nothing', async () => {
    const path = `agent/runs?name=${NONE}`
    expect(await answered(['GET', path, RunList])).toEqual({ runs: [], page_info: { has_next_page: false } })
  })

  test('messages and events are bare arrays', async () => {
    const run_id = await waiting()
    expect(await answered(['GET', `agent/messages/${run_id}`, MessageHeaders])).toEqual([])
    expect(Array.isArray((await ask('GET', `agent/events?run_ids=${run_id}`)).json)).toBe(true)
  })

  test.each<[string, string, number, keyof typeof CODES, Parameters<typeof ask>[2]?]>([
    ['GET', 'no/such/route', 404, 'resource_not_found'],
    ['GET', '_stainless_unknown_path', 404, 'resource_not_found'],
    ['GET', '_stainless_unknown_path', 404, 'resource_not_found', { key: null }],
    ['GET', 'agent/runs/none', 404, 'resource_not_found'],
    ['GET', 'agent/runs', 401, 'authentication_required', { key: null }],
    ['GET', 'agent/runs', 401, 'authentication_required', { key: 'nonsense' }],
    ['POST', 'agent/runs', 400, 'invalid_request', { body: {} }],
    ['POST', 'agent/runs', 400, 'invalid_request', { body: '{"prompt":' }],
    ['POST', 'agent/runs', 400, 'invalid_request', { body: 'null' }],
    ['GET', 'agent/runs?cursor=nonsense', 400, 'invalid_request'],
  ])('%s %s is %i %s, with every field of a problem', async (method, path, status, code, how) => {
    const answer = await ask(method, path, how)
    const problem = Problem.parse(answer.json)
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/)
    expect([answer.status, problem.status, problem.type.split('/').at(-1)]).toEqual([status, status, code])
    expect(CODES[code]).toContain(status)
    expect(problem).toMatchObject({ retryable: false, trace_id: expect.any(String), instance: expect.any(String) })
    expect(problem.error).toBe(problem.detail)
  })

  test('what is refused for now says when to ask again, and whether that is any use', async () => {
    const knock = (tries: number) =>
      fetchFrom('127.0.0.77', `${API}/agent/runs`, `wk-1.${String(tries).padStart(64, '0')}`)
    let response = await knock(0)
    for (let tries = 1; tries < 1000 && response.status === 401; tries++) response = await knock(tries)
    const answer = await answerOf(response)
    expect(answer.status).toBe(429)
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(answer.headers.get('x-should-retry')).toBe('true')
    expect(Problem.parse(answer.json)).toMatchObject({ status: 429, retryable: true })
    const oz = sdk({ maxRetries: 0, fetch: () => knock(0) })
    await expect(oz.agent.runs.list()).rejects.toBeInstanceOf(OzAPI.RateLimitError)
  })

  test('a conflict that asking again does not mend says so', async () => {
    const name = `twice-${NONE}`
    await ask('POST', 'agent/environments', { body: { name } })
    const again = await ask('POST', 'agent/environments', { body: { name } })
    expect([again.status, again.headers.get('x-should-retry')]).toEqual([409, 'false'])
    expect(await refused('POST', 'agent/environments', { body: { name } })).toEqual({ status: 409, code: 'conflict' })
  })
})
