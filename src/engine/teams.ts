/**
 * Teams, who is in them as what, and invitations. A team always has an owner: what would take its last one away is
 * refused, under the lock of the team's row, so that two owners cannot unmake each other at once.
 */
import { randomUUID } from 'node:crypto'
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  type AcceptInvite,
  type CreateInvite,
  Fault,
  type Invite,
  isAtLeast,
  type Joined,
  type Member,
  type Membership,
  Role,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Invites } from '../db/tables.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { insertKey } from './keys.ts'
import { hashOf, newSessionSecret } from './tokens.ts'

type Write = Kysely<Tables>

export function teamsEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  async function list(caller: Caller): Promise<{ teams: Membership[] }> {
    const { team_id, user_id, owner_user_id } = person(caller)
    let rows = db
      .selectFrom('memberships as m')
      .innerJoin('teams as t', 't.team_id', 'm.team_id')
      .select(['t.team_id', 't.name', 't.created_at', 'm.role'])
      .select(
        sql<number>`(select count(*)::int from memberships all_of where all_of.team_id = t.team_id)`.as('members'),
      )
      .where('m.user_id', '=', user_id)
      .where('t.deleted_at', 'is', null)
    // What acts for the team or as an agent knows of no other.
    if (owner_user_id === null) rows = rows.where('t.team_id', '=', team_id)
    const found = await rows.orderBy(sql`lower(t.name)`).orderBy('t.team_id').execute()
    const teams = found.map((row) => {
      const is_current = row.team_id === team_id
      const role = is_current ? person(caller).role : Role.parse(row.role)
      return { ...row, role, is_current, created_at: row.created_at.toISOString() }
    })
    return { teams }
  }

  async function get(caller: Caller, team_id: string): Promise<Membership> {
    const { teams } = await list(caller)
    const found = teams.find((team) => team.team_id === team_id.toLowerCase())
    if (!found) throw teamNotFound(team_id)
    return found
  }

  async function create(caller: Caller, { name }: { name: string }): Promise<Joined> {
    const { user_id } = ownPerson(caller)
    const now = clock.now()
    return db.transaction().execute(async (write) => {
      const team_id = await foundTeam(write, { name, user_id, now })
      const { api_key } = await insertKey(write, { team_id, user_id }, { name: 'first key', scope: 'personal', now })
      return { ...(await joined(write, { team_id, user_id })), api_key }
    })
  }

  async function rename(caller: Caller, team_id: string, { name }: { name?: string | undefined }): Promise<Membership> {
    if (caller.team_id !== team_id.toLowerCase()) throw teamNotFound(team_id)
    if (name !== undefined) await db.updateTable('teams').set({ name }).where('team_id', '=', team_id).execute()
    return get(caller, team_id)
  }

  async function members(caller: Caller): Promise<{ members: Member[] }> {
    const rows = await selectMembers(caller).orderBy(sql`lower(u.display_name)`).orderBy('u.user_id').execute()
    return { members: rows.map(renderMember) }
  }

  const selectMembers = ({ team_id }: Caller) =>
    db
      .selectFrom('memberships as m')
      .innerJoin('users as u', 'u.user_id', 'm.user_id')
      .select(['u.user_id', 'u.display_name', 'u.email', 'm.role', 'm.created_at'])
      .select(
        sql<Date | null>`greatest(
          (select max(k.last_used_at) from api_keys k where k.team_id = m.team_id and k.user_id = m.user_id),
          (select max(s.last_used_at) from sessions s where s.team_id = m.team_id and s.user_id = m.user_id))`.as(
          'last_used_at',
        ),
      )
      .where('m.team_id', '=', team_id)

  async function readMember(caller: Caller, user_id: string): Promise<Member> {
    const row = await selectMembers(caller).where('m.user_id', '=', user_id).executeTakeFirst()
    if (!row) throw memberNotFound(user_id)
    return renderMember(row)
  }

  async function changeRole(caller: Caller, user_id: string, { role }: { role?: Role | undefined }): Promise<Member> {
    if (role !== undefined) {
      await db.transaction().execute(async (write) => {
        await lockMember(write, person(caller), { user_id, role })
        await write
          .updateTable('memberships')
          .set({ role })
          .where('team_id', '=', caller.team_id)
          .where('user_id', '=', user_id)
          .execute()
      })
    }
    return readMember(caller, user_id)
  }

  async function invites(caller: Caller): Promise<{ invites: Invite[] }> {
    const rows = await openInvites(db, clock.now())
      .innerJoin('users as u', 'u.user_id', 'i.creator_id')
      .selectAll('i')
      .select(['u.display_name', 'u.email as creator_email'])
      .where('i.team_id', '=', caller.team_id)
      .orderBy('i.created_at')
      .orderBy('i.invite_id')
      .execute()
    return { invites: rows.map(renderInvite) }
  }

  async function invite(caller: Caller, body: CreateInvite): Promise<Invite & { code: string }> {
    const maker = ownPerson(caller)
    checkOwners(maker, body.role)
    const now = clock.now()
    const code = newSessionSecret()
    const invite_id = randomUUID()
    await db
      .insertInto('invites')
      .values({
        invite_id,
        team_id: maker.team_id,
        role: body.role,
        email: body.email ?? null,
        hash: hashOf(code),
        creator_id: maker.user_id,
        created_at: now,
        expires_at: new Date(now.getTime() + body.expires_in_seconds * 1000),
      })
      .execute()
    const made = (await invites(caller)).invites.find((one) => one.invite_id === invite_id)
    if (!made) throw new Fault('resource_not_found', 'This invitation was taken back already.')
    return { ...made, code }
  }

  async function revokeInvite(caller: Caller, invite_id: string): Promise<Record<string, never>> {
    const revoked = await db
      .updateTable('invites')
      .set({ revoked_at: clock.now() })
      .where('invite_id', '=', invite_id)
      .where('team_id', '=', caller.team_id)
      .where('accepted_at', 'is', null)
      .where('revoked_at', 'is', null)
      .executeTakeFirst()
    if (revoked.numUpdatedRows === 0n)
      throw new Fault('resource_not_found', `There is no open invitation ${invite_id}.`)
    return {}
  }

  /** `caller`: who joins; null: somebody new. Answers whom a session is to be opened for, too. */
  async function join(caller: Caller | null, body: AcceptInvite): Promise<{ joined: Joined; user_id: string }> {
    const now = clock.now()
    const known = caller === null ? null : ownPerson(caller)
    return db.transaction().execute(async (write) => {
      const taken = await openInvites(write, now)
        .selectAll('i')
        .where('i.hash', '=', hashOf(codeOf(body.code)))
        .forUpdate(['i'])
        .executeTakeFirst()
      if (!taken) {
        throw new Fault(
          'authentication_required',
          'This invitation was taken already, was taken back, or is too old. Ask for another one.',
        )
      }
      const { team_id } = taken
      const user_id = known?.user_id ?? (await insertUser(write, body.display_name, { email: taken.email, now }))
      const made = await write
        .insertInto('memberships')
        .values({ team_id, user_id, role: taken.role, created_at: now })
        .onConflict((c) => c.doNothing())
        .executeTakeFirst()
      if (made.numInsertedOrUpdatedRows === 0n) {
        throw new Fault('conflict', 'You are a member of this team already; the invitation stands for somebody else.', {
          retryable: false,
        })
      }
      await write
        .updateTable('invites')
        .set({ accepted_at: now, accepted_by: user_id })
        .where('invite_id', '=', taken.invite_id)
        .execute()
      const answer = await joined(write, { team_id, user_id })
      if (body.with === 'session') return { joined: answer, user_id }
      const { api_key } = await insertKey(write, { team_id, user_id }, { name: 'first key', scope: 'personal', now })
      return { joined: { ...answer, api_key }, user_id }
    })
  }

  return { list, get, create, rename, members, changeRole, invites, invite, revokeInvite, join }
}

