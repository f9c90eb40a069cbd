/**
 * All data as files, for moving to another PostgreSQL, another major version of it, or another machine.
 *
 * An export is a folder: `<table>.ndjson` with a row on each line (jsonb columns as JSON text, so that JSON null
 * and SQL null stay two things), `blobs/` with `blob-files.ndjson` listing them, and `manifest.json`, written last:
 * without it an export is not one. It is one consistent snapshot, taken while servers work. An import is one
 * transaction into an empty database; it gives the store a new epoch, since positions in the log that clients hold
 * may lie beyond what was exported.
 *
 * Master keys are no data and never in an export: what they lock is exported and imported as it is, locked.
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { basename, isAbsolute, join, normalize } from 'node:path'
import pg from 'pg'
import type { Logger } from 'pino'
import { z } from 'zod'
import type { Database } from './connect.ts'
import { migrate, readMigrations, schemaVersion } from './migrate.ts'
import { DatabaseRefused } from './refusals.ts'
import { BLOB_NAME, type BlobPlace, putBlob, readLines, saveBlobs, sumOf, writeFileOf } from './transfer-files.ts'

const FORMAT = 1
const BLOB_LIST = 'blob-files.ndjson'
/** Whose rows are worth nothing without the master keys that lock them. */
const SEALED_TABLES = ['secret_versions', 'issuer_keys']
const FETCH_ROWS = 100
const INSERT_ROWS_MAX = 500
const INSERT_BYTES_MAX = 4 * 1024 * 1024

const Sum = z.object({ bytes: z.int(), sha256: z.string() })
const TableFile = Sum.extend({
  table: z.string().regex(/^[a-z_][a-z0-9_]*$/),
  rows: z.int(),
  columns: z.array(z.string()),
})
const Manifest = z.object({
  format: z.literal(FORMAT),
  schema_version: z.int(),
  schema_name: z.string(),
  epoch: z.uuid(),
  exported_at: z.string(),
  tables: z.array(TableFile),
  /** Null: blobs were left out. */
  blobs: Sum.extend({ files: z.int(), missing: z.int().optional() }).nullable(),
})
type Manifest = z.infer<typeof Manifest>
const Blob = Sum.extend({ path: z.string() })

export type TransferOptions = { log?: Logger; signal?: AbortSignal }
/**
 * `sealed`: of the rows some are locked with master keys, which are in no export. `blobs_missing`: so many that rows name
 * were not in their place when it was exported.
 */
export type Transferred = { tables: number; rows: number; blobs: number; blobs_missing: number; sealed: boolean }
type Column = { name: string; type: string; is_json: boolean; is_generated: boolean }

/** `out_dir` must be absent or empty; what a failed export wrote is removed again. */
export async function exportAll(
  database: Database,
  blobs: BlobPlace | null,
  out_dir: string,
  options: TransferOptions = {},
): Promise<Transferred> {
  if ((await filesIn(out_dir)).length > 0) throw refused(`${out_dir} is not empty. Export to a new folder.`)
  await mkdir(out_dir, { recursive: true, mode: 0o700 })
  try {
    const manifest = await session(database, async (client) => {
      await client.query('begin isolation level repeatable read read only')
      const tables = await writeTables(client, out_dir, options)
      const store = await client.query<{ epoch: string; at: Date; name: string }>(
        'select epoch, now() as at, (select name from schema_migrations order by version desc limit 1) as name from store',
      )
      const row = store.rows[0]
      if (row === undefined) throw refused('The database has no store record. It is damaged; restore it from a backup.')
      return {
        format: FORMAT,
        schema_version: await schemaVersion(client),
        schema_name: row.name,
        epoch: row.epoch,
        exported_at: row.at.toISOString(),
        tables,
        blobs: blobs === null ? null : await writeBlobs(client, blobs, out_dir, options),
      } satisfies Manifest
    })
    await writeFileOf(join(out_dir, 'manifest.json'), one(`${JSON.stringify(manifest, null, 2)}\n`))
    return transferred(manifest)
  } catch (error) {
    for (const name of await filesIn(out_dir)) await rm(join(out_dir, name), { recursive: true, force: true })
    throw error
  }
}

