/**
 * The dispatcher: QUEUED → PENDING for runs that the team's limit allows and a connected worker has room for.
 *
 * Each server offers to its own connections. The team's row is locked while its busy runs are counted, so that
 * the limit
 * is exact with any number of servers; runs are taken oldest first with skip locked.
 */
import { randomUUID } from 'node:crypto'
import type { Selectable } from 'kysely'
import { sql } from 'kysely'
import { AgentConfig, harnessOf, type TaskAssignment } from '../contract/index.ts'
import type { Runs } from '../db/tables.ts'
import type { Room } from './engine.ts'
import { hashOf, newExecutionToken } from './tokens.ts'
import { busyRuns } from './transitions.ts'

/** `free`: runs that the worker would take now. */
export type Connection = { connection_id: string; team_id: string; worker_host: string; free: number }
export type Offer = { connection_id: string; assignment: TaskAssignment }

/** Runs offered in one transaction. */
const BATCH = 50

type Taken = {
  run: Selectable<Runs>
  connection: Connection
  execution_id: string
  token: string
  number: number
  cause: 'start' | 'retry' | 'requested'
}

export function dispatchEngine(room: Room) {
  const db = room.database.kysely

  async function offer(connections: Connection[]): Promise<Offer[]> {
    const open = connections.filter((connection) => connection.free > 0).map((connection) => ({ ...connection }))
    const offers: Offer[] = []
    for (const team_id of [...new Set(open.map((connection) => connection.team_id))].sort()) {
      const own = open.filter((connection) => connection.team_id === team_id)
      if (await anyQueued(team_id)) offers.push(...(await offerTeam(team_id, own)))
    }
    return offers
  }

  async function anyQueued(team_id: string): Promise<boolean> {
    const run = await db
      .selectFrom('runs')
      .select('run_id')
      .where('team_id', '=', team_id)
      .where('state', '=', 'QUEUED')
      .limit(1)
      .executeTakeFirst()
    return run !== undefined
  }

  async function offerTeam(team_id: string, connections: Connection[]): Promise<Offer[]> {
    const taken = await db.transaction().execute(async (write) => {
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
      const slots = connections.reduce((sum, connection) => sum + connection.free, 0)
      const most = Math.min(team.max_concurrent_runs - busy, slots, BATCH)
      if (most <= 0) return []
      const now = room.clock.now()
      const hosts = [...new Set(connections.map((connection) => connection.worker_host))]
      const runs = await write
        .selectFrom('runs')
        .selectAll()
        .where('team_id', '=', team_id)
        .where('state', '=', 'QUEUED')
        .where((w) => w.or([w('not_before', 'is', null), w('not_before', '<=', now)]))
        .where((w) => w.or([w('worker_host', 'is', null), w('worker_host', 'in', hosts)]))
        .orderBy('queued_at')
        .orderBy('run_id')
        .limit(most)
        .forNoKeyUpdate()
        .skipLocked()
        .execute()
      const taken = assign(runs, connections)
      if (taken.length > 0) await write_(taken, now)
      return taken

      async function write_(taken: Taken[], now: Date): Promise<void> {
        const expires_at = new Date(now.getTime() + room.limits.offer_ms)
        await write
          .insertInto('executions')
          .values(
            taken.map(({ run, connection, execution_id, token, number, cause }) => ({
              execution_id,
              run_id: run.run_id,
              team_id,
              number,
              state: 'offered',
              cause,
              token_hash: hashOf(token),
              worker_host: connection.worker_host,
              connection_id: connection.connection_id,
              offered_at: now,
              expires_at,
              harness: harnessOf(AgentConfig.parse(run.config)),
            })),
          )
          .execute()
        // The arrow `offer` for a batch: the rows are locked and QUEUED, the guard says so again.
        await sql`
          update runs set state = 'PENDING', execution_id = o.execution_id, executions = runs.executions + 1,
            updated_at = ${now}
          from unnest(${taken.map((t) => t.run.run_id)}::uuid[], ${taken.map((t) => t.execution_id)}::uuid[])
            as o(run_id, execution_id)
          where runs.run_id = o.run_id and runs.state = 'QUEUED'`.execute(write)
      }
    })
    return taken.map(render)
  }

  return { offer }
}

/**
 * Spreads runs over connections: a named worker's runs to it, the others to whoever has most room. Those without
 * room stay.
 */
function assign(runs: Selectable<Runs>[], connections: Connection[]): Taken[] {
  const taken: Taken[] = []
  for (const run of runs) {
    const fits = connections.filter(
      (c) => c.free > 0 && (run.worker_host === null || run.worker_host === c.worker_host),
    )
    const connection = fits.reduce<Connection | undefined>(
      (best, c) => (best === undefined || c.free > best.free ? c : best),
      undefined,
    )
    if (!connection) continue
    connection.free -= 1
    const cause =
      run.tries > 0
        ? 'retry'
        : run.executions > 0 && run.failure === null && run.started_at !== null
          ? 'requested'
          : 'start'
    taken.push({
      run,
      connection,
      execution_id: randomUUID(),
      token: newExecutionToken(),
      number: run.executions + 1,
      cause,
    })
  }
  return taken
}

function render({ run, connection, execution_id, token }: Taken): Offer {
  return {
    connection_id: connection.connection_id,
    assignment: {
      task_id: run.run_id,
      execution_id,
      task: {
        id: run.run_id,
        title: run.title,
        task_definition: { prompt: run.prompt },
        created_at: run.created_at.toISOString(),
        updated_at: run.updated_at.toISOString(),
        agent_config_snapshot: AgentConfig.parse(run.config),
      },
      env_vars: {
        WARP_API_KEY: token,
        BATON_EXECUTION_ID: execution_id,
        OZ_RUN_ID: run.run_id,
        WARP_RUN_ID: run.run_id,
        ...(run.parent_run_id === null
          ? {}
          : { OZ_PARENT_RUN_ID: run.parent_run_id, WARP_PARENT_RUN_ID: run.parent_run_id }),
      },
      additional_oz_args: [],
    },
  }
}
