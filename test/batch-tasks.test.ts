/** What becomes of the tasks of a batch: dependencies and their results, failures, retries, cancelling. */
import { afterEach, expect, test } from 'vitest'
import type { TaskResult } from '../src/contract/index.ts'
import { begin, FATAL, failure, offersNothing, openBatches, prompts } from './house/batches.ts'
import type { House, HouseOptions } from './house/house.ts'
import { until } from './house/processes.ts'

let houses: House[] = []
afterEach(async () => {
  for (const house of houses) await house.close()
  houses = []
})

async function open(options: HouseOptions = {}, capacity?: number) {
  const opened = await openBatches(options, capacity)
  houses.push(opened.house)
  return opened
}

test('a task starts when those that it depends on have completed, and is given their results', async () => {
  const { house, worker, create, states, ends } = await open()
  const { batch_id } = await create({
    tasks: [
      { name: 'join', prompt: 'join them', depends_on: ['Left', 'right'] },
      ...prompts('left', 'right'),
      { name: 'last', prompt: 'say it', depends_on: ['join'] },
    ],
  })
  const { left, right } = await begin(worker, 2)
  expect((await house.client.runs.get({ params: { run_id: batch_id } })).state).toBe('INPROGRESS')
  await left?.append({ kind: 'text', text: 'thinking' })
  await left?.append(
    { kind: 'tool_call', call_id: '1', name: 'sh', category: 'command', title: 'ls' },
    { kind: 'text', text: 'The left is' },
    { kind: 'text', text: `${'e'.repeat(30_000)} empty.` },
  )
  await left?.finish()
  await offersNothing(worker)
  await right?.append(
    { kind: 'output', stream: 'stdout', text: 'one\n' },
    { kind: 'output', stream: 'stdout', text: 'two\n' },
  )
  await right?.finish()
  const join = await worker.next()
  join.claim()
  const { results = [] } = await join.start()
  expect(results.map((one: TaskResult) => [one.name, one.run_id, one.state])).toEqual([
    ['left', left?.run_id, 'SUCCEEDED'],
    ['right', right?.run_id, 'SUCCEEDED'],
  ])
  expect(results[0]?.text).toMatch(/^…e+ empty\.$/)
  expect(Buffer.byteLength(results[0]?.text ?? '')).toBeLessThanOrEqual(16 * 1024)
  expect(results[1]?.text).toBe('one\ntwo')
  expect(await states(batch_id)).toEqual(['running', 'completed', 'completed', 'pending'])
  await join.finish({ outcome: 'SUCCEEDED', summary: 'Joined.' })
  const last = await worker.next()
  last.claim()
  expect((await last.start()).results?.map((one: TaskResult) => one.text)).toEqual(['Joined.'])
  await last.finish()
  await ends(batch_id)
})

test('what depends on a failed task is passed over, and goes again with it', async () => {
  const { house, worker, create, tasks, ends } = await open()
  const { batch_id } = await create({
    tasks: [
      ...prompts('base', 'other'),
      { name: 'middle', prompt: 'x', depends_on: ['base', 'other'] },
      { name: 'top', prompt: 'x', depends_on: ['middle'] },
    ],
  })
  const { base, other } = await begin(worker, 2)
  await base?.finish(FATAL)
  await until('they are passed over', async () => (await tasks(batch_id))[3]?.state === 'failed')
  expect((await tasks(batch_id)).map((one) => one.error)).toEqual([
    'It cannot be done.',
    null,
    'Not started: it depends on task "base", which failed.',
    'Not started: it depends on task "middle", which was not started.',
  ])
  await other?.finish()
  const failed = await ends(batch_id)
  expect(failed).toMatchObject({ state: 'failed', message: '1 of 4 tasks completed; 3 failed.' })
  const run = await house.client.runs.get({ params: { run_id: batch_id } })
  expect(run).toMatchObject({ state: 'FAILED', status_message: { message: failed.message } })
  const params = { batch_id }
  await expect(house.client.batches.retry({ params, body: { tasks: ['other'] } })).rejects.toThrow(/"other" has compl/)
  await expect(house.client.batches.retry({ params, body: { tasks: ['no such'] } })).rejects.toMatchObject({
    code: 'invalid_request',
    details: { errors: [{ pointer: '/tasks/0' }] },
  })
  // What it needs comes along, and so does what was passed over for its sake.
  expect(await house.client.batches.retry({ params, body: { tasks: ['middle'] } })).toMatchObject({
    state: 'running',
    ended_at: null,
    counts: { completed: 1, pending: 3 },
  })
  for (const name of ['base', 'middle', 'top']) {
    const begun = await begin(worker, 1)
    expect(Object.keys(begun)).toEqual([name])
    await begun[name]?.finish()
  }
  expect(await ends(batch_id)).toMatchObject({ state: 'completed', message: '4 of 4 tasks completed.' })
})

