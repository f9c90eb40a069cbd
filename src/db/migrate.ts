/**
 * Brings the schema up to this version of Baton. Forward only.
 *
 * Migrations are the files `NNNN_name.sql` in `migrations/` beside this file (a build copies that folder beside the
 * bundle). Each runs in a transaction of its own, together with its row in `schema_migrations`, under a lock that
 * the transaction holds: several servers may start at once, and one that is killed leaves a schema that the next
 * goes on from.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import type pg from 'pg'
import type { Logger } from 'pino'
import type { Database } from './connect.ts'
import { DatabaseRefused } from './refusals.ts'

export type Migration = { version: number; name: string; sql: string; checksum: string }
type Applied = { version: number; name: string; checksum: string }

/** Any number that no other program on the same database uses. */
const LOCK = 7_226_837_001
/** PostgreSQL 15. */
const SERVER_VERSION_MIN = 150_000

/** Answers the schema's version. */
export async function migrate(
  database: Database,
  options: { log?: Logger; migrations?: Migration[] } = {},
): Promise<number> {
  const migrations = options.migrations ?? (await readMigrations())
  const client = await database.pool.connect()
  try {
    await checkServer(client)
    await client.query('set statement_timeout = 0; set idle_in_transaction_session_timeout = 0')
    await inTransaction(client, () => client.query(SCHEMA_MIGRATIONS))
    for (;;) {
      const done = await inTransaction(client, () => applyNext(client, migrations))
      if (done === null) return migrations.at(-1)?.version ?? 0
      options.log?.info({ version: done.version, migration: done.name }, 'database.migrated')
    }
  } finally {
    // Not back into the pool: its settings were changed.
    client.release(true)
  }
}

/** What is applied, or 0 for a database without a schema. */
export async function schemaVersion(client: pg.ClientBase): Promise<number> {
  const known = await client.query<{ there: boolean }>(`select to_regclass('schema_migrations') is not null as there`)
  if (!known.rows[0]?.there) return 0
  const highest = await client.query<{ version: number }>(
    'select coalesce(max(version), 0)::integer as version from schema_migrations',
  )
  return highest.rows[0]?.version ?? 0
}

export async function readMigrations(folder: URL = new URL('./migrations/', import.meta.url)): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => /^\d{4}_\w+\.sql$/.test(file)).sort()
  return Promise.all(
    files.map(async (file) => {
      const sql = await readFile(new URL(file, folder), 'utf8')
      return migration(Number(file.slice(0, 4)), file.slice(0, -'.sql'.length), sql)
    }),
  )
}

export function migration(version: number, name: string, sql: string): Migration {
  return { version, name, sql, checksum: createHash('sha256').update(sql).digest('hex') }
}

const SCHEMA_MIGRATIONS = `create table if not exists schema_migrations (
  version integer primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now()
)`

async function applyNext(client: pg.ClientBase, migrations: Migration[]): Promise<Migration | null> {
  const applied = await client.query<Applied>('select version, name, checksum from schema_migrations order by version')
  check(applied.rows, migrations)
  const next = migrations[applied.rows.length]
  if (next === undefined) return null
  await client.query(next.sql)
  await client.query('insert into schema_migrations (version, name, checksum) values ($1, $2, $3)', [
    next.version,
    next.name,
    next.checksum,
  ])
  return next
}

function check(applied: Applied[], migrations: Migration[]): void {
  for (const [index, row] of applied.entries()) {
    const ours = migrations[index]
    if (ours === undefined) {
      const newest = applied.at(-1) ?? row
      throw new DatabaseRefused(
        'newer_schema',
        `The database was made by a newer Baton: its schema is ${newest.name}, and this Baton knows ` +
          `${migrations.at(-1)?.name ?? 'none'}. Start the newer Baton, or use another database.`,
      )
    }
    if (ours.version !== row.version || ours.checksum !== row.checksum) {
      throw new DatabaseRefused(
        'changed_migration',
        `The database was made with another text of migration ${row.name} than this Baton's ` +
          `${ours.name}. Start the Baton that made it, \`baton export\` there, and \`baton import\` into an empty database here.`,
      )
    }
  }
}

async function checkServer(client: pg.ClientBase): Promise<void> {
  const answer = await client.query<{ number: number; text: string }>(
    `select current_setting('server_version_num')::integer as number, current_setting('server_version') as text`,
  )
  const server = answer.rows[0]
  if (server !== undefined && server.number >= SERVER_VERSION_MIN) return
  throw new DatabaseRefused(
    'old_server',
    `The database runs PostgreSQL ${server?.text ?? '?'}; Baton needs 15 or newer.`,
  )
}

async function inTransaction<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> {
  await client.query('begin')
  try {
    await client.query('select pg_advisory_xact_lock($1)', [LOCK])
    const result = await work()
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    throw error
  }
}
