import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type AgentConfig, type Entry, routes, type StreamFrame } from '../src/contract/index.ts'
import { openJournal } from '../src/runner/journal.ts'
import { type ExitReport, type RunnerOptions, runExecution } from '../src/runner/run.ts'
import { makeUpload } from '../src/runner/upload.ts'
import { follow } from '../src/sdk/stream.ts'
import { type House, type HouseOptions, startHouse } from './house/house.ts'
import { lives, until } from './house/processes.ts'

let folder: string
let house: House
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'baton-runner-'))
})
afterEach(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

const openHouse = async (options: HouseOptions = {}) => {
  house = await startHouse({ limits: { close_ms: 200 }, ...options })
}

type Started = {
  run_id: string
  execution_id: string
  token: string
  workspace: string
  stop: AbortController
  report: Promise<ExitReport>
}

/** A run of the `command` harness: the prompt is what the shell does. */
async function begin(prompt: string, config: AgentConfig = {}, more: Partial<RunnerOptions> = {}): Promise<Started> {
  const created = await house.client.executions.create({
    body: { prompt, config: { ...config, harness: { type: 'command' } } },
  })
  const workspace = join(folder, created.run_id)
  const stop = new AbortController()
  const report = runExecution({ ...optionsFor(created, workspace), signal: stop.signal, ...more })
  return { ...created, workspace, stop, report }
}

const optionsFor = (created: { execution_id: string; token: string }, workspace: string): RunnerOptions => ({
  server: house.url,
  token: created.token,
  execution_id: created.execution_id,
  version: '0.0.0',
  env: { PATH: process.env.PATH, HOME: folder, BATON_ALLOW_LOCAL_REPOSITORIES: '1' },
  workspace,
  place: 'managed',
  signal: new AbortController().signal,
})

const runOf = ({ run_id }: { run_id: string }) => house.client.runs.get({ params: { run_id } })

async function entriesOf({ run_id }: { run_id: string }): Promise<Entry[]> {
  let all: Entry[] = []
  for (let has_earlier = true; has_earlier; ) {
    const before = all[0]?.position
    const query = { limit: 500, ...(before === undefined ? {} : { before }) }
    const window = await house.client.transcripts.list({ params: { run_id }, query })
    all = [...window.entries, ...all]
    has_earlier = window.has_earlier
  }
  return all
}

const outputOf = (entries: Entry[]) =>
  entries.flatMap(({ body }) => (body.kind === 'output' ? [body.text] : [])).join('')
const expectDense = (entries: Entry[]) => expect(entries.map((e) => e.number)).toEqual(entries.map((_, at) => at + 1))
const readPid = (path: string) => (existsSync(path) ? Number(readFileSync(path, 'utf8')) || null : null)

describe('a run', () => {
  test('goes from its prompt to SUCCEEDED, with every entry, its usage, and nothing left behind', async () => {
    await openHouse()
    const started = await begin('echo "from $OZ_RUN_ID"; echo "token: $WARP_API_KEY"', {
      environment: { repositories: [], setup_commands: ['echo ready'], variables: {} },
    })
    expect(await started.report).toMatchObject({ end: 'finished', outcome: { outcome: 'SUCCEEDED' } })
    const run = await runOf(started)
    expect(run.state).toBe('SUCCEEDED')
    expect(run.request_usage?.wall_seconds).toBeGreaterThan(0)
    const entries = await entriesOf(started)
    expectDense(entries)
    expect(entries[0]?.body).toMatchObject({ kind: 'prompt' })
    expect(entries.map(({ body }) => (body.kind === 'system' ? body.name : body.kind))).toEqual(
      expect.arrayContaining(['setup', 'output', 'harness_started']),
    )
    expect(outputOf(entries)).toContain(`from ${started.run_id}`)
    expect(JSON.stringify(entries)).not.toContain(started.token)
    expect(existsSync(join(started.workspace, '.baton', started.execution_id))).toBe(false)
  })

  test('a setup command that fails ends it: which one, its exit code, its last lines', async () => {
    await openHouse()
    const setup_commands = ['true', 'echo looking; no-such-program', 'true']
    const started = await begin('echo never', { environment: { repositories: [], setup_commands, variables: {} } })
    await started.report
    const run = await runOf(started)
    expect(run).toMatchObject({ state: 'FAILED', status_message: { error_code: 'environment_setup_failed' } })
    expect(run.status_message?.message).toMatch(/^Setup command 2 of 3 exited with 127: looking\n.*not found$/s)
    expect(outputOf(await entriesOf(started))).not.toContain('never')
  })

  test('a repository that is not there ends it, saying what to do', async () => {
    await openHouse()
    const repositories = [{ url: join(folder, 'no-repository') }]
    const started = await begin('true', { environment: { repositories, setup_commands: [], variables: {} } })
    await started.report
    const run = await runOf(started)
    expect(run).toMatchObject({ state: 'FAILED', status_message: { error_code: 'environment_setup_failed' } })
    expect(run.status_message?.message).toMatch(/There is no repository at this address.*check the address/)
  })

  test('that leaves a file where its workspace was ends as its command did', async () => {
    await openHouse()
    const state_folder = join(folder, 'state')
    const run = await begin('d=$PWD; cd /; mv "$d" "$d-moved"; : > "$d"', {}, { state_folder })
    expect(await run.report).toMatchObject({ end: 'finished', outcome: { outcome: 'SUCCEEDED' } })
  })

  test('a cloned repository is where the harness works', async () => {
    await openHouse()
    const source = join(folder, 'source')
    mkdirSync(source)
    const git = (...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: source })
    git('init', '--quiet')
    git('commit', '--quiet', '--allow-empty', '-m', 'the first one')
    const environment = { repositories: [{ url: source }], setup_commands: [], variables: {} }
    const started = await begin('basename "$PWD"; git log --format=%s', { environment })
    await started.report
    expect(outputOf(await entriesOf(started))).toBe('source\nthe first one\n')
  })

  test('secrets that it is given do not reach its transcript, however they are written', async () => {
    await openHouse()
    const variables = { DEPLOY_TOKEN: 'correct-horse-battery' }
    const prompt =
      'echo "it is $DEPLOY_TOKEN"; printf %s "$DEPLOY_TOKEN" | base64; printf correct-; sleep 0.6; echo horse-battery'
    const started = await begin(prompt, { environment: { repositories: [], setup_commands: [], variables } })
    await started.report
    const output = outputOf((await entriesOf(started)).filter((entry) => entry.body.kind === 'output'))
    expect(output).toContain('it is •••')
    expect(output).not.toMatch(/horse|Y29ycmVjdC1ob3JzZS1/)
  })
})

