/**
 * Addresses that speak for themselves: whoever holds one may do what it names until it expires, without a key. Each
 * purpose has a secret of its own, which all servers on this database share; so no address serves for anything else.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { Fault } from '../contract/index.ts'
import type { Clock } from '../db/clock.ts'
import type { Database } from '../db/connect.ts'

/** Under which each kind of address is signed. */
export type SignedPurpose = 'artifacts' | 'transcripts' | 'conversation_files' | 'uploads' | 'attachments'

export type Signer = {
  /** `query` goes after the `?` of the address of `subject`; both are good until `expires_at` (RFC 3339). */
  sign(purpose: SignedPurpose, subject: string, lasts_ms: number): Promise<{ query: string; expires_at: string }>
  /** Throws `not_authorized` unless `query` was signed here for this subject and has not expired. */
  check(purpose: SignedPurpose, subject: string, query: Record<string, string>): Promise<void>
}

const SECRET_BYTES = 32

const Signed = z.object({ expires: z.coerce.number().int(), signature: z.string() })

export function signer({ kysely: db }: Database, clock: Clock): Signer {
  const secrets = new Map<SignedPurpose, Promise<Buffer>>()

  /** Made by the first server that needs it. */
  async function readSecret(purpose: SignedPurpose): Promise<Buffer> {
    await db
      .insertInto('signing_keys')
      .values({ purpose, secret: randomBytes(SECRET_BYTES), created_at: clock.now() })
      .onConflict((one) => one.doNothing())
      .execute()
    const key = await db
      .selectFrom('signing_keys')
      .select('secret')
      .where('purpose', '=', purpose)
      .executeTakeFirstOrThrow()
    return key.secret
  }

  function secretOf(purpose: SignedPurpose): Promise<Buffer> {
    const known = secrets.get(purpose)
    if (known !== undefined) return known
    const secret = readSecret(purpose)
    secrets.set(purpose, secret)
    secret.catch(() => secrets.delete(purpose))
    return secret
  }

  const signatureOf = async (purpose: SignedPurpose, subject: string, expires: number): Promise<Buffer> =>
    createHmac('sha256', await secretOf(purpose))
      .update(`${subject}\n${expires}`)
      .digest()

  return {
    async sign(purpose, subject, lasts_ms) {
      const expires = Math.floor((clock.now().getTime() + lasts_ms) / 1000)
      const signature = (await signatureOf(purpose, subject, expires)).toString('base64url')
      return { query: `expires=${expires}&signature=${signature}`, expires_at: new Date(expires * 1000).toISOString() }
    },

    async check(purpose, subject, query) {
      const signed = Signed.safeParse(query)
      const wrong = () => new Fault('not_authorized', 'This address is not one that the server has signed.')
      if (!signed.success) throw wrong()
      const { expires, signature } = signed.data
      const given = Buffer.from(signature, 'base64url')
      const right = await signatureOf(purpose, subject, expires)
      if (given.length !== right.length || !timingSafeEqual(given, right)) throw wrong()
      if (expires * 1000 <= clock.now().getTime())
        throw new Fault('not_authorized', 'This address has expired. Ask again for what it names to get a new one.')
    },
  }
}
