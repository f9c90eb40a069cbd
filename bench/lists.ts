/**
 * Lists of runs over HTTP: every filter by itself, first page and page `PAGE`, of a team that has `OF_TEAM` runs: in a
 * store of two such teams, then in one of very many (`--runs=N` in all), then when it has `BIG_TEAM` more itself.
 * `--each` tells of every filter.
 */
import { z } from 'zod'
import { type Figure, median, ms, quantile, times } from './figures.ts'
import { openPool, type Up, up } from './house.ts'
import { growFirst, sowRuns, sowTeams, TEAMS, WORDS } from './lists-seed.ts'

const OF_TEAM = 5_000
const SMALL = 2 * OF_TEAM
const BIG_TEAM = 200_000
const PAGE = 100
const LIMIT = 20
const ROUNDS = 30
const WARM_ROUNDS = 5
const CREATES = 300
const P50_MS_MAX = 15
const RATIO_MAX = 2
const CREATE_RATIO_MAX = 1.3

type Query = Record<string, string>
type Pool = Awaited<ReturnType<typeof openPool>>
type Took = Map<string, { first: number; far: number }>

const Listed = z.object({
  runs: z.array(z.object({ run_id: z.string() })),
  page_info: z.object({ next_cursor: z.string().optional() }),
})
const Known = z.object({ run_id: z.string(), creator_id: z.string(), now: z.date(), middle: z.date() })

export async function lists(count: number): Promise<Figure[]> {
  const baton = await up(['--no-worker', '--max-concurrent', '1000'])
  const pool = await openPool(baton)
  try {
    await sowTeams(pool)
    await sowRuns(pool, { from: 0, to: SMALL, first_team: 0, teams: 2 })
    const small = { took: await measure(baton, await queriesOf(pool)), create: await creating(baton, pool) }
    await sowRuns(pool, { from: SMALL, to: count, first_team: 2, teams: TEAMS - 2 })
    const large = { took: await measure(baton, await queriesOf(pool)), create: await creating(baton, pool) }
    await growFirst(pool, count, BIG_TEAM)
    const big = await measure(baton, await queriesOf(pool))
    if (process.argv.includes('--each'))
      console.table(
        [...large.took].map(([name, t]) => ({
          name,
          small: small.took.get(name)?.first,
          first: t.first,
          far: t.far,
          big: big.get(name)?.first,
          big_far: big.get(name)?.far,
        })),
      )
    return [
      ...figuresOf(`${count} runs of ${TEAMS} teams`, large.took, small.took),
      {
        name: `create, p50, with ${count} runs`,
        value: `${ms(large.create)} (${times(large.create / small.create)} with ${SMALL})`,
        promise: `≤ ${times(CREATE_RATIO_MAX)}`,
        held: large.create <= CREATE_RATIO_MAX * small.create,
      },
      ...worstOf(`a team of ${BIG_TEAM} runs more`, big).map(({ name, value }) => ({ name, value })),
    ]
  } finally {
    await pool.end()
    await baton.close()
  }
}

/** Each by itself. */
async function queriesOf(pool: Pool): Promise<Record<string, Query>> {
  const { rows } = await pool.query(`select
    (select r.run_id from runs r join bench_teams t using (team_id) where t.number = 0 and exists
      (select from runs c where c.parent_run_id = r.run_id) limit 1) as run_id,
    bench_id('user 0 1')::text as creator_id, max(created_at) as now,
    min(created_at) + (max(created_at) - min(created_at)) / 2 as middle
    from runs`)
  const { run_id, creator_id, now, middle } = Known.parse(rows[0])
  const { rows: uids } = await pool.query<Record<string, string>>(`select bench_uid('environment 0 0') as environment,
    bench_uid('identity 0') as identity, bench_id('schedule 0')::text as schedule`)
  const { environment = '', identity = '', schedule = '' } = uids[0] ?? {}
  return {
    none: {},
    'state (most)': { state: 'SUCCEEDED' },
    'state (few)': { state: 'BLOCKED' },
    'source (most)': { source: 'API' },
    'source (few)': { source: 'SLACK' },
    'source (no run)': { source: 'JIRA' },
    execution_location: { execution_location: 'LOCAL' },
    creator: { creator: creator_id },
    'creator by e-mail': { creator: 'user1@team0.example' },
    executor: { executor: identity },
    name: { name: 'agent-7' },
    'name (no run)': { name: 'nobody' },
    model_id: { model_id: 'model-1' },
    created_after: { created_after: middle.toISOString() },
    created_before: { created_before: middle.toISOString() },
    updated_after: { updated_after: middle.toISOString() },
    'updated_after (no run)': { updated_after: new Date(now.getTime() + 86_400_000).toISOString() },
    environment_id: { environment_id: environment },
    'environment_id empty': { environment_id: 'empty-environment' },
    skill: { skill: 'shop:skill-7' },
    schedule_id: { schedule_id: schedule },
    ancestor_run_id: { ancestor_run_id: run_id },
    'artifact_type (most)': { artifact_type: 'PULL_REQUEST' },
    'artifact_type (few)': { artifact_type: 'EXTERNAL_REFERENCE' },
    'artifact_type (no run)': { artifact_type: 'PLAN' },
    'q (many)': { q: WORDS.common },
    'q (few)': { q: WORDS.rare },
    'q (misspelled)': { q: WORDS.typo },
    'q (two words)': { q: 'payment timeout' },
    'q (no run)': { q: 'xylophone' },
    metadata: { 'metadata[ticket_id]': 'VIS-7' },
    top: { top: 'true' },
    'by created_at': { sort_by: 'created_at' },
    'by title': { sort_by: 'title', sort_order: 'asc' },
    'by agent': { sort_by: 'agent', sort_order: 'asc' },
  }
}

