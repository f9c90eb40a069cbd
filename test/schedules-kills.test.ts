/** Servers in processes of their own that are killed in the midst of planned times: each time still has one run. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Client, connect } from '../src/sdk/client.ts'
import { type FreshDatabase, freshDatabase } from './house/database.ts'
import { type ServerProcess, startServerProcess, until } from './house/processes.ts'

const HOUR_MS = 3_600_000

let database: FreshDatabase
let blobs_dir: string
let client: Client
let api_key: string
const servers = new Set<ServerProcess>()

async function start(): Promise<ServerProcess> {
  const server = await startServerProcess({ connection: database.connection, port: 0, blobs_dir })
  api_key ??= server.api_key ?? ''
  servers.add(server)
  client = connect({ server: server.url, token: api_key, retries: 0 })
  return server
}
/** The only one there is. */
async function theOne(): Promise<ServerProcess> {
  const [one, ...others] = servers
  await Promise.all(others.map(kill))
  return one ?? start()
}
async function kill(server: ServerProcess): Promise<void> {
  servers.delete(server)
  await server.kill()
}
const get = (schedule_id: string) => client.schedules.get({ params: { schedule_id } })
const history = async (schedule_id: string) =>
  (await client.schedules.history({ params: { schedule_id }, query: {} })).firings
const make = async (name: string): Promise<string> =>
  (await client.schedules.create({ body: { name, cron_schedule: '0 0 1 1 *', prompt: 'Go.' } })).id
/** Their next time is that long ago. */
const comeDue = (ids: string[], ago_ms = 0) =>
  sql`update schedules set due_at = date_trunc('milliseconds', now()) - ${ago_ms} * interval '1 millisecond'
    where schedule_id = any(${ids}::uuid[])`.execute(database.kysely)
async function runsOf(ids: string[]): Promise<number[]> {
  const { rows } = await sql<{ count: number }>`
    select count(r.run_id)::int as count from unnest(${ids}::uuid[]) with ordinality as s(id, place)
    left join runs r on r.schedule_id = s.id group by s.id, place order by place`.execute(database.kysely)
  return rows.map(({ count }) => count)
}

beforeAll(async () => {
  database = await freshDatabase({ pool_max: 5 })
  blobs_dir = await mkdtemp(join(tmpdir(), 'baton-blobs-'))
  await sql`create function stall() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock_shared(77); return new; end $$`.execute(database.kysely)
})
afterAll(async () => {
  await Promise.all([...servers].map(kill))
  await database.close()
  await rm(blobs_dir, { recursive: true, force: true })
})

test('with one of two killed in the midst of many times, each time still has one run', async () => {
  const killed = await start()
  await start()
  const ids = await Promise.all(Array.from({ length: 40 }, (_, at) => make(`s${at}`)))
  await comeDue(ids)
  await until('the first runs are there', async () => (await runsOf(ids)).some((count) => count > 0))
  await kill(killed)
  await until('every time has come', async () => (await runsOf(ids)).every((count) => count > 0))
  // Five hours back: later than the window, so that it is told and nothing more.
  await comeDue(ids, 5 * HOUR_MS)
  await until('every time was seen to', async () => {
    const histories = await Promise.all(ids.map(history))
    return histories.every((firings) => firings.length === 2)
  })
  expect(await runsOf(ids)).toEqual(ids.map(() => 1))
}, 40_000)

test.each([
  ['before its time has a row', '', 'before insert on firings', ''],
  ['before its run has a row', '', 'before insert on runs', ''],
  ['in the commit', 'constraint', 'after insert on firings', 'deferrable initially deferred'],
])(
  'a server that is killed %s leaves all of it or nothing',
  async (name, kind, moment, when) => {
    const killed = await theOne()
    const id = await make(name)
    await sql
      .raw(`create ${kind} trigger stalled ${moment} ${when} for each row execute function stall()`)
      .execute(database.kysely)
    await database.kysely.connection().execute(async (held) => {
      await sql`select pg_advisory_lock(77)`.execute(held)
      await comeDue([id])
      await until('the server is in the midst of it', async () => {
        const { rows } = await sql`select from pg_locks join pg_database d on d.oid = database
        where datname = current_database() and locktype = 'advisory' and objid = 77 and not granted`.execute(held)
        return rows.length > 0
      })
      await kill(killed)
      await start()
      await sql`select pg_advisory_unlock(77)`.execute(held)
    })
    await until('the time has a run', async () => (await runsOf([id]))[0] === 1)
    await sql.raw(`drop trigger stalled on ${moment.split(' ').at(-1)}`).execute(database.kysely)
    const made = await get(id)
    expect(made.history.next_run).toMatch(/-01-01T00:00:00/)
    expect(await history(id)).toMatchObject([{ state: 'fired', run_id: made.history.last_run_id }])
    expect(await runsOf([id])).toEqual([1])
  },
  40_000,
)

test('a time that another server holds keeps nobody from the others', async () => {
  await theOne()
  const [held, free] = [await make('held'), await make('free')]
  await database.kysely.transaction().execute(async (other) => {
    await sql`select from schedules where schedule_id = ${held} for update`.execute(other)
    await sql`update schedules set due_at = now() where schedule_id = ${held}`.execute(other)
    await comeDue([free])
    await until('the free one has a run', async () => (await runsOf([free]))[0] === 1)
    expect(await runsOf([held])).toEqual([0])
  })
  await until('the other one, too', async () => (await runsOf([held]))[0] === 1)
}, 40_000)
