/** Batches through the built command line and a real server. */
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { runCommandLine } from '../src/cli/command-line.ts'
import { Batch, BatchTask, type Outcome } from '../src/contract/index.ts'
import { type Ended, type Home, makeHome, type Started, startUp } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'
import { takeAgent } from './house/mcp-agent.ts'
import { until } from './house/processes.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

const NOBODY = '00000000-0000-4000-8000-000000000000'

let home: Home
let house: House
let worker: ScriptedWorker
let env: Record<string, string>

beforeAll(async () => {
  home = await makeHome()
})
afterAll(() => home?.remove())
beforeEach(async () => {
  house = await startHouse({ max_concurrent_runs: 50, engine_limits: { retry_first_ms: 20, retry_most_ms: 100 } })
  worker = await house.worker({ capacity: 50 })
  env = { BATON_SERVER: house.url, BATON_API_KEY: house.api_key }
})
afterEach(() => house?.close())

const baton = (args: string[], stdin?: string): Promise<Ended> =>
  home.run(['batch', ...args], { env, ...(stdin === undefined ? {} : { stdin }) })
const start = (args: string[]): Started => home.start(['batch', ...args], { env })

async function good(args: string[], stdin?: string): Promise<string> {
  const { code, stdout, stderr } = await baton(args, stdin)
  expect(code, stderr).toBe(0)
  return stdout
}

/** The batch that the command answers. */
const made = async (args: string[], stdin?: string): Promise<Batch> =>
  Batch.parse(JSON.parse(await good([...args, '--json'], stdin)))

const get = (batch_id: string) => house.client.batches.get({ params: { batch_id } })
const tasksOf = async (batch_id: string) => (await house.client.batches.tasks({ params: { batch_id } })).tasks
const count = async () => (await house.client.batches.list()).batches.length

async function file(name: string, text: string): Promise<string> {
  await writeFile(join(home.folder, name), text)
  return name
}

/** Without what a terminal obeys. */
const plain = (text: string): string => stripVTControlCharacters(text)

/** The next task that a worker is offered, at work. */
async function begun(): Promise<Piece> {
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  return piece
}
const BUSY: Outcome = {
  outcome: 'ERROR',
  failure: { error_code: 'resource_unavailable', message: 'The model is busy.', retryable: true },
}
const FATAL: Outcome = {
  outcome: 'FAILED',
  failure: { error_code: 'operation_not_supported', message: 'It cannot be done.', retryable: false },
}

