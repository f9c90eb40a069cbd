/**
 * Workload tokens: a JWT that says to this server which execution its bearer is, beside whatever key is shown. It is
 * worth nothing once the execution has ended. Only servers on this database verify it, so one secret signs it.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { jwtVerify, SignJWT } from 'jose'
import { z } from 'zod'
import { Fault } from '../contract/index.ts'
import type { ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { newestKey, seal, unseal } from './sealing.ts'
import { issuerBound } from './secrets.ts'

const ISSUER = 'baton'
const AUDIENCE = 'baton:workload'
const KEY_BYTES = 32
/** Where there is no master key, it is looked again after this long. */
const AGAIN_MS = 60_000

const Claims = z.object({ run_id: z.uuid(), execution_id: z.uuid() })

type Named = z.infer<typeof Claims>

export type Workload = {
  /** Null where the server has no master key. */
  issue(named: Named): Promise<string | null>
  /** Whom a token names, while its execution has not ended; null: nobody. */
  read(token: string): Promise<ExecutionCaller | null>
}

export function workloadTokens(room: Pick<Room, 'database' | 'clock' | 'keyring' | 'log'>): Workload {
  const db = room.database.kysely
  let key: Promise<Buffer | null> | null = null

  async function readKey(): Promise<Buffer | null> {
    const row = await db.selectFrom('issuer_keys').selectAll().where('purpose', '=', 'workload').executeTakeFirst()
    if (row) return unseal(room.keyring, row, issuerBound(row.kid))
    const kid = randomUUID()
    const now = room.clock.now()
    const sealed = seal(await newestKey(room), randomBytes(KEY_BYTES), issuerBound(kid))
    // Of servers that start together one makes it.
    await db
      .insertInto('issuer_keys')
      .values({ kid, purpose: 'workload', ...sealed, created_at: now, signs_from: now })
      .onConflict((one) => one.doNothing())
      .execute()
    return readKey()
  }

  function keyOnce(): Promise<Buffer | null> {
    if (key !== null) return key
    const reading = readKey().catch((thrown: unknown) => {
      if (!(thrown instanceof Fault)) {
        key = null
        throw thrown
      }
      room.log.warn({ reason: thrown.message }, 'workload.no_key')
      setTimeout(() => {
        key = null
      }, AGAIN_MS).unref()
      return null
    })
    key = reading
    return reading
  }

  return {
    async issue({ run_id, execution_id }) {
      const secret = await keyOnce()
      if (secret === null) return null
      return new SignJWT({ run_id, execution_id })
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
        .setIssuer(ISSUER)
        .setAudience(AUDIENCE)
        .setIssuedAt(room.clock.now())
        .sign(secret)
    },

    async read(token) {
      const secret = await keyOnce()
      if (secret === null) return null
      const verified = await jwtVerify(token, secret, {
        algorithms: ['HS256'],
        issuer: ISSUER,
        audience: AUDIENCE,
        currentDate: room.clock.now(),
      }).catch(() => null)
      const claims = Claims.safeParse(verified?.payload)
      if (!claims.success) return null
      const row = await db
        .selectFrom('executions')
        .innerJoin('runs', 'runs.run_id', 'executions.run_id')
        .select(['runs.team_id', 'runs.owner_user_id', 'executions.run_id', 'executions.execution_id'])
        .where('executions.execution_id', '=', claims.data.execution_id)
        .where('executions.run_id', '=', claims.data.run_id)
        .where('executions.state', '!=', 'ended')
        .executeTakeFirst()
      return row === undefined ? null : { kind: 'execution', ...row, by: 'execution_token', ended: false }
    },
  }
}
