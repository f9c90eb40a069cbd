/**
 * Batches: the fan-out of `command` children of fanout.ts once by hand and once as the tasks of a batch, side by side;
 * and a batch of `TASKS`, half of them done, as people and programs look at it and act on it.
 */

import { pause } from '../src/sdk/client.ts'
import { openScriptedWorker } from '../test/house/worker.ts'
import { CHILDREN, COMMAND, fanOut, LIMIT, livesOf, overheadsOf } from './fanout.ts'
import { type Figure, median, ms, quantile, times } from './figures.ts'
import { type Up, up } from './house.ts'

const OVERHEAD_RATIO_MAX = 1.5
/** The children and the tasks are made in so many turns. */
const TURNS = 4
const TASKS = 2_000
const IN_FLIGHT = 48
const ROUNDS = 15
const ACT_MS_MAX = 200
const WAIT_MS = 300_000

export async function batches(): Promise<Figure[]> {
  return [...(await overhead()), ...(await large())]
}

/** In turns, so that whatever else the machine does is shared. */
function overhead(): Promise<Figure[]> {
  return withUp(['--max-concurrent', String(LIMIT)], async (baton) => {
    await fanOut(baton, LIMIT)
    await runBatch(baton, LIMIT)
    const byHand: number[] = []
    const inBatch: number[] = []
    for (let turn = 0; turn < TURNS; turn++) {
      byHand.push(...overheadsOf(await fanOut(baton, CHILDREN / TURNS)))
      inBatch.push(...overheadsOf(await livesOf(baton, await runBatch(baton, CHILDREN / TURNS))))
    }
    const p50 = median(inBatch)
    const least = median(byHand)
    return [
      { name: `overhead of a child started by hand, p50 (${CHILDREN}, ${LIMIT} at a time)`, value: ms(least) },
      {
        name: `overhead of a task of a batch, p50 (${CHILDREN}, concurrency ${LIMIT})`,
        value: `${ms(p50)} (${times(p50 / least)} by hand)`,
        promise: `≤ ${OVERHEAD_RATIO_MAX}×`,
        held: p50 <= OVERHEAD_RATIO_MAX * least,
      },
      { name: 'overhead of a task of a batch, p95', value: ms(quantile(inBatch, 0.95)) },
    ]
  })
}

async function withUp<T>(args: string[], measure: (baton: Up) => Promise<T>): Promise<T> {
  const baton = await up(args)
  try {
    return await measure(baton)
  } finally {
    await baton.close()
  }
}

async function runBatch({ client }: Up, count: number): Promise<string> {
  const tasks = Array.from({ length: count }, () => ({ prompt: COMMAND }))
  const { batch_id } = await client.batches.create({
    body: { tasks, concurrency: LIMIT, defaults: { harness: 'command' } },
  })
  for (const until = performance.now() + WAIT_MS; performance.now() < until; await pause(250)) {
    const batch = await client.batches.get({ params: { batch_id } })
    if (batch.state === 'completed') return batch_id
    if (batch.ended_at !== null) throw new Error(`Not all succeeded: ${batch.message}`)
  }
  throw new Error('The batch did not end in time.')
}

function large(): Promise<Figure[]> {
  return withUp(['--no-worker', '--max-concurrent', '1000'], async (baton) => {
    const { client } = baton
    const tasks = Array.from({ length: TASKS }, (_, n) => ({ prompt: `task ${n}` }))
    const began = performance.now()
    const { batch_id } = await client.batches.create({ body: { tasks, concurrency: IN_FLIGHT } })
    const created = performance.now() - began
    const rate = await doHalf(baton)
    const params = { batch_id }
    const query = { limit: TASKS }
    return [
      { name: `a batch of ${TASKS} tasks is made`, value: ms(created) },
      { name: 'its tasks, each with five entries, by a scripted worker', value: `${Math.round(rate)}/s` },
      await act('it is listed with the others, p50', () => client.batches.list({})),
      await act(`its ${TASKS} tasks are listed, p50`, () => client.batches.tasks({ params, query })),
      ...(await toggled(baton, batch_id)),
    ]
  })
}

async function doHalf(baton: Up): Promise<number> {
  const worker = await openScriptedWorker({ url: baton.url, api_key: baton.api_key, capacity: IN_FLIGHT })
  const began = performance.now()
  let taken = 0
  const working = Array.from({ length: IN_FLIGHT }, async () => {
    while (taken++ < TASKS / 2) await (await worker.next(30_000)).work(5)
  })
  await Promise.all(working)
  const rate = (TASKS / 2 / (performance.now() - began)) * 1000
  await worker.close()
  return rate
}

async function act(name: string, ask: () => Promise<unknown>): Promise<Figure> {
  const took: number[] = []
  for (let round = 0; round < ROUNDS; round++) took.push(await timed(ask))
  return figure(name, took)
}

async function toggled({ client }: Up, batch_id: string): Promise<Figure[]> {
  const params = { batch_id }
  const pauses: number[] = []
  const resumes: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    pauses.push(await timed(() => client.batches.pause({ params })))
    resumes.push(await timed(() => client.batches.resume({ params })))
  }
  return [figure('it is paused, p50', pauses), figure('it is resumed, p50', resumes)]
}

async function timed(ask: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await ask()
  return performance.now() - began
}

function figure(name: string, took: number[]): Figure {
  const p50 = median(took)
  return { name, value: ms(p50), promise: `≤ ${ACT_MS_MAX} ms`, held: p50 <= ACT_MS_MAX }
}
