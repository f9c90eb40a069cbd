/** Worker, runner and server together: what a person sees of a run whose worker dies, is cancelled or is full. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Entry, RunState } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'
import { processesOf, startWorkerProcess, until, type WorkerProcess } from './house/processes.ts'

const RUNNER = [process.execPath, join(import.meta.dirname, 'house', 'runner-process.ts')]

let house: House
let folder: string
let state_dir: string
/** Many processes start here, on machines that may have little to start them with. */
vi.setConfig({ testTimeout: 60_000 })

const started: WorkerProcess[] = []

beforeEach(async () => {
  house = await startHouse({ max_concurrent_runs: 4 })
  folder = await mkdtemp(join(tmpdir(), 'worker-'))
  state_dir = join(folder, 'state')
})

afterEach(async () => {
  await until('nothing is left', async () => (await readdir(join(state_dir, 'sandboxes'))).length === 0)
  await Promise.all(started.splice(0).map((worker) => worker.kill()))
  await house.close()
  await rm(folder, { recursive: true, force: true })
})

function startWorker(capacity = 4, processes_max = 1024): WorkerProcess {
  const worker = startWorkerProcess({
    server: house.url,
    api_key: house.api_key,
    state_dir,
    capacity,
    processes_max,
    runner: RUNNER,
  })
  started.push(worker)
  return worker
}

async function begin(command: string): Promise<string> {
  const { run_id } = await house.client.runs.create({
    body: { prompt: command, config: { harness: { type: 'command' } } },
  })
  return run_id
}

const runOf = (run_id: string) => house.client.runs.get({ params: { run_id } })

const reaches = (run_id: string, ...states: RunState[]) =>
  until(
    `run in ${states}`,
    async () => {
      const run = await runOf(run_id)
      return states.includes(run.state) ? run : null
    },
    40_000,
  )

const ends = (run_id: string) => reaches(run_id, 'SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED')

async function outputOf(run_id: string): Promise<string> {
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  return entries.map(({ body }: Entry) => (body.kind === 'output' ? body.text : '')).join('')
}

test('a run whose worker is killed goes on, is adopted, and ends SUCCEEDED with every entry', async () => {
  const first = startWorker()
  const run_id = await begin('for i in $(seq 20); do echo "line $i"; sleep 0.1; done')
  await until('the first line', async () => (await outputOf(run_id)).includes('line 1'), 40_000)
  await first.kill()
  startWorker()
  const run = await ends(run_id)
  expect(run).toMatchObject({ state: 'SUCCEEDED', executions: 1 })
  expect(await outputOf(run_id)).toBe(Array.from({ length: 20 }, (_, at) => `line ${at + 1}\n`).join(''))
  await until('an empty folder', async () => (await readdir(join(state_dir, 'sandboxes'))).length === 0)
  expect(processesOf(run.execution_id ?? '')).toEqual([])
})

test('a cancelled run leaves no process, whatever it started', async () => {
  startWorker()
  const run_id = await begin(
    'setsid sh -c "trap \'\' TERM; while :; do sleep 0.1; done" & echo begun; trap "" TERM; while :; do sleep 0.1; done',
  )
  await until('the first line', async () => (await outputOf(run_id)).includes('begun'), 40_000)
  const { execution_id } = await runOf(run_id)
  expect(processesOf(execution_id ?? '').length).toBeGreaterThan(2)
  await house.client.runs.cancel({ params: { run_id } })
  expect((await ends(run_id)).state).toBe('CANCELLED')
  await until('no process', () => processesOf(execution_id ?? '').length === 0)
  await until('an empty folder', async () => (await readdir(join(state_dir, 'sandboxes'))).length === 0)
})

test('a worker never has more runs than slots, and all runs get their turn', async () => {
  startWorker(2)
  const log = join(folder, 'log')
  const run_ids = await Promise.all(
    Array.from({ length: 5 }, () => begin(`echo + >> ${log}; sleep 0.3; echo - >> ${log}`)),
  )
  for (const run_id of run_ids) expect((await ends(run_id)).state).toBe('SUCCEEDED')
  const steps = (await readFile(log, 'utf8')).trim().split('\n')
  let now = 0
  let most = 0
  for (const step of steps) {
    now += step === '+' ? 1 : -1
    most = Math.max(most, now)
  }
  expect(steps).toHaveLength(10)
  expect(most).toBeLessThanOrEqual(2)
})

test('a run that floods the process table fails for that reason and is not tried again', async () => {
  startWorker(4, 100)
  const run_id = await begin('for i in $(seq 150); do sleep 600 & done; wait')
  const run = await ends(run_id)
  expect(run).toMatchObject({ state: 'FAILED', executions: 1, status_message: { error_code: 'budget_exceeded' } })
  expect(run.status_message?.message).toContain('100 processes')
  await until('no process', () => processesOf(run.execution_id ?? '').length === 0)
})
