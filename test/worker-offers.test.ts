/** The worker's side of the protocol: offers, claims, cancels and a line that breaks. */
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openWorker, type Worker, type WorkerOptions } from '../src/worker/worker.ts'
import { processesOf, readPid, until } from './house/processes.ts'
import { SHELL_RUNNER } from './house/shell-runner.ts'
import { openPeer, type Peer, TOKEN } from './house/worker-peer.ts'

let peer: Peer
let folder: string
let logged: string
const workers: Worker[] = []

function keepLine(line: string): void {
  logged += line
}

beforeEach(async () => {
  peer = await openPeer()
  folder = await mkdtemp(join(tmpdir(), 'worker-'))
  logged = ''
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
    capacity: 2,
    state_dir: join(folder, 'state'),
    backend: 'process',
    models: [],
    harnesses: ['command'],
    runner: SHELL_RUNNER,
    environment: { PATH: process.env.PATH, HOME: folder, LEAK: 'no' },
    allow_local_repositories: true,
    log: pino({ level: 'info' }, { write: keepLine }),
    signal: new AbortController().signal,
    limits: { reconnect_min_ms: 20, reconnect_max_ms: 100, cancel_grace_ms: 500, ...limits },
    ...rest,
  })
  workers.push(worker)
  return worker
}

test('a worker says who it is, claims an offer, runs it and says when the runner is gone', async () => {
  await open()
  const hello = await peer.heard('worker_hello')
  expect(hello.data).toEqual({
    capacity: 2,
    running: [],
    version: '1.0.0',
    backend: 'process',
    harnesses: ['command'],
    brokers: ['anthropic', 'openai', 'gemini'],
  })
  expect(peer.asked).toEqual([{ authorization: 'Bearer worker-key', worker_id: 'crew' }])
  const { task_id, execution_id } = peer.offer('true')
  await peer.heard('task_claimed', ({ data }) => data.execution_id === execution_id && data.worker_id === 'crew')
  const completed = await peer.heard('task_completed')
  expect(completed.data).toMatchObject({ task_id, execution_id })
  expect(completed.data.task_state).toBeUndefined()
})

test('a runner gets the documented arguments, little environment, and its token in no argument', async () => {
  await open()
  await peer.heard('worker_hello')
  const seen = join(folder, 'seen')
  const { task_id, execution_id } = peer.offer(
    `pwd > ${seen}.cwd; env > ${seen}.env; printf '%s\\n' "$@" > ${seen}.args; tr '\\0' ' ' < /proc/$$/cmdline > ${seen}.line`,
    { additional_oz_args: ['--idle-on-complete', '5m'] },
  )
  await peer.heard('task_completed')
  const args = (await readFile(`${seen}.args`, 'utf8')).trim().split('\n')
  expect(args).toEqual([
    'agent',
    'run',
    '--task-id',
    task_id,
    '--sandboxed',
    '--server-root-url',
    peer.url,
    '--idle-on-complete',
    '5m',
  ])
  expect(await readFile(`${seen}.line`, 'utf8')).not.toContain(TOKEN)
  const env = new Map(
    (await readFile(`${seen}.env`, 'utf8'))
      .split('\n')
      .map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)]),
  )
  expect(env.get('WARP_API_KEY')).toBe(TOKEN)
  expect(env.get('TASK_ID')).toBe(task_id)
  expect(env.get('BATON_EXECUTION_ID')).toBe(execution_id)
  expect(env.get('GIT_TERMINAL_PROMPT')).toBe('0')
  expect(env.get('GH_PROMPT_DISABLED')).toBe('1')
  expect(env.get('WARP_SERVER_ROOT_URL')).toBe(peer.url)
  expect(env.get('BATON_ALLOW_LOCAL_REPOSITORIES')).toBe('1')
  expect(env.get('HOME')).toBe(folder)
  expect(env.has('LEAK')).toBe(false)
  expect((await readFile(`${seen}.cwd`, 'utf8')).trim()).toBe(env.get('BATON_WORKSPACE'))
  expect(logged).not.toContain(TOKEN)
})

