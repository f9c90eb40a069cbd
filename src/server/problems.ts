/** What goes wrong while a request is answered, as problem+json. Bugs are logged here, once, and never shown. */
import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import type { z } from 'zod'
import { Fault, pointerOf, renderProblem } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { isDiskFull, isUnavailable } from '../db/unavailable.ts'

/** How many wrong fields one answer names. */
const ISSUES_MAX = 20
/** Seconds after which asking again may help while PostgreSQL is away. */
const DATABASE_RETRY_S = 2

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/

/** The caller's own trace (W3C `traceparent`) or a new one. */
export function traceOf(traceparent: string | undefined): string {
  return TRACEPARENT.exec(traceparent ?? '')?.[1] ?? randomBytes(16).toString('hex')
}

/** Anything thrown, as the fault that the caller is shown. */
export function faultOf(thrown: unknown, trace_id: string, log: Logger): Fault {
  if (thrown instanceof Fault) return thrown
  if (isDiskFull(thrown)) {
    log.error({ trace_id, reason: whyOf(thrown) }, 'disk.full')
    return new Fault('resource_unavailable', "The server's disk is full. Free some space on it, then try again.", {
      status: 507,
      retryable: true,
      retry_after_s: 30,
    })
  }
  if (isUnavailable(thrown) || isLostRace(thrown)) {
    log.warn({ trace_id, reason: whyOf(thrown) }, 'database.away')
    return new Fault('resource_unavailable', 'The server cannot reach its database right now. Try again in a moment.', {
      status: 503,
      retryable: true,
      retry_after_s: DATABASE_RETRY_S,
    })
  }
  log.error({ trace_id, err: thrown }, 'request.bug')
  return new Fault(
    'internal_error',
    `Something went wrong in the server. Its log has the details under trace ${trace_id}.`,
  )
}

export type ProblemReply = { status: number; headers: Record<string, string>; body: string }

export function renderFault(fault: Fault, trace_id: string, instance?: string): ProblemReply {
  const headers: Record<string, string> = {
    'content-type': 'application/problem+json',
    'cache-control': 'no-store',
    'x-trace-id': trace_id,
    ...fault.details.headers,
  }
  if (fault.details.retry_after_s !== undefined)
    headers['retry-after'] = String(Math.max(1, Math.ceil(fault.details.retry_after_s)))
  // The public Oz SDK repeats every 408, 409, 429 and 5xx unless it is told.
  if (fault.status === 408 || fault.status === 409 || fault.status === 429 || fault.status >= 500) {
    headers['x-should-retry'] = String(fault.retryable)
  }
  if (fault.status === 401) headers['www-authenticate'] = 'Bearer'
  return { status: fault.status, headers, body: JSON.stringify(renderProblem(fault, trace_id, instance)) }
}

/** What a schema found wrong with a request, in words; `where` is `body` or `query`. */
export function invalid(where: 'body' | 'query', error: z.ZodError): Fault {
  const issues = error.issues.slice(0, ISSUES_MAX).map(plainIssue)
  const errors = issues.map(({ path, message }) => ({ pointer: pointerOf(path), detail: message }))
  const [first] = issues
  const field = first === undefined || first.path.length === 0 ? `The ${where}` : `\`${nameOf(first.path)}\``
  const more = error.issues.length > 1 ? ` (and ${error.issues.length - 1} more)` : ''
  return new Fault(
    'invalid_request',
    `${field} is not valid: ${lowerFirst(first?.message ?? 'unknown')}${more}.`.replace(/\.+$/, '.'),
    { errors },
  )
}

type Plain = { path: PropertyKey[]; message: string }

/** Where and why: of a key of a record, what is wrong with it; of a union, what the nearest of its forms misses. */
function plainIssue(issue: z.core.$ZodIssue): Plain {
  const { path, message } = issue
  if (issue.code === 'invalid_key') return { path, message: issue.issues[0]?.message ?? message }
  if (issue.code !== 'invalid_union' || message !== 'Invalid input') return { path, message }
  const forms = issue.errors.flatMap((of) => of.slice(0, 1).map(plainIssue))
  const nearest = forms.reduce<Plain | null>(
    (best, form) => (best === null || form.path.length >= best.path.length ? form : best),
    null,
  )
  return nearest === null ? { path, message } : { path: [...path, ...nearest.path], message: nearest.message }
}

function nameOf(path: PropertyKey[]): string {
  return path
    .map((part, at) => (typeof part === 'number' ? `[${part}]` : at === 0 ? String(part) : `.${String(part)}`))
    .join('')
}

function lowerFirst(text: string): string {
  return /^(A |[A-Z][a-z])/.test(text) ? text[0]?.toLowerCase() + text.slice(1) : text
}

/** A transaction that PostgreSQL gave up for another: deadlock, serialisation, a lock not had in time. */
function isLostRace(thrown: unknown): boolean {
  return thrown instanceof Error && 'code' in thrown && ['40001', '40P01', '55P03'].includes(String(thrown.code))
}
