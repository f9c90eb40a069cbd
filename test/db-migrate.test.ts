import { expect, onTestFinished, test, vi } from 'vitest'
import { openDatabase } from '../src/db/connect.ts'
import { migrate, migration, readMigrations } from '../src/db/migrate.ts'
import { freshDatabase } from './house/database.ts'

async function empty() {
  const opened = await freshDatabase({ migrated: false })
  onTestFinished(() => opened.close())
  return opened
}

const FIRST = migration(1, '0001_first', 'create table first (n integer)')
const SECOND = migration(2, '0002_second', 'create table second (n integer); insert into first values (2)')

test('an empty database is brought to the newest schema, once', async () => {
  const database = await empty()
  const newest = (await readMigrations()).at(-1)
  expect(await migrate(database)).toBe(newest?.version)
  expect(await migrate(database)).toBe(newest?.version)
  const applied = await database.pool.query('select version, name, checksum from schema_migrations order by version')
  expect(applied.rows).toEqual(
    (await readMigrations()).map(({ version, name, checksum }) => ({ version, name, checksum })),
  )
})

test('servers that start at once migrate once', async () => {
  const database = await empty()
  const others = Array.from({ length: 4 }, () => openDatabase({ connection: database.connection }))
  onTestFinished(async () => void (await Promise.all(others.map((other) => other.close()))))
  await Promise.all(others.map((other) => migrate(other, { migrations: [FIRST, SECOND] })))
  expect((await database.pool.query('select n from first')).rows).toEqual([{ n: 2 }])
})

test('a schema of a newer Baton is refused', async () => {
  const database = await empty()
  await migrate(database, { migrations: [FIRST, SECOND] })
  await expect(migrate(database, { migrations: [FIRST] })).rejects.toThrow(
    'The database was made by a newer Baton: its schema is 0002_second, and this Baton knows 0001_first. Start the newer Baton',
  )
})

test('a migration whose text changed after it was applied is refused', async () => {
  const database = await empty()
  await migrate(database, { migrations: [FIRST] })
  const changed = migration(1, '0001_first', 'create table first (n bigint)')
  await expect(migrate(database, { migrations: [changed, SECOND] })).rejects.toThrow(
    'another text of migration 0001_first',
  )
  expect((await database.pool.query(`select to_regclass('second') as there`)).rows).toEqual([{ there: null }])
})

test('a migration that fails leaves nothing of itself and can be run again', async () => {
  const database = await empty()
  const broken = migration(
    2,
    '0002_second',
    'create table second (n integer); insert into first values (2); select nothing from nowhere',
  )
  await expect(migrate(database, { migrations: [FIRST, broken] })).rejects.toThrow('nowhere')
  expect(
    (await database.pool.query(`select to_regclass('second') as there, (select count(*) from first) as rows`)).rows,
  ).toEqual([{ there: null, rows: 0 }])
  expect(await migrate(database, { migrations: [FIRST, SECOND] })).toBe(2)
})

test('a migration killed between two statements leaves nothing of itself and can be run again', async () => {
  const database = await empty()
  const slow = migration(
    2,
    '0002_second',
    'create table second (n integer); insert into first values (2); select pg_sleep(30)',
  )
  const killed = migrate(database, { migrations: [FIRST, slow] }).catch((error: unknown) => error)
  await vi.waitFor(async () => {
    const ended = await database.pool.query(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and wait_event = 'PgSleep'`)
    expect(ended.rowCount).toBe(1)
  })
  expect(await killed).toBeInstanceOf(Error)
  expect((await database.pool.query('select n from first')).rows).toEqual([])
  expect(await migrate(database, { migrations: [FIRST, SECOND] })).toBe(2)
  expect((await database.pool.query('select n from first')).rows).toEqual([{ n: 2 }])
})
