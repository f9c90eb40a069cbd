/**
 * What the ends of tasks make due: tasks whose dependencies have completed may start, those whose dependencies never
 * will are passed over, a batch that stops on failure stops, and one whose tasks have all ended ends.
 *
 * It looks at rows alone, under the lock of the batch's run, which births and cascades of the tree take too: any server
 * may do it at any time, and twice does no harm.
 */
import { type Kysely, type Selectable, sql } from 'kysely'
import type { Failure } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs } from '../db/tables.ts'
import type { Room } from './engine.ts'
import { cancelUnbegun } from './runs.ts'
import { announce, followAll, followIn } from './transitions.ts'

export const DEPENDENCY_FAILED = 'dependency_failed'

/** Executions whose runners must hear that they were cancelled; null: nothing has changed. */
type Advanced = { cancelled: string[] } | null

export async function advance(room: Room, batch_run_id: string): Promise<void> {
  const advanced = await room.database.kysely
    .transaction()
    .execute((write) => advanceIn(write, batch_run_id, room.clock.now()))
  if (advanced === null) return
  announce(room)
  for (const execution_id of advanced.cancelled) room.bell.ring('control', { execution_id })
}

export async function advanceIn(write: Kysely<Tables>, batch_run_id: string, now: Date): Promise<Advanced> {
  const batch = await write
    .selectFrom('batches')
    .innerJoin('runs', 'runs.run_id', 'batches.run_id')
    .select('batches.stopped_by')
    .where('batches.run_id', '=', batch_run_id)
    .where('runs.state', 'in', ['INPROGRESS', 'BLOCKED'])
    .forNoKeyUpdate('runs')
    .executeTakeFirst()
  if (!batch) return null
  const freed = await goOn(write, batch_run_id, now)
  const cancelled = batch.stopped_by === null ? [] : await cancelRest(write, batch_run_id, batch.stopped_by, now)
  const ended = await endIfDone(write, batch_run_id, now)
  return freed + cancelled.length > 0 || ended
    ? { cancelled: cancelled.flatMap(({ execution_id }) => (execution_id === null ? [] : [execution_id])) }
    : null
}

type Waiting = { run_id: string; name: string; depends_on: string[]; ready: boolean; missing: Missing | null }
type Missing = { name: string; state: string }

/** Frees what waits for nothing any more; passes over what waits in vain, and what waits for that. */
async function goOn(write: Kysely<Tables>, batch_run_id: string, now: Date): Promise<number> {
  const { rows } = await sql<Waiting>`
    select t.run_id, t.name, t.depends_on, needs.ready, needs.missing
    from batch_tasks t join runs r using (run_id) cross join lateral (
      select bool_and(n.state = 'SUCCEEDED') as ready,
        (array_agg(jsonb_build_object('name', o.name, 'state', n.state) order by o.number)
          filter (where n.state in ('FAILED', 'ERROR', 'CANCELLED')))[1] as missing
      from batch_tasks o join runs n using (run_id) where o.run_id = any(t.depends_on)
    ) as needs
    where t.batch_run_id = ${batch_run_id} and t.depends_on <> '{}' and r.held and r.state = 'QUEUED'
    order by t.run_id`.execute(write)
  const ready = rows.filter((row) => row.ready).map((row) => row.run_id)
  if (ready.length > 0) {
    await sql`update runs set held = false, updated_at = ${now}
      where run_id = any(${ready}::uuid[]) and held and state = 'QUEUED'`.execute(write)
  }
  const vain = inVain(rows)
  if (vain.length > 0) {
    await followAll(
      write,
      vain.map(({ run_id, missing }) => ({
        name: 'skip',
        run_id,
        now,
        set: { ended_at: now, not_before: null, failure: passedOver(missing) },
      })),
    )
  }
  return ready.length + vain.length
}

function inVain(waiting: Waiting[]): { run_id: string; missing: Missing }[] {
  const vain = waiting.flatMap(({ run_id, name, missing }) => (missing === null ? [] : [{ run_id, name, missing }]))
  const known = new Set(vain.map((task) => task.run_id))
  const waitFor = new Map<string, Waiting[]>()
  for (const task of waiting)
    for (const need of task.depends_on) waitFor.set(need, [...(waitFor.get(need) ?? []), task])
  for (const { run_id, name } of vain) {
    for (const next of waitFor.get(run_id) ?? []) {
      if (known.has(next.run_id)) continue
      known.add(next.run_id)
      vain.push({ run_id: next.run_id, name: next.name, missing: { name, state: 'PASSED OVER' } })
    }
  }
  return vain
}

