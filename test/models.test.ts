/** Models: what a worker's providers list, as the server answers it. The providers are real HTTP on the loopback. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { askModels } from '../src/worker/model-lists.ts'
import { readModels } from '../src/worker/models.ts'
import { type House, startHouse } from './house/house.ts'
import { openOnLoopback } from './house/loopback.ts'
import type { Loopback } from './house/port.ts'
import { until } from './house/processes.ts'

const ANSWERS: Record<string, unknown> = {
  '/anthropic/v1/models': { data: [{ id: 'claude-opus-9', display_name: 'Claude Opus 9', type: 'model' }] },
  '/openai/models': { data: [{ id: 'gpt-9' }, { id: 'text-embedding-3' }, { id: 'gpt-9-audio-preview' }] },
  '/gemini/v1beta/models': {
    models: [
      { name: 'models/gemini-9-pro', displayName: 'Gemini 9 Pro', supportedGenerationMethods: ['generateContent'] },
      { name: 'models/gemini-embedding-9', supportedGenerationMethods: ['embedContent'] },
    ],
  },
  '/custom/models': { data: [{ id: 'llama-local' }] },
}

let providers: Loopback
let base: string
let house: House
const seen: { path: string; headers: Record<string, unknown> }[] = []

beforeAll(async () => {
  providers = await openOnLoopback(({ url = '', headers }, _body, response) => {
    const path = url.split('?')[0] ?? ''
    seen.push({ path, headers })
    const status = path.startsWith('/status/') ? Number(path.split('/')[2]) : ANSWERS[path] === undefined ? 404 : 200
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(ANSWERS[path] ?? {}))
  })
  base = providers.url
  house = await startHouse()
})
afterAll(async () => {
  await house.close()
  await providers.close()
})

const KEYS = {
  ANTHROPIC_API_KEY: 'key-a',
  OPENAI_API_KEY: 'key-o',
  GEMINI_API_KEY: 'key-g',
  BATON_MODEL_API_KEY: 'key-c',
}
const reachable = () =>
  readModels({
    ...KEYS,
    ANTHROPIC_BASE_URL: `${base}/anthropic`,
    OPENAI_BASE_URL: `${base}/openai`,
    GOOGLE_GEMINI_BASE_URL: `${base}/gemini`,
    BATON_MODEL_BASE_URL: `${base}/custom`,
    BATON_MODEL_ID: 'chosen',
  })
const signal = AbortSignal.timeout(60_000)

test('each provider is asked with its own key; what cannot converse is left out', async () => {
  expect(await askModels(reachable(), signal)).toEqual([
    { provider: 'anthropic', status: 'ok', models: [{ id: 'claude-opus-9', display_name: 'Claude Opus 9' }] },
    { provider: 'openai', status: 'ok', models: [{ id: 'gpt-9' }] },
    { provider: 'gemini', status: 'ok', models: [{ id: 'gemini-9-pro', display_name: 'Gemini 9 Pro' }] },
    { provider: 'custom', status: 'ok', models: [{ id: 'chosen' }, { id: 'llama-local' }] },
  ])
  const headersOf = (path: string) => seen.find((one) => one.path === path)?.headers
  expect(headersOf('/anthropic/v1/models')).toMatchObject({ 'x-api-key': 'key-a' })
  expect(headersOf('/openai/models')).toMatchObject({ authorization: 'Bearer key-o' })
  expect(headersOf('/gemini/v1beta/models')).toMatchObject({ 'x-goog-api-key': 'key-g' })
})

test.each([
  [401, 'refused'],
  [429, 'exhausted'],
  [503, 'away'],
  [404, 'ok'],
])('a provider that answers %i is %s', async (status, meaning) => {
  const models = readModels({ OPENAI_API_KEY: 'k', OPENAI_BASE_URL: `${base}/status/${status}` })
  expect(await askModels(models, signal)).toEqual([{ provider: 'openai', status: meaning, models: [] }])
})

test('without a worker that has keys everything is disabled but the script', async () => {
  const { default_model_id, models } = await house.client.models.list()
  expect(default_model_id).toBe('auto')
  const usable = models.filter(({ disable_reason }) => disable_reason === undefined)
  expect(usable.map(({ id }) => id)).toEqual(['scripted'])
  expect(new Set(models.map(({ provider }) => provider))).toEqual(new Set(['ANTHROPIC', 'OPENAI', 'GOOGLE', 'UNKNOWN']))
})

test('what the connected workers say is listed while they are connected', async () => {
  const worker = await house.worker({ worker_host: 'rich' })
  const poor = await house.worker({ worker_host: 'poor' })
  worker.say({ type: 'worker_models', data: { providers: await askModels(reachable(), signal) } })
  poor.say({
    type: 'worker_models',
    data: { providers: [{ provider: 'openai', status: 'refused', models: [] }] },
  })
  const byId = async () => new Map((await house.client.models.list()).models.map((model) => [model.id, model]))
  await until('its models are listed', async () => (await byId()).has('claude-opus-9'))
  const models = await byId()
  expect(models.get('claude-opus-9')).toEqual({
    id: 'claude-opus-9',
    display_name: 'Claude Opus 9',
    provider: 'ANTHROPIC',
    vision_supported: true,
  })
  expect(models.get('gpt-9')).toMatchObject({ provider: 'OPENAI', display_name: 'gpt-9' })
  expect(models.get('gemini-9-pro')).toMatchObject({ provider: 'GOOGLE', display_name: 'Gemini 9 Pro' })
  expect(models.get('custom/llama-local')).toMatchObject({ provider: 'UNKNOWN', display_name: 'llama-local' })
  for (const id of ['auto', 'gpt-9', 'custom/chosen']) expect(models.get(id)).not.toHaveProperty('disable_reason')
  await worker.close()
  await until('its models are gone', async () => !(await byId()).has('claude-opus-9'))
  expect((await byId()).get('gpt-5.5')?.disable_reason).toBe('ADMIN_DISABLED')
  await poor.close()
})
