/**
 * From a route value and an answer function to an endpoint: identify, admit, parse, call, render, in this order.
 * What a route does not say is refused: an answer is never reached by a caller that its route does not name.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { z } from 'zod'
import { Fault, isAtLeast, type Route, type SignedDownload } from '../contract/index.ts'
import type { Shown } from '../engine/access.ts'
import type { Caller, UserCaller } from '../engine/caller.ts'
import { actingCaller } from './acting.ts'
import { type Asker, checkCookieUse, identify, shownBy } from './callers.ts'
import { checkOrigin } from './hosts.ts'
import { idempotencyKey, type Parsed, readRequest } from './requests.ts'
import type { ServerRoom } from './room.ts'
import type { EventStream } from './streams.ts'

/** A request as an answer function sees it: parsed, and nothing of HTTP but its headers. */
export type Ask<P, Q, B, C = Caller> = {
  caller: C
  params: P
  query: Q
  body: B
  headers: IncomingHttpHeaders
  /** Of routes that say so. */
  idempotency_key: string | undefined
  /** Where it came from, and whether over TLS; for sessions and limits. */
  address: string
  is_secure: boolean
  /** Sets a header of the answer. */
  setHeader(name: string, value: string): void
  /** Sets another status than the route's own. */
  setStatus(status: number): void
}

type LooseAsk = Ask<never, never, never, never>

export type Answer = {
  route: Route
  answer: ((ask: LooseAsk) => Promise<unknown>) | null
  stream: ((ask: LooseAsk, stream: EventStream) => Promise<void>) | null
  /** Runs before a stream is opened, while it can still be refused with a status. */
  admit: ((ask: LooseAsk) => Promise<void>) | null
}

/** Answers a route for callers that its `callers` names. */
export function mount<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, A extends z.ZodType>(
  route: Route<P, Q, B, A>,
  answer: (ask: Ask<z.output<P>, z.output<Q>, z.output<B>>) => Promise<z.input<A>>,
): Answer {
  return { route, answer, stream: null, admit: null }
}

/** Answers a route with an address, and leads there who follows. */
export function mountRedirect<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  route: Route<P, Q, B, typeof SignedDownload>,
  answer: (ask: Ask<z.output<P>, z.output<Q>, z.output<B>>) => Promise<SignedDownload>,
): Answer {
  return mount(route, async (ask) => {
    const signed = await answer(ask)
    ask.setHeader('location', signed.download_url)
    return signed
  })
}

/** Answers a route that needs no credentials. */
export function mountOpen<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, A extends z.ZodType>(
  route: Route<P, Q, B, A>,
  answer: (ask: Ask<z.output<P>, z.output<Q>, z.output<B>, null>) => Promise<z.input<A>>,
): Answer {
  return { route, answer, stream: null, admit: null }
}

/** Answers a route that may also be asked without credentials: then `caller` is null. */
export function mountAnyone<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, A extends z.ZodType>(
  route: Route<P, Q, B, A>,
  answer: (ask: Ask<z.output<P>, z.output<Q>, z.output<B>, Caller | null>) => Promise<z.input<A>>,
): Answer {
  return { route, answer, stream: null, admit: null }
}

/** Answers a route with an event stream that lives until `follow` resolves or the reader goes. */
export function mountStream<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, A extends z.ZodType>(
  route: Route<P, Q, B, A>,
  follow: (ask: Ask<z.output<P>, z.output<Q>, z.output<B>>, stream: EventStream) => Promise<void>,
  admit?: (ask: Ask<z.output<P>, z.output<Q>, z.output<B>>) => Promise<void>,
): Answer {
  return { route, answer: null, stream: follow, admit: admit ?? null }
}

export type Exchange = {
  incoming: IncomingMessage
  outgoing: ServerResponse
  params: Record<string, string>
  search: string
  trace_id: string
}

export async function respond(room: ServerRoom, mounted: Answer, exchange: Exchange): Promise<Response> {
  const { route } = mounted
  const { incoming, outgoing, trace_id } = exchange
  const asker: Asker = {
    headers: incoming.headers,
    address: incoming.socket.remoteAddress ?? 'unknown',
    method: route.method,
  }
  const opens_stream = route.produces === 'event-stream'
  if (route.method !== 'GET' || opens_stream) checkOrigin(incoming.headers, room.public_hosts)
  const is_open = route.callers.length === 0 || (route.anonymous && shownBy(incoming.headers) === null)
  const caller = is_open ? null : await admit(room, route, asker)
  let status: number = route.status
  const headers: Record<string, string> = { 'cache-control': 'no-store', 'x-trace-id': trace_id }
  const ask = {
    caller,
    ...(await withoutSecrets(
      room,
      route,
      caller,
      await readRequest(route, incoming, exchange.params, exchange.search),
    )),
    headers: incoming.headers,
    idempotency_key: idempotencyKey(route, incoming.headers),
    address: asker.address,
    is_secure: isSecure(incoming),
    setHeader: (name: string, value: string) => {
      headers[name] = value
    },
    setStatus: (other: number) => {
      status = other
    },
  } as LooseAsk // Parsed by the schemas of the very route that the answer function was mounted on.
  const shown = shownBy(incoming.headers)
  if (mounted.stream !== null && caller !== null && shown !== null) {
    await mounted.admit?.(ask)
    return openStream(room, mounted.stream, { ask, caller, shown, route, exchange })
  }
  const answer = (await mounted.answer?.(ask)) ?? {}
  if (outgoing.destroyed) return RESPONSE_ALREADY_SENT
  const body = JSON.stringify(answer)
  room.checkAnswer?.(route, JSON.parse(body))
  return render(status, headers, body)
}

