/** The model broker against upstreams that are real HTTP servers. */
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Broker, type BrokerLimits, openBroker } from '../src/worker/broker.ts'
import { modelEnvironment, readModels } from '../src/worker/models.ts'
import { sha256 } from '../src/worker/sandboxes/record.ts'
import { type Loopback, listenOnLoopback } from './house/port.ts'
import { until } from './house/processes.ts'

const TOKEN = 'execution-token-0123456789abcdef'
const KEYS = {
  ANTHROPIC_API_KEY: 'real-a',
  OPENAI_API_KEY: 'real-o',
  GEMINI_API_KEY: 'real-g',
  BATON_MODEL_API_KEY: 'real-c',
}

let folder: string
let upstream: Loopback
let answer: (request: IncomingMessage, response: ServerResponse) => void
let seen: { url: string | undefined; headers: IncomingMessage['headers']; body: string }[]
let logged: string
const brokers: Broker[] = []

function keepLine(line: string): void {
  logged += line
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'broker-'))
  seen = []
  logged = ''
  answer = async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    seen.push({ url: request.url, headers: request.headers, body })
    response
      .writeHead(200, { 'content-type': 'application/json', 'set-cookie': 'a=b', 'x-request-id': '7' })
      .end('{"ok":true}')
  }
  upstream = await listenOnLoopback(createServer((request, response) => answer(request, response)))
})

afterEach(async () => {
  await Promise.all(brokers.splice(0).map((broker) => broker.close()))
  await upstream.close()
  await rm(folder, { recursive: true, force: true })
})

const environment = (base = upstream.url) => ({
  ...KEYS,
  ANTHROPIC_BASE_URL: `${base}/a`,
  OPENAI_BASE_URL: `${base}/o/v1`,
  GOOGLE_GEMINI_BASE_URL: `${base}/g/`,
  BATON_MODEL_BASE_URL: `${base}/c/v1`,
  BATON_MODEL_ID: 'small',
})

async function open(env: Record<string, string> = environment(), limits: Partial<BrokerLimits> = {}): Promise<Broker> {
  const log = pino({ level: 'trace' }, { write: keepLine })
  const broker = await openBroker({ models: readModels(env), state_dir: folder, log, limits })
  brokers.push(broker)
  broker.admit('execution', sha256(TOKEN))
  return broker
}

const post = (url: string, headers: Record<string, string>, body = '{"prompt":"secret words"}') =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body })

test('every provider is reached with its real key, whatever way the client spelled the token', async () => {
  const { url } = await open()
  await post(`${url}/anthropic/v1/messages?beta=true`, { 'x-api-key': TOKEN, 'anthropic-version': '2023-06-01' })
  await post(`${url}/anthropic/v1/messages`, { authorization: `Bearer ${TOKEN}` })
  await post(`${url}/openai/v1/chat/completions`, { authorization: `Bearer ${TOKEN}`, cookie: 'x=y' })
  await post(`${url}/gemini/v1beta/models/gemini-pro:streamGenerateContent?alt=sse&key=${TOKEN}`, {})
  await post(`${url}/gemini/v1beta/models/gemini-pro:generateContent`, { 'x-goog-api-key': TOKEN })
  const last = await post(`${url}/custom/v1/responses`, { 'api-key': TOKEN })
  expect(last.status).toBe(200)
  expect(last.headers.get('x-request-id')).toBe('7')
  expect(last.headers.get('set-cookie')).toBeNull()
  expect(seen.map((one) => one.url)).toEqual([
    '/a/v1/messages?beta=true',
    '/a/v1/messages',
    '/o/v1/chat/completions',
    '/g/v1beta/models/gemini-pro:streamGenerateContent?alt=sse',
    '/g/v1beta/models/gemini-pro:generateContent',
    '/c/v1/responses',
  ])
  expect(seen.map(({ headers }) => headers['x-api-key'] ?? headers['x-goog-api-key'] ?? headers.authorization)).toEqual(
    ['real-a', 'real-a', 'Bearer real-o', 'real-g', 'real-g', 'Bearer real-c'],
  )
  expect(seen[0]?.headers['anthropic-version']).toBe('2023-06-01')
  expect(JSON.stringify(seen)).not.toContain(TOKEN)
  expect(seen.every(({ headers, body }) => headers.cookie === undefined && body === '{"prompt":"secret words"}')).toBe(
    true,
  )
  for (const word of [TOKEN, 'secret words', ...Object.values(KEYS)]) expect(logged).not.toContain(word)
})