/** A team, and who owns it first. */
export async function foundTeam(
  write: Write,
  { name, user_id, now }: { name: string; user_id: string; now: Date },
): Promise<string> {
  const team_id = randomUUID()
  await write.insertInto('teams').values({ team_id, name, created_at: now }).execute()
  await write.insertInto('memberships').values({ team_id, user_id, role: 'owner', created_at: now }).execute()
  return team_id
}

async function insertUser(
  write: Write,
  display_name: string | undefined,
  { email, now }: { email: string | null; now: Date },
): Promise<string> {
  if (display_name === undefined) {
    throw new Fault(
      'invalid_request',
      'Say what you are called: display_name. Or show your API key, to join as you are.',
      {
        errors: [{ pointer: '/display_name', detail: 'needed of somebody new' }],
      },
    )
  }
  const user_id = randomUUID()
  await write.insertInto('users').values({ user_id, display_name, email, created_at: now }).execute()
  return user_id
}

async function joined(db: Write, { team_id, user_id }: { team_id: string; user_id: string }): Promise<Joined> {
  const row = await db
    .selectFrom('memberships as m')
    .innerJoin('teams as t', 't.team_id', 'm.team_id')
    .innerJoin('users as u', 'u.user_id', 'm.user_id')
    .select(['t.name', 'u.display_name', 'm.role'])
    .where('m.team_id', '=', team_id)
    .where('m.user_id', '=', user_id)
    .executeTakeFirstOrThrow()
  return {
    team: { team_id, name: row.name },
    user: { user_id, display_name: row.display_name },
    role: Role.parse(row.role),
  }
}

