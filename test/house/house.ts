/**
 * A whole server for a test: real HTTP on a free port, a database of its own, the real engine, and scripted workers
 * over the real socket. Whatever it opened, `close` closes.
 */
import { deepStrictEqual } from 'node:assert'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Logger, pino } from 'pino'
import type { Role } from '../../src/contract/index.ts'
import { type Clock, databaseClock } from '../../src/db/clock.ts'
import type { Database } from '../../src/db/connect.ts'
import { type BlobStore, folderBlobs } from '../../src/engine/blobs.ts'
import type { UserCaller } from '../../src/engine/caller.ts'
import type { EngineLimits } from '../../src/engine/engine.ts'
import type { Keyring } from '../../src/engine/keyring.ts'
import { type ReadSkills, skillReader } from '../../src/engine/skill-reader.ts'
import { type Client, connect } from '../../src/sdk/client.ts'
import type { ServerLimits } from '../../src/server/limits.ts'
import type { CheckAnswer } from '../../src/server/room.ts'
import { openServer, type Server } from '../../src/server/server.ts'
import { freshDatabase } from './database.ts'
import { openScriptedWorker, type ScriptedWorker, type ScriptedWorkerOptions } from './worker.ts'

export type HouseOptions = {
  /** Given instead of a fresh one; then it is not closed with the house. */
  database?: Database
  /** The database's own time when absent. */
  clock?: Clock
  blobs_dir?: string
  /** Another store than the folder. */
  blobs?: BlobStore
  /** Without it no secrets can be kept. */
  keyring?: Keyring
  public_url?: string
  /** Repositories of this machine can be read for their skills. */
  reads_skills?: boolean
  /** Reads them in another way. */
  skills?: ReadSkills
  host?: string
  port?: number
  public_hosts?: string[]
  web_dir?: string | null
  limits?: Partial<ServerLimits>
  engine_limits?: Partial<EngineLimits>
  log?: Logger
  /** Runs at a time of the first team; 4 where absent. */
  max_concurrent_runs?: number
}

export type Person = { api_key: string; caller: UserCaller; client: Client }

export type House = {
  url: string
  port: number
  /** The first team's key, and the person that it stands for. */
  api_key: string
  owner: UserCaller
  /** The SDK with that key; it repeats nothing. */
  client: Client
  database: Database
  clock: Clock
  /** The server that runs now; another one after `restart`. */
  readonly server: Server
  /** The SDK with another key or token, or none. */
  clientFor(token: string | undefined): Client
  /** A second team with a person, who owns it, and a key. */
  addTeam(name: string): Promise<Person>
  /** Another person in the first team, with a key. */
  addMember(name: string, role: Role, email?: string): Promise<Person>
  worker(options?: Partial<ScriptedWorkerOptions>): Promise<ScriptedWorker>
  /** Another server on the same database. */
  sibling(options?: Partial<HouseOptions>): Promise<{
    server: Server
    client: Client
    worker(options?: Partial<ScriptedWorkerOptions>): Promise<ScriptedWorker>
  }>
  /** Closes the server and opens one on the same port and database. */
  restart(): Promise<void>
  close(): Promise<void>
}

