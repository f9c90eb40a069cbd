/** Reading a request: its body within limits, its query in the spellings that clients use, by the route's schemas. */
import type { IncomingMessage } from 'node:http'
import type { z } from 'zod'
import { Fault, REQUEST_BYTES_MAX, type Route } from '../contract/index.ts'
import { invalid } from './problems.ts'

/** Deepest nesting of a JSON body; deeper ones exhaust the stack of whoever walks them. */
const JSON_DEPTH_MAX = 200

export type Parsed = { params: unknown; query: unknown; body: unknown }

export async function readRequest(
  route: Route,
  incoming: IncomingMessage,
  params: Record<string, string>,
  search: string,
): Promise<Parsed> {
  return {
    params: parseParams(route, params),
    query: parsePart('query', route.query, readQuery(search)),
    body:
      route.method === 'GET' || route.method === 'DELETE'
        ? {}
        : parseBody(route, await readJson(incoming, route.body_bytes_max ?? REQUEST_BYTES_MAX)),
  }
}

/** A path that names nothing that could exist is not found, the same as one that names nothing that does. */
function parseParams(route: Route, params: Record<string, string>): unknown {
  const parsed = route.params.safeParse(params)
  if (parsed.success) return parsed.data
  const name = String(parsed.error.issues[0]?.path[0] ?? '')
  throw new Fault(
    'resource_not_found',
    `There is no ${name.replace(/_id$/, '')} ${JSON.stringify(params[name] ?? '').slice(0, 80)}.`,
  )
}

function parseBody(route: Route, body: unknown): unknown {
  // Clients of the public API say "no body" with nothing at all or with a literal null.
  const parsed = route.body.safeParse(body ?? {})
  if (parsed.success) return parsed.data
  if (body === undefined || body === null)
    throw new Fault('invalid_request', 'This request needs a JSON body. Send one with Content-Type: application/json.')
  throw invalid('body', parsed.error)
}

function parsePart(where: 'body' | 'query', schema: z.ZodType, value: unknown): unknown {
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw invalid(where, parsed.error)
  return parsed.data
}

/** `a=1&a=2`, `a[]=1` and `a[key]=1`; a value given once stays single. */
export function readQuery(search: string): Record<string, unknown> {
  const query: Record<string, unknown> = Object.create(null)
  for (const [name, value] of new URLSearchParams(search)) {
    const [, field = name, key] = /^([^[\]]+)\[([^[\]]*)\]$/.exec(name) ?? []
    const before = query[field]
    if (key) query[field] = { ...(isRecord(before) ? before : {}), [key]: value }
    else if (Array.isArray(before)) before.push(value)
    else if (before !== undefined) query[field] = [before, value]
    else query[field] = key === undefined ? value : [value]
  }
  return { ...query }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The body as JSON; undefined where there is none. */
async function readJson(incoming: IncomingMessage, bytes_max: number): Promise<unknown> {
  const text = await readText(incoming, bytes_max)
  if (text.trim() === '') return undefined
  const type = incoming.headers['content-type'] ?? ''
  if (!/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type)) {
    throw new Fault(
      'invalid_request',
      `A body must be sent as application/json, not as ${type ? JSON.stringify(type) : 'an unnamed type'}.`,
      { status: 415 },
    )
  }
  return parseJson(text)
}

async function readText(incoming: IncomingMessage, bytes_max: number): Promise<string> {
  const coding = incoming.headers['content-encoding']
  if (coding && coding !== 'identity')
    throw new Fault('invalid_request', `Bodies are taken uncompressed, not as ${JSON.stringify(coding)}.`, {
      status: 415,
    })
  const tooLarge = () =>
    new Fault('invalid_request', `The body is larger than the ${bytes_max} bytes that this request may have.`, {
      status: 413,
    })
  if (Number(incoming.headers['content-length'] ?? 0) > bytes_max) throw tooLarge()
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bytes_max) throw tooLarge()
    chunks.push(chunk)
  }
  return new TextDecoder('utf-8').decode(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))
}

export function parseJson(text: string): unknown {
  if (nestsTooDeep(text)) throw new Fault('invalid_request', `The JSON is nested deeper than ${JSON_DEPTH_MAX} levels.`)
  try {
    // A `__proto__` key, however it is spelled, would become a prototype where objects are copied.
    if (/__proto__|\\u005f/i.test(text))
      return JSON.parse(text, (key, value) => (key === '__proto__' ? undefined : value))
    return JSON.parse(text)
  } catch (cause) {
    throw new Fault('invalid_request', `The body is not valid JSON${placeOf(text, cause)}.`)
  }
}

/** V8 names either a position or the piece of text that it stumbled over. */
function placeOf(text: string, cause: unknown): string {
  const message = cause instanceof Error ? cause.message : ''
  const position = /position (\d+)/.exec(message)?.[1]
  if (position !== undefined) {
    const before = text.slice(0, Number(position))
    const line = before.split('\n').length
    return ` at position ${position} (line ${line}, column ${before.length - before.lastIndexOf('\n')})`
  }
  return /unexpected end/i.test(message) ? `: it ends too early, at position ${text.length}` : ''
}

function nestsTooDeep(text: string): boolean {
  let depth = 0
  let quoted = false
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (quoted) {
      if (code === 0x5c) at++
      else if (code === 0x22) quoted = false
    } else if (code === 0x22) quoted = true
    else if (code === 0x7b || code === 0x5b) {
      if (++depth > JSON_DEPTH_MAX) return true
    } else if (code === 0x7d || code === 0x5d) depth--
  }
  return false
}

/** The value of a header that may be sent once. */
export function singleHeader(header: string | string[] | undefined): string | undefined {
  if (Array.isArray(header)) throw new Fault('invalid_request', 'A header was sent twice that may be sent once.')
  return header
}
