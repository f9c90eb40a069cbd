/**
 * The end of an execution, whoever reports it: the runner, the worker that found it gone, or the sweep.
 *
 * One place decides what the end means for the run: final, or another try. A cancel that was acknowledged wins over
 * every other outcome. A retryable failure goes back to the queue while tries are left.
 */
import type { Kysely, Selectable } from 'kysely'
import { z } from 'zod'
import { type Failure, Fault, type Outcome, totalTokens, type Usage } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs } from '../db/tables.ts'
import { stopBatch } from './batch-advance.ts'
import type { Room } from './engine.ts'
import { isAgent, stopIfOverTokens } from './storms.ts'
import { announce, followIn, type Step, tellParent } from './transitions.ts'

export type Ending = {
  outcome: Outcome
  /** Transcript entries that the execution has; fewer held, and it cannot end yet. */
  entries?: number
  /** Neither undelivered messages hold up a success nor that the tree is stopped. */
  leave_inbox?: boolean | undefined
  /** Only if the execution's time is still over then. */
  overdue?: Date | undefined
  /** Others say so than its runner: it counts for nothing where the harness has said that it stopped cleanly. */
  unsaid?: boolean
  usage?: Usage | undefined
  session_id?: string | undefined
}

type Held = Selectable<Runs> & { entries: number; has_begun: boolean }

/**
 * Ends the execution if it has not ended, and moves its run. Null: it had ended, or was not the current one. `inbox`:
 * messages, or a stop of the tree, came before a success, which is therefore none yet.
 */
export async function settle(
  room: Room,
  run_id: string,
  execution_id: string,
  ending: Ending,
): Promise<Selectable<Runs> | 'inbox' | null> {
  const run = (await succeed(room, run_id, execution_id, ending)) ?? (await decide(room, execution_id, ending))
  if (run === null || run === 'inbox') return run
  if (ending.usage !== undefined && totalTokens(ending.usage) > 0) await stopIfOverTokens(room, run.root_run_id)
  announce(room)
  await tellParent(room, run)
  return run
}

/** What nearly every run does needs nothing looked up: one statement, which does nothing where it is not so simple. */
async function succeed(room: Room, run_id: string, execution_id: string, ending: Ending) {
  const { outcome, entries = 0 } = ending
  if (outcome.outcome !== 'SUCCEEDED') return undefined
  const now = room.clock.now()
  return room.follow('succeed', {
    run_id,
    execution_id,
    now,
    entries,
    leave_inbox: ending.leave_inbox ?? false,
    set: { ended_at: now, not_before: null, status_message: outcome.summary ?? null, failure: null },
    execution: endOf(ending, outcome, now),
  })
}

function endOf(ending: Ending, outcome: Outcome, now: Date): NonNullable<Step['execution']> {
  return {
    from: ['offered', 'claimed', 'running'],
    set: {
      state: 'ended',
      outcome: outcome.outcome,
      ended_at: now,
      expires_at: null,
      failure: 'failure' in outcome ? outcome.failure : null,
      ...(ending.usage === undefined ? {} : { usage: ending.usage }),
      ...(ending.session_id === undefined ? {} : { session_id: ending.session_id }),
    },
  }
}

/** Takes the run's row, so that what is decided from it still holds when it is written. */
function decide(room: Room, execution_id: string, ending: Ending): Promise<Selectable<Runs> | 'inbox' | null> {
  return room.database.kysely.transaction().execute(async (write) => {
    const run = await write
      .selectFrom('runs')
      .innerJoin('executions', 'executions.execution_id', 'runs.execution_id')
      .selectAll('runs')
      .select(['executions.entries', 'executions.note', 'executions.shut_down_at'])
      .select((e) => e('executions.started_at', 'is not', null).$castTo<boolean>().as('has_begun'))
      .where('runs.execution_id', '=', execution_id)
      .where('executions.state', '!=', 'ended')
      .$if(ending.overdue !== undefined, (q) => q.where('executions.expires_at', '<', ending.overdue ?? null))
      .forNoKeyUpdate(['runs', 'executions'])
      .executeTakeFirst()
    if (!run) return null
    if (ending.entries !== undefined && run.entries < ending.entries) throw missingEntries(run.entries, ending.entries)
    const succeeds = ending.outcome.outcome === 'SUCCEEDED' && run.cancel_requested_at === null
    if (succeeds && (run.undelivered > 0 || run.halted) && !ending.leave_inbox) return 'inbox'
    const said: Outcome = ending.unsaid && run.shut_down_at !== null ? { outcome: 'SUCCEEDED' } : ending.outcome
    return (await move(room, write, run, execution_id, { ...ending, outcome: asNoted(said, run.note) })) ?? null
  })
}