function passedOver({ name, state }: Missing): Failure {
  const how = state === 'CANCELLED' ? 'was cancelled' : state === 'PASSED OVER' ? 'was not started' : 'failed'
  return {
    error_code: 'conflict',
    message: `Not started: it depends on task ${JSON.stringify(name)}, which ${how}.`,
    retryable: false,
    reason: DEPENDENCY_FAILED,
  }
}

/** With the task's last failure, before its end is written: nothing more of its batch is offered from then on. */
export async function stopBatch(write: Kysely<Tables>, task: Pick<Selectable<Runs>, 'run_id' | 'lane_run_id'>) {
  if (task.lane_run_id === null) return
  await write
    .updateTable('batches')
    .set({ stopped_by: task.run_id })
    .where('run_id', '=', task.lane_run_id)
    .where('stop_on_failure', '=', true)
    .where('stopped_by', 'is', null)
    .execute()
}

/** What has not begun is cancelled. */
async function cancelRest(write: Kysely<Tables>, run_id: string, stopped_by: string, now: Date) {
  const unbegun = await write
    .selectFrom('runs')
    .select('run_id')
    .where('parent_run_id', '=', run_id)
    .where('state', 'in', ['QUEUED', 'PENDING', 'CLAIMED'])
    .orderBy('run_id')
    .forNoKeyUpdate()
    .execute()
  if (unbegun.length === 0) return []
  const { name } = await write
    .selectFrom('batch_tasks')
    .select('name')
    .where('run_id', '=', stopped_by)
    .executeTakeFirstOrThrow()
  const status_message = `Not started: task ${JSON.stringify(name)} failed, and the batch stops on failure.`
  const steps = unbegun.map(({ run_id }) => {
    const step = cancelUnbegun(run_id, now)
    return { ...step, name: 'cancel' as const, set: { ...step.set, status_message, failure: null } }
  })
  return (await followAll(write, steps)).flatMap((run) => (run === undefined ? [] : [run]))
}

/** Whether it has ended now. */
async function endIfDone(write: Kysely<Tables>, run_id: string, now: Date): Promise<boolean> {
  const left = await write
    .selectFrom('runs')
    .select('run_id')
    .where('lane_run_id', '=', run_id)
    .where((r) =>
      // Each in the words of its index.
      r.or([r('state', '=', 'QUEUED'), r('state', 'in', ['PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'])]),
    )
    .limit(1)
    .executeTakeFirst()
  if (left) return false
  const { completed, failed, cancelled } = await write
    .selectFrom('runs')
    .select((r) => [
      r.fn.countAll<number>().filterWhere('state', '=', 'SUCCEEDED').as('completed'),
      r.fn.countAll<number>().filterWhere('state', 'in', ['FAILED', 'ERROR']).as('failed'),
      r.fn.countAll<number>().filterWhere('state', '=', 'CANCELLED').as('cancelled'),
    ])
    .where('parent_run_id', '=', run_id)
    .executeTakeFirstOrThrow()
  const message = inWords({ completed, failed, cancelled })
  const step = { run_id, now }
  const set = { ended_at: now, not_before: null }
  if (failed > 0) {
    const failure: Failure = { error_code: 'conflict', message, retryable: false, reason: 'tasks_failed' }
    await followIn(write, 'fail', { ...step, set: { ...set, failure } })
  } else {
    await followIn(write, cancelled > 0 ? 'cancel' : 'succeed', { ...step, set: { ...set, status_message: message } })
  }
  return true
}

function inWords({ completed, failed, cancelled }: { completed: number; failed: number; cancelled: number }): string {
  const all = completed + failed + cancelled
  const head = `${completed} of ${all} ${all === 1 ? 'task' : 'tasks'} completed`
  const rest = [
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(cancelled > 0 ? [`${cancelled} ${cancelled === 1 ? 'was' : 'were'} cancelled`] : []),
  ]
  return rest.length === 0 ? `${head}.` : `${head}; ${rest.join(', ')}.`
}
