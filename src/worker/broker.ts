/**
 * The model broker: the worker's one door from sandboxes to models. It listens on loopback, knows an execution by its
 * token, and adds the real key on the way out, so that no sandbox ever holds one.
 *
 * It forwards to the configured upstreams and nowhere else, streams both ways, keeps nothing and logs neither keys
 * nor bodies.
 */
import { timingSafeEqual } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import http, { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Transform, type TransformCallback } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Logger } from 'pino'
import { z } from 'zod'
import { MODEL_PROVIDERS, type ModelKey, type ModelKeyProvider, type ModelProvider } from '../contract/index.ts'
import { type Environment, type ModelUpstream, providerAddresses, secret } from './models.ts'
import { sha256, writeAtomic } from './sandboxes/record.ts'

export const BROKER_LIMITS = {
  request_bytes_max: 64 * 1024 * 1024,
  /** Requests of one execution at a time. */
  requests_max: 64,
  /** Silence of an upstream, before and within an answer; long thinking sends nothing for minutes. */
  upstream_silence_ms: 15 * 60_000,
  connect_ms: 20_000,
}
export type BrokerLimits = typeof BROKER_LIMITS

export type BrokerOptions = {
  models: readonly ModelUpstream[]
  state_dir: string
  log: Logger
  /** Where a proxy to the providers is named. */
  environment?: Environment
  limits?: Partial<BrokerLimits> | undefined
}

export type Broker = {
  url: string
  models: readonly ModelUpstream[]
  /** `awaited`: providers for which it has keys of its own, which are still to come. */
  admit(execution_id: string, token_hash: string, awaited?: readonly string[]): void
  /** Keys that an execution has of its own. Of a provider that the worker has a key for, only one that was chosen. */
  give(execution_id: string, keys: readonly ModelKey[]): void
  /** What an execution can reach. */
  modelsOf(execution_id: string): ModelUpstream[]
  expel(execution_id: string): void
  close(): Promise<void>
}

type Guest = {
  execution_id: string
  token_hash: Buffer
  requests: number
  own: Map<ModelProvider, ModelUpstream>
  awaited: Set<string>
}

type Desk = {
  guests: Map<string, Guest>
  models: Map<ModelProvider, ModelUpstream>
  /** Where providers are that only executions have keys for. */
  addresses: Record<ModelKeyProvider, string>
  limits: BrokerLimits
  log: Logger
  port: number
  agents: { http: http.Agent; https: https.Agent }
}

/** Same port as last time where that can be had, so that sandboxes of an earlier worker process go on. */
export async function openBroker(options: BrokerOptions): Promise<Broker> {
  const desk: Desk = {
    guests: new Map(),
    models: new Map(options.models.map((model) => [model.provider, model])),
    addresses: providerAddresses(options.environment ?? {}),
    limits: { ...BROKER_LIMITS, ...options.limits },
    log: options.log,
    port: 0,
    agents: agentsFor(options.environment ?? {}),
  }
  const server = http.createServer(
    { requestTimeout: 0, headersTimeout: 20_000, maxHeaderSize: 32 * 1024 },
    (request, response) => {
      void answer(desk, request, response)
    },
  )
  desk.port = await listenAgain(server, options)
  return {
    url: `http://127.0.0.1:${desk.port}`,
    models: options.models,
    admit: (execution_id, token_hash, awaited = []) => {
      const hash = Buffer.from(token_hash, 'hex')
      const guest = { execution_id, token_hash: hash, requests: 0, own: new Map(), awaited: new Set(awaited) }
      desk.guests.set(execution_id, guest)
    },
    give: (execution_id, keys) => giveKeys(desk, execution_id, keys),
    modelsOf: (execution_id) => [...new Map([...desk.models, ...(desk.guests.get(execution_id)?.own ?? [])]).values()],
    expel: (execution_id) => void desk.guests.delete(execution_id),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
        desk.agents.http.destroy()
        desk.agents.https.destroy()
      }),
  }
}

