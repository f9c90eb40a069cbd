/** Everything on one machine: PostgreSQL, server and worker, opened in order and closed in the opposite one. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Logger } from 'pino'
import { API_KEY_PATTERN } from '../contract/index.ts'
import type { BlobStore } from '../engine/blobs.ts'
import type { UserCaller } from '../engine/caller.ts'
import type { Engine } from '../engine/engine.ts'
import { type BlobPlace, findBlobs, nameOfBlobs, openBlobs } from './blob-place.ts'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'
import { openKeys } from './master-keys.ts'
import type { Progress } from './output.ts'
import { writePrivate } from './private-file.ts'
import { quickRunner } from './quick-runner.ts'
import { cacheFolder } from './settings.ts'
import { parseDuration } from './text.ts'

const DAY_MS = 24 * 3_600_000

export type HouseOptions = {
  data_dir: string
  /** An outside PostgreSQL instead of the embedded one. */
  database_url?: string | undefined
  blob_dir?: string | undefined
  host: string
  port: number
  public_hosts?: string[]
  log_level: string
  /** Runs that the team may have under way; as it was where absent. */
  max_concurrent?: number | undefined
  /** The machine is one person's own, whose disk and git logins the server may read repositories with. */
  own_machine: boolean
  progress: Progress
}

export type House = {
  url: string
  api_key: string
  /** The key was made by this start. */
  first_start: boolean
  /** What the team may have under way. */
  max_concurrent_runs: number
  log: Logger
  /** Opens a browser session once, within five minutes. */
  loginLink(): Promise<string>
  close(): Promise<void>
}

export async function openLog(level: string): Promise<Logger> {
  const { pino } = await import('pino')
  const levels = Object.keys(pino.levels.values)
  if (!levels.includes(level) && level !== 'silent')
    throw new CommandFailure('usage', `"${level}" is not a log level.`, `Choose one of ${levels.join(', ')}, silent.`)
  return pino({ level, base: null }, pino.destination({ dest: 2, sync: true }))
}