test('a batch that stops on failure starts nothing more; one try again does not stop for old failures', async () => {
  const { house, worker, create, tasks, task, ends } = await open()
  const { batch_id } = await create({
    tasks: [...prompts('a', 'b', 'c', 'd'), { name: 'e', prompt: 'x', depends_on: ['d'] }],
    concurrency: 2,
    stop_on_failure: true,
  })
  const { a, b } = await begin(worker, 2)
  await a?.finish(FATAL)
  await until('the rest is cancelled', async () => (await task(batch_id, 'e')).state === 'cancelled')
  expect(await task(batch_id, 'c')).toMatchObject({
    state: 'cancelled',
    error: 'Not started: task "a" failed, and the batch stops on failure.',
  })
  expect(await task(batch_id, 'b')).toMatchObject({ state: 'running' })
  await offersNothing(worker)
  await b?.finish(FATAL)
  expect(await ends(batch_id)).toMatchObject({
    state: 'failed',
    message: '0 of 5 tasks completed; 2 failed, 3 were cancelled.',
  })
  await house.client.batches.retry({ params: { batch_id }, body: { tasks: ['e', 'a'] } })
  const again = await begin(worker, 2)
  expect(Object.keys(again).sort()).toEqual(['a', 'd'])
  await again.a?.finish()
  await again.d?.finish()
  const { e } = await begin(worker, 1)
  await e?.finish()
  await ends(batch_id)
  expect((await tasks(batch_id)).map((one) => one.state)).toEqual([
    'completed',
    'failed',
    'cancelled',
    'completed',
    'completed',
  ])
})

test('a failed try says when the next is; only retryable failures are tried again, unless the task says all', async () => {
  const { worker, create, task, ends } = await open({
    engine_limits: { retry_first_ms: 60_000, retry_most_ms: 60_000 },
  })
  const { batch_id } = await create({
    tasks: [
      { name: 'mendable', prompt: 'x', max_retries: 1 },
      { name: 'final', prompt: 'x' },
      { name: 'stubborn', prompt: 'x', retry: 'all' },
    ],
  })
  const { mendable, final, stubborn } = await begin(worker, 3)
  const before = Date.now()
  await mendable?.finish(failure({ retry_after_s: 3_600 }))
  await final?.finish(FATAL)
  await stubborn?.finish(FATAL)
  const waiting = await task(batch_id, 'mendable')
  expect(waiting).toMatchObject({
    state: 'failed',
    tries: 1,
    max_tries: 2,
    error: 'The model is busy.',
    ended_at: null,
  })
  expect(Date.parse(waiting.next_try_at ?? '') - before).toBeGreaterThanOrEqual(3_590_000)
  expect(await task(batch_id, 'final')).toMatchObject({ state: 'failed', next_try_at: null, tries: 1 })
  const next = Date.parse((await task(batch_id, 'stubborn')).next_try_at ?? '')
  expect(next - before).toBeLessThanOrEqual(61_000)
  await offersNothing(worker)
  // Somebody who asks need not wait.
  await houses[0]?.client.batches.retry({ params: { batch_id }, body: {} })
  const again = await begin(worker, 3)
  await again.mendable?.finish(failure())
  expect(await task(batch_id, 'mendable')).toMatchObject({ state: 'failed', tries: 1 })
  await houses[0]?.client.batches.retry({ params: { batch_id }, body: { tasks: ['mendable'] } })
  await (await begin(worker, 1)).mendable?.finish()
  await again.final?.finish()
  await again.stubborn?.finish()
  expect(await ends(batch_id)).toMatchObject({ state: 'completed' })
})

