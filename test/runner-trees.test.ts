import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Harness, HarnessStart } from '../src/runner/harnesses/harness.ts'
import { type RunnerOptions, runExecution } from '../src/runner/run.ts'
import { type House, startHouse } from './house/house.ts'
import { processesOf, until } from './house/processes.ts'

const RUNNER = join(import.meta.dirname, 'house/runner-process.ts')
const AGENT = join(import.meta.dirname, '../src/agent/main.ts')

let folder: string
let house: House
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-trees-'))
  house = await startHouse({ limits: { close_ms: 200 } })
})
afterEach(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

type Claimed = { run_id: string; execution_id: string; token: string }

function optionsFor({ execution_id, token }: Claimed, more: Partial<RunnerOptions> = {}): RunnerOptions {
  return {
    server: house.url,
    token,
    execution_id,
    version: '0.0.0',
    env: { PATH: process.env.PATH, HOME: folder, BATON_ALLOW_LOCAL_REPOSITORIES: '1', BATON_CLI: RUNNER },
    workspace: join(folder, execution_id),
    place: 'managed',
    signal: new AbortController().signal,
    ...more,
  }
}

const stateOf = async (run_id: string) => (await house.client.runs.get({ params: { run_id } })).state

/** A parent whose agent is this function: it is called with each prompt. */
const parentOf = (turn: (text: string, start: HarnessStart) => Promise<void>): Harness => ({
  name: 'talk',
  tool_hold_ms: 1000,
  async open(start) {
    return {
      session_id: null,
      async prompt(text) {
        await turn(text, start)
        return { end: 'completed' }
      },
      async cancel() {},
      async close() {},
    }
  },
})

const engineAs = async (token: string) => {
  const caller = await house.server.engine.access.identify({ token })
  if (caller === null) throw new Error('The execution is not known.')
  return { caller, engine: house.server.engine }
}

const command = (name: string, prompt: string) => ({ name, prompt, harness: 'command', where: 'sandbox' })

test('two children beside their parent share its files, and it hears of the end of both', async () => {
  const source = join(folder, 'source')
  mkdirSync(source)
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: source })
  git('init', '--quiet')
  git('commit', '--quiet', '--allow-empty', '-m', 'first')
  const environment = { repositories: [{ url: source }], setup_commands: ['echo once >> setup.txt'], variables: {} }
  const created = await house.client.executions.create({
    body: { prompt: 'Begin.', config: { harness: { type: 'talk' }, environment } },
  })
  const prompts: string[] = []
  let seen: string[] = []
  const children: string[] = []
  const harness = parentOf(async (text, { workspace }) => {
    prompts.push(text)
    const { caller, engine } = await engineAs(created.token)
    if (prompts.length === 1) {
      const spawned = await engine.trees.spawn(caller, {
        key: 'k',
        children: [
          command('first', 'echo "$OZ_PARENT_RUN_ID" > from-first'),
          command('second', 'until [ -s from-first ]; do sleep 0.05; done; cp from-first from-second'),
        ],
      })
      for (const one of spawned) if ('run_id' in one) children.push(one.run_id)
    }
    seen = readdirSync(workspace).sort()
    const both = children.every((run_id) => prompts.join('\n').includes(`${run_id}) has succeeded`))
    if (!both)
      await engine.mail.wait(caller, {
        call_key: randomUUID(),
        hold_ms: 0,
        timeout_s: 600,
        signal: new AbortController().signal,
      })
  })
  const report = await runExecution(optionsFor(created, { harness }))
  expect(report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
  expect(seen).toEqual(['.git', 'from-first', 'from-second'])
  const workspace = join(folder, created.execution_id)
  expect(readFileSync(join(workspace, 'source/from-second'), 'utf8').trim()).toBe(created.run_id)
  expect(readFileSync(join(workspace, 'setup.txt'), 'utf8')).toBe('once\n')
  expect(await Promise.all(children.map(stateOf))).toEqual(['SUCCEEDED', 'SUCCEEDED'])
  expect(readdirSync(join(workspace, '.baton'))).toEqual([])
})

