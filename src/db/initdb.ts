/** Makes a new PostgreSQL data folder, whole or not at all. */
import { spawn } from 'node:child_process'
import { chown, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Binaries } from './binaries.ts'
import { folderRefusal, type Place } from './place.ts'
import type { PostgresUser } from './postgres-user.ts'
import { DatabaseRefused } from './refusals.ts'

export const SUPERUSER = 'baton'
/** What the embedded PostgreSQL and its tools see of the environment: nothing of ours. */
export const POSTGRES_ENVIRONMENT = { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', TZ: 'UTC' }

const INITDB_MS_MAX = 300_000
/** Older than any initdb that may still be running. */
const LEFTOVER_MS = 2 * INITDB_MS_MAX

type Options = { durable: boolean; signal?: AbortSignal }

/** Does nothing where data already lies; refuses data of another major version. */
export async function makeCluster(
  place: Place,
  binaries: Binaries,
  user: PostgresUser | null,
  options: Options,
): Promise<void> {
  const major = await clusterMajor(place.cluster)
  if (major === null) return initialise(place, binaries, user, options)
  if (major === binaries.major) return
  const older = major < binaries.major
  const away = older ? 'the Baton that made it' : 'a Baton that brings it'
  throw new DatabaseRefused(
    older ? 'older_postgres' : 'newer_postgres',
    `The data folder ${place.data_dir} holds data of PostgreSQL ${major}; this Baton brings PostgreSQL ${binaries.major}. Move the data with ${away}:\n` +
      `  baton export --data-dir ${place.data_dir} FOLDER\nand then with this one:\n  baton import --data-dir NEW_FOLDER FOLDER`,
  )
}

async function clusterMajor(cluster: string): Promise<number | null> {
  const version = await readFile(join(cluster, 'PG_VERSION'), 'utf8').catch(() => null)
  return version === null ? null : Number.parseInt(version, 10)
}

async function initialise(
  place: Place,
  binaries: Binaries,
  user: PostgresUser | null,
  options: Options,
): Promise<void> {
  const unfinished = await makeUnfinished(place, user)
  try {
    const result = await runInitdb(unfinished, binaries, user, options)
    if (result.code !== 0) throw initdbRefusal(place, result.output)
    await rename(unfinished, place.cluster)
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    // Another process made it first.
    if ((await clusterMajor(place.cluster)) !== null) return
    throw error instanceof DatabaseRefused || options.signal?.aborted ? error : folderRefusal(place.data_dir, error)
  }
}

async function makeUnfinished(place: Place, user: PostgresUser | null): Promise<string> {
  const parent = dirname(place.cluster)
  const prefix = `${basename(place.cluster)}.new-`
  try {
    for (const name of await readdir(parent)) {
      if (!name.startsWith(prefix)) continue
      const leftover = join(parent, name)
      if (Date.now() - (await stat(leftover)).mtimeMs > LEFTOVER_MS)
        await rm(leftover, { recursive: true, force: true })
    }
    const folder = await mkdtemp(join(parent, prefix))
    if (user !== null) await chown(folder, user.uid, user.gid)
    return folder
  } catch (cause) {
    throw folderRefusal(place.data_dir, cause)
  }
}

async function runInitdb(folder: string, binaries: Binaries, user: PostgresUser | null, options: Options) {
  const argv = [
    '--pgdata',
    folder,
    '--username',
    SUPERUSER,
    '--auth',
    'trust',
    '--encoding',
    'UTF8',
    '--no-instructions',
    // The built-in provider sorts the same on every machine; macOS knows no C.UTF-8 of its own.
    '--locale-provider',
    'builtin',
    '--builtin-locale',
    'C.UTF-8',
    '--locale',
    process.platform === 'linux' ? 'C.UTF-8' : 'C',
    ...(options.durable ? [] : ['--no-sync']),
  ]
  const child = spawn(binaries.initdb, argv, {
    ...user,
    cwd: '/',
    env: POSTGRES_ENVIRONMENT,
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.any([AbortSignal.timeout(INITDB_MS_MAX), ...(options.signal ? [options.signal] : [])]),
  })
  const ended = new Promise<number | null>((resolve, reject) => child.once('error', reject).once('exit', resolve))
  try {
    const [code, out, err] = await Promise.all([ended, text(child.stdout), text(child.stderr)])
    return { code, output: `${out}${err}` }
  } catch (cause) {
    throw options.signal?.aborted ? cause : spawnRefusal(cause)
  }
}

function initdbRefusal(place: Place, output: string): DatabaseRefused {
  const disk = diskRefusal(place, output)
  if (disk !== null) return disk
  if (/user does not exist/.test(output)) {
    return new DatabaseRefused(
      'start_failed',
      `PostgreSQL does not run under a uid without a name, and ${process.getuid?.()} has none in ` +
        '/etc/passwd. Run Baton as a named user or as root, or set DATABASE_URL to a PostgreSQL server.',
    )
  }
  return new DatabaseRefused(
    'start_failed',
    `PostgreSQL's initdb failed in ${place.data_dir}:\n${output.trim().split('\n').slice(-10).join('\n')}`,
  )
}

/** What PostgreSQL's words say of the disk, if anything. */
export function diskRefusal(place: Place, words: string): DatabaseRefused | null {
  const line = words
    .split('\n')
    .find((one) => /No space left on device|Disk quota exceeded|Read-only file system/.test(one))
  if (line === undefined) return null
  return folderRefusal(
    place.data_dir,
    Object.assign(new Error(line), { code: /Read-only/.test(line) ? 'EROFS' : 'ENOSPC' }),
  )
}

export function spawnRefusal(cause: unknown): DatabaseRefused {
  const why = cause instanceof Error ? cause.message : String(cause)
  const hint = /EPERM/.test(why)
    ? 'Root may not change to the user nobody here (CAP_SETUID is missing).'
    : 'The binaries need glibc 2.28 or newer, or macOS.'
  return new DatabaseRefused(
    'start_failed',
    `The PostgreSQL binaries do not run here (${why}). ${hint} Set DATABASE_URL to a PostgreSQL server instead.`,
    { cause },
  )
}