test('a cancelled batch has ended at once, its tasks as soon as their runners have stopped', async () => {
  const { house, worker, create, get, states, ends } = await open()
  const { batch_id } = await create({ tasks: prompts('a', 'b', 'c'), concurrency: 1 })
  const params = { batch_id }
  const { a } = await begin(worker, 1)
  const cancelled = await house.client.batches.cancel({ params })
  expect(cancelled).toMatchObject({ state: 'cancelled', counts: { running: 1, cancelled: 2 } })
  expect(cancelled.ended_at).not.toBeNull()
  expect(await house.client.batches.cancel({ params })).toMatchObject({ state: 'cancelled' })
  await expect(house.client.batches.pause({ params })).rejects.toMatchObject({ code: 'conflict', retryable: false })
  await a?.finish({ outcome: 'CANCELLED' })
  expect(await states(batch_id)).toEqual(['cancelled', 'cancelled', 'cancelled'])
  expect(await get(batch_id)).toMatchObject({ state: 'cancelled' })
  expect(await house.client.batches.retry({ params, body: {} })).toMatchObject({ state: 'running' })
  for (let n = 0; n < 3; n++) await (await worker.next()).work()
  await ends(batch_id)
  await expect(house.client.batches.cancel({ params })).rejects.toThrow('has already ended')
  await expect(house.client.batches.retry({ params, body: {} })).rejects.toMatchObject({ code: 'conflict' })
})

test('batches and single runs take turns at free places, and a task that failed goes before those not begun', async () => {
  const { house, worker, create } = await open({}, 3)
  const long = await create({ tasks: prompts('a', 'b', 'c', 'd', 'e', 'f'), concurrency: 10 })
  const first = await begin(worker, 3)
  await create({ tasks: prompts('other'), concurrency: 10 })
  const { run_id } = await house.client.runs.create({ body: { prompt: 'alone', config: { name: 'alone' } } })
  await first.a?.finish(failure())
  first.a?.complete()
  await first.b?.finish()
  first.b?.complete()
  const next = await begin(worker, 2)
  expect(Object.keys(next).sort()).toEqual(['alone', 'other'])
  expect((await house.client.runs.get({ params: { run_id } })).state).toBe('INPROGRESS')
  await until('the pause between tries is over', async () => {
    const { tasks } = await house.client.batches.tasks({ params: { batch_id: long.batch_id } })
    const at = tasks.find((task) => task.name === 'a')?.next_try_at
    return at !== null && at !== undefined && Date.parse(at) < Date.now()
  })
  await next.other?.finish()
  next.other?.complete()
  expect(Object.keys(await begin(worker, 1))).toEqual(['a'])
})

test('what was started by hand where it runs takes no turn at the places of workers', async () => {
  const { house, worker, create } = await open({}, 2)
  for (const prompt of ['here', 'there']) await house.client.executions.create({ body: { prompt } })
  await create({ tasks: prompts('a', 'b', 'c'), concurrency: 10 })
  const first = await begin(worker, 2)
  await house.client.runs.create({ body: { prompt: 'alone', config: { name: 'alone' } } })
  await first.a?.finish()
  first.a?.complete()
  expect(Object.keys(await begin(worker, 1))).toEqual(['alone'])
})
