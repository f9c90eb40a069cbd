/** Messages, trees and the runner's side of both over HTTP, and what a control stream says of them. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type House, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 100 })
  worker = await house.worker({ capacity: 100 })
})
afterAll(() => house.close())

async function begin(body: Record<string, unknown> = {}): Promise<Piece> {
  await house.client.runs.create({ body: { prompt: 'go', ...body } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  return piece
}

/** The frames of a control stream, as they come. */
async function openControl(piece: Piece) {
  const gone = new AbortController()
  const path = `/api/v1/executions/${piece.execution_id}/control`
  const response = await piece.runner.raw('GET', path, { signal: gone.signal })
  const frames: string[] = []
  const read = (async () => {
    for await (const bytes of response.body ?? []) frames.push(new TextDecoder().decode(bytes))
  })().catch(() => {})
  return {
    said: () => frames.join(''),
    async close() {
      gone.abort()
      await read
    },
  }
}

test('a runner hears of a message, takes it, says that it was delivered, and hears no more', async () => {
  const piece = await begin()
  const params = { execution_id: piece.execution_id }
  const control = await openControl(piece)
  const body = { to: [piece.run_id], subject: 'hello', body: 'from outside', urgent: true }
  const { message_ids } = await house.client.messages.send({ body })
  await expect.poll(control.said).toContain('{"type":"inbox","urgent":true}')
  const inbox = await piece.runner.executions.inbox({ params })
  expect(inbox).toMatchObject({ text: expect.stringMatching(/from outside/), message_ids, urgent: true })
  await piece.runner.executions.delivered({ params, body: { message_ids, sequence: inbox.sequence } })
  expect(await piece.runner.executions.inbox({ params })).toMatchObject({ text: null, message_ids: [] })
  const [header] = await house.client.messages.list({ params: { run_id: piece.run_id } })
  expect(header).toMatchObject({ subject: 'hello', delivered_at: expect.any(String), read_at: null })
  await control.close()
})

test('a run with a message undelivered does not end, and its runner can go on', async () => {
  const piece = await begin()
  await house.client.messages.send({ body: { to: [piece.run_id], subject: 's', body: 'wait' } })
  expect(await piece.finish()).toEqual({ state: 'INPROGRESS', inbox: true })
  const params = { execution_id: piece.execution_id }
  const { message_ids, sequence } = await piece.runner.executions.inbox({ params })
  await piece.runner.executions.delivered({ params, body: { message_ids, sequence } })
  expect((await piece.finish()).state).toBe('SUCCEEDED')
})

test('a runner hears of children beside its run and takes them', async () => {
  const parent = await begin()
  const control = await openControl(parent)
  const child = await house.client.runs.create({
    body: { prompt: 'beside', parent_run_id: parent.run_id, placement: 'parent' },
  })
  await expect.poll(control.said).toContain('{"type":"children"}')
  const { assignments } = await parent.runner.executions.children({ params: { execution_id: parent.execution_id } })
  expect(assignments.map((one) => one.task_id)).toEqual([child.run_id])
  expect(assignments[0]?.env_vars.WARP_API_KEY).toMatch(/./)
  await control.close()
})

test('a send repeated with its Idempotency-Key by a run is one message', async () => {
  const parent = await begin()
  const child = await begin({ parent_run_id: parent.run_id })
  const parts = {
    body: { to: [parent.run_id], subject: 's', body: 'b' },
    headers: { 'idempotency-key': 'k1' },
  }
  const first = await child.runner.messages.send(parts)
  expect(await child.runner.messages.send(parts)).toEqual(first)
  expect(await house.client.messages.list({ params: { run_id: parent.run_id } })).toHaveLength(1)
})

test('cancel with cascade reaches the whole tree, without it the run alone', async () => {
  const parent = await begin()
  const child = await begin({ parent_run_id: parent.run_id })
  const asked = async (piece: Piece) =>
    (await house.client.runs.get({ params: { run_id: piece.run_id } })).cancel_requested
  await house.client.runs.cancel({ params: { run_id: parent.run_id }, body: {} })
  expect([await asked(parent), await asked(child)]).toEqual([true, false])
  await house.client.runs.cancel({ params: { run_id: parent.run_id }, body: { cascade: true } })
  expect(await asked(child)).toBe(true)
  const tree = await house.client.trees.get({ params: { run_id: parent.run_id } })
  expect(tree.nodes.map((node) => node.run_id)).toEqual([parent.run_id, child.run_id])
})

test('the cursor of a run moves forward alone', async () => {
  const piece = await begin()
  const params = { run_id: piece.run_id }
  await house.client.events.cursor({ params, body: { sequence: 900 } })
  await house.client.events.cursor({ params, body: { sequence: 5 } })
  expect((await house.client.runs.get({ params })).last_event_sequence).toBe(900)
})
