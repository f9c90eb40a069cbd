/**
 * kill -9 of everything while a run is at work: no run is lost, no transcript entry is lost or doubled, the end is
 * right.
 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Entry } from '../src/contract/index.ts'
import { findPlace } from '../src/db/place.ts'
import { readPostmaster } from '../src/db/postgres-process.ts'
import { postgresUser } from '../src/db/postgres-user.ts'
import type { Client } from '../src/sdk/client.ts'
import { emptyPlace, type Place, startBaton, startUp, type Up } from './house/baton.ts'
import { freePort } from './house/port.ts'
import { processesOf, until } from './house/processes.ts'

const LINES = 40
/** Counts slowly, so that there is time to kill something in the middle. */
const COUNTING = `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo "line $i"; sleep 0.1; done`
const TEST_MS = 90_000

let place: Place
let started: Up[] = []
let workers: ReturnType<typeof startBaton>[] = []

beforeEach(async () => {
  place = await emptyPlace()
})
afterEach(async () => {
  for (const worker of workers) await worker.kill('SIGTERM')
  for (const up of started) await up.process.kill('SIGTERM')
  workers = []
  started = []
  await place.remove()
})

async function up(...args: string[]): Promise<Up> {
  const baton = await startUp(place, args)
  started.push(baton)
  return baton
}

function worker(server: Up) {
  const args = ['worker', '--worker-id', 'w1', '--server-root-url', server.url, '--data-dir', `${place.folder}/worker`]
  const process = startBaton(args, { ...place.env, WARP_API_KEY: server.api_key })
  workers.push(process)
  return process
}

const begin = async (client: Client, prompt = COUNTING) =>
  (await client.runs.create({ body: { prompt, config: { harness: { type: 'command' } } } })).run_id

/** Between a kill and a restart nobody answers; that is not what is tested. */
const quietly = <T>(asked: Promise<T>): Promise<T | null> => asked.catch(() => null)

async function entriesOf(client: Client, run_id: string): Promise<Entry[]> {
  const entries: Entry[] = []
  for (let after = ''; ; ) {
    const page = await client.transcripts.list({ params: { run_id }, query: { after, limit: 500 } })
    entries.push(...page.entries)
    if (!page.has_later) return entries
    after = entries.at(-1)?.position ?? ''
  }
}

const textOf = (entries: Entry[], execution_number?: number): string =>
  entries
    .filter((entry) => execution_number === undefined || entry.execution_number === execution_number)
    .map((entry) => (entry.body.kind === 'output' ? entry.body.text : ''))
    .join('')

const counted = Array.from({ length: LINES }, (_, at) => `line ${at + 1}\n`).join('')

/** At least one line of the count has reached the server. */
const underWay = (client: Client, run_id: string) =>
  until('the run is under way', async () => textOf(await entriesOf(client, run_id)).includes('line '), 30_000)

const ended = (client: Client, run_id: string) =>
  until(
    'the run has ended',
    async () => {
      const run = await quietly(client.runs.get({ params: { run_id } }))
      return run && ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'].includes(run.state) ? run : null
    },
    60_000,
  )

/** Numbers of each execution are 1, 2, 3… without gap or repeat. */
function expectDense(entries: Entry[]): void {
  for (const number of new Set(entries.map((entry) => entry.execution_number))) {
    const own = entries.filter((entry) => entry.execution_number === number).map((entry) => entry.number)
    expect(own).toEqual(own.map((_, at) => at + 1))
  }
}

async function expectWhole(client: Client, run_id: string): Promise<void> {
  const run = await ended(client, run_id)
  expect(run).toMatchObject({ state: 'SUCCEEDED', executions: 1 })
  const entries = await entriesOf(client, run_id)
  expectDense(entries)
  expect(textOf(entries)).toBe(counted)
  expect(await until('nothing is left', () => processesOf(run.execution_id ?? '').length === 0)).toBe(true)
}

