/** Lists of runs: every filter, sort and page size against a plain list in memory, while others insert and change. */
import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { z } from 'zod'
import type { CreateRun, Run } from '../src/contract/index.ts'
import { openDatabase } from '../src/db/connect.ts'
import { migrate } from '../src/db/migrate.ts'
import { freshDatabase } from './house/database.ts'
import { type House, startHouse } from './house/house.ts'
import {
  type Asked,
  compareBy,
  isWanted,
  type Planted,
  type Plot,
  plant,
  type Random,
  randomFilters,
  randomOf,
  randomRun,
} from './house/list-oracle.ts'

const SORTS = ['updated_at', 'created_at', 'title', 'agent'] as const
const RUNS = 100
const WALKS = 10

let house: House
beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 1 })
})
afterAll(() => house.close())

/** What random runs can have, of this house. */
async function plotOf({ client, owner, database }: House): Promise<Plot> {
  const names = [`env ${randomUUID()}`, `env ${randomUUID()}`]
  const environments = await Promise.all(names.map((name) => client.environments.create({ body: { name } })))
  const identities = await Promise.all(
    ['one', 'two'].map((name) => client.identities.create({ body: { name: `${name} ${randomUUID()}` } })),
  )
  const user_id = randomUUID()
  await database.kysely
    .insertInto('users')
    .values({ user_id, display_name: 'Another', email: `${user_id}@example.com`, created_at: new Date() })
    .execute()
  return {
    people: [owner.user_id, user_id],
    environments: environments.map(({ uid }) => uid),
    identities: identities.map(({ uid }) => uid),
    schedules: [randomUUID(), randomUUID()],
  }
}

/** All pages, in order, with something happening before each page but the first. */
async function walk(asked: Asked, limit: number, meanwhile: () => Promise<unknown>): Promise<Run[]> {
  const seen: Run[] = []
  for (let cursor: string | undefined; ; ) {
    const { runs, page_info } = await house.client.runs.list({
      query: { ...asked, limit, ...(cursor === undefined ? {} : { cursor }) },
    })
    seen.push(...runs)
    expect(runs.length).toBeLessThanOrEqual(limit)
    if (!page_info.has_next_page) return seen
    expect(runs.length).toBe(limit)
    expect(page_info.next_cursor).toBeDefined()
    cursor = page_info.next_cursor
    await meanwhile()
  }
}

async function bearByApi(random: Random, plot: Plot): Promise<Planted> {
  const environment = random.chance(0.5) ? random.of(plot.environments) : null
  const identity = random.chance(0.5) ? random.of(plot.identities) : null
  const { run_id } = await house.client.runs.create({
    body: {
      prompt: 'mango by hand',
      title: 'Through the API',
      config: { name: 'beta', ...(environment === null ? {} : { environment_id: environment }) },
      metadata: { ticket_id: 'VIS-2' },
      ...(identity === null ? {} : { agent_identity_uid: identity }),
    },
  })
  const { created_at, updated_at, state } = await house.client.runs.get({ params: { run_id } })
  const micros = (at: string) => at.replace('Z', '000Z')
  return {
    run_id,
    created_at: micros(created_at),
    updated_at: micros(updated_at),
    state,
    title: 'Through the API',
    prompt: 'mango by hand',
    skill: null,
    name: 'beta',
    model: null,
    environment,
    source: 'API',
    location: 'REMOTE',
    creator: house.owner.user_id,
    identity,
    schedule_id: null,
    parent_run_id: null,
    metadata: { ticket_id: 'VIS-2' },
    artifacts: [],
  }
}

// The seed is the test's name: a failure names what to begin with.
describe.each([1, 20, 300])('with seed %i', (seed) => {
  test('a walk shows what a plain list would, once and in order, while others insert and change', async () => {
    const random = randomOf(seed)
    const plot = await plotOf(house)
    await house.database.kysely.deleteFrom('run_texts').execute()
    await sql`truncate runs cascade`.execute(house.database.kysely)
    const runs: Planted[] = []
    for (let n = 0; n < RUNS; n++) {
      const run = randomRun(random, plot, runs)
      await plant(house, run)
      runs.push(run)
    }
    for (let n = 0; n < 6; n++) runs.push(await bearByApi(random, plot))
    for (let n = 0; n < WALKS; n++) await tryWalk(random, plot, runs)
  }, 60_000)
})

