/**
 * Asking: typed calls of routes of the contract. Runs in Node and in the browser.
 *
 * A refused request throws the `Fault` that the server named; a server that cannot be reached throws `Unreachable`.
 * Reads, and writes with an idempotency key, are repeated on 429, 503 and broken connections; nothing else is.
 */
import { type Answered, API_PREFIX, type Asked, Fault, parseProblem, type Route } from '../contract/index.ts'

export class Unreachable extends Error {
  override readonly name = 'Unreachable'
}

/** What is used of a `Response`, so that something else than `fetch` can carry requests. */
export type Carried = Pick<Response, 'ok' | 'status' | 'url' | 'text' | 'json'> & {
  headers: Pick<Headers, 'get'>
  body: ReadableStream<Uint8Array> | AsyncGenerator<Uint8Array> | null
}
export type Carry = (
  url: string,
  init: {
    method: string
    headers: Record<string, string>
    body?: string
    signal?: AbortSignal
    redirect?: 'follow' | 'manual'
  },
) => Promise<Carried>

export type ClientOptions = {
  /** Root of the server, without `/api/v1`. Empty in a page that the server itself sent. */
  server: string
  /** API key or execution token. Absent in a page: the session's cookie speaks. */
  token?: string | undefined
  /** Sent with every request, such as `X-Oz-Api-Source`. */
  headers?: Record<string, string>
  /** Instead of `fetch`. */
  carry?: Carry
  /** How often a repeatable request is tried again. */
  retries?: number
  /** Told the version of each server that answers; null: it names none, so it is no Baton or an old one. */
  onVersion?: (version: string | null) => void
}

type Empty = Record<string, never>
type Part<K extends string, T> = Empty extends T ? { [P in K]?: T } : { [P in K]: T }
export type CallParts<R extends Route> = Part<'params', Asked<R>['params']> &
  Part<'query', Asked<R>['query']> &
  Part<'body', Asked<R>['body']> & {
    signal?: AbortSignal | undefined
    headers?: Record<string, string>
  }

type CallOf<R extends Route> = Empty extends Asked<R>['params'] & Asked<R>['query'] & Asked<R>['body']
  ? (parts?: CallParts<R>) => Promise<Answered<R>>
  : (parts: CallParts<R>) => Promise<Answered<R>>

type Calls<T> = { [K in keyof T]: T[K] extends Route ? CallOf<T[K]> : Calls<T[K]> }

/** Groups of routes, as the contract has them. */
type RouteGroups = Record<string, Record<string, Route>>

export type CallsOf<R extends RouteGroups> = Calls<R> & Asking

export type Asking = {
  /** The answer's body exactly as the server sent it, and an open response for streams. */
  raw(method: string, path: string, init?: Init): Promise<Carried>
  options: ClientOptions
}

type Init = {
  query?: URLSearchParams | undefined
  body?: unknown
  headers?: Record<string, string> | undefined
  signal?: AbortSignal | undefined
}

/** Whoever needs few routes names them, and loads no others. */
export function callsOf<R extends RouteGroups>(groups: R, options: ClientOptions): CallsOf<R> {
  const calls: Record<string, Record<string, unknown>> = {}
  for (const [group, members] of Object.entries(groups)) {
    calls[group] = Object.fromEntries(
      Object.entries(members).map(([name, route]) => [name, (parts?: Loose) => call(options, route, parts ?? {})]),
    )
  }
  const raw: Asking['raw'] = (method, path, init = {}) => send(options, { ...init, method, path })
  return { ...calls, raw, options } as unknown as CallsOf<R>
}

type Loose = {
  params?: unknown
  query?: unknown
  body?: unknown
  signal?: AbortSignal | undefined
  headers?: Record<string, string>
}