describe('whoever watches a run', () => {
  test('sees its output grow before it is an entry, and without its secrets', async () => {
    await openHouse()
    const variables = { DEPLOY_TOKEN: 'correct-horse-battery' }
    const environment = {
      repositories: [],
      setup_commands: ['touch up; while [ ! -e go ]; do sleep 0.02; done'],
      variables,
    }
    const started = await begin('for n in 1 2 3; do echo "line $n $DEPLOY_TOKEN"; sleep 0.2; done; sleep 0.5', {
      environment,
    })
    await until('it waits', () => existsSync(join(started.workspace, 'up')))
    const watching = new AbortController()
    const seen: StreamFrame[] = []
    const query = () => ({ run_ids: [started.run_id], entries_after: [''] })
    const watched = (async () => {
      for await (const { frame } of follow(house.client, routes.events.follow, { query, signal: watching.signal })) {
        if (frame.type === 'hello') writeFileSync(join(started.workspace, 'go'), '')
        seen.push(frame)
      }
    })()
    await started.report
    watching.abort()
    await watched
    const grown = seen.flatMap((frame) => (frame.type === 'deltas' ? frame.deltas : []))
    expect(grown.length).toBeGreaterThan(1)
    expect(grown.map((delta) => delta.text).join('')).toContain('line 1 •••\nline 2')
    expect(JSON.stringify(seen)).not.toContain('horse')
    const first = seen.findIndex((frame) => frame.type === 'deltas')
    const entry = seen.findIndex((frame) => frame.type === 'entries' && outputOf(frame.entries).includes('line 1'))
    expect(entry).toBeGreaterThan(first)
  })
})

