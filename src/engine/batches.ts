/**
 * Batches: a run whose children the server starts. It is INPROGRESS without an execution until its last task has ended;
 * its tasks are runs like any other, bound by its concurrency and its pause.
 */
import { type Kysely, sql } from 'kysely'
import { type Batch, type CreateBatch, Fault, type RunSource } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { advance } from './batch-advance.ts'
import { retryTasks } from './batch-retry.ts'
import { type PlannedTask, planTasks } from './batch-tasks.ts'
import { type ListTasks, listBatches, listTasks, readBatch } from './batch-view.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { once } from './idempotency.ts'
import { logged } from './log.ts'
import { type Maker, makerOf } from './makers.ts'
import { hostOf, PLAIN, personOf, type runsEngine } from './runs.ts'
import { announce, enqueueAll, followIn, type NewRun } from './transitions.ts'
import { newTimedId } from './uid.ts'

type Reach = { runs: ReturnType<typeof runsEngine> }
export type CreateBatchOptions = { source: RunSource; idempotency_key?: string | undefined }

export function batchesEngine(room: Room, { runs }: Reach) {
  const { clock } = room
  const db = room.database.kysely

  /** All of it or nothing. */
  async function create(
    caller: Caller,
    body: CreateBatch,
    options: CreateBatchOptions,
  ): Promise<{ answer: Batch; replayed: boolean }> {
    const now = clock.now()
    const maker = await makerOf(db, caller, body)
    const tasks = await planTasks(db, { owned: maker, now }, body)
    const { source, idempotency_key: key } = options
    const use = { caller, route: 'batches.create', key, body: { body, source }, now }
    const make = async (write: Kysely<Tables>) => {
      await checkSize(write, caller.team_id, tasks.length)
      const batch_id = newTimedId(now)
      const batch = { ...shared(maker, now), ...batchRow(batch_id, body, source) }
      const rows = tasks.map((task) => ({ ...shared(maker, now), ...taskRow(batch, task) }))
      await enqueueAll(write, [batch, ...rows])
      await keepTasks(write, batch, body.stop_on_failure, tasks)
      await followIn(write, 'open', { run_id: batch_id, now, set: { started_at: now } })
      return { batch_id }
    }
    const made = await once(db, use, (write) => (write === null ? db.transaction().execute(make) : make(write)))
    if (!made.replayed) announce(room)
    return { answer: await readBatch(room, caller, made.answer.batch_id), replayed: made.replayed }
  }

  async function update(caller: Caller, batch_id: string, { concurrency }: { concurrency: number }): Promise<Batch> {
    personOf(caller)
    await readBatch(room, caller, batch_id)
    await db
      .updateTable('runs')
      .set({ parallelism: concurrency, updated_at: clock.now() })
      .where('run_id', '=', batch_id)
      .execute()
    room.bell.ring('queue', {})
    return readBatch(room, caller, batch_id)
  }

  async function pause(caller: Caller, batch_id: string): Promise<Batch> {
    personOf(caller)
    const { state } = await readBatch(room, caller, batch_id)
    if (state === 'paused') return readBatch(room, caller, batch_id)
    if (!(await mark(batch_id, true))) await refuseEnded(caller, batch_id, 'pause')
    return readBatch(room, caller, batch_id)
  }

  async function resume(caller: Caller, batch_id: string): Promise<Batch> {
    personOf(caller)
    const { state } = await readBatch(room, caller, batch_id)
    if (state === 'paused' && (await mark(batch_id, false))) room.bell.ring('queue', {})
    return readBatch(room, caller, batch_id)
  }

  /** False where it is so already, or has ended. */
  function mark(batch_id: string, paused: boolean): Promise<boolean> {
    const now = clock.now()
    return logged(room, async (write, events) => {
      const run = await write
        .updateTable('runs')
        .set({ paused_at: paused ? now : null, updated_at: now })
        .where('run_id', '=', batch_id)
        .where('state', 'in', ['INPROGRESS', 'BLOCKED'])
        .where('paused_at', paused ? 'is' : 'is not', null)
        .returning('team_id')
        .executeTakeFirst()
      if (!run) return false
      const event_type = paused ? 'batch_paused' : 'batch_resumed'
      events.push({ team_id: run.team_id, event_type, run_id: batch_id })
      return true
    })
  }

  async function refuseEnded(caller: Caller, batch_id: string, what: string): Promise<void> {
    const { state } = await readBatch(room, caller, batch_id)
    if (state === 'running' || state === 'paused') return
    throw new Fault('conflict', `Batch ${batch_id} has already ended (${state}); there is nothing to ${what}.`, {
      retryable: false,
    })
  }

  async function cancel(caller: Caller, batch_id: string): Promise<Batch> {
    personOf(caller)
    const { state, counts } = await readBatch(room, caller, batch_id)
    if (state === 'cancelled') return readBatch(room, caller, batch_id)
    // A task may have been woken since its batch ended.
    if (counts.pending + counts.running === 0) await refuseEnded(caller, batch_id, 'cancel')
    await runs.cancel(caller, batch_id)
    return readBatch(room, caller, batch_id)
  }

  return {
    create,
    update,
    pause,
    resume,
    cancel,
    async retry(caller: Caller, batch_id: string, { tasks }: { tasks?: string[] | undefined }): Promise<Batch> {
      personOf(caller)
      await readBatch(room, caller, batch_id)
      await retryTasks(room, batch_id, tasks === undefined ? {} : { names: tasks })
      return readBatch(room, caller, batch_id)
    },
    list: (caller: Caller, query: { limit: number; cursor?: string | undefined }) => listBatches(room, caller, query),
    get: (caller: Caller, batch_id: string): Promise<Batch> => readBatch(room, caller, batch_id),
    tasks: (caller: Caller, batch_id: string, query: ListTasks) => listTasks(room, caller, batch_id, query),
    /** Does what the ends of tasks have made due; any server may, at any time. */
    advance: (batch_id: string): Promise<void> => advance(room, batch_id),
    /** Batches that have not ended. */
    async open(): Promise<string[]> {
      const rows = await db
        .selectFrom('runs')
        .innerJoin('batches', 'batches.run_id', 'runs.run_id')
        .select('runs.run_id')
        .where('runs.execution_id', 'is', null)
        .where('runs.state', 'in', ['INPROGRESS', 'BLOCKED'])
        .execute()
      return rows.map((row) => row.run_id)
    },
  }
}

