/**
 * The transcript being written: what a harness and the runner say becomes redacted, fitted, journaled entries.
 *
 * Nothing here waits and nothing here throws for a full disk or a flood: those end the run through `onLimit`, once.
 * After that, and after `seal`, entries are counted but not kept, but for those that the runner itself still owes.
 */
import {
  EntryBody,
  type Limits,
  type NewEntry,
  type Outcome,
  type RedactedStream,
  type Redactor,
} from '../contract/index.ts'
import type { Deltas } from './deltas.ts'
import { diskFull, outputLimit } from './failures.ts'
import { bodyBytes, fitEntry, TEXT_LENGTH_MAX } from './fit.ts'
import { type Journal, JournalFull } from './journal.ts'

export type Transcript = {
  entry(body: EntryBody): void
  delta(kind: 'text' | 'thought' | 'output', text: string, stream?: 'stdout' | 'stderr'): void
  /** What Baton itself did or found; kept even after the limit struck. */
  system(level: 'info' | 'warning' | 'error', name: string, text: string, details?: Record<string, unknown>): void
  /** Writes what is held back and how much was dropped. */
  flush(): void
  /** Nothing more is written. */
  seal(): void
}

export type TranscriptOptions = {
  journal: Journal
  redactor: Redactor
  limits: Limits
  deltas: Deltas
  onEntry: (entry: NewEntry) => void
  onLimit: (outcome: Outcome) => void
}

type Stream = 'stdout' | 'stderr'
/** A text that was cut for its length, with what its end held back. */
type Cut = { kind: 'text' | 'thought'; stream: RedactedStream }

export function makeTranscript(options: TranscriptOptions): Transcript {
  const { journal, redactor, limits, deltas } = options
  const held: Record<Stream, RedactedStream> = { stdout: redactor.stream(), stderr: redactor.stream() }
  let cut: Cut | null = null
  let state: 'open' | 'limited' | 'full' | 'sealed' = 'open'
  let dropped = 0

  function write(body: EntryBody): void {
    if (state === 'sealed' || state === 'full') return
    try {
      options.onEntry(journal.append(body))
    } catch (error) {
      if (!(error instanceof JournalFull)) throw error
      state = 'full'
      options.onLimit(diskFull(error.message))
    }
  }

  function keep(body: EntryBody): void {
    const bytes = bodyBytes(body)
    if (state === 'open' && journal.bytes + bytes > limits.transcript_bytes_max) {
      state = 'limited'
      options.onLimit(outputLimit(limits.transcript_bytes_max))
    }
    if (state === 'open') write(body)
    else dropped += bytes
  }

  function clean(body: EntryBody): EntryBody {
    // Redacted whole: what is cut first may be cut in the middle of a secret.
    const parsed = EntryBody.safeParse(redactor.deep(body))
    return parsed.success
      ? fitEntry(parsed.data, limits.tool_output_bytes_max)
      : { kind: 'gap', bytes: bodyBytes(body), reason: `A ${body.kind} entry was not well-formed.` }
  }

  function output(stream: Stream, text: string): void {
    if (text !== '') keep(clean({ kind: 'output', stream, text }))
  }

  /** A text that was cut for its length goes on in the next entry, as may a secret in it: its end is held back. */
  function said(body: EntryBody): void {
    const before = cut?.kind === body.kind ? cut : null
    if (before === null) endCut()
    cut = null
    if (body.kind !== 'text' && body.kind !== 'thought') return keep(clean(body))
    const is_cut = body.text.length > TEXT_LENGTH_MAX
    if (before === null && !is_cut) return keep(clean(body))
    const stream = before?.stream ?? redactor.stream()
    const sure = stream.push(body.text)
    if (is_cut) cut = { kind: body.kind, stream }
    const text = is_cut ? sure : sure + stream.flush()
    if (text !== '') keep(clean({ ...body, text }))
  }

  function endCut(): void {
    const rest = cut?.stream.flush() ?? ''
    if (cut !== null && rest !== '') keep(clean({ kind: cut.kind, text: rest }))
    cut = null
  }

  return {
    entry(body) {
      deltas.settle(body)
      if (body.kind === 'output') output(body.stream, held[body.stream].push(body.text))
      else said(body)
    },
    delta(kind, text, stream) {
      if (state === 'open') deltas.add(kind, text, stream)
    },
    system(level, name, text, details) {
      write(clean({ kind: 'system', level, name, text, ...(details === undefined ? {} : { details }) }))
    },
    flush() {
      output('stdout', held.stdout.flush())
      output('stderr', held.stderr.flush())
      endCut()
      if (dropped > 0) write({ kind: 'gap', bytes: dropped, reason: 'The transcript had reached its limit.' })
      dropped = 0
    },
    seal() {
      state = 'sealed'
    },
  }
}
