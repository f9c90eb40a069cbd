/**
 * Envelope encryption: a value is encrypted with a random key of its own, and that key with a master key, both by
 * AES-256-GCM. Both are bound to the row that they stand in (`bound`), so that what is moved to another row does not
 * open. Another master key takes over by locking the key of the value anew; the value itself is not touched.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import { Fault } from '../contract/index.ts'
import type { Room } from './engine.ts'
import type { Keyring, MasterKey } from './keyring.ts'

/** As its columns. */
export type Sealed = { key_id: string; wrapped_key: Buffer; ciphertext: Buffer }

const NONCE_BYTES = 12
const TAG_BYTES = 16
const KEY_BYTES = 32

export function seal(master: MasterKey, plain: Buffer, bound: string): Sealed {
  const key = randomBytes(KEY_BYTES)
  return {
    key_id: master.key_id,
    wrapped_key: encrypt(master.key, key, wrapBound(bound)),
    ciphertext: encrypt(key, plain, bound),
  }
}

/** Throws the fault that says which key is missing, or that the row is not what was written. */
export function unseal(keyring: Keyring, sealed: Sealed, bound: string): Buffer {
  return decrypt(dataKey(keyring, sealed, bound), sealed.ciphertext, bound)
}

/** The same value locked with another master key. */
export function rewrap(keyring: Keyring, master: MasterKey, sealed: Sealed, bound: string): Omit<Sealed, 'ciphertext'> {
  const wrapped_key = encrypt(master.key, dataKey(keyring, sealed, bound), wrapBound(bound))
  return { key_id: master.key_id, wrapped_key }
}

/** The key that locks what is new; made where there is none and nothing was ever locked with another. */
export async function newestKey(room: Pick<Room, 'database' | 'keyring'>): Promise<MasterKey> {
  const { keyring } = room
  const missing = await missingKeys(room)
  const [newest] = keyring.keys()
  const opens_any = newest !== undefined && (missing.in_use === 0 || missing.in_use > missing.key_ids.length)
  if (opens_any) return newest
  if (missing.key_ids.length > 0) throw keyMissing(keyring, missing.key_ids[0] ?? '')
  if (keyring.make === null) {
    throw new Fault('operation_not_supported', `This server has no master key to lock secrets with. ${keyring.how}.`)
  }
  return keyring.make()
}

/** Master keys that the database needs, how many in all, and which of them this server has not. */
export async function missingKeys({ database, keyring }: Pick<Room, 'database' | 'keyring'>) {
  const { rows } = await sql<{ key_id: string }>`
    select key_id from secret_versions union select key_id from issuer_keys order by key_id`.execute(database.kysely)
  const key_ids = rows.map((row) => row.key_id).filter((key_id) => keyring.find(key_id) === undefined)
  return { in_use: rows.length, key_ids }
}

export const keyMissing = (keyring: Keyring, key_id: string): Fault =>
  new Fault(
    'internal_error',
    `This is locked with the master key ${key_id}, which this server does not have. ${keyring.how}. Nothing is lost.`,
    { status: 503, retryable: false },
  )

function dataKey(keyring: Keyring, { key_id, wrapped_key }: Sealed, bound: string): Buffer {
  const master = keyring.find(key_id)
  if (master === undefined) throw keyMissing(keyring, key_id)
  return decrypt(master.key, wrapped_key, wrapBound(bound))
}

/** A key that is locked never passes for a value. */
const wrapBound = (bound: string): string => `key of ${bound}`

function encrypt(key: Buffer, plain: Buffer, bound: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(bound))
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function decrypt(key: Buffer, locked: Buffer, bound: string): Buffer {
  const end = locked.length - TAG_BYTES
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, locked.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
    decipher.setAAD(Buffer.from(bound))
    decipher.setAuthTag(locked.subarray(end))
    return Buffer.concat([decipher.update(locked.subarray(NONCE_BYTES, end)), decipher.final()])
  } catch {
    throw new Fault(
      'internal_error',
      `What is kept as ${bound} is not what was written there: the database was changed or damaged. Give it again.`,
      { retryable: false },
    )
  }
}