function giveKeys(desk: Desk, execution_id: string, keys: readonly ModelKey[]): void {
  const guest = desk.guests.get(execution_id)
  if (guest === undefined) return
  guest.awaited.clear()
  for (const { provider, api_key, base_url, chosen } of keys) {
    if (desk.models.has(provider) && !chosen) continue
    const address = (base_url ?? desk.addresses[provider]).replace(/\/+$/, '')
    guest.own.set(provider, { provider, base_url: address, api_key: secret(api_key) })
  }
}

/**
 * Models on this machine are never asked for through a proxy. Node before 22.21 and 24.5 knows no `proxyEnv` and passes
 * it over.
 */
function agentsFor(env: Environment): Desk['agents'] {
  const own = 'localhost,127.0.0.1,[::1]'
  const proxyEnv = {
    http_proxy: env.http_proxy ?? env.HTTP_PROXY,
    https_proxy: env.https_proxy ?? env.HTTPS_PROXY,
    no_proxy: [own, env.no_proxy ?? env.NO_PROXY].filter(Boolean).join(','),
  }
  const options = { keepAlive: true, proxyEnv }
  return { http: new http.Agent(options), https: new https.Agent(options) }
}

const PortFile = z.object({ port: z.int().min(1).max(65_535) })

async function listenAgain(server: http.Server, { state_dir, log }: BrokerOptions): Promise<number> {
  const path = join(state_dir, 'broker.json')
  const text = await readFile(path, 'utf8').catch(() => '{}')
  const last = PortFile.safeParse(parseJson(text)).data?.port
  const port = (last === undefined ? null : await listen(server, last)) ?? (await listen(server, 0))
  if (port === null) throw new Error('The model broker cannot listen on 127.0.0.1. Is the loopback interface up?')
  if (last !== undefined && port !== last) {
    log.warn(
      { last_port: last, port },
      "The model broker's port is taken. Runs that are going on lose their models; new ones use the new port.",
    )
  }
  if (port !== last) await writeAtomic(path, JSON.stringify({ port }))
  return port
}

/** Null when the port cannot be had. */
function listen(server: http.Server, port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const refused = () => resolve(null)
    server.once('error', refused)
    server.listen(port, '127.0.0.1', () => {
      server.off('error', refused)
      resolve((server.address() as AddressInfo).port)
    })
  })
}

async function answer(desk: Desk, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const target = parseTarget(request.url ?? '/')
  const provider = target?.provider ?? 'openai'
  const refuse = (status: number, message: string) => writeRefusal(response, provider, status, message)
  const { host, origin } = request.headers
  if (!['127.0.0.1', 'localhost', '[::1]'].some((name) => host === `${name}:${desk.port}`) || origin !== undefined) {
    return refuse(403, 'The model broker answers programs on this machine only.')
  }
  const guest = findGuest(desk, request.headers, target?.key ?? null)
  if (!guest)
    return refuse(401, 'The model broker does not know this token. It ends with the execution that it was given to.')
  if (target && guest.awaited.has(target.provider))
    return refuse(503, 'The worker was started anew and waits for the key of this run. Try again.')
  const model = target && (guest.own.get(target.provider) ?? desk.models.get(target.provider))
  if (!target || !model)
    return refuse(404, 'The model broker serves no such path. This worker has no model provider there.')
  if (request.method !== 'GET' && request.method !== 'POST')
    return refuse(405, 'The model broker forwards GET and POST only.')
  if (guest.requests >= desk.limits.requests_max)
    return refuse(429, `An execution may have ${desk.limits.requests_max} model requests at a time.`)
  if (Number(request.headers['content-length']) > desk.limits.request_bytes_max) return refuse(413, tooLarge(desk))
  guest.requests++
  try {
    await forward(desk, model, target, request, response)
  } finally {
    guest.requests--
  }
}

