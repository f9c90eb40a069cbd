/**
 * The event hub: one tail of the log for all streams of this server.
 *
 * A reader replays until it has caught up with the tail, then joins it in the same turn of the event loop, so that
 * nothing lies between. All readers that have joined stand at `head`. One whose buffer is full leaves the tail, waits
 * until it has drained, replays what it missed (mostly from memory) and joins again: it makes nobody wait.
 */
import type { Logger } from 'pino'
import type { Engine } from '../engine/engine.ts'
import type { EventSelection, LoggedEvent } from '../engine/events.ts'
import type { ServerLimits } from './limits.ts'
import { pollLoop } from './poll.ts'
import type { EventStream } from './streams.ts'

/** `bare`: the public form, one event a frame; `framed`: wrapped as a frame of our own stream. */
export type Form = 'bare' | 'framed'

/** Readers with the same key of their selection want the same events. */
export type Reader = EventSelection & {
  stream: EventStream
  /** The last event dealt with; null: begin with what comes next. */
  since: number | null
  form: Form
  /** Called once, before anything is sent, with the position that the reader begins after. */
  begins?: (sequence: number) => void
  /** Called in place of a replay that would be longer than `replay_events_max`. */
  skipsTo?: (sequence: number) => void
}

/** An event with its frame in each form, rendered when first needed and then shared. */
type Kept = { event: LoggedEvent; frames: Partial<Record<Form, Buffer>> }
/** `sequence`: where a reader stands that was sent the page. */
type Page = { page: Kept[]; sequence: number }
type Seat = { reader: Reader; leave(sequence: number): void }

const PAGE = 500
/** Readers for whose number events are gathered as much longer again. */
const READERS_A_GATHER = 250
/** While there is no reader, in milliseconds: what this server's own parts hear is no news to them, or can wait. */
const UNREAD_GATHER_MS = 100

export type Hub = Awaited<ReturnType<typeof openHub>>