describe('a list of tasks', { timeout: 60_000 }, () => {
  test('is read from YAML, and options go before its defaults but not before what a task says', async () => {
    const name = await file(
      'tasks.yaml',
      `title: From a file
concurrency: 7
defaults: { harness: claude, max_retries: 5 }
tasks:
  - Say hello
  - name: docs
    prompt: |
      Write the docs.
      Be brief.
    harness: codex
    depends_on: [task-1]
`,
    )
    const batch = await made([
      ...['run', name, '--title', 'Mine', '--model', 'opus', '--concurrency', '2', '--max-retries', '1'],
      ...['--base-prompt', 'Think.', '--time-limit', '90s', '--repo', '.', '--stop-on-failure', '--retry', 'all'],
    ])
    expect(batch).toMatchObject({ title: 'Mine', concurrency: 2, tasks: 2, stop_on_failure: true, state: 'running' })
    expect(await tasksOf(batch.batch_id)).toMatchObject([
      { name: 'task-1', harness: 'claude', max_tries: 2 },
      { name: 'docs', harness: 'codex', depends_on: ['task-1'] },
    ])
    const piece = await begun()
    const run = await house.client.runs.get({ params: { run_id: piece.run_id } })
    expect(run.prompt).toBe('Think.\n\nSay hello')
    expect(run.agent_config).toMatchObject({
      model_id: 'opus',
      timeout_minutes: 1.5,
      environment: { repositories: [{ url: home.folder }] },
    })
  })

  test('comes as options, as lines, or as JSON from stdin, and may be safely repeated', async () => {
    const one = await made(['run', '--task', 'first', '-t', 'second: with a colon'])
    expect((await tasksOf(one.batch_id)).map((task) => task.title)).toEqual(['first', 'second: with a colon'])
    const lines = await made(['run'], 'fix the first thing\n\n  and: the second\r\n# and 3\n')
    expect((await tasksOf(lines.batch_id)).map((task) => task.title)).toEqual([
      'fix the first thing',
      'and: the second',
      '# and 3',
    ])
    const json = JSON.stringify({ tasks: [{ prompt: 'only' }], title: 'J' })
    const args = ['run', '-', '--idempotency-key', 'once']
    const first = await made(args, json)
    expect(first).toMatchObject({ title: 'J', tasks: 1 })
    expect((await made(args, json)).batch_id).toBe(first.batch_id)
    const bare = await made(['run', '-'], '- one\n- prompt: two\n')
    expect(bare.tasks).toBe(2)
  })

  test('starts nothing when anything is wrong, and each wrong thing is named with its line and its task', async () => {
    const name = await file(
      'bad.yaml',
      `concurency: 3
tasks:
  - name: one
    prompt: echo
    max_retries: 50
  - name: docs
    promt: write docs
  - prompt: ''
    retry: sometimes
`,
    )
    const { code, stdout, stderr } = await baton(['run', name])
    expect(stdout).toBe('')
    expect(code).toBe(2)
    expect(stderr.split('\n')).toEqual([
      'error: Nothing was started. 6 things are wrong in bad.yaml:',
      '  bad.yaml:1:13: concurency: There is no such field. Did you mean "concurrency"?',
      '  bad.yaml:5:18: tasks[0] "one": max_retries: At most 19.',
      '  bad.yaml:6:5: tasks[1] "docs": prompt: It is missing.',
      '  bad.yaml:7:12: tasks[1] "docs": promt: There is no such field. Did you mean "prompt"?',
      '  bad.yaml:9:12: tasks[2]: retry: It must be retryable or all.',
      '  bad.yaml:8:13: tasks[2]: prompt: It is empty.',
      '',
    ])
    const machine = await baton(['run', name, '--json'])
    expect(JSON.parse(machine.stderr)).toMatchObject({
      exit_code: 2,
      errors: expect.arrayContaining([
        expect.objectContaining({ pointer: '/tasks/0/max_retries', detail: 'At most 19.' }),
      ]),
    })
    expect(await count()).toBe(0)
  })

  test('is refused with its lines also for what only the server knows', async () => {
    const ring =
      'tasks:\n  - name: a\n    prompt: x\n    depends_on: [b]\n  - name: b\n    prompt: y\n    depends_on: [a]\n'
    expect((await baton(['run', await file('ring.yaml', ring)])).stderr).toContain(
      'ring.yaml:4:17: tasks[0] "a": These tasks wait for each other: a → b → a.',
    )
    const text =
      'tasks:\n  - name: a\n    prompt: x\n    environment: nowhere\n  - name: b\n    prompt: y\n    depends_on: [c]\n'
    const { code, stderr } = await baton(['run', '-'], text)
    expect(code).toBe(2)
    expect(stderr).toContain('stdin:2:5: tasks[0] "a": There is no environment "nowhere".')
    expect(stderr).toContain('stdin:7:18: tasks[1] "b": It depends on "c", which is not in the list.')
    expect(await count()).toBe(0)
  })

  const refusals: [string, string[], string | undefined, RegExp][] = [
    ['broken YAML', ['run', '-'], 'tasks:\n  - a: b: c\n', /stdin:2:\d+: Nested mappings/],
    ['JSON that breaks off', ['run'], '{"tasks": [{"prompt": "x"}', /stdin:1:\d+: Flow map/],
    ['no tasks', ['run'], 'title: x\n', /stdin has no list of tasks/],
    ['nothing at all', ['run'], '\n', /There are no tasks in stdin/],
    ['tasks from two sides', ['run', 'x.yaml', '--task', 'y'], undefined, /given more than once/],
    ['a file that is not there', ['run', 'nowhere.yaml'], undefined, /nowhere\.yaml cannot be read \(ENOENT\)/],
    ['values without a template', ['run', '--set', 'a=b'], undefined, /Name one with --template/],
    [
      'an environment that there is not',
      ['run', '-t', 'x', '-e', 'nowhere'],
      undefined,
      /^ {2}--task: defaults: There is no environment "nowhere"/m,
    ],
    ['too many at a time', ['run', '-t', 'x', '--concurrency', '0'], undefined, /whole number from 1 to 1000/],
  ]
  test.each(refusals)('%s is refused', async (_, args, stdin, words) => {
    const { code, stdout, stderr } = await baton(args, stdin)
    expect(stderr).toMatch(words)
    expect(code).toBe(2)
    expect(stdout).toBe('')
    expect(await count()).toBe(0)
  })

  test('is made from a template with values, and one for a single run is pointed elsewhere', async () => {
    const answer = await baton(['run', '--template', 'nothing-like-it'])
    expect(answer.code).toBe(5)
    const known = /There are: (.*)\.\n/.exec(answer.stderr)?.[1]?.split(', ') ?? []
    expect(known).toContain('fan-out')
    const values = ['repo=.', 'shards=a', 'shards=b', 'command=true'].flatMap((value) => ['--set', value])
    expect(await made(['run', '--template', 'fan-out', ...values, '--title', 'Mine'])).toMatchObject({
      title: 'Mine',
      tasks: 3,
    })
    expect((await baton(['run', '--template', 'fan-out', '--set', 'nonsense=1'])).stderr).toContain('nonsense')
  })
})

