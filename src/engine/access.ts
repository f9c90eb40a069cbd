/** Access: keys, browser sessions and the codes that open them. Absent, expired and revoked all look the same. */
import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import { API_KEY_PATTERN, EXECUTION_TOKEN_PATTERN, Fault, type WhoAmI } from '../contract/index.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { hashOf, newApiKey, newSessionSecret } from './tokens.ts'

const LOGIN_CODE_MS = 5 * 60_000
const SESSION_MS = 30 * 24 * 3_600_000
const SESSION_IDLE_MS = 7 * 24 * 3_600_000
/** What a caller shows: an API key or an execution token, or a browser's session. */
export type Shown = { token: string } | { session: string }
/** `ended`: an execution token that opens nothing but the repetition of what it said last. */
export type Standing = 'known' | 'ended' | 'unknown'

/** `last_used_at` is written at most this often. */
const USED_MS = 60_000

export function accessEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  async function identifyKey(token: string): Promise<Caller | null> {
    const now = clock.now()
    const key = await db.selectFrom('api_keys').selectAll().where('hash', '=', hashOf(token)).executeTakeFirst()
    if (!key || key.revoked_at || (key.expires_at && key.expires_at <= now)) return null
    if (!key.last_used_at || now.getTime() - key.last_used_at.getTime() > USED_MS) {
      await db.updateTable('api_keys').set({ last_used_at: now }).where('key_id', '=', key.key_id).execute()
    }
    return {
      kind: key.scope === 'worker' ? 'worker' : 'user',
      team_id: key.team_id,
      user_id: key.user_id,
      by: 'api_key',
    }
  }

  async function identifyExecution(token: string): Promise<Caller | null> {
    const execution = await db
      .selectFrom('executions')
      .select(['team_id', 'run_id', 'execution_id', 'state'])
      .where('token_hash', '=', hashOf(token))
      .executeTakeFirst()
    if (!execution) return null
    const { team_id, run_id, execution_id } = execution
    return {
      kind: 'execution',
      team_id,
      run_id,
      execution_id,
      ended: execution.state === 'ended',
      by: 'execution_token',
    }
  }

  async function identifySession(secret: string): Promise<Caller | null> {
    const now = clock.now()
    const session = await db.selectFrom('sessions').selectAll().where('hash', '=', hashOf(secret)).executeTakeFirst()
    if (!session || session.expires_at <= now || now.getTime() - session.last_used_at.getTime() > SESSION_IDLE_MS)
      return null
    if (now.getTime() - session.last_used_at.getTime() > USED_MS) {
      await db.updateTable('sessions').set({ last_used_at: now }).where('session_id', '=', session.session_id).execute()
    }
    return { kind: 'user', team_id: session.team_id, user_id: session.user_id, by: 'session' }
  }

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
      const rows = await db
        .selectFrom('api_keys')
        .select('hash')
        .where(sql<boolean>`hash = any(${keys}::bytea[])`)
        .where('revoked_at', 'is', null)
        .where((where) => where.or([where('expires_at', 'is', null), where('expires_at', '>', now)]))
        .execute()
      for (const { hash } of rows) add(hash, 'known')
    }
    if (tokens.length > 0) {
      const rows = await db
        .selectFrom('executions')
        .select(['token_hash', 'state'])
        .where(sql<boolean>`token_hash = any(${tokens}::bytea[])`)
        .execute()
      for (const { token_hash, state } of rows) add(token_hash, state === 'ended' ? 'ended' : 'known')
    }
    if (sessions.length > 0) {
      // What is idle is looked at when it next asks for something: an open page is in use.
      const rows = await db
        .selectFrom('sessions')
        .select('hash')
        .where(sql<boolean>`hash = any(${sessions}::bytea[])`)
        .where('expires_at', '>', now)
        .execute()
      for (const { hash } of rows) add(hash, 'known')
    }
    return hashes.map((hash) => found.get(hash.toString('hex')) ?? 'unknown')
  }

  async function openSession(caller: UserCaller) {
    const secret = newSessionSecret()
    const now = clock.now()
    const expires_at = new Date(now.getTime() + SESSION_MS)
    await db
      .insertInto('sessions')
      .values({
        session_id: randomUUID(),
        team_id: caller.team_id,
        user_id: caller.user_id,
        hash: hashOf(secret),
        created_at: now,
        last_used_at: now,
        expires_at,
      })
      .execute()
    return { caller: { ...caller, by: 'session' as const }, secret, expires_at }
  }

  async function redeemCode(code: string): Promise<UserCaller> {
    const used = await db.deleteFrom('login_codes').where('hash', '=', hashOf(code)).returningAll().executeTakeFirst()
    if (!used || used.expires_at <= clock.now()) {
      throw new Fault(
        'authentication_required',
        'This sign-in link was used already or is older than five minutes. Make a new one with `baton run open` or sign in with an API key.',
      )
    }
    return { kind: 'user', team_id: used.team_id, user_id: used.user_id, by: 'session' }
  }

  return {
    standings,

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
      return openSession(caller)
    },

    async signOut(secret: string): Promise<void> {
      await db.deleteFrom('sessions').where('hash', '=', hashOf(secret)).execute()
    },

    async createLoginCode(caller: Caller) {
      if (caller.kind !== 'user') throw new Fault('not_authorized', 'Only a person can make a sign-in link.')
      const code = newSessionSecret()
      const expires_at = new Date(clock.now().getTime() + LOGIN_CODE_MS)
      await db
        .insertInto('login_codes')
        .values({ hash: hashOf(code), team_id: caller.team_id, user_id: caller.user_id, expires_at })
        .execute()
      return { code, expires_at: expires_at.toISOString() }
    },

    /** How many runs of the caller's team may be under way at once; the dispatcher sees it at its next look. */
    async limitRuns(caller: UserCaller, max_concurrent_runs: number): Promise<void> {
      await db.updateTable('teams').set({ max_concurrent_runs }).where('team_id', '=', caller.team_id).execute()
      room.bell.ring('queue', {})
    },

    async whoami(caller: Caller): Promise<WhoAmI> {
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
        .selectAll()
        .where('user_id', '=', caller.user_id)
        .executeTakeFirstOrThrow()
      return { ...shown, user: { user_id: user.user_id, display_name: user.display_name } }
    },

    async createKey(
      caller: UserCaller,
      { name, scope }: { name: string; scope: 'user' | 'worker' },
    ): Promise<{ api_key: string }> {
      const api_key = newApiKey()
      await db
        .insertInto('api_keys')
        .values({
          key_id: randomUUID(),
          team_id: caller.team_id,
          user_id: caller.user_id,
          name,
          scope,
          hash: hashOf(api_key),
          created_at: clock.now(),
        })
        .execute()
      return { api_key }
    },

    /** The first start of a store: one team, one user, one key. The key is answered this once. */
    async prepare(): Promise<{ api_key: string | null; caller: UserCaller }> {
      return db.transaction().execute(async (write) => {
        // Serialises servers that start together on an empty store.
        await write.selectFrom('store').select('epoch').forUpdate().executeTakeFirstOrThrow()
        const first = await write
          .selectFrom('users')
          .select(['user_id', 'team_id'])
          .orderBy('created_at')
          .limit(1)
          .executeTakeFirst()
        if (first)
          return {
            api_key: null,
            caller: { kind: 'user', team_id: first.team_id, user_id: first.user_id, by: 'api_key' },
          }
        const now = clock.now()
        const caller: UserCaller = { kind: 'user', team_id: randomUUID(), user_id: randomUUID(), by: 'api_key' }
        const api_key = newApiKey()
        await write.insertInto('teams').values({ team_id: caller.team_id, name: 'default', created_at: now }).execute()
        await write
          .insertInto('users')
          .values({ user_id: caller.user_id, team_id: caller.team_id, display_name: 'Owner', created_at: now })
          .execute()
        await write
          .insertInto('api_keys')
          .values({
            key_id: randomUUID(),
            team_id: caller.team_id,
            user_id: caller.user_id,
            name: 'first key',
            scope: 'user',
            hash: hashOf(api_key),
            created_at: now,
          })
          .execute()
        return { api_key, caller }
      })
    },
  }
}
