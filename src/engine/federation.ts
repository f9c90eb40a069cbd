/**
 * Identity tokens of runs (OpenID Connect, ES256), and the keys that sign them.
 *
 * A key is published before it signs, so that verifiers which keep what they fetched know it in time, and stays
 * published until no token of it can be valid any more. Private parts are sealed like secrets.
 */
import { randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, SignJWT } from 'jose'
import { sql } from 'kysely'
import { z } from 'zod'
import { AgentConfig, Fault, IDENTITY_TOKEN_SECONDS, type IssueToken, type SubjectClaim } from '../contract/index.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { personOf } from './runs.ts'
import { newestKey, seal, unseal } from './sealing.ts'
import { issuerBound } from './secrets.ts'

const ALGORITHM = 'ES256'
/** How long verifiers may keep the keys, and then some more until a new key signs. */
export const JWKS_KEPT_S = 300
const PUBLISHED_BEFORE_MS = 2 * JWKS_KEPT_S * 1000
/** Verifiers' clocks may be behind ours. */
const SKEW_MS = 10 * 60_000
/** A key signs for so long before the next is made. */
const KEY_LIFE_MS = 90 * 24 * 3_600_000

const PublicJwk = z.object({ kty: z.literal('EC'), crv: z.literal('P-256'), x: z.string(), y: z.string() })
const PrivateJwk = PublicJwk.extend({ d: z.string() })

export function federationEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  const readKeys = () =>
    db
      .selectFrom('issuer_keys')
      .selectAll()
      .where('purpose', '=', 'oidc')
      .orderBy('signs_from', 'desc')
      .orderBy('kid')
      .execute()

  type Key = Awaited<ReturnType<typeof readKeys>>[number]

  async function makeKey(signs_from: Date): Promise<{ kid: string; signs_from: string }> {
    const { privateKey } = await generateKeyPair(ALGORITHM, { extractable: true })
    const jwk = PrivateJwk.parse(await exportJWK(privateKey))
    const public_jwk = PublicJwk.parse(jwk)
    const kid = await calculateJwkThumbprint(public_jwk)
    const sealed = seal(await newestKey(room), Buffer.from(JSON.stringify(jwk)), issuerBound(kid))
    await db
      .insertInto('issuer_keys')
      .values({
        kid,
        purpose: 'oidc',
        public_jwk: JSON.stringify(public_jwk),
        ...sealed,
        created_at: clock.now(),
        signs_from,
      })
      .execute()
    return { kid, signs_from: signs_from.toISOString() }
  }

  /** Newest first, with one that signs and one to come where that one grows old. */
  async function keysWithSigner(): Promise<{ keys: Key[]; signer: Key }> {
    const now = clock.now().getTime()
    const keys = await readKeys()
    const signer = keys.find((key) => key.signs_from.getTime() <= now)
    if (signer === undefined) {
      await makeKey(clock.now())
      return keysWithSigner()
    }
    if (signer === keys[0] && now - signer.signs_from.getTime() > KEY_LIFE_MS) {
      await makeKey(new Date(now + PUBLISHED_BEFORE_MS))
      return keysWithSigner()
    }
    return { keys, signer }
  }

  async function issue(caller: ExecutionCaller, body: IssueToken, issuer: string) {
    const claims = await claimsOf(room, caller)
    const { signer } = await keysWithSigner()
    const jwk = PrivateJwk.parse(JSON.parse(unseal(room.keyring, signer, issuerBound(signer.kid)).toString('utf8')))
    const now_s = Math.floor(clock.now().getTime() / 1000)
    const expires_s = now_s + body.requested_duration_seconds
    const { principal, scoped_principal: _, ...shown } = claims
    const token = await new SignJWT({
      ...Object.fromEntries(Object.entries(shown).filter(([, value]) => value !== null)),
      teams: [claims.teams],
    })
      .setProtectedHeader({ alg: ALGORITHM, typ: 'JWT', kid: signer.kid })
      .setIssuer(issuer)
      .setAudience([body.audience])
      .setSubject(subjectOf(body.subject_template ?? [], { ...claims, principal }))
      .setIssuedAt(now_s)
      .setNotBefore(now_s)
      .setExpirationTime(expires_s)
      .setJti(randomUUID())
      .sign(await importJWK(jwk, ALGORITHM))
    room.log.info(
      { run_id: caller.run_id, execution_id: caller.execution_id, audience: body.audience },
      'federation.issued',
    )
    return { token, expires_at: new Date(expires_s * 1000).toISOString(), issuer }
  }

  /** Keys that a token may be signed with which is still valid; a server without a master key has none. */
  async function jwks() {
    const keys = await keysWithSigner().then(
      (found) => found.keys,
      (thrown: unknown) => {
        if (thrown instanceof Fault) return readKeys()
        throw thrown
      },
    )
    return {
      keys: keys
        .filter((key, at) => !isOver(key, keys[at - 1]))
        .map(({ kid, public_jwk }) => ({ ...PublicJwk.parse(public_jwk), kid, use: 'sig', alg: ALGORITHM })),
    }
  }

  function isOver(_key: Key, next: Key | undefined): boolean {
    const until = (next?.signs_from.getTime() ?? Infinity) + IDENTITY_TOKEN_SECONDS.max * 1000 + SKEW_MS
    return until < clock.now().getTime()
  }

  return {
    issue,
    jwks,
    async rotate(caller: Caller) {
      personOf(caller)
      const { signer, keys } = await keysWithSigner()
      const coming = keys[0] !== signer ? keys[0] : undefined
      // One to come is enough, however often this is asked.
      if (coming !== undefined) return { kid: coming.kid, signs_from: coming.signs_from.toISOString() }
      return makeKey(new Date(clock.now().getTime() + PUBLISHED_BEFORE_MS))
    },
    /** Keys that nothing can be verified with any more. */
    async sweep(): Promise<void> {
      const keys = await readKeys()
      const over = keys.filter((key, at) => isOver(key, keys[at - 1])).map(({ kid }) => kid)
      if (over.length > 0) await sql`delete from issuer_keys where kid = any(${over}::text[])`.execute(db)
    },
  }
}

