/** Ends of an execution that the runner itself decides, as they are told to the server and to people. */
import type { Failure, Outcome } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'

/** Thrown while the workspace is prepared. */
export class SetupFailure extends Error {
  override readonly name = 'SetupFailure'
  readonly failure: Failure
  constructor(
    message: string,
    reason: string,
    retryable = false,
    error_code: Failure['error_code'] = 'environment_setup_failed',
  ) {
    super(message)
    this.failure = { error_code, message: short(message), retryable, reason }
  }
}

/** As much as a failure's message can hold. */
export const short = (message: string): string =>
  message.length <= MESSAGE_LENGTH_MAX ? message : `${message.slice(0, MESSAGE_LENGTH_MAX - 1)}…`
const MESSAGE_LENGTH_MAX = 4096

export const outputLimit = (bytes_max: number): Outcome => ({
  outcome: 'FAILED',
  failure: {
    error_code: 'operation_not_supported',
    retryable: false,
    reason: 'output_limit',
    message:
      `The run wrote more than ${megabytes(bytes_max)} to its transcript and was stopped. ` +
      'Let it print less, for example into a file.',
  },
})

export const timedOut = (ms: number): Outcome => ({
  outcome: 'FAILED',
  failure: {
    error_code: 'operation_not_supported',
    retryable: false,
    reason: 'timeout',
    message:
      `The run took longer than its limit of ${duration(ms)} and was stopped. ` +
      'Give it more with timeout_minutes, or less to do.',
  },
})

export const diskFull = (message: string): Outcome => ({
  outcome: 'ERROR',
  failure: {
    error_code: 'resource_unavailable',
    retryable: false,
    reason: 'disk_full',
    message: short(`${message} The run was stopped. Free space on that disk, then retry the run.`),
  },
})

export const runnerStopped = (): Outcome => ({
  outcome: 'ERROR',
  failure: {
    error_code: 'internal_error',
    retryable: true,
    reason: 'runner_stopped',
    message: 'The runner was told to stop before the run had ended.',
  },
})

export const sandboxGone = (): Outcome => ({
  outcome: 'ERROR',
  failure: {
    error_code: 'internal_error',
    retryable: false,
    reason: 'sandbox_gone',
    message: 'The sandbox that the run shared with its parent has ended. Start it again from a parent, or on a worker.',
  },
})

/** As the run says itself, by `finish_task`; the words are the run's own. */
export const saidFailed = (): Outcome => ({
  outcome: 'FAILED',
  failure: {
    error_code: 'internal_error',
    retryable: false,
    reason: 'finish_task',
    message: 'The agent said that it did not succeed.',
  },
})

export const bug = (error: unknown): Outcome => ({
  outcome: 'ERROR',
  failure: {
    error_code: 'internal_error',
    retryable: false,
    reason: 'runner_bug',
    message: short(`The runner failed: ${whyOf(error)}`),
  },
})

export function duration(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 90) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))} s`
  const minutes = seconds / 60
  return minutes < 90 ? `${Math.round(minutes)} min` : `${Number((minutes / 60).toFixed(1))} h`
}

export const megabytes = (bytes: number): string =>
  bytes < 1_000_000 ? `${Math.round(bytes / 1000)} kB` : `${Math.round(bytes / 1_000_000)} MB`
