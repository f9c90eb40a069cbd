/** What a harness says from inside its sandbox: the shapes of the public endpoints, and what each brings about. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WEB_ADDRESS_LENGTH_MAX } from '../src/contract/index.ts'
import type { Client } from '../src/sdk/client.ts'
import { workByHand } from './house/hand.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'
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

describe('a harness that stops', () => {
  let short: House
  let hands: ScriptedWorker
  let folder: string
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'baton-shutdown-'))
    const engine_limits = { lease_ms: 3_000, heartbeat_ms: 200, cancel_grace_ms: 100 }
    short = await startHouse({ max_concurrent_runs: 100, engine_limits })
    hands = await short.worker({ capacity: 100 })
  })
  afterAll(async () => {
    await short.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const config = { harness: { type: 'claude' }, max_tries: 1 }
  const offered = async () => {
    await short.client.runs.create({ body: { prompt: 'go', config } })
    return hands.next()
  }
  const started = async () => {
    const piece = await offered()
    piece.claim()
    await piece.start()
    return piece
  }
  const seen = ({ run_id }: Piece) => short.client.runs.get({ params: { run_id } })
  const ended = (piece: Piece) => until('it has ended', async () => ((await seen(piece)).ended_at ? seen(piece) : null))
  const done = { status: 200, answer: {} }

  test('cleanly, ends its execution though its runner and its worker are gone, and may say so again', async () => {
    const pieces = await Promise.all(['alone', 'failed', 'lost'].map(started))
    const [alone, failed, left] = pieces as [Piece, Piece, Piece]
    await say(failed, 'finish-task', { success: false, summary: 'No network.' })
    for (const piece of pieces) expect(await say(piece, 'report-shutdown', {})).toEqual(done)
    expect(await say(alone, 'report-shutdown', null)).toEqual(done)
    // What the worker says of the sandbox is no news.
    left.fail('exited with 137')
    expect(await ended(left)).toMatchObject({ state: 'SUCCEEDED', executions: 1 })
    expect(await ended(alone)).toMatchObject({ state: 'SUCCEEDED', executions: 1 })
    expect(await ended(failed)).toMatchObject({ state: 'FAILED', status_message: { message: 'No network.' } })
    expect(await say(alone, 'report-shutdown', {})).toEqual(done)
    const error = { category: 'crash', message: 'Too late.' }
    expect(await say(alone, 'report-shutdown', { error })).toEqual(done)
    expect((await seen(alone)).state).toBe('SUCCEEDED')
    await expect(say(alone, 'notify-user', { message: 'late' })).rejects.toMatchObject({ status: 401 })
  })

  test('for an error, ends it at once', async () => {
    const piece = await started()
    const error = { category: 'environment_setup_failed', message: 'No disk.' }
    for (const _ of [1, 2]) {
      expect(await say(piece, 'report-shutdown', { error })).toEqual(done)
      expect(await seen(piece)).toMatchObject({
        state: 'ERROR',
        status_message: { message: 'No disk.', error_code: 'environment_setup_failed' },
      })
    }
  })

  test('has its end reported by its runner, where that lives: with all that it said, and soon', async () => {
    for (const obeys of [true, false]) {
      const piece = await offered()
      let stopped = false
      const report = await workByHand(short, piece, folder, async ({ start }) => {
        expect(await say(piece, 'report-shutdown', {})).toEqual(done)
        start.sink.entry({ kind: 'text', text: 'Last words.' })
        // Else it goes on for ever, until it is stopped.
        if (!obeys) await new Promise((resolve) => start.signal.addEventListener('abort', resolve))
        stopped = start.signal.aborted
        return undefined
      })
      expect(stopped).toBe(!obeys)
      expect(report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
      const { entries } = await short.client.transcripts.list({ params: { run_id: piece.run_id }, query: {} })
      expect(entries.map(({ body }) => body)).toContainEqual({ kind: 'text', text: 'Last words.' })
    }
  })

  test('may be reported by a person, who names the run', async () => {
    const piece = await started()
    const report = (client: Client, headers: Record<string, string>) =>
      client.raw('POST', '/api/v1/harness-support/report-shutdown', { body: {}, headers })
    const named = { 'x-warp-cloud-agent-id': piece.run_id }
    await expect(report(short.client, {})).rejects.toMatchObject({ status: 400 })
    const other = await short.addTeam('elsewhere')
    await expect(report(other.client, named)).rejects.toMatchObject({ status: 404 })
    expect((await report(short.client, named)).status).toBe(200)
    expect((await ended(piece)).state).toBe('SUCCEEDED')
    expect((await report(short.client, named)).status).toBe(200)
  })
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
