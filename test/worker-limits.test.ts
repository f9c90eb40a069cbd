/** What a run may use, and what becomes of a run, and of the worker, when it takes more. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmdirSync } from 'node:fs'
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { detectCgroups } from '../src/worker/sandboxes/cgroup.ts'
import { openWorker, type Worker, type WorkerOptions } from '../src/worker/worker.ts'
import { processesOf, readPid, until } from './house/processes.ts'
import { SHELL_RUNNER } from './house/shell-runner.ts'
import { openPeer, type Peer } from './house/worker-peer.ts'

let peer: Peer
let folder: string
const workers: Worker[] = []
const cgroups = detectCgroups('baton-test-probe').folders.length > 0

/** Only root may mount, and not everywhere. */
function canMount(): boolean {
  const probe = mkdtempSync(join(tmpdir(), 'mount-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', probe]).status === 0
  if (mounted) spawnSync('umount', [probe])
  rmdirSync(probe)
  return mounted
}

beforeEach(async () => {
  peer = await openPeer()
  folder = await mkdtemp(join(tmpdir(), 'worker-'))
})

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.close({ end_runs: true })))
  await peer.close()
  await rm(folder, { recursive: true, force: true })
})

async function open(more: Partial<WorkerOptions> = {}): Promise<Worker> {
  const { limits, ...rest } = more
  const worker = await openWorker({
    server: peer.url,
    api_key: 'worker-key',
    worker_id: 'crew',
    version: '1.0.0',
    capacity: 4,
    state_dir: join(folder, 'state'),
    backend: 'process',
    models: [],
    harnesses: [],
    runner: SHELL_RUNNER,
    environment: { PATH: process.env.PATH, HOME: folder },
    allow_local_repositories: false,
    log: pino({ level: 'silent' }),
    signal: new AbortController().signal,
    limits: { cancel_grace_ms: 300, watch_ms: 50, count_ms: 50, size_ms: 50, ...limits },
    ...rest,
  })
  workers.push(worker)
  await peer.heard('worker_hello')
  return worker
}

/** The worker still works. */
async function stillWorks(): Promise<void> {
  const { execution_id } = peer.offer('true')
  await peer.heard('task_completed', ({ data }) => data.execution_id === execution_id)
}

test.runIf(cgroups)('a fork bomb ends its run with a clear failure, and nothing of it is left', async () => {
  await open({ limits: { processes_max: 100 } })
  const { execution_id } = peer.offer('bomb() { bomb | bomb & }; bomb; wait; sleep 600')
  const failed = await peer.heard('task_failed', ({ data }) => data.execution_id === execution_id)
  expect(failed.data.failure_reason).toBe('process_limit')
  expect(failed.data.message).toContain('more than 100 processes')
  expect(processesOf(execution_id)).toEqual([])
  await stillWorks()
})

test('a storm of processes is seen and ended without control groups too', async () => {
  await open({ cgroups: false, limits: { processes_max: 30 } })
  const { execution_id } = peer.offer('for i in $(seq 60); do setsid sleep 600 & done; sleep 600')
  const failed = await peer.heard('task_failed', ({ data }) => data.execution_id === execution_id)
  expect(failed.data.failure_reason).toBe('process_limit')
  expect(processesOf(execution_id)).toEqual([])
  await stillWorks()
})

test.each([true, false])(
  'what left session, group and parent behind ends with the run (control groups: %s)',
  async (cgroups) => {
    await open({ cgroups })
    const { execution_id } = peer.offer(
      `setsid sh -c '(setsid sleep 600 & echo $! > ${folder}/daemon) &' < /dev/null > /dev/null 2>&1; until [ -s ${folder}/daemon ]; do sleep 0.02; done`,
    )
    await peer.heard('task_completed', ({ data }) => data.execution_id === execution_id)
    const daemon = await until('the daemon', () => readPid(join(folder, 'daemon')))
    expect(existsSync(`/proc/${daemon}`) && !/\) Z /.test(await readFile(`/proc/${daemon}/stat`, 'utf8'))).toBe(false)
    expect(processesOf(execution_id)).toEqual([])
  },
)

test.runIf(cgroups)('a daemon that also emptied its environment ends with the run', async () => {
  await open()
  peer.offer(
    `setsid env -i /bin/sh -c 'echo $$ > ${folder}/daemon; exec /bin/sleep 600' & until [ -s ${folder}/daemon ]; do sleep 0.02; done`,
  )
  await peer.heard('task_completed')
  const daemon = await until('the daemon', () => readPid(join(folder, 'daemon')))
  await until(
    'its end',
    () => !existsSync(`/proc/${daemon}`) || spawnSync('grep', ['-q', ') Z ', `/proc/${daemon}/stat`]).status === 0,
    1000,
  )
})

test('a runner that floods its own output is ended, and its log stays small', async () => {
  await open({ limits: { output_bytes_max: 1024 * 1024 }, keep_workspaces: true })
  const { execution_id } = peer.offer('yes "a flood of words" >&2')
  const failed = await peer.heard('task_failed', ({ data }) => data.execution_id === execution_id)
  expect(failed.data.failure_reason).toBe('output_limit')
  expect(failed.data.message).toContain('1 MiB')
  expect(failed.data.message.length).toBeLessThan(8192)
  await stillWorks()
})

