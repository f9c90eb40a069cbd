/** How batches and their tasks are shown. */
import { type RawBuilder, type SqlBool, sql } from 'kysely'
import { type Batch, type BatchTask, Failure, Fault, isEnded, RunState, TaskState } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import { readCursor, renderCursor } from './cursor.ts'
import type { Room } from './engine.ts'
import { creatorOf } from './makers.ts'
import { visibleRuns } from './visible.ts'

export type ListTasks = { state?: TaskState[] | undefined; after: number; limit: number }

const SORT = 'batches'

/** What a person calls the state of the task whose run is `r`. */
const taskState = sql<TaskState>`case
  when r.state = 'SUCCEEDED' then 'completed'
  when r.state in ('FAILED', 'ERROR') then 'failed'
  when r.state = 'CANCELLED' then 'cancelled'
  when r.state in ('INPROGRESS', 'BLOCKED') then 'running'
  when r.state = 'QUEUED' and r.tries > 0 and r.failure is not null then 'failed'
  else 'pending' end`

export const batchNotFound = (batch_id: string): Fault =>
  new Fault('resource_not_found', `There is no batch ${batch_id}.`)

export async function readBatch(room: Room, caller: Caller, batch_id: string): Promise<Batch> {
  const [row] = await select(room, caller, { where: sql`b.run_id = ${batch_id}`, limit: 1 })
  if (!row) throw batchNotFound(batch_id)
  return render(row)
}

export async function listBatches(room: Room, caller: Caller, query: { limit: number; cursor?: string | undefined }) {
  const cursor = query.cursor === undefined ? null : readCursor(query.cursor, SORT)
  const where = cursor
    ? sql<SqlBool>`(b.created_at, b.run_id) < (${new Date(cursor.at)}, ${cursor.id}::uuid)`
    : sql<SqlBool>`true`
  const found = await select(room, caller, { where, limit: query.limit + 1 })
  const page = found.slice(0, query.limit)
  const last = page.at(-1)
  const has_next_page = found.length > query.limit
  const next =
    has_next_page && last
      ? { next_cursor: renderCursor({ sort: SORT, at: last.created_at.toISOString(), id: last.run_id }) }
      : {}
  return { batches: page.map(render), page_info: { has_next_page, ...next } }
}

type Row = Record<TaskState, number> & {
  run_id: string
  title: string
  state: string
  paused_at: Date | null
  parallelism: number
  stop_on_failure: boolean
  tasks: number
  created_at: Date
  ended_at: Date | null
  status_message: string | null
  failure: unknown
  creator_id: string
  display_name: string
  email: string | null
  creator_identity_uid: string | null
  creator_identity_name: string | null
  input: number
  output: number
  cache_read: number
  cache_write: number
  cost: number | null
  cpu: number | null
}

/** What its tasks and their own children used is the batch's use. */
async function select(
  room: Room,
  caller: Caller,
  { where, limit }: { where: RawBuilder<unknown>; limit: number },
): Promise<Row[]> {
  const { rows } = await sql<Row>`
    with page as (
      select b.run_id, b.stop_on_failure, b.created_at, runs.title, runs.state, runs.paused_at, runs.parallelism,
        runs.ended_at, runs.status_message, runs.failure, runs.creator_id, runs.creator_identity_uid
      from batches b join runs using (run_id)
      where b.team_id = ${caller.team_id} and ${visibleRuns(caller)} and ${where}
      order by b.created_at desc, b.run_id desc limit ${limit}
    )
    select page.*, users.display_name, users.email, identities.name as creator_identity_name, counts.*, used.*
    from page join users on users.user_id = page.creator_id
    left join identities on identities.identity_uid = page.creator_identity_uid
    cross join lateral (
      select count(*)::int as tasks, count(*) filter (where told.state = 'pending')::int as pending,
        count(*) filter (where told.state = 'running')::int as running,
        count(*) filter (where told.state = 'completed')::int as completed,
        count(*) filter (where told.state = 'failed')::int as failed,
        count(*) filter (where told.state = 'cancelled')::int as cancelled
      from (select ${taskState} as state from runs r where r.parent_run_id = page.run_id) as told
    ) as counts
    cross join lateral (
      select coalesce(sum((x.usage->>'input_tokens')::float8), 0) as input,
        coalesce(sum((x.usage->>'output_tokens')::float8), 0) as output,
        coalesce(sum((x.usage->>'cache_read_tokens')::float8), 0) as cache_read,
        coalesce(sum((x.usage->>'cache_write_tokens')::float8), 0) as cache_write,
        sum((x.usage->>'cost_usd')::float8) as cost, sum((x.usage->>'cpu_seconds')::float8) as cpu
      from runs t join executions x using (run_id) where t.root_run_id = page.run_id and x.usage is not null
    ) as used
    order by page.created_at desc, page.run_id desc`.execute(room.database.kysely)
  return rows
}

