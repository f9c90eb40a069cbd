/**
 * Idempotency keys: the same key and body answer the same for `KEY_MS`, with one effect; the same key with another body is
 * refused. The key's row is made in the transaction of the effect, so that a crash leaves both or neither, and the
 * row's lock makes simultaneous repeats wait for the first.
 */
import { createHash } from 'node:crypto'
import { Fault } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Write } from './log.ts'

export const KEY_MS = 24 * 3_600_000
export const KEY_CHARACTERS = 255

type Use = { caller: Caller; route: string; key: string | undefined; body: unknown; now: Date }

export async function once<T>(
  write: Write,
  use: Use,
  effect: () => Promise<T>,
): Promise<{ answer: T; replayed: boolean }> {
  if (use.key === undefined) return { answer: await effect(), replayed: false }
  if (use.key.length === 0 || use.key.length > KEY_CHARACTERS)
    throw new Fault('invalid_request', `An Idempotency-Key has 1 to ${KEY_CHARACTERS} characters.`)
  const body_hash = createHash('sha256').update(JSON.stringify(use.body)).digest()
  const key = { team_id: use.caller.team_id, caller: callerName(use.caller), route: use.route, key: use.key }
  const made = await write
    .insertInto('idempotency_keys')
    .values({ ...key, body_hash, created_at: use.now })
    .onConflict((c) => c.doNothing())
    .returning('key')
    .executeTakeFirst()
  if (made) {
    const answer = await effect()
    await matching(write.updateTable('idempotency_keys').set({ answer: JSON.stringify(answer) }), key).execute()
    return { answer, replayed: false }
  }
  const known = await matching(
    write.selectFrom('idempotency_keys').select(['body_hash', 'answer']),
    key,
  ).executeTakeFirstOrThrow()
  if (!known.body_hash.equals(body_hash)) {
    throw new Fault(
      'operation_not_supported',
      `The Idempotency-Key ${use.key} was used for a different request. Use a new key.`,
    )
  }
  return { answer: known.answer as T, replayed: true }
}

type Key = { team_id: string; caller: string; route: string; key: string }

function matching<Q extends { where(column: never, operator: '=', value: string): Q }>(query: Q, key: Key): Q {
  return Object.entries(key).reduce((q, [column, value]) => q.where(column as never, '=', value), query)
}

const callerName = (caller: Caller): string => (caller.kind === 'execution' ? caller.execution_id : caller.user_id)