describe('a run is stopped', () => {
  test('by a cancel, within two seconds, with everything that it started', async () => {
    await openHouse()
    const started = await begin(
      'sleep 1000 & echo $! > "$BATON_WORKSPACE/pid"; trap "" TERM INT; while :; do sleep 1; done',
    )
    const pid = await until('the command runs', () => readPid(join(started.workspace, 'pid')))
    const asked = performance.now()
    await house.client.runs.cancel({ params: { run_id: started.run_id } })
    await until('it is cancelled', async () => (await runOf(started)).state === 'CANCELLED')
    expect(performance.now() - asked).toBeLessThan(2500)
    expect(await started.report).toMatchObject({ outcome: { outcome: 'CANCELLED' } })
    expect(lives(pid)).toBe(false)
  })

  test('by a cancel during a setup command', async () => {
    await openHouse()
    const setup_commands = ['echo $$ > "$BATON_WORKSPACE/pid"; sleep 1000']
    const started = await begin('true', { environment: { repositories: [], setup_commands, variables: {} } })
    const pid = await until('the command runs', () => readPid(join(started.workspace, 'pid')))
    await house.client.runs.cancel({ params: { run_id: started.run_id } })
    expect(await started.report).toMatchObject({ outcome: { outcome: 'CANCELLED' } })
    expect((await runOf(started)).state).toBe('CANCELLED')
    await until('it is gone', () => !lives(pid))
  })

  test('when it writes more than a transcript holds, and says how much is missing', async () => {
    await openHouse({ engine_limits: { transcript_bytes_max: 1_000_000 } })
    const started = await begin('yes "a line of output that goes on and on"')
    await started.report
    const run = await runOf(started)
    expect(run.state).toBe('FAILED')
    expect(run.status_message?.message).toContain('The run wrote more than 1 MB to its transcript and was stopped.')
    const entries = await entriesOf(started)
    expectDense(entries)
    expect(entries.map(({ body }) => body.kind)).toContain('gap')
  })

  test('when its time is up, after a warning', async () => {
    await openHouse()
    const started = await begin('sleep 1000', { timeout_minutes: 0.02 })
    expect(await started.report).toMatchObject({ outcome: { outcome: 'FAILED', failure: { reason: 'timeout' } } })
    expect((await runOf(started)).status_message?.message).toContain('longer than its limit of 1.2 s')
    expect(JSON.stringify(await entriesOf(started))).toContain('time_almost_up')
  })

  test('by whoever started the runner: managed it is tried again, local it is a cancel', async () => {
    await openHouse()
    const managed = await begin('touch "$BATON_WORKSPACE/up"; sleep 1000')
    await until('it runs', () => existsSync(join(managed.workspace, 'up')))
    managed.stop.abort()
    expect(await managed.report).toMatchObject({
      outcome: { outcome: 'ERROR', failure: { reason: 'runner_stopped', retryable: true } },
    })
    const local = await begin('touch "$BATON_WORKSPACE/up"; sleep 1000', {}, { place: 'local' })
    await until('it runs', () => existsSync(join(local.workspace, 'up')))
    local.stop.abort()
    expect(await local.report).toMatchObject({ outcome: { outcome: 'CANCELLED' } })
    expect((await runOf(local)).state).toBe('CANCELLED')
  })

  test('when its execution has ended elsewhere: it writes nothing more', async () => {
    await openHouse({ engine_limits: { heartbeat_ms: 200 } })
    const started = await begin('echo $$ > "$BATON_WORKSPACE/pid"; while :; do echo tick; sleep 0.05; done')
    const pid = await until('the command runs', () => readPid(join(started.workspace, 'pid')))
    await house.clientFor(started.token).executions.finish({
      params: { execution_id: started.execution_id },
      body: { outcome: { outcome: 'SUCCEEDED' }, entries: 0 },
    })
    expect(await started.report).toMatchObject({ end: 'superseded' })
    expect(lives(pid)).toBe(false)
    expect((await runOf(started)).state).toBe('SUCCEEDED')
  })

  test.runIf(canMount())('when the disk of its sandbox is full, and says so', async () => {
    await openHouse()
    const disk = join(folder, 'disk')
    mkdirSync(disk)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', disk])
    try {
      const started = await begin(
        'while :; do echo "some output that fills the journal"; done',
        {},
        { state_folder: join(disk, 'state') },
      )
      expect(await started.report).toMatchObject({ outcome: { outcome: 'ERROR', failure: { reason: 'disk_full' } } })
      expect((await runOf(started)).status_message?.message).toMatch(
        /^No space is left .* Free space on that disk, then retry/,
      )
      expectDense(await entriesOf(started))
    } finally {
      execFileSync('umount', ['-l', disk])
    }
  })
})