/** A parent that starts one child beside it and ends without waiting for it. */
async function beginLongChild(prompt: string) {
  const created = await house.client.executions.create({
    body: { prompt: 'Begin.', config: { harness: { type: 'talk' } } },
  })
  let child = ''
  const harness = parentOf(async (_text, { workspace }) => {
    if (child !== '') return
    const { caller, engine } = await engineAs(created.token)
    const [one] = await engine.trees.spawn(caller, { key: 'k', children: [command('long', prompt)] })
    child = one !== undefined && 'run_id' in one ? one.run_id : ''
    await until('the child is at work', () => existsSync(join(workspace, 'begun')))
  })
  const stop = new AbortController()
  const report = runExecution(optionsFor(created, { harness, signal: stop.signal }))
  await until('the parent has ended', async () => (await stateOf(created.run_id)) === 'SUCCEEDED')
  return { created, child, report, stop, workspace: join(folder, created.execution_id) }
}

test('a child outlives the end of its parent, whose runner stays until the child has ended', async () => {
  const { child, report, workspace } = await beginLongChild('touch begun; until [ -e go ]; do sleep 0.05; done')
  expect(await stateOf(child)).toBe('INPROGRESS')
  writeFileSync(join(workspace, 'go'), '')
  expect(await report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
  expect(await stateOf(child)).toBe('SUCCEEDED')
})

test('a child ends with the sandbox of its parent, as an error, and nothing of it is left', async () => {
  const { child, report, stop } = await beginLongChild('touch begun; sleep 600')
  const [execution] = (await house.client.executions.list({ params: { run_id: child } })).executions
  stop.abort()
  await report
  expect(await stateOf(child)).toBe('ERROR')
  expect((await house.client.runs.get({ params: { run_id: child } })).status_message?.message).toMatch(
    /shared with its parent/,
  )
  expect(processesOf(execution?.execution_id ?? '')).toEqual([])
})

test('the scripted agent orchestrates: three children, real messages, one report', async () => {
  const source = join(folder, 'source')
  mkdirSync(source)
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: source })
  git('init', '--quiet')
  writeFileSync(join(source, 'README.md'), '# The thing\n')
  writeFileSync(join(source, 'a.ts'), 'export {}\n')
  git('add', '.')
  git('commit', '--quiet', '-m', 'the first one')
  const environment = { repositories: [{ url: source }], setup_commands: [], variables: {} }
  const worker = await house.worker()
  const root = await house.client.runs.create({
    body: {
      prompt: 'Orchestrate: have three children look at this repository, and write one report.',
      config: { harness: { type: 'baton' }, model_id: 'scripted', environment },
    },
  })
  const reports: Promise<unknown>[] = []
  const workspaces = new Map<string, string>()
  for (let at = 0; at < 4; at++) {
    const piece = await worker.next(30_000)
    piece.claim()
    const claimed = { ...piece, token: piece.assignment.env_vars.WARP_API_KEY ?? '' }
    const options = optionsFor(claimed)
    workspaces.set(piece.run_id, options.workspace)
    reports.push(runExecution({ ...options, env: { ...options.env, BATON_CLI: AGENT } }))
  }
  await Promise.all(reports)
  const tree = await house.client.trees.get({ params: { run_id: root.run_id } })
  expect(
    tree.nodes
      .map(({ name, state }) => `${name} ${state}`)
      .slice(1)
      .sort(),
  ).toEqual(['count-files SUCCEEDED', 'read-docs SUCCEEDED', 'read-history SUCCEEDED'])
  const run = await house.client.runs.get({ params: { run_id: root.run_id } })
  expect(run).toMatchObject({ state: 'SUCCEEDED', status_message: { message: expect.stringContaining('3 of 3') } })
  const report = readFileSync(join(workspaces.get(root.run_id) ?? '', 'source/BATON-REPORT.md'), 'utf8')
  expect(report).toMatch(/1 md[\s\S]*the first one[\s\S]*README\.md: 1 lines/)
  expect(tree.messages).toBe(2)
}, 60_000)
