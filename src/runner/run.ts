/**
 * A runner: works on one execution, from taking it to reporting its end.
 *
 * It owns the execution: it heartbeats, journals, uploads and reports by itself, whatever becomes of the worker that
 * started it. It never reads the process's environment or signals; whoever starts it hands them in.
 */
import type { Delta, NewEntry, Outcome } from '../contract/index.ts'
import type { Harness } from './harnesses/harness.ts'
import { type StartAnswer, startExecution } from './start.ts'

export type RunnerOptions = {
  /** Root of the server, without `/api/v1`. */
  server: string
  /** The execution's own token. */
  token: string
  execution_id: string
  version: string
  /** The environment of this process; what of it the harness gets is decided in `environment.ts`. */
  env: Record<string, string | undefined>
  /** Absolute path. Managed: a folder of this execution alone. Local: the person's own, in which nothing is removed. */
  workspace: string
  place: 'managed' | 'local'
  /** Absolute path: journal and harness home; removed when the end has been reported. Default: `stateFolder`. */
  state_folder?: string
  /** Aborted when this process is told to end. That is a cancel if one was asked for, or if `place` is local. */
  signal: AbortSignal
  /** For whoever watches here: entries as they are kept, live text as it grows. */
  onEntry?: (entry: NewEntry) => void
  onDelta?: (delta: Delta) => void
  /** How long a server that is away is asked for the execution, in milliseconds. */
  start_give_up_ms?: number
  /** Instead of the harness that the configuration names. */
  harness?: Harness
}

export type ExitReport =
  /** `state` is the run's own: CANCELLED whatever the outcome if a cancel came first, QUEUED if it is tried again. */
  | { end: 'finished'; run_id: string; state: string; outcome: Outcome }
  /** The execution is no longer ours, or there is no server any more; nothing of ours counts any more. */
  | { end: 'superseded'; message: string }
  /** The server would not give us the execution: ended, unknown, or a wrong token. */
  | { end: 'refused'; message: string }
  /** The server could not be told: at the start, or for the whole of `FINISH_GIVE_UP_MS`. */
  | { end: 'unreachable'; message: string }

export async function runExecution(options: RunnerOptions): Promise<ExitReport> {
  const { promise: sent, resolve: onSent } = Promise.withResolvers<void>()
  const asked = startExecution({
    server: options.server,
    token: options.token,
    execution_id: options.execution_id,
    version: options.version,
    signal: options.signal,
    onSent,
    ...(options.start_give_up_ms === undefined ? {} : { give_up_ms: options.start_give_up_ms }),
  })
  // Everything else is loaded while the server works, but not before the request is on its way.
  const loading = Promise.race([sent, asked])
    .then(() => import('./interpreted.ts'))
    .then(() => import('./work.ts'))
  const answer = await asked
  if (answer.answer !== 'started') return options.signal.aborted ? TOLD_EARLY : notStarted(answer)
  const { work } = await loading
  return work(options, answer.body)
}

const TOLD_EARLY: ExitReport = { end: 'unreachable', message: 'The runner was told to end before it had begun.' }

function notStarted(answer: Exclude<StartAnswer, { answer: 'started' }>): ExitReport {
  if (answer.answer === 'away') return { end: 'unreachable', message: answer.message }
  return { end: answer.status === 409 ? 'superseded' : 'refused', message: answer.message }
}