describe('following', { timeout: 60_000 }, () => {
  test('a batch tells each start, failure, retry and end, and its exit code says that a task failed', async () => {
    const args = ['run', '-', '--follow', '--max-retries', '1']
    const json = JSON.stringify({
      tasks: ['good', 'flaky', 'bad'].map((name) => ({ name, prompt: name })),
      concurrency: 1,
    })
    const watching = home.start(['batch', ...args], { env, stdin: json })
    const good = await begun()
    await watching.seen('stdout', 'RUNNING good')
    await good.append({ kind: 'text', text: 'All is done.' })
    await good.finish()
    const flaky = await begun()
    await flaky.finish(BUSY)
    for (const _ of ['bad', 'flaky']) {
      const piece = await begun()
      await piece.finish(piece.assignment.task.agent_config_snapshot?.name === 'bad' ? FATAL : undefined)
    }
    const { code, stdout, stderr } = await watching.ended
    expect(code, stderr).toBe(3)
    expect(stdout).toMatch(/^Started batch .*: 3 tasks, 1 at a time\.\nView batch: http/)
    expect(stdout).toMatch(/COMPLETED good in .*: All is done\./)
    expect(stdout).toMatch(/FAILED bad in .*: It cannot be done\./)
    expect(stdout).toMatch(/COMPLETED flaky after 2 tries/)
    expect(stdout).toMatch(/FAILED in .*\n {2}2 of 3 tasks completed; 1 failed\.\n$/)
    expect(stderr).toMatch(/Failed: bad\nSee why: baton run logs .*\nTry them again: baton batch retry /)
    for (const line of ['COMPLETED good', 'COMPLETED flaky', 'FAILED bad'])
      expect(stdout.split(line), line).toHaveLength(2)
  })

  test('goes on across a restart of the server, as records for machines', async () => {
    const { batch_id } = await made(['run', '-t', 'one', '-t', 'two', '--concurrency', '1'])
    const watching = start(['watch', batch_id, '-o', 'ndjson'])
    await watching.seen('stdout', '"type":"task"')
    const first = await begun()
    await first.finish()
    await watching.seen('stdout', '"state":"completed"')
    await house.restart()
    worker = await house.worker({ capacity: 50 })
    await (await begun()).work(0).catch(() => {})
    const { code, stdout, stderr } = await watching.ended
    expect(code, stderr).toBe(0)
    const records = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(records[0]).toMatchObject({ type: 'batch', batch: { batch_id, state: 'running' } })
    const tasks = records.flatMap((record) => (record.type === 'task' ? [BatchTask.parse(record.task)] : []))
    for (const name of ['task-1', 'task-2'])
      expect(tasks.findLast((task) => task.name === name)).toMatchObject({ state: 'completed' })
    expect(records.findLast((record) => record.type === 'batch')).toMatchObject({ batch: { state: 'completed' } })
    expect(new Set(records.map((record) => record.type))).toEqual(new Set(['batch', 'task', 'event', 'line']))
  })

  test('waits without a word, answers the batch, and stops at its time limit or when a task waits for a person', async () => {
    const waiting = home.start(['batch', 'run', '-t', 'one', '--wait', '--json'], { env })
    await (await begun()).work()
    const ended = await waiting.ended
    expect(ended.code, ended.stderr).toBe(0)
    expect(Batch.parse(JSON.parse(ended.stdout))).toMatchObject({ state: 'completed', tasks: 1 })
    const late = await baton(['run', '-t', 'two', '--wait', '--timeout', '300ms'])
    expect(late.code).toBe(8)
    expect(late.stderr).toMatch(/has not ended in the time given; it goes on\.\nWatch it again with: baton batch watch/)
    expect((await baton(['watch', NOBODY])).code).toBe(5)
    await (await worker.next()).work()
    const asks = home.start(['batch', 'run', '-', '--follow', '--fail-on-input'], {
      env,
      stdin: '- ask first',
    })
    await asks.seen('stdout', 'Started batch')
    await house.database.kysely.updateTable('teams').set({ children_ask: true }).execute()
    const agent = await takeAgent(house, worker)
    await agent.call('propose_plan', { plan: '# A plan' })
    const stopped = await asks.ended
    expect(stopped.code, stopped.stdout + stopped.stderr).toBe(7)
  })
})

