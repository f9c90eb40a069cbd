/** Where this machine's server has its master keys from. */
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Keyring } from '../engine/keyring.ts'
import { CommandFailure } from './exits.ts'
import type { Environment } from './settings.ts'

/** Beside the data of the embedded PostgreSQL, for its owner alone. */
export const KEY_FILE = 'secret-keys'

export type KeyPlace = { env: Environment; cwd: string; data_dir: string; database_url: string | undefined }

/**
 * `BATON_SECRET_KEY`, the file that `BATON_SECRET_KEY_FILE` names, and the data folder. There a key is made when it is
 * first needed, but not for an outside PostgreSQL: another server on it would not have it.
 */
export async function openKeys({ env, cwd, data_dir, database_url }: KeyPlace): Promise<Keyring> {
  const { openKeyring, KeyringRefused } = await import('../engine/keyring.ts')
  const given = []
  if (env.BATON_SECRET_KEY) given.push({ text: env.BATON_SECRET_KEY, from: 'BATON_SECRET_KEY' })
  if (env.BATON_SECRET_KEY_FILE) {
    const path = resolve(cwd, env.BATON_SECRET_KEY_FILE)
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      throw new CommandFailure('usage', `BATON_SECRET_KEY_FILE ${path} cannot be read (${error.code}).`)
    })
    given.push({ text, from: path })
  }
  try {
    return await openKeyring({ given, file: join(data_dir, KEY_FILE), may_make: database_url === undefined })
  } catch (error) {
    if (!(error instanceof KeyringRefused)) throw error
    throw new CommandFailure('usage', error.message, 'Make one with: openssl rand -base64 32')
  }
}
