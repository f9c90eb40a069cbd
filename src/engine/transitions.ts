/**
 * The arrows of a run's state. They stand here and nowhere else.
 *
 *     QUEUED → PENDING → CLAIMED → INPROGRESS → SUCCEEDED | FAILED | ERROR | CANCELLED
 *                                      ↕ BLOCKED
 *
 * Each is one guarded statement: no row means that the arrow does not lead from where the run is, or that the
 * execution is no longer the current one. Nothing is read first to decide. The run's row, its execution's row and the
 * event move together, locked in that order by every writer; the counter of the log comes last.
 */
import { type Insertable, type Kysely, type Selectable, sql, type UpdateObject } from 'kysely'
import { type EventType, type EXECUTION_STATES, Fault, type RunState } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs } from '../db/tables.ts'
import type { Room } from './engine.ts'

type Arrow = { from: readonly RunState[]; to: RunState; event: EventType | null }

export const ARROWS = {
  /** Dispatcher: the quota allows and a worker has a free slot. */
  offer: { from: ['QUEUED'], to: 'PENDING', event: null },
  claim: { from: ['PENDING'], to: 'CLAIMED', event: null },
  /** A worker rejected, or an offer lapsed: nothing had begun. */
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
type ExecutionState = (typeof EXECUTION_STATES)[number]

export type Step = {
  run_id: string
  now: Date
  /** The execution that the arrow is for: it must be the run's current one. Absent for what concerns the run itself. */
  execution_id?: string
  /** Narrows the arrow: only from these of its states. */
  from?: readonly RunState[]
  set?: UpdateObject<Tables, 'runs'>
  /** What becomes of the run's current execution, where it is in one of these states. */
  execution?: { from: readonly ExecutionState[]; set: UpdateObject<Tables, 'executions'> }
}

const NOBODY = '00000000-0000-0000-0000-000000000000'

/** Follows an arrow and logs its event; undefined when it does not lead from where the run is. */
export async function follow(db: Kysely<Tables>, name: ArrowName, step: Step): Promise<Selectable<Runs> | undefined> {
  const arrow: Arrow = ARROWS[name]
  const { run_id, execution_id, now } = step
  const said_of = execution_id ?? null
  return db
    .with('moved', (q) =>
      q
        .updateTable('runs')
        .set({ ...step.set, state: arrow.to, updated_at: now })
        .where('run_id', '=', run_id)
        .where('state', 'in', [...(step.from ?? arrow.from)])
        .$if(execution_id !== undefined, (u) => u.where('execution_id', '=', execution_id ?? NOBODY))
        .returningAll(),
    )
    .with('carried', (q) =>
      q
        .updateTable('executions')
        .from('moved')
        .set(step.execution?.set ?? { state: 'ended' })
        .whereRef('executions.execution_id', '=', 'moved.execution_id')
        .where('executions.state', 'in', [...(step.execution?.from ?? [''])])
        .returning('executions.execution_id'),
    )
    .with('bump', (q) =>
      q
        .updateTable('event_counter')
        .set({ value: sql<number>`value + 1` })
        .where((w) => w.exists(w.selectFrom('moved').select('moved.run_id')))
        .where(sql.lit(arrow.event !== null))
        .returning('value'),
    )
    .with('said', (q) =>
      q
        .insertInto('events')
        .columns(['sequence', 'team_id', 'event_type', 'run_id', 'execution_id', 'occurred_at'])
        .expression((e) =>
          e
            .selectFrom(['bump', 'moved'])
            .select((s) => [
              'bump.value',
              'moved.team_id',
              s.val(arrow.event ?? '').as('event_type'),
              'moved.run_id',
              sql<string | null>`${said_of}::uuid`.as('execution_id'),
              sql<Date>`${now}::timestamptz`.as('occurred_at'),
            ]),
        )
        .returning('sequence'),
    )
    .selectFrom('moved')
    .selectAll('moved')
    .executeTakeFirst()
}

/** A run begins its life; `event` is what is said of it. */
export async function enqueue(
  db: Kysely<Tables>,
  row: Insertable<Runs>,
  execution_id: string | null = null,
): Promise<void> {
  await db
    .with('made', (q) => q.insertInto('runs').values(row).returning(['run_id', 'team_id', 'created_at']))
    .with('bump', (q) => q.updateTable('event_counter').set({ value: sql<number>`value + 1` }).returning('value'))
    .insertInto('events')
    .columns(['sequence', 'team_id', 'event_type', 'run_id', 'execution_id', 'occurred_at'])
    .expression((e) =>
      e
        .selectFrom(['bump', 'made'])
        .select((s) => [
          'bump.value',
          'made.team_id',
          s.val('run_queued').as('event_type'),
          'made.run_id',
          sql<string | null>`${execution_id}::uuid`.as('execution_id'),
          'made.created_at',
        ]),
    )
    .execute()
}

/** Tells whoever reads the log and whoever dispatches that a run has moved. */
export function announce(room: Pick<Room, 'bell'>): void {
  room.bell.ring('log', {})
  room.bell.ring('queue', {})
}

/** What a write of an execution that is not current, or no longer running, gets. */
export function superseded(): Fault {
  return new Fault(
    'conflict',
    'This execution is no longer the current one of its run. Stop; nothing more will be kept.',
    { retryable: false },
  )
}
