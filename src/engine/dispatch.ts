/**
 * The dispatcher: QUEUED → PENDING for runs that the team's limit allows and a connected worker has room for.
 *
 * Each server offers to its own connections. The team's row is locked while its busy runs are counted, so that the
 * limit is exact with any number of servers; runs are taken oldest first with skip locked.
 */
import { randomUUID } from 'node:crypto'
import { type Kysely, type RawBuilder, type Selectable, type SqlBool, sql } from 'kysely'
import { AgentConfig, type FrozenEnvironment, harnessOf, type TaskAssignment } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs } from '../db/tables.ts'
import { isUnavailable } from '../db/unavailable.ts'
import { arrayOf } from './array-of.ts'
import type { Room } from './engine.ts'
import { freezeEnvironments } from './environments.ts'
import { giveSecrets } from './secret-giving.ts'
import { modelKeysFor } from './secret-opening.ts'
import { hashOf, newExecutionToken } from './tokens.ts'
import { busyRuns, roomInLane } from './transitions.ts'

/** `free`: runs that the worker would take now. `brokers`: providers for which it takes keys of single executions. */
export type Connection = {
  connection_id: string
  team_id: string
  worker_host: string
  free: number
  brokers?: readonly string[]
  /** Of personal runs it takes those of this person; null: none; absent: everybody's, as a worker of the team. */
  only_for?: string | null
}
export type Offer = { connection_id: string; assignment: TaskAssignment }

/** Runs offered in one transaction. */
const BATCH = 50

/** Where a run is offered to: a worker's connection, or none where its parent's runner takes it. */
type Place = { worker_host: string | null; connection_id: string | null }

type Taken = {
  run: Selectable<Runs>
  config: AgentConfig
  /** As it stands now; null: none. */
  environment: FrozenEnvironment | null
  place: Place
  brokers: readonly string[]
  execution_id: string
  token: string
  number: number
  cause: 'start' | 'retry' | 'requested' | 'message'
}

export function dispatchEngine(room: Room) {
  const db = room.database.byIndex

  async function offer(connections: Connection[]): Promise<Offer[]> {
    const open = connections.filter((connection) => connection.free > 0).map((connection) => ({ ...connection }))
    const offers: Offer[] = []
    for (const team_id of [...new Set(open.map((connection) => connection.team_id))].sort()) {
      const own = open.filter((connection) => connection.team_id === team_id)
      try {
        if (await anyQueued(team_id)) offers.push(...(await offerTeam(team_id, own)))
      } catch (error) {
        // What is wrong with the runs of one team holds up nobody else's.
        if (isUnavailable(error)) throw error
        room.log.error({ err: error, team_id }, 'dispatch.team_failed')
      }
    }
    return offers
  }

  async function anyQueued(team_id: string): Promise<boolean> {
    const run = await db
      .selectFrom('runs')
      .select('run_id')
      .where('team_id', '=', team_id)
      .where('state', '=', sql.lit('QUEUED'))
      .limit(sql.lit(1))
      .executeTakeFirst()
    return run !== undefined
  }

  async function offerTeam(team_id: string, connections: Connection[]): Promise<Offer[]> {
    const { taken, keyed } = await db.transaction().execute(async (write) => {
      const free = await freeOf(write, team_id)
      const slots = connections.reduce((sum, connection) => sum + connection.free, 0)
      const most = Math.min(free, slots, BATCH)
      if (most <= 0) return { taken: [], keyed: [] }
      const now = room.clock.now()
      const runs = await nextRuns(write, { team_id, connections, most, now })
      const taken = assign(runs, connections)
      return { taken, keyed: await offerAll(room, write, taken, now) }
    })
    const keys = await modelKeysFor(room, keyed)
    return Promise.all(
      taken.map(async (one) => {
        const model_keys = keys.get(one.execution_id)
        const assignment = await render(room, one)
        return {
          connection_id: one.place.connection_id ?? '',
          assignment: model_keys === undefined ? assignment : { ...assignment, model_keys },
        }
      }),
    )
  }

  return { offer }
}

/**
 * The next that may be offered, locked. A run in a lane counts only as far as its lane has room: the team's row is
 * locked, so nobody else fills it meanwhile. Lanes, and all that is in none together, take turns: whoever has least at
 * work is next, so that a long batch keeps nothing else from starting. Within each the oldest goes first.
 */