test("an unknown token, and one whose execution has ended, are refused in the provider's own shape", async () => {
  const broker = await open()
  const wrong = await post(`${broker.url}/anthropic/v1/messages`, { 'x-api-key': `${TOKEN}x` })
  expect(wrong.status).toBe(401)
  expect(await wrong.json()).toMatchObject({ type: 'error', error: { type: 'authentication_error' } })
  expect((await post(`${broker.url}/openai/v1/responses`, {})).status).toBe(401)
  broker.expel('execution')
  const ended = await post(`${broker.url}/openai/v1/responses`, { authorization: `Bearer ${TOKEN}` })
  expect(ended.status).toBe(401)
  expect(await ended.json()).toMatchObject({ error: { code: 'invalid_api_key' } })
  const gemini = await post(`${broker.url}/gemini/v1beta/models/x:generateContent`, { 'x-goog-api-key': TOKEN })
  expect(await gemini.json()).toMatchObject({ error: { code: 401, status: 'UNAUTHENTICATED' } })
  expect(seen).toEqual([])
})

test('a streamed answer arrives piece by piece, and a client that leaves ends the upstream request', async () => {
  let left = false
  answer = (request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('data: one\n\n')
    response.on('close', () => (left = true))
  }
  const { url } = await open()
  const stop = new AbortController()
  const response = await fetch(`${url}/openai/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}` },
    body: '{}',
    signal: stop.signal,
  })
  const reader = response.body?.getReader()
  const first = await reader?.read()
  expect(new TextDecoder().decode(first?.value)).toBe('data: one\n\n')
  expect(left).toBe(false)
  stop.abort()
  await until('the upstream to be left', () => left)
})

