/** A worker process that is killed while its runs go on, and the next one on the same folder. */
import { access, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { lives, processesOf, readPid, startWorkerProcess, until, type WorkerProcess } from './house/processes.ts'
import { openPeer, type Peer } from './house/worker-peer.ts'

let peer: Peer
let folder: string
const started: WorkerProcess[] = []

beforeEach(async () => {
  peer = await openPeer()
  folder = await mkdtemp(join(tmpdir(), 'worker-'))
})

afterEach(async () => {
  for (const { task_id } of running) peer.send({ type: 'task_cancellation', data: { task_id } })
  await until('the end of every run', () =>
    running.splice(0).every(({ execution_id }) => processesOf(execution_id).length === 0),
  )
  await Promise.all(started.splice(0).map((worker) => worker.kill()))
  await peer.close()
  await rm(folder, { recursive: true, force: true })
})

const running: { task_id: string; execution_id: string }[] = []

async function start(): Promise<WorkerProcess> {
  const before = peer.frames.length
  const worker = startWorkerProcess({ server: peer.url, state_dir: join(folder, 'state') })
  started.push(worker)
  await peer.heard('worker_hello', undefined, before)
  return worker
}

async function begin(script: string): Promise<{ task_id: string; execution_id: string; pid: number }> {
  const { task_id, execution_id } = peer.offer(
    `echo $$ > ${folder}/pid.tmp; mv ${folder}/pid.tmp ${folder}/pid; ${script}`,
  )
  return { task_id, execution_id, pid: await until('the runner', () => readPid(join(folder, 'pid'))) }
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

test('a run outlives its worker, and the next worker adopts it and tells its end', async () => {
  const first = await start()
  const { execution_id, task_id, pid } = await begin(
    `until [ -e ${folder}/go ]; do sleep 0.05; done; touch ${folder}/over`,
  )
  await first.kill()
  expect(lives(pid)).toBe(true)
  const before = peer.frames.length
  await start()
  const hello = await peer.heard('worker_hello', undefined, before)
  expect(hello.data.running).toEqual([{ task_id, execution_id }])
  await writeFile(join(folder, 'go'), '')
  const failed = await peer.heard('task_failed', undefined, before)
  expect(failed.data).toMatchObject({ execution_id, failure_reason: 'container_exit' })
  expect(failed.data.message).toContain('while no worker was watching')
  expect(await exists(join(folder, 'over'))).toBe(true)
  expect(await readdir(join(folder, 'state', 'sandboxes'))).toEqual([])
})

test('an adopted run can be cancelled', async () => {
  const first = await start()
  const { execution_id, task_id } = await begin('setsid sleep 600 & exec sleep 600')
  await first.kill()
  const before = peer.frames.length
  await start()
  peer.send({ type: 'task_cancellation', data: { task_id, execution_id } })
  const completed = await peer.heard('task_completed', undefined, before)
  expect(completed.data).toMatchObject({ execution_id, task_state: 'CANCELLED' })
  expect(processesOf(execution_id)).toEqual([])
})

test('a run that ended while no worker was there is told, and what it left running is ended', async () => {
  const first = await start()
  const { execution_id } = await begin(
    `setsid sleep 600 & until [ -e ${folder}/go ]; do sleep 0.05; done; touch ${folder}/over`,
  )
  await first.kill()
  await writeFile(join(folder, 'go'), '')
  await until('the end of the run', () => exists(join(folder, 'over')))
  expect(processesOf(execution_id).length).toBeGreaterThan(0)
  const before = peer.frames.length
  await start()
  const failed = await peer.heard('task_failed', undefined, before)
  expect(failed.data.execution_id).toBe(execution_id)
  expect(processesOf(execution_id)).toEqual([])
  expect(await readdir(join(folder, 'state', 'sandboxes'))).toEqual([])
})

test('a report that the server never confirmed is told again by the next worker', async () => {
  const first = await start()
  peer.deaf = true
  const { execution_id } = peer.offer('true')
  await peer.heard('task_completed', ({ data }) => data.execution_id === execution_id)
  await first.kill()
  peer.deaf = false
  const before = peer.frames.length
  await start()
  await peer.heard('task_completed', ({ data }) => data.execution_id === execution_id, before)
  await until('the confirmed report to go', async () => (await readdir(join(folder, 'state', 'reports'))).length === 0)
})

test('a record whose pid means another process by now harms nobody', async () => {
  const first = await start()
  const { execution_id, pid } = await begin(`until [ -e ${folder}/go ]; do sleep 0.05; done; touch ${folder}/over`)
  await first.kill()
  await writeFile(join(folder, 'go'), '')
  await until('the end of the run', async () => (await exists(join(folder, 'over'))) && !lives(pid))
  const path = join(folder, 'state', 'sandboxes', execution_id, 'sandbox.json')
  const record = JSON.parse(await readFile(path, 'utf8'))
  await writeFile(path, JSON.stringify({ ...record, process: { pid: process.pid, started: record.process.started } }))
  const before = peer.frames.length
  await start()
  await peer.heard('task_failed', ({ data }) => data.execution_id === execution_id, before)
  expect(lives(process.pid)).toBe(true)
})

test('a folder without a record is swept away with whoever carries its mark', async () => {
  const first = await start()
  const { execution_id } = await begin('exec sleep 600')
  await first.kill()
  await rm(join(folder, 'state', 'sandboxes', execution_id, 'sandbox.json'))
  await mkdir(join(folder, 'state', 'sandboxes', 'torn'))
  await start()
  expect(processesOf(execution_id)).toEqual([])
  expect(await readdir(join(folder, 'state', 'sandboxes'))).toEqual([])
})
