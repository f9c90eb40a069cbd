/**
 * The end of a team. Deleting closes it to everybody at once, and nothing of it acts any more; nothing is erased yet.
 *
 *     open ──delete──▶ closed ──30 days──▶ gone: its secrets are destroyed
 *       ▲                 │
 *       └──── restore ────┘   with the code that the deletion answered, shown that once
 *
 * While runs of it are going on, it is not deleted unless they are to be cancelled with it. What its runs were stays in
 * the store, as what is deleted elsewhere does.
 */
import { type Kysely, sql } from 'kysely'
import { type DeletedTeam, type DeleteTeam, Fault, type RestoredTeam, type TeamContents } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import type { runsEngine } from './runs.ts'
import { startSchedulesOfTeam, stopSchedulesOfTeam } from './schedule-stops.ts'
import { checkOwnsNow, ownPerson, teamNotFound } from './teams.ts'
import { hashOf, newSessionSecret } from './tokens.ts'

/** How long a deleted team can be restored, in milliseconds. */
const RESTORABLE_MS = 30 * 24 * 3_600_000
/** Runs that a refusal names. */
const NAMED_MAX = 5

const IS_OPEN = sql<boolean>`state not in ('SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED')`

export function teamDeletion(room: Room, { runs }: { runs: ReturnType<typeof runsEngine> }) {
  const { clock } = room
  const db = room.database.kysely

  async function contents(caller: Caller, team_id: string): Promise<TeamContents> {
    const owner = ownPerson(caller)
    if (owner.team_id !== team_id.toLowerCase()) throw teamNotFound(team_id)
    return count(db, owner.team_id)
  }

  async function remove(caller: Caller, team_id: string, asked: DeleteTeam): Promise<DeletedTeam> {
    const owner = ownPerson(caller)
    if (owner.team_id !== team_id.toLowerCase()) throw teamNotFound(team_id)
    const code = newSessionSecret()
    const now = clock.now()
    const restore_until = new Date(now.getTime() + RESTORABLE_MS)
    const closed = await db.transaction().execute(async (write) => {
      // Runs that are being made hold the row until they are there.
      const team = await write
        .selectFrom('teams')
        .select(['name', 'deleted_at'])
        .where('team_id', '=', owner.team_id)
        .forUpdate()
        .executeTakeFirst()
      if (!team || team.deleted_at !== null) throw teamNotFound(team_id)
      await checkOwnsNow(write, owner)
      checkName(team.name, asked.confirm)
      const open = await openRuns(write, owner.team_id)
      if (open.length > 0 && asked.cancel_runs !== true) throw stillAtWork(open)
      const had = await count(write, owner.team_id)
      const schedules = await stopSchedulesOfTeam(write, owner.team_id, now)
      await write
        .updateTable('teams')
        .set({ deleted_at: now, deleted_by: owner.user_id, restore_hash: hashOf(code), restore_until })
        .where('team_id', '=', owner.team_id)
        .execute()
      return { name: team.name, had, schedules }
    })
    room.log.warn({ team_id: owner.team_id, user_id: owner.user_id }, 'team.deleted')
    return {
      team: { team_id: owner.team_id, name: closed.name },
      had: closed.had,
      cancelled_runs: await cancelAll(owner.team_id, owner.user_id),
      stopped_schedules: closed.schedules,
      restore_code: code,
      restore_until: restore_until.toISOString(),
    }
  }

  /** Runs of others' own, too: each is cancelled as whoever it belongs to could. */
  async function cancelAll(team_id: string, user_id: string): Promise<number> {
    let cancelled = 0
    for (const { run_id, owner_user_id } of await openRuns(db, team_id)) {
      const acting: UserCaller = {
        kind: 'user',
        team_id,
        owner_user_id,
        user_id,
        role: 'owner',
        identity_uid: null,
        key_id: null,
        by: 'api_key',
      }
      // One that has ended meanwhile needs none.
      const done = await runs.cancel(acting, run_id).catch((thrown: unknown) => {
        if (!(thrown instanceof Fault)) throw thrown
        return null
      })
      if (done !== null) cancelled++
    }
    return cancelled
  }

  /** Whoever shows the code; the keys, sessions and memberships that the team had open it again. */
  async function restore(code: string): Promise<RestoredTeam> {
    const now = clock.now()
    return db.transaction().execute(async (write) => {
      const team = await write
        .updateTable('teams')
        .set({ deleted_at: null, deleted_by: null, restore_hash: null, restore_until: null })
        .where('restore_hash', '=', hashOf(code.trim()))
        .where('restore_until', '>', now)
        .where('purged_at', 'is', null)
        .returning(['team_id', 'name'])
        .executeTakeFirst()
      if (!team) {
        throw new Fault(
          'authentication_required',
          'There is no deleted team with this code: it was restored already, or was deleted more than 30 days ago.',
        )
      }
      const resumed_schedules = await startSchedulesOfTeam(write, team.team_id, now)
      room.log.warn({ team_id: team.team_id }, 'team.restored')
      return { team, resumed_schedules }
    })
  }

  /** Ends what a request in flight still began in a deleted team, and destroys the secrets of one that is gone. */
  async function sweep(): Promise<void> {
    const late = await db
      .selectFrom('teams')
      .select(['team_id', 'deleted_by'])
      .where('deleted_at', 'is not', null)
      .where('purged_at', 'is', null)
      .execute()
    for (const { team_id, deleted_by } of late) if (deleted_by !== null) await cancelAll(team_id, deleted_by)
    const now = clock.now()
    await sql`
      with gone as (
        update teams set purged_at = ${now}, restore_hash = null
        where restore_until <= ${now} and purged_at is null returning team_id
      )
      update secrets set deleted_at = ${now} from gone
      where secrets.team_id = gone.team_id and secrets.deleted_at is null`.execute(db)
  }

  return { contents, delete: remove, restore, sweep }
}