test('a terminal shows tasks at work and failed tries below the lines of those that have ended', async () => {
  const screen = new PassThrough().setEncoding('utf8')
  let text = ''
  screen.on('data', (part: string) => {
    text += part
  })
  const terminal = Object.assign(screen, { isTTY: true, columns: 80, rows: 24 })
  const leaving = new AbortController()
  const tasks = ['one', 'flaky', 'slow'].map((name) => ({ name, prompt: name, max_retries: 1 }))
  const { batch_id } = await house.client.batches.create({ body: { tasks, concurrency: 3 } })
  const watching = runCommandLine({
    args: ['batch', 'watch', batch_id],
    version: '0.1.0',
    env: { ...env, HOME: home.folder },
    cwd: home.folder,
    pid: process.pid,
    stdin: Readable.from([]),
    stdout: terminal,
    stderr: terminal,
    signal: leaving.signal,
    self: [],
  })
  const shown = (words: string | RegExp) => until(`${words} is shown`, () => plain(text).search(words) >= 0)
  await shown('running · 0 of 3 completed')
  const pieces = [await begun(), await begun(), await begun()]
  const [one, flaky, slow] = tasks.map(({ name }) => pieces.find((piece) => piece.assignment.task.title === name))
  if (!one || !flaky || !slow) throw new Error('Not every task has begun.')
  // The slow one keeps the only place that is left, so that the flaky one waits.
  await house.client.batches.update({ params: { batch_id }, body: { concurrency: 1 } })
  await one.append({ kind: 'text', text: `${'word '.repeat(60)}at last` })
  await one.finish()
  await shown(/COMPLETED one in .*: … .*word at last/)
  await flaky.finish(BUSY)
  await slow.append({ kind: 'output', text: 'half way', stream: 'stdout' })
  await shown(/running {2}slow .* half way/)
  await shown(/failed {3}flaky .* try 1 of 2 {2}next try when there is room: The mo/)
  const rows = plain(text).split(/[\r\n]+/)
  expect(rows.filter((row) => row.length > 80 && !row.includes(batch_id))).toEqual([])
  leaving.abort('SIGINT')
  expect(await watching).toBe(130)
  expect(plain(text)).toContain(`batch ${batch_id} goes on.`)
}, 60_000)