/**
 * What a program in a sandbox says past its runner may hold what its run was given in confidence. A runner's own routes
 * bring what the runner has redacted; files in base64 are bytes, and nobody's text.
 */
async function withoutSecrets(room: ServerRoom, route: Route, caller: Caller | null, parsed: Parsed): Promise<Parsed> {
  if (caller?.kind !== 'execution' || route.tag === 'Runner' || route.method === 'GET') return parsed
  const redactor = await room.engine.redactorOf(caller.execution_id)
  if (redactor === null) return parsed
  const { body } = parsed
  if (
    typeof body === 'object' &&
    body !== null &&
    'encoding' in body &&
    body.encoding === 'base64' &&
    'content' in body
  )
    return { ...parsed, body: { ...Object(redactor.deep({ ...body, content: '' })), content: body.content } }
  return { ...parsed, body: redactor.deep(body) }
}

async function admit(room: ServerRoom, route: Route, asker: Asker): Promise<Caller> {
  const known = await identify(room.known, room.wrong_keys, asker)
  const caller = await actingCaller(room.engine.workload, route, known, asker.headers)
  checkCookieUse(caller, asker, route.produces === 'event-stream', room.public_hosts)
  if (!route.callers.includes(caller.kind)) throw new Fault('not_authorized', refusals[caller.kind])
  if (caller.kind === 'user') checkRole(route, caller)
  // The runner of an ended execution may still repeat what it said: the answer to it may have been lost.
  if (caller.kind === 'execution' && caller.ended && !route.after_end) {
    throw new Fault('authentication_required', 'This execution has ended, and its token with it.')
  }
  return caller
}

/** The one place that knows of roles; the engine checks them again only where a role bounds what else is asked. */
function checkRole(route: Route, caller: UserCaller): void {
  if (!isAtLeast(caller.role, route.role)) {
    throw new Fault(
      'not_authorized',
      `This takes the role ${route.role}; with this key you are ${caller.role} of the team. Ask an admin of the team.`,
    )
  }
  if (route.people && caller.identity_uid !== null)
    throw new Fault('not_authorized', "An agent's key may not do this; it takes a person's key.")
}

const refusals = {
  user: 'Only the runner of an execution may do this, with the token that it was given.',
  execution: "A run's own token may not do this; it takes a person's key.",
  worker: "A worker's key opens worker connections and nothing else; this takes a person's key.",
}

type Opening = { ask: LooseAsk; caller: Caller; shown: Shown; route: Route; exchange: Exchange }

function openStream(
  room: ServerRoom,
  follow: (ask: LooseAsk, stream: EventStream) => Promise<void>,
  opening: Opening,
): Response {
  const { ask, caller, shown, route, exchange } = opening
  const { outgoing, incoming, trace_id } = exchange
  if (incoming.method === 'HEAD')
    return render(200, { 'content-type': 'text/event-stream', 'x-trace-id': trace_id }, null)
  const stream = room.streams.open(outgoing, { team_id: caller.team_id, run: caller.kind === 'execution' }, trace_id)
  const unguard = room.guard.watch({ shown, outlives_execution: route.tag === 'Runner', end: stream.end })
  follow(ask, stream)
    .catch((error: unknown) => {
      // Ended, the reader connects anew and resumes after the last frame that it has.
      if (!stream.closed.aborted) room.log.warn({ err: error, trace_id }, 'stream.failed')
    })
    .finally(() => {
      unguard()
      stream.end()
    })
  return RESPONSE_ALREADY_SENT
}

function render(status: number, headers: Record<string, string>, body: string | null): Response {
  if (status === 204 || body === null) return new Response(null, { status, headers })
  return new Response(body, { status, headers: { ...headers, 'content-type': 'application/json' } })
}

/** Over TLS, or at a proxy that says so. */
export function isSecure(incoming: IncomingMessage): boolean {
  return 'encrypted' in incoming.socket || incoming.headers['x-forwarded-proto'] === 'https'
}
