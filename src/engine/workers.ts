/**
 * Workers: their connections, and what they say of the runs that they were offered.
 *
 * A connection is a row, so that every server can list the workers of all. A worker speaks of a run, seldom of an
 * execution; what it says counts only for the current execution, and only where it was offered to that worker.
 */
import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import {
  entryOf,
  Fault,
  type FaultCode,
  type FromWorker,
  type ModelKey,
  type Outcome,
  type Worker,
} from '../contract/index.ts'
import { arrayOf } from './array-of.ts'
import { batched } from './batch.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { modelKeysFor } from './secret-opening.ts'
import { lost, settle } from './settle.ts'

type Said<T extends FromWorker['type']> = Extract<FromWorker, { type: T }>['data']
type Offered = { run_id: string; connection_id: string }
type Named = { task_id: string; execution_id?: string | undefined }

/** A connection not seen for this long belongs to a server that died, in milliseconds. */
export const UNSEEN_MS = 90_000
/** Runs of one statement that workers speak of. */
const OFFERED_MAX = 200

type Welcome = {
  cancel: { task_id: string; execution_id: string }[]
  waiting: string[]
  model_keys: { task_id: string; execution_id: string; model_keys: ModelKey[] }[]
}

export function workersEngine(room: Room) {
  const { clock, bell } = room
  const db = room.database.kysely

  async function open(caller: Caller, worker_host: string): Promise<string> {
    if (caller.kind === 'execution') throw new Fault('not_authorized', 'A run cannot be a worker.')
    const connection_id = randomUUID()
    const now = clock.now()
    await db
      .insertInto('worker_connections')
      .values({
        connection_id,
        team_id: caller.team_id,
        worker_host,
        server_id: room.server_id,
        connected_at: now,
        last_seen_at: now,
      })
      .execute()
    return connection_id
  }

  /**
   * Answers what the worker still runs although it is no longer current, which of its runs wait for events, and the
   * keys of those that it goes on with; of personal runs as the dispatcher offers them (`only_for`).
   */
  async function hello(connection_id: string, said: Said<'worker_hello'>, only_for?: string | null): Promise<Welcome> {
    const connection = await db
      .updateTable('worker_connections')
      .set({
        capacity: said.capacity,
        backend: said.backend,
        version: said.version,
        harnesses: JSON.stringify(said.harnesses),
        last_seen_at: clock.now(),
      })
      .where('connection_id', '=', connection_id)
      .returningAll()
      .executeTakeFirst()
    if (!connection) return { cancel: [], waiting: [], model_keys: [] }
    const ids = said.running.map((running) => running.execution_id).filter((id) => UUID.test(id))
    const current =
      ids.length === 0
        ? []
        : await db
            .selectFrom('runs')
            .innerJoin('executions', 'executions.execution_id', 'runs.execution_id')
            .select(['executions.execution_id', 'executions.worker_host', 'runs.run_id', 'runs.waiting_until'])
            .select('runs.owner_user_id')
            .where('executions.execution_id', 'in', ids)
            .where('executions.state', '!=', 'ended')
            .where('runs.team_id', '=', connection.team_id)
            .execute()
    const wanted = await wantedOf(connection.team_id, ids)
    const kept = current.map((execution) => execution.execution_id)
    if (kept.length > 0)
      await db.updateTable('executions').set({ connection_id }).where('execution_id', 'in', kept).execute()
    const waiting = current.filter((execution) => execution.waiting_until !== null).map((execution) => execution.run_id)
    const own = current.filter(
      ({ worker_host, owner_user_id }) =>
        worker_host === connection.worker_host &&
        (owner_user_id === null || only_for === undefined || only_for === owner_user_id),
    )
    const keys = await modelKeysFor(
      room,
      own.map(({ execution_id }) => execution_id),
    )
    const model_keys = own.flatMap(({ run_id: task_id, execution_id }) => {
      const found = keys.get(execution_id)
      return found === undefined ? [] : [{ task_id, execution_id, model_keys: found }]
    })
    return { model_keys, cancel: said.running.filter((running) => !wanted.has(running.execution_id)), waiting }
  }

  /**
   * Executions whose sandbox is to go on: the run's current one while nobody cancelled it, and every one beside whose
   * runner children are at work. A cancel of the parent alone is its runner's to carry out; the sandbox ends with the
   * last of them.
   */
  async function wantedOf(team_id: string, execution_ids: string[]): Promise<Set<string>> {
    if (execution_ids.length === 0) return new Set()
    const { rows } = await sql<{ execution_id: string }>`
      select x.execution_id from executions x join runs r on r.run_id = x.run_id
      where x.execution_id = any(${execution_ids}::uuid[]) and r.team_id = ${team_id}
        and (r.execution_id = x.execution_id and x.state <> 'ended' and r.cancel_requested_at is null or exists (
          with recursive beside as (
            select run_id, state, cancel_requested_at from runs
            where parent_run_id = r.run_id and placement = 'parent' and r.execution_id = x.execution_id
            union all
            select c.run_id, c.state, c.cancel_requested_at from runs c join beside on c.parent_run_id = beside.run_id
            where c.placement = 'parent'
          )
          select from beside
          where state in ('PENDING', 'CLAIMED', 'INPROGRESS', 'BLOCKED') and cancel_requested_at is null
        ))`.execute(db)
    return new Set(rows.map((row) => row.execution_id))
  }

  const readOffered = batched({
    most: OFFERED_MAX,
    keyOf: ({ run_id, connection_id }: Offered) => `${run_id} ${connection_id}`,
    run: async (all) => {
      const { rows } = await sql<{ place: number; execution_id: string; state: string; offered_on: string | null }>`
        select x.place::int, e.execution_id, e.state, e.connection_id as offered_on
        from unnest(${arrayOf('uuid', all, ({ run_id }) => run_id)},
          ${arrayOf('uuid', all, ({ connection_id }) => connection_id)}) with ordinality
          as x(run_id, connection_id, place)
        join runs r on r.run_id = x.run_id join executions e on e.execution_id = r.execution_id
        join worker_connections c on c.connection_id = x.connection_id and c.worker_host = e.worker_host
          and c.team_id = r.team_id`.execute(room.database.byIndex)
      const found = new Map(rows.map((row) => [row.place, row]))
      return all.map(({ run_id }, at) => {
        const row = found.get(at + 1)
        return row && { run_id, execution_id: row.execution_id, state: row.state, connection_id: row.offered_on }
      })
    },
  })

  async function offered(connection_id: string, said: Named) {
    if (!UUID.test(said.task_id)) return undefined
    const execution = await readOffered({ run_id: said.task_id, connection_id })
    if (said.execution_id !== undefined && execution?.execution_id !== said.execution_id) return undefined
    return execution
  }

  /** False: the offer is no longer that worker's; it must not begin. */
  async function claimed(connection_id: string, said: Said<'task_claimed'>): Promise<boolean> {
    if (!UUID.test(said.task_id)) return false
    const now = clock.now()
    const run = await room.follow('claim', {
      run_id: said.task_id,
      ...(said.execution_id === undefined ? {} : { execution_id: said.execution_id }),
      connection_id,
      now,
      execution: {
        from: ['offered'],
        set: { state: 'claimed', claimed_at: now, expires_at: new Date(now.getTime() + room.limits.begin_ms) },
      },
    })
    if (run) return true
    // Said again, or the runner was faster than the worker's word.
    const execution = await offered(connection_id, said)
    return execution?.connection_id === connection_id && BEGUN.has(execution.state)
  }

  async function rejected(connection_id: string, said: Said<'task_rejected'>): Promise<void> {
    const execution = await offered(connection_id, said)
    if (execution && execution.connection_id === connection_id) await release(execution.run_id, execution.execution_id)
  }

  /** PENDING or CLAIMED back to QUEUED: nothing had begun. */
  async function release(run_id: string, execution_id: string): Promise<void> {
    const now = clock.now()
    await room.follow('release', {
      run_id,
      execution_id,
      now,
      execution: {
        from: ['offered', 'claimed'],
        set: { state: 'ended', outcome: 'LAPSED', ended_at: now, expires_at: null },
      },
    })
    bell.ring('queue', {})
  }

  /**
   * The sandbox is gone. When the runner reported its result this changes nothing; when it did not, there is none,
   * and an exit code of 0 is no success.
   */
  async function ended(
    connection_id: string,
    frame: Extract<FromWorker, { type: 'task_completed' | 'task_failed' }>,
  ): Promise<void> {
    const execution = await offered(connection_id, frame.data)
    if (!execution || execution.state === 'ended') return
    const data = await withoutSecrets(execution.execution_id, frame.data)
    const outcome = frame.type === 'task_completed' ? withoutResult(data) : failedOutcome(data)
    const run = await settle(room, execution.run_id, execution.execution_id, { outcome, unsaid: true })
    if (run) bell.ring('control', { execution_id: execution.execution_id })
    bell.ring('queue', {})
  }

  /** A worker quotes the last lines of a runner. */
  async function withoutSecrets<T extends { message: string }>(execution_id: string, said: T): Promise<T> {
    const redactor = await room.redactorOf(execution_id).catch(() => null)
    return redactor === null ? said : { ...said, message: redactor.text(said.message) }
  }

  async function list(caller: Caller): Promise<{ workers: Worker[] }> {
    const seen = new Date(clock.now().getTime() - UNSEEN_MS)
    const rows = await db
      .selectFrom('worker_connections')
      .selectAll()
      .where('team_id', '=', caller.team_id)
      .where('last_seen_at', '>', seen)
      .orderBy('worker_host')
      .orderBy('connected_at')
      .execute()
    const running = await db
      .selectFrom('executions')
      .select(['worker_host', (b) => b.fn.countAll<number>().as('count')])
      .where('team_id', '=', caller.team_id)
      .where('state', 'in', ['claimed', 'running'])
      .where('worker_host', 'is not', null)
      .groupBy('worker_host')
      .execute()
    const hosts = [...new Set(rows.map((row) => row.worker_host))]
    return {
      workers: hosts.map((worker_host) => {
        const own = rows.filter((row) => row.worker_host === worker_host)
        const latest = own.at(-1)
        const known = own.every((row) => row.capacity !== null)
        return {
          worker_host,
          connection_count: own.length,
          connected_at: new Date(Math.min(...own.map((row) => row.connected_at.getTime()))).toISOString(),
          last_seen_at: new Date(Math.max(...own.map((row) => row.last_seen_at.getTime()))).toISOString(),
          ...(known ? { capacity: own.reduce((sum, row) => sum + (row.capacity ?? 0), 0) } : {}),
          running: running.find((row) => row.worker_host === worker_host)?.count ?? 0,
          ...(latest?.backend ? { backend: latest.backend } : {}),
          ...(latest?.version ? { version: latest.version } : {}),
          ...(Array.isArray(latest?.harnesses) ? { harnesses: latest.harnesses.map(String) } : {}),
        }
      }),
    }
  }

  return {
    open,
    hello,
    claimed,
    rejected,
    ended,
    list,
    release,
    /** Whether a sandbox is to go on. */
    wants: async (team_id: string, execution_id: string): Promise<boolean> =>
      (await wantedOf(team_id, [execution_id])).has(execution_id),
    async seen(connection_ids: string[]): Promise<void> {
      if (connection_ids.length > 0)
        await db
          .updateTable('worker_connections')
          .set({ last_seen_at: clock.now() })
          .where('connection_id', 'in', connection_ids)
          .execute()
    },
    async close(connection_id: string): Promise<void> {
      await db.deleteFrom('worker_connections').where('connection_id', '=', connection_id).execute()
    },
    /** Connections of servers that died. */
    async forget(): Promise<void> {
      await sql`delete from worker_connections where last_seen_at < ${new Date(clock.now().getTime() - 10 * UNSEEN_MS)}`.execute(
        db,
      )
    },
  }
}

