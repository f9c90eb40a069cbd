/** Where secrets meet what a worker has itself: in the environment of a harness, and in the broker for models. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Assignment, GivenSecrets, ModelKey } from '../src/contract/index.ts'
import { harnessEnvironment, surroundingsBeside, withLogin } from '../src/runner/environment.ts'
import { type Broker, openBroker } from '../src/worker/broker.ts'
import { modelEnvironment, readModels } from '../src/worker/models.ts'
import { sha256 } from '../src/worker/sandboxes/record.ts'
import { openOnLoopback } from './house/loopback.ts'
import type { Loopback } from './house/port.ts'

describe('the environment of a harness', () => {
  const environment = (worker: Record<string, string>, secrets: Partial<GivenSecrets>, variables = {}) => {
    const assignment = {
      run_id: 'run',
      execution_id: 'execution',
      number: 1,
      parent_run_id: null,
      config: { harness: { type: 'claude' }, environment: { repositories: [], setup_commands: [], variables } },
      secrets: { variables: {}, chosen: {}, hidden: [], problem: null, ...secrets },
    } as unknown as Assignment // The rest of an assignment has nothing to do with it.
    return harnessEnvironment(assignment, worker, 'managed', '/work')
  }

  test('has the worker’s before secrets, those that the run names before the worker’s, and its own variables first', () => {
    const worker = { BATON_PASS_ONE: 'worker', BATON_PASS_TWO: 'worker', BATON_PASS_THREE: 'worker' }
    const env = environment(
      worker,
      { variables: { ONE: 'secret', FOUR: 'secret', FIVE: 'secret' }, chosen: { TWO: 'chosen' } },
      { THREE: 'run', FIVE: 'run' },
    )
    expect(env).toMatchObject({ ONE: 'worker', TWO: 'chosen', THREE: 'run', FOUR: 'secret', FIVE: 'run' })
  })

  test('has variables that are called as what all objects have', () => {
    const variables = { constructor: 'secret', toString: 'secret' }
    const env = environment({}, { variables } as unknown as Partial<GivenSecrets>)
    expect(Object.entries(env)).toEqual(expect.arrayContaining(Object.entries(variables)))
  })

  test('never has the key of one and the address of the other', () => {
    const worker = { OPENAI_API_KEY: 'worker', ANTHROPIC_BASE_URL: 'http://broker', ANTHROPIC_API_KEY: 'token' }
    const openai = { OPENAI_API_KEY: 'secret', OPENAI_BASE_URL: 'http://secret' }
    const kept = environment(worker, { variables: openai })
    expect([kept.OPENAI_API_KEY, kept.OPENAI_BASE_URL]).toEqual(['worker', undefined])
    const chosen = environment(worker, { chosen: { ANTHROPIC_API_KEY: 'chosen' } })
    expect([chosen.ANTHROPIC_API_KEY, chosen.ANTHROPIC_BASE_URL]).toEqual(['chosen', undefined])
    const bedrock = environment(worker, {
      chosen: { AWS_BEARER_TOKEN_BEDROCK: 'chosen', AWS_REGION: 'eu', CLAUDE_CODE_USE_BEDROCK: '1' },
    })
    expect(bedrock).not.toHaveProperty('ANTHROPIC_API_KEY')
    expect(bedrock).not.toHaveProperty('ANTHROPIC_BASE_URL')
    expect(bedrock).toMatchObject({ CLAUDE_CODE_USE_BEDROCK: '1', AWS_REGION: 'eu' })
  })

  test('has a role of AWS before keys that nobody chose for it, and no address of other models', () => {
    const role = { AWS_ROLE_ARN: 'arn', AWS_WEB_IDENTITY_TOKEN_FILE: '/token' }
    const env = { AWS_ACCESS_KEY_ID: 'key', AWS_REGION: 'eu', ANTHROPIC_BASE_URL: 'http://broker', OZ_RUN_ID: 'run' }
    const assignment = (own: Record<string, string>, chosen = {}) =>
      ({
        config: { environment: { repositories: [], setup_commands: [], variables: own } },
        secrets: { variables: {}, chosen, hidden: [], problem: null },
      }) as unknown as Assignment // The rest of an assignment has nothing to do with it.
    expect(withLogin(env, assignment({}), {})).toEqual(env)
    const { AWS_ACCESS_KEY_ID: _, ...rest } = env
    expect(withLogin(env, assignment({}), role)).toEqual({ ...rest, ...role })
    expect(withLogin(env, assignment({ AWS_ACCESS_KEY_ID: 'key', OZ_RUN_ID: 'x' }), role)).toEqual({ ...env, ...role })
    expect(withLogin(env, assignment({}, { AWS_ACCESS_KEY_ID: 'key' }), role)).toEqual({ ...env, ...role })
    const models = { ...role, AWS_REGION: 'us', CLAUDE_CODE_USE_BEDROCK: '1' }
    expect(withLogin(env, assignment({}), models)).toEqual({ OZ_RUN_ID: 'run', ...models })
    const own = { AWS_ROLE_ARN: 'own' }
    expect(withLogin({ ...env, ...own }, assignment(own), role)).toMatchObject(own)
  })

  test('has the workload token of its own run alone', () => {
    expect(environment({ WARP_WORKLOAD_TOKEN: 'own' }, {}).WARP_WORKLOAD_TOKEN).toBe('own')
    expect(surroundingsBeside({ WARP_WORKLOAD_TOKEN: 'own' })).not.toHaveProperty('WARP_WORKLOAD_TOKEN')
  })
})

describe('the broker', () => {
  const TOKEN = 'execution-token-0123456789abcdef'
  let folder: string
  let upstream: Loopback
  let seen: { url: string | undefined; key: unknown; authorization: unknown }[]
  let broker: Broker

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'broker-'))
    seen = []
    upstream = await openOnLoopback(({ url, headers }, _body, response) => {
      seen.push({ url, key: headers['x-api-key'], authorization: headers.authorization })
      response.end('{}')
    })
  })
  afterEach(async () => {
    await broker.close()
    await upstream.close()
    await rm(folder, { recursive: true, force: true })
  })

  async function open(env: Record<string, string>, awaited: string[] = []): Promise<Broker> {
    const environment = { ANTHROPIC_BASE_URL: `${upstream.url}/a`, OPENAI_BASE_URL: `${upstream.url}/o/v1`, ...env }
    const log = pino({ level: 'silent' })
    broker = await openBroker({ models: readModels(environment), state_dir: folder, log, environment })
    broker.admit('execution', sha256(TOKEN), awaited)
    return broker
  }
  const key = (more: Partial<ModelKey> = {}): ModelKey => ({
    provider: 'anthropic',
    api_key: 'secret-key',
    chosen: false,
    ...more,
  })
  const ask = (path = '/anthropic/v1/messages') =>
    fetch(broker.url + path, { method: 'POST', headers: { authorization: `Bearer ${TOKEN}` }, body: '{}' })

  test('uses the key of an execution where the worker has none, and shows the execution its token alone', async () => {
    await open({})
    expect((await ask()).status).toBe(404)
    broker.give('execution', [key()])
    expect((await ask()).status).toBe(200)
    expect(seen).toMatchObject([{ url: '/a/v1/messages', key: 'secret-key' }])
    const models = broker.modelsOf('execution')
    expect(modelEnvironment(TOKEN, { url: broker.url, models })).toEqual({
      ANTHROPIC_BASE_URL: `${broker.url}/anthropic`,
      ANTHROPIC_API_KEY: TOKEN,
    })
    expect(JSON.stringify(models)).not.toContain('secret-key')
    expect(broker.modelsOf('another')).toEqual([])
  })

  test('uses the worker’s own before it, but for one that the run names', async () => {
    await open({ ANTHROPIC_API_KEY: 'worker-key' })
    broker.give('execution', [key()])
    await ask()
    broker.give('execution', [key({ chosen: true })])
    await ask()
    expect(seen.map((one) => one.key)).toEqual(['worker-key', 'secret-key'])
  })

  test('asks where the secret says', async () => {
    await open({ OPENAI_API_KEY: 'worker-key' })
    const openai = key({ provider: 'openai', chosen: true, base_url: `${upstream.url}/own/v1/` })
    broker.give('execution', [openai])
    await ask('/openai/v1/responses')
    expect(seen).toMatchObject([{ url: '/own/v1/responses', authorization: 'Bearer secret-key' }])
  })

  test('of a worker that was started anew waits for the key instead of taking another', async () => {
    await open({ ANTHROPIC_API_KEY: 'worker-key' }, ['anthropic'])
    const early = await ask()
    expect([early.status, seen.length]).toEqual([503, 0])
    broker.give('execution', [key({ chosen: true })])
    expect((await ask()).status).toBe(200)
    expect(seen.map((one) => one.key)).toEqual(['secret-key'])
  })
})