/** Migrates an empty database as far as the export goes, loads it, and migrates it on. All rows come, or none. */
export async function importAll(
  database: Database,
  blobs: BlobPlace | null,
  in_dir: string,
  options: TransferOptions = {},
): Promise<Transferred> {
  const manifest = await readManifest(in_dir)
  const migrations = await readMigrations()
  const newest = migrations.at(-1)
  if (manifest.schema_version > (newest?.version ?? 0)) {
    throw new DatabaseRefused(
      'newer_schema',
      `The export was made by a newer Baton: its schema is ${manifest.schema_name}, and this Baton knows ` +
        `${newest?.name ?? 'none'}. Import it with the newer Baton.`,
    )
  }
  await checkFiles(manifest, in_dir, options)
  await session(database, (client) => checkTarget(client, manifest))
  await migrate(database, {
    ...options,
    migrations: migrations.filter((one) => one.version <= manifest.schema_version),
  })
  if (manifest.blobs !== null) await readBlobs(in_dir, blobs, options)
  await session(database, async (client) => {
    await client.query('begin')
    await client.query('lock table store in access exclusive mode')
    await checkEmpty(client)
    await loadTables(client, manifest, in_dir, options)
    await client.query('update store set epoch = gen_random_uuid()')
    await client.query('commit')
  })
  await migrate(database, options)
  return transferred(manifest)
}

/** A connection of its own without time limits; what was not committed is rolled back with its end. */
async function session<T>(database: Database, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ ...database.client_config, application_name: 'baton transfer' })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function writeTables(client: pg.Client, out_dir: string, options: TransferOptions): Promise<Manifest['tables']> {
  const written: Manifest['tables'] = []
  for (const table of await listTables(client)) {
    const columns = (await listColumns(client, table)).filter((column) => !column.is_generated)
    let rows = 0
    const lines = async function* () {
      const list = columns.map(({ name, is_json }) => (is_json ? `${quote(name)}::text` : quote(name))).join(', ')
      await client.query(`declare rows no scroll cursor for select row_to_json(r)::text as line from
        (select ${list} from ${quote(table)} order by ${await primaryKey(client, table)}) r`)
      for (;;) {
        const batch = await client.query<{ line: string }>(`fetch ${FETCH_ROWS} from rows`)
        if (batch.rows.length === 0) break
        rows += batch.rows.length
        yield batch.rows.map((row) => `${row.line}\n`).join('')
      }
      await client.query('close rows')
    }
    const sum = await writeFileOf(join(out_dir, `${table}.ndjson`), lines(), options.signal)
    written.push({ table, rows, columns: columns.map((column) => column.name), ...sum })
    options.log?.info({ table, rows }, 'transfer.exported')
  }
  return written
}

/** Those that have a row in the snapshot: each has its bytes, but what was being written, or was removed, just then. */
async function writeBlobs(
  client: pg.Client,
  blobs: BlobPlace,
  out_dir: string,
  options: TransferOptions,
): Promise<Manifest['blobs']> {
  let files = 0
  let named = 0
  const names = async function* () {
    await client.query('declare names no scroll cursor for select blob_id from blobs order by blob_id')
    for (;;) {
      const batch = await client.query<{ blob_id: string }>(`fetch ${FETCH_ROWS} from names`)
      if (batch.rows.length === 0) return
      named += batch.rows.length
      for (const { blob_id } of batch.rows) yield blob_id
    }
  }
  const lines = async function* () {
    for await (const line of saveBlobs(blobs, names(), { to: join(out_dir, 'blobs'), signal: options.signal })) {
      files += 1
      yield line
    }
  }
  const sum = await writeFileOf(join(out_dir, BLOB_LIST), lines(), options.signal)
  if (files === 0 && named > 0)
    throw refused(
      `The database has ${named} blobs, and none of them is where they were looked for. ` +
        'Set BATON_BLOBS to the place where the server keeps them.',
    )
  options.log?.info({ files }, 'transfer.blobs_exported')
  return { files, missing: named - files, ...sum }
}

