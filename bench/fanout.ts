/**
 * Fan-out on one machine: `CHILDREN` children of the `command` harness, `LIMIT` at a time, each a real runner in a
 * sandbox of its own. A child's overhead is the time for which it takes up a slot, from its offer until the slot was
 * offered to another, less what its command says that it took itself.
 */
import { z } from 'zod'
import { pause } from '../src/sdk/client.ts'
import { type Figure, median, ms, quantile } from './figures.ts'
import { openPool, type Up, up } from './house.ts'

export const CHILDREN = 200
export const LIMIT = 8
const OVERHEAD_MS_MAX = 400
const OWN_S = 1
const WAIT_MS = 300_000
/** Says when it began and ended, in seconds since 1970. */
export const COMMAND = `began=$EPOCHREALTIME; sleep ${OWN_S}; echo "took $began $EPOCHREALTIME"`

export async function fanout(): Promise<Figure[]> {
  const baton = await up(['--max-concurrent', String(LIMIT)])
  try {
    // The first ones warm the caches of the file system and of the compiler.
    await fanOut(baton, LIMIT)
    const lives = await fanOut(baton, CHILDREN)
    const overheads = overheadsOf(lives)
    const wall = Math.max(...lives.map((life) => life.ended)) - Math.min(...lives.map((life) => life.offered))
    const least = (CHILDREN / LIMIT) * OWN_S * 1000
    const p50 = median(overheads)
    return [
      {
        name: `overhead of a child, p50 (${CHILDREN} children, ${LIMIT} at a time)`,
        value: ms(p50),
        promise: `≤ ${OVERHEAD_MS_MAX} ms`,
        held: p50 <= OVERHEAD_MS_MAX,
      },
      { name: 'overhead of a child, p95', value: ms(quantile(overheads, 0.95)) },
      { name: 'of it: offer → command begins, p50', value: ms(median(lives.map((life) => life.began - life.offered))) },
      {
        name: 'of it: command has ended → run has ended, p50',
        value: ms(median(lives.map((life) => life.ended - life.done))),
      },
      {
        name: `all ${CHILDREN}`,
        value: `${(wall / 1000).toFixed(1)} s (${(CHILDREN / (wall / 1000)).toFixed(1)}/s; the commands alone take ${(least / 1000).toFixed(1)} s)`,
      },
    ]
  } finally {
    await baton.close()
  }
}

/** Of one child, in milliseconds since 1970; `began` and `done` are its command's own words. */
type Life = { offered: number; began: number; done: number; ended: number }

export async function fanOut(baton: Up, count: number): Promise<Life[]> {
  const config = { harness: { type: 'command' } }
  const { run_id: parent_run_id } = await baton.client.runs.create({ body: { prompt: 'true', config } })
  await over(baton, parent_run_id)
  for (let n = 0; n < count; n++) await baton.client.runs.create({ body: { prompt: COMMAND, config, parent_run_id } })
  await over(baton, parent_run_id)
  return livesOf(baton, parent_run_id)
}

async function over(baton: Up, run_id: string): Promise<void> {
  for (const until = performance.now() + WAIT_MS; performance.now() < until; await pause(250)) {
    const { done, counts } = await baton.client.trees.get({ params: { run_id } })
    if (!done) continue
    if (Object.keys(counts).some((state) => state !== 'SUCCEEDED'))
      throw new Error(`Not all succeeded: ${JSON.stringify(counts)}`)
    return
  }
  throw new Error('The children did not end in time.')
}

const Row = z.object({ offered_at: z.date(), ended_at: z.date(), text: z.string() })

export async function livesOf(baton: Up, parent_run_id: string): Promise<Life[]> {
  const pool = await openPool(baton)
  try {
    const { rows } = await pool.query(
      `select x.offered_at, x.ended_at, e.body->>'text' as text from runs r join executions x using (run_id)
       join entries e on e.execution_id = x.execution_id and e.kind = 'output' where r.parent_run_id = $1`,
      [parent_run_id],
    )
    return z
      .array(Row)
      .parse(rows)
      .map(({ offered_at, ended_at, text }) => {
        const [, began, done] = /^took ([\d.]+) ([\d.]+)$/m.exec(text) ?? []
        return {
          offered: offered_at.getTime(),
          began: Number(began) * 1000,
          done: Number(done) * 1000,
          ended: ended_at.getTime(),
        }
      })
  } finally {
    await pool.end()
  }
}

/** The slot of the child that ended n-th is the next to be offered again; the last ones' slots never were. */
export function overheadsOf(lives: Life[]): number[] {
  const offers = lives.map((life) => life.offered).sort((a, b) => a - b)
  const ends = [...lives].sort((a, b) => a.ended - b.ended)
  return ends.flatMap((life, at) => {
    const next = offers[at + LIMIT]
    return next === undefined ? [] : [next - life.offered - (life.done - life.began)]
  })
}