test('an offer beyond the capacity is rejected, and taken when a slot is free again', async () => {
  const worker = await open({ capacity: 1 })
  await peer.heard('worker_hello')
  const go = join(folder, 'go')
  const first = peer.offer(`until [ -e ${go} ]; do sleep 0.05; done`)
  await peer.heard('task_claimed')
  const second = peer.offer('true')
  const rejected = await peer.heard('task_rejected')
  expect(rejected.data).toEqual({
    task_id: second.task_id,
    execution_id: second.execution_id,
    reason: 'worker at maximum concurrency',
  })
  expect(worker.running()).toEqual([{ task_id: first.task_id, execution_id: first.execution_id }])
  await writeFile(go, '')
  await peer.heard('task_completed', ({ data }) => data.execution_id === first.execution_id)
  const third = peer.offer('true')
  await peer.heard('task_completed', ({ data }) => data.execution_id === third.execution_id)
})

test('an offer that comes twice is worked on once', async () => {
  await open()
  await peer.heard('worker_hello')
  const offer = peer.offer(`echo x >> ${folder}/count; sleep 0.3`)
  peer.send({ type: 'task_assignment', data: offer })
  await peer.heard('task_completed')
  expect(await readFile(join(folder, 'count'), 'utf8')).toBe('x\n')
  expect(peer.frames.filter(({ type }) => type === 'task_claimed')).toHaveLength(1)
})

test('a new execution of a run ends the old one before it starts', async () => {
  await open({ capacity: 1 })
  await peer.heard('worker_hello')
  const old = peer.offer(`echo $$ > ${folder}/old; exec sleep 600`)
  const old_pid = await until('the old runner', () => readPid(join(folder, 'old')))
  const next = peer.offer(`[ -d /proc/${old_pid} ] && grep -qv ' Z ' /proc/${old_pid}/stat && exit 9; exit 0`, {
    task_id: old.task_id,
  })
  const completed = await peer.heard('task_completed')
  expect(completed.data.execution_id).toBe(next.execution_id)
  expect(processesOf(old.execution_id)).toEqual([])
})

test('a cancel asks the runner first, which ends by itself', async () => {
  await open({ limits: { cancel_grace_ms: 5000 } })
  await peer.heard('worker_hello')
  const { task_id, execution_id } = peer.offer(
    `trap 'echo asked > ${folder}/asked; exit 0' TERM; echo $$ > ${folder}/pid; while :; do sleep 0.05; done`,
  )
  await until('the runner', () => readPid(join(folder, 'pid')))
  const began = performance.now()
  peer.send({ type: 'task_cancellation', data: { task_id } })
  const completed = await peer.heard('task_completed')
  expect(completed.data).toMatchObject({ task_id, execution_id, task_state: 'CANCELLED' })
  expect(await readFile(join(folder, 'asked'), 'utf8')).toBe('asked\n')
  expect(performance.now() - began).toBeLessThan(2000)
})

test('a cancel ends a runner that does not listen, with everything it started, within the grace', async () => {
  await open()
  await peer.heard('worker_hello')
  const { task_id, execution_id } = peer.offer(
    `trap '' TERM; setsid sh -c 'trap "" TERM; echo $$ > ${folder}/daemon; while :; do sleep 0.1; done' & while :; do sleep 0.1; done`,
  )
  await until('the daemon', () => readPid(join(folder, 'daemon')))
  const began = performance.now()
  peer.send({ type: 'task_cancellation', data: { task_id, execution_id } })
  const completed = await peer.heard('task_completed')
  expect(completed.data.task_state).toBe('CANCELLED')
  expect(performance.now() - began).toBeLessThan(3000)
  expect(processesOf(execution_id)).toEqual([])
})

test('a cancel of an execution that is not here disturbs nobody', async () => {
  const worker = await open()
  await peer.heard('worker_hello')
  const { task_id } = peer.offer(`echo $$ > ${folder}/pid; exec sleep 600`)
  await until('the runner', () => readPid(join(folder, 'pid')))
  peer.send({ type: 'task_cancellation', data: { task_id, execution_id: 'another' } })
  peer.send({ type: 'task_cancellation', data: { task_id: 'another' } })
  const quick = peer.offer('true')
  await peer.heard('task_completed', ({ data }) => data.execution_id === quick.execution_id)
  expect(worker.running()).toHaveLength(1)
})

test('a runner that dies is reported with its exit code and last words, but not with its token', async () => {
  await open()
  await peer.heard('worker_hello')
  const killed = peer.offer(`echo "the key is $WARP_API_KEY" >&2; echo 'last words' >&2; kill -9 $$`)
  const one = await peer.heard('task_failed', ({ data }) => data.execution_id === killed.execution_id)
  expect(one.data).toMatchObject({ failure_reason: 'container_exit', exit_code: 137 })
  expect(one.data.message).toContain('last words')
  expect(one.data.message).not.toContain(TOKEN)
  const failed = peer.offer('exit 3')
  const two = await peer.heard('task_failed', ({ data }) => data.execution_id === failed.execution_id)
  expect(two.data).toMatchObject({ failure_reason: 'container_exit', exit_code: 3 })
})

