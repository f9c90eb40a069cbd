/**
 * Which names this server answers to, and which pages may ask it.
 *
 * A page anywhere can make a browser resolve its own name to 127.0.0.1 and talk to us (DNS rebinding), so a request
 * for a name that is not ours is refused whoever sends it.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { Fault } from '../contract/index.ts'

const LOOPBACK = ['localhost', '127.0.0.1', '::1']
/** Bound to these, a server is reached under names that only its operator knows. */
const ANY_ADDRESS = ['0.0.0.0', '::']

export function checkHost(headers: IncomingHttpHeaders, bound: string, public_hosts: string[]): void {
  const name = hostnameOf(headers.host)
  if (name !== undefined && isOwnName(name, bound, public_hosts)) return
  throw new Fault(
    'invalid_request',
    `This server does not answer for the host ${JSON.stringify(headers.host ?? '')}. ` +
      'If it should, start it as `baton serve --public-host` with that name.',
    { status: 421 },
  )
}

/** No page of another origin may change anything, open a stream or a socket, with or without a key. */
export function checkOrigin(headers: IncomingHttpHeaders, public_hosts: string[]): void {
  if (headers.origin === undefined || isOwnOrigin(headers.origin, headers.host, public_hosts)) return
  throw new Fault('not_authorized', `Pages of ${JSON.stringify(headers.origin)} may not use this server.`)
}

/** The scheme is left out: TLS may end at a proxy before us. */
export function isOwnOrigin(origin: string, host: string | undefined, public_hosts: string[]): boolean {
  const url = URL.parse(origin)
  if (!url || !/^https?:$/.test(url.protocol)) return false
  if (url.host === host?.toLowerCase()) return true
  // Behind a proxy that rewrites Host, the page's origin carries the public name.
  return public_hosts.some((known) => known.toLowerCase() === url.host || known.toLowerCase() === url.hostname)
}

function isOwnName(name: string, bound: string, public_hosts: string[]): boolean {
  if (LOOPBACK.includes(name)) return true
  if (name === bound.toLowerCase() && !ANY_ADDRESS.includes(bound)) return true
  return public_hosts.some((known) => hostnameOf(known) === name)
}

/** The name without port and brackets; undefined where the header is no host at all. */
function hostnameOf(host: string | undefined): string | undefined {
  if (host === undefined || !/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?$/.test(host)) return undefined
  return host
    .replace(/:\d{1,5}$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase()
}