export async function startHouse(options: HouseOptions = {}): Promise<House> {
  // Bugs are errors and belong on the test's output; nothing else does.
  const log = options.log ?? pino({ level: 'error' }, pino.destination(2))
  const closers: (() => Promise<unknown>)[] = []
  const database = options.database ?? (await freshDatabase({ pool_max: 20 }))
  if (!options.database) closers.push(() => database.close())
  const clock = options.clock ?? (await ownClock(database, closers))
  const blobs_dir = options.blobs_dir ?? (await mkdtemp(join(tmpdir(), 'baton-blobs-')))
  if (!options.blobs_dir) closers.push(() => rm(blobs_dir, { recursive: true, force: true }))

  const openOne = async (other: Partial<HouseOptions> = {}): Promise<Server> => {
    const { host, port, public_hosts, web_dir, limits, engine_limits, keyring, public_url } = { ...options, ...other }
    const server = await openServer({
      database,
      clock,
      blobs: options.blobs ?? folderBlobs(blobs_dir),
      log: other.log ?? log,
      port: port ?? 0,
      web_dir: web_dir ?? null,
      ...(options.reads_skills && {
        skills: skillReader({ folder: join(blobs_dir, 'skills'), env: process.env, own_machine: true }),
      }),
      ...(options.skills && { skills: options.skills }),
      checkAnswer,
      ...(host && { host }),
      ...(keyring && { keyring }),
      ...(public_url && { public_url }),
      ...(public_hosts && { public_hosts }),
      ...(limits && { limits }),
      ...(engine_limits && { engine_limits }),
    })
    closers.unshift(() => server.close())
    return server
  }

  let server = await openOne()
  const { api_key, caller: owner } = await prepare(server)
  const { url, port } = server
  const clientFor = (token: string | undefined, root = url) => connect({ server: root, token, retries: 0 })
  const { team_id } = owner
  if (options.max_concurrent_runs !== undefined) {
    await database.kysely
      .updateTable('teams')
      .set({ max_concurrent_runs: options.max_concurrent_runs })
      .where('team_id', '=', team_id)
      .execute()
  }
  const workerAt =
    (root: string) =>
    async (more: Partial<ScriptedWorkerOptions> = {}) => {
      const worker = await openScriptedWorker({ url: root, api_key, ...more })
      closers.unshift(() => worker.close())
      return worker
    }

  return {
    url,
    port,
    api_key,
    owner,
    database,
    clock,
    clientFor,
    client: clientFor(api_key),
    get server() {
      return server
    },
    async addTeam(name) {
      const caller = await insertTeam(database, clock, name)
      const key = await server.engine.access.createKey(caller, { name: 'first key', scope: 'personal' })
      return { ...key, caller, client: clientFor(key.api_key) }
    },
    async addMember(name, role, email) {
      const member = { team_id, name, role, ...(email === undefined ? {} : { email }) }
      const caller = await insertMember(database, clock, member)
      const key = await server.engine.access.createKey(caller, { name: 'first key', scope: 'personal' })
      return { ...key, caller, client: clientFor(key.api_key) }
    },
    worker: workerAt(url),
    async sibling(more) {
      const other = await openOne({ port: 0, ...more })
      return { server: other, client: clientFor(api_key, other.url), worker: workerAt(other.url) }
    },
    async restart() {
      await server.close()
      server = await openOne({ port })
    },
    async close() {
      for (const close of closers.splice(0)) await close()
    },
  }
}

/** An answer is what the contract says and nothing beside it: clients and `openapi.json` know of no more. */
const checkAnswer: CheckAnswer = (route, answer) => deepStrictEqual(answer, route.answer.parse(answer))

async function prepare(server: Server): Promise<{ api_key: string; caller: UserCaller }> {
  const { api_key, caller } = await server.engine.access.prepare()
  if (api_key !== null) return { api_key, caller }
  return { ...(await server.engine.access.createKey(caller, { name: 'test', scope: 'personal' })), caller }
}

async function ownClock(database: Database, closers: (() => Promise<unknown>)[]): Promise<Clock> {
  const clock = await databaseClock(database)
  closers.unshift(async () => clock.close())
  return clock
}

async function insertTeam(database: Database, clock: Clock, name: string): Promise<UserCaller> {
  const created_at = clock.now()
  const team_id = crypto.randomUUID()
  await database.kysely.insertInto('teams').values({ team_id, name, created_at }).execute()
  return insertMember(database, clock, { team_id, name, role: 'owner' })
}

type NewMember = { team_id: string; name: string; role: Role; email?: string }

async function insertMember(
  { kysely }: Database,
  clock: Clock,
  { team_id, name, role, email }: NewMember,
): Promise<UserCaller> {
  const user_id = crypto.randomUUID()
  const created_at = clock.now()
  const user = { user_id, display_name: name, email: email ?? null, created_at }
  await kysely.insertInto('users').values(user).execute()
  await kysely.insertInto('memberships').values({ team_id, user_id, role, created_at }).execute()
  return {
    kind: 'user',
    team_id,
    owner_user_id: user_id,
    user_id,
    role,
    identity_uid: null,
    key_id: null,
    by: 'api_key',
  }
}
