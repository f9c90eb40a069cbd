/** Reading a request: its body within limits, its query in the spellings that clients use, by the route's schemas. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { z } from 'zod'
import { Fault, IDEMPOTENCY_KEY_CHARACTERS_MAX, REQUEST_BYTES_MAX, type Route } from '../contract/index.ts'
import { parseJson } from './json.ts'
import { withoutNulls } from './nulls.ts'
import { invalid } from './problems.ts'

export type Parsed = { params: unknown; query: unknown; body: unknown }

export async function readRequest(
  route: Route,
  incoming: IncomingMessage,
  params: Record<string, string>,
  search: string,
): Promise<Parsed> {
  return {
    params: parseParams(route, params),
    query: parsePart('query', route.query, readQuery(search, route.query)),
    body: route.method === 'GET' || route.method === 'DELETE' ? {} : parseBody(route, await readJson(route, incoming)),
  }
}

/** A path that names nothing that could exist is not found, the same as one that names nothing that does. */
function parseParams(route: Route, params: Record<string, string>): unknown {
  const parsed = route.params.safeParse(params)
  if (parsed.success) return parsed.data
  const name = String(parsed.error.issues[0]?.path[0] ?? '')
  throw new Fault(
    'resource_not_found',
    `There is no ${name.replace(/_u?id$/, '').replaceAll('_', ' ')} ${JSON.stringify(params[name] ?? '').slice(0, 80)}.`,
  )
}

function parseBody(route: Route, body: unknown): unknown {
  // Clients of the public API say "no body" with nothing at all or with a literal null.
  const parsed = route.body.safeParse(body ?? {})
  if (parsed.success) return parsed.data
  const filled = route.body.safeParse(withoutNulls(route.body, body))
  if (filled.success) return filled.data
  if (body === undefined || body === null)
    throw new Fault('invalid_request', 'This request needs a JSON body. Send one with Content-Type: application/json.')
  throw invalid('body', filled.error)
}

function parsePart(where: 'body' | 'query', schema: z.ZodType, value: unknown): unknown {
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw invalid(where, parsed.error)
  return parsed.data
}

/** `a=1&a=2`, `a[]=1` and `a[key]=1`; a value given once stays single. */
function readQuery(search: string, schema: z.ZodType): Record<string, unknown> {
  const query: Record<string, unknown> = Object.create(null)
  for (const [name, value] of new URLSearchParams(search)) {
    if (value.includes('\0'))
      throw new Fault('invalid_request', `\`${name}\` has a NUL character, which no text here may have.`)
    const [, field = name, key] = /^([^[\]]+)\[([^[\]]*)\]$/.exec(name) ?? []
    if (field === name) checkName(name, schema)
    const before = query[field]
    if (key) query[field] = withPair(name, isRecord(before) ? before : {}, [key, value])
    else if (Array.isArray(before)) before.push(value)
    else if (before !== undefined) query[field] = [before, value]
    else query[field] = key === undefined ? value : [value]
  }
  return { ...query }
}

/** A parameter that is known, in brackets that are not, is a mistake; passed over, a list would have more than was asked. */
function checkName(name: string, schema: z.ZodType): void {
  const [field = ''] = name.split('[', 1)
  if (field === name || !(schema instanceof z.ZodObject) || !Object.hasOwn(schema.shape, field)) return
  throw new Fault(
    'invalid_request',
    `\`${name}\` is not valid: write \`${field}\`, \`${field}[]\` or \`${field}[key]\`.`,
  )
}

/** What could be meant by only one of two readers is refused: a key that is given twice, and one that JSON drops. */
function withPair(name: string, before: Record<string, unknown>, [key, value]: [string, string]) {
  if (key === '__proto__') throw new Fault('invalid_request', `\`${name}\` is not valid: nothing has such a key.`)
  if (Object.hasOwn(before, key)) throw new Fault('invalid_request', `\`${name}\` is given twice: give it once.`)
  return { ...before, [key]: value }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The body as JSON; undefined where there is none. */
async function readJson(route: Route, incoming: IncomingMessage): Promise<unknown> {
  const text = await readText(incoming, route.body_bytes_max ?? REQUEST_BYTES_MAX)
  if (text.trim() === '') return undefined
  const type = incoming.headers['content-type'] ?? ''
  if (!/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type)) {
    throw new Fault(
      'invalid_request',
      `A body must be sent as application/json, not as ${type ? JSON.stringify(type) : 'an unnamed type'}.`,
      { status: 415 },
    )
  }
  // A runner carries what a program wrote, and cannot ask it to write something else.
  return parseJson(text, route.callers.includes('user') ? 'refuse' : 'mend')
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
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))
  } catch {
    throw new Fault('invalid_request', 'The body is not valid UTF-8. JSON is sent as UTF-8.')
  }
}

/** The value of a header that may be sent once. */
export function singleHeader(header: string | string[] | undefined): string | undefined {
  if (Array.isArray(header)) throw new Fault('invalid_request', 'A header was sent twice that may be sent once.')
  return header
}

/** Undefined: none was sent, or the route takes none. */
export function idempotencyKey({ idempotent }: Route, headers: IncomingHttpHeaders): string | undefined {
  const key = idempotent ? singleHeader(headers['idempotency-key']) : undefined
  if (key === undefined || (key.length > 0 && key.length <= IDEMPOTENCY_KEY_CHARACTERS_MAX)) return key
  throw new Fault('invalid_request', `An Idempotency-Key has 1 to ${IDEMPOTENCY_KEY_CHARACTERS_MAX} characters.`)
}
