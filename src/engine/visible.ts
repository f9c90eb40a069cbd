/**
 * What a caller may read: the one rule, as a condition of SQL and as a check of an event. Every read goes through it.
 *
 * - What has `team_id` and `owner_user_id` is a team's or, where an owner is set, one person's in that team:
 *   `visibleTo(caller, alias)` is the condition on the rows that a caller may see and use. A personal key or session
 *   has its person's beside the team's; a team's or an agent's key has the team's alone; a personal run's execution
 *   has its owner's. Who makes such a thing takes its columns from `ownedBy(caller, team)`, and shows them as
 *   `scopeOf(row)`. What acts later by itself for a thing asks `actingFor` first: its maker may have left.
 * - Runs, and what belongs to a run, are narrower for an execution: its own run and all that descends from it, so that
 *   a token taken from a sandbox tells nothing of other work, and no agent reads its parent's or its siblings'
 *   transcripts. A worker's key opens connections and sees no run. That is `visibleRuns(caller)`.
 */
import { type Kysely, type RawBuilder, type SqlBool, sql } from 'kysely'
import { Fault, Role, type Scope } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller, Owned, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { runNotFound } from './runs.ts'

/** A condition on a table or alias that has `team_id` and `owner_user_id`. */
export function visibleTo({ team_id, owner_user_id }: Owned, alias: string): RawBuilder<SqlBool> {
  const [team, owner] = [sql.ref(`${alias}.team_id`), sql.ref(`${alias}.owner_user_id`)]
  if (owner_user_id === null) return sql`${team} = ${team_id} and ${owner} is null`
  return sql`${team} = ${team_id} and (${owner} is null or ${owner} = ${owner_user_id})`
}

/** The same of a row that has been read. */
export const isVisible = (caller: Owned, { team_id, owner_user_id }: Owned): boolean =>
  team_id === caller.team_id && (owner_user_id === null || owner_user_id === caller.owner_user_id)

/** A condition on the table or alias `runs`. */
export function visibleRuns(caller: Caller): RawBuilder<SqlBool> {
  switch (caller.kind) {
    case 'user':
      return visibleTo(caller, 'runs')
    case 'execution':
      // The tree narrows it by an index.
      return sql`runs.team_id = ${caller.team_id}
        and runs.root_run_id = (select own.root_run_id from runs own where own.run_id = ${caller.run_id})
        and (runs.run_id = ${caller.run_id} or ${caller.run_id} = any(runs.ancestors))`
    case 'worker':
      return sql`false`
  }
}

/** The same of something that has happened in a run; `owner_user_id` is the run's. */
export function sees(caller: Caller, event: Owned & { run_id: string; ancestors: string[] }): boolean {
  switch (caller.kind) {
    case 'user':
      return isVisible(caller, event)
    case 'execution':
      if (event.team_id !== caller.team_id) return false
      return event.run_id === caller.run_id || event.ancestors.includes(caller.run_id)
    case 'worker':
      return false
  }
}

/** Callers with the same text see the same. */
export function sightOf(caller: Caller): string {
  const { team_id, owner_user_id, kind } = caller
  return kind === 'execution' ? `${team_id} around ${caller.run_id}` : `${team_id} ${kind} ${owner_user_id ?? ''}`
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

/** Whose a new thing is: `team` as its maker said; the team's where he did not say. */
export function ownedBy(caller: Owned, team: boolean | undefined): Owned {
  if (team !== false) return { team_id: caller.team_id, owner_user_id: null }
  if (caller.owner_user_id !== null) return { team_id: caller.team_id, owner_user_id: caller.owner_user_id }
  throw new Fault(
    'invalid_request',
    'This key acts for the team and makes nothing personal. Use a personal key, or leave out `team`.',
    { errors: [{ pointer: '/team', detail: 'needs a personal key' }] },
  )
}

export const scopeOf = ({ team_id, owner_user_id }: Owned): Scope =>
  owner_user_id === null ? { type: 'Team', uid: team_id } : { type: 'User', uid: owner_user_id }

/**
 * Who acts for a thing when nobody asks: its maker as a member of its team, within its scope; null: has left, or the
 * team was deleted.
 */
export async function actingFor(
  db: Kysely<Tables>,
  { team_id, owner_user_id, user_id }: Owned & { user_id: string },
): Promise<UserCaller | null> {
  const membership = await db
    .selectFrom('memberships as m')
    .innerJoin('teams as t', 't.team_id', 'm.team_id')
    .select('m.role')
    .where('m.team_id', '=', team_id)
    .where('m.user_id', '=', user_id)
    .where('t.deleted_at', 'is', null)
    .executeTakeFirst()
  if (!membership) return null
  const role = Role.parse(membership.role)
  return { kind: 'user', team_id, owner_user_id, user_id, role, identity_uid: null, key_id: null, by: 'api_key' }
}
