/**
 * Heartbeats: many runners renew their leases; each server writes what arrived within `GATHER_MS` as one statement.
 * The answer waits for the write, so that a lease is never believed renewed that is not.
 */
import { sql } from 'kysely'
import type { Usage } from '../contract/index.ts'
import type { Room } from './engine.ts'
import { superseded } from './transitions.ts'

const GATHER_MS = 50

type Beat = { execution_id: string; session_id: string | null; usage: Usage | null }
type Answer = { cancel_requested: boolean; lease_ms: number }
type Waiting = Beat & { resolve(answer: Answer): void; reject(cause: unknown): void }

export function heartbeats(room: Room): (beat: Beat) => Promise<Answer> {
  let waiting: Waiting[] = []
  let timer: NodeJS.Timeout | null = null

  async function write(): Promise<void> {
    timer = null
    const beats = waiting
    waiting = []
    try {
      const held = await renew(room, beats)
      for (const beat of beats) {
        const cancel_requested = held.get(beat.execution_id)
        if (cancel_requested === undefined) beat.reject(superseded())
        else beat.resolve({ cancel_requested, lease_ms: room.limits.lease_ms })
      }
    } catch (cause) {
      for (const beat of beats) beat.reject(cause)
    }
  }

  return (beat) =>
    new Promise((resolve, reject) => {
      waiting.push({ ...beat, resolve, reject })
      if (timer === null) timer = setTimeout(write, GATHER_MS)
    })
}

/** Renewed executions, each with whether its run is to be cancelled. */
async function renew(room: Room, beats: Beat[]): Promise<Map<string, boolean>> {
  const expires_at = new Date(room.clock.now().getTime() + room.limits.lease_ms)
  const { rows } = await sql<{ execution_id: string; cancel_requested: boolean }>`
    update executions set expires_at = ${expires_at}, session_id = coalesce(b.session_id, executions.session_id),
      usage = coalesce(b.usage, executions.usage)
    from unnest(
      ${beats.map((b) => b.execution_id)}::uuid[], ${beats.map((b) => b.session_id)}::text[],
      ${beats.map((b) => (b.usage === null ? null : JSON.stringify(b.usage)))}::jsonb[]
    ) as b(execution_id, session_id, usage), runs
    where executions.execution_id = b.execution_id and executions.state = 'running'
      and runs.execution_id = executions.execution_id
    returning executions.execution_id, runs.cancel_requested_at is not null as cancel_requested`.execute(
    room.database.kysely,
  )
  return new Map(rows.map((row) => [row.execution_id, row.cancel_requested]))
}
