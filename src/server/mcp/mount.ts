/** Who may ask `/mcp`, and for how long a call of a tool may be held. What answers is loaded when first asked for. */
import type { HttpBindings } from '@hono/node-server'
import type { Context } from 'hono'
import { Fault } from '../../contract/index.ts'
import type { ExecutionCaller } from '../../engine/caller.ts'
import { identify } from '../callers.ts'
import { checkOrigin } from '../hosts.ts'
import { once } from '../once.ts'
import type { ServerRoom } from '../room.ts'

export const MCP_PATH = '/mcp'

/** How long `wait_for_events` holds a call where the harness's profile says nothing, and the most it may say. */
const HOLD_MS = 25_000
const HOLD_MS_MAX = 10 * 60_000

type Env = { Bindings: HttpBindings; Variables: { trace_id: string } }

export function mountMcp(room: ServerRoom, closing: AbortSignal): (c: Context<Env>) => Promise<Response> {
  const endpoint = once(async () => (await import('./endpoint.ts')).openMcp(room, closing))
  return async (c) => {
    const { incoming } = c.env
    const trace_id = c.get('trace_id')
    checkOrigin(incoming.headers, room.public_hosts)
    const caller = await admit(room, c)
    const hold_ms = holdOf(c.req.query('hold_ms') ?? c.req.header('x-baton-hold-ms'))
    const response = await (await endpoint()).answer(c.req.raw, { caller, hold_ms, trace_id })
    const headers = new Headers(response.headers)
    headers.set('x-trace-id', trace_id)
    if (!headers.has('cache-control')) headers.set('cache-control', 'no-store')
    return new Response(response.body, { status: response.status, headers })
  }
}

async function admit(room: ServerRoom, c: Context<Env>): Promise<ExecutionCaller> {
  const { headers, socket } = c.env.incoming
  // A browser sends its cookie by itself; what speaks for an agent is only the token that it was given.
  const { cookie: _, ...shown } = headers
  const asker = { headers: shown, address: socket.remoteAddress ?? 'unknown', method: c.req.method }
  const caller = await identify(room.known, room.wrong_keys, asker)
  if (caller.kind !== 'execution') {
    throw new Fault('not_authorized', "Only a run's own agent may use this, with the token that the run was given.")
  }
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
