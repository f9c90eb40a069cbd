/** The edges of what runs name, and of HTTP: what is empty, missing, odd or broken. */
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { answered, api_key, ask, NOBODY, refused, url } from './asking.ts'
import { Problem } from './wire.ts'
import { Agent, EnvironmentList, ModelList, Schedule, ScheduleDeleted, ScheduleList } from './wire-named.ts'

const NONE = crypto.randomUUID()
const INVALID = { status: 400, code: 'invalid_request' }

describe('schedules', () => {
  const asked = { name: 'edges', cron_schedule: '0 3 * * *', prompt: 'Tidy up.', enabled: false, agent_config: NOBODY }

  test.each<[string, Record<string, unknown>]>([
    ['no name', { name: undefined }],
    ['a blank name', { name: ' ' }],
    ['no cron', { cron_schedule: undefined }],
    ['six fields', { cron_schedule: '0 0 3 * * *' }],
    ['a nickname', { cron_schedule: '@daily' }],
    ['a minute too late', { cron_schedule: '60 * * * *' }],
    ['a day that never comes', { cron_schedule: '0 0 30 2 *' }],
    ['no prompt', { prompt: undefined }],
    ['an agent that is none', { agent_uid: 'x'.repeat(22) }],
    ['metadata that is none', { metadata: { 'a b': 'c' } }],
  ])('are refused with %s, made and replaced', async (_, more) => {
    const made = await answered(['POST', 'agent/schedules', Schedule, 201], { body: asked })
    expect(await refused('POST', 'agent/schedules', { body: { ...asked, ...more } })).toEqual(INVALID)
    expect(await refused('PUT', `agent/schedules/${made.id}`, { body: { ...asked, ...more } })).toEqual(INVALID)
  })

  test('are enabled where nothing is said, replaced whole, and sorted by name', async () => {
    const { enabled: _, ...silent } = asked
    const made = await answered(['POST', 'agent/schedules', Schedule, 201], {
      body: {
        ...silent,
        metadata: { a: 'b' },
        agent_config: { ...NOBODY, harness: { type: 'claude', model_id: null } },
      },
    })
    expect(made).toMatchObject({
      enabled: true,
      last_spawn_error: null,
      history: { last_ran: null },
      metadata: { a: 'b' },
    })
    expect(made.agent_config).toEqual({ ...NOBODY, harness: { type: 'claude' } })
    const nulls = { enabled: null, agent_config: null, metadata: null, mode: null, team: null, agent_uid: null }
    const bare = await answered(['POST', 'agent/schedules', Schedule, 201], { body: { ...silent, ...nulls } })
    expect(bare).toMatchObject({ enabled: true, agent_config: {}, metadata: {} })
    await answered(['DELETE', `agent/schedules/${bare.id}`, ScheduleDeleted])
    expect(await refused('PUT', `agent/schedules/${made.id}`, { body: silent })).toEqual(INVALID)
    const body = { name: 'Éclair', cron_schedule: ' 5  4 * * MON-FRI ', enabled: false, prompt: 'x' }
    const put = await answered(['PUT', `agent/schedules/${made.id}`, Schedule], { body })
    expect(put).toMatchObject({ name: 'Éclair', cron_schedule: '5 4 * * MON-FRI', agent_config: {}, metadata: {} })
    expect(put.history?.next_run).toBeNull()
    for (const [path, enabled] of [
      ['resume', true],
      ['resume', true],
      ['pause', false],
      ['pause', false],
    ] as const)
      expect(await answered(['POST', `agent/schedules/${made.id}/${path}`, Schedule], { body: 'null' })).toMatchObject({
        enabled,
      })
    const { schedules } = await answered(['GET', 'agent/schedules', ScheduleList])
    const sorted = schedules.map(({ name }) => name.toLowerCase())
    expect(sorted).toEqual([...sorted].sort())
    expect(await answered(['DELETE', `agent/schedules/${made.id}`, ScheduleDeleted])).toEqual({ success: true })
    for (const id of [made.id, NONE, 'none'])
      for (const [method, path] of [
        ['GET', ''],
        ['DELETE', ''],
        ['PUT', ''],
        ['POST', '/pause'],
        ['POST', '/resume'],
      ] as const) {
        const how = method === 'PUT' ? { body } : {}
        expect((await refused(method, `agent/schedules/${id}${path}`, how)).status).toBe(404)
      }
  })
})

