/**
 * Who runs the embedded PostgreSQL. It refuses to run as root, so root runs it under the uid of `nobody`; everyone
 * else under his own (null). No user is ever created.
 */
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

export type PostgresUser = { uid: number; gid: number }

/** What Linux calls the overflow uid: `nobody` where /etc/passwd has none. */
const NOBODY: PostgresUser = { uid: 65_534, gid: 65_534 }

export async function postgresUser(): Promise<PostgresUser | null> {
  if (process.getuid?.() !== 0) return null
  const passwd = await readFile('/etc/passwd', 'utf8').catch(() => '')
  const fields = passwd
    .split('\n')
    .find((line) => line.startsWith('nobody:'))
    ?.split(':')
  if (fields?.[2] === undefined || fields[3] === undefined) return NOBODY
  // macOS writes -2.
  return { uid: Number(fields[2]) >>> 0, gid: Number(fields[3]) >>> 0 }
}

/** Can this user come to the file and read it? Judged by modes alone, from the root down; null is ourselves. */
export async function isReachable(path: string, user: PostgresUser | null): Promise<boolean> {
  if (user === null)
    return stat(path).then(
      () => true,
      () => false,
    )
  const target = await stat(path).catch(() => null)
  if (target === null || !allows(target, user, target.isDirectory() ? 0o1 : 0o5)) return false
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (!allows(await stat(folder), user, 0o1)) return false
    if (folder === dirname(folder)) return true
  }
}

function allows(file: { uid: number; gid: number; mode: number }, user: PostgresUser, bits: number): boolean {
  const shift = file.uid === user.uid ? 6 : file.gid === user.gid ? 3 : 0
  return ((file.mode >> shift) & bits) === bits
}
