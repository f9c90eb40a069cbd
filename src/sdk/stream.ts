/**
 * Following event streams: reconnects for ever with backoff, resumes after the last frame that carried an id.
 *
 * A frame is given at least once; after a break nothing between is missed. `onState` says when the line is down.
 */
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { type Answered, API_PREFIX, Fault, type Route } from '../contract/index.ts'
import { type Asking, type Carried, fillPath, pause, queryOf } from './calls.ts'

/** Reconnect delays, in milliseconds; the last one repeats. */
export const RECONNECT_MS = [250, 1000, 2000, 5000, 10_000]
/** No byte for this long (keep-alives come every 15 s) means that the line is dead. */
export const SILENCE_MS = 45_000

export type FollowOptions = {
  params?: Record<string, string>
  /** Asked for before each connect, so that cursors in it are fresh. */
  query?: () => Record<string, unknown>
  signal: AbortSignal
  onState?: (state: 'open' | 'down') => void
  /** Resume after this id from the start. */
  last_id?: string
}

/** Yields parsed frames until the signal aborts (returns) or the server refuses for good (throws the fault). */
export async function* follow<R extends Route>(
  client: Asking,
  route: R,
  options: FollowOptions,
): AsyncGenerator<{ id?: string; frame: Answered<R> }> {
  let last_id = options.last_id
  for (let attempt = 0; !options.signal.aborted; attempt++) {
    try {
      for await (const { id, frame } of openStream(client, route, options, last_id)) {
        if (attempt >= 0) options.onState?.('open')
        attempt = -1
        if (id !== undefined) last_id = id
        yield id === undefined ? { frame } : { id, frame }
      }
    } catch (error) {
      if (options.signal.aborted) return
      if (error instanceof Fault && !error.retryable && error.status < 500) throw error
    }
    options.onState?.('down')
    await pause(RECONNECT_MS[Math.min(Math.max(attempt, 0), RECONNECT_MS.length - 1)] ?? 1000, options.signal).catch(
      () => {},
    )
  }
}

/** One connection: yields until the server ends it or the line dies. */
export async function* openStream<R extends Route>(
  client: Asking,
  route: R,
  options: FollowOptions,
  last_id?: string,
): AsyncGenerator<{ id?: string; frame: Answered<R> }> {
  const silence = new AbortController()
  const signal = AbortSignal.any([options.signal, silence.signal])
  let timer = setTimeout(() => silence.abort(), SILENCE_MS)
  const heard = () => {
    clearTimeout(timer)
    timer = setTimeout(() => silence.abort(), SILENCE_MS)
  }
  try {
    const response = await client.raw(route.method, API_PREFIX + fillPath(route.path, options.params), {
      headers: { accept: 'text/event-stream', ...(last_id === undefined ? {} : { 'last-event-id': last_id }) },
      signal,
      ...(options.query === undefined ? {} : { query: queryOf(options.query()) ?? new URLSearchParams() }),
    })
    if (!response.body) return
    const came: EventSourceMessage[] = []
    const parser = createParser({ onEvent: (event) => came.push(event) })
    const decoder = new TextDecoder()
    for await (const chunk of chunksOf(response.body)) {
      heard()
      parser.feed(decoder.decode(chunk, { stream: true }))
      for (const { id, data } of came.splice(0)) {
        const frame = route.answer.safeParse(safeJson(data))
        if (!frame.success) continue
        yield id === undefined ? { frame: frame.data as Answered<R> } : { id, frame: frame.data as Answered<R> }
      }
    }
  } finally {
    clearTimeout(timer)
  }
}

/** Not every browser iterates over a stream. Leaving the loop ends the connection. */
async function* chunksOf(body: NonNullable<Carried['body']>): AsyncGenerator<Uint8Array> {
  if (!('getReader' in body)) return yield* body
  const reader = body.getReader()
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value
  } finally {
    await reader.cancel().catch(() => {})
  }
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