type Target = { provider: ModelProvider; rest: string; query: string; key: string | null }

/**
 * `/anthropic/v1/messages?…` and the like. Paths that could mean another place when they are read again
 * (`..`, encoded slashes, backslashes) name nothing.
 */
export function parseTarget(url: string): Target | null {
  const [path = '', query = ''] = url.split('?', 2)
  const [, name = '', ...segments] = path.split('/')
  const provider = MODEL_PROVIDERS.find((one) => one === name)
  if (!provider || segments.length === 0) return null
  if (segments.some((segment, at) => !isPlain(segment, at === segments.length - 1))) return null
  if ((provider === 'openai' || provider === 'custom') && segments.shift() !== 'v1') return null
  const search = new URLSearchParams(query)
  const key = search.get('key')
  search.delete('key')
  return {
    provider,
    rest: segments.length === 0 ? '' : `/${segments.join('/')}`,
    query: search.size === 0 ? '' : `?${search}`,
    key,
  }
}

function isPlain(segment: string, last: boolean): boolean {
  if (segment === '') return last
  const bare = segment.replace(/%2e/gi, '.')
  return (
    /^[A-Za-z0-9._~!$&'()*+,;=:@%-]+$/.test(segment) &&
    bare !== '.' &&
    bare !== '..' &&
    !/%(2f|5c|00|25)/i.test(segment)
  )
}

/** Each provider's clients have their own place for the key. */
function findGuest(desk: Desk, headers: IncomingHttpHeaders, key: string | null): Guest | null {
  const bearer = headers.authorization?.replace(/^bearer /i, '')
  const spoken = [headers['x-api-key'], headers['x-goog-api-key'], headers['api-key'], bearer, key]
  const hashes = spoken
    .filter((one): one is string => typeof one === 'string' && one !== '')
    .map((one) => Buffer.from(sha256(one), 'hex'))
  let found: Guest | null = null
  for (const guest of desk.guests.values()) {
    for (const hash of hashes)
      if (hash.length === guest.token_hash.length && timingSafeEqual(hash, guest.token_hash)) found = guest
  }
  return found
}

async function forward(
  desk: Desk,
  model: ModelUpstream,
  target: Target,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(model.base_url + target.rest + target.query)
  const secure = url.protocol === 'https:'
  const abort = new AbortController()
  response.once('close', () => abort.abort())
  const upstream = (secure ? https : http).request(url, {
    method: request.method ?? 'GET',
    headers: { ...passedOn(request.headers, TO_UPSTREAM), ...keyHeader(model), host: url.host },
    agent: secure ? desk.agents.https : desk.agents.http,
    signal: abort.signal,
  })
  const silence = () => upstream.destroy(new Error('it was silent for too long'))
  upstream.setTimeout(desk.limits.upstream_silence_ms, silence)
  const connecting = setTimeout(
    () => upstream.destroy(new Error('it took too long to connect')),
    desk.limits.connect_ms,
  )
  upstream.once('socket', (socket) => {
    const connected = () => clearTimeout(connecting)
    if (socket.connecting) socket.once(secure ? 'secureConnect' : 'connect', connected)
    else connected()
  })
  const answered = new Promise<IncomingMessage>((resolve, reject) =>
    upstream.once('response', resolve).on('error', reject),
  )
  const limit = limitBytes(desk.limits.request_bytes_max)
  try {
    const sent = pipeline(request, limit, upstream).catch((error: unknown) => {
      if (!upstream.destroyed) upstream.destroy(error instanceof Error ? error : undefined)
    })
    const reply = await answered
    clearTimeout(connecting)
    await passBack(reply, model, response)
    await sent
  } catch (error) {
    if (abort.signal.aborted && response.destroyed) return
    if (error instanceof TooLarge) return writeRefusal(response, model.provider, 413, tooLarge(desk))
    const why =
      error instanceof Error && 'code' in error
        ? String(error.code)
        : error instanceof Error
          ? error.message
          : 'unknown'
    desk.log.warn({ provider: model.provider, host: url.host, why }, 'A model provider cannot be reached.')
    writeRefusal(response, model.provider, 502, `The worker cannot reach the model provider at ${url.host}: ${why}.`)
  } finally {
    clearTimeout(connecting)
    upstream.destroy()
  }
}

async function passBack(reply: IncomingMessage, model: ModelUpstream, response: ServerResponse): Promise<void> {
  const status = reply.statusCode ?? 502
  // A redirect would make the client carry its token somewhere else.
  if (status >= 300 && status < 400 && status !== 304) {
    reply.destroy()
    return writeRefusal(
      response,
      model.provider,
      502,
      'The model provider answered with a redirect, which the worker does not follow.',
    )
  }
  response.writeHead(status, passedOn(reply.headers, FROM_UPSTREAM))
  response.flushHeaders()
  await pipeline(reply, response)
}

const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]
const TO_UPSTREAM = new Set([
  ...HOP_BY_HOP,
  'host',
  'authorization',
  'x-api-key',
  'x-goog-api-key',
  'api-key',
  'cookie',
  'expect',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
])
const FROM_UPSTREAM = new Set([...HOP_BY_HOP, 'set-cookie', 'location', 'alt-svc'])