function render(row: Row): Batch {
  const { pending, running, completed, failed, cancelled, input, output, cache_read, cache_write } = row
  const state = RunState.parse(row.state)
  const failure = row.failure === null ? null : Failure.parse(row.failure)
  return {
    batch_id: row.run_id,
    title: row.title,
    state: stateOf(state, row.paused_at !== null),
    concurrency: row.parallelism,
    stop_on_failure: row.stop_on_failure,
    message: isEnded(state) ? (failure?.message ?? row.status_message) : null,
    counts: { pending, running, completed, failed, cancelled },
    tasks: row.tasks,
    created_at: row.created_at.toISOString(),
    ended_at: row.ended_at?.toISOString() ?? null,
    creator: creatorOf(row),
    usage: {
      total_tokens: input + output + cache_read + cache_write,
      input_tokens: input,
      output_tokens: output,
      cache_read_tokens: cache_read,
      cache_write_tokens: cache_write,
      ...(row.cost === null ? {} : { inference_cost_usd: row.cost }),
      ...(row.cpu === null ? {} : { cpu_seconds: row.cpu }),
    },
  }
}

function stateOf(state: RunState, paused: boolean): Batch['state'] {
  switch (state) {
    case 'SUCCEEDED':
      return 'completed'
    case 'FAILED':
    case 'ERROR':
      return 'failed'
    case 'CANCELLED':
      return 'cancelled'
    case 'QUEUED':
    case 'PENDING':
    case 'CLAIMED':
    case 'INPROGRESS':
    case 'BLOCKED':
      return paused ? 'paused' : 'running'
  }
}

type TaskRow = {
  run_id: string
  number: number
  name: string
  title: string
  task_state: string
  state: string
  tries: number
  max_tries: number
  not_before: Date | null
  queued_at: Date
  needs: string[]
  harness: string
  failure: unknown
  status_message: string | null
  last_words: string | null
  started_at: Date | null
  ended_at: Date | null
}

export async function listTasks(room: Room, caller: Caller, batch_id: string, query: ListTasks) {
  await readBatch(room, caller, batch_id)
  const states = query.state ?? []
  const { rows } = await sql<TaskRow>`
    with page as (
      select t.run_id, t.number, t.name, t.depends_on, ${taskState} as task_state
      from batch_tasks t join runs r using (run_id)
      where t.batch_run_id = ${batch_id} and t.number > ${query.after}
        and (${states.length === 0} or ${taskState} = any(${states}::text[]))
      order by t.number limit ${query.limit + 1}
    )
    select page.run_id, page.number, page.name, page.task_state, r.title, r.state, r.tries, r.max_tries, r.not_before,
      r.queued_at, r.failure, r.status_message, r.started_at, r.ended_at,
      coalesce(x.harness, r.config->'harness'->>'type', 'oz') as harness,
      array(select o.name from batch_tasks o where o.run_id = any(page.depends_on) order by o.number) as needs,
      (select w.last_words from executions w where w.run_id = r.run_id and w.last_words is not null
        order by w.number desc limit 1) as last_words
    from page join runs r using (run_id) left join executions x on x.execution_id = r.execution_id
    order by page.number`.execute(room.database.kysely)
  return { tasks: rows.slice(0, query.limit).map(renderTask), has_more: rows.length > query.limit }
}

function renderTask(row: TaskRow): BatchTask {
  const state = TaskState.parse(row.task_state)
  const failure = row.failure === null ? null : Failure.parse(row.failure)
  const next_try_at = state === 'failed' && row.state === 'QUEUED' ? (row.not_before ?? row.queued_at) : null
  return {
    run_id: row.run_id,
    number: row.number,
    name: row.name,
    title: row.title,
    state,
    tries: row.tries,
    max_tries: row.max_tries,
    next_try_at: next_try_at?.toISOString() ?? null,
    depends_on: row.needs,
    harness: row.harness,
    error: state === 'completed' ? null : (failure?.message ?? (state === 'cancelled' ? row.status_message : null)),
    last_words: row.last_words?.replace(/\s+/g, ' ').trim() ?? null,
    started_at: row.started_at?.toISOString() ?? null,
    ended_at: row.ended_at?.toISOString() ?? null,
  }
}