async function readManifest(in_dir: string): Promise<Manifest> {
  const text = await readFile(join(in_dir, 'manifest.json'), 'utf8').catch((cause: unknown) => {
    throw refused(`${in_dir} holds no complete export: its manifest.json cannot be read.`, cause)
  })
  try {
    return Manifest.parse(JSON.parse(text))
  } catch (cause) {
    throw refused(`${join(in_dir, 'manifest.json')} is damaged, or is not from Baton.`, cause)
  }
}

/** Everything is read once before anything is written. */
async function checkFiles(manifest: Manifest, in_dir: string, options: TransferOptions): Promise<void> {
  const files: { file: string; sha256: string }[] = manifest.tables.map(({ table, sha256 }) => ({
    file: `${table}.ndjson`,
    sha256,
  }))
  if (manifest.blobs !== null) files.push({ file: BLOB_LIST, sha256: manifest.blobs.sha256 })
  for (const { file, sha256 } of files) await checkSum(in_dir, file, sha256, options)
  if (manifest.blobs !== null)
    for await (const blob of listBlobs(in_dir)) await checkSum(in_dir, join('blobs', blob.path), blob.sha256, options)
}

async function checkSum(in_dir: string, file: string, sha256: string, options: TransferOptions): Promise<void> {
  const sum = await sumOf(join(in_dir, file), options.signal).catch((cause: unknown) => {
    if (options.signal?.aborted) throw cause
    throw refused(`The export is incomplete: ${join(in_dir, file)} cannot be read.`, cause)
  })
  if (sum.sha256 !== sha256)
    throw refused(
      `The export is damaged: ${join(in_dir, file)} is not as it was written. Copy it again, or export again.`,
    )
}

async function* listBlobs(in_dir: string): AsyncGenerator<z.infer<typeof Blob>> {
  for await (const line of readLines(join(in_dir, BLOB_LIST))) {
    const blob = Blob.parse(JSON.parse(line))
    const is_outside = isAbsolute(blob.path) || normalize(blob.path).startsWith('..')
    if (is_outside || !BLOB_NAME.test(basename(blob.path)))
      throw refused(`The export lists a file that is no blob: ${blob.path}`)
    yield blob
  }
}

async function readBlobs(in_dir: string, blobs: BlobPlace | null, options: TransferOptions): Promise<void> {
  for await (const blob of listBlobs(in_dir)) {
    if (blobs === null) throw refused('The export holds blobs, and this store has no place to put them in.')
    options.signal?.throwIfAborted()
    await putBlob(blobs, basename(blob.path), join(in_dir, 'blobs', blob.path))
  }
}

async function checkTarget(client: pg.Client, manifest: Manifest): Promise<void> {
  const version = await schemaVersion(client)
  if (version > manifest.schema_version) {
    throw refused(
      'The export is older than the schema of this database. Import it into a database in which Baton was never started.',
    )
  }
  if (version > 0) await checkEmpty(client)
}

/** Empty: as the migrations left it. */
async function checkEmpty(client: pg.Client): Promise<void> {
  for (const table of await listTables(client)) {
    if (table === 'store') continue
    const filter = table === 'event_counter' ? 'where value > 0' : ''
    const found = await client.query(`select 1 from ${quote(table)} ${filter} limit 1`)
    if (found.rowCount !== 0)
      throw refused(`The database is not empty (there are rows in ${table}). Import into an empty one.`)
  }
}

