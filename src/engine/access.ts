/** Access: keys, browser sessions and the codes that open them. Absent, expired and revoked all look the same. */
import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import { API_KEY_PATTERN, EXECUTION_TOKEN_PATTERN, Fault, KeyScope, type Role, type WhoAmI } from '../contract/index.ts'
import { arrayOf } from './array-of.ts'
import { batched } from './batch.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { insertKey, livingKeys, roleOf } from './keys.ts'
import { foundTeam } from './teams.ts'
import { hashOf, newSessionSecret } from './tokens.ts'

const LOGIN_CODE_MS = 5 * 60_000
const SESSION_MS = 30 * 24 * 3_600_000
const SESSION_IDLE_MS = 7 * 24 * 3_600_000
/** What a caller shows: an API key or an execution token, or a browser's session. */
export type Shown = { token: string } | { session: string }
/**
 * `ended`: an execution token that opens nothing but the repetition of what it said last. `role`: what it may do now;
 * null of an execution.
 */
export type Standing = { is: 'known'; role: Role | null } | { is: 'ended' | 'unknown' }

/** `last_used_at` is written at most this often. */
const USED_MS = 60_000
/** Execution tokens of one statement. */
const TOKENS_MAX = 200

export function accessEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  async function identifyKey(token: string): Promise<Caller | null> {
    const now = clock.now()
    const key = await livingKeys(db, now)
      .select(['k.key_id', 'k.team_id', 'k.user_id', 'k.scope', 'k.role', 'k.identity_uid', 'k.last_used_at'])
      .select('m.role as member_role')
      .where('k.hash', '=', hashOf(token))
      .executeTakeFirst()
    if (!key) return null
    if (!key.last_used_at || now.getTime() - key.last_used_at.getTime() > USED_MS) {
      await db.updateTable('api_keys').set({ last_used_at: now }).where('key_id', '=', key.key_id).execute()
    }
    const { team_id, user_id, key_id, scope, identity_uid } = key
    const role = keyRole(key)
    if (scope === 'worker')
      return { kind: 'worker', team_id, owner_user_id: null, user_id, role, key_id, by: 'api_key' }
    return {
      kind: 'user',
      team_id,
      owner_user_id: scope === 'personal' ? user_id : null,
      user_id,
      role,
      identity_uid,
      key_id,
      by: 'api_key',
    }
  }

  const readExecution = batched({
    most: TOKENS_MAX,
    keyOf: (token: string) => token,
    run: async (tokens) => {
      const hashes = tokens.map(hashOf)
      const rows = await room.database.byIndex
        .selectFrom('executions')
        .innerJoin('runs', 'runs.run_id', 'executions.run_id')
        .select(['runs.team_id', 'runs.owner_user_id', 'runs.run_id', 'executions.execution_id', 'executions.state'])
        .select('executions.token_hash')
        .where(sql<boolean>`executions.token_hash = any(${arrayOf('bytea', hashes, (hash) => hash)}::bytea[])`)
        .execute()
      return hashes.map((hash) => rows.find(({ token_hash }) => token_hash.equals(hash)))
    },
  })

  async function identifyExecution(token: string): Promise<Caller | null> {
    const execution = await readExecution(token)
    if (!execution) return null
    const { team_id, owner_user_id, run_id, execution_id } = execution
    return {
      kind: 'execution',
      team_id,
      owner_user_id,
      run_id,
      execution_id,
      ended: execution.state === 'ended',
      by: 'execution_token',
    }
  }

  async function identifySession(secret: string): Promise<Caller | null> {
    const now = clock.now()
    const session = await livingSessions(now)
      .select(['s.session_id', 's.team_id', 's.user_id', 's.key_id', 's.last_used_at', 'm.role', 'k.role as cap'])
      .where('s.hash', '=', hashOf(secret))
      .executeTakeFirst()
    if (!session || now.getTime() - session.last_used_at.getTime() > SESSION_IDLE_MS) return null
    if (now.getTime() - session.last_used_at.getTime() > USED_MS) {
      await db.updateTable('sessions').set({ last_used_at: now }).where('session_id', '=', session.session_id).execute()
    }
    const { team_id, user_id, key_id } = session
    const role = roleOf(session.role, session.cap, 'personal')
    return { kind: 'user', team_id, owner_user_id: user_id, user_id, role, identity_uid: null, key_id, by: 'session' }
  }

  /** A session is of a member of its team, and ends with the team, and with the key that opened it. */
  const livingSessions = (now: Date) =>
    db
      .selectFrom('sessions as s')
      .innerJoin('memberships as m', (on) =>
        on.onRef('m.user_id', '=', 's.user_id').onRef('m.team_id', '=', 's.team_id'),
      )
      .innerJoin('teams as t', 't.team_id', 's.team_id')
      .leftJoin('api_keys as k', 'k.key_id', 's.key_id')
      .where('t.deleted_at', 'is', null)
      .where('s.expires_at', '>', now)
      .where('k.revoked_at', 'is', null)
      .where((k) => k.or([k('k.expires_at', 'is', null), k('k.expires_at', '>', now)]))

  /** How what is open still stands, whatever its number: one query for each kind of credential that is there. */
  async function standings(shown: Shown[]): Promise<Standing[]> {
    const now = clock.now()
    const hashes = shown.map((one) => hashOf('session' in one ? one.session : one.token))
    const of = (kind: (one: Shown) => boolean) => hashes.filter((_, at) => shown[at] && kind(shown[at]))
    const keys = of((one) => 'token' in one && API_KEY_PATTERN.test(one.token))
    const tokens = of((one) => 'token' in one && EXECUTION_TOKEN_PATTERN.test(one.token))
    const sessions = of((one) => 'session' in one)
    const found = new Map<string, Standing>()
    const add = (hash: Buffer, standing: Standing) => found.set(hash.toString('hex'), standing)
    if (keys.length > 0) {
      const rows = await livingKeys(db, now)
        .select(['k.hash', 'k.scope', 'k.role', 'm.role as member_role'])
        .where(sql<boolean>`k.hash = any(${keys}::bytea[])`)
        .execute()
      for (const row of rows) add(row.hash, { is: 'known', role: keyRole(row) })
    }
    if (tokens.length > 0) {
      const rows = await db
        .selectFrom('executions')
        .select(['token_hash', 'state'])
        .where(sql<boolean>`token_hash = any(${tokens}::bytea[])`)
        .execute()
      for (const { token_hash, state } of rows)
        add(token_hash, state === 'ended' ? { is: 'ended' } : { is: 'known', role: null })
    }
    if (sessions.length > 0) {
      // What is idle is looked at when it next asks for something: an open page is in use.
      const rows = await livingSessions(now)
        .select(['s.hash', 'm.role', 'k.role as cap'])
        .where(sql<boolean>`s.hash = any(${sessions}::bytea[])`)
        .execute()
      for (const { hash, role, cap } of rows) add(hash, { is: 'known', role: roleOf(role, cap, 'personal') })
    }
    return hashes.map((hash) => found.get(hash.toString('hex')) ?? { is: 'unknown' })
  }

  async function openSession(caller: Pick<UserCaller, 'team_id' | 'user_id' | 'key_id'>) {
    const secret = newSessionSecret()
    const now = clock.now()
    const expires_at = new Date(now.getTime() + SESSION_MS)
    await db
      .insertInto('sessions')
      .values({
        session_id: randomUUID(),
        team_id: caller.team_id,
        user_id: caller.user_id,
        key_id: caller.key_id,
        hash: hashOf(secret),
        created_at: now,
        last_used_at: now,
        expires_at,
      })
      .execute()
    const opened = await identifySession(secret)
    if (opened === null)
      throw new Fault('authentication_required', 'What this link was made with has ended. Sign in with an API key.')
    return { caller: opened, secret, expires_at }
  }

  async function redeemCode(code: string) {
    const used = await db.deleteFrom('login_codes').where('hash', '=', hashOf(code)).returningAll().executeTakeFirst()
    if (!used || used.expires_at <= clock.now()) {
      throw new Fault(
        'authentication_required',
        'This sign-in link was used already or is older than five minutes. Make a new one with `baton run open` or sign in with an API key.',
      )
    }
    return used
  }

  async function shownKey(key_id: string): Promise<Pick<WhoAmI, 'key' | 'agent'>> {
    const key = await db
      .selectFrom('api_keys as k')
      .leftJoin('identities as i', 'i.identity_uid', 'k.identity_uid')
      .select(['k.name', 'k.scope', 'k.expires_at', 'i.identity_uid', 'i.name as agent_name'])
      .where('k.key_id', '=', key_id)
      .executeTakeFirst()
    if (!key) return {}
    const { name, scope, expires_at, identity_uid, agent_name } = key
    return {
      key: { uid: key_id, name, scope: KeyScope.parse(scope), expires_at: expires_at?.toISOString() ?? null },
      ...(identity_uid === null ? {} : { agent: { uid: identity_uid, name: agent_name ?? '' } }),
    }
  }

  async function whoami(caller: Caller): Promise<WhoAmI> {
    const team = await db
      .selectFrom('teams')
      .selectAll()
      .where('team_id', '=', caller.team_id)
      .executeTakeFirstOrThrow()
    const shown = {
      kind: caller.kind,
      team: { team_id: team.team_id, name: team.name, max_concurrent_runs: team.max_concurrent_runs },
      by: caller.by,
    }
    if (caller.kind === 'execution') return { ...shown, run_id: caller.run_id }
    const user = await db
      .selectFrom('users')
      .select(['user_id', 'display_name', 'email'])
      .where('user_id', '=', caller.user_id)
      .executeTakeFirstOrThrow()
    const { email, ...named } = user
    return {
      ...shown,
      user: { ...named, ...(email === null ? {} : { email }) },
      ...(caller.kind === 'user' ? { role: caller.role } : {}),
      ...(caller.key_id === null ? {} : await shownKey(caller.key_id)),
    }
  }

  return {
    standings,
    /** For who was identified by other means than a key: an invitation. */
    openSession,

    async identify(shown: Shown): Promise<Caller | null> {
      if ('session' in shown) return identifySession(shown.session)
      if (API_KEY_PATTERN.test(shown.token)) return identifyKey(shown.token)
      if (EXECUTION_TOKEN_PATTERN.test(shown.token)) return identifyExecution(shown.token)
      return null
    },

    async signIn(shown: { api_key: string } | { code: string }) {
      if ('code' in shown) return openSession(await redeemCode(shown.code))
      const caller = await identifyKey(shown.api_key)
      if (caller?.kind !== 'user')
        throw new Fault(
          'authentication_required',
          'This API key is not known here. It may have expired or been revoked.',
        )
      checkPersonal(caller)
      return openSession(caller)
    },

    async signOut(secret: string): Promise<void> {
      await db.deleteFrom('sessions').where('hash', '=', hashOf(secret)).execute()
    },

    async createLoginCode(caller: Caller) {
      if (caller.kind !== 'user') throw new Fault('not_authorized', 'Only a person can make a sign-in link.')
      checkPersonal(caller)
      const { team_id, user_id, key_id } = caller
      const code = newSessionSecret()
      const expires_at = new Date(clock.now().getTime() + LOGIN_CODE_MS)
      await db
        .insertInto('login_codes')
        .values({ hash: hashOf(code), team_id, user_id, key_id, expires_at })
        .execute()
      return { code, expires_at: expires_at.toISOString() }
    },

    /** How many runs of the caller's team may be under way at once; the dispatcher sees it at its next look. */
    async limitRuns(caller: UserCaller, max_concurrent_runs: number): Promise<void> {
      await db.updateTable('teams').set({ max_concurrent_runs }).where('team_id', '=', caller.team_id).execute()
      room.bell.ring('queue', {})
    },

    whoami,

    async rename(caller: Caller, { display_name }: { display_name?: string | undefined }): Promise<WhoAmI> {
      if (caller.kind !== 'user' || caller.owner_user_id === null)
        throw new Fault('not_authorized', "A person changes their name with a key of their own, not a team's.")
      const { user_id } = caller
      if (display_name !== undefined)
        await db.updateTable('users').set({ display_name }).where('user_id', '=', user_id).execute()
      return whoami(caller)
    },

    async createKey(
      caller: UserCaller,
      { name, scope }: { name: string; scope: 'personal' | 'worker' },
    ): Promise<{ api_key: string }> {
      const { api_key } = await insertKey(db, caller, { name, scope, now: clock.now() })
      return { api_key }
    },

    /** Where the store has no team (left): one team, one user, one key. The key is answered this once. */
    async prepare(): Promise<{ api_key: string | null; caller: UserCaller }> {
      return db.transaction().execute(async (write) => {
        // Serialises servers that start together on an empty store.
        await write.selectFrom('store').select('epoch').forUpdate().executeTakeFirstOrThrow()
        const first = await write
          .selectFrom('memberships as m')
          .innerJoin('teams as t', 't.team_id', 'm.team_id')
          .select(['m.user_id', 'm.team_id'])
          .where('m.role', '=', 'owner')
          .where('t.deleted_at', 'is', null)
          .orderBy('m.created_at')
          .orderBy('m.user_id')
          .limit(1)
          .executeTakeFirst()
        if (first) return { api_key: null, caller: ownerOf(first) }
        const now = clock.now()
        const user_id = randomUUID()
        await write.insertInto('users').values({ user_id, display_name: 'Owner', created_at: now }).execute()
        const ids = { user_id, team_id: await foundTeam(write, { name: 'default', user_id, now }) }
        const { api_key } = await insertKey(write, ids, { name: 'first key', scope: 'personal', now })
        return { api_key, caller: ownerOf(ids) }
      })
    },
  }
}

/** A worker's key is limited by its maker's role alone: there is nothing else that it could do. */
const keyRole = (key: { member_role: string; role: string | null; scope: string }): Role =>
  roleOf(key.member_role, key.scope === 'worker' ? null : key.role, key.scope)

/** A session is a person's own; nobody gets one by what acts for a team or an agent. */
function checkPersonal({ owner_user_id }: UserCaller): void {
  if (owner_user_id !== null) return
  throw new Fault('not_authorized', "The page takes a person's own key; this one acts for a team or an agent.")
}

const ownerOf = ({ team_id, user_id }: { team_id: string; user_id: string }): UserCaller => ({
  kind: 'user',
  team_id,
  owner_user_id: user_id,
  user_id,
  role: 'owner',
  identity_uid: null,
  key_id: null,
  by: 'api_key',
})
