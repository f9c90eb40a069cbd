/**
 * Live text: coalesced to at most ten sends a second, dropped when nobody watches or the server is away.
 *
 * Text is redacted as a stream, so what might be the beginning of a secret waits for what follows. `offset` counts
 * what was dropped too: a reader sees that it missed some, and gets the whole text with the entry.
 */
import type { Delta, EntryBody, RedactedStream, Redactor } from '../contract/index.ts'
import { pause } from '../sdk/calls.ts'
import type { Client } from './client.ts'
import { TEXT_LENGTH_MAX } from './fit.ts'

/** Between two sends, in milliseconds. */
export const DELTA_EVERY_MS = 100
/** Text that is followed by its entry so soon is not sent, in milliseconds. */
const DELTA_FIRST_MS = 50
/** How often we ask whether somebody watches, in milliseconds, while nobody does. */
export const DELTA_PROBE_MS = 2000
const DELTA_ANSWER_MS = 5000
const DELTA_LENGTH_MAX = 65_536

type Kind = Delta['kind']
type Stream = 'stdout' | 'stderr'
type Growing = { kind: Kind; stream: Stream | undefined; redacted: RedactedStream; waiting: string; offset: number }

export type Deltas = {
  add(kind: Kind, text: string, stream?: Stream): void
  /** The entry with the whole text is being written: what was growing of its kind is done. */
  settle(body: EntryBody): void
  close(): void
}

export type DeltaOptions = {
  client: Client
  execution_id: string
  redactor: Redactor
  /** The number that the next entry will have. */
  next: () => number
  /** Also told here, for a terminal that watches its own run. */
  onDelta: ((delta: Delta) => void) | undefined
  signal: AbortSignal
}

export function makeDeltas(options: DeltaOptions): Deltas {
  const growing = new Map<string, Growing>()
  const closing = new AbortController()
  const signal = AbortSignal.any([options.signal, closing.signal])
  let sending = false
  let watched = true
  let probe_at = 0

  function take(): Delta[] {
    const deltas: Delta[] = []
    for (const text of growing.values()) {
      if (text.waiting === '') continue
      const kept = text.waiting.slice(-DELTA_LENGTH_MAX)
      deltas.push({
        kind: text.kind,
        ...(text.stream === undefined ? {} : { stream: text.stream }),
        text: kept,
        offset: text.offset + text.waiting.length - kept.length,
        number: options.next(),
      })
      text.offset += text.waiting.length
      text.waiting = ''
    }
    return deltas
  }

  /** Runs while there is something to say, then ends. */
  async function send(): Promise<void> {
    await pause(DELTA_FIRST_MS, signal)
    for (let deltas = take(); deltas.length > 0; deltas = take()) {
      for (const delta of deltas) options.onDelta?.(delta)
      if (watched || Date.now() >= probe_at) {
        watched = await tell(watched ? deltas : [])
        probe_at = Date.now() + DELTA_PROBE_MS
      }
      await pause(DELTA_EVERY_MS, signal)
    }
  }

  async function tell(deltas: Delta[]): Promise<boolean> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(DELTA_ANSWER_MS)])
    const asked = options.client.executions.deltas({
      params: { execution_id: options.execution_id },
      body: { deltas },
      signal: limit,
    })
    return asked.then(
      (answer) => answer.watched,
      () => false,
    )
  }

  return {
    add(kind, text, stream) {
      const key = `${kind}/${stream ?? ''}`
      const one = growing.get(key) ?? { kind, stream, redacted: options.redactor.stream(), waiting: '', offset: 0 }
      growing.set(key, one)
      one.waiting += one.redacted.push(text)
      if (one.waiting.length > 2 * DELTA_LENGTH_MAX) {
        one.offset += one.waiting.length - DELTA_LENGTH_MAX
        one.waiting = one.waiting.slice(-DELTA_LENGTH_MAX)
      }
      if (sending || signal.aborted) return
      sending = true
      send()
        .catch(() => {})
        .finally(() => {
          sending = false
        })
    },
    settle(body) {
      // Output goes on where its entry ends, in the middle of a secret perhaps: what is held back is kept.
      const output = body.kind === 'output' ? growing.get(`output/${body.stream}`) : undefined
      if (output !== undefined) Object.assign(output, { waiting: '', offset: 0 })
      if (body.kind !== 'text' && body.kind !== 'thought') return
      const text = growing.get(`${body.kind}/`)
      if (text !== undefined && body.text.length > TEXT_LENGTH_MAX) Object.assign(text, { waiting: '', offset: 0 })
      else growing.delete(`${body.kind}/`)
    },
    close: () => closing.abort(),
  }
}
