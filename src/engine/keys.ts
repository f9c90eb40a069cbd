/**
 * API keys: made, listed, ended. A key is kept only as SHA-256; its value is answered once. It stands while it is not
 * revoked or expired, who made it is of the team, and neither the team nor the agent that it acts as has been deleted.
 */
import { randomUUID } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import { type ApiKey, type CreateApiKey, Fault, isAtLeast, KeyScope, lesserRole, Role } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { hashOf, newApiKey } from './tokens.ts'

/** Characters of a key's value that lists show, from its end. */
const SHOWN = 4

export function keysEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  async function list(caller: Caller): Promise<{ api_keys: ApiKey[] }> {
    const rows = await select(within(caller)).orderBy('k.created_at').orderBy('k.key_id').execute()
    return { api_keys: rows.map(render) }
  }

  async function create(caller: Caller, body: CreateApiKey): Promise<{ api_key: string; key: ApiKey }> {
    const maker = within(caller)
    const scope = body.agent_uid === undefined ? body.scope : 'agent'
    checkMayMake(maker, scope, body)
    const now = clock.now()
    const expires_at = expiryOf(body, now)
    const own = maker.key_id === null ? undefined : await expiryOfKey(maker.key_id)
    if (own && (expires_at === null || expires_at > own)) {
      throw new Fault(
        'invalid_request',
        `The key that you ask with ends at ${own.toISOString()}; it makes none that ends later.`,
        { errors: [{ pointer: '/expires_at', detail: `at the latest ${own.toISOString()}` }] },
      )
    }
    if (body.agent_uid !== undefined) await checkAgent(maker, body.agent_uid)
    const made = await insertKey(db, maker, {
      name: body.name,
      scope,
      identity_uid: body.agent_uid ?? null,
      role: capOf(maker, await memberRole(maker), body.role),
      expires_at,
      now,
    })
    const row = await select(maker).where('k.key_id', '=', made.key_id).executeTakeFirstOrThrow()
    return { api_key: made.api_key, key: render(row) }
  }

  /** Ends it at once; on every server within a second, and with it what it had opened. */
  async function expire(caller: Caller, uid: string): Promise<ApiKey> {
    const row = await select(within(caller)).where('k.key_id', '=', uid).executeTakeFirst()
    if (!row) throw new Fault('resource_not_found', `There is no API key ${uid}.`)
    const maker_is_owner = row.member_role === 'owner'
    if (maker_is_owner && row.user_id !== within(caller).user_id && within(caller).role !== 'owner')
      throw new Fault('not_authorized', "Only an owner of the team ends an owner's key.")
    await db
      .updateTable('api_keys')
      .set({ revoked_at: clock.now() })
      .where('key_id', '=', uid)
      .where('revoked_at', 'is', null)
      .execute()
    return render(row)
  }

  /** One's own; with the role admin all of the team. */
  const select = (caller: UserCaller) =>
    db
      .selectFrom('api_keys as k')
      .innerJoin('users as u', 'u.user_id', 'k.user_id')
      .leftJoin('memberships as m', (on) =>
        on.onRef('m.user_id', '=', 'k.user_id').onRef('m.team_id', '=', 'k.team_id'),
      )
      .leftJoin('identities as i', 'i.identity_uid', 'k.identity_uid')
      .selectAll('k')
      .select(['u.display_name', 'u.email', 'm.role as member_role', 'i.name as agent_name'])
      .select(sql<boolean>`coalesce(k.expires_at <= ${clock.now()}, false)`.as('is_expired'))
      .where('k.team_id', '=', caller.team_id)
      .where('k.revoked_at', 'is', null)
      .where((k) => (isAtLeast(caller.role, 'admin') ? k.lit(true) : k('k.user_id', '=', caller.user_id)))

  type Selected = Awaited<ReturnType<ReturnType<typeof select>['execute']>>[number]

  function render(row: Selected): ApiKey {
    return {
      uid: row.key_id,
      name: row.name,
      scope: KeyScope.parse(row.scope),
      preview: row.preview,
      created_at: row.created_at.toISOString(),
      last_used_at: row.last_used_at?.toISOString() ?? null,
      expires_at: row.expires_at?.toISOString() ?? null,
      is_expired: row.is_expired,
      role: row.role === null ? null : Role.parse(row.role),
      creator: {
        type: 'user',
        uid: row.user_id,
        display_name: row.display_name,
        ...(row.email === null ? {} : { email: row.email }),
      },
      ...(row.identity_uid === null ? {} : { agent: { uid: row.identity_uid, name: row.agent_name ?? '' } }),
    }
  }

  async function expiryOfKey(key_id: string): Promise<Date | null> {
    const key = await db.selectFrom('api_keys').select('expires_at').where('key_id', '=', key_id).executeTakeFirst()
    return key?.expires_at ?? null
  }

  async function memberRole({ team_id, user_id }: UserCaller): Promise<Role> {
    const member = await db
      .selectFrom('memberships')
      .select('role')
      .where('team_id', '=', team_id)
      .where('user_id', '=', user_id)
      .executeTakeFirstOrThrow()
    return Role.parse(member.role)
  }

  async function checkAgent({ team_id }: UserCaller, uid: string): Promise<void> {
    const identity = await db
      .selectFrom('identities')
      .select('owner_user_id')
      .where('identity_uid', '=', uid)
      .where('team_id', '=', team_id)
      .where('deleted_at', 'is', null)
      .where('owner_user_id', 'is', null)
      .executeTakeFirst()
    if (identity) return
    throw new Fault('invalid_request', `The team has no agent identity ${JSON.stringify(uid)}.`, {
      errors: [{ pointer: '/agent_uid', detail: 'no such identity of the team' }],
    })
  }

  return { list, create, expire }
}