describe('a runner outlives its server', () => {
  test('every entry written while the server was away arrives once and in order', async () => {
    await openHouse()
    const started = await begin('for n in $(seq 1 40); do echo "line $n"; sleep 0.05; done')
    await until('it writes', async () => (await entriesOf(started)).length > 3)
    await house.restart()
    expect(await started.report).toMatchObject({ outcome: { outcome: 'SUCCEEDED' } })
    const entries = await entriesOf(started)
    expectDense(entries)
    expect(outputOf(entries)).toBe(Array.from({ length: 40 }, (_, at) => `line ${at + 1}\n`).join(''))
  })

  test('an end that comes while the server is away is reported when it is back', async () => {
    await openHouse()
    const started = await begin('sleep 0.3; echo done > "$BATON_WORKSPACE/done"; echo done')
    await until('it has started', async () => (await runOf(started)).state === 'INPROGRESS')
    await house.server.close()
    await until('it is done', () => existsSync(join(started.workspace, 'done')))
    await house.restart()
    expect(await started.report).toMatchObject({ outcome: { outcome: 'SUCCEEDED' } })
    expect((await runOf(started)).state).toBe('SUCCEEDED')
  })

  test('a runner that was killed goes on with its numbers when it is started again', async () => {
    await openHouse()
    const created = await house.client.executions.create({
      body: {
        prompt: 'echo one; while [ ! -e "$BATON_WORKSPACE/go" ]; do sleep 0.05; done; echo two',
        config: { harness: { type: 'command' } },
      },
    })
    const workspace = join(folder, created.run_id)
    const options = { ...optionsFor(created, workspace), signal: undefined }
    const source = JSON.stringify(join(import.meta.dirname, '../src/runner/run.ts'))
    const script = `const { runExecution } = await import(${source})
      await runExecution({ ...${JSON.stringify(options)}, signal: new AbortController().signal })`
    const first = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' })
    await until('it writes', async () => outputOf(await entriesOf(created)).includes('one'))
    first.kill('SIGKILL')
    writeFileSync(join(workspace, 'go'), '')
    const report = await runExecution(optionsFor(created, workspace))
    expect(report).toMatchObject({ outcome: { outcome: 'SUCCEEDED' } })
    const entries = await entriesOf(created)
    expectDense(entries)
    expect(JSON.stringify(entries)).toContain('The runner was started again')
    expect(outputOf(entries)).toBe('one\none\ntwo\n')
  })
})

describe('an upload', () => {
  test('goes back to where the server stands when it believed the server further on', async () => {
    await openHouse()
    const created = await house.client.executions.create({ body: { prompt: 'x' } })
    const { execution_id } = created
    const client = house.clientFor(created.token)
    await client.executions.start({ params: { execution_id }, body: {} })
    const journal = openJournal({ path: join(folder, 'journal'), entries_held: 0 })
    for (let at = 1; at <= 1200; at++) journal.append({ kind: 'text', text: `entry ${at}` })
    const signal = new AbortController().signal
    const ends: string[] = []
    const upload = makeUpload({
      client,
      execution_id,
      journal,
      entries_held: 700,
      onSuperseded: (message) => ends.push(message),
      onAway: (away) => ends.push(`away: ${away}`),
      signal,
    })
    await upload.flushed(signal)
    await upload.close()
    expect(ends).toEqual([])
    const entries = await entriesOf(created)
    expect(entries).toHaveLength(1200)
    expectDense(entries)
  })
})

describe('a runner that is not given its execution', () => {
  test('says why and does nothing', async () => {
    await openHouse()
    const created = await house.client.executions.create({
      body: { prompt: 'true', config: { harness: { type: 'command' } } },
    })
    const options = optionsFor(created, join(folder, 'w'))
    expect(await runExecution({ ...options, token: `bx-1.${'0'.repeat(64)}` })).toMatchObject({ end: 'refused' })
    expect(await runExecution({ ...options, execution_id: crypto.randomUUID() })).toMatchObject({ end: 'refused' })
    await runExecution(options)
    expect(await runExecution(options)).toMatchObject({ end: 'superseded' })
    const told = AbortSignal.abort()
    expect(await runExecution({ ...options, signal: told })).toMatchObject({
      message: expect.stringContaining('told to end'),
    })
    const nobody = await runExecution({ ...options, server: 'http://127.0.0.1:9', start_give_up_ms: 300 })
    expect(nobody).toMatchObject({
      end: 'unreachable',
      message: expect.stringContaining('http://127.0.0.1:9 does not answer'),
    })
    expect(existsSync(join(folder, 'w', '.baton', created.execution_id))).toBe(false)
  })
})

function canMount(): boolean {
  if (process.getuid?.() !== 0) return false
  const probe = mkdtempSync(join(tmpdir(), 'baton-mount-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', probe], { stdio: 'ignore' })
    execFileSync('umount', [probe])
    return true
  } catch {
    return false
  } finally {
    rmSync(probe, { recursive: true, force: true })
  }
}