test('a request body is streamed too, and one that is too large is refused', async () => {
  let first = ''
  answer = async (request, response) => {
    for await (const chunk of request) {
      first ||= String(chunk)
      response.write('got')
    }
    response.end()
  }
  const { url } = await open(environment(), { request_bytes_max: 1000 })
  const pieces = new ReadableStream({
    async start(out) {
      out.enqueue(new TextEncoder().encode('piece'))
      await until('the first piece upstream', () => first === 'piece')
      out.close()
    },
  })
  const sent = await fetch(`${url}/openai/v1/files`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}` },
    body: pieces,
    duplex: 'half',
  })
  expect(await sent.text()).toBe('got')
  const large = await post(`${url}/openai/v1/files`, { authorization: `Bearer ${TOKEN}` }, 'x'.repeat(2000))
  expect(large.status).toBe(413)
})

test("a dead provider is a 502 with a clear message in the provider's shape, and the worker lives", async () => {
  await upstream.close()
  const { url } = await open()
  const anthropic = await post(`${url}/anthropic/v1/messages`, { 'x-api-key': TOKEN })
  expect(anthropic.status).toBe(502)
  expect(await anthropic.json()).toMatchObject({
    error: { type: 'api_error', message: expect.stringMatching(/cannot reach the model provider.*ECONNREFUSED/) },
  })
  const gemini = await post(`${url}/gemini/v1beta/models/x:generateContent`, { 'x-goog-api-key': TOKEN })
  expect(await gemini.json()).toMatchObject({ error: { code: 502, status: 'UNAVAILABLE' } })
})

test('an upstream that breaks off in the middle breaks the answer off, not the worker', async () => {
  answer = (request, response) => {
    request.resume()
    response.writeHead(200, { 'content-length': '100' })
    response.write('half')
    setImmediate(() => response.destroy())
  }
  const { url } = await open()
  await expect(
    post(`${url}/openai/v1/responses`, { authorization: `Bearer ${TOKEN}` }).then((response) => response.text()),
  ).rejects.toThrow()
  expect((await fetch(`${url}/openai/v1/models`)).status).toBe(401)
})

test('a silent upstream is given up', async () => {
  answer = (request) => void request.resume()
  const { url } = await open(environment(), { upstream_silence_ms: 50 })
  const response = await post(`${url}/openai/v1/responses`, { authorization: `Bearer ${TOKEN}` })
  expect(response.status).toBe(502)
  expect(await response.text()).toContain('silent for too long')
})

test('a redirect is not followed and not passed on', async () => {
  answer = (request, response) => {
    request.resume()
    response.writeHead(307, { location: 'http://elsewhere.example/' }).end()
  }
  const { url } = await open()
  const response = await fetch(`${url}/openai/v1/models`, {
    headers: { authorization: `Bearer ${TOKEN}` },
    redirect: 'manual',
  })
  expect(response.status).toBe(502)
  expect(response.headers.get('location')).toBeNull()
})

/** Says what `fetch` would correct. */
function ask(broker: Broker, path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<number> {
  return new Promise((resolve, reject) => {
    const { port } = new URL(broker.url)
    httpRequest({ host: '127.0.0.1', port, path, method, headers: { 'x-api-key': TOKEN, ...headers } }, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
      .on('error', reject)
      .end()
  })
}

test.each([
  '/',
  '/anthropic',
  '/other/v1',
  '/openai/v2/models',
  '/openai/v1/../../x',
  '/openai/v1/%2e%2e/x',
  '/openai/v1/a%2fb',
  '/openai/v1/a\\b',
  '/openai/v1//evil.example/x',
  '/openai/v1/%00',
  '/openai/v1/%252e%252e/x',
  'http://evil.example/',
  '/openai/v1/@evil.example:80/..',
])('the path %s leads nowhere', async (path) => {
  const broker = await open()
  expect(await ask(broker, path)).toBeGreaterThanOrEqual(400)
  expect(seen).toEqual([])
})

test('only programs on this machine are answered: other hosts, pages and methods are not', async () => {
  const broker = await open()
  expect(await ask(broker, '/anthropic/v1/models', { host: 'evil.example' })).toBe(403)
  expect(await ask(broker, '/anthropic/v1/models', { origin: 'https://evil.example' })).toBe(403)
  expect(await ask(broker, '/anthropic/v1/models', {}, 'DELETE')).toBe(405)
  expect(seen).toEqual([])
  expect(await ask(broker, '/anthropic/v1/models', { host: `localhost:${new URL(broker.url).port}` })).toBe(200)
})

test('an execution has a limited number of requests at a time', async () => {
  const waiting: ServerResponse[] = []
  answer = (request, response) => {
    request.resume()
    waiting.push(response)
  }
  const { url } = await open(environment(), { requests_max: 2 })
  const headers = { authorization: `Bearer ${TOKEN}` }
  const two = [post(`${url}/openai/v1/responses`, headers), post(`${url}/openai/v1/responses`, headers)]
  await until('two requests upstream', () => waiting.length === 2)
  expect((await post(`${url}/openai/v1/responses`, headers)).status).toBe(429)
  for (const response of waiting) response.end()
  await Promise.all(two)
})

test('a broker opened again has the same port, and another one where that is taken', async () => {
  const first = await open()
  const { url } = first
  const second = await open()
  expect(second.url).not.toBe(url)
  await Promise.all(brokers.splice(0).map((broker) => broker.close()))
  const third = await open()
  expect(third.url).toBe(second.url)
})

test('a sandbox is told of the configured providers alone, and never of a key', async () => {
  const broker = await open()
  const { url } = broker
  expect(modelEnvironment(TOKEN, broker)).toEqual({
    ANTHROPIC_BASE_URL: `${url}/anthropic`,
    ANTHROPIC_API_KEY: TOKEN,
    OPENAI_BASE_URL: `${url}/openai/v1`,
    OPENAI_API_KEY: TOKEN,
    GOOGLE_GEMINI_BASE_URL: `${url}/gemini`,
    GEMINI_API_KEY: TOKEN,
    BATON_MODEL_BASE_URL: `${url}/custom/v1`,
    BATON_MODEL_API_KEY: TOKEN,
    BATON_MODEL_ID: 'small',
  })
  const one = await open({ GOOGLE_GENERATIVE_AI_API_KEY: 'real-g' })
  expect(Object.keys(modelEnvironment(TOKEN, one))).toEqual(['GOOGLE_GEMINI_BASE_URL', 'GEMINI_API_KEY'])
  expect(await ask(one, '/openai/v1/models')).toBe(404)
  expect(modelEnvironment(TOKEN, null)).toEqual({})
})

test('where a proxy is configured, models are reached through it', async () => {
  const asked: (string | undefined)[] = []
  answer = (request, response) => {
    request.resume()
    asked.push(request.url)
    response.end('by proxy')
  }
  const models = readModels({ OPENAI_API_KEY: 'k', OPENAI_BASE_URL: 'http://model.example/v1' })
  const log = pino({ level: 'silent' })
  const broker = await openBroker({ models, state_dir: folder, log, environment: { HTTP_PROXY: upstream.url } })
  brokers.push(broker)
  broker.admit('execution', sha256(TOKEN))
  const response = await fetch(`${broker.url}/openai/v1/models`, { headers: { authorization: `Bearer ${TOKEN}` } })
  expect(await response.text()).toBe('by proxy')
  expect(asked).toEqual(['http://model.example/v1/models'])
})