const BEGUN = new Set(['claimed', 'running'])

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

function withoutResult(said: Said<'task_completed'>): Outcome {
  if (said.task_state === 'CANCELLED')
    return lost('stopped', 'The worker stopped this run without being asked to cancel it.')
  return lost(
    'no_result',
    `The sandbox ended and no result was reported.${said.message ? ` The worker says: ${said.message}` : ''}`,
  )
}

/** Failures that trying again on the same ground cannot mend, with whose they are. */
const FINAL: Record<string, FaultCode> = {
  workspace_setup: 'environment_setup_failed',
  setup_command: 'environment_setup_failed',
  image_pull: 'environment_setup_failed',
  invalid_image: 'environment_setup_failed',
  volume_mount: 'environment_setup_failed',
  agent_invocation: 'environment_setup_failed',
  container_oom: 'budget_exceeded',
  process_limit: 'budget_exceeded',
  output_limit: 'budget_exceeded',
  disk_full: 'budget_exceeded',
  task_timeout: 'budget_exceeded',
  active_deadline: 'budget_exceeded',
}

function failedOutcome(said: Said<'task_failed'>): Outcome {
  const reason = said.failure_reason ?? 'unknown'
  const message =
    said.message ||
    `The worker could not run this (${reason}${said.exit_code === undefined ? '' : `, exit code ${said.exit_code}`}).`
  const error_code = entryOf(FINAL, reason)
  if (error_code === undefined) return lost(reason, message)
  return { outcome: 'FAILED', failure: { error_code, message, retryable: false, reason } }
}