async function nextRuns(
  write: Kysely<Tables>,
  { team_id, connections, most, now }: { team_id: string; connections: Connection[]; most: number; now: Date },
): Promise<Selectable<Runs>[]> {
  const ready = sql`q.state = 'QUEUED' and q.placement = 'worker' and not q.held and not q.halted
    and (q.not_before is null or q.not_before <= ${now})
    and ${fitsOne(connections)}`
  const { rows } = await sql<Selectable<Runs>>`
    with recursive lanes as (
      (select lane_run_id from runs where state = 'QUEUED' and lane_run_id is not null order by lane_run_id limit 1)
      union all
      select (select n.lane_run_id from runs n where n.state = 'QUEUED' and n.lane_run_id > lanes.lane_run_id
        order by n.lane_run_id limit 1)
      from lanes where lanes.lane_run_id is not null
    ), free as (
      select first.*, row_number() over (order by first.queued_at, first.run_id) + (select count(*) from runs busy
        where busy.team_id = ${team_id} and busy.lane_run_id is null and busy.waiting_until is null
          and busy.execution_id is not null and busy.execution_location = 'REMOTE'
          and busy.state in ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED')) as turn
      from (
        select q.run_id, q.queued_at from runs q where q.team_id = ${team_id} and q.lane_run_id is null and ${ready}
        order by q.queued_at, q.run_id limit ${sql.lit(BATCH)}
      ) as first
      union all
      select laned.*, row_number() over (partition by lanes.lane_run_id order by laned.queued_at, laned.run_id)
        + (select count(*) from runs busy where busy.lane_run_id = lanes.lane_run_id and busy.waiting_until is null
          and busy.state in ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED')) as turn
      from lanes cross join lateral (
        select q.run_id, q.queued_at from runs q where q.lane_run_id = lanes.lane_run_id and ${ready}
        order by q.queued_at, q.run_id limit greatest(0, (${roomInLane(sql`lanes.lane_run_id`)}))
      ) as laned
      where (select team_id from runs where run_id = lanes.lane_run_id) = ${team_id}
    )
    select runs.* from runs where state = 'QUEUED' and not halted
      and run_id in (select run_id from free order by turn, queued_at, run_id limit ${most})
    order by queued_at, run_id for no key update skip locked`.execute(write)
  return rows
}

/** Children that are to run beside their parent, as many as the team's limit allows, for its runner to start. */
export async function offerBeside(room: Room, parent_run_id: string): Promise<TaskAssignment[]> {
  return room.database.kysely.transaction().execute(async (write) => {
    const parent = await write
      .selectFrom('runs')
      .innerJoin('executions', 'executions.execution_id', 'runs.execution_id')
      .select(['runs.team_id', 'executions.worker_host'])
      .where('runs.run_id', '=', parent_run_id)
      .executeTakeFirstOrThrow()
    const free = await freeOf(write, parent.team_id)
    const { laned } = await write
      .selectNoFrom(sql<number>`(${roomInLane(sql`${parent_run_id}::uuid`)})`.as('laned'))
      .executeTakeFirstOrThrow()
    const now = room.clock.now()
    const runs = await write
      .selectFrom('runs')
      .selectAll()
      .where('parent_run_id', '=', parent_run_id)
      .where('placement', '=', 'parent')
      .where('state', '=', 'QUEUED')
      .where('halted', '=', false)
      .orderBy('queued_at')
      .orderBy('run_id')
      .limit(Math.max(0, Math.min(free, laned, BATCH)))
      .forNoKeyUpdate()
      .skipLocked()
      .execute()
    const taken = runs.map((run) => take(run, { worker_host: parent.worker_host, connection_id: null }, []))
    await offerAll(room, write, taken, now)
    return Promise.all(taken.map((one) => render(room, one)))
  })
}

/** How many more runs the team may have under way; its row stays locked, so that the answer holds. */
async function freeOf(write: Kysely<Tables>, team_id: string): Promise<number> {
  const team = await write
    .selectFrom('teams')
    .select('max_concurrent_runs')
    .where('team_id', '=', team_id)
    .forNoKeyUpdate()
    .executeTakeFirstOrThrow()
  // A statement of its own: it must see what was committed while the lock was waited for.
  const { busy } = await write
    .selectNoFrom(sql<number>`(${busyRuns(sql`${team_id}::uuid`)})`.as('busy'))
    .executeTakeFirstOrThrow()
  return team.max_concurrent_runs - busy
}

/**
 * The arrow `offer` for a batch whose rows are locked and QUEUED; the guard says so again. Resolves as `giveSecrets`.
 */
