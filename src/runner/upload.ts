/**
 * Sends the journal to the server: in order, one request in flight, from where the server says that it stands.
 *
 * While the server is away the journal grows and memory does not. The server alone decides that an execution has
 * been superseded; then nothing more is sent.
 */
import { type EntryBody, Fault, type NewEntry } from '../contract/index.ts'
import { pause, Unreachable } from '../sdk/calls.ts'
import type { Client } from './client.ts'
import { bodyBytes } from './fit.ts'
import type { Journal } from './journal.ts'

export const BATCH_ENTRIES_MAX = 500
export const BATCH_BYTES_MAX = 4 * 1024 * 1024
/** Waits between tries while the server is away, in milliseconds; the last one repeats. */
export const AWAY_MS = [100, 250, 500, 1000, 2000, 5000]
/** What is written so soon after an entry goes with it, in milliseconds; whoever waits for all of it waits less. */
const GATHER_MS = 50
/** A server that has not answered for this long is away. */
export const ANSWER_MS = 30_000

export type Upload = {
  /** There is something new in the journal. */
  wake(): void
  /** Resolves when the server holds everything that the journal holds now. */
  flushed(signal: AbortSignal): Promise<void>
  /** Highest number that the server holds. */
  readonly held: number
  close(): Promise<void>
}

export type UploadOptions = {
  client: Client
  execution_id: string
  journal: Journal
  entries_held: number
  onSuperseded: (message: string) => void
  onAway: (away: boolean) => void
  signal: AbortSignal
}

export function makeUpload(options: UploadOptions): Upload {
  const { client, execution_id, journal } = options
  const closing = new AbortController()
  const signal = AbortSignal.any([options.signal, closing.signal])
  const sleepers = new Set<() => void>()
  const waiters = new Set<() => void>()
  let held = options.entries_held
  let mode: 'batch' | 'ask' | 'single' = 'batch'
  let hurry = () => {}

  const wakeAll = (set: Set<() => void>) => {
    for (const wake of set) wake()
    set.clear()
  }

  async function append(entries: NewEntry[]): Promise<number> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)])
    const answer = await client.executions.append({ params: { execution_id }, body: { entries }, signal: limit })
    return answer.highest
  }

  /** Sends one batch. After a refusal: asks where the server stands; if here, finds the entry that it refuses. */
  async function sendSome(): Promise<void> {
    const entries = mode === 'ask' ? [] : journal.read(held, mode === 'batch' ? BATCH_ENTRIES_MAX : 1, BATCH_BYTES_MAX)
    const before = held
    try {
      held = Math.min(await append(entries), journal.highest)
      if (mode === 'ask') mode = held === before ? 'single' : 'batch'
    } catch (error) {
      if (!isRefusal(error)) throw error
      const [entry] = entries
      if (mode === 'single' && entry !== undefined) {
        held = Math.min(await append([{ ...entry, body: refused(entry.body, error) }]), journal.highest)
        mode = 'batch'
      } else mode = 'ask'
    }
  }

  async function gather(): Promise<void> {
    if (waiters.size > 0 || signal.aborted) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, GATHER_MS)
      hurry = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  async function run(): Promise<void> {
    for (let tries = 0; !signal.aborted; ) {
      if (held >= journal.highest) {
        wakeAll(waiters)
        await new Promise<void>((resolve) => sleepers.add(resolve))
        await gather()
        continue
      }
      try {
        await sendSome()
        if (tries > 0) options.onAway(false)
        tries = 0
      } catch (error) {
        if (signal.aborted) return
        if (isSuperseded(error)) return options.onSuperseded(error.message)
        if (tries === 0) options.onAway(true)
        await pause(awayDelay(tries++), signal).catch(() => {})
      }
    }
  }

  signal.addEventListener('abort', () => {
    wakeAll(sleepers)
    hurry()
  })
  const running = run()
  return {
    wake: () => wakeAll(sleepers),
    get held() {
      return held
    },
    async flushed(until) {
      while (held < journal.highest) {
        until.throwIfAborted()
        await new Promise<void>((resolve) => {
          waiters.add(resolve)
          hurry()
          until.addEventListener('abort', () => resolve(), { once: true })
        })
      }
    },
    async close() {
      closing.abort()
      await running
    },
  }
}

/** A delay in milliseconds, with jitter so that a thousand runners do not come back in one moment. */
export const awayDelay = (tries: number): number =>
  (AWAY_MS[Math.min(tries, AWAY_MS.length - 1)] ?? 1000) * (0.75 + Math.random() / 2)

/** The execution is over or another's. A retryable conflict is a gap in the numbers. */
export function isSuperseded(error: unknown): error is Fault {
  return (
    error instanceof Fault && ([401, 403, 404].includes(error.status) || (error.status === 409 && !error.retryable))
  )
}

/** Worth asking again: the server is away, busy or broken. */
export function isAway(error: unknown): boolean {
  if (error instanceof Unreachable) return true
  if (error instanceof Fault) return error.status >= 500 || error.status === 429 || error.status === 408
  return error instanceof Error && ['TimeoutError', 'AbortError', 'TypeError', 'SyntaxError'].includes(error.name)
}

const isRefusal = (error: unknown): error is Fault =>
  error instanceof Fault && [400, 409, 413, 422].includes(error.status) && !isSuperseded(error)

const refused = (body: EntryBody, fault: Fault): EntryBody => ({
  kind: 'gap',
  bytes: bodyBytes(body),
  reason: `The server refused this ${body.kind} entry: ${fault.message.slice(0, 500)}`,
})
