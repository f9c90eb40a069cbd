/**
 * A connection to PostgreSQL, wherever it runs: a pool for queries (Kysely over `pg`), and LISTEN connections that
 * heal.
 */
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import type { Logger } from 'pino'
import { listenOn } from './listen.ts'
import { preparing } from './prepared.ts'
import type { DB } from './tables.ts'

export type Tables = DB

/** Where an embedded PostgreSQL answers: `host` is the folder of its socket. */
export type SocketConnection = { host: string; user: string; database: string }
export type DatabaseAddress = { url: string } | { connection: SocketConnection }

export type DatabaseOptions = {
  /** Connections for queries, and up to as many for those of `byIndex`; each `listen` takes one more. */
  pool_max?: number
  statement_timeout_ms?: number
  log?: Logger
}

export type Database = {
  kysely: Kysely<Tables>
  /**
   * The same on connections of its own, for statements that come again and again and find few rows by an index: each is
   * planned once a connection, for the index, whatever is in the tables by then. What a partial index is for stands in
   * their text: of a parameter the plan knows nothing.
   */
  byIndex: Kysely<Tables>
  pool: pg.Pool
  /** What the pool was made from, without limits: for a session of one's own, such as a listener or an export. */
  client_config: pg.ClientConfig
  /**
   * Follows a channel on a connection of its own, until `stop` is called. `onPayload` gets each payload, and null
   * whenever the connection was lost and is back: something may have been missed, so look for yourself. It must not
   * throw. Rejects when the first connection fails; later ones are tried again for ever.
   */
  listen(channel: string, onPayload: (payload: string | null) => void): Promise<() => Promise<void>>
  /** Waits for running queries; ends listeners. */
  close(): Promise<void>
}

const POOL_MAX = 10
/** What goes through it is batched: few statements are under way at once. */
const BY_INDEX_POOL_MAX = 8
const STATEMENT_TIMEOUT_MS = 30_000
const CONNECT_TIMEOUT_MS = 10_000
/** A statement that waits longer for another's lock gives up: who logs holds everybody's. */
const LOCK_TIMEOUT_MS = 5_000
const IDLE_IN_TRANSACTION_MS = 60_000

/**
 * Plans are kept, and those made while a table is nearly empty read all of it: a new store would go on doing so until
 * `autovacuum` comes by, with thousands of rows. And a plan of its own for each call costs more than it saves.
 */
const BY_INDEX = `set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
  set enable_hashjoin = off; set enable_mergejoin = off`

/** Opens no connection yet: a database that is away shows itself at the first query. */
export function openDatabase(address: DatabaseAddress, options: DatabaseOptions = {}): Database {
  const client_config = clientConfig(address)
  const openPool = (own: pg.PoolConfig & { max: number }): pg.Pool => {
    const pool = new pg.Pool({
      ...client_config,
      ...own,
      pipeline: true,
      statement_timeout: options.statement_timeout_ms ?? STATEMENT_TIMEOUT_MS,
      lock_timeout: LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    })
    // An idle connection that breaks has no query to reject; without a listener `pg` would end the process.
    pool.on('error', (error) => options.log?.warn({ error: error.message }, 'database.connection_lost'))
    // Nor has one that breaks while it is lent out between two queries; the next query on it fails.
    pool.on('connect', (client) => client.on('error', () => undefined))
    return pool
  }
  const max = options.pool_max ?? POOL_MAX
  const pool = openPool({ max })
  const byIndex = openPool({ max: Math.min(max, BY_INDEX_POOL_MAX), onConnect: (client) => client.query(BY_INDEX) })
  const over = (of: pg.Pool) => new Kysely<Tables>({ dialect: new PostgresDialect({ pool: preparing(of) }) })
  const stops = new Set<() => Promise<void>>()
  return {
    kysely: over(pool),
    byIndex: over(byIndex),
    pool,
    client_config,
    async listen(channel, onPayload) {
      const end = await listenOn(client_config, channel, { onPayload, ...(options.log && { log: options.log }) })
      const stop = async () => {
        stops.delete(stop)
        await end()
      }
      stops.add(stop)
      return stop
    },
    async close() {
      await Promise.all([...stops].map((stop) => stop()))
      for (const one of [pool, byIndex]) if (!one.ending) await one.end()
    },
  }
}

export function clientConfig(address: DatabaseAddress): pg.ClientConfig {
  const shared = {
    application_name: 'baton',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    types: { getTypeParser: typeParser },
  }
  if ('url' in address) return { ...shared, connectionString: address.url }
  // `pg` fills what is absent from PG* variables of the environment, so nothing is.
  return { ...shared, ...address.connection, port: 5432, password: '', ssl: false }
}

const INT8 = 20
const INT8_ARRAY = 1016

/** bigint as number: every bigint we store counts something that stays below 2^53. */
function typeParser(oid: number, format?: 'text' | 'binary'): (text: string) => unknown {
  if (oid === INT8) return safeInteger
  const usual: (text: string) => unknown = pg.types.getTypeParser(oid, format === 'binary' ? 'binary' : 'text')
  if (oid !== INT8_ARRAY) return usual
  return (text) => {
    const values = usual(text)
    return Array.isArray(values) ? values.map((value) => (value === null ? null : safeInteger(String(value)))) : values
  }
}

function safeInteger(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new RangeError(`The bigint ${text} is too large for a JavaScript number.`)
  return value
}
