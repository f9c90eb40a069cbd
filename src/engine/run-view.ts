/** How a run is shown: rows of runs, executions and users, rendered as the public Run. */
import { sql } from 'kysely'
import {
  AgentConfig,
  Failure,
  isEnded,
  Metadata,
  parseSkillSpec,
  Run,
  RunMode,
  RunSource,
  RunState,
  skillNameOf,
  TreeStop,
} from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { listedArtifacts } from './listed-artifacts.ts'
import { creatorOf } from './makers.ts'
import { noticesOf } from './notices.ts'
import { givensOf, renderGivens } from './run-givens.ts'
import { usageByModel, usageOf } from './run-usage.ts'
import { runNotFound } from './runs.ts'
import { busyRuns, roomInLane } from './transitions.ts'
import { scopeOf, visibleRuns } from './visible.ts'

const ChildStates = Run.shape.child_states

export async function readRun(room: Room, caller: Caller, run_id: string): Promise<Run> {
  const row = await select(room, caller)
    .select(givensOf.as('givens'))
    .where('runs.run_id', '=', run_id)
    .executeTakeFirst()
  if (!row) throw runNotFound(run_id)
  return { ...render(row), ...renderGivens(row.givens) }
}

export async function readRuns(room: Room, caller: Caller, run_ids: string[]): Promise<Run[]> {
  if (run_ids.length === 0) return []
  const rows = await select(room, caller).where(sql<boolean>`runs.run_id = any(${run_ids}::uuid[])`).execute()
  return rows.map(render)
}

type Selected = Awaited<ReturnType<ReturnType<typeof select>['execute']>>[number]

function select(room: Room, caller: Caller) {
  const now = room.clock.now()
  return room.database.kysely
    .selectFrom('runs')
    .where(visibleRuns(caller))
    .innerJoin('users', 'users.user_id', 'runs.creator_id')
    .innerJoin('teams', 'teams.team_id', 'runs.team_id')
    .leftJoin('identities', 'identities.identity_uid', 'runs.identity_uid')
    .leftJoin('identities as creator_identity', 'creator_identity.identity_uid', 'runs.creator_identity_uid')
    .leftJoin('environments', (on) =>
      on.on(sql<boolean>`environments.environment_uid = runs.config->>'environment_id'`),
    )
    .leftJoin('schedules', 'schedules.schedule_id', 'runs.schedule_id')
    .leftJoin('executions as current', 'current.execution_id', 'runs.execution_id')
    .leftJoinLateral(
      (from) =>
        from
          .selectFrom('executions')
          .whereRef('executions.run_id', '=', 'runs.run_id')
          .select([
            sql<number | null>`sum((usage->>'cpu_seconds')::float8)`.as('cpu_seconds'),
            sql<number | null>`max((usage->>'peak_memory_bytes')::float8)`.as('peak_memory_bytes'),
            sql<
              number | null
            >`sum(extract(epoch from coalesce(ended_at, ${now}::timestamptz) - started_at)::float8)`.as('run_seconds'),
          ])
          .as('used'),
      (on) => on.onTrue(),
    )
    .selectAll('runs')
    .select([
      'users.display_name',
      'users.email',
      'identities.name as identity_name',
      'creator_identity.name as creator_identity_name',
      'environments.environment_uid',
      'environments.name as environment_name',
      'teams.max_concurrent_runs',
      'current.state as execution_state',
      'current.started_at as session_started_at',
      'current.worker_host as current_host',
    ])
    .select([
      'used.cpu_seconds',
      'used.peak_memory_bytes',
      'used.run_seconds',
      'schedules.name as schedule_name',
      'schedules.cron_schedule',
    ])
    .select(usageByModel.as('models'))
    .select(
      sql<
        string[]
      >`array(select child.run_id::text from runs child where child.parent_run_id = runs.run_id order by child.created_at)`.as(
        'children',
      ),
    )
    .select(
      sql<unknown>`(select coalesce(jsonb_object_agg(s.state, s.count), '{}') from (select child.state, count(*)::int
        from runs child where child.parent_run_id = runs.run_id group by child.state) s)`.as('child_states'),
    )
    .select(
      sql<string | null>`(select coalesce(parent.config->>'name', parent.title) from runs parent
        where parent.run_id = runs.parent_run_id)`.as('parent_name'),
    )
    .select(listedArtifacts.as('artifacts'))
    .select(sql<boolean>`exists (select from batches where batches.run_id = runs.run_id)`.as('is_batch'))
    .select(
      sql<boolean>`runs.state = 'QUEUED' and runs.lane_run_id is not null
        and (${roomInLane(sql`runs.lane_run_id`)}) <= 0`.as('lane_full'),
    )
    .select(noticesOf.as('notices'))
    .select(sql<Date>`${now}::timestamptz`.as('read_at'))
    .select(
      sql<boolean>`runs.state = 'QUEUED' and (${busyRuns(sql`runs.team_id`)}) >= teams.max_concurrent_runs`.as('full'),
    )
}

