/**
 * Whole lives of runs without processes: create, offer, claim, begin, five transcript entries, finish, each over
 * real HTTP and the real worker WebSocket, with one server and one PostgreSQL; beside it, in the same PostgreSQL,
 * what a bare queue of one table does.
 */
import { openScriptedWorker } from '../test/house/worker.ts'
import { type Figure, times } from './figures.ts'
import { openPool, type Up, up } from './house.ts'

const LIVES = 1500
const IN_FLIGHT = 48
const ENTRIES = 5
const LIVES_A_SECOND_MIN = 150
const BARE_ROWS = 3000
const BARE_CLIENTS = 8

export async function lifecycles(): Promise<Figure[]> {
  const baton = await up(['--no-worker', '--max-concurrent', '1000'])
  try {
    const before = await bareQueue(baton)
    const lives = await live(baton)
    const after = await bareQueue(baton)
    const bare = (before + after) / 2
    return [
      { name: 'bare `skip locked` enqueue + claim + complete, one row at a time', value: `${Math.round(bare)}/s` },
      {
        name: `lives of runs (create, claim, begin, ${ENTRIES} entries, finish)`,
        value: `${Math.round(lives)}/s (${times(lives / bare)} the bare queue)`,
        promise: `≥ ${LIVES_A_SECOND_MIN}/s`,
        held: lives >= LIVES_A_SECOND_MIN,
      },
    ]
  } finally {
    await baton.close()
  }
}

async function live(baton: Up): Promise<number> {
  const worker = await openScriptedWorker({ url: baton.url, api_key: baton.api_key, capacity: IN_FLIGHT })
  const create = () => baton.client.runs.create({ body: { prompt: 'x', config: { harness: { type: 'command' } } } })
  try {
    await Promise.all([create(), worker.next().then((piece) => piece.work(ENTRIES))])
    const began = performance.now()
    let asked = 0
    let taken = 0
    const creating = Array.from({ length: 8 }, async () => {
      while (asked++ < LIVES) await create()
    })
    const working = Array.from({ length: IN_FLIGHT }, async () => {
      while (taken++ < LIVES) await (await worker.next(30_000)).work(ENTRIES)
    })
    await Promise.all([...creating, ...working])
    return (LIVES * 1000) / (performance.now() - began)
  } finally {
    await worker.close()
  }
}

/** Rows a second through insert, `for update skip locked`, and the mark that it is done, each its own commit. */
async function bareQueue(baton: Up): Promise<number> {
  const pool = await openPool(baton, { max: BARE_CLIENTS, database: 'postgres' })
  try {
    await pool.query(
      'create table if not exists bare_queue (id bigserial primary key, state text not null, payload jsonb)',
    )
    await pool.query('truncate bare_queue')
    const began = performance.now()
    let taken = 0
    const clients = Array.from({ length: BARE_CLIENTS }, async () => {
      while (taken++ < BARE_ROWS) {
        await pool.query(`insert into bare_queue (state, payload) values ('queued', '{}')`)
        const { rows } = await pool.query(`update bare_queue set state = 'claimed' where id = (
          select id from bare_queue where state = 'queued' order by id limit 1 for update skip locked) returning id`)
        await pool.query(`update bare_queue set state = 'done' where id = $1`, [rows[0]?.id])
      }
    })
    await Promise.all(clients)
    return (BARE_ROWS * 1000) / (performance.now() - began)
  } finally {
    await pool.end()
  }
}
