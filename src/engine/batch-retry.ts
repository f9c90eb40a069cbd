/** Tasks of a batch, tried again: those that failed or were cancelled, with what they need and what waits for them. */
import { type Kysely, sql } from 'kysely'
import { Fault, isEnded, RunState } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { advanceIn, DEPENDENCY_FAILED } from './batch-advance.ts'
import { plainName } from './births.ts'
import type { Room } from './engine.ts'
import { afresh, announce, followAll, followIn } from './transitions.ts'

/** Nothing named: all of them. */
export type Chosen = { names?: string[]; run_id?: string }

type Task = {
  run_id: string
  name: string
  state: string
  depends_on: string[]
  reason: string | null
  /** QUEUED after a failed try. */
  pausing: boolean
}

export async function retryTasks(room: Room, batch_run_id: string, chosen: Chosen): Promise<void> {
  const now = room.clock.now()
  await room.database.kysely.transaction().execute(async (write) => {
    const batch = await write
      .selectFrom('runs')
      .select(['state'])
      .where('run_id', '=', batch_run_id)
      .forNoKeyUpdate()
      .executeTakeFirstOrThrow()
    const tasks = await readTasks(write, batch_run_id)
    const wanted = choose(tasks, chosen)
    const again = wanted.filter((task) => !task.pausing)
    const sooner = wanted.filter((task) => task.pausing).map((task) => task.run_id)
    await write.updateTable('batches').set({ stopped_by: null }).where('run_id', '=', batch_run_id).execute()
    if (isEnded(RunState.parse(batch.state))) await reopen(write, batch_run_id, now)
    if (sooner.length > 0) {
      await sql`update runs set not_before = null, tries = 0, updated_at = ${now}
        where run_id = any(${sooner}::uuid[]) and state = 'QUEUED'`.execute(write)
    }
    const done = new Set(tasks.filter((task) => task.state === 'SUCCEEDED').map((task) => task.run_id))
    await followAll(
      write,
      again.map(({ run_id, depends_on }) => ({
        name: 'again',
        run_id,
        now,
        set: { ...afresh(now), held: depends_on.some((need) => !done.has(need)) },
      })),
    )
    await advanceIn(write, batch_run_id, now)
  })
  announce(room)
}

async function reopen(write: Kysely<Tables>, run_id: string, now: Date): Promise<void> {
  await write.updateTable('runs').set({ paused_at: null }).where('run_id', '=', run_id).execute()
  await followIn(write, 'again', { run_id, now, set: afresh(now) })
  await followIn(write, 'open', { run_id, now })
}

async function readTasks(write: Kysely<Tables>, batch_run_id: string): Promise<Task[]> {
  const { rows } = await sql<Task>`
    select t.run_id, t.name, t.depends_on, r.state, r.failure->>'reason' as reason,
      r.state = 'QUEUED' and r.tries > 0 and r.failure is not null as pausing
    from batch_tasks t join runs r using (run_id) where t.batch_run_id = ${batch_run_id}
    order by t.number`.execute(write)
  return rows
}

const mayGoAgain = ({ state, pausing }: Task): boolean => pausing || ['FAILED', 'ERROR', 'CANCELLED'].includes(state)

function choose(tasks: Task[], chosen: Chosen): Task[] {
  const own = chosen.names
    ? named(tasks, chosen.names)
    : tasks.filter((task) => (chosen.run_id === undefined ? mayGoAgain(task) : task.run_id === chosen.run_id))
  if (own.length === 0) {
    throw new Fault('conflict', 'No task of this batch failed or was cancelled; there is nothing to try again.', {
      retryable: false,
    })
  }
  for (const task of own) if (!mayGoAgain(task)) throw notEnded(task, chosen)
  return withKin(tasks, own)
}

function named(tasks: Task[], names: string[]): Task[] {
  const known = new Map(tasks.map((task) => [plainName(task.name), task]))
  return names.map((name, at) => {
    const task = known.get(plainName(name))
    if (task) return task
    throw new Fault('invalid_request', `This batch has no task ${JSON.stringify(name)}.`, {
      errors: [{ pointer: `/tasks/${at}`, detail: 'is not in the batch' }],
    })
  })
}

function notEnded({ name, run_id, state }: Task, chosen: Chosen): Fault {
  const whose = chosen.run_id === undefined ? `Task ${JSON.stringify(name)}` : `Run ${run_id}`
  const why = state === 'SUCCEEDED' ? 'has completed' : 'has not ended'
  return new Fault('conflict', `${whose} ${why} (${state}); only what failed or was cancelled can be tried again.`, {
    retryable: false,
  })
}

/** A task cannot go again without what it depends on, and what was passed over for its sake goes again with it. */
function withKin(tasks: Task[], own: Task[]): Task[] {
  const byId = new Map(tasks.map((task) => [task.run_id, task]))
  const passedOver = new Map<string, Task[]>()
  for (const task of tasks) {
    if (task.reason !== DEPENDENCY_FAILED || !isEnded(RunState.parse(task.state))) continue
    for (const need of task.depends_on) passedOver.set(need, [...(passedOver.get(need) ?? []), task])
  }
  const all = new Set(own)
  for (const task of all) {
    for (const need of task.depends_on) {
      const needed = byId.get(need)
      if (needed && mayGoAgain(needed)) all.add(needed)
    }
    for (const waiting of passedOver.get(task.run_id) ?? []) all.add(waiting)
  }
  return [...all]
}