export async function openHouse(context: Context, options: HouseOptions): Promise<House> {
  const log = await openLog(options.log_level)
  const place = findBlobs({ env: context.env, cwd: context.cwd, ...options })
  const firings_kept_ms = keptFor(context.env.BATON_KEEP_FIRINGS)
  const closers: (() => Promise<unknown>)[] = []
  const close = async (): Promise<void> => {
    for (let next = closers.pop(); next; next = closers.pop()) await next()
  }
  try {
    options.progress.say('Starting PostgreSQL')
    const { databaseClock, migrate, openDatabase, openEmbedded, openServer, skillReader } = await loadParts()
    const embedded =
      options.database_url === undefined
        ? await openEmbedded({
            data_dir: options.data_dir,
            cache_dir: cacheFolder(context.env),
            log,
            signal: context.signal,
          })
        : null
    if (embedded) closers.push(() => embedded.close())
    const database = openDatabase(
      embedded ? { connection: embedded.connection } : { url: options.database_url ?? '' },
      { log },
    )
    closers.push(() => database.close())
    options.progress.say('Preparing the database')
    await migrate(database, { log }).catch((error: unknown) => {
      throw databaseAway(error, options)
    })
    const clock = await databaseClock(database)
    closers.push(async () => clock.close())
    options.progress.say('Starting the server')
    const blobs = await openBlobs(place, options.data_dir, log)
    lookAt(blobs, place, log)
    const keyring = await openKeys({ ...context, data_dir: options.data_dir, database_url: options.database_url })
    const public_url = publicUrl(context.env.BATON_PUBLIC_URL)
    const server = await openServer({
      database,
      clock,
      blobs,
      keyring,
      ...(public_url && { public_url }),
      ...(firings_kept_ms && { engine_limits: { firings_kept_ms } }),
      log,
      host: options.host,
      port: options.port,
      skills: skillReader({
        folder: join(options.data_dir, 'skills'),
        env: context.env,
        own_machine: options.own_machine,
      }),
      web_dir: webFolder(),
      ...(options.public_hosts && { public_hosts: options.public_hosts }),
    }).catch((error: unknown) => {
      throw portRefusal(error, options)
    })
    closers.push(() => server.close())
    const { access } = server.engine
    const { owner, ...key } = await ownKey(options, access)
    if (options.max_concurrent !== undefined) await access.limitRuns(owner, options.max_concurrent)
    const { team } = await access.whoami(owner)
    await embedded?.announce(server.url)
    const loginLink = async (): Promise<string> => {
      return `${server.url}/login#code=${(await access.createLoginCode(owner)).code}`
    }
    return { url: server.url, ...key, max_concurrent_runs: team.max_concurrent_runs, log, loginLink, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function loadParts() {
  const [clock, connect, embedded, migrate, skills, server] = await Promise.all([
    import('../db/clock.ts'),
    import('../db/connect.ts'),
    import('../db/embedded.ts'),
    import('../db/migrate.ts'),
    import('../engine/skill-reader.ts'),
    import('../server/server.ts'),
  ])
  return { ...clock, ...connect, ...embedded, ...migrate, ...skills, ...server }
}

/** A store elsewhere that cannot be used is said at once; nobody is kept waiting, as it may come back. */
function lookAt(blobs: BlobStore, place: BlobPlace, log: Logger): void {
  blobs.size('0'.repeat(64)).then(
    () => log.info({ blobs: nameOfBlobs(place) }, 'blobs.ready'),
    (error: unknown) => log.error({ blobs: nameOfBlobs(place), err: error }, 'blobs.away'),
  )
}

type OwnKey = { api_key: string; first_start: boolean; owner: UserCaller }

/** The key that this machine's own command line and worker use, kept beside the data for its owner alone. */
async function ownKey(options: HouseOptions, access: Engine['access']): Promise<OwnKey> {
  const file = join(options.data_dir, 'local-key')
  const first = await access.prepare()
  const kept = first.api_key ?? (await readFile(file, 'utf8').catch(() => '')).trim()
  const known =
    first.api_key !== null || (API_KEY_PATTERN.test(kept) && (await access.identify({ token: kept })) !== null)
  const api_key = known
    ? kept
    : (await access.createKey(first.caller, { name: `local key of ${hostname()}`, scope: 'personal' })).api_key
  if (first.api_key !== null || !known) await writePrivate(file, `${api_key}\n`)
  return { api_key, first_start: first.api_key !== null, owner: first.caller }
}

/** The built web page: beside the bundle, or in `dist` when the sources themselves run. */
function webFolder(): string | null {
  const places = [new URL('./web/', import.meta.url), new URL('../../dist/web/', import.meta.url)].map((url) =>
    fileURLToPath(url),
  )
  return places.find((place) => existsSync(join(place, 'index.html'))) ?? null
}

/** Where others reach the server, as its tokens name their issuer. */
function publicUrl(given: string | undefined): string | undefined {
  if (!given) return undefined
  const url = URL.parse(given)
  if (url && /^https?:$/.test(url.protocol) && !url.username && !url.search && !url.hash) return given
  throw new CommandFailure(
    'usage',
    'BATON_PUBLIC_URL is not the address of a server.',
    'Give it as https://baton.example, where others reach this server.',
  )
}

/** How long the history of schedules is kept, in milliseconds. */
function keptFor(given: string | undefined): number | undefined {
  if (!given) return undefined
  const ms = parseDuration(given)
  if (ms !== null && ms >= DAY_MS) return ms
  throw new CommandFailure(
    'usage',
    `BATON_KEEP_FIRINGS "${given}" is no duration of a day or more.`,
    'Write it as 90d, which is what holds without it.',
  )
}

function portRefusal(error: unknown, options: HouseOptions): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'EADDRINUSE') {
    return new CommandFailure(
      'conflict',
      `Port ${options.port} on ${options.host} is taken by another program.`,
      'Choose another with --port, or any free one with --port 0.',
    )
  }
  if (code === 'EACCES')
    return new CommandFailure(
      'failed',
      `Port ${options.port} may not be used by this user.`,
      'Choose one above 1023 with --port.',
    )
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new CommandFailure('usage', `${options.host} is no address of this machine.`, 'Choose another with --host.')
  return error
}

function databaseAway(error: unknown, options: HouseOptions): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (options.database_url === undefined || !/^(E[A-Z]+|28...|3D000)$/.test(code)) return error
  const where = URL.canParse(options.database_url) ? new URL(options.database_url).host : 'the given address'
  const why = error instanceof Error && error.message !== '' ? error.message : code
  return new CommandFailure('unreachable', `PostgreSQL at ${where} cannot be used: ${why}.`, 'Check DATABASE_URL.')
}

/** A name for this machine's worker that the public protocol allows. */
export function workerName(): string {
  const name =
    hostname()
      .toLowerCase()
      .replace(/[^a-z0-9._-]/g, '-') || 'worker'
  return name.startsWith('warp') ? `host-${name}` : name
}

export const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.')

export type WorkerHouseOptions = {
  server: string
  api_key: string
  worker_id: string
  capacity: number
  state_dir: string
  log: Logger
  allow_local_repositories: boolean
  runner_env?: Record<string, string>
}

export async function startWorker(context: Context, options: WorkerHouseOptions) {
  const [{ openWorker }, { readModels }] = await Promise.all([
    import('../worker/worker.ts'),
    import('../worker/models.ts'),
  ])
  const { runner_env, ...rest } = options
  return openWorker({
    ...rest,
    version: context.version,
    backend: 'process',
    models: readModels(context.env),
    harnesses: [],
    runner: { command: context.self, quick: quickRunner(context), ...(runner_env && { env: runner_env }) },
    environment: context.env,
    signal: new AbortController().signal,
  })
}

export function untilStopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