type OpenRun = { run_id: string; title: string; owner_user_id: string | null }

const openRuns = (read: Kysely<Tables>, team_id: string): Promise<OpenRun[]> =>
  read
    .selectFrom('runs')
    .select(['run_id', 'title', 'owner_user_id'])
    .where('team_id', '=', team_id)
    .where(IS_OPEN)
    .orderBy('depth')
    .orderBy('created_at')
    .execute()

async function count(read: Kysely<Tables>, team_id: string): Promise<TeamContents> {
  const { rows } = await sql<TeamContents>`
    select t.name,
      (select count(*)::int from runs where team_id = t.team_id and ${IS_OPEN}) as open_runs,
      (select count(*)::int from runs where team_id = t.team_id) as runs,
      (select count(*)::int from memberships where team_id = t.team_id) as members,
      (select count(*)::int from schedules where team_id = t.team_id and deleted_at is null) as schedules,
      (select count(*)::int from environments where team_id = t.team_id and deleted_at is null) as environments,
      (select count(*)::int from identities where team_id = t.team_id and deleted_at is null) as agents,
      (select count(*)::int from secrets where team_id = t.team_id and deleted_at is null) as secrets,
      (select count(*)::int from api_keys where team_id = t.team_id and revoked_at is null) as api_keys,
      (select count(*)::int from worker_connections where team_id = t.team_id) as workers
    from teams t where t.team_id = ${team_id}`.execute(read)
  const [row] = rows
  if (!row) throw teamNotFound(team_id)
  return row
}

function checkName(name: string, confirm: string | undefined): void {
  if (confirm?.trim() === name) return
  throw new Fault(
    'invalid_request',
    confirm === undefined
      ? 'To delete a team, say its name: confirm=NAME.'
      : `The team is not called ${JSON.stringify(confirm)}; nothing was deleted. Say its name as it is.`,
    { errors: [{ pointer: '/confirm', detail: "must be the team's name" }] },
  )
}

function stillAtWork(open: OpenRun[]): Fault {
  const shared = open.filter(({ owner_user_id }) => owner_user_id === null).slice(0, NAMED_MAX)
  const names = shared.map(({ run_id, title }) => `${JSON.stringify(title)} (${run_id})`)
  const which = names.length === 0 ? '' : `: ${names.join(', ')}${open.length > names.length ? ' and others' : ''}`
  const count = open.length === 1 ? '1 run of the team has' : `${open.length} runs of the team have`
  return new Fault(
    'conflict',
    `${count} not ended${which}. Wait for them, cancel them, or delete the team with cancel_runs=true, which cancels them.`,
    { retryable: false },
  )
}
