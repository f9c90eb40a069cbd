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
import { type Kysely, type RawBuilder, type Selectable, sql } from 'kysely'
import {
  type AgentConfig,
  type EventType,
  type EXECUTION_STATES,
  type Failure,
  Fault,
  isEnded,
  type Outcome,
  type RetryOn,
  type RunMode,
  type RunSource,
  RunState,
  type Usage,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs } from '../db/tables.ts'
import { arrayOf } from './array-of.ts'
import { batched } from './batch.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'

type Arrow = { from: readonly RunState[]; to: RunState; event: EventType | null }

export const ARROWS = {
  /** Dispatcher: the quota allows and a worker has a free slot. */
  offer: { from: ['QUEUED'], to: 'PENDING', event: null },
  claim: { from: ['PENDING'], to: 'CLAIMED', event: null },
  /** A worker rejected, or an offer lapsed: nothing had begun. */
  release: { from: ['PENDING', 'CLAIMED'], to: 'QUEUED', event: null },
  /** From PENDING too: a runner may be faster than the worker's word that it claimed. With it, the log says which
   * session the run has from now on. */
  begin: { from: ['PENDING', 'CLAIMED'], to: 'INPROGRESS', event: 'run_in_progress' },
  succeed: { from: ['INPROGRESS', 'BLOCKED'], to: 'SUCCEEDED', event: 'run_succeeded' },
  fail: { from: ['PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'], to: 'FAILED', event: 'run_failed' },
  err: { from: ['PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'], to: 'ERROR', event: 'run_errored' },
  /** A retryable failure with tries left. */
  requeue: { from: ['PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'], to: 'QUEUED', event: 'run_queued' },
  /** A batch: it has no execution, for the server itself starts its tasks. */
  open: { from: ['QUEUED'], to: 'INPROGRESS', event: 'run_in_progress' },
  /** What it was to wait for will not come. */
  skip: { from: ['QUEUED'], to: 'FAILED', event: 'run_failed' },
  /** It waits for a person: a plan is open, or the storm guard stopped its tree. */
  block: { from: ['INPROGRESS'], to: 'BLOCKED', event: 'run_blocked' },
  unblock: { from: ['BLOCKED'], to: 'INPROGRESS', event: 'run_in_progress' },
  /** The same where its execution has gone meanwhile: another goes on. */
  rouse: { from: ['BLOCKED'], to: 'QUEUED', event: 'run_queued' },
  /** Its execution has ended while it waits for a person; the answer begins another. */
  shelve: { from: ['BLOCKED'], to: 'BLOCKED', event: null },
  cancel: { from: ['QUEUED', 'PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED'], to: 'CANCELLED', event: 'run_cancelled' },
  /** Asked for again after it had ended. */
  again: { from: ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'], to: 'QUEUED', event: 'run_queued' },
} as const satisfies Record<string, Arrow>

export type ArrowName = keyof typeof ARROWS
type ExecutionState = (typeof EXECUTION_STATES)[number]

/** Columns of `runs` that a step may set. */
type RunPatch = Partial<{
  ended_at: Date | null
  not_before: Date | null
  queued_at: Date
  tries: number
  /** Added to what is there. */
  tries_more: number
  status_message: string | null
  failure: Failure | null
  cancel_requested_at: Date | null
  cancel_requested_by: string | null
  /** Kept when it is set already. */
  started_at: Date
  /** Every arrow ends waiting, unless it says otherwise. */
  waiting_until: Date
  stopped: unknown
  released: number
  /** Only what is queued is held. */
  held: boolean
}>

/** Columns of `executions` that a step may set. */
type ExecutionPatch = {
  state: ExecutionState
  outcome?: Outcome['outcome'] | 'LAPSED'
  ended_at?: Date
  expires_at: Date | null
  session_id?: string
  failure?: Failure | null
  usage?: Usage
  /** Both kept when they are set already. */
  claimed_at?: Date
  started_at?: Date
}

export type Step = {
  run_id: string
  now: Date
  /** The execution that the arrow is for: it must be the run's current one. Absent for what concerns the run itself. */
  execution_id?: string
  /** Only if the current execution was offered on this connection. */
  connection_id?: string
  /** Only if no cancel was asked for and the current execution has not ended and holds so many entries. */
  entries?: number
  /** With `entries`: neither undelivered messages matter nor that the tree is stopped. */
  leave_inbox?: boolean
  /** Only if no execution of the run is at work. */
  idle?: boolean
  /** Narrows the arrow: only from these of its states. */
  from?: readonly RunState[]
  set?: RunPatch
  /** What becomes of the run's current execution, where it is in one of these states. */
  execution?: { from: readonly ExecutionState[]; set: ExecutionPatch }
}

export type NamedStep = Step & { name: ArrowName }

/** Follows an arrow and logs its event; undefined when it does not lead from where the run is. */
export type Follow = (name: ArrowName, step: Step) => Promise<Selectable<Runs> | undefined>

/** Steps of one statement. */
const STEPS_MAX = 50

/** Follows arrows by group commit: all move the counter of the log. Inside a transaction, use `followIn`. */
export function follower(db: Kysely<Tables>): Follow {
  const follow = batched<NamedStep, Selectable<Runs> | undefined>({
    most: STEPS_MAX,
    keyOf: (step) => step.run_id,
    run: (steps) => followAll(db, steps),
    one_at_a_time: true,
  })
  return (name, step) => follow({ ...step, name })
}

export async function followIn(write: Kysely<Tables>, name: ArrowName, step: Step) {
  return (await followAll(write, [{ ...step, name }]))[0]
}

/** One statement for any number of steps, each of another run; the answers come in their order. */
export async function followAll(db: Kysely<Tables>, steps: NamedStep[]): Promise<(Selectable<Runs> | undefined)[]> {
  const arrows = steps.map((step): Arrow => ARROWS[step.name])
  const { rows } = await sql<Selectable<Runs> & { place: number }>`
    with steps as (
      select * from unnest(
        ${arrayOf('uuid', steps, (s) => s.run_id)}, ${arrayOf('uuid', steps, (s) => s.execution_id ?? null)},
        ${arrayOf('uuid', steps, (s) => s.connection_id ?? null)}, ${arrayOf('int', steps, (s) => s.entries ?? null)},
        ${arrayOf('bool', steps, (s) => s.leave_inbox ?? false)}, ${arrayOf('bool', steps, (s) => s.idle ?? false)},
        ${arrayOf('text', steps, (s, at) => (s.from ?? arrows[at]?.from ?? []).join())},
        ${arrayOf('text', arrows, (a) => a.to)}, ${arrayOf('text', arrows, (a) => a.event)},
        ${arrayOf('timestamptz', steps, (s) => s.now)}, ${arrayOf('jsonb', steps, (s) => JSON.stringify(s.set ?? {}))},
        ${arrayOf('text', steps, (s) => (s.execution?.from ?? []).join())},
        ${arrayOf('jsonb', steps, (s) => JSON.stringify(s.execution?.set ?? {}))}
      ) with ordinality as s(run_id, execution_id, connection_id, entries, leave_inbox, idle, from_states,
        to_state, event_type, now, run_patch, execution_from, execution_patch, place)
    ), moved as (
      update runs set state = s.to_state, updated_at = s.now,
        (started_at, ended_at, not_before, queued_at, tries, status_message, failure, cancel_requested_at,
          cancel_requested_by, stopped, released, held, waiting_until)
        = (select coalesce(runs.started_at, p.started_at), p.ended_at, p.not_before, p.queued_at,
            p.tries + coalesce((s.run_patch->>'tries_more')::int, 0), p.status_message,
            nullif(p.failure, 'null'), p.cancel_requested_at, p.cancel_requested_by, nullif(p.stopped, 'null'),
            p.released, p.held and s.to_state = 'QUEUED', (s.run_patch->>'waiting_until')::timestamptz
          from jsonb_populate_record(runs, s.run_patch) as p)
      from steps s
      where runs.run_id = s.run_id and runs.state = any(string_to_array(s.from_states, ','))
        and (s.execution_id is null or runs.execution_id = s.execution_id)
        and (s.connection_id is null or exists (select from executions e
          where e.execution_id = runs.execution_id and e.connection_id = s.connection_id))
        and (not s.idle or not exists (select from executions e
          where e.execution_id = runs.execution_id and e.state <> 'ended'))
        and (s.entries is null or (runs.cancel_requested_at is null and runs.open_plan is null
          and (s.leave_inbox or runs.undelivered = 0 and not runs.halted) and exists (select from executions e
          where e.execution_id = runs.execution_id and e.state <> 'ended' and e.note is null
            and e.entries >= s.entries)))
      returning runs.*, s.place, s.event_type, s.now, s.execution_from, s.execution_patch,
        s.execution_id as said_of
    ), carried as (
      update executions as x set
        (state, outcome, claimed_at, started_at, ended_at, expires_at, session_id, failure, usage)
        = (select p.state, p.outcome, coalesce(x.claimed_at, p.claimed_at), coalesce(x.started_at, p.started_at),
            p.ended_at, p.expires_at, p.session_id, nullif(p.failure, 'null'), p.usage
          from jsonb_populate_record(x, m.execution_patch) as p)
      from moved m
      where x.execution_id = m.execution_id and x.state = any(string_to_array(m.execution_from, ','))
    ), news as (
      select place, 0 as rank, team_id, event_type, run_id, said_of as execution_id, now,
        case event_type when 'run_errored' then coalesce(failure->>'reason', failure->>'error_code') end as ref_id
      from moved where event_type is not null
      union all
      select place, 1, team_id, 'run_session_linked', run_id, said_of, now, said_of::text
      from moved where execution_patch->>'state' = 'running'
    ), bump as (
      update event_counter set value = value + logged.count from (select count(*)::int as count from news) as logged
      where logged.count > 0 returning event_counter.value - logged.count as before
    ), said as (
      insert into events (sequence, team_id, event_type, run_id, ref_id, execution_id, occurred_at)
      select bump.before + row_number() over (order by n.place, n.rank), n.team_id, n.event_type, n.run_id, n.ref_id,
        n.execution_id, n.now
      from bump, news n
    )
    select * from moved`.execute(db)
  const moved = new Map(rows.map((row) => [row.place, row]))
  return steps.map((_, at) => moved.get(at + 1))
}

/**
 * A run begins its life, and the log says so. Answers whether its team has as many runs under way as it may: then the
 * run waits for one of them.
 */
export type Enqueue = (row: NewRun) => Promise<{ at_capacity?: boolean }>

export type NewRun = {
  run_id: string
  team_id: string
  /** Null: the team's. */
  owner_user_id: string | null
  /** Null: it begins one, which has the run's own id. */
  conversation_id: string | null
  state: 'QUEUED' | 'CLAIMED'
  title: string
  prompt: string
  config: AgentConfig
  /** The agent identity in whose name it is worked on. */
  identity_uid: string | null
  metadata: Record<string, string>
  source: RunSource
  /** The schedule that made it. */
  schedule_id: string | null
  /** The thread, ticket or job that asked for it. */
  trigger_url: string | null
  execution_location: 'LOCAL' | 'REMOTE'
  worker_host: string | null
  creator_id: string
  creator_identity_uid: string | null
  max_tries: number
  /** Of a child; a run without a parent is its own root. */
  parent_run_id: string | null
  root_run_id: string
  depth: number
  placement: 'worker' | 'parent'
  spawn_key: string | null
  mode: RunMode
  /** Whose parallelism and pause bind it. */
  lane_run_id: string | null
  /** Not offered before the tasks that it depends on have completed. */
  held: boolean
  /** Of a parent: so many of its children are at work at a time. */
  parallelism: number | null
  retry_on: RetryOn
  /** With `CLAIMED`: the execution that it begins with. */
  execution_id: string | null
  now: Date
}

/** Enqueues by group commit. Inside a transaction, use `enqueueIn`. */
export function enqueuer(db: Kysely<Tables>): Enqueue {
  return batched({
    most: STEPS_MAX,
    keyOf: (row: NewRun) => row.run_id,
    run: (rows) => enqueueAll(db, rows),
    one_at_a_time: true,
  })
}

export async function enqueueIn(write: Kysely<Tables>, row: NewRun): Promise<{ at_capacity?: boolean }> {
  return (await enqueueAll(write, [row]))[0] ?? {}
}

/** One statement for any number of runs, parents before or among their children. */
export async function enqueueAll(db: Kysely<Tables>, runs: NewRun[]): Promise<{ at_capacity?: boolean }[]> {
  const { rows } = await sql<{ run_id: string; full: boolean }>`
    with made as (
      insert into runs (run_id, team_id, conversation_id, state, title, prompt, config, metadata, source,
        execution_location, worker_host, creator_id, max_tries, execution_id, executions, created_at, updated_at,
        queued_at, parent_run_id, root_run_id, depth, placement, spawn_key, identity_uid, ancestors, mode, lane_run_id,
        held, parallelism, retry_on, owner_user_id, creator_identity_uid, schedule_id, trigger_url)
      select n.run_id, n.team_id, coalesce(n.conversation_id, n.run_id), n.state, n.title, n.prompt, n.config,
        n.metadata, n.source, n.execution_location, n.worker_host, n.creator_id, n.max_tries, n.execution_id,
        case when n.execution_id is null then 0 else 1 end, n.now, n.now, n.now, n.parent_run_id, n.root_run_id,
        n.depth, n.placement, n.spawn_key, n.identity_uid,
        coalesce((select p.ancestors || p.run_id from runs p where p.run_id = n.parent_run_id), '{}'),
        n.mode, n.lane_run_id, n.held, n.parallelism, n.retry_on, n.owner_user_id, n.creator_identity_uid,
        n.schedule_id, n.trigger_url
      from jsonb_to_recordset(${JSON.stringify(runs)}::jsonb) as n(run_id uuid, team_id uuid, conversation_id uuid,
        state text, title text, prompt text, config jsonb, metadata jsonb, source text, execution_location text,
        worker_host text, creator_id uuid, max_tries int, execution_id uuid, now timestamptz, parent_run_id uuid,
        root_run_id uuid, depth int, placement text, spawn_key text, identity_uid text, mode text,
        lane_run_id uuid, held boolean, parallelism int, retry_on text, owner_user_id uuid, creator_identity_uid text,
        schedule_id uuid, trigger_url text)
      returning run_id, team_id, execution_id, parent_run_id, created_at, title, prompt, config
    ), texts as (
      insert into run_texts (run_id, team_id, text)
      select run_id, team_id, run_text(title, prompt, config) from made
    ), news as (
      select team_id, 'child_agent_started' as event_type, parent_run_id as run_id, run_id::text as ref_id,
        null::uuid as execution_id, created_at, 0 as rank from made where parent_run_id is not null
      union all
      select team_id, 'run_queued', run_id, null, execution_id, created_at, 1 from made
    ), bump as (
      update event_counter set value = value + logged.count from (select count(*)::int as count from news) as logged
      returning event_counter.value - logged.count as before
    ), said as (
      insert into events (sequence, team_id, event_type, run_id, ref_id, execution_id, occurred_at)
      select bump.before + row_number() over (order by news.rank), news.team_id, news.event_type, news.run_id,
        news.ref_id, news.execution_id, news.created_at
      from bump, news
    )
    select made.run_id, crowded.full from made join (
      select teams.team_id, (${busyRuns(sql`teams.team_id`)}) >= teams.max_concurrent_runs as full
      from teams where teams.team_id in (select team_id from made)
    ) as crowded using (team_id)`.execute(db)
  const full = new Map(rows.map((row) => [row.run_id, row.full]))
  return runs.map(({ run_id }) => (full.get(run_id) ? { at_capacity: true } : {}))
}

/** Runs that count towards a team's limit, as a scalar subquery. */
export const busyRuns = (team_id: RawBuilder<unknown>): RawBuilder<number> =>
  sql<number>`select count(*)::int from runs busy where busy.team_id = ${team_id}
    and busy.state in ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED') and busy.execution_location = 'REMOTE'
    and busy.waiting_until is null and busy.execution_id is not null`

/** How many more of a lane's runs may be at work, as a scalar subquery; none while it is paused or stopped by a failure. */
export const roomInLane = (lane_run_id: RawBuilder<unknown>): RawBuilder<number> =>
  sql<number>`select case when lane.state in ('INPROGRESS', 'BLOCKED') and (lane.paused_at is not null
      or exists (select from batches b where b.run_id = lane.run_id and b.stopped_by is not null)) then 0
    else coalesce(lane.parallelism, 1000000) - (select count(*) from runs busy
      where busy.lane_run_id = lane.run_id and busy.waiting_until is null and busy.state in
      ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED')) end::int
    from runs lane where lane.run_id = ${lane_run_id}`

/** What the arrow `again` clears: the run begins as if it never had. */
export const afresh = (now: Date): RunPatch => ({
  queued_at: now,
  not_before: null,
  ended_at: null,
  tries: 0,
  cancel_requested_at: null,
  cancel_requested_by: null,
  status_message: null,
  failure: null,
})

/** Tells whoever reads the log and whoever dispatches that a run has moved. */
export function announce(room: Pick<Room, 'bell'>): void {
  room.bell.ring('log', {})
  room.bell.ring('queue', {})
}

/**
 * The parent's runner hears at once that there is news of a child; it would find out by itself within a heartbeat.
 * Where the parent is a batch, a server goes on with it.
 */
export async function tellParent(room: Pick<Room, 'bell' | 'database'>, run: Selectable<Runs>): Promise<void> {
  if (run.parent_run_id === null) return
  if (run.parent_run_id === run.lane_run_id && run.ended_at !== null)
    room.bell.ring('batches', { run_id: run.parent_run_id })
  const parent = await room.database.kysely
    .selectFrom('runs')
    .select('execution_id')
    .where('run_id', '=', run.parent_run_id)
    .where('state', 'in', ['INPROGRESS', 'BLOCKED'])
    .executeTakeFirst()
  if (parent?.execution_id) room.bell.ring('mail', { execution_id: parent.execution_id })
}

/** An agent writes in its run's name only while its execution is the current one and has not ended. */
export function checkCurrent(caller: Caller, run: Pick<Selectable<Runs>, 'run_id' | 'execution_id' | 'state'>): void {
  if (caller.kind !== 'execution' || caller.run_id !== run.run_id) return
  const has_ended = run.state === 'QUEUED' || isEnded(RunState.parse(run.state))
  if (run.execution_id !== caller.execution_id || has_ended) throw superseded()
}

/** What a write of an execution that is not current, or no longer running, gets. */
export function superseded(): Fault {
  return new Fault(
    'conflict',
    'This execution is no longer the current one of its run. Stop; nothing more will be kept.',
    { retryable: false },
  )
}
