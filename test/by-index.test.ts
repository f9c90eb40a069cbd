/** Statements that find few rows by an index go on doing so in a store that was empty when they were planned. */
import { type Kysely, sql } from 'kysely'
import { expect, onTestFinished, test } from 'vitest'
import type { Tables } from '../src/db/connect.ts'
import { PLAIN } from '../src/engine/runs.ts'
import { enqueueAll, followAll, type NamedStep, type NewRun } from '../src/engine/transitions.ts'
import { newTimedId } from '../src/engine/uid.ts'
import { type House, startHouse } from './house/house.ts'

const RUNS = 300
/** PostgreSQL makes a plan to keep after five of its own for each call. */
const CALLS = 8

const now = new Date()

const claims = (run_ids: string[]): NamedStep[] =>
  run_ids.map((run_id) => ({ name: 'claim', run_id, now, connection_id: newTimedId(now) }))

function queued({ owner: { team_id, user_id } }: House): NewRun {
  const run_id = newTimedId(now)
  return {
    ...PLAIN,
    run_id,
    team_id,
    owner_user_id: null,
    conversation_id: null,
    state: 'QUEUED',
    title: 'x',
    prompt: 'x',
    config: {},
    identity_uid: null,
    metadata: {},
    source: 'API',
    execution_location: 'REMOTE',
    worker_host: null,
    creator_id: user_id,
    creator_identity_uid: null,
    max_tries: 1,
    parent_run_id: null,
    root_run_id: run_id,
    depth: 0,
    placement: 'worker',
    spawn_key: null,
    execution_id: null,
    now,
  }
}

/** Rows of runs and executions that this transaction has read without an index. */
async function readWhole(read: Kysely<Tables>): Promise<number> {
  const { rows } = await sql<{ read: number }>`
    select sum(seq_tup_read)::int as read from pg_stat_xact_user_tables
    where relname in ('runs', 'executions')`.execute(read)
  return rows[0]?.read ?? Number.NaN
}

test('a step among many runs looks up its own alone, though there were none when it was planned', async () => {
  const house = await startHouse()
  onTestFinished(() => house.close())
  await house.database.byIndex.transaction().execute(async (write) => {
    for (let call = 0; call < CALLS; call++) await followAll(write, claims([newTimedId(now)]))
    const runs = Array.from({ length: RUNS }, () => queued(house))
    await enqueueAll(write, runs)
    const run_ids = runs.map(({ run_id }) => run_id)
    const before = await readWhole(write)
    expect(await followAll(write, claims(run_ids.slice(0, 20)))).toHaveLength(20)
    await enqueueAll(write, [queued(house)])
    expect((await readWhole(write)) - before).toBe(0)
  })
})
