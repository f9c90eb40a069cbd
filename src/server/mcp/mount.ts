/** Who may ask `/mcp`, and for how long a call of a tool may be held. What answers is loaded when first asked for. */
import type { Socket } from 'node:net'
import type { HttpBindings } from '@hono/node-server'
import type { Context } from 'hono'
import { Fault } from '../../contract/index.ts'
import type { ExecutionCaller, UserCaller } from '../../engine/caller.ts'
import { identify } from '../callers.ts'
import { checkOrigin } from '../hosts.ts'
import { once } from '../once.ts'
import type { ServerRoom } from '../room.ts'
import { hasArrived } from './arrival.ts'

export const MCP_PATH = '/mcp'

/** How long `wait_for_events` holds a call where the harness's profile says nothing, and the most it may say. */
const HOLD_MS = 25_000
const HOLD_MS_MAX = 10 * 60_000
/** A connection that is closed within this time of an answer was closed before it was read, in milliseconds. */
const CLOSED_SOON_MS = 500
/** In which an agent that has read the answer goes on, where nothing but a close speaks against it. */
const GO_ON_MS = 300

type Env = { Bindings: HttpBindings; Variables: { trace_id: string } }

export function mountMcp(room: ServerRoom, closing: AbortSignal): (c: Context<Env>) => Promise<Response> {
  const fateOf = answerFates()
  const endpoint = once(async () => (await import('./endpoint.ts')).openMcp(room, closing))
  return async (c) => {
    const began = performance.now()
    const { incoming } = c.env
    const trace_id = c.get('trace_id')
    checkOrigin(incoming.headers, room.public_hosts)
    const caller = await admit(room, c)
    const hold_ms = holdOf(c.req.query('hold_ms') ?? c.req.header('x-baton-hold-ms'))
    const fate = fateOf(c)
    const response = await (await endpoint()).answer(c.req.raw, { caller, hold_ms, trace_id, began, ...fate })
    const headers = new Headers(response.headers)
    headers.set('x-trace-id', trace_id)
    if (!headers.has('cache-control')) headers.set('cache-control', 'no-store')
    return new Response(response.body, { status: response.status, headers })
  }
}

/**
 * Tells what became of answers. `lost`: aborted when the connection ended before all of the answer was handed to it,
 * broke before another request came over it, or was closed right after, unless all of the answer is known to have
 * arrived. A client that has read an answer keeps its connection for the next call, unless either side said that it
 * would not. `sent`: aborted when all of it was handed to the connection. `read`: aborted when another request came
 * over the connection, which HTTP/1.1 clients send only when they have read the answer to its end.
 */
function answerFates(): (c: Context<Env>) => { lost: AbortSignal; sent: AbortSignal; read: AbortSignal } {
  type Fate = {
    lost: AbortController
    sent: AbortController
    read: AbortController
    once: boolean
    outgoing: HttpBindings['outgoing']
    finished_at: number | null
    arrived: boolean | null
  }
  const latest = new WeakMap<Socket, Fate>()
  const isSoon = ({ once, finished_at }: Fate) =>
    !once && finished_at !== null && performance.now() - finished_at < CLOSED_SOON_MS
  const judge = (socket: Socket, broken: boolean) => {
    const last = latest.get(socket)
    if (last === undefined) return
    const { lost, finished_at, arrived } = last
    if (finished_at === null || broken) lost.abort()
    // A crowded pool of connections closes some that were read; then the agent goes on over another.
    else if (arrived !== true && isSoon(last)) setTimeout(() => lost.abort(), GO_ON_MS).unref()
  }
  /** The other end has closed, and this one not yet. */
  const look = (socket: Socket) => {
    const last = latest.get(socket)
    if (last !== undefined && isSoon(last)) last.arrived = hasArrived(socket)
  }
  return ({ env: { incoming, outgoing } }) => {
    const { socket } = incoming
    const before = latest.get(socket)
    if (before === undefined) {
      socket.prependOnceListener('end', () => look(socket))
      socket.once('close', (broken) => judge(socket, broken))
    } else if (before.outgoing.writableEnded) before.read.abort()
    const own: Fate = {
      lost: new AbortController(),
      sent: new AbortController(),
      read: new AbortController(),
      once: incoming.headers.connection === 'close',
      outgoing,
      finished_at: null,
      arrived: null,
    }
    latest.set(socket, own)
    outgoing.once('finish', () => {
      own.finished_at = performance.now()
      own.once ||= !outgoing.shouldKeepAlive
      own.sent.abort()
    })
    return { lost: own.lost.signal, sent: own.sent.signal, read: own.read.signal }
  }
}

/** A run's own agent, or a person's assistant with the person's key. */
async function admit(room: ServerRoom, c: Context<Env>): Promise<ExecutionCaller | UserCaller> {
  const { headers, socket } = c.env.incoming
  // A browser sends its cookie by itself; what speaks for an agent is only the token that it was given.
  const { cookie: _, ...shown } = headers
  const asker = { headers: shown, address: socket.remoteAddress ?? 'unknown', method: c.req.method }
  const caller = await identify(room.known, room.wrong_keys, asker)
  if (caller.kind === 'worker') {
    throw new Fault('not_authorized', "A worker's key opens no tools. Use a person's key, or the token of a run.")
  }
  if (caller.kind === 'user') return caller
  if (caller.ended) throw new Fault('authentication_required', 'This execution has ended, and its token with it.')
  return caller
}

function holdOf(said: string | undefined): number {
  if (said === undefined) return HOLD_MS
  const ms = Number(said)
  if (!Number.isFinite(ms) || ms < 0) {
    throw new Fault('invalid_request', `hold_ms must be a number of milliseconds, not ${JSON.stringify(said)}.`)
  }
  return Math.min(ms, HOLD_MS_MAX)
}