async function offerAll(room: Room, write: Kysely<Tables>, taken: Taken[], now: Date): Promise<string[]> {
  if (taken.length === 0) return []
  const expires_at = new Date(now.getTime() + room.limits.offer_ms)
  const frozen = await freezeEnvironments(
    write,
    taken.map(({ config }) => config),
  )
  for (const one of taken) one.environment = frozen.get(one.config.environment_id ?? '') ?? null
  await sql`
    with offered as (
      select * from unnest(
        ${arrayOf('uuid', taken, (t) => t.run.run_id)}, ${arrayOf('uuid', taken, (t) => t.run.team_id)},
        ${arrayOf('uuid', taken, (t) => t.execution_id)}, ${arrayOf('int', taken, (t) => t.number)},
        ${arrayOf('text', taken, (t) => t.cause)}, ${arrayOf('bytea', taken, (t) => hashOf(t.token))},
        ${arrayOf('text', taken, (t) => t.place.worker_host)}, ${arrayOf('uuid', taken, (t) => t.place.connection_id)},
        ${arrayOf('text', taken, (t) => harnessOf(t.config))},
        ${arrayOf('jsonb', taken, (t) => t.environment && JSON.stringify(t.environment))}
      ) as o(run_id, team_id, execution_id, number, cause, token_hash, worker_host, connection_id, harness, environment)
    ), made as (
      insert into executions (execution_id, run_id, team_id, number, state, cause, token_hash, worker_host,
        connection_id, offered_at, expires_at, harness, environment)
      select execution_id, run_id, team_id, number, 'offered', cause, token_hash, worker_host, connection_id,
        ${now}, ${expires_at}, harness, environment
      from offered
    )
    update runs set state = 'PENDING', execution_id = o.execution_id, executions = runs.executions + 1,
      updated_at = ${now}
    from offered o where runs.run_id = o.run_id and runs.state = 'QUEUED'`.execute(write)
  return giveSecrets(room, write, taken)
}

/** A condition on queued runs `q`: one of the connections may take it. */
function fitsOne(connections: Connection[]): RawBuilder<SqlBool> {
  const hosts = connections.map(({ worker_host }) => worker_host)
  if (connections.every(({ only_for }) => only_for === undefined))
    return sql`(q.worker_host is null or q.worker_host = any(${[...new Set(hosts)]}::text[]))`
  const people = connections.map(({ only_for }) => (only_for === undefined ? 'anybody' : (only_for ?? 'nobody')))
  return sql`exists (select from unnest(${hosts}::text[], ${people}::text[]) as c(host, person)
    where (q.worker_host is null or q.worker_host = c.host)
      and (q.owner_user_id is null or c.person = 'anybody' or c.person = q.owner_user_id::text))`
}

const fits = ({ worker_host, only_for }: Connection, run: Selectable<Runs>): boolean =>
  (run.worker_host === null || run.worker_host === worker_host) &&
  (run.owner_user_id === null || only_for === undefined || only_for === run.owner_user_id)

/**
 * Spreads runs over connections: a named worker's runs to it, the others to whoever has most room. Those without
 * room stay.
 */
function assign(runs: Selectable<Runs>[], connections: Connection[]): Taken[] {
  const taken: Taken[] = []
  for (const run of runs) {
    const able = connections.filter((c) => c.free > 0 && fits(c, run))
    const connection = able.reduce<Connection | undefined>(
      (best, c) => (best === undefined || c.free > best.free ? c : best),
      undefined,
    )
    if (!connection) continue
    connection.free -= 1
    const { worker_host, connection_id, brokers = [] } = connection
    taken.push(take(run, { worker_host, connection_id }, brokers))
  }
  return taken
}

function take(run: Selectable<Runs>, place: Place, brokers: readonly string[]): Taken {
  const config = AgentConfig.parse(run.config)
  return {
    run,
    config,
    environment: null,
    place,
    brokers,
    execution_id: randomUUID(),
    token: newExecutionToken(),
    number: run.executions + 1,
    cause: causeOf(run, config),
  }
}

/** Mail wakes no plain command, which would do nothing then: who asks for it again has it run again. */
function causeOf(run: Selectable<Runs>, config: AgentConfig): Taken['cause'] {
  if (run.tries > 0) return 'retry'
  if (run.executions === 0 || run.failure !== null || run.started_at === null) return 'start'
  return run.undelivered > 0 && harnessOf(config) !== 'command' ? 'message' : 'requested'
}

async function render(room: Room, { run, config, environment, execution_id, token }: Taken): Promise<TaskAssignment> {
  const parent = run.parent_run_id
  const workload = await room.workload.issue({ run_id: run.run_id, execution_id })
  return {
    task_id: run.run_id,
    execution_id,
    task: {
      id: run.run_id,
      title: run.title,
      task_definition: { prompt: run.prompt },
      created_at: run.created_at.toISOString(),
      updated_at: run.updated_at.toISOString(),
      agent_config_snapshot: config,
    },
    ...(environment?.docker_image ? { docker_image: environment.docker_image } : {}),
    env_vars: {
      WARP_API_KEY: token,
      BATON_EXECUTION_ID: execution_id,
      OZ_RUN_ID: run.run_id,
      WARP_RUN_ID: run.run_id,
      ...(workload === null ? {} : { WARP_WORKLOAD_TOKEN: workload }),
      ...(parent === null ? {} : { OZ_PARENT_RUN_ID: parent, WARP_PARENT_RUN_ID: parent }),
    },
    additional_oz_args: [],
  }
}