/** Locks the team, and refuses what this caller may not do to that member, or what leaves no owner. */
export async function lockMember(
  write: Write,
  caller: UserCaller,
  { user_id, role }: { user_id: string; role: Role | null },
): Promise<void> {
  await write.selectFrom('teams').select('team_id').where('team_id', '=', caller.team_id).forUpdate().execute()
  const rows = await write
    .selectFrom('memberships')
    .select(['user_id', 'role'])
    .where('team_id', '=', caller.team_id)
    .where((m) => m.or([m('user_id', '=', user_id), m('role', '=', 'owner')]))
    .execute()
  const member = rows.find((row) => row.user_id === user_id.toLowerCase())
  if (!member) throw memberNotFound(user_id)
  checkOwners(caller, Role.parse(member.role))
  if (role !== null) checkOwners(caller, role)
  const owners = rows.filter((row) => row.role === 'owner')
  if (role === 'owner' || member.role !== 'owner' || owners.length > 1) return
  throw new Fault(
    'conflict',
    'This is the last owner of the team. Make somebody else an owner first, or delete the team.',
    { retryable: false },
  )
}

/** Owns the team at this moment, under its lock: what a request began with may be a second old. */
export async function checkOwnsNow(write: Write, { team_id, user_id }: UserCaller): Promise<void> {
  const member = await write
    .selectFrom('memberships')
    .select('role')
    .where('team_id', '=', team_id)
    .where('user_id', '=', user_id)
    .executeTakeFirst()
  if (member?.role === 'owner') return
  throw new Fault('not_authorized', 'You do not own this team any more.')
}

function checkOwners({ role }: UserCaller, touched: Role): void {
  if (isAtLeast(role, touched)) return
  throw new Fault('not_authorized', `Only an owner makes, changes or removes an owner of the team; you are ${role}.`)
}

/** An invitation stands while who made it may make it: nobody comes back by one, or hands on a role that is gone. */
const openInvites = (db: Write, now: Date) =>
  db
    .selectFrom('invites as i')
    .innerJoin('memberships as maker', (on) =>
      on.onRef('maker.user_id', '=', 'i.creator_id').onRef('maker.team_id', '=', 'i.team_id'),
    )
    .innerJoin('teams as t', 't.team_id', 'i.team_id')
    .where('t.deleted_at', 'is', null)
    .where('maker.role', 'in', ['admin', 'owner'])
    .where((i) => i.or([i('i.role', '!=', 'owner'), i('maker.role', '=', 'owner')]))
    .where('i.accepted_at', 'is', null)
    .where('i.revoked_at', 'is', null)
    .where('i.expires_at', '>', now)

/** The code itself, or the link that has it. */
const codeOf = (given: string): string =>
  given
    .trim()
    .split('#')
    .at(-1)
    ?.replace(/^invite=/, '') ?? ''

function renderInvite(row: Selectable<Invites> & { display_name: string; creator_email: string | null }): Invite {
  return {
    invite_id: row.invite_id,
    role: Role.parse(row.role),
    ...(row.email === null ? {} : { email: row.email }),
    created_at: row.created_at.toISOString(),
    expires_at: row.expires_at.toISOString(),
    creator: {
      type: 'user',
      uid: row.creator_id,
      display_name: row.display_name,
      ...(row.creator_email === null ? {} : { email: row.creator_email }),
    },
  }
}

type MemberRow = {
  user_id: string
  display_name: string
  email: string | null
  role: string
  created_at: Date
  last_used_at: Date | null
}

function renderMember({ user_id, display_name, email, role, created_at, last_used_at }: MemberRow): Member {
  return {
    user_id,
    display_name,
    ...(email === null ? {} : { email }),
    role: Role.parse(role),
    joined_at: created_at.toISOString(),
    last_used_at: last_used_at?.toISOString() ?? null,
  }
}

export function person(caller: Caller): UserCaller {
  if (caller.kind === 'user') return caller
  throw new Fault('not_authorized', "This takes a person's key.")
}

/** One of flesh and blood, not what acts for a team or an agent. */
export function ownPerson(caller: Caller): UserCaller {
  const found = person(caller)
  if (found.owner_user_id !== null) return found
  throw new Fault('not_authorized', "This takes a person's own key or session, not that of a team or an agent.")
}

export const teamNotFound = (team_id: string): Fault =>
  new Fault('resource_not_found', `You are in no team ${team_id} with this key.`)
export const memberNotFound = (user_id: string): Fault =>
  new Fault('resource_not_found', `The team has no member ${user_id}.`)