function render(row: Selected): Run {
  const state = RunState.parse(row.state)
  const creator = creatorOf(row)
  const config = AgentConfig.parse(row.config)
  const failure = row.failure === null ? null : Failure.parse(row.failure)
  return {
    run_id: row.run_id,
    task_id: row.run_id,
    title: row.title,
    prompt: row.prompt,
    state,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    started_at: row.started_at?.toISOString() ?? null,
    ended_at: row.ended_at?.toISOString() ?? null,
    ...(row.run_seconds === null ? {} : { run_time: renderDuration(row.run_seconds) }),
    ...statusOf(row.status_message, failure, state),
    source: RunSource.parse(row.source),
    execution_location: row.execution_location === 'LOCAL' ? 'LOCAL' : 'REMOTE',
    ...scheduleOf(row),
    ...(row.trigger_url === null ? {} : { trigger_url: row.trigger_url }),
    creator,
    executor: executorOf(row, creator),
    ...usageOf(row, config),
    agent_config: config,
    ...skillOf(config),
    ...(row.environment_uid === null || row.environment_name === null
      ? {}
      : { environment: { uid: row.environment_uid, name: row.environment_name } }),
    conversation_id: row.conversation_id,
    // Each execution is a session of its own, whichever of its harness's it goes on with.
    ...(row.session_started_at === null || row.execution_id === null ? {} : { session_id: row.execution_id }),
    ...(row.parent_run_id === null ? {} : { parent_run_id: row.parent_run_id }),
    is_sandbox_running: row.execution_state === 'claimed' || row.execution_state === 'running',
    is_run_type_cancellable: row.source !== 'GITHUB_ACTION' && row.execution_location !== 'LOCAL',
    artifacts: row.artifacts,
    notices: row.notices,
    scope: scopeOf(row),
    metadata: Metadata.parse(row.metadata),
    last_event_sequence: row.last_event_sequence,
    children: row.children,
    child_states: ChildStates.parse(row.child_states),
    ...(row.parent_name === null ? {} : { parent_name: row.parent_name }),
    ...(row.execution_id === null ? {} : { execution_id: row.execution_id }),
    root_run_id: row.root_run_id,
    ...(row.stopped === null ? {} : { tree_stopped: TreeStop.parse(row.stopped) }),
    depth: row.depth,
    mode: RunMode.parse(row.mode),
    ...(row.open_plan === null ? {} : { open_plan: row.open_plan }),
    is_batch: row.is_batch,
    placement: row.placement === 'parent' ? 'parent' : 'worker',
    ...(row.waiting_until === null ? {} : { waiting_until: row.waiting_until.toISOString() }),
    executions: row.executions,
    cancel_requested: row.cancel_requested_at !== null && !isEnded(state),
    ...waitOf(row, state),
    ...(row.current_host === null ? {} : { worker_host: row.current_host }),
  }
}

function executorOf(row: Selected, creator: Run['creator']): Run['executor'] {
  if (row.identity_uid === null) return creator
  return { type: 'service_account', uid: row.identity_uid, display_name: row.identity_name ?? '' }
}

function scheduleOf({ schedule_id, schedule_name, cron_schedule }: Selected): Pick<Run, 'schedule'> {
  if (schedule_id === null || schedule_name === null || cron_schedule === null) return {}
  return { schedule: { schedule_id, schedule_name, cron_schedule } }
}

/** As it was asked for: what it is found as, the runner says in the transcript. */
function skillOf({ skills: [spec] = [] }: AgentConfig): Pick<Run, 'agent_skill'> {
  if (spec === undefined) return {}
  const place = parseSkillSpec(spec)
  const path = place !== null && 'path' in place ? { full_path: place.path } : {}
  return { agent_skill: { name: skillNameOf(spec), ...path } }
}

function statusOf(message: string | null, failure: Failure | null, state: RunState) {
  if (failure) {
    const { error_code, retryable } = failure
    return { status_message: { message: failure.message, error_code, ...(isEnded(state) ? { retryable } : {}) } }
  }
  return message === null ? {} : { status_message: { message } }
}

function waitOf(row: Selected, state: RunState): Pick<Run, 'waiting_for' | 'not_before'> {
  if (state !== 'QUEUED') return {}
  if (row.halted) return { waiting_for: 'release' }
  if (row.not_before && row.not_before > row.read_at)
    return { waiting_for: 'retry', not_before: row.not_before.toISOString() }
  if (row.held) return { waiting_for: 'tasks' }
  if (row.lane_full) return { waiting_for: 'lane' }
  if (row.full) return { waiting_for: 'capacity' }
  return { waiting_for: row.placement === 'parent' ? 'parent' : 'worker' }
}

/** Seconds as an ISO 8601 duration, such as `PT1H2M30.5S`. */
export function renderDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds * 1000)) / 1000
  const hours = Math.floor(whole / 3600)
  const minutes = Math.floor((whole % 3600) / 60)
  const rest = Number((whole % 60).toFixed(3))
  const text = `${hours > 0 ? `${hours}H` : ''}${minutes > 0 ? `${minutes}M` : ''}${rest > 0 ? `${rest}S` : ''}`
  return `PT${text || '0S'}`
}
