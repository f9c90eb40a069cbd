/**
 * The arrows of a run's state. They stand here and nowhere else.
 *
 *     QUEUED → PENDING → CLAIMED → INPROGRESS → SUCCEEDED | FAILED | ERROR | CANCELLED
 *                                      ↕ BLOCKED
 *
 * Each is one guarded statement: no row means that the arrow does not lead from where the run is, or that the
 * execution is no longer the current one. Nothing is read first to decide.
 */
import type { Insertable, UpdateObject } from 'kysely'
import { type EventType, Fault, type RunState } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs } from '../db/tables.ts'
import type { NewEvent, Write } from './log.ts'

type Arrow = { from: readonly RunState[]; to: RunState; event: EventType | null }

export const ARROWS = {
  /** Dispatcher: the quota allows and a worker has a free slot. */
  offer: { from: ['QUEUED'], to: 'PENDING', event: null },
  claim: { from: ['PENDING'], to: 'CLAIMED', event: null },
  /** A worker rejected, or an offer or claim lapsed: nothing had begun. */
  release: { from: ['PENDING', 'CLAIMED'], to: 'QUEUED', event: null },
  /** From PENDING too: a runner may be faster than the worker's word that it claimed. */
  begin: { from: ['PENDING', 'CLAIMED'], to: 'INPROGRESS', event: 'run_in_progress' },
  succeed: { from: ['INPROGRESS', 'BLOCKED'], to: 'SUCCEEDED', event: 'run_succeeded' },
  fail: { from: ['PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'], to: 'FAILED', event: 'run_failed' },
  err: { from: ['PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'], to: 'ERROR', event: 'run_errored' },
  /** A retryable failure with tries left. */
  requeue: { from: ['PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'], to: 'QUEUED', event: 'run_queued' },
  cancel: { from: ['QUEUED', 'PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'], to: 'CANCELLED', event: 'run_cancelled' },
  /** Asked for again after it had ended. */
  again: { from: ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'], to: 'QUEUED', event: 'run_queued' },
} as const satisfies Record<string, Arrow>

export type ArrowName = keyof typeof ARROWS

export type Step = {
  run_id: string
  /** The execution that the arrow is for: it must be the run's current one. Absent for what concerns the run itself. */
  execution_id?: string
  /** Narrows the arrow: only from these of its states. */
  from?: readonly RunState[]
  set?: UpdateObject<Tables, 'runs'>
  now: Date
}

/** Follows an arrow and logs its event; undefined when it does not lead from where the run is. */
export async function follow(write: Write, events: NewEvent[], name: ArrowName, step: Step) {
  const arrow: Arrow = ARROWS[name]
  let update = write
    .updateTable('runs')
    .set({ ...step.set, state: arrow.to, updated_at: step.now })
    .where('run_id', '=', step.run_id)
    .where('state', 'in', [...(step.from ?? arrow.from)])
  if (step.execution_id !== undefined) update = update.where('execution_id', '=', step.execution_id)
  const run = await update.returningAll().executeTakeFirst()
  if (run && arrow.event) {
    events.push({
      team_id: run.team_id,
      event_type: arrow.event,
      run_id: run.run_id,
      execution_id: step.execution_id ?? null,
    })
  }
  return run
}

/** A run begins its life QUEUED. */
export async function enqueue(write: Write, events: NewEvent[], row: Insertable<Runs>): Promise<void> {
  await write.insertInto('runs').values(row).execute()
  events.push({ team_id: row.team_id, event_type: 'run_queued', run_id: row.run_id })
}

/** What a write of an execution that is not current, or no longer running, gets. */
export function superseded(): Fault {
  return new Fault(
    'conflict',
    'This execution is no longer the current one of its run. Stop; nothing more will be kept.',
    { retryable: false },
  )
}