type Claims = Record<SubjectClaim, string | null>

async function claimsOf({ database }: Room, caller: ExecutionCaller): Promise<Claims> {
  const row = await database.kysely
    .selectFrom('runs')
    .innerJoin('executions', 'executions.execution_id', 'runs.execution_id')
    .innerJoin('users', 'users.user_id', 'runs.creator_id')
    .select(['runs.team_id', 'runs.run_id', 'runs.creator_id', 'runs.identity_uid', 'runs.config', 'users.email'])
    .select('executions.worker_host')
    .where('runs.run_id', '=', caller.run_id)
    .where('executions.execution_id', '=', caller.execution_id)
    .where('executions.state', '=', 'running')
    .executeTakeFirst()
  if (!row) throw new Fault('authentication_required', 'This execution is not at work, so it is given no token.')
  const config = AgentConfig.parse(row.config)
  const principal = row.identity_uid === null ? `user:${row.creator_id}` : `service_account:${row.identity_uid}`
  return {
    principal,
    scoped_principal: `${row.team_id}/${principal}`,
    email: row.identity_uid === null ? row.email : null,
    teams: row.team_id,
    environment: config.environment_id ?? null,
    agent_name: config.name ?? null,
    skill_spec: config.skill_spec || null,
    run_id: row.run_id,
    host: row.worker_host ?? 'local',
  }
}

/** Each claim with its name, but for the principal, which says itself what it is; what a value has of `:` is escaped. */
function subjectOf(template: SubjectClaim[], claims: Claims): string {
  const parts = template.length === 0 ? (['principal'] as const) : template
  return parts
    .map((name) => {
      const value = claims[name]
      if (value === null) {
        throw new Fault('invalid_request', `This run has no ${name} that its subject could name.`, {
          errors: [{ pointer: '/subject_template', detail: `no ${name}` }],
        })
      }
      if (name === 'principal') return value
      if (name === 'scoped_principal') return `scoped_principal:${value}`
      return `${name}:${value.replaceAll('%', '%25').replaceAll(':', '%3A')}`
    })
    .join(':')
}