test('kill -9 of the server: the run goes on and its transcript is whole', { timeout: TEST_MS }, async () => {
  const port = String(await freePort())
  const first = await up('--port', port, '--no-worker')
  worker(first)
  const run_id = await begin(first.client)
  await underWay(first.client, run_id)
  await first.process.kill('SIGKILL')
  const second = await up('--port', port, '--no-worker')
  await expectWhole(second.client, run_id)
})

test('kill -9 of the worker: a restarted worker adopts the run, which ends in its first execution', {
  timeout: TEST_MS,
}, async () => {
  const server = await up('--port', '0', '--no-worker')
  const first = worker(server)
  const run_id = await begin(server.client)
  await underWay(server.client, run_id)
  await first.kill('SIGKILL')
  worker(server)
  await expectWhole(server.client, run_id)
})

test('kill -9 of server and worker together: the run goes on and its transcript is whole', {
  timeout: TEST_MS,
}, async () => {
  const port = String(await freePort())
  const first = await up('--port', port)
  const run_id = await begin(first.client)
  await underWay(first.client, run_id)
  await first.process.kill('SIGKILL')
  const second = await up('--port', port)
  await expectWhole(second.client, run_id)
})

test('kill -9 of PostgreSQL: it is started again and the run goes on', { timeout: TEST_MS }, async () => {
  const server = await up('--port', '0')
  const run_id = await begin(server.client)
  await underWay(server.client, run_id)
  const pid = await postmaster()
  process.kill(pid, 'SIGKILL')
  await expectWhole(server.client, run_id)
})

test('kill -9 of the runner: the run is tried again and succeeds; the first execution keeps what it said', {
  timeout: TEST_MS,
}, async () => {
  const server = await up('--port', '0')
  const run_id = await begin(server.client)
  await underWay(server.client, run_id)
  const { execution_id } = await server.client.runs.get({ params: { run_id } })
  const runner = Math.min(...processesOf(execution_id ?? ''))
  process.kill(runner, 'SIGKILL')
  const run = await ended(server.client, run_id)
  expect(run).toMatchObject({ state: 'SUCCEEDED', executions: 2 })
  const { executions } = await server.client.executions.list({ params: { run_id } })
  expect(executions.map((execution) => execution.outcome)).toEqual(['ERROR', 'SUCCEEDED'])
  const entries = await entriesOf(server.client, run_id)
  expectDense(entries)
  expect(textOf(entries, 1)).toContain('line 1\n')
  expect(textOf(entries, 2)).toBe(counted)
})

test('a cancel that was acknowledged just before kill -9 of everything is carried out', {
  timeout: TEST_MS,
}, async () => {
  const port = String(await freePort())
  const first = await up('--port', port)
  const run_id = await begin(first.client, 'sleep 300')
  const run = await until('the run is INPROGRESS', async () => {
    const seen = await first.client.runs.get({ params: { run_id } })
    return seen.state === 'INPROGRESS' ? seen : null
  })
  await first.client.runs.cancel({ params: { run_id } })
  await first.process.kill('SIGKILL')
  const second = await up('--port', port)
  expect((await ended(second.client, run_id)).state).toBe('CANCELLED')
  expect(await until('nothing is left', () => processesOf(run.execution_id ?? '').length === 0)).toBe(true)
})

test('what was queued when everything was killed starts by itself', { timeout: TEST_MS }, async () => {
  const port = String(await freePort())
  const first = await up('--port', port, '--no-worker')
  const run_ids = await Promise.all(Array.from({ length: 6 }, (_, n) => begin(first.client, `echo done ${n}`)))
  await first.process.kill('SIGKILL')
  const second = await up('--port', port)
  for (const run_id of run_ids)
    expect(await ended(second.client, run_id)).toMatchObject({ state: 'SUCCEEDED', executions: 1 })
})

/** The embedded PostgreSQL that serves this test's data folder. */
async function postmaster(): Promise<number> {
  const found = await readPostmaster((await findPlace(place.data_dir, await postgresUser())).cluster)
  if (!found) throw new Error('PostgreSQL does not run')
  return found.pid
}