type NewKey = {
  name: string
  scope: KeyScope
  identity_uid?: string | null
  role?: Role | null
  expires_at?: Date | null
  now: Date
}

/** The value is in the answer and nowhere else. */
export async function insertKey(
  db: Kysely<Tables>,
  { team_id, user_id }: { team_id: string; user_id: string },
  { name, scope, identity_uid = null, role = null, expires_at = null, now }: NewKey,
): Promise<{ api_key: string; key_id: string }> {
  const api_key = newApiKey()
  const key_id = randomUUID()
  const preview = `wk-1.…${api_key.slice(-SHOWN)}`
  const who = { key_id, team_id, user_id, identity_uid, role, hash: hashOf(api_key), preview }
  await db
    .insertInto('api_keys')
    .values({ ...who, name, scope, expires_at, created_at: now })
    .execute()
  return { api_key, key_id }
}

/** Keys that stand now, with the role of who made them. */
export const livingKeys = (db: Kysely<Tables>, now: Date) =>
  db
    .selectFrom('api_keys as k')
    .innerJoin('memberships as m', (on) => on.onRef('m.user_id', '=', 'k.user_id').onRef('m.team_id', '=', 'k.team_id'))
    .innerJoin('teams as t', 't.team_id', 'k.team_id')
    .leftJoin('identities as i', 'i.identity_uid', 'k.identity_uid')
    .where('k.revoked_at', 'is', null)
    .where('i.deleted_at', 'is', null)
    .where('t.deleted_at', 'is', null)
    .where((k) => k.or([k('k.expires_at', 'is', null), k('k.expires_at', '>', now)]))

/** What a key may do at most: an agent nothing that manages the team. */
export function roleOf(member: string, cap: string | null, scope: string): Role {
  const role = lesserRole(Role.parse(member), cap === null ? 'owner' : Role.parse(cap))
  return scope === 'agent' ? lesserRole(role, 'member') : role
}

/** Keys are of people: what acts for a team or an agent makes and sees none. */
function within(caller: Caller): UserCaller {
  if (caller.kind === 'user' && caller.owner_user_id !== null) return caller
  throw new Fault(
    'not_authorized',
    "This takes a person's own key or session; a team's and an agent's key manage none.",
  )
}

/** A worker sees all that it works on, personal runs and secrets among it. */
const LEAST: Record<KeyScope, Role> = { personal: 'viewer', team: 'member', agent: 'admin', worker: 'admin' }

function checkMayMake(maker: UserCaller, scope: KeyScope, { agent_uid, role }: CreateApiKey): void {
  if (scope === 'agent' && agent_uid === undefined) {
    throw new Fault('invalid_request', 'Name the agent identity that the key acts as: agent_uid.', {
      errors: [{ pointer: '/agent_uid', detail: 'needed for an agent key' }],
    })
  }
  const least = LEAST[scope]
  if (!isAtLeast(maker.role, least))
    throw new Fault('not_authorized', `A key of scope ${scope} takes the role ${least}; you are ${maker.role}.`)
  if (role !== undefined && !isAtLeast(maker.role, role)) {
    throw new Fault('invalid_request', `You are ${maker.role} of the team; no key of yours may do more.`, {
      errors: [{ pointer: '/role', detail: `at most ${maker.role}` }],
    })
  }
}

/** A key that may do less than its person makes none that may do more. */
function capOf(maker: UserCaller, member: Role, asked: Role | undefined): Role | null {
  return asked ?? (maker.role === member ? null : maker.role)
}

function expiryOf({ expires_at, expires_in_seconds }: CreateApiKey, now: Date): Date | null {
  const refuse = (detail: string) =>
    new Fault('invalid_request', detail, { errors: [{ pointer: '/expires_at', detail }] })
  if ((expires_at === undefined) === (expires_in_seconds === undefined))
    throw refuse('Say when the key ends: expires_in_seconds, or expires_at, which null makes never.')
  if (expires_in_seconds !== undefined) return new Date(now.getTime() + expires_in_seconds * 1000)
  if (expires_at === null || expires_at === undefined) return null
  const at = new Date(expires_at)
  if (at <= now) throw refuse(`A key that ends at ${expires_at} has ended already.`)
  return at
}
