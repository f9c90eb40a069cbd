/**
 * Where an embedded PostgreSQL keeps its data.
 *
 * Usually in `<data_dir>/postgres`. Root's PostgreSQL runs as `nobody`; when `nobody` cannot pass through the data folder (it lies
 * in root's home, say), the data goes to a folder of its own below /var/lib/baton, and `<data_dir>/postgres.json` says which.
 * A data folder that does not exist is made so that others can pass through it (root) or for its owner alone.
 */
import { randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, mkdtemp, readFile, realpath, rename, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { isReachable, type PostgresUser } from './postgres-user.ts'
import { DatabaseRefused } from './refusals.ts'

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

export async function findPlace(data_dir: string, user: PostgresUser | null, away_dir = '/var/lib/baton'): Promise<Place> {
  const folder = await openFolder(resolve(data_dir), user)
  const record_file = join(folder, 'postgres.json')
  const recorded = await readRecord(record_file)
  if (recorded !== null) {
    if (!(await isFolder(recorded))) {
      throw new DatabaseRefused('folder_not_usable', `${record_file} says that the PostgreSQL data lies in ${recorded}, which is not there. ` +
        `Put it back, or remove ${record_file} to start with an empty database.`)
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
  throw new DatabaseRefused('folder_not_usable', `The path of ${place.cluster} is too long for a socket, and there is no usable short ` +
    'temporary folder. Choose a data folder with a shorter path with --data-dir.')
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
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const why = cause instanceof Error ? cause.message : String(cause)
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new DatabaseRefused('disk_full', `The disk of the data folder ${data_dir} is full. Make room, then start again.`, { cause })
    case 'EROFS':
      return new DatabaseRefused('folder_not_usable', `The data folder ${data_dir} is on a read-only disk. Choose another with --data-dir.`, { cause })
    case 'EACCES':
    case 'EPERM':
      return new DatabaseRefused('folder_not_usable', `The data folder ${data_dir} cannot be written (${why}). ` +
        'Change its permissions, or choose another with --data-dir.', { cause })
    case 'ENOTDIR':
    case 'EEXIST':
      return new DatabaseRefused('folder_not_usable', `${data_dir} cannot be a data folder: a file is in the way. ` +
        'Choose another with --data-dir.', { cause })
    default:
      return new DatabaseRefused('folder_not_usable', `The data folder ${data_dir} cannot be used: ${why}`, { cause })
  }
}

async function makeAway(away_dir: string, data_dir: string): Promise<string> {
  try {
    const made = await mkdir(away_dir, { recursive: true })
    if (made !== undefined) await chmod(away_dir, 0o711)
    const folder = await mkdtemp(join(away_dir, `${basename(data_dir).replace(/[^\w.-]/g, '_')}-`))
    await chmod(folder, 0o711)
    return folder
  } catch (cause) {
    throw new DatabaseRefused('folder_not_usable', `PostgreSQL runs as nobody, who cannot pass through ${data_dir}, and ${away_dir} cannot be ` +
      `used instead (${cause instanceof Error ? cause.message : String(cause)}). Choose a data folder that others may pass through with ` +
      '--data-dir, or do not run as root.', { cause })
  }
}

async function readRecord(file: string): Promise<string | null> {
  const text = await readFile(file, 'utf8').catch(() => null)
  if (text === null) return null
  try {
    return Record.parse(JSON.parse(text)).cluster
  } catch (cause) {
    throw new DatabaseRefused('folder_not_usable', `${file} cannot be read. It should say where the PostgreSQL data lies: {"cluster": "/folder"}.`, { cause })
  }
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then((found) => found.isDirectory(), () => false)
}
