/** What a harness says from inside its sandbox: the shapes of the public endpoints, and what each brings about. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WEB_ADDRESS_LENGTH_MAX } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 100 })
  worker = await house.worker({ capacity: 100 })
})
afterAll(() => house.close())

async function begin(): Promise<Piece> {
  await house.client.runs.create({ body: { prompt: 'go' } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  return piece
}

const say = async (piece: Piece, path: string, body: unknown, headers: Record<string, string> = {}) => {
  const response = await piece.runner.raw('POST', `/api/v1/harness-support/${path}`, { body, headers })
  return { status: response.status, answer: await response.json() }
}
const runOf = ({ run_id }: Piece) => house.client.runs.get({ params: { run_id } })

test('an artifact is answered by its uid, the same for the same, and a finished task names its pull requests', async () => {
  const piece = await begin()
  const pull = (number: number) => ({
    artifact_type: 'PULL_REQUEST',
    data: { url: `https://github.com/o/r/pull/${number}`, branch: 'fix' },
  })
  const first = await say(piece, 'report-artifact', pull(1))
  expect(first).toEqual({ status: 200, answer: { artifact_uid: expect.any(String) } })
  expect(await say(piece, 'report-artifact', pull(1))).toEqual(first)
  await say(piece, 'report-artifact', pull(2))
  const data = { reference_type: 'issue', url: 'https://example.com/1', title: 't', metadata: { a: [1] } }
  expect((await say(piece, 'report-artifact', { artifact_type: 'EXTERNAL_REFERENCE', data })).status).toBe(200)
  const summary = 'Done, see https://github.com/o/r/pull/2.'
  expect(await say(piece, 'finish-task', { success: true, summary })).toEqual({ status: 200, answer: {} })
  await piece.finish()
  const run = await runOf(piece)
  expect(run.status_message?.message).toBe(`${summary}\n\nPull requests:\n- https://github.com/o/r/pull/1`)
  expect(run.artifacts).toMatchObject([pull(1), pull(2), { artifact_type: 'EXTERNAL_REFERENCE', data }])
})

test('an address may be as long wherever it is said, and what a reference is, too', async () => {
  const piece = await begin()
  const url = `https://example.com/${'a'.repeat(WEB_ADDRESS_LENGTH_MAX - 20)}`
  expect(url).toHaveLength(WEB_ADDRESS_LENGTH_MAX)
  const reference_type = 'r'.repeat(256)
  const report = (data: object) => say(piece, 'report-artifact', { artifact_type: 'EXTERNAL_REFERENCE', data })
  expect((await report({ reference_type, url })).status).toBe(200)
  await expect(report({ reference_type, url: `${url}a` })).rejects.toMatchObject({ status: 400 })
  await expect(report({ reference_type: `${reference_type}r`, url })).rejects.toMatchObject({ status: 400 })
  const create = (trigger_url: string) =>
    house.client.runs.create({ body: { prompt: 'x', trigger_url, config: { worker_host: 'nobody' } } })
  await create(url)
  await expect(create(`${url}a`)).rejects.toMatchObject({ status: 400 })
})

test('a person is told once, however often it is said', async () => {
  const piece = await begin()
  for (const _ of [1, 2])
    expect(await say(piece, 'notify-user', { message: '**Look**' })).toEqual({ status: 200, answer: {} })
  expect((await runOf(piece)).notices).toMatchObject([{ message: '**Look**' }])
})

test('a clean shutdown leaves the end to the runner; one for an error ends the execution at once', async () => {
  const piece = await begin()
  expect(await say(piece, 'report-shutdown', {})).toEqual({ status: 200, answer: {} })
  expect(await say(piece, 'report-shutdown', null)).toEqual({ status: 200, answer: {} })
  expect((await runOf(piece)).state).toBe('INPROGRESS')
  const error = { category: 'environment_setup_failed', message: 'No disk.' }
  expect(await say(piece, 'report-shutdown', { error })).toEqual({ status: 200, answer: {} })
  expect(await runOf(piece)).toMatchObject({
    state: 'ERROR',
    status_message: { message: 'No disk.', error_code: 'environment_setup_failed' },
  })
  await expect(say(piece, 'report-shutdown', { error })).rejects.toMatchObject({ status: 401 })
  await expect(say(piece, 'notify-user', { message: 'late' })).rejects.toMatchObject({ status: 401 })
})

test('the acting run is that of the token: a header may repeat it, and nobody else may speak', async () => {
  const piece = await begin()
  const other = await begin()
  const acting = (run_id: string) => ({ 'x-warp-cloud-agent-id': run_id })
  const told = await say(piece, 'notify-user', { message: 'x' }, acting(piece.run_id.toUpperCase()))
  expect(told.status).toBe(200)
  await expect(say(piece, 'notify-user', { message: 'x' }, acting(other.run_id))).rejects.toMatchObject({ status: 403 })
  const path = '/api/v1/harness-support/notify-user'
  await expect(
    house.client.raw('POST', path, { body: { message: 'x' }, headers: acting(piece.run_id) }),
  ).rejects.toMatchObject({ status: 403 })
})

test('what is not as it should be is refused by name', async () => {
  const piece = await begin()
  const refused: [string, unknown, string][] = [
    ['report-artifact', { artifact_type: 'PULL_REQUEST', data: { url: 'x', branch: 'b' } }, '/data/url'],
    ['report-artifact', { artifact_type: 'PULL_REQUEST', data: { url: 'https://e.com' } }, '/data/branch'],
    ['report-artifact', { artifact_type: 'SCREENSHOT', data: {} }, '/artifact_type'],
    [
      'report-artifact',
      { artifact_type: 'EXTERNAL_REFERENCE', data: { url: 'https://e.com' } },
      '/data/reference_type',
    ],
    ['notify-user', { message: '' }, '/message'],
    ['finish-task', { success: 'yes', summary: 's' }, '/success'],
    ['finish-task', { success: true }, '/summary'],
    ['report-shutdown', { error: { category: 'c' } }, '/error/message'],
  ]
  for (const [path, body, pointer] of refused) {
    await expect(say(piece, path, body), pointer).rejects.toMatchObject({
      status: 400,
      code: 'invalid_request',
      details: { errors: [{ pointer }] },
    })
  }
})