test('a run whose files outgrow the limit is ended as disk_full', async () => {
  await open({ limits: { workspace_bytes_max: 4 * 1024 * 1024 } })
  const { execution_id } = peer.offer('mkdir deep; head -c 50000000 /dev/zero > deep/big; sleep 600')
  const failed = await peer.heard('task_failed', ({ data }) => data.execution_id === execution_id)
  expect(failed.data.failure_reason).toBe('disk_full')
  expect(failed.data.message).toContain('4 MiB')
  await stillWorks()
})

test('without free space no sandbox is opened, and the failure says where to make room', async () => {
  await open({ limits: { disk_free_bytes_min: 2 ** 60 } })
  peer.offer(`touch ${folder}/ran`)
  const failed = await peer.heard('task_failed')
  expect(failed.data.failure_reason).toBe('workspace_setup')
  expect(failed.data.message).toMatch(/Free space at .*sandboxes/)
  expect(existsSync(join(folder, 'ran'))).toBe(false)
})

test.runIf(canMount())('a full disk fails the run, and the worker goes on when there is room again', async () => {
  const disk = join(folder, 'state')
  await mkdir(disk)
  expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]).status).toBe(0)
  try {
    await open({ limits: { disk_free_bytes_min: 0 } })
    const { execution_id } = peer.offer(`cat /dev/zero > ../../../filler; echo full > ${folder}/full; exit 1`)
    await peer.heard('task_failed', ({ data }) => data.execution_id === execution_id)
    const refused = peer.offer('true')
    const failed = await peer.heard('task_failed', ({ data }) => data.execution_id === refused.execution_id)
    expect(failed.data).toMatchObject({
      failure_reason: 'workspace_setup',
      message: expect.stringContaining('disk is full'),
    })
    await rm(join(disk, 'filler'))
    await stillWorks()
    await Promise.all(workers.splice(0).map((worker) => worker.close({ end_runs: true })))
  } finally {
    spawnSync('umount', [disk])
  }
})

test.runIf(cgroups)('a run that takes too much memory fails for that reason', async () => {
  await open({ limits: { memory_bytes_max: 64 * 1024 * 1024 } })
  const { execution_id } = peer.offer(`exec ${process.execPath} -e 'const a=[];for(;;)a.push(Buffer.alloc(1e7,1))'`)
  const failed = await peer.heard('task_failed', ({ data }) => data.execution_id === execution_id)
  expect(failed.data.failure_reason).toBe('container_oom')
  await stillWorks()
})

test('an ended run leaves no folder, and nothing behind its links is touched', async () => {
  const precious = join(folder, 'precious')
  await mkdir(precious)
  await writeFile(join(precious, 'file'), 'keep')
  await open()
  peer.offer(`ln -s ${precious} link; mkdir -p a/b; touch a/b/c; ln -s ${precious}/file a/b/link; chmod 000 a/b a`)
  await peer.heard('task_completed')
  expect(await readdir(join(folder, 'state', 'sandboxes'))).toEqual([])
  expect(await readFile(join(precious, 'file'), 'utf8')).toBe('keep')
})

test('logs that a run replaced by links lead nowhere', async () => {
  await writeFile(join(folder, 'precious'), 'x'.repeat(100_000))
  await open({ limits: { output_bytes_max: 1000 } })
  peer.offer(
    `rm ../stderr.log ../stdout.log; ln -s ${folder}/precious ../stderr.log; ln -s ${folder}/precious ../stdout.log; sleep 0.3; exit 1`,
  )
  const failed = await peer.heard('task_failed')
  expect(failed.data.failure_reason).toBe('container_exit')
  expect(failed.data.message).not.toContain('xxx')
  expect((await lstat(join(folder, 'precious'))).size).toBe(100_000)
})

test('an execution id that is no file name cannot leave the folder', async () => {
  await open()
  peer.offer('true', { execution_id: '../../escape' })
  await peer.heard('task_completed', ({ data }) => data.execution_id === '../../escape')
  expect(existsSync(join(folder, 'escape'))).toBe(false)
})

test("folders are for the worker's user alone", async () => {
  await open()
  peer.offer(`stat -c %a . .. ../.. ../../.. > ${folder}/modes`)
  await peer.heard('task_completed')
  expect((await readFile(join(folder, 'modes'), 'utf8')).trim().split('\n')).toEqual(['700', '700', '700', '700'])
})

test('kept workspaces are kept, and are not taken for runs by the next worker', async () => {
  const first = await open({ keep_workspaces: true })
  const { execution_id } = peer.offer('echo work > result')
  await peer.heard('task_completed')
  await first.close()
  const before = peer.frames.length
  await open({ keep_workspaces: true })
  const hello = await peer.heard('worker_hello', undefined, before)
  expect(hello.data.running).toEqual([])
  expect(await readFile(join(folder, 'state', 'sandboxes', execution_id, 'workspace', 'result'), 'utf8')).toBe('work\n')
})
