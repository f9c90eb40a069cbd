/**
 * Where an embedded PostgreSQL keeps its data.
 *
 * Usually in `<data_dir>/postgres`. Root's PostgreSQL runs as `nobody`; when `nobody` cannot pass through the data
 * folder (it lies in root's home, say), the data goes to a folder of its own below /var/lib/baton, and
 * `<data_dir>/postgres.json` says which. A data folder that does not exist is made so that others can pass through
 * it (root) or for its owner alone.
 */
import { randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, mkdtemp, readFile, realpath, rename, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { isReachable, type PostgresUser } from './postgres-user.ts'
import { type DatabaseRefusalReason, DatabaseRefused } from './refusals.ts'

export type Place = {
  data_dir: string
  /** PostgreSQL's own data folder; may not exist yet, its parent does. */
  cluster: string
  /** Not in `data_dir`. */
  is_away: boolean
  log_file: string
  owner_file: string
}

const Record = z.object({ cluster: z.string() })

/** sun_path holds 108 bytes on Linux, 104 on macOS, with the NUL at the end. */
const SOCKET_PATH_BYTES_MAX = process.platform === 'linux' ? 107 : 103
const SOCKET_NAME = '.s.PGSQL.5432'

export async function findPlace(
  data_dir: string,
  user: PostgresUser | null,
  away_dir = '/var/lib/baton',
): Promise<Place> {
  const folder = await openFolder(resolve(data_dir), user)
  const record_file = join(folder, 'postgres.json')
  const recorded = await readRecord(record_file)
  if (recorded !== null) {
    if (!(await isFolder(recorded))) {
      throw new DatabaseRefused(
        'folder_not_usable',
        `${record_file} says that the PostgreSQL data lies in ${recorded}, which is not there. ` +
          `Put it back, or remove ${record_file} to start with an empty database.`,
      )
    }
    return placeIn(folder, recorded)
  }
  const inside = join(folder, 'postgres')
  if ((await isFolder(inside)) || (await isReachable(folder, user))) return placeIn(folder, inside)
  const away = join(await makeAway(away_dir, folder), 'postgres')
  await mkdir(away, { mode: 0o700 })
  await writeWhole(record_file, JSON.stringify({ cluster: away }))
  return placeIn(folder, away)
}

/** Where the socket goes: the data folder itself, or a short private one where that path is too long for a socket. */
export async function makeSocketFolder(place: Place, user: PostgresUser | null): Promise<string> {
  if (Buffer.byteLength(join(place.cluster, SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX) return place.cluster
  for (const root of [tmpdir(), '/tmp']) {
    if (!(await isReachable(root, user)) || Buffer.byteLength(root) > SOCKET_PATH_BYTES_MAX - 40) continue
    const folder = await mkdtemp(join(root, 'baton-socket-'))
    if (user !== null) await chown(folder, user.uid, user.gid)
    return folder
  }
  throw new DatabaseRefused(
    'folder_not_usable',
    `The path of ${place.cluster} is too long for a socket, and there is no usable short ` +
      'temporary folder. Choose a data folder with a shorter path with --data-dir.',
  )
}

/** Complete or unchanged, also when we are killed. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const unfinished = `${path}.${randomBytes(4).toString('hex')}`
  await writeFile(unfinished, text, { mode: 0o600 })
  await rename(unfinished, path)
}

function placeIn(data_dir: string, cluster: string): Place {
  return {
    data_dir,
    cluster,
    is_away: dirname(cluster) !== data_dir,
    log_file: join(data_dir, 'postgres.log'),
    owner_file: join(data_dir, 'postgres.owner.json'),
  }
}

async function openFolder(data_dir: string, user: PostgresUser | null): Promise<string> {
  try {
    const made = await mkdir(data_dir, { recursive: true, mode: user === null ? 0o700 : 0o711 })
    // What mkdir asks for, the umask takes away again.
    if (made !== undefined && user !== null) await chmod(data_dir, 0o711)
    return await realpath(data_dir)
  } catch (cause) {
    throw folderRefusal(data_dir, cause)
  }
}

export function folderRefusal(data_dir: string, cause: unknown): DatabaseRefused {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
  const why = cause instanceof Error ? cause.message : String(cause)
  const known = FOLDER_REFUSALS.find((refusal) => refusal.codes.some((one) => one === code))
  const says = known?.says ?? 'cannot be used'
  const advice = known?.advice ?? 'Choose another with --data-dir.'
  return new DatabaseRefused(
    known?.reason ?? 'folder_not_usable',
    `The data folder ${data_dir} ${says} (${why}). ${advice}`,
    { cause },
  )
}

const FOLDER_REFUSALS = [
  {
    codes: ['ENOSPC', 'EDQUOT'],
    reason: 'disk_full',
    says: 'is on a full disk',
    advice: 'Make room, then start again.',
  },
  {
    codes: ['EROFS'],
    reason: 'folder_not_usable',
    says: 'is on a read-only disk',
    advice: 'Choose another with --data-dir.',
  },
  {
    // What Node's recursive mkdir makes of a read-only disk.
    codes: ['ENOENT'],
    reason: 'folder_not_usable',
    says: 'cannot be made, perhaps because the disk is read-only',
    advice: 'Choose another with --data-dir.',
  },
  {
    codes: ['EACCES', 'EPERM'],
    reason: 'folder_not_usable',
    says: 'cannot be written',
    advice: 'Change its permissions, or choose another with --data-dir.',
  },
  {
    codes: ['ENOTDIR', 'EEXIST'],
    reason: 'folder_not_usable',
    says: 'cannot be a folder: a file is in the way',
    advice: 'Choose another with --data-dir.',
  },
] as const satisfies readonly {
  codes: readonly string[]
  reason: DatabaseRefusalReason
  says: string
  advice: string
}[]

async function makeAway(away_dir: string, data_dir: string): Promise<string> {
  try {
    const made = await mkdir(away_dir, { recursive: true })
    if (made !== undefined) await chmod(away_dir, 0o711)
    const folder = await mkdtemp(join(away_dir, `${basename(data_dir).replace(/[^\w.-]/g, '_')}-`))
    await chmod(folder, 0o711)
    return folder
  } catch (cause) {
    throw new DatabaseRefused(
      'folder_not_usable',
      `PostgreSQL runs as nobody, who cannot pass through ${data_dir}, and ${away_dir} cannot be ` +
        `used instead (${cause instanceof Error ? cause.message : String(cause)}). Choose a data folder that others may pass through with ` +
        '--data-dir, or do not run as root.',
      { cause },
    )
  }
}

async function readRecord(file: string): Promise<string | null> {
  const text = await readFile(file, 'utf8').catch(() => null)
  if (text === null) return null
  try {
    return Record.parse(JSON.parse(text)).cluster
  } catch (cause) {
    throw new DatabaseRefused(
      'folder_not_usable',
      `${file} cannot be read. It should say where the PostgreSQL data lies: {"cluster": "/folder"}.`,
      { cause },
    )
  }
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}