/** In turns, so that whatever else the machine does is shared; the median of each. */
async function measure(baton: Up, queries: Record<string, Query>): Promise<Took> {
  const pages = new Map<string, { first: Query; far: Query }>()
  for (const [name, query] of Object.entries(queries)) {
    const first = { limit: String(LIMIT), ...query }
    pages.set(name, { first, far: await walkTo(baton, first) })
  }
  const spent = new Map([...pages.keys()].map((name) => [name, { first: [] as number[], far: [] as number[] }]))
  for (let round = 0; round < WARM_ROUNDS + ROUNDS; round++) {
    for (const [name, { first, far }] of pages) {
      const times = { first: await timed(baton, first), far: await timed(baton, far) }
      if (round < WARM_ROUNDS) continue
      spent.get(name)?.first.push(times.first)
      spent.get(name)?.far.push(times.far)
    }
  }
  return new Map([...spent].map(([name, { first, far }]) => [name, { first: median(first), far: median(far) }]))
}

/** Page `PAGE`, or the last. */
async function walkTo(baton: Up, first: Query): Promise<Query> {
  let query = first
  for (let page = 1; page < PAGE; page++) {
    const { next_cursor } = Listed.parse(await ask(baton, query)).page_info
    if (next_cursor === undefined) break
    query = { ...first, cursor: next_cursor }
  }
  return query
}

async function timed(baton: Up, query: Query): Promise<number> {
  const began = performance.now()
  await ask(baton, query)
  return performance.now() - began
}

async function ask({ client }: Up, query: Query): Promise<unknown> {
  const response = await client.raw('GET', '/api/v1/agent/runs', { query: new URLSearchParams(query) })
  return response.json()
}

/** They then count as old, or they would stand before all others in what is measured next. */
async function creating({ client }: Up, pool: Pool): Promise<number> {
  const body = { prompt: 'Fix the login of the shop, which times out since the release.', config: { name: 'fixer' } }
  const spent: number[] = []
  for (let n = 0; n < CREATES; n++) {
    const began = performance.now()
    await client.runs.create({ body })
    spent.push(performance.now() - began)
  }
  await pool.query(
    `update runs set created_at = '2024-01-01', updated_at = '2024-01-01' where config->>'name' = 'fixer'`,
  )
  return median(spent)
}

function figuresOf(where: string, large: Took, small: Took): Figure[] {
  const ratios = [...large].map(([name, took]) => {
    const before = small.get(name)
    return {
      name,
      ratio: before ? Math.max(took.first / before.first, took.far / Math.max(before.first, before.far)) : 1,
    }
  })
  const [worst] = ratios.sort((a, b) => b.ratio - a.ratio)
  return [
    ...worstOf(where, large),
    {
      name: `the filter that grows most from ${SMALL} runs to that (${worst?.name})`,
      value: times(worst?.ratio ?? 1),
      promise: `≤ ${times(RATIO_MAX)}`,
      held: (worst?.ratio ?? 1) <= RATIO_MAX,
    },
  ]
}

function worstOf(where: string, took: Took): Figure[] {
  return (['first', 'far'] as const).map((page) => {
    const sorted = [...took].sort(([, a], [, b]) => b[page] - a[page])
    const [slowest, worst] = sorted[0] ?? ['', { first: Number.NaN, far: Number.NaN }]
    const all = sorted.map(([, each]) => each[page])
    const which = page === 'first' ? 'first page' : `page ${PAGE}, or the last`
    return {
      name: `${where}: ${which}, p50 of the slowest of ${took.size} filters (${slowest})`,
      value: `${ms(worst[page])} (the median filter ${ms(median(all))}, nine of ten ${ms(quantile(all, 0.9))})`,
      promise: `≤ ${P50_MS_MAX} ms`,
      held: worst[page] <= P50_MS_MAX,
    }
  })
}