describe('a batch', { timeout: 60_000 }, () => {
  test('is paused, widened, resumed, cancelled, and what it says is true', async () => {
    const { batch_id } = await made(['run', '-t', 'a', '-t', 'b', '-t', 'c', '-t', 'd', '--concurrency', '1'])
    const first = await begun()
    expect(await good(['pause', batch_id])).toBe(
      `Paused. 1 task at work goes on; 3 wait.\nGo on with: baton batch resume ${batch_id}\n`,
    )
    expect(await get(batch_id)).toMatchObject({ state: 'paused' })
    expect(await good(['update', batch_id, '--concurrency', '3'])).toContain('3 tasks at a time from now on')
    expect((await baton(['update', batch_id, '--concurrency', 'many'])).code).toBe(2)
    expect(await good(['resume', batch_id])).toContain('It goes on: running')
    const others = [await begun(), await begun()]
    await first.finish()
    await others[0]?.finish()
    expect(await good(['cancel', batch_id])).toContain('Cancelled, with all that its tasks started: 2 of 4 completed')
    expect(await get(batch_id)).toMatchObject({ state: 'cancelled' })
    expect(await baton(['pause', batch_id])).toMatchObject({ code: 6 })
    expect(await good(['resume', batch_id])).toContain('It has ended already: cancelled')
  })

  test('is tried again by the names of tasks, and the exit code is that of its new end', async () => {
    const running = home.start(['batch', 'run', '-t', 'a', '-t', 'b', '--wait'], { env })
    for (const piece of [await begun(), await begun()]) await piece.finish(FATAL)
    const failed = await running.ended
    expect(failed).toMatchObject({ code: 3, stdout: expect.stringContaining('0 of 2 tasks completed; 2 failed.') })
    const batch_id = /Started batch (\S+):/.exec(failed.stdout)?.[1] ?? ''
    const again = home.start(['batch', 'retry', batch_id, '--task', 'task-2', '--follow'], { env })
    await (await begun()).work()
    const ended = await again.ended
    expect(ended.code).toBe(3)
    expect(ended.stdout).toMatch(/COMPLETED task-2 in .*: entry 1/)
    expect(ended.stdout).not.toContain('FAILED task-1')
    expect((await tasksOf(batch_id)).map((task) => task.state)).toEqual(['failed', 'completed'])
    expect(await baton(['retry', batch_id, '--task', 'nobody'])).toMatchObject({ code: 2 })
    const last = home.start(['batch', 'retry', batch_id, '--wait', '--jq', '.state'], { env })
    await (await begun()).work()
    expect(await last.ended).toMatchObject({ code: 0, stdout: 'completed\n' })
  })

  test('is listed and shown with its tasks, for people and for machines', async () => {
    expect((await baton(['list'])).stderr).toContain('No batches. Start one with: baton batch run')
    const { batch_id } = await made(['run', '-t', 'a', '-t', 'b', '--title', 'Two', '--max-retries', '0'])
    for (const outcome of [undefined, FATAL]) await (await begun()).finish(outcome)
    await until('it has ended', async () => (await get(batch_id)).ended_at !== null)
    const other = await made(['run', '-t', 'c', '--title', 'Three'])
    const listed = await good(['list'])
    expect(listed).toMatch(new RegExp(`${other.batch_id} +running .* 0/1 +Three\n${batch_id} +failed .* 1/2 +1 +Two`))
    expect(JSON.parse(await good(['list', '-L', '1', '--json']))).toMatchObject({
      batches: [{ batch_id: other.batch_id }],
      page_info: { has_next_page: true },
    })
    expect(await good(['list', '-o', 'ndjson', '--jq', '.batches | length'])).toBe('2\n')
    expect((await good(['list', '-o', 'ndjson'])).trim().split('\n')).toHaveLength(2)
    expect((await baton(['list', '-L', 'x'])).code).toBe(2)
    const shown = await good(['get', batch_id])
    expect(shown).toMatch(/^Two\nBatch .*\nState +failed · 1 of 2 completed · 1 failed\nEnded +1 of 2 tasks completed/)
    expect(shown).toMatch(/2 +task-2 +failed +1\/1 +baton .* It cannot be done\./)
    expect(JSON.parse(await good(['get', batch_id, '--json']))).toEqual(await get(batch_id))
    const [task] = (await good(['get', batch_id, '--state', 'failed', '-o', 'ndjson'])).trim().split('\n')
    expect(BatchTask.parse(JSON.parse(task ?? ''))).toMatchObject({ name: 'task-2', state: 'failed' })
    expect(JSON.parse(await good(['get', batch_id, '--tasks', '--json'])).tasks).toHaveLength(2)
    expect(await good(['get', batch_id, '--ids'])).toContain(task && JSON.parse(task).run_id)
    expect((await baton(['get', batch_id, '--state', 'odd'])).code).toBe(2)
    expect((await baton(['get', NOBODY])).code).toBe(5)
  })
})

