import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import { expect, onTestFinished, test, vi } from 'vitest'
import { databaseClock, manualClock } from '../src/db/clock.ts'
import { openDatabase } from '../src/db/connect.ts'
import { isUnavailable } from '../src/db/unavailable.ts'
import { freshDatabase } from './house/database.ts'

async function database() {
  const opened = await freshDatabase()
  onTestFinished(() => opened.close())
  return opened
}

test('every fresh database is migrated, empty and its own', async () => {
  const [one, other] = [await database(), await database()]
  await one.pool.query(`insert into teams (team_id, name, created_at) values (gen_random_uuid(), 'one', now())`)
  expect((await one.pool.query('select * from teams')).rowCount).toBe(1)
  expect((await other.pool.query('select * from teams')).rowCount).toBe(0)
})

test('bigint comes as a number, also in arrays, and timestamps as dates', async () => {
  const { pool } = await database()
  const answer = await pool.query(
    `select 9007199254740991::bigint as largest, array[1, null]::bigint[] as list, count(*) as count, now() as at from store`,
  )
  expect(answer.rows[0]).toEqual({ largest: 9_007_199_254_740_991, list: [1, null], count: 1, at: expect.any(Date) })
})

test('a bigint that a number cannot hold is refused, not rounded', async () => {
  const { pool } = await database()
  await expect(pool.query('select 9007199254740993::bigint')).rejects.toThrow('too large')
})

test('a connection that PostgreSQL ends fails its query as unavailable and the next query works', async () => {
  const { pool } = await database()
  const query = pool.query('select pg_terminate_backend(pg_backend_pid()), pg_sleep(5)')
  const error: unknown = await query.catch((reason: unknown) => reason)
  expect(isUnavailable(error)).toBe(true)
  await expect(pool.query('select 1')).resolves.toMatchObject({ rowCount: 1 })
})

test('an idle connection that PostgreSQL ends does not end the process', async () => {
  const { pool, connection } = await database()
  const client = await pool.connect()
  const answer = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  client.release()
  const other = openDatabase({ connection }, { pool_max: 1 })
  onTestFinished(() => other.close())
  await other.pool.query('select pg_terminate_backend($1)', [answer.rows[0]?.pid])
  await vi.waitFor(() => expect(pool.totalCount).toBe(0))
  await expect(pool.query('select 1')).resolves.toMatchObject({ rowCount: 1 })
})

test('a transaction whose connection PostgreSQL ends between two queries fails as unavailable', async () => {
  const { pool, kysely } = await database()
  const transaction = kysely.transaction().execute(async (trx) => {
    const own = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(trx)
    await pool.query('select pg_terminate_backend($1)', [own.rows[0]?.pid])
    await vi.waitFor(() => expect(pool.totalCount - pool.idleCount).toBe(1))
    await trx.insertInto('teams').values({ team_id: randomUUID(), name: 'lost', created_at: new Date() }).execute()
  })
  const error: unknown = await transaction.catch((reason: unknown) => reason)
  expect(isUnavailable(error), String(error)).toBe(true)
  expect((await pool.query('select * from teams')).rows).toEqual([])
})

test('a query that runs too long is ended and counts as unavailable', async () => {
  const { connection } = await database()
  const hurried = openDatabase({ connection }, { statement_timeout_ms: 50 })
  onTestFinished(() => hurried.close())
  const error: unknown = await hurried.pool.query('select pg_sleep(10)').catch((reason: unknown) => reason)
  expect(error).toMatchObject({ code: '57014' })
  expect(isUnavailable(error)).toBe(true)
})

test('nobody listening, a missing socket and a wrong query are told apart', async () => {
  for (const address of [
    { url: 'postgres://127.0.0.1:1/none' },
    { url: 'postgres://no-such-host.invalid/none' },
    { connection: { host: '/nonexistent', user: 'baton', database: 'baton' } },
  ]) {
    const away = openDatabase(address)
    const error: unknown = await away.pool.query('select 1').catch((reason: unknown) => reason)
    expect(isUnavailable(error), String(error)).toBe(true)
    await away.close()
  }
  const { pool } = await database()
  const error: unknown = await pool.query('select nothing from nowhere').catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(Error)
  expect(isUnavailable(error)).toBe(false)
})

test('a listener hears what is notified, and again after its connection was ended', async () => {
  const { pool, listen } = await database()
  const heard: (string | null)[] = []
  const stop = await listen('bell', (payload) => heard.push(payload))
  await pool.query(`notify bell, 'one'`)
  await vi.waitFor(() => expect(heard).toEqual(['one']))
  await pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'baton listen' and datname = current_database()`,
  )
  await vi.waitFor(() => expect(heard).toEqual(['one', null]), { timeout: 5_000 })
  await pool.query(`notify bell, 'two'`)
  await vi.waitFor(() => expect(heard).toEqual(['one', null, 'two']))
  await stop()
  await pool.query(`notify bell, 'three'`)
  await vi.waitFor(async () => {
    const left = await pool.query(
      `select 1 from pg_stat_activity where application_name = 'baton listen' and datname = current_database()`,
    )
    expect(left.rowCount).toBe(0)
  })
  expect(heard).toEqual(['one', null, 'two'])
})

test('closing the database ends its listeners', async () => {
  const opened = await freshDatabase()
  await opened.listen('bell', () => undefined)
  await opened.close()
  expect(opened.pool.ended).toBe(true)
})

test('the clock tells the time of the database and never goes back', async () => {
  const opened = await database()
  const clock = await databaseClock(opened, { resynchronise_ms: 1 })
  onTestFinished(() => clock.close())
  const answer = await opened.pool.query<{ at: Date }>('select clock_timestamp() as at')
  expect(Math.abs(clock.now().getTime() - (answer.rows[0]?.at.getTime() ?? 0))).toBeLessThan(200)
  const times = Array.from({ length: 200 }, () => clock.now().getTime())
  expect(times).toEqual(times.toSorted((a, b) => a - b))
  vi.spyOn(Date, 'now').mockReturnValue(0)
  onTestFinished(() => void vi.restoreAllMocks())
  expect(clock.now().getTime()).toBeGreaterThanOrEqual(times.at(-1) ?? 0)
})

test('the manual clock moves only when told', () => {
  const clock = manualClock(new Date('2026-01-01T00:00:00Z'))
  clock.advance(1_500)
  expect(clock.now().toISOString()).toBe('2026-01-01T00:00:01.500Z')
})
