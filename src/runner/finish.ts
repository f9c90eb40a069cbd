/** Reports the end of an execution: first every entry, then the outcome, until the server has answered. */
import type { Outcome, Usage } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { pause } from '../sdk/calls.ts'
import type { Client } from './client.ts'
import type { Journal } from './journal.ts'
import { ANSWER_MS, awayDelay, isAway, isSuperseded, type Upload } from './upload.ts'

/** How long a server that is away is waited for, in milliseconds: longer than any sensible repair of it. */
export const FINISH_GIVE_UP_MS = 6 * 60 * 60_000
/** The same when this process was told to end and its patience is not its own. */
export const FINISH_TOLD_GIVE_UP_MS = 8_000
/** Of which the session may take this much. */
const KEEP_TOLD_MS = 3_000

export type FinishOptions = {
  client: Client
  execution_id: string
  journal: Journal
  upload: Upload
  outcome: Outcome
  /** Resolves when the session is kept or never will be; rejects while the server is away. */
  keep: (signal: AbortSignal) => Promise<void>
  /** Messages that wait do not hold up a success. */
  leave_inbox: boolean
  usage: () => Usage
  session_id: string | null
  /** Aborted when this process is told to end. */
  told_to_end: AbortSignal
  superseded: AbortSignal
  /** The report is about to be sent for the first time; from here on its answer alone counts. */
  onSending: () => void
}

export type Finished =
  /** `inbox`: a message came first, and nothing has ended. */
  { told: true; state: string; inbox: boolean } | { told: false; why: 'superseded' | 'unreachable'; message: string }

export async function reportEnd(options: FinishOptions): Promise<Finished> {
  const { execution_id, journal, upload, outcome, leave_inbox, session_id } = options
  const out_of_time = patience(options.told_to_end)
  const signal = AbortSignal.any([options.superseded, out_of_time])
  let trouble = 'The server did not take the whole transcript in time.'
  for (let tries = 0; ; tries++) {
    try {
      await kept(options, signal)
      await upload.flushed(signal)
      const body = {
        outcome,
        entries: journal.highest,
        ...(leave_inbox ? { leave_inbox } : {}),
        usage: options.usage(),
        ...(session_id === null ? {} : { session_id }),
      }
      options.onSending()
      const { state, inbox = false } = await options.client.executions.finish({
        params: { execution_id },
        body,
        signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
      })
      return { told: true, state, inbox }
    } catch (error) {
      if (options.superseded.aborted)
        return { told: false, why: 'superseded', message: 'This execution is no longer the current one of its run.' }
      if (isSuperseded(error)) return { told: false, why: 'superseded', message: error.message }
      if (out_of_time.aborted) return { told: false, why: 'unreachable', message: trouble }
      if (!isAway(error) && tries >= REFUSALS_MAX) return { told: false, why: 'unreachable', message: sentence(error) }
      trouble = sentence(error)
      await pause(awayDelay(tries), signal).catch(() => {})
    }
  }
}

/** What is told to end has little time, and its end is worth more than its session. */
async function kept({ keep, told_to_end }: FinishOptions, signal: AbortSignal): Promise<void> {
  if (!told_to_end.aborted) return keep(signal)
  await keep(AbortSignal.any([signal, AbortSignal.timeout(KEEP_TOLD_MS)])).catch((error: unknown) => {
    if (isSuperseded(error)) throw error
  })
}

function patience(told_to_end: AbortSignal): AbortSignal {
  const out_of_time = new AbortController()
  const hurry = () => setTimeout(() => out_of_time.abort(), FINISH_TOLD_GIVE_UP_MS).unref()
  if (told_to_end.aborted) hurry()
  else told_to_end.addEventListener('abort', hurry, { once: true })
  return AbortSignal.any([out_of_time.signal, AbortSignal.timeout(FINISH_GIVE_UP_MS)])
}

/** A server that answers, but does not accept the report, is not asked for hours. */
const REFUSALS_MAX = 10

const sentence = (error: unknown) => `The end of the run could not be reported: ${whyOf(error)}`
