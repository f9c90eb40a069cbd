/**
 * Who goes: members that leave or are removed, and owners that hand the team on. What opened the team for them ends in
 * one step with the membership; then what is at work for them alone is cancelled. What is personal to them stays in the
 * store, where nobody sees it, and is theirs again if they come back.
 */
import { type Kysely, sql } from 'kysely'
import {
  type Departure,
  Fault,
  type LeaveTeam,
  type Left,
  type Membership,
  Role,
  type TransferTeam,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import type { runsEngine } from './runs.ts'
import { stopSchedulesOf } from './schedule-stops.ts'
import { checkOwnsNow, lockMember, memberNotFound, ownPerson, person, teamNotFound, type teamsEngine } from './teams.ts'
import { actingFor } from './visible.ts'

type Reach = { runs: ReturnType<typeof runsEngine>; teams: ReturnType<typeof teamsEngine> }
type Member = { team_id: string; user_id: string }
type Shown = Departure['stopped_schedules']

export function departuresEngine(room: Room, { runs, teams }: Reach) {
  const { clock } = room
  const db = room.database.kysely

  /** Of schedules that are personal to a member an admin learns nothing. */
  async function remove(caller: Caller, user_id: string): Promise<Departure> {
    const { personal: _, ...told } = await depart(person(caller), user_id.toLowerCase())
    return { ...told, stopped_schedules: told.stopped_schedules.filter(({ is_personal }) => !is_personal) }
  }

  /** `dry_run`: what would come of it, and nothing is done. */
  async function leave(caller: Caller, team_id: string, { dry_run = false }: LeaveTeam): Promise<Left> {
    const leaver = ownPerson(caller)
    checkTeam(leaver, team_id)
    await checkUncapped(leaver)
    const { user_id } = leaver
    const done = await depart(leaver, user_id, dry_run)
    return { ...done, left: !dry_run }
  }

  async function depart(caller: UserCaller, user_id: string, dry_run = false) {
    const of = { team_id: caller.team_id, user_id }
    const leaving = await actingFor(db, { ...of, owner_user_id: user_id })
    const personal = await countPersonal(of)
    const ended = await db.transaction().execute(async (write) => {
      await lockMember(write, caller, { user_id, role: null })
      return dry_run ? whatWouldEnd(write, of) : endAll(write, of)
    })
    const cancelled_runs =
      leaving === null ? 0 : dry_run ? (await openRuns(of)).length : await cancelPersonal(leaving, await openRuns(of))
    return { ...ended, cancelled_runs, personal }
  }

  async function endAll(write: Kysely<Tables>, of: Member) {
    for (const table of ['login_codes', 'sessions', 'memberships'] as const)
      await write
        .deleteFrom(table)
        .where((w) => w.and(of))
        .execute()
    const now = clock.now()
    const ended_keys = await write
      .updateTable('api_keys')
      .set({ revoked_at: now })
      .where((w) => w.and(of))
      .where('revoked_at', 'is', null)
      .returning(['name', 'scope', 'preview'])
      .execute()
    return { ended_keys, stopped_schedules: (await stopSchedulesOf(write, { ...of, now })).map(shownSchedule) }
  }

  async function whatWouldEnd(read: Kysely<Tables>, of: Member) {
    const ended_keys = await read
      .selectFrom('api_keys')
      .select(['name', 'scope', 'preview'])
      .where((k) => k.and(of))
      .where('revoked_at', 'is', null)
      .orderBy('created_at')
      .execute()
    const schedules = await read
      .selectFrom('schedules')
      .select(['schedule_id', 'name', 'owner_user_id'])
      .where('team_id', '=', of.team_id)
      .where('creator_id', '=', of.user_id)
      .where('deleted_at', 'is', null)
      .orderBy('name')
      .execute()
    return { ended_keys, stopped_schedules: schedules.map(shownSchedule) }
  }

  async function countPersonal({ team_id, user_id }: Member): Promise<Left['personal']> {
    const { rows } = await sql<Left['personal']>`
      select
        (select count(*)::int from environments where team_id = ${team_id} and owner_user_id = ${user_id}
          and deleted_at is null) as environments,
        (select count(*)::int from identities where team_id = ${team_id} and owner_user_id = ${user_id}
          and deleted_at is null) as agents,
        (select count(*)::int from secrets where team_id = ${team_id} and owner_user_id = ${user_id}
          and deleted_at is null) as secrets`.execute(db)
    return rows[0] ?? { environments: 0, agents: 0, secrets: 0 }
  }

  /** The personal runs of a member that have not ended, parents first. */
  async function openRuns({ team_id, user_id }: Member): Promise<string[]> {
    const rows = await db
      .selectFrom('runs')
      .select('run_id')
      .where('team_id', '=', team_id)
      .where('owner_user_id', '=', user_id)
      .where('state', 'not in', ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'])
      .orderBy('depth')
      .execute()
    return rows.map(({ run_id }) => run_id)
  }

  async function cancelPersonal(leaving: UserCaller, run_ids: string[]): Promise<number> {
    let cancelled = 0
    for (const run_id of run_ids) {
      // One that has ended meanwhile needs none.
      const done = await runs.cancel(leaving, run_id).catch((thrown: unknown) => {
        if (!(thrown instanceof Fault)) throw thrown
        return null
      })
      if (done !== null) cancelled++
    }
    return cancelled
  }

  /** Makes another member an owner and the caller something less, in one step: the team has an owner at every moment. */
  async function transfer(caller: Caller, team_id: string, { user_id, own_role }: TransferTeam): Promise<Membership> {
    const giver = ownPerson(caller)
    checkTeam(giver, team_id)
    if (user_id.toLowerCase() === giver.user_id)
      throw new Fault('invalid_request', 'You own the team already; name another member.', {
        errors: [{ pointer: '/user_id', detail: 'is the caller' }],
      })
    await db.transaction().execute(async (write) => {
      await lockMember(write, giver, { user_id, role: 'owner' })
      await checkOwnsNow(write, giver)
      await setRole(write, { team_id: giver.team_id, user_id }, 'owner')
      await lockMember(write, giver, { user_id: giver.user_id, role: own_role })
      await setRole(write, giver, own_role)
    })
    return { ...(await teams.get(caller, team_id)), role: own_role }
  }

  async function setRole(write: Kysely<Tables>, { team_id, user_id }: Member, role: Role): Promise<void> {
    const set = await write
      .updateTable('memberships')
      .set({ role })
      .where('team_id', '=', team_id)
      .where('user_id', '=', user_id)
      .executeTakeFirst()
    if (set.numUpdatedRows === 0n) throw memberNotFound(user_id)
  }

  /** A key that may do less than its person does not take that person out of the team. */
  async function checkUncapped({ team_id, user_id, role }: UserCaller): Promise<void> {
    const member = await db
      .selectFrom('memberships')
      .select('role')
      .where('team_id', '=', team_id)
      .where('user_id', '=', user_id)
      .executeTakeFirst()
    if (!member || Role.parse(member.role) === role) return
    throw new Fault(
      'not_authorized',
      `This key may only do what a ${role} may; leave the team with a key that is whole.`,
    )
  }

  return { remove, leave, transfer }
}

function checkTeam(caller: UserCaller, team_id: string): void {
  if (caller.team_id !== team_id.toLowerCase()) throw teamNotFound(team_id)
}

const shownSchedule = (row: { schedule_id: string; name: string; owner_user_id: string | null }): Shown[number] => ({
  id: row.schedule_id,
  name: row.name,
  is_personal: row.owner_user_id !== null,
})
