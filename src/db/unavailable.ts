/** Which errors mean that PostgreSQL cannot work just now, rather than that a query was wrong. */

const SYSTEM_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOSPC',
])
/**
 * https://www.postgresql.org/docs/18/errcodes-appendix.html: classes 08 (connection), 53 (resources: too many
 * connections, disk full, memory), 58 (system error), and out of 57: statement timeout, shutdown, crash, starting
 * up. 25006: a read-only standby.
 */
const SQLSTATES = /^(08...|53...|58...|57014|57P0.|25006)$/
/** `pg` gives these no code. */
const MESSAGES = [
  'Connection terminated',
  'timeout exceeded when trying to connect',
  'Cannot use a pool after calling end',
  'Client has encountered a connection error',
  'Client was closed',
]

/** The server answers 503 to these; trying again later may help. */
export function isUnavailable(error: unknown): boolean {
  return chain(error).some((one) => {
    const code = codeOf(one)
    if (code !== null) return isDatabaseError(one) ? SQLSTATES.test(code) : SYSTEM_CODES.has(code)
    return one instanceof Error && MESSAGES.some((start) => one.message.startsWith(start))
  })
}

/** No room on the disk of PostgreSQL, or on ours. */
export function isDiskFull(error: unknown): boolean {
  return chain(error).some((one) => codeOf(one) === '53100' || codeOf(one) === 'ENOSPC')
}

/** The error, what caused it, and what an AggregateError holds. */
function chain(error: unknown): unknown[] {
  const found: unknown[] = []
  const left = [error]
  while (left.length > 0 && found.length < 20) {
    const one = left.shift()
    if (!(one instanceof Error)) continue
    found.push(one)
    left.push(one.cause, ...(one instanceof AggregateError ? one.errors : []))
  }
  return found
}

function codeOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null
}

function isDatabaseError(error: unknown): boolean {
  return error instanceof Error && 'severity' in error
}