async function checkSize(write: Kysely<Tables>, team_id: string, count: number): Promise<void> {
  const { max_batch_tasks } = await write
    .selectFrom('teams')
    .select('max_batch_tasks')
    .where('team_id', '=', team_id)
    .executeTakeFirstOrThrow()
  if (count <= max_batch_tasks) return
  throw new Fault(
    'invalid_request',
    `The batch has ${count} tasks; the team's limit max_batch_tasks is ${max_batch_tasks}. Split the batch, or let an admin raise it.`,
    { errors: [{ pointer: '/tasks', detail: `max_batch_tasks is ${max_batch_tasks}` }] },
  )
}

const shared = (maker: Maker, now: Date) =>
  ({
    ...maker,
    conversation_id: null,
    state: 'QUEUED',
    execution_location: 'REMOTE',
    placement: 'worker',
    spawn_key: null,
    // An agent's key makes what the agent works on.
    identity_uid: maker.creator_identity_uid,
    ...PLAIN,
    execution_id: null,
    now,
  }) satisfies Partial<NewRun>

function batchRow(run_id: string, body: CreateBatch, source: RunSource) {
  const words = body.tasks.length === 1 ? 'A batch of 1 task' : `A batch of ${body.tasks.length} tasks`
  return {
    run_id,
    title: body.title?.trim() || words,
    prompt: `${words}.`,
    config: {},
    metadata: body.metadata ?? {},
    source,
    worker_host: null,
    max_tries: 1,
    parent_run_id: null,
    root_run_id: run_id,
    depth: 0,
    parallelism: body.concurrency,
  } satisfies Partial<NewRun>
}

function taskRow(batch: NewRun, task: PlannedTask) {
  const { run_id, title, prompt, config, max_tries, retry_on } = task
  return {
    run_id,
    title,
    prompt,
    config,
    metadata: batch.metadata,
    source: 'ORCHESTRATION',
    worker_host: hostOf(config.worker_host),
    max_tries,
    parent_run_id: batch.run_id,
    root_run_id: batch.run_id,
    depth: 1,
    lane_run_id: batch.run_id,
    held: task.depends_on.length > 0,
    retry_on,
  } satisfies Partial<NewRun>
}

async function keepTasks(
  write: Kysely<Tables>,
  batch: NewRun,
  stop_on_failure: boolean,
  tasks: PlannedTask[],
): Promise<void> {
  const { run_id, team_id, now } = batch
  await write.insertInto('batches').values({ run_id, team_id, stop_on_failure, created_at: now }).execute()
  const rows = tasks.map(({ run_id, number, name, depends_on }) => ({
    run_id,
    number,
    name,
    depends_on: `{${depends_on.join()}}`,
  }))
  await sql`
    insert into batch_tasks (run_id, batch_run_id, number, name, depends_on)
    select t.run_id, ${run_id}, t.number, t.name, t.depends_on::uuid[]
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
      as t(run_id uuid, number int, name text, depends_on text)`.execute(write)
}
