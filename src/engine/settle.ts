/**
 * The end of an execution, whoever reports it: the runner, the worker that found it gone, or the sweep.
 *
 * One place decides what the end means for the run: final, or another try. A cancel that was acknowledged wins over every
 * other outcome. A retryable failure goes back to the queue while tries are left.
 */
import type { Selectable } from 'kysely'
import type { Failure, Outcome, Usage } from '../contract/index.ts'
import type { Executions, Runs } from '../db/tables.ts'
import type { Room } from './engine.ts'
import type { NewEvent, Write } from './log.ts'
import { follow } from './transitions.ts'

export type Ending = { outcome: Outcome; usage?: Usage | undefined; session_id?: string | undefined }

/**
 * Ends the execution if it has not ended, and moves its run. Null: it had ended, or was not the current one.
 * Call it inside `logged`; it takes the run's row first, as every writer of a run does.
 */
export async function settle(
  room: Room,
  write: Write,
  events: NewEvent[],
  execution_id: string,
  ending: Ending,
): Promise<Selectable<Runs> | null> {
  const now = room.clock.now()
  const run = await write
    .selectFrom('runs')
    .innerJoin('executions', 'executions.execution_id', 'runs.execution_id')
    .selectAll('runs')
    .where('runs.execution_id', '=', execution_id)
    .where('executions.state', '!=', 'ended')
    .forNoKeyUpdate('runs')
    .executeTakeFirst()
  if (!run) return null
  const outcome: Outcome = run.cancel_requested_at === null ? ending.outcome : { outcome: 'CANCELLED' }
  const execution = await write
    .updateTable('executions')
    .set({
      state: 'ended',
      outcome: outcome.outcome,
      ended_at: now,
      expires_at: null,
      failure: 'failure' in outcome ? JSON.stringify(outcome.failure) : null,
      ...(ending.usage === undefined ? {} : { usage: JSON.stringify(ending.usage) }),
      ...(ending.session_id === undefined ? {} : { session_id: ending.session_id }),
    })
    .where('execution_id', '=', execution_id)
    .where('state', '!=', 'ended')
    .returningAll()
    .executeTakeFirst()
  if (!execution) return null
  return (await move(room, write, events, run, execution, outcome, now)) ?? null
}

async function move(
  room: Room,
  write: Write,
  events: NewEvent[],
  run: Selectable<Runs>,
  execution: Selectable<Executions>,
  outcome: Outcome,
  now: Date,
) {
  const step = { run_id: run.run_id, execution_id: execution.execution_id, now }
  const ended = { ended_at: now, not_before: null }
  switch (outcome.outcome) {
    case 'SUCCEEDED':
      return follow(write, events, 'succeed', {
        ...step,
        set: { ...ended, status_message: outcome.summary ?? null, failure: null },
      })
    case 'CANCELLED':
      return follow(write, events, 'cancel', { ...step, set: { ...ended, failure: null, status_message: null } })
    case 'FAILED':
    case 'ERROR': {
      // An execution that never began used up no try of its own; count it, so that a worker that always loses runs is not asked for ever.
      const tries = run.tries + (execution.started_at === null ? 1 : 0)
      const failure = JSON.stringify(outcome.failure)
      const again = outcome.failure.retryable && tries < run.max_tries && run.execution_location === 'REMOTE'
      if (again) {
        const not_before = new Date(now.getTime() + backoff(room, tries))
        return follow(write, events, 'requeue', { ...step, set: { tries, failure, queued_at: now, not_before } })
      }
      return follow(write, events, outcome.outcome === 'FAILED' ? 'fail' : 'err', {
        ...step,
        set: { ...ended, tries, failure },
      })
    }
  }
}

/** Milliseconds before try number `tries + 1`: exponential with full jitter, never under a quarter of the step. */
export function backoff(room: Pick<Room, 'limits'>, tries: number): number {
  const step = Math.min(room.limits.retry_first_ms * 2 ** Math.max(0, tries - 1), room.limits.retry_most_ms)
  return step * (0.25 + 0.75 * Math.random())
}

/** An end that the runner did not report itself. */
export const lost = (reason: string, message: string): Outcome => ({
  outcome: 'ERROR',
  failure: { error_code: 'internal_error', message, retryable: true, reason } satisfies Failure,
})