describe('agent identities', () => {
  test('a harness is said in part, whole or not at all; empty clears', async () => {
    const made = await answered(['POST', 'agent/identities', Agent, 201], { body: { name: ' Edges ' } })
    expect(made).toMatchObject({
      name: 'Edges',
      available: true,
      description: null,
      base_model: null,
      default_runner_uid: '',
    })
    const put = async (body: unknown) =>
      (await answered(['PUT', `agent/identities/${made.uid}`, Agent], { body })).harness
    expect(await put({ harness: { model_id: 'm' } })).toEqual({ type: 'oz', model_id: 'm' })
    expect(await put({ harness: { type: 'claude', model_id: null } })).toEqual({ type: 'claude' })
    for (const kept of [{}, { harness: null }, { base_harness: null }, 'null'])
      expect(await put(kept)).toEqual({ type: 'claude' })
    expect(await put({ base_harness: 'codex' })).toEqual({ type: 'codex' })
    expect(await put({ harness: { type: '' } })).toBeUndefined()
    for (const wrong of [
      { name: '' },
      { agent_type: 'review' },
      { credential_strategy: 'x' },
      { environment_id: 'none-such' },
    ])
      expect(await refused('PUT', `agent/identities/${made.uid}`, { body: wrong })).toEqual(INVALID)
    const { text: said } = await ask('PUT', `agent/identities/${made.uid}`, { body: { agent_type: 'review' } })
    expect(said).toContain('REVIEW')
    for (const id of ['x'.repeat(22), 'none']) {
      const { status, text: why } = await ask('GET', `agent/identities/${id}`)
      expect([status, why]).toEqual([404, expect.stringMatching(/There is no (agent )?identity/)])
    }
  })
})

test('lists of what runs name take no sort but their own', async () => {
  for (const path of [
    'agent/environments?sort_by=NAME',
    'agent/environments?sort_by=',
    'agent?sort_by=age',
    'agent?refresh=maybe',
  ])
    expect(await refused('GET', path), path).toEqual(INVALID)
  expect(await refused('GET', 'agent?repo=octo/none-such')).toEqual(INVALID)
  await answered(['GET', 'agent/environments?sort_by=last_updated', EnvironmentList])
  await answered(['GET', 'agent/models', ModelList])
})

describe('HTTP', () => {
  test('another method is 405 and told what is allowed; another path is 404', async () => {
    for (const method of ['PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
      const answer = await ask(method, 'agent/runs')
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST, GET'])
    }
    for (const path of ['agent/runs/', 'agent//runs', 'Agent/runs', 'agent/', 'agent/tasks', ''])
      expect((await refused('GET', path)).status, path).toBe(404)
  })

  test('HEAD answers what GET does, without its body', async () => {
    const response = await fetch(`${url}/api/v1/agent/runs?limit=1`, {
      method: 'HEAD',
      headers: { authorization: `Bearer ${api_key}` },
    })
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'application/json',
      '',
    ])
  })

  test('a key is a bearer, in any case of the word, and nothing else', async () => {
    const asked = (authorization: string) => ask('GET', 'agent/runs?limit=1', { key: null, headers: { authorization } })
    expect((await asked(`bearer ${api_key}`)).status).toBe(200)
    for (const wrong of [`Basic ${btoa(`:${api_key}`)}`, api_key, 'Bearer', `Bearer ${api_key}x`]) {
      const answer = await asked(wrong)
      expect([answer.status, answer.headers.get('www-authenticate')], wrong).toEqual([401, 'Bearer'])
    }
  })

  /** What comes back for these bytes, to the end of the connection. */
  async function raw(sent: string): Promise<{ status: number; head: string; body: string }> {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(sent))
    const said = await text(socket)
    const [head = '', body = ''] = said.split('\r\n\r\n')
    return { status: Number(head.split(' ')[1]), head, body }
  }

  test.each([
    [400, 'what is no HTTP', 'HELLO\r\n\r\n'],
    [400, 'no host', 'GET /api/v1/agent/runs HTTP/1.1\r\nConnection: close\r\n\r\n'],
    [400, 'a length that is none', 'POST /api/v1/agent/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n'],
    [400, 'no path', 'OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
    [421, 'another host', 'GET /api/v1/agent/runs HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n'],
    [
      431,
      'a header too long',
      `GET /api/v1/agent/runs HTTP/1.1\r\nHost: localhost\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`,
    ],
  ])('%i for %s is a problem as every other', async (status, _, sent) => {
    const answer = await raw(sent)
    expect(answer.status).toBe(status)
    expect(answer.head.toLowerCase()).toContain('content-type: application/problem+json')
    expect(Problem.parse(JSON.parse(answer.body))).toMatchObject({ status, retryable: false })
  })

  test('a client that offers HTTP/2 is answered as it asked', async () => {
    const { status, body } = await raw(
      `GET /api/v1/agent/runs?limit=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${api_key}\r\n` +
        'Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n',
    )
    expect(status).toBe(200)
    expect(body).toContain('"page_info"')
  })
})
