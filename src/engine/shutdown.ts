/**
 * A harness that stops, as it says itself. For an error its execution ends at once. Cleanly: a living runner is told
 * and reports the end, with all that it still has to send; where it is not heard of, the execution ends without it, as
 * a success. Once it has ended, saying so again changes nothing.
 */
import { sql } from 'kysely'
import { Fault, FaultCode, type Outcome, type ReportShutdown } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { personOf, runNotFound } from './runs.ts'
import { lost, settle } from './settle.ts'
import { visibleRuns } from './visible.ts'

/** A runner that was silent for so many heartbeats is not waited for. */
const SILENT_BEATS = 3

type Stopping = { run_id: string; execution_id: string }

/** `run_id`: the run that a person speaks for. Answers the execution that it was about; null: there is none. */
export async function shutDown(
  room: Room,
  caller: Caller,
  run_id: string | undefined,
  { error }: ReportShutdown,
): Promise<string | null> {
  const stopping = await find(room, caller, run_id)
  if (stopping === null) return null
  const { execution_id } = stopping
  if (error !== undefined) await settle(room, stopping.run_id, execution_id, { outcome: outcomeOf(error) })
  else if (!(await note(room, execution_id))) {
    const outcome = lost('not_begun', 'It was shut down before its runner had begun.')
    await settle(room, stopping.run_id, execution_id, { outcome })
  }
  room.bell.ring('control', { execution_id })
  return execution_id
}

/** The execution that has not ended. */
async function find(room: Room, caller: Caller, run_id: string | undefined): Promise<Stopping | null> {
  if (caller.kind === 'execution') return caller.ended ? null : caller
  personOf(caller)
  if (run_id === undefined) {
    throw new Fault('invalid_request', 'Name the run that this speaks for in the header X-Warp-Cloud-Agent-ID.')
  }
  const run = await room.database.kysely
    .selectFrom('runs')
    .leftJoin('executions', (on) =>
      on.onRef('executions.execution_id', '=', 'runs.execution_id').on('executions.state', '!=', 'ended'),
    )
    .select(['runs.run_id', 'executions.execution_id'])
    .where('runs.run_id', '=', run_id)
    .where(visibleRuns(caller))
    .executeTakeFirst()
  if (!run) throw runNotFound(run_id)
  const { execution_id } = run
  return execution_id === null ? null : { run_id: run.run_id, execution_id }
}

/** False: it has not begun. The lease counts from when its runner was heard of last, and is shorter from now on. */
async function note(room: Room, execution_id: string): Promise<boolean> {
  const { lease_ms, heartbeat_ms } = room.limits
  const now = room.clock.now()
  const less_ms = Math.max(0, lease_ms - SILENT_BEATS * heartbeat_ms)
  const noted = await room.database.kysely
    .updateTable('executions')
    .set({ shut_down_at: now })
    .set({
      expires_at: sql`least(expires_at, greatest(${now}::timestamptz, expires_at - ${less_ms} * interval '1 ms'))`,
    })
    .where('execution_id', '=', execution_id)
    .where('state', '=', 'running')
    .where('shut_down_at', 'is', null)
    .executeTakeFirst()
  if (noted.numUpdatedRows > 0n) return true
  const known = await room.database.kysely
    .selectFrom('executions')
    .select('state')
    .where('execution_id', '=', execution_id)
    .executeTakeFirst()
  return known?.state === 'running' || known?.state === 'ended'
}

function outcomeOf(error: { category: string; message: string }): Outcome {
  const named = FaultCode.safeParse(error.category)
  const failure = {
    error_code: named.success ? named.data : ('internal_error' as const),
    message: named.success ? error.message : `${error.category}: ${error.message}`,
    retryable: false,
    reason: error.category.slice(0, 64),
  }
  return { outcome: 'ERROR', failure }
}
