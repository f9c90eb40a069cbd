/**
 * A tree of `RUNS` runs read over HTTP, each with executions, usage and a transcript, first in a store of its own, then in a store that holds `OTHERS`
 * other runs.
 */
import type pg from 'pg'
import { pause } from '../src/sdk/client.ts'
import { type Figure, median, ms, quantile, times } from './figures.ts'
import { openPool, type Up, up } from './house.ts'

const RUNS = 1000
const OTHERS = 100_000
/** Transcript entries of each run of the tree. */
const ENTRIES = 20
const READS = 60
const WARM_READS = 10
const P50_MS_MAX = 50

export async function trees(): Promise<Figure[]> {
  const baton = await up(['--no-worker'])
  try {
    const config = { harness: { type: 'claude' } }
    const { run_id } = await baton.client.runs.create({ body: { prompt: 'Lead them.', config } })
    await plant(baton, run_id)
    const alone = await read(baton, run_id)
    await crowd(baton, run_id)
    const among = await read(baton, run_id)
    const p50 = median(among)
    return [
      { name: `a tree of ${RUNS} runs, alone in the store, p50`, value: ms(median(alone)) },
      {
        name: `the same among ${OTHERS} other runs, p50`,
        value: `${ms(p50)} (${times(p50 / median(alone))} alone)`,
        promise: `≤ ${P50_MS_MAX} ms`,
        held: p50 <= P50_MS_MAX,
      },
      { name: 'the same, p95', value: ms(quantile(among, 0.95)) },
    ]
  } finally {
    await baton.close()
  }
}

async function read(baton: Up, run_id: string): Promise<number[]> {
  const spent: number[] = []
  for (let n = 0; n < WARM_READS + READS; n++) {
    const began = performance.now()
    const response = await baton.client.raw('GET', `/api/v1/agent/runs/${run_id}/tree`)
    const text = await response.text()
    if (n >= WARM_READS) spent.push(performance.now() - began)
    if (n === 0 && JSON.parse(text).nodes.length !== RUNS) throw new Error('The tree is not as it was planted.')
    await pause(5)
  }
  return spent
}

/** The root has 9 children, and they have all the others. */
async function plant(baton: Up, run_id: string): Promise<void> {
  const pool = await openPool(baton)
  try {
    const below = (depth: number) => `(select array_agg(run_id) from runs where root_run_id = $1 and depth = ${depth})`
    await copyRuns(pool, { run_id, count: 9, parents: below(0), root: '$1', depth: 1 })
    await copyRuns(pool, { run_id, count: RUNS - 10, parents: below(1), root: '$1', depth: 2 })
    await live(pool, `root_run_id = '${run_id}'`, ENTRIES)
  } finally {
    await pool.end()
  }
}

async function crowd(baton: Up, run_id: string): Promise<void> {
  const pool = await openPool(baton)
  try {
    await copyRuns(pool, { run_id, count: OTHERS, parents: 'array[null]', root: 'fresh.id', depth: 0 })
    await live(pool, `root_run_id != '${run_id}'`, 1)
    await pool.query('vacuum analyze')
  } finally {
    await pool.end()
  }
}

type Copies = { run_id: string; count: number; parents: string; root: string; depth: number }

/** Runs like the one named, a millisecond apart, by parents in turn. */
async function copyRuns(pool: pg.Pool, { run_id, count, parents, root, depth }: Copies): Promise<void> {
  const { rows } = await pool.query<{ columns: string }>(
    `select string_agg(quote_ident(attname), ', ') as columns from pg_attribute
     where attrelid = 'runs'::regclass and attnum > 0 and not attisdropped and attgenerated = ''`,
  )
  const columns = rows[0]?.columns
  await pool.query(
    `insert into runs (${columns}) select ${columns} from (select (jsonb_populate_record(model, jsonb_build_object('run_id', fresh.id,
       'root_run_id', ${root}::uuid,
       'parent_run_id', parents.ids[1 + fresh.n % cardinality(parents.ids)], 'depth', ${depth}, 'conversation_id', fresh.id,
       'title', 'run ' || fresh.n, 'created_at', model.created_at + fresh.n * interval '1 millisecond'))).*
     from runs as model, (select ${parents} as ids) as parents,
       (select n, gen_random_uuid() as id from generate_series(1, ${count}) as n) as fresh
     where model.run_id = $1) as copies`,
    [run_id],
  )
}

/** Every one of them has run, and every fifth a second time; each has usage and a transcript. */
async function live(pool: pg.Pool, which: string, entries: number): Promise<void> {
  const usage = { input_tokens: 1200, output_tokens: 300, cache_read_tokens: 90_000, cost_usd: 0.12, cpu_seconds: 4 }
  await pool.query(
    `insert into executions (execution_id, run_id, team_id, number, state, cause, token_hash, worker_host, offered_at, started_at,
       ended_at, harness, entries, outcome, usage, last_words)
     select gen_random_uuid(), run_id, team_id, number, 'ended', 'start', sha256((run_id::text || number)::bytea),
       'machine', created_at, created_at, created_at + interval '1 minute', 'claude', ${entries}, 'SUCCEEDED', $1,
       repeat('What it said. ', 14)
     from runs, generate_series(1, case when run_id::text < '34' then 2 else 1 end) as number where ${which}`,
    [JSON.stringify(usage)],
  )
  await pool.query(
    `insert into entries (execution_id, number, run_id, team_id, execution_number, at, kind, body, body_bytes)
     select x.execution_id, n, x.run_id, x.team_id, x.number, x.offered_at,
       case when n % 3 = 0 then 'text' else 'tool_result' end,
       jsonb_build_object('kind', 'text', 'text', repeat('What it said about its work. ', 40)), 1200
     from executions as x join runs using (run_id), generate_series(1, ${entries}) as n
     where ${which.replace('root', 'runs.root')}`,
  )
  await pool.query(
    `update runs set state = 'SUCCEEDED', executions = x.number, execution_id = x.execution_id, started_at = x.started_at,
       ended_at = x.ended_at
     from (select distinct on (run_id) * from executions order by run_id, number desc) as x
     where x.run_id = runs.run_id and ${which.replace('root', 'runs.root')}`,
  )
}