function passedOn(headers: IncomingHttpHeaders, held: Set<string>): Record<string, string | string[]> {
  const named = new Set((headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase()))
  const passed: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !held.has(name) && !named.has(name)) passed[name] = value
  return passed
}

function keyHeader({ provider, api_key }: ModelUpstream): Record<string, string> {
  if (!api_key) return {}
  switch (provider) {
    case 'anthropic':
      return { 'x-api-key': api_key.reveal() }
    case 'gemini':
      return { 'x-goog-api-key': api_key.reveal() }
    case 'openai':
    case 'custom':
      return { authorization: `Bearer ${api_key.reveal()}` }
  }
}

class TooLarge extends Error {}

const tooLarge = (desk: Desk): string => `A model request is at most ${desk.limits.request_bytes_max} bytes.`

function limitBytes(bytes_max: number): Transform {
  let bytes = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, next: TransformCallback) {
      bytes += chunk.length
      if (bytes > bytes_max) next(new TooLarge())
      else next(null, chunk)
    },
  })
}

/** In the words of the provider, so that its clients show the message instead of stumbling over it. */
function writeRefusal(response: ServerResponse, provider: ModelProvider, status: number, message: string): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const body = JSON.stringify(refusalBody(provider, status, message))
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  })
  response.end(body)
}

function refusalBody(provider: ModelProvider, status: number, message: string): unknown {
  switch (provider) {
    case 'anthropic': {
      const types: Record<number, string> = {
        401: 'authentication_error',
        403: 'permission_error',
        404: 'not_found_error',
        413: 'request_too_large',
        429: 'rate_limit_error',
      }
      return {
        type: 'error',
        error: { type: types[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error'), message },
      }
    }
    case 'gemini': {
      const names: Record<number, string> = {
        401: 'UNAUTHENTICATED',
        403: 'PERMISSION_DENIED',
        404: 'NOT_FOUND',
        429: 'RESOURCE_EXHAUSTED',
        502: 'UNAVAILABLE',
      }
      return { error: { code: status, message, status: names[status] ?? 'INVALID_ARGUMENT' } }
    }
    case 'openai':
    case 'custom': {
      const codes: Record<number, string> = {
        401: 'invalid_api_key',
        429: 'rate_limit_exceeded',
        502: 'upstream_unreachable',
      }
      return {
        error: {
          message,
          type: status < 500 ? 'invalid_request_error' : 'server_error',
          param: null,
          code: codes[status] ?? null,
        },
      }
    }
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
