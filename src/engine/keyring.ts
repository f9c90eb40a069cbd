/**
 * Master keys: what everything secret in the database is locked with. They are never in the database: the operator
 * gives them, or this server keeps them in a file beside its data (0600), where it may make one itself.
 *
 * There may be several at once; the first is the newest and locks what is new, the others open what is old.
 */
import { createHash, randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

const KEY_BYTES = 32

export type MasterKey = { key_id: string; key: Buffer }

export type Keyring = {
  /** Newest first. */
  keys(): readonly MasterKey[]
  find(key_id: string): MasterKey | undefined
  /** Makes a key, keeps it, and puts it first; null where the keys are the operator's. */
  make: (() => Promise<MasterKey>) | null
  /** What an operator has to do to give keys. */
  how: string
}

export class KeyringRefused extends Error {
  override readonly name = 'KeyringRefused'
}

export type KeyringOptions = {
  /** Keys as the operator wrote them, newest first: base64 or hex, several apart by commas or white space. */
  given?: { text: string; from: string }[]
  /** This server's own; absent: it keeps none. */
  file?: string | null
  /** Whether it may make keys itself, where the operator gives none. */
  may_make?: boolean
}

/** Throws `KeyringRefused` for what is no key. */
export async function openKeyring({ given = [], file = null, may_make = true }: KeyringOptions): Promise<Keyring> {
  const operators = given.flatMap(({ text, from }) => parseKeys(text, from))
  let own = file === null ? [] : parseKeys(await readOwn(file), file)
  let making: Promise<MasterKey> | null = null
  const keys = () => [...operators, ...own.filter(({ key_id }) => !operators.some((one) => one.key_id === key_id))]

  async function add(path: string): Promise<MasterKey> {
    const made = keyOf(randomBytes(KEY_BYTES))
    const all = [made, ...own]
    await writeDurably(path, FILE_HEADER + all.map(({ key }) => `${key.toString('base64')}\n`).join(''))
    own = all
    return made
  }

  return {
    keys,
    find: (key_id) => keys().find((one) => one.key_id === key_id),
    make:
      file === null || operators.length > 0 || !may_make
        ? null
        : () => {
            making ??= add(file).finally(() => {
              making = null
            })
            return making
          },
    how: operators.length === 0 && own.length === 0 && !may_make ? NO_KEYS.how : putBack(file),
  }
}

const putBack = (file: string | null): string =>
  `Put the key back: into ${file === null ? '' : `${file}, or into `}BATON_SECRET_KEY of the server, then start it again`

/** A server without any. */
export const NO_KEYS: Keyring = {
  keys: () => [],
  find: () => undefined,
  make: null,
  how: 'Give the server a key in BATON_SECRET_KEY (32 random bytes, such as from `openssl rand -base64 32`), then start it again',
}

const FILE_HEADER =
  '# Master keys of Baton, the newest first. Without them no secret in the database can be read.\n' +
  '# Keep a copy apart from copies of the database.\n'

async function readOwn(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw new KeyringRefused(`The master keys in ${path} cannot be read (${error.code ?? error.message}).`)
  })
}

function parseKeys(text: string, from: string): MasterKey[] {
  const words = text.replaceAll(/^\s*#.*$/gm, '').split(/[\s,]+/)
  return words.flatMap((word) => {
    if (word === '') return []
    const key = /^[0-9a-f]{64}$/i.test(word) ? Buffer.from(word, 'hex') : Buffer.from(word, 'base64')
    if (key.length === KEY_BYTES && /^[A-Za-z0-9+/_=-]+$/.test(word)) return keyOf(key)
    throw new KeyringRefused(
      `${from} holds what is no master key: each is ${KEY_BYTES} bytes in base64 or hex, such as from ` +
        '`openssl rand -base64 32`.',
    )
  })
}

/** The id tells nothing of the key, and is the same wherever the key is. */
const keyOf = (key: Buffer): MasterKey => ({
  key_id: createHash('sha256').update('baton master key\0').update(key).digest('hex').slice(0, 16),
  key,
})

/** Nothing is locked with a key that a power loss could take back. */
async function writeDurably(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
    const folder = await open(dirname(path), 'r')
    await folder.sync().finally(() => folder.close())
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}
