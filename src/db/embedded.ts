/**
 * The embedded PostgreSQL: a real one, from npm, on a unix socket in its own data folder.
 *
 * Who may connect: whoever may enter that folder (mode 0700), which is root and the user that runs PostgreSQL;
 * there is no password and no TCP port. PostgreSQL's own lock decides who runs on the folder, and a connection
 * whose `data_directory` is ours is the only proof that it runs. Who *owns* it is decided by an advisory lock in it
 * that the owner holds on one connection for as long as he lives: a second opener is refused by name; when the
 * owner was killed, PostgreSQL stays, and the next opener adopts it. While owned, a PostgreSQL that ended is
 * started again.
 */
import { readFile, realpath, rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Logger } from 'pino'
import { z } from 'zod'
import { type Binaries, findBinaries } from './binaries.ts'
import { clientConfig, type SocketConnection } from './connect.ts'
import { diskRefusal, makeCluster, SUPERUSER } from './initdb.ts'
import { findPlace, folderRefusal, makeSocketFolder, type Place, writeWhole } from './place.ts'
import {
  type PostgresProcess,
  readPostmaster,
  SETTINGS,
  startPostgres,
  stopPostgres,
  turnLog,
} from './postgres-process.ts'
import { type PostgresUser, postgresUser } from './postgres-user.ts'
import { DatabaseRefused, DataFolderInUse, type Owner } from './refusals.ts'

export type EmbeddedOptions = {
  data_dir: string
  log?: Logger
  signal?: AbortSignal
  /** Where a copy of the binaries goes, where one is needed. */
  cache_dir?: string
  /** Where root's data goes when PostgreSQL's user cannot pass through `data_dir`. */
  away_dir?: string
  /** Stands in for the installed package of binaries. */
  package_folder?: string
  /** Over `SETTINGS`. Tests alone may say `fsync: 'off'`. */
  settings?: Record<string, string>
}

export type Embedded = {
  connection: SocketConnection
  pid(): number
  /** It was running already, left behind by an owner who was killed. */
  adopted: boolean
  /** Tells later openers of the folder where the owner's server answers. */
  announce(url: string): Promise<void>
  /** Stops PostgreSQL cleanly, also an adopted one. */
  close(): Promise<void>
}

const DATABASE = 'baton'
const OWNER_LOCK = 7_226_837_002
const POLL_MS = 20
const START_MS_MAX = 60_000
/** A killed owner's session ends a moment after him. */
const OWNER_GONE_MS = 1_500
/** Another opener, or what a killed PostgreSQL left, may hold its lock for a moment. */
const LOCKED_MS_MAX = 15_000
const RESTART_MS = 1_000
const LOG_TURN_MS = 3_600_000

type Opening = { place: Place; binaries: Binaries; user: PostgresUser | null; options: EmbeddedOptions }
type Session = { client: pg.Client; socket: string; pid: number; started: PostgresProcess | null }

export async function openEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const opening = await prepare(options)
  const { place } = opening
  let session = await own(opening)
  const adopted = session.started === null
  options.log?.info({ data_dir: place.data_dir, pid: session.pid, adopted }, 'postgres.ready')
  const closing = new AbortController()
  const keeping = keep()
  const logTimer = setInterval(() => turnLog(place.log_file).catch(() => undefined), LOG_TURN_MS).unref()

  /** The owner's session ends only with PostgreSQL or by force; either way owning it again puts things right. */
  async function keep(): Promise<void> {
    while (!closing.signal.aborted) {
      await sessionEnd(session.client, closing.signal)
      while (!closing.signal.aborted) {
        options.log?.error({ pid: session.pid }, 'postgres.lost')
        try {
          session = await own({ ...opening, options: { ...options, signal: closing.signal } }, session.socket)
          options.log?.info({ pid: session.pid }, 'postgres.restarted')
          break
        } catch (error) {
          if (closing.signal.aborted) return
          options.log?.error(
            { error: error instanceof Error ? error.message : String(error) },
            'postgres.not_restarted',
          )
          await delay(RESTART_MS, undefined, { signal: closing.signal }).catch(() => undefined)
        }
      }
    }
  }

  return {
    connection: { host: session.socket, user: SUPERUSER, database: DATABASE },
    pid: () => session.pid,
    adopted,
    announce: (url) => writeWhole(place.owner_file, JSON.stringify({ pid: process.pid, url } satisfies Owner)),
    async close() {
      if (closing.signal.aborted) return keeping
      closing.abort()
      clearInterval(logTimer)
      await keeping
      await rm(place.owner_file, { force: true })
      await stopPostgres(session.pid, place.cluster)
      await session.client.end().catch(() => undefined)
      if (session.socket !== place.cluster) await rm(session.socket, { recursive: true, force: true })
    },
  }
}

async function prepare(options: EmbeddedOptions): Promise<Opening> {
  const user = await postgresUser()
  const place = await findPlace(options.data_dir, user, options.away_dir)
  const binaries = await findBinaries(user, {
    fallback_dir: place.is_away ? place.cluster.replace(/\/postgres$/, '') : place.data_dir,
    ...(options.cache_dir !== undefined && { cache_dir: options.cache_dir }),
    ...(options.package_folder !== undefined && { package_folder: options.package_folder }),
  })
  await makeCluster(place, binaries, user, {
    durable: options.settings?.fsync !== 'off',
    ...(options.signal && { signal: options.signal }),
  })
  return { place, binaries, user, options }
}

