/** What a command's exit code says. */
import type { Fault, Run } from '../contract/index.ts'

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  run_failed: 3,
  auth: 4,
  not_found: 5,
  conflict: 6,
  needs_input: 7,
  timeout: 8,
  budget: 9,
  unreachable: 69,
  interrupted: 130,
} as const
export type ExitName = keyof typeof EXIT

export const EXIT_MEANINGS: Record<ExitName, string> = {
  ok: 'succeeded',
  failed: 'any other error',
  usage: 'wrong arguments',
  run_failed: 'the run failed, ended in an error or was cancelled',
  auth: 'not logged in, or not allowed',
  not_found: 'there is no such run, or no such thing',
  conflict: 'it is in a state that does not allow this, or a port or data folder is taken',
  needs_input: 'the run waits for a person (with --fail-on-input)',
  timeout: 'the time given with --timeout is over; the run goes on',
  budget: 'a budget or quota is used up',
  unreachable: 'the server cannot be reached',
  interrupted: 'interrupted with Ctrl-C; the run goes on',
}

/** One thing of several that are wrong: as a JSON pointer for machines, `where` for people. */
export type Wrong = { pointer: string; where: string; detail: string }

/** A command that cannot do what was asked: what happened, and what to do. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure'
  readonly exit: ExitName
  readonly hint: string | undefined
  readonly wrongs: Wrong[]
  constructor(exit: ExitName, message: string, hint?: string, wrongs: Wrong[] = []) {
    super(message)
    this.exit = exit
    this.hint = hint
    this.wrongs = wrongs
  }
}

export function exitOfFault(fault: Fault): ExitName {
  switch (fault.code) {
    case 'authentication_required':
    case 'external_authentication_required':
    case 'not_authorized':
      return 'auth'
    case 'resource_not_found':
      return 'not_found'
    case 'conflict':
      return 'conflict'
    case 'insufficient_credits':
    case 'budget_exceeded':
      return 'budget'
    case 'invalid_request':
      return 'usage'
    case 'resource_unavailable':
      return 'unreachable'
    case 'integration_not_configured':
    case 'integration_disabled':
    case 'feature_not_available':
    case 'content_policy_violation':
    case 'operation_not_supported':
    case 'environment_setup_failed':
    case 'internal_error':
      return 'failed'
  }
}

/** For a run that has ended, and for one that waits for a person. */
export function exitOfRun(run: Run): ExitName {
  if (run.state === 'SUCCEEDED') return 'ok'
  if (run.state === 'BLOCKED') return 'needs_input'
  const code = run.status_message?.error_code
  return code === 'budget_exceeded' || code === 'insufficient_credits' ? 'budget' : 'run_failed'
}
