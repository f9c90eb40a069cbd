/**
 * What a caller may read: the one rule, as a condition of SQL and as a check of an event. Every read of runs, and of
 * what belongs to a run, goes through it.
 *
 * A person sees what is of the team. An execution sees its own run and all that descends from it, so that a token taken
 * from a sandbox tells nothing of other work, and no agent reads its parent's or its siblings' transcripts. A worker's
 * key opens connections and sees no run.
 */
import { type RawBuilder, type SqlBool, sql } from 'kysely'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { runNotFound } from './runs.ts'

/** A condition on the table or alias `runs`. */
export function visibleRuns(caller: Caller): RawBuilder<SqlBool> {
  switch (caller.kind) {
    case 'user':
      return sql`runs.team_id = ${caller.team_id}`
    case 'execution':
      // The tree narrows it by an index.
      return sql`runs.team_id = ${caller.team_id}
        and runs.root_run_id = (select own.root_run_id from runs own where own.run_id = ${caller.run_id})
        and (runs.run_id = ${caller.run_id} or ${caller.run_id} = any(runs.ancestors))`
    case 'worker':
      return sql`false`
  }
}

/** The same of something that has happened in a run. */
export function sees(caller: Caller, event: { team_id: string; run_id: string; ancestors: string[] }): boolean {
  switch (caller.kind) {
    case 'user':
      return event.team_id === caller.team_id
    case 'execution':
      return (
        event.team_id === caller.team_id && (event.run_id === caller.run_id || event.ancestors.includes(caller.run_id))
      )
    case 'worker':
      return false
  }
}

/** Callers with the same text see the same. */
export function sightOf(caller: Caller): string {
  return caller.kind === 'execution' ? `${caller.team_id} around ${caller.run_id}` : `${caller.team_id} ${caller.kind}`
}

/** Refuses unless the caller may read each of these runs. */
export async function checkVisible(room: Room, caller: Caller, run_ids: string[]): Promise<void> {
  if (run_ids.length === 0) return
  const found = await room.database.kysely
    .selectFrom('runs')
    .select('runs.run_id')
    .where('runs.run_id', 'in', run_ids)
    .where(visibleRuns(caller))
    .execute()
  const known = new Set(found.map((run) => run.run_id))
  const missing = run_ids.find((run_id) => !known.has(run_id.toLowerCase()))
  if (missing !== undefined) throw runNotFound(missing)
}