/** A session that holds the owner's lock, in a PostgreSQL that runs: found, or started. */
async function own(opening: Opening, socket?: string): Promise<Session> {
  const session = await reach(opening, socket)
  try {
    await lock(session.client, opening.place)
    await writeWhole(opening.place.owner_file, JSON.stringify({ pid: process.pid, url: null } satisfies Owner))
    const there = await session.client.query('select 1 from pg_database where datname = $1', [DATABASE])
    if (there.rowCount === 0) await session.client.query(`create database ${DATABASE}`)
    return session
  } catch (error) {
    await session.client.end().catch(() => undefined)
    if (session.started !== null && !(error instanceof DataFolderInUse))
      await stopPostgres(session.pid, opening.place.cluster)
    throw error
  }
}

async function reach(opening: Opening, socket_before?: string): Promise<Session> {
  const { place, options } = opening
  const began = performance.now()
  let started: PostgresProcess | null = null
  let socket = socket_before
  for (;;) {
    options.signal?.throwIfAborted()
    const running = await readPostmaster(place.cluster)
    const found = running === null ? 'absent' : await connect(place, running.socket)
    if (running !== null && found instanceof pg.Client) {
      return {
        client: found,
        socket: running.socket,
        pid: running.pid,
        started: running.pid === started?.pid ? started : null,
      }
    }
    const waited_ms = performance.now() - began
    const failure = started?.failure() ?? null
    if (failure !== null && !/lock file|shared memory block/.test(failure)) throw startRefusal(place, failure)
    if (failure !== null && waited_ms > LOCKED_MS_MAX) throw lockRefusal(place, failure)
    // Recovery after a crash may take long, and says that it is under way.
    if (found !== 'starting' && started !== null && failure === null && waited_ms > START_MS_MAX) {
      await stopPostgres(started.pid, place.cluster)
      throw startRefusal(place, `It did not answer within ${START_MS_MAX / 1000} s.`)
    }
    if (found === 'absent' && (started === null || failure !== null)) {
      if (failure !== null) await delay(10 * POLL_MS, undefined, { ...(options.signal && { signal: options.signal }) })
      socket ??= await makeSocketFolder(place, opening.user)
      const settings = { ...SETTINGS, unix_socket_directories: socket, ...options.settings }
      started = await startPostgres(place, opening.binaries, opening.user, settings).catch((cause: unknown) => {
        throw cause instanceof DatabaseRefused ? cause : folderRefusal(place.data_dir, cause)
      })
    }
    await delay(POLL_MS)
  }
}

/** Absent: nobody answers there, or it is the PostgreSQL of another folder. */
async function connect(place: Place, socket: string): Promise<pg.Client | 'absent' | 'starting'> {
  const config = clientConfig({ connection: { host: socket, user: SUPERUSER, database: 'postgres' } })
  const client = new pg.Client({ ...config, application_name: 'baton owner' })
  // Its end is looked for where it matters; without a listener it would end the process.
  client.on('error', () => undefined)
  try {
    await client.connect()
    const shown = await client.query<{ data_directory: string }>('show data_directory')
    if (shown.rows[0]?.data_directory === (await realpath(place.cluster))) return client
    await client.end()
    return 'absent'
  } catch (error) {
    await client.end().catch(() => undefined)
    return error instanceof Error && 'code' in error && error.code === '57P03' ? 'starting' : 'absent'
  }
}

async function lock(client: pg.Client, place: Place): Promise<void> {
  const deadline = performance.now() + OWNER_GONE_MS
  for (;;) {
    const answer = await client.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [OWNER_LOCK])
    if (answer.rows[0]?.held) return
    if (performance.now() > deadline) throw new DataFolderInUse(place.data_dir, await readOwner(place.owner_file))
    await delay(POLL_MS)
  }
}

const OwnerRecord = z.object({ pid: z.int(), url: z.string().nullable() })

async function readOwner(file: string): Promise<Owner | null> {
  const text = await readFile(file, 'utf8').catch(() => null)
  if (text === null) return null
  try {
    return OwnerRecord.parse(JSON.parse(text))
  } catch {
    // It only makes the refusal more helpful.
    return null
  }
}

async function sessionEnd(client: pg.Client, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const end = () => resolve()
  client.once('end', end).once('error', end)
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  await promise
  signal.removeEventListener('abort', end)
}

function startRefusal(place: Place, words: string): DatabaseRefused {
  const disk = diskRefusal(place, words)
  if (disk !== null) return disk
  return new DatabaseRefused(
    'start_failed',
    `PostgreSQL did not start in ${place.cluster}. Its last words (${place.log_file}):\n` +
      words.split('\n').slice(-10).join('\n'),
  )
}

function lockRefusal(place: Place, words: string): DatabaseRefused {
  return new DatabaseRefused(
    'start_failed',
    `PostgreSQL does not start in ${place.cluster}, because another process seems to hold it but does not ` +
      `answer:\n${words.split('\n').slice(-4).join('\n')}\nEnd that process. If it is certainly no PostgreSQL, remove ${place.cluster}/postmaster.pid by hand.`,
  )
}