async function loadTables(
  client: pg.Client,
  manifest: Manifest,
  in_dir: string,
  options: TransferOptions,
): Promise<void> {
  const known = await listTables(client)
  const unknown = manifest.tables.find(({ table }) => !known.includes(table))
  if (unknown)
    throw refused(
      `The export holds the table ${unknown.table}, which its schema ${manifest.schema_name} does not have.`,
    )
  // Rows come table by table in any order; adding the foreign keys again checks them all.
  const references = await client.query<{ table: string; name: string; definition: string }>(`
    select conrelid::regclass::text as table, quote_ident(conname) as name, pg_get_constraintdef(oid) as definition
    from pg_constraint where contype = 'f' and connamespace = current_schema()::regnamespace order by conname`)
  for (const { table, name } of references.rows) await client.query(`alter table ${table} drop constraint ${name}`)
  for (const file of manifest.tables) {
    await client.query(`delete from ${quote(file.table)}`)
    const rows = await loadTable(client, file, join(in_dir, `${file.table}.ndjson`), options)
    if (rows !== file.rows)
      throw refused(`The export is damaged: ${file.table} should have ${file.rows} rows and has ${rows}.`)
    options.log?.info({ table: file.table, rows }, 'transfer.imported')
  }
  for (const { table, name, definition } of references.rows)
    await client.query(`alter table ${table} add constraint ${name} ${definition}`)
}

async function loadTable(
  client: pg.Client,
  file: Manifest['tables'][number],
  path: string,
  options: TransferOptions,
): Promise<number> {
  const columns = (await listColumns(client, file.table)).filter((column) => file.columns.includes(column.name))
  const names = columns.map(({ name }) => quote(name)).join(', ')
  const values = columns
    .map(({ name, is_json, type }) => (is_json ? `${quote(name)}::${type}` : quote(name)))
    .join(', ')
  const shape = columns.map(({ name, is_json, type }) => `${quote(name)} ${is_json ? 'text' : type}`).join(', ')
  const insert = `insert into ${quote(file.table)} (${names}) overriding system value
    select ${values} from json_to_recordset($1) as r (${shape})`
  let rows = 0
  let batch: string[] = []
  let bytes = 0
  const flush = async () => {
    options.signal?.throwIfAborted()
    if (batch.length > 0) await client.query(insert, [`[${batch.join(',')}]`])
    rows += batch.length
    batch = []
    bytes = 0
  }
  for await (const line of readLines(path)) {
    batch.push(line)
    bytes += line.length
    if (batch.length >= INSERT_ROWS_MAX || bytes >= INSERT_BYTES_MAX) await flush()
  }
  await flush()
  return rows
}

async function listTables(client: pg.Client): Promise<string[]> {
  const found = await client.query<{ name: string }>(`select relname as name from pg_class
    where relnamespace = current_schema()::regnamespace and relkind = 'r' and relname <> 'schema_migrations'
    order by relname`)
  return found.rows.map((row) => row.name)
}

async function listColumns(client: pg.Client, table: string): Promise<Column[]> {
  const found = await client.query<Column>(
    `
    select attname as name, format_type(atttypid, atttypmod) as type,
      atttypid in ('json'::regtype, 'jsonb'::regtype) as is_json,
      attgenerated <> '' as is_generated
    from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`,
    [quote(table)],
  )
  return found.rows
}

async function primaryKey(client: pg.Client, table: string): Promise<string> {
  const found = await client.query<{ name: string }>(
    `
    select attname as name from pg_index join pg_attribute on attrelid = indrelid and attnum = any (indkey)
    where indrelid = $1::regclass and indisprimary order by array_position(indkey::int2[], attnum)`,
    [quote(table)],
  )
  return found.rows.map((row) => quote(row.name)).join(', ') || '1'
}

async function filesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw refused(
      `${folder} cannot be read as a folder: ${error instanceof Error ? error.message : String(error)}`,
      error,
    )
  })
}

function transferred(manifest: Manifest): Transferred {
  const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0)
  const sealed = manifest.tables.some((table) => SEALED_TABLES.includes(table.table) && table.rows > 0)
  const { files = 0, missing = 0 } = manifest.blobs ?? {}
  return { tables: manifest.tables.length, rows, blobs: files, blobs_missing: missing, sealed }
}

function refused(message: string, cause?: unknown): DatabaseRefused {
  return new DatabaseRefused('transfer_refused', message, { cause })
}

function quote(name: string): string {
  return pg.escapeIdentifier(name)
}

async function* one(text: string): AsyncGenerator<string> {
  yield text
}
