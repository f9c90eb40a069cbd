/**
 * Heartbeats: many runners renew their leases, by group commit. The answer waits for the write, so that a lease is
 * never believed renewed that is not.
 */
import { sql } from 'kysely'
import type { Usage } from '../contract/index.ts'
import { arrayOf } from './array-of.ts'
import { hasChildrenBeside, hasMail, hasNewFiles } from './attention.ts'
import { batched } from './batch.ts'
import type { Room } from './engine.ts'
import { stopIfOverTokens } from './storms.ts'
import { superseded } from './transitions.ts'

type Beat = { execution_id: string; session_id: string | null; usage: Usage | null }
type Held = {
  cancel_requested: boolean
  halted: boolean
  shut_down: boolean
  inbox: boolean
  children: boolean
  attachments: boolean
}
/** The tree, where its tokens are limited. */
type Counted = Held & { counted: string | null }
type Answer = Held & { lease_ms: number }

/** Beats of one statement. */
const BEATS_MAX = 500

export function heartbeats(room: Room): (beat: Beat) => Promise<Answer> {
  const renewed = batched({
    most: BEATS_MAX,
    keyOf: (beat: Beat) => beat.execution_id,
    run: (beats) => renew(room, beats),
  })
  return async (beat) => {
    const held = await renewed(beat)
    if (held === undefined) throw superseded()
    const { counted, ...answer } = held
    if (beat.usage !== null && counted !== null) await stopIfOverTokens(room, counted)
    return { ...answer, lease_ms: room.limits.lease_ms }
  }
}

/** For each what its runner must know; undefined where there is no lease to renew. */
async function renew(room: Room, beats: Beat[]): Promise<(Counted | undefined)[]> {
  const now = room.clock.now()
  const expires_at = new Date(now.getTime() + room.limits.lease_ms)
  const { rows } = await sql<Counted & { execution_id: string }>`
    update executions set expires_at = ${expires_at}, session_id = coalesce(b.session_id, executions.session_id),
      usage = coalesce(b.usage, executions.usage)
    from unnest(
      ${arrayOf('uuid', beats, (b) => b.execution_id)}, ${arrayOf('text', beats, (b) => b.session_id)},
      ${arrayOf('jsonb', beats, (b) => (b.usage === null ? null : JSON.stringify(b.usage)))}
    ) as b(execution_id, session_id, usage), runs, teams
    where executions.execution_id = b.execution_id and executions.state = 'running'
      and runs.run_id = executions.run_id and runs.execution_id = executions.execution_id
      and teams.team_id = runs.team_id
    returning executions.execution_id, runs.cancel_requested_at is not null as cancel_requested,
      runs.halted, executions.shut_down_at is not null as shut_down,
      ${hasMail(now)} as inbox, ${hasChildrenBeside} as children, ${hasNewFiles} as attachments,
      case when teams.max_tree_tokens is not null and runs.stopped is null
        then runs.root_run_id end as counted`.execute(room.database.kysely)
  const held = new Map(rows.map(({ execution_id, ...row }) => [execution_id, row]))
  return beats.map((beat) => held.get(beat.execution_id))
}