async function call(options: ClientOptions, route: Route, parts: Loose): Promise<unknown> {
  const response = await send(options, {
    ...parts,
    method: route.method,
    path: API_PREFIX + fillPath(route.path, parts.params),
    query: queryOf(parts.query),
    // What is to be known is the address itself.
    redirect: route.status === 302 ? 'manual' : 'follow',
  })
  if (response.status === 204) return route.answer.parse({})
  return route.answer.parse(await readJson(response))
}

export function fillPath(path: string, params: unknown): string {
  const values = (params ?? {}) as Record<string, unknown>
  return path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(values[name])))
}

/** A list is repeated, an object becomes `name[key]=value`. */
export function queryOf(query: unknown): URLSearchParams | undefined {
  if (query === undefined || query === null) return undefined
  const search = new URLSearchParams()
  const add = (name: string, value: unknown) => {
    if (value !== undefined) search.append(name, String(value))
  }
  for (const [name, value] of Object.entries(query)) {
    if (Array.isArray(value)) for (const one of value) add(name, one)
    else if (typeof value === 'object' && value !== null)
      for (const [key, one] of Object.entries(value)) add(`${name}[${key}]`, one)
    else add(name, value)
  }
  return search
}

type Sent = Init & { method: string; path: string; redirect?: 'follow' | 'manual' }

async function send(options: ClientOptions, sent: Sent): Promise<Carried> {
  const { method, path, query, body, headers = {}, signal, redirect = 'follow' } = sent
  const search = query?.size ? `?${query}` : ''
  const url = options.server.replace(/\/$/, '') + path + search
  const init = {
    method,
    headers: {
      accept: 'application/json',
      ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...options.headers,
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
    ...(redirect === 'follow' ? {} : { redirect }),
  }
  const repeatable = method === 'GET' || Object.keys(headers).some((name) => name.toLowerCase() === 'idempotency-key')
  const retries = repeatable ? (options.retries ?? 2) : 0
  for (let tries = 0; ; tries++) {
    const response = await reach(options, url, init).catch((cause: unknown) => {
      if (signal?.aborted || tries >= retries) throw cause
      return null
    })
    if (response) options.onVersion?.(response.headers.get('x-baton-version'))
    if (response?.ok || (response && response.status < 400)) return response
    const again = response === null || response.status === 429 || response.status === 503
    if (!again || tries >= retries) throw await faultOf(response as Carried)
    // An unread body would hold its connection.
    await leave(response?.body ?? null)
    await pause(retryDelay(response, tries), signal)
  }
}

async function reach(options: ClientOptions, url: string, init: Parameters<Carry>[1]): Promise<Carried> {
  try {
    return await (options.carry ?? fetch)(url, init)
  } catch (cause) {
    if (init.signal?.aborted) throw cause
    throw new Unreachable(`The server at ${new URL(url, 'http://page').origin} does not answer.`, { cause })
  }
}

async function leave(body: Carried['body']): Promise<void> {
  if (body !== null) await ('cancel' in body ? body.cancel() : body.return(undefined)).catch(() => {})
}

async function faultOf(response: Carried): Promise<Fault> {
  const text = await response.text().catch(() => '')
  try {
    return parseProblem(response.status, JSON.parse(text))
  } catch {
    return parseProblem(response.status, {})
  }
}

async function readJson(response: Carried): Promise<unknown> {
  const type = response.headers.get('content-type') ?? ''
  if (!type.includes('json')) {
    throw new Fault(
      'internal_error',
      `Expected JSON from ${response.url}, got ${type || 'no content type'}. Is this a Baton server?`,
    )
  }
  return response.json()
}

/** Milliseconds: the server's wish (`retry-after`, seconds), else 0.25 s doubling with jitter. */
function retryDelay(response: Carried | null, tries: number): number {
  const asked = Number(response?.headers.get('retry-after'))
  if (asked > 0) return Math.min(asked * 1000, 30_000)
  return 250 * 2 ** tries * (0.75 + Math.random() / 2)
}

/** Resolves after `ms`, or rejects with the signal's reason. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, ms)
    if (signal?.aborted) stop()
    else signal?.addEventListener('abort', stop, { once: true })
  })
}
