/** Who is asking: bearer key or session cookie to caller, and what a browser may do with the cookie. */
import type { IncomingHttpHeaders } from 'node:http'
import { Fault, SESSION_COOKIE } from '../contract/index.ts'
import type { Shown } from '../engine/access.ts'
import type { Caller, UserCaller } from '../engine/caller.ts'
import { isOwnOrigin } from './hosts.ts'
import type { KnownCallers } from './known.ts'

/** Addresses remembered for wrong keys; the oldest are forgotten first. */
const ADDRESSES_MAX = 10_000
const MINUTE_MS = 60_000

/** A bearer key wins over the cookie; neither: null. */
export function shownBy(headers: IncomingHttpHeaders): Shown | null {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1]
  if (bearer !== undefined) return { token: bearer }
  const session = readCookie(headers.cookie, SESSION_COOKIE)
  return session === undefined ? null : { session }
}

export function readCookie(header: string | undefined, name: string): string | undefined {
  for (const pair of (header ?? '').split(';')) {
    const equals = pair.indexOf('=')
    if (equals > 0 && pair.slice(0, equals).trim() === name) return pair.slice(equals + 1).trim() || undefined
  }
  return undefined
}

export function sessionCookie(secret: string, expires_at: Date, secure: boolean): string {
  const expires = expires_at.toUTCString()
  return `${SESSION_COOKIE}=${secret}; Path=/; HttpOnly; SameSite=Lax; Expires=${expires}${secure ? '; Secure' : ''}`
}

/**
 * Counts wrong keys by address. Beyond the limit they are answered with 429; a right key is let through all the
 * same, so that nobody behind one proxy can lock out the others, and 256 random bits are not guessed anyway.
 */
export function wrongKeys(limit: number, now: () => Date) {
  const failures = new Map<string, { count: number; since: number }>()
  const current = (address: string) => {
    const seen = failures.get(address)
    return seen && now().getTime() - seen.since < MINUTE_MS ? seen : undefined
  }
  return {
    refuse(address: string): void {
      const seen = current(address)
      if (!seen || seen.count < limit) return
      const retry_after_s = Math.ceil((seen.since + MINUTE_MS - now().getTime()) / 1000)
      throw new Fault(
        'resource_unavailable',
        `Too many wrong keys came from ${address}. Wait ${retry_after_s} seconds.`,
        { status: 429, retry_after_s },
      )
    },
    count(address: string): void {
      const seen = current(address) ?? { count: 0, since: now().getTime() }
      failures.delete(address)
      failures.set(address, { ...seen, count: seen.count + 1 })
      const oldest = failures.keys().next().value
      if (failures.size > ADDRESSES_MAX && oldest !== undefined) failures.delete(oldest)
    },
  }
}
export type WrongKeys = ReturnType<typeof wrongKeys>

export type Asker = { headers: IncomingHttpHeaders; address: string; method: string }

export async function identify(known: KnownCallers, wrong: WrongKeys, asker: Asker): Promise<Caller> {
  const shown = shownBy(asker.headers)
  if (shown === null) {
    throw new Fault(
      'authentication_required',
      'This needs an API key. Send it as `Authorization: Bearer wk-1.…`, or run `baton login`.',
    )
  }
  const caller = await known.identify(shown)
  if (caller) return caller
  wrong.refuse(asker.address)
  wrong.count(asker.address)
  throw new Fault(
    'authentication_required',
    'token' in shown
      ? 'This key is not known here. It may have expired or been revoked; check it, or ask for a new one.'
      : 'Your session has ended. Sign in again.',
  )
}

/** The cookie comes with whatever a browser sends: believe it only when our own page asked. */
export function checkCookieUse(caller: Caller, asker: Asker, opens_stream: boolean, public_hosts: string[]): void {
  if (caller.by !== 'session') return
  if (asker.method === 'GET' && !opens_stream && asker.headers['sec-fetch-site'] !== 'cross-site') return
  if (cameFromOwnPage(asker.headers, public_hosts)) return
  throw new Fault(
    'not_authorized',
    "A session may be used only by this server's own page. Programs send an API key instead.",
  )
}

/**
 * Browsers send Origin with what changes state. For a same-origin GET they send Sec-Fetch-Site where the page came over
 * TLS or loopback, and else only a Referer.
 */
function cameFromOwnPage(headers: IncomingHttpHeaders, public_hosts: string[]): boolean {
  if (headers.origin !== undefined) return isOwnOrigin(headers.origin, headers.host, public_hosts)
  const site = headers['sec-fetch-site']
  if (site !== undefined) return site === 'same-origin'
  return headers.referer !== undefined && isOwnOrigin(headers.referer, headers.host, public_hosts)
}

export function asUser(caller: Caller): UserCaller {
  if (caller.kind === 'user') return caller
  throw new Fault('not_authorized', "Only a person's key may do this.")
}
