/**
 * Following one run from the terminal: every entry once and in order, and the run whenever its state may have
 * changed, across breaks of the line and restarts of the server. The stream only says that there is something to
 * see; entries that it left out are read from the transcript, so nothing is missed when it was too slow or down.
 */
import { type Entry, type Event, isEnded, type Run, routes } from '../contract/index.ts'
import type { Client } from '../sdk/client.ts'
import { follow } from '../sdk/stream.ts'

export type Sight =
  | { kind: 'run'; run: Run }
  | { kind: 'entry'; entry: Entry }
  | { kind: 'event'; event: Event }
  | { kind: 'line'; state: 'open' | 'down' }

export type FollowRun = {
  client: Client
  run_id: string
  /** Position after which entries are given; the beginning where absent. */
  after?: string | undefined
  /** False: states and events only. */
  entries?: boolean
  /** Told of each event, of whichever run that the caller may see, and with null that some may have been missed. */
  others?: (event: Event | null) => void
  signal: AbortSignal
}

const PAGE = 200

/** Ends after the run has ended and every entry of it was given. */
export async function* followRun(asked: FollowRun): AsyncGenerator<Sight> {
  const { client, run_id, signal } = asked
  const wanted = asked.entries !== false
  let position = asked.after
  const news = async function* (): AsyncGenerator<Sight> {
    if (wanted)
      for await (const entry of entriesAfter(client, run_id, position, signal)) {
        position = entry.position
        yield { kind: 'entry', entry }
      }
  }
  const first = await client.runs.get({ params: { run_id }, signal })
  yield { kind: 'run', run: first }
  yield* news()
  if (isEnded(first.state)) return

  const lines: Sight[] = []
  let known = ''
  let turned = Promise.withResolvers<null>()
  const done = new AbortController()
  const stream = follow(client, routes.events.follow, {
    signal: AbortSignal.any([signal, done.signal]),
    query: () => (wanted ? { run_ids: [run_id], entries_after: [position ?? ''] } : { run_ids: [run_id] }),
    onState: (state) => {
      if (state === known) return
      known = state
      lines.push({ kind: 'line', state })
      turned.resolve(null)
    },
  })
  let next = stream.next()
  try {
    for (;;) {
      const turn = await Promise.race([next, turned.promise])
      turned = Promise.withResolvers<null>()
      yield* lines.splice(0)
      if (turn === null) continue
      if (turn.done) break
      const { frame } = turn.value
      next = stream.next()
      if (frame.type === 'hello' || frame.type === 'reset') asked.others?.(null)
      if (frame.type === 'event') asked.others?.(frame.event)
      if (frame.type === 'entries' && frame.run_id === run_id) yield* news()
      if (frame.type === 'event' && frame.event.run_id === run_id) yield { kind: 'event', event: frame.event }
      const telling =
        frame.type === 'hello' || frame.type === 'reset' || (frame.type === 'event' && frame.event.run_id === run_id)
      if (!telling) continue
      const run = await client.runs.get({ params: { run_id }, signal }).catch(ignoreBreaks)
      if (!run) continue
      yield* news()
      yield { kind: 'run', run }
      if (isEnded(run.state)) return
    }
  } finally {
    done.abort()
    await next.catch(() => undefined)
  }
  signal.throwIfAborted()
}

async function* entriesAfter(
  client: Client,
  run_id: string,
  after: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<Entry> {
  for (let position = after; ; ) {
    const page = await client.transcripts
      .list({ params: { run_id }, query: { after: position ?? '', limit: PAGE }, signal })
      .catch(ignoreBreaks)
    if (!page) return
    yield* page.entries
    position = page.entries.at(-1)?.position ?? position
    if (!page.has_later || page.entries.length === 0) return
  }
}

/** While a server restarts, the stream's next `hello` asks again. */
export function ignoreBreaks(error: unknown): null {
  if (error instanceof Error && (error.name === 'Unreachable' || ('status' in error && Number(error.status) >= 500)))
    return null
  throw error
}