async function tryWalk(random: Random, plot: Plot, runs: Planted[]): Promise<void> {
  const asked: Asked = {
    ...randomFilters(random, plot, runs),
    sort_by: random.of(SORTS),
    sort_order: random.of(['asc', 'desc'] as const),
  }
  const limit = random.of([1, 2, 3, 7, 20, 500].filter((size) => size > 1 || isSmall(asked, runs)))
  const before = [...runs]
  const changed = new Set<string>()
  const seen = await walk(asked, limit, async () => {
    const fresh = randomRun(random, plot, before)
    await plant(house, fresh)
    runs.push(fresh)
    if (asked.sort_by !== 'updated_at' || random.chance(0.7)) return
    const one = random.of(before)
    const updated_at = house.clock.now().toISOString().replace('Z', '000Z')
    await sql`update runs set updated_at = ${updated_at}::timestamptz where run_id = ${one.run_id}`.execute(
      house.database.kysely,
    )
    changed.add(one.run_id)
    one.updated_at = updated_at
  })
  const what = JSON.stringify({ asked, limit })
  const ids = seen.map((run) => run.run_id)
  expect(new Set(ids).size, `none twice: ${what}`).toBe(ids.length)
  const known = new Map(runs.map((run) => [run.run_id, run]))
  for (const run_id of ids)
    expect(isWanted(asked, known.get(run_id) as Planted), `${run_id} wanted: ${what}`).toBe(true)
  const steady = (run: Planted) => !changed.has(run.run_id)
  const expected = before.filter((run) => steady(run) && isWanted(asked, run)).sort(compareBy(asked))
  const were = new Set(before.filter(steady).map((run) => run.run_id))
  expect(
    ids.filter((run_id) => were.has(run_id)),
    `all of them, in order: ${what}`,
  ).toEqual(expected.map((run) => run.run_id))
  const order = seen.map((run) => known.get(run.run_id) as Planted).filter(steady)
  expect(order, `what came meanwhile has its place: ${what}`).toEqual([...order].sort(compareBy(asked)))
}

/** One by one is for lists that are not long. */
const isSmall = (asked: Asked, runs: Planted[]): boolean => runs.filter((run) => isWanted(asked, run)).length < 15

async function refused(query: string): Promise<string> {
  const response = await fetch(`${house.url}/api/v1/agent/runs?${query}`, {
    headers: { authorization: `Bearer ${house.api_key}` },
  })
  const body = (await response.json()) as { error?: string }
  expect(response.status, query).toBe(400)
  return body.error ?? ''
}

async function idsOf(query: string): Promise<string[]> {
  const response = await fetch(`${house.url}/api/v1/agent/runs?${query}`, {
    headers: { authorization: `Bearer ${house.api_key}` },
  })
  const body = (await response.json()) as { runs: { run_id: string }[]; error?: string }
  expect(response.status, `${query} ${body.error}`).toBe(200)
  return body.runs.map((run) => run.run_id)
}

