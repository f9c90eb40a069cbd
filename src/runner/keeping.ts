/**
 * Keeps the session of the harness at the server: read after each turn and at the end, so that the run goes on with its
 * memory wherever it runs next. What changed is sent, one request in flight. Nothing is loaded before there is a
 * session, and what cannot be kept is said once: the transcript stands in for it.
 */
import { Fault } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { pause, Unreachable } from '../sdk/calls.ts'
import type { Client } from './client.ts'
import type { Journal } from './journal.ts'
import type { Packed, Stamps } from './pack.ts'
import type { Transcript } from './transcript.ts'
import { ANSWER_MS, awayDelay, isSuperseded } from './upload.ts'

/** A server that answers, but cannot keep it, is asked so often. */
const SENDS_MAX = 3
/** Between two turns nothing waits for it for longer, in milliseconds. */
const BETWEEN_MS = 10_000

export type Keeping = {
  /** From here on there is a session. `held`: what the server holds of it. */
  begin(session: { session_id: string | null; folders: readonly string[]; held: Stamps }): void
  /** A turn has ended: resolves when its session has been read; it is sent meanwhile. Never rejects. */
  turnEnded(): Promise<void>
  /** Resolves when the server holds the session as it is now, or never will; rejects while the server is away. */
  kept(signal: AbortSignal): Promise<void>
}

export type KeepingOptions = {
  client: Client
  execution_id: string
  home: string
  journal: Journal
  transcript: Transcript
  superseded: AbortSignal
  onSuperseded: (message: string) => void
  /** Covers secrets in what is kept; absent: there are none. */
  mask?: (bytes: Uint8Array) => Uint8Array
}

type Ready = Packed & { entries: number }

export function makeKeeping(options: KeepingOptions): Keeping {
  const { client, execution_id, home, journal, transcript, superseded } = options
  let session: { session_id: string; folders: readonly string[] } | null = null
  let held: Stamps = new Map()
  let ready: Ready | null = null
  let is_said = false
  let last: Promise<unknown> = Promise.resolve()

  /** One at a time, whatever became of the one before. */
  function queued<T>(step: () => Promise<T>): Promise<T> {
    const next = last.then(step)
    last = next.catch(() => {})
    return next
  }

  function say(why: string): void {
    if (!is_said)
      transcript.system(
        'warning',
        'session_not_kept',
        `The session is not kept (${why}). When this run goes on, it is given its transcript instead.`,
      )
    is_said = true
  }

  /** `entries`: what the transcript had when the session was the one that is read now. */
  async function read(entries: number): Promise<void> {
    if (session === null || superseded.aborted) return
    const { packSession } = await import('./pack.ts')
    const result = await packSession(home, session.folders, held, options.mask)
    ready = null
    switch (result.found) {
      case 'session':
        ready = { stamps: result.stamps, packed: result.packed, entries }
        return
      case 'too_large':
        return say(result.why)
      case 'unsettled':
        return say('its files were being written all the time')
      case 'same':
    }
  }

  async function put(signal: AbortSignal): Promise<void> {
    if (ready === null || session === null) return
    const { stamps, packed, entries } = ready
    const files = [...stamps.keys()].map((path) => {
      const bytes = packed.get(path)
      return bytes === undefined ? { path } : { path, packed: bytes.toString('base64') }
    })
    const body = { session_id: session.session_id, entries, files }
    await client.executions.keep({ params: { execution_id }, body, signal })
    held = stamps
    ready = null
  }

  async function send(entries: number, signal: AbortSignal): Promise<void> {
    for (let sends = 1; ; sends++) {
      try {
        return await put(AbortSignal.any([signal, superseded, AbortSignal.timeout(ANSWER_MS)]))
      } catch (error) {
        if (isSuperseded(error)) options.onSuperseded(error.message)
        if (isSuperseded(error) || error instanceof Unreachable || signal.aborted || superseded.aborted) throw error
        if (sends >= SENDS_MAX || (error instanceof Fault && error.status < 500 && !error.retryable))
          return say(whyOf(error))
        await pause(awayDelay(sends - 1), signal)
        // It may hold less than we believe.
        held = new Map()
        await read(entries)
      }
    }
  }

  return {
    begin({ session_id, folders, held: there }) {
      if (session_id === null || folders.length === 0) return
      session = { session_id, folders }
      held = there
    },
    async turnEnded() {
      if (session === null) return
      const entries = journal.highest
      await queued(() => read(entries)).catch((error: unknown) => say(whyOf(error)))
      void queued(() => send(entries, AbortSignal.timeout(BETWEEN_MS))).catch(() => {})
    },
    async kept(signal) {
      if (session === null) return
      const entries = journal.highest
      await queued(async () => {
        await read(entries)
        await send(entries, signal)
      })
    },
  }
}
