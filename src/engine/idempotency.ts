/**
 * Idempotency keys: the same key and body answer the same for `KEY_MS`, with one effect; the same key with another
 * body is refused. The key's row is made in the transaction of the effect, so that a crash leaves both or neither,
 * and the row's lock makes simultaneous repeats wait for the first.
 */
import { createHash } from 'node:crypto'
import type { Kysely } from 'kysely'
import { Fault } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller } from './caller.ts'

export const KEY_MS = 24 * 3_600_000

type Use = { caller: Caller; route: string; key: string | undefined; body: unknown; now: Date }

/** Brings about `effect` once for a key, and keeps its answer with the key. Without a key there is no transaction. */
export async function once<T>(
  db: Kysely<Tables>,
  use: Use,
  effect: (write: Kysely<Tables> | null) => Promise<T>,
): Promise<{ answer: T; replayed: boolean }> {
  if (use.key === undefined) {
    return { answer: await effect(null), replayed: false }
  }
  const body_hash = createHash('sha256').update(JSON.stringify(use.body)).digest()
  const key = { team_id: use.caller.team_id, caller: callerName(use.caller), route: use.route, key: use.key }
  return db.transaction().execute(async (write) => {
    const made = await write
      .insertInto('idempotency_keys')
      .values({ ...key, body_hash, created_at: use.now })
      .onConflict((c) => c.doNothing())
      .returning('key')
      .executeTakeFirst()
    if (made) {
      const answer = await effect(write)
      await write
        .updateTable('idempotency_keys')
        .set({ answer: JSON.stringify(answer) })
        .where((w) => w.and(key))
        .execute()
      return { answer, replayed: false }
    }
    const known = await write
      .selectFrom('idempotency_keys')
      .select(['body_hash', 'answer'])
      .where((w) => w.and(key))
      .executeTakeFirstOrThrow()
    if (!known.body_hash.equals(body_hash)) {
      throw new Fault(
        'operation_not_supported',
        `The Idempotency-Key ${use.key} was used for a different request. Use a new key.`,
      )
    }
    return { answer: known.answer as T, replayed: true }
  })
}

/** A key that sees less than another of the same person never has the other's answer. */
function callerName(caller: Caller): string {
  if (caller.kind === 'execution') return caller.execution_id
  if (caller.kind === 'user' && caller.identity_uid !== null) return caller.identity_uid
  return caller.owner_user_id === null ? `team ${caller.user_id}` : caller.user_id
}