describe('a list', () => {
  const make = async (body: z.input<typeof CreateRun>) => (await house.client.runs.create({ body })).run_id

  test('refuses a cursor of another sort or of other filters, and takes it with another page size', async () => {
    for (let n = 0; n < 3; n++) await make({ prompt: `page ${n}`, config: { name: 'paged' } })
    const query = { name: 'paged', sort_by: 'created_at', limit: 1 } as const
    const { page_info } = await house.client.runs.list({ query })
    const cursor = page_info.next_cursor ?? ''
    const base = `name=paged&cursor=${encodeURIComponent(cursor)}`
    expect(await idsOf(`${base}&sort_by=created_at&limit=50`)).toHaveLength(2)
    for (const wrong of [
      'sort_by=updated_at',
      'sort_by=title',
      'sort_by=created_at&sort_order=asc',
      'q=x&sort_by=created_at',
    ])
      expect(await refused(`${base}&${wrong}`)).toMatch(/cursor does not belong/)
    expect(await refused(`name=other&sort_by=created_at&cursor=${cursor}`)).toMatch(/cursor does not belong/)
    const forge = (made: object) => Buffer.from(JSON.stringify(made)).toString('base64url')
    const forged = forge({ sort: 'x', at: '\0', id: randomUUID() })
    expect(await refused(`sort_by=title&cursor=${forged}`)).toMatch(/cursor does not belong/)
    const own = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    expect(await idsOf(`name=paged&sort_by=created_at&cursor=${forge(own)}`)).toHaveLength(2)
    const early = forge({ ...own, at: '0000-01-01T00:00:00Z' })
    expect(await refused(`name=paged&sort_by=created_at&cursor=${early}`)).toMatch(/cursor does not belong/)
  })

  test.each(['asc', 'desc'] as const)(
    'by updated_at, %s, shows no run twice, and misses what changes ahead',
    async (way) => {
      const name = `moving ${way}`
      const made: string[] = []
      for (let n = 0; n < 6; n++) made.push(await make({ prompt: `moving ${n}`, config: { name } }))
      const met = way === 'asc' ? made : made.toReversed()
      const touch = (run_id = '') =>
        house.database.kysely
          .updateTable('runs')
          .set({ updated_at: house.clock.now() })
          .where('run_id', '=', run_id)
          .execute()
      let page = 0
      const seen = await walk({ name, sort_by: 'updated_at', sort_order: way }, 2, async () => {
        page += 1
        if (page === 1) await Promise.all([touch(met[0]), touch(met[4])])
      })
      expect(seen.map((run) => run.run_id)).toEqual([met[0], met[1], met[2], met[3], met[5]])
      expect(await idsOf(`name=${encodeURIComponent(name)}`)).toHaveLength(6)
    },
  )

  test('says in a sentence what is wrong with a value', async () => {
    const wrongs: [string, RegExp][] = [
      ['source=FAX', /`source` is not valid/],
      ['execution_location=MOON', /`execution_location` is not valid/],
      ['sort_by=colour', /`sort_by` is not valid/],
      ['artifact_type=POEM', /`artifact_type` is not valid/],
      ['updated_after=2026-13-01T00:00:00Z', /`updated_after` is not valid: a time as in RFC 3339/],
      ['schedule_id=nightly', /`schedule_id` is not valid/],
      ['metadata=x', /`metadata` is not valid: write it as metadata\[key\]=value/],
      ['metadata[a b]=x', /`metadata.*is not valid/],
      ['metadata[a]=1&metadata[b]=1&metadata[c]=1&metadata[d]=1&metadata[e]=1&metadata[f]=1', /at most 5 pairs/],
      ['skill=deploy&skill_spec=review', /mean the same/],
      [`q=${Array(17).fill('word').join('%20')}`, /at most 16 words/],
      [`ancestor_run_id=${randomUUID()}`, /ancestor_run_id: There is no run/],
      ['ancestor_run_id=nonsense', /`ancestor_run_id` is not valid/],
    ]
    for (const [query, sentence] of wrongs) expect(await refused(query), query).toMatch(sentence)
  })

  test('takes arrays and brackets in every spelling', async () => {
    const run_id = await make({ prompt: 'spelled', metadata: { 'area.name': 'ü&=', ticket: '1' } })
    for (const query of [
      'metadata[ticket]=1',
      'metadata%5Bticket%5D=1',
      `metadata[ticket]=1&metadata[area.name]=${encodeURIComponent('ü&=')}`,
      'state=QUEUED&metadata[ticket]=1',
      'state=QUEUED&state=in-progress&metadata[ticket]=1',
      'state[]=QUEUED&state[]=IN_PROGRESS&metadata[ticket]=1',
      'state%5B%5D=queued&metadata[ticket]=1',
      'cursor=&q=&metadata[ticket]=1',
    ])
      expect(await idsOf(query), query).toEqual([run_id])
    expect(await idsOf('metadata[Ticket]=1')).toEqual([])
  })

  test('finds people by e-mail address, environments by name, and nothing of automations or unknown factories', async () => {
    const email = `${randomUUID()}@Example.com`
    await house.database.kysely.updateTable('users').set({ email }).where('user_id', '=', house.owner.user_id).execute()
    const name = `By name ${randomUUID()}`
    const { uid } = await house.client.environments.create({ body: { name } })
    const run_id = await make({ prompt: 'mine', config: { environment_id: uid } })
    const there = `environment_id=${encodeURIComponent(name.toUpperCase())}`
    expect(await idsOf(there)).toEqual([run_id])
    expect(await idsOf(`${there}&creator=${email.toLowerCase()}`)).toEqual([run_id])
    expect(await idsOf(`${there}&creator=${house.owner.user_id.toUpperCase()}`)).toEqual([run_id])
    expect(await idsOf(`${there}&executor=${encodeURIComponent(email)}`)).toEqual([run_id])
    for (const none of ['creator=nobody@example.com', 'executor=nobody', 'automation_id=a', 'factory_uid=f'])
      expect(await idsOf(`${there}&${none}`), none).toEqual([])
    const agent = await house.client.identities.create({ body: { name: `Of a factory ${uid}`, factory_uid: uid } })
    const made = await make({ prompt: 'in its name', agent_identity_uid: agent.uid })
    expect(await idsOf(`factory_uid=${uid}`)).toEqual([made])
    expect(await idsOf(`executor=${agent.uid}`)).toEqual([made])
  })

  test('is searched without texts that analyze would keep, which take longer to try than the search', async () => {
    const { pool } = house.database
    for (let n = 0; n < 3; n++) await make({ prompt: `Kept ${n}` })
    await pool.query('analyze run_texts')
    const { rows } = await pool.query(`select attname from pg_stats where tablename = 'run_texts' order by attname`)
    expect(rows).toEqual([{ attname: 'run_id' }, { attname: 'team_id' }])
  })

  test('is searched in an index whose list of new entries the servers merge, so that new runs need not', async () => {
    const { pool } = house.database
    await pool.query('create extension if not exists pgstattuple')
    for (let n = 0; n < 5; n++) await make({ prompt: `Set aside ${n}: ${randomUUID()}` })
    await vi.waitFor(async () => {
      const { rows } = await pool.query(`select pending_tuples from pgstatginindex('run_texts_search')`)
      expect(rows).toEqual([{ pending_tuples: 0 }])
    }, 20_000)
  })

  test('finds words nearly as they are written, and what a follow-up adds to a prompt', async () => {
    const run_id = await make({ prompt: 'Deploy the website to the staging servers.' })
    for (const q of ['deploy', 'DEPLOY website', 'deplyo', 'websiet', 'stag', 'servers deploy'])
      expect(await idsOf(`q=${encodeURIComponent(q)}`), q).toContain(run_id)
    for (const q of ['destroy', 'deploy moon', '%', '_'])
      expect(await idsOf(`q=${encodeURIComponent(q)}`), q).not.toContain(run_id)
    expect(await idsOf('q=afterwards')).not.toContain(run_id)
    await house.client.followUps.create({ params: { run_id }, body: { message: 'Afterwards, tell me.' } })
    expect(await idsOf('q=afterwards')).toEqual([run_id])
  })
})

test('where PostgreSQL may have no extensions, words are found as they are written', async () => {
  const empty = await freshDatabase({ migrated: false })
  const role = `plain_${randomUUID().slice(0, 8)}`
  await empty.pool.query(`create role ${role} login; grant usage, create on schema public to ${role}`)
  const database = openDatabase({ connection: { ...empty.connection, user: role } })
  try {
    await migrate(database)
    const plain = await startHouse({ database })
    const { run_id } = await plain.client.runs.create({ body: { prompt: 'Deploy the website.' } })
    const find = async (q: string) => (await plain.client.runs.list({ query: { q } })).runs.map((run) => run.run_id)
    expect(await find('DEPLOY site')).toEqual([run_id])
    expect(await find('deplyo')).toEqual([])
    await plain.close()
  } finally {
    await database.close()
    await empty.pool.query(`drop owned by ${role} cascade; drop role ${role}`)
    await empty.close()
  }
})