test('a runner that cannot be started is a failure with the reason', async () => {
  await open({ runner: { command: [join(folder, 'absent')] }, cgroups: false })
  await peer.heard('worker_hello')
  peer.offer('')
  const failed = await peer.heard('task_failed')
  expect(failed.data).toMatchObject({ failure_reason: 'agent_invocation' })
  expect(failed.data.message).toMatch(/could not be started.*ENOENT/)
})

test('frames that make no sense are logged and change nothing', async () => {
  await open()
  await peer.heard('worker_hello')
  for (const frame of [
    '{',
    '[]',
    'null',
    '"x"',
    '{"type":"dance"}',
    '{"type":"task_assignment","data":{"task_id":7}}',
    { type: 'heartbeat' },
  ])
    peer.send(frame)
  const { execution_id } = peer.offer('true')
  await peer.heard('task_completed', ({ data }) => data.execution_id === execution_id)
  expect(logged.match(/does not understand/g)).toHaveLength(5)
  expect(logged).toContain('not JSON')
})

test('a run goes on while the line is down, and its end is told when the line is up again', async () => {
  await open()
  await peer.heard('worker_hello')
  const go = join(folder, 'go')
  const { task_id, execution_id } = peer.offer(
    `echo $$ > ${folder}/pid; until [ -e ${go} ]; do sleep 0.05; done; touch ${folder}/over`,
  )
  await until('the runner', () => readPid(join(folder, 'pid')))
  await peer.away()
  await writeFile(go, '')
  await until('the end of the run', () =>
    access(join(folder, 'over')).then(
      () => true,
      () => false,
    ),
  )
  await until('the report', () => logged.includes('sandbox.ended'))
  const before = peer.frames.length
  await peer.open()
  await peer.heard('worker_hello', ({ data }) => data.running.length === 0, before)
  const completed = await peer.heard('task_completed')
  expect(completed.data).toMatchObject({ task_id, execution_id })
})

test('after each connect a worker names what it runs', async () => {
  await open()
  await peer.heard('worker_hello')
  const { task_id, execution_id } = peer.offer(`echo $$ > ${folder}/pid; exec sleep 600`)
  await until('the runner', () => readPid(join(folder, 'pid')))
  const before = peer.frames.length
  peer.cut()
  const hello = await peer.heard('worker_hello', undefined, before)
  expect(hello.data.running).toEqual([{ task_id, execution_id }])
})

test('a server that stops answering pings is left and connected to again', async () => {
  await open({ limits: { ping_ms: 30, silence_ms: 150 } })
  await peer.heard('worker_hello')
  expect(peer.connections()).toBe(1)
  peer.deaf = true
  await until('a second connection', () => peer.asked.length >= 2)
  expect(logged).toContain('The server is silent')
})

test('a key that is not accepted is said plainly, and tried again slowly', async () => {
  peer.refuse = 401
  await open()
  await until('the message', () => logged.includes("does not accept the worker's API key"))
  peer.refuse = 403
  await until('the message', () => logged.includes('does not let this API key run a worker named \\"crew\\"'))
  peer.refuse = 0
  await peer.heard('worker_hello')
})

test('a worker that closes leaves its runs running; one that is told to end them ends them', async () => {
  const first = await open()
  await peer.heard('worker_hello')
  const { execution_id } = peer.offer(`echo $$ > ${folder}/pid; exec sleep 600`)
  const pid = await until('the runner', () => readPid(join(folder, 'pid')))
  await first.close()
  expect(processesOf(execution_id)).toEqual([pid])
  const before = peer.frames.length
  const second = await open()
  const hello = await peer.heard('worker_hello', undefined, before)
  expect(hello.data.running).toMatchObject([{ execution_id }])
  await second.close({ end_runs: true })
  expect(processesOf(execution_id)).toEqual([])
  const failed = await peer.heard('task_failed')
  expect(failed.data).toMatchObject({ execution_id, failure_reason: 'graceful_shutdown' })
})

test('two workers cannot share a folder', async () => {
  await open()
  await expect(open()).rejects.toThrow(/Another worker \(process \d+\) uses/)
})