export async function openHub({ engine, limits, log }: { engine: Engine; limits: ServerLimits; log: Logger }) {
  const kept: Kept[] = []
  const seats = new Map<string, Set<Seat>>()
  let readers = 0
  const listeners = new Set<(events: LoggedEvent[]) => void>()
  let head = await engine.events.head()
  /** Everything after this is in memory. */
  let forgotten = head

  async function readPage(): Promise<boolean> {
    const events = await engine.events.read(head, PAGE)
    const before = head
    const last = events.at(-1)
    // Another read of the same page may have come first.
    if (!last || last.sequence <= head) return false
    head = last.sequence
    const fresh = events.map((event): Kept => ({ event, frames: {} }))
    kept.push(...fresh)
    const dropped = kept.splice(0, Math.max(0, kept.length - limits.events_kept))
    forgotten = dropped.at(-1)?.event.sequence ?? forgotten
    for (const alike of seats.values()) fanOut(alike, fresh, before)
    for (const listener of listeners) listener(events)
    return events.length === PAGE
  }

  const tail = pollLoop({
    name: 'log',
    log,
    poll_ms: limits.poll_ms,
    // A write costs the same for one event as for ten.
    gather_ms: () => (readers === 0 ? UNREAD_GATHER_MS : limits.gather_ms * (1 + readers / READERS_A_GATHER)),
    async step() {
      while (await readPage()) {}
    },
  })
  const deaf = [engine.bell.hear('log', tail.wake), engine.bell.hear('reconnected', tail.wake)]

  /** What a reader at `sequence` has yet to see, where memory holds all of it. */
  function remembered(sequence: number): Kept[] | null {
    if (sequence >= head) return []
    return sequence < forgotten ? null : kept.slice(kept.findLastIndex(({ event }) => event.sequence <= sequence) + 1)
  }

  async function startOf({ since }: Reader): Promise<number> {
    if (since === null) return head
    // Ahead of the tail: either it has yet to come to what the reader saw elsewhere, or this is another store's number.
    if (since > head) await tail.step()
    return Math.min(since, head)
  }

  /** What the reader wants of what the tail has already passed, and where it then stands. */
  async function readBehind(reader: Reader, sequence: number): Promise<Page> {
    const until = head
    const events = await engine.events.read(sequence, PAGE, { where: reader.where, until })
    const last = events.length < PAGE ? undefined : events.at(-1)
    return { page: events.map((event) => ({ event, frames: {} })), sequence: last?.sequence ?? until }
  }

  function pageOf(rest: Kept[]): Page {
    const page = rest.slice(0, PAGE)
    return { page, sequence: page.at(-1)?.event.sequence ?? head }
  }

  /** Writes what there is until the reader stands at `head`, with room for more, or has gone. */
  async function catchUp(reader: Reader, from: number): Promise<number> {
    let sequence = from
    while (!reader.stream.closed.aborted) {
      await reader.stream.drained()
      if (reader.skipsTo && head - sequence > limits.replay_events_max) {
        sequence = head
        reader.skipsTo(sequence)
      }
      const rest = remembered(sequence)
      if (rest?.length === 0) return sequence
      const next = rest === null ? await readBehind(reader, sequence) : pageOf(rest)
      send(reader, next.page)
      sequence = next.sequence
    }
    return sequence
  }

  /** Resolves, with the last event that was sent, when the reader has fallen behind or gone. */
  function stay(reader: Reader): Promise<number> {
    return new Promise((resolve) => {
      const key = `${reader.form} ${reader.key}`
      const alike = seats.get(key) ?? new Set<Seat>()
      const gone = () => seat.leave(head)
      const seat: Seat = {
        reader,
        leave(sequence) {
          alike.delete(seat)
          if (alike.size === 0 && seats.get(key) === alike) seats.delete(key)
          reader.stream.closed.removeEventListener('abort', gone)
          resolve(sequence)
        },
      }
      seats.set(key, alike.add(seat))
      reader.stream.closed.addEventListener('abort', gone)
    })
  }

  return {
    head: () => head,
    /** Serves one reader until its stream closes. */
    async follow(reader: Reader): Promise<void> {
      const first = readers === 0
      readers += 1
      try {
        if (first) await tail.step()
        let sequence = await startOf(reader)
        reader.begins?.(sequence)
        for (;;) {
          sequence = await catchUp(reader, sequence)
          if (reader.stream.closed.aborted) return
          sequence = await stay(reader)
        }
      } finally {
        readers -= 1
      }
    },
    /** Hears each batch of new events once, in order. */
    hear(listener: (events: LoggedEvent[]) => void): () => void {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    async close(): Promise<void> {
      for (const stop of deaf) stop()
      await tail.close()
    },
  }
}

/** Gives a batch to readers that see the same: found and joined once, whatever their number. */
function fanOut(alike: Set<Seat>, fresh: Kept[], before: number): void {
  const [first] = alike
  if (!first) return
  const frames = framesFor(first.reader, fresh)
  for (const seat of alike) {
    const { stream } = seat.reader
    if (!stream.hasRoom()) seat.leave(before)
    else if (frames) stream.write(frames)
  }
}

function send(reader: Reader, page: Kept[]): void {
  const frames = framesFor(reader, page)
  if (frames) reader.stream.write(frames)
}

function framesFor(reader: Reader, page: Kept[]): Buffer | null {
  const frames = page
    .filter(({ event }) => reader.wants(event))
    .map((one) => (one.frames[reader.form] ??= render(one.event, reader.form)))
  return frames.length === 0 ? null : frames.length === 1 ? (frames[0] ?? null) : Buffer.concat(frames)
}

function render(logged: LoggedEvent, form: Form): Buffer {
  const { sequence, event_type, run_id, ref_id, execution_id, occurred_at } = logged
  const event = { sequence, event_type, run_id, ref_id, execution_id, occurred_at }
  return frame(form === 'bare' ? event : { type: 'event', event }, sequence)
}

/** One server-sent event; with an `id` a reader can resume after it. */
export function frame(value: unknown, id?: number): Buffer {
  return Buffer.from(`${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(value)}\n\n`)
}
