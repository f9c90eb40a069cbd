import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Database, openDatabase } from '../src/db/connect.ts'
import { migrate } from '../src/db/migrate.ts'
import { exportAll, importAll } from '../src/db/transfer.ts'
import { folderBlobs } from '../src/engine/blobs.ts'
import { freshDatabase } from './house/database.ts'
import { realServer } from './house/real-server.ts'

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'baton-transfer-'))
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

async function embedded(migrated = false) {
  const opened = await freshDatabase({ migrated })
  onTestFinished(() => opened.close())
  return opened
}

const BLOB = Buffer.from('a body too large for a row')
const BLOB_ID = createHash('sha256').update(BLOB).digest('hex')
const ENTRIES = 1_203
const TEAM = "'00000000-0000-4000-8000-000000000001'"
const USER = "'00000000-0000-4000-8000-000000000002'"
const PARENT = "'10000000-0000-4000-8000-00000000000f'"
const RUN = "'10000000-0000-4000-8000-000000000001'"
const EXECUTION = "'20000000-0000-4000-8000-000000000001'"

/** A run and its child (whose id sorts before), texts that are hard to carry, a blob, and a log. */
async function filled() {
  const database = await embedded(true)
  const blob_dir = folder()
  mkdirSync(join(blob_dir, BLOB_ID.slice(0, 2)))
  writeFileSync(join(blob_dir, BLOB_ID.slice(0, 2), BLOB_ID), BLOB)
  writeFileSync(join(blob_dir, BLOB_ID.slice(0, 2), `${BLOB_ID}.draft`), 'half')
  const hard = JSON.stringify('quote " slash \\ newline \n separator \u2028 return \r 🎻 \\N {1,2}')
  await database.pool.query(`
    insert into teams values (${TEAM}, ${literal(hard)}, 4, '2026-01-01T00:00:00.123456Z');
    insert into users values (${USER}, 'Ann', null, now());
    insert into api_keys (key_id, team_id, user_id, name, scope, hash, created_at)
      values (gen_random_uuid(), ${TEAM}, ${USER}, 'k', 'personal', '\\x00ff5c0a', now());
    insert into runs (run_id, team_id, parent_run_id, conversation_id, state, title, prompt, config, source,
        execution_location, creator_id,
        created_at, updated_at, queued_at, root_run_id)
      select ids.run_id::uuid, ${TEAM}, ids.parent::uuid, gen_random_uuid(), 'QUEUED', 't', ${literal(hard)},
        ${literal(`{"deep": [${hard}, null, 1.50]}`)}, 'CLI', 'REMOTE', ${USER}, now(), now(), now(), ${PARENT}::uuid
      from (values (${PARENT}, null), (${RUN}, ${PARENT}))
        as ids (run_id, parent);
    insert into executions (execution_id, run_id, team_id, number, state, cause, token_hash, offered_at, expires_at,
        harness, failure, usage)
      values (${EXECUTION}, ${RUN}, ${TEAM}, 1,
        'running', 'start', '\\x01', now(), now(), 'command', 'null', null);
    insert into blobs values ('${BLOB_ID}', ${BLOB.length}, now());
    insert into entries (execution_id, number, run_id, team_id, execution_number, at, kind, body, blob_id, body_bytes)
      select ${EXECUTION}, n, ${RUN}, ${TEAM}, 1, now(),
        'text', case when n = 1 then 'null' else to_jsonb(${literal(hard)}::text) end, case when n = 2 then '${BLOB_ID}' end, 10
      from generate_series(1, ${ENTRIES}) n;
    insert into messages (message_id, team_id, sender_run_id, recipient_run_id, number, subject, body, hop, sent_at)
      values (gen_random_uuid(), ${TEAM}, ${RUN}, ${PARENT}, 1, 's', ${literal(hard)}, 1, now());
    insert into artifacts values (gen_random_uuid(), ${TEAM}, ${RUN}, 'PULL_REQUEST', '{}', now());
    insert into events (sequence, team_id, event_type, run_id, occurred_at)
      select n, ${TEAM}, 'run_queued', ${RUN}, now() from generate_series(1, 9) n;
    update event_counter set value = 9`)
  return { database, blob_dir }
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** Every row of every table as text, without the epoch. */
async function everything(database: Database): Promise<Record<string, string[]>> {
  const tables = await database.pool.query<{ name: string }>(`select relname as name from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> 'schema_migrations' order by relname`)
  const all: Record<string, string[]> = {}
  for (const { name } of tables.rows) {
    const rows = await database.pool.query<{ line: string }>(`select t::text as line from ${name} t order by 1`)
    all[name] = name === 'store' ? [String(rows.rowCount)] : rows.rows.map((row) => row.line)
  }
  return all
}

async function epoch(database: Database): Promise<unknown> {
  return (await database.pool.query('select epoch from store')).rows[0]?.epoch
}

async function exported() {
  const { database, blob_dir } = await filled()
  const dir = join(folder(), 'export')
  await exportAll(database, folderBlobs(blob_dir), dir)
  return { database, dir }
}

test('all data moves from the embedded PostgreSQL to a real server and back, row for row', async () => {
  const { database, blob_dir } = await filled()
  const before = await everything(database)
  const [there, back, there_blobs, back_blobs] = [join(folder(), 'there'), join(folder(), 'back'), folder(), folder()]
  expect(await exportAll(database, folderBlobs(blob_dir), there)).toMatchObject({ blobs: 1 })

  const server = await realServer()
  onTestFinished(() => server.close())
  const real = openDatabase({ url: server.url })
  try {
    await importAll(real, folderBlobs(there_blobs), there)
    expect(await everything(real)).toEqual(before)
    expect(await epoch(real)).not.toBe(await epoch(database))
    await exportAll(real, folderBlobs(there_blobs), back)
  } finally {
    await real.close()
  }

  const again = await embedded()
  expect(await importAll(again, folderBlobs(back_blobs), back)).toMatchObject({ blobs: 1 })
  expect(await everything(again)).toEqual(before)
  expect(before.entries).toHaveLength(ENTRIES)
  expect(readFileSync(join(back_blobs, BLOB_ID.slice(0, 2), BLOB_ID))).toEqual(BLOB)
  expect(readdirSync(join(back_blobs, BLOB_ID.slice(0, 2)))).toEqual([BLOB_ID])
  await expect(
    again.pool.query(
      `insert into entries select gen_random_uuid(), number, run_id, team_id, 2, at, kind, body, null, 1 from entries limit 1`,
    ),
  ).rejects.toMatchObject({ code: '23503' })
})

test('an export is one moment, though rows are written while it is made', async () => {
  const { database } = await filled()
  const writing = new AbortController()
  const writer = (async () => {
    while (!writing.signal.aborted) {
      await database.pool.query(`with counted as (update event_counter set value = value + 1 returning value)
        insert into events (sequence, team_id, event_type, run_id, occurred_at)
        select value, ${TEAM}, 'run_queued', ${RUN}, now() from counted`)
    }
  })()
  const dir = join(folder(), 'export')
  await exportAll(database, null, dir)
  writing.abort()
  await writer
  const target = await embedded()
  await importAll(target, null, dir)
  const answer = await target.pool.query(
    'select (select value from event_counter) as counter, max(sequence) as highest, count(*) as count from events',
  )
  const row = answer.rows[0]
  expect(row).toEqual({ counter: row.highest, highest: row.highest, count: row.highest })
})

test('an import into a database with rows is refused and changes nothing', async () => {
  const { database, dir } = await exported()
  const before = await everything(database)
  await expect(importAll(database, null, dir)).rejects.toThrow('is not empty')
  expect(await everything(database)).toEqual(before)
})

test('an export into a folder with files is refused', async () => {
  const { database, dir } = await exported()
  await expect(exportAll(database, null, dir)).rejects.toThrow('is not empty. Export to a new folder.')
})

test('an export that fails leaves no folder that looks like one', async () => {
  const { database, blob_dir } = await filled()
  const dir = join(folder(), 'export')
  await expect(exportAll(database, folderBlobs(blob_dir), dir, { signal: AbortSignal.abort() })).rejects.toThrow(
    'aborted',
  )
  expect(readdirSync(dir)).toEqual([])
  await expect(importAll(await embedded(), null, dir)).rejects.toThrow('holds no complete export')
})

test('damaged, missing and foreign files are refused before anything is written', async () => {
  const { dir } = await exported()
  const target = await embedded()
  const original = readFileSync(join(dir, 'runs.ndjson'), 'utf8')
  writeFileSync(join(dir, 'runs.ndjson'), original.replace('QUEUED', 'FAILED'))
  await expect(importAll(target, folderBlobs(folder()), dir)).rejects.toThrow(
    /is damaged: .+runs\.ndjson is not as it was written/,
  )
  rmSync(join(dir, 'runs.ndjson'))
  await expect(importAll(target, folderBlobs(folder()), dir)).rejects.toThrow(
    /is incomplete: .+runs\.ndjson cannot be read/,
  )
  writeFileSync(join(dir, 'runs.ndjson'), original)
  writeFileSync(join(dir, 'blobs', BLOB_ID.slice(0, 2), BLOB_ID), 'something else')
  await expect(importAll(target, folderBlobs(folder()), dir)).rejects.toThrow('is damaged')
  const manifest = readFileSync(join(dir, 'manifest.json'), 'utf8')
  writeFileSync(join(dir, 'manifest.json'), manifest.slice(0, 40))
  await expect(importAll(target, folderBlobs(folder()), dir)).rejects.toThrow('is damaged, or is not from Baton')
  writeFileSync(
    join(dir, 'manifest.json'),
    JSON.stringify({ ...JSON.parse(manifest), schema_version: 9_999, schema_name: '9999_later' }),
  )
  await expect(importAll(target, folderBlobs(folder()), dir)).rejects.toThrow(
    'made by a newer Baton: its schema is 9999_later',
  )
  expect((await target.pool.query(`select to_regclass('runs') as there`)).rows).toEqual([{ there: null }])
})

test('an import that fails at the last row leaves an empty database that can be imported into', async () => {
  const { dir } = await exported()
  const manifest = readFileSync(join(dir, 'manifest.json'), 'utf8')
  const parsed = JSON.parse(manifest)
  const users = parsed.tables.find((one: { table: string }) => one.table === 'users')
  users.rows += 1
  writeFileSync(join(dir, 'manifest.json'), JSON.stringify(parsed))
  const target = await embedded()
  await expect(importAll(target, folderBlobs(folder()), dir)).rejects.toThrow('users should have 2 rows and has 1')
  expect((await target.pool.query('select * from teams')).rows).toEqual([])
  writeFileSync(join(dir, 'manifest.json'), manifest)
  await importAll(target, folderBlobs(folder()), dir)
  expect((await target.pool.query('select count(*) as count from entries')).rows).toEqual([{ count: ENTRIES }])
  expect(await migrate(target)).toBe(parsed.schema_version)
})

test('blobs are not dropped silently when the store has no place for them', async () => {
  const { dir } = await exported()
  await expect(importAll(await embedded(), null, dir)).rejects.toThrow('no place to put them')
})

test('blobs that are not in the place given are no export, and those that are missing of it are counted', async () => {
  const { database, blob_dir } = await filled()
  const dir = join(folder(), 'export')
  await expect(exportAll(database, folderBlobs(folder()), dir)).rejects.toThrow('Set BATON_BLOBS to the place')
  expect(readdirSync(dir)).toEqual([])
  await database.pool.query(`insert into blobs values ('${'0'.repeat(64)}', 1, now())`)
  expect(await exportAll(database, folderBlobs(blob_dir), dir)).toMatchObject({ blobs: 1, blobs_missing: 1 })
})