const Note = z.object({ success: z.boolean(), summary: z.string() })

/** The agent's own word on its work, where it gave one, goes before the mere end of its turn. */
function asNoted(outcome: Outcome, noted: unknown): Outcome {
  const note = Note.safeParse(noted)
  if (!note.success || outcome.outcome !== 'SUCCEEDED') return outcome
  const { success, summary } = note.data
  if (success) return { outcome: 'SUCCEEDED', summary }
  const failure = { error_code: 'invalid_request' as const, message: summary, retryable: false, reason: 'agent_failed' }
  return { outcome: 'FAILED', failure }
}

function missingEntries(held: number, all: number): Fault {
  return new Fault('conflict', `The server holds ${held} of ${all} transcript entries; send the rest first.`, {
    retryable: true,
  })
}

async function move(room: Room, write: Kysely<Tables>, run: Held, execution_id: string, ending: Ending) {
  const now = room.clock.now()
  const outcome: Outcome = run.cancel_requested_at === null ? ending.outcome : { outcome: 'CANCELLED' }
  const step: Step = { run_id: run.run_id, execution_id, now, execution: endOf(ending, outcome, now) }
  // A plan or a stopped tree waits for a person whatever becomes of who was at work.
  const waits = run.open_plan !== null || (isHeld(run) && outcome.outcome !== 'SUCCEEDED')
  if (waits && outcome.outcome !== 'CANCELLED' && run.waiting_until !== null)
    return followIn(write, 'shelve', { ...step, set: { waiting_until: run.waiting_until } })
  const ended = { ended_at: now, not_before: null }
  switch (outcome.outcome) {
    case 'SUCCEEDED':
      return followIn(write, 'succeed', {
        ...step,
        set: { ...ended, status_message: outcome.summary ?? null, failure: null },
      })
    case 'CANCELLED':
      return followIn(write, 'cancel', { ...step, set: { ...ended, failure: null } })
    case 'FAILED':
    case 'ERROR': {
      // An execution that never began used up no try of its own; count it, or a worker that loses all would be
      // asked for ever.
      const tries = run.tries + (run.has_begun ? 0 : 1)
      const { failure } = outcome
      const mendable = failure.retryable || run.retry_on === 'all'
      if (mendable && tries < run.max_tries && run.execution_location === 'REMOTE') {
        const pause_ms = Math.max(backoff(room, tries), (failure.retry_after_s ?? 0) * 1000)
        const not_before = new Date(now.getTime() + pause_ms)
        return followIn(write, 'requeue', { ...step, set: { tries, failure, not_before } })
      }
      await stopBatch(write, run)
      const arrow = outcome.outcome === 'FAILED' ? 'fail' : 'err'
      return followIn(write, arrow, { ...step, set: { ...ended, tries, failure } })
    }
  }
}

/** When its tree is released it can go on, with another execution if need be. */
const isHeld = (run: Held): boolean =>
  run.halted &&
  run.state === 'BLOCKED' &&
  run.execution_location === 'REMOTE' &&
  run.placement === 'worker' &&
  isAgent(run)

/** Milliseconds before try number `tries + 1`: anything up to a step that doubles with each, so that tries spread. */
export function backoff(room: Pick<Room, 'limits'>, tries: number): number {
  const step = Math.min(room.limits.retry_first_ms * 2 ** Math.max(0, tries - 1), room.limits.retry_most_ms)
  return step * Math.random()
}

/** An end that the runner did not report itself. */
export const lost = (reason: string, message: string): Outcome => ({
  outcome: 'ERROR',
  failure: { error_code: 'internal_error', message, retryable: true, reason } satisfies Failure,
})