test('runs say their mode, the plan that waits, and that they are a batch', async () => {
  const run = (args: string[]) => home.run(['run', ...args], { env })
  const { batch_id } = await made(['run', '-t', 'a', '-t', 'b', '--title', 'Two'])
  for (const _ of [1, 2]) await (await begun()).work()
  const { run_id } = await house.client.runs.create({ body: { prompt: 'Migrate', mode: 'orchestrate' } })
  const agent = await takeAgent(house, worker)
  await agent.call('propose_plan', { plan: '# Migrate' })
  const waits = `version 1 of its plan waits: baton run plan ${run_id}`
  const shown = (await run(['get', run_id])).stdout
  expect(shown).toContain(waits)
  expect(shown).toMatch(/Mode +orchestrate/)
  expect((await run(['get', batch_id])).stdout).toContain(`2 tasks: baton batch get ${batch_id}`)
  const { stdout } = await run(['list'])
  expect(stdout).toMatch(new RegExp(`${run_id} +BLOCKED .* plan 1 waits Migrate`))
  expect(stdout).toMatch(new RegExp(`${batch_id} +SUCCEEDED .* batch +Two`))
  expect((await run(['watch', run_id, '--fail-on-input'])).stdout).toContain(waits)
  expect((await run(['watch', batch_id])).stdout).toContain(`It is a batch: baton batch watch ${batch_id}`)
}, 60_000)

test('real workers run shell commands, one after the other gave its result', async () => {
  // PostgreSQL of root runs as another user, which has to pass through.
  await chmod(home.folder, 0o711)
  const server = await startUp(home)
  try {
    const name = await file(
      'real.yaml',
      `defaults: { harness: command }
tasks:
  - { name: one, prompt: echo first result }
  - { name: two, prompt: 'exit 3' }
  - { name: three, prompt: grep -o 'first result' "$BATON_RESULTS", depends_on: [one] }
  - { name: four, prompt: echo never, depends_on: [two] }
`,
    )
    const ended = await home.run(['batch', 'run', name, '--follow'])
    expect(ended.code, ended.stderr).toBe(3)
    expect(ended.stdout).toMatch(/COMPLETED one in .*: first result\n/)
    expect(ended.stdout).toMatch(/COMPLETED three in .*: first result\n/)
    expect(ended.stdout).toMatch(/FAILED two in .*exited with code 3/)
    expect(ended.stdout).toContain('FAILED four: Not started: it depends on task "two", which failed.')
  } finally {
    await server.stop()
  }
}, 60_000)
