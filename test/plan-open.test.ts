/**
 * An approval left open through two restarts of the server, a killed worker with all that it had started, and a day of
 * clock: the agent goes on with that version, in its own session. Real worker, real runner, the built-in agent.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { databaseClock } from '../src/db/clock.ts'
import { runnerOf } from './house/crew.ts'
import { freshDatabase } from './house/database.ts'
import { type House, startHouse } from './house/house.ts'
import { startWorkerProcess, until, type WorkerProcess } from './house/processes.ts'

const DAY_MS = 24 * 3_600_000

let house: House
let folder: string
let worker: WorkerProcess
let later_ms = 0
const closers: (() => unknown)[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-plan-'))
  const database = await freshDatabase({ pool_max: 10 })
  const clock = await databaseClock(database)
  house = await startHouse({
    database,
    clock: { now: () => new Date(clock.now().getTime() + later_ms) },
    engine_limits: { lease_ms: 4_000, heartbeat_ms: 500 },
  })
  closers.push(
    () => worker?.kill(),
    () => house.close(),
    () => clock.close(),
    () => database.close(),
    () => rmSync(folder, { recursive: true, force: true }),
  )
}, 60_000)
afterAll(async () => {
  for (const close of closers) await close()
})

const startWorker = (worker_id: string) =>
  startWorkerProcess({
    server: house.url,
    api_key: house.api_key,
    worker_id,
    state_dir: join(folder, worker_id),
    runner: [process.execPath, join(import.meta.dirname, 'house', 'runner-process.ts')],
    environment: {
      BATON_HARNESSES: JSON.stringify({
        baton: {
          command: process.execPath,
          args: [join(import.meta.dirname, '../src/agent/main.ts'), 'acp-agent'],
          tool_hold_ms: 300,
        },
      }),
    },
  })

const call = (name: string, input: object) => ({ tools: [{ name: `mcp__baton__${name}`, input }] })

/** What the agent says at each call of its model; how many it has had is known from its session, which must go along. */
const SCRIPT = [
  call('propose_plan', {
    plan: '# Count\n\nOne agent counts.',
    agents: [{ name: 'count', prompt: 'printf 42', harness: 'command', expected_return: 'a number' }],
    config: { parallelism: 1 },
  }),
  { text: 'I wait for the answer.' },
  call('run_agents', { agent_run_configs: [{ name: 'count', prompt: 'printf 7' }] }),
  call('wait_for_events', {}),
  { text: 'I have read it.' },
  { text: 'All is done.' },
]

const get = (run_id: string) => house.client.runs.get({ params: { run_id } })

test('an approval left open for a day, through restarts of everything, goes on with that version', async () => {
  const path = join(folder, 'script.json')
  writeFileSync(path, JSON.stringify(SCRIPT))
  worker = startWorker('first')
  const { run_id } = await house.client.runs.create({
    body: {
      prompt: 'Count.',
      mode: 'orchestrate',
      config: {
        harness: { type: 'baton' },
        model_id: 'scripted',
        environment: { repositories: [], setup_commands: [], variables: { BATON_SCRIPT: path } },
      },
    },
  })
  await until('the plan is open', async () => (await get(run_id)).open_plan === 1, 60_000)
  const first = (await get(run_id)).execution_id ?? ''
  await until('its session is kept', () => keptSession(run_id), 30_000)

  // The server restarts twice; the worker goes with everything that it had started.
  await house.restart()
  expect(await get(run_id)).toMatchObject({ state: 'BLOCKED', open_plan: 1 })
  process.kill(runnerOf(first), 'SIGKILL')
  await worker.kill()
  await house.restart()
  later_ms = DAY_MS
  await until('nothing is at work for it', async () => !(await get(run_id)).is_sandbox_running, 30_000)
  expect(await get(run_id)).toMatchObject({ state: 'BLOCKED', open_plan: 1, execution_id: first })
  const { plans } = await house.client.plans.list({ query: { state: 'proposed' } })
  expect(plans).toMatchObject([{ run_id, version: 1, title: 'Count' }])

  await house.client.plans.approve({ params: { run_id, version: 1 }, body: { message: 'Go ahead.' } })
  worker = startWorker('second')
  const child_id = await until('its agent is there', async () => (await get(run_id)).children[0], 60_000)
  await until('its agent has ended', async () => (await get(child_id)).state === 'SUCCEEDED', 60_000)
  await until('it has ended', async () => (await get(run_id)).state === 'SUCCEEDED', 60_000)
  // As approved, not as asked for; and by an agent that remembered what it had proposed.
  expect(await get(child_id)).toMatchObject({ prompt: 'printf 42', parent_run_id: run_id })
  const { executions } = await house.client.executions.list({ params: { run_id } })
  expect(executions.map(({ cause, worker_host }) => [cause, worker_host])).toEqual([
    ['start', 'first'],
    ['message', 'second'],
  ])
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 200 } })
  const prompts = entries.flatMap(({ body }) => (body.kind === 'prompt' ? [body.text] : []))
  expect(prompts.filter((text) => text.includes('Version 1 of your plan is approved'))).toHaveLength(1)
  expect(prompts.join('\n')).toContain('Go ahead.')
}, 300_000)

async function keptSession(run_id: string): Promise<boolean> {
  const kept = await house.database.kysely
    .selectFrom('harness_sessions')
    .select('session_id')
    .where('run_id', '=', run_id)
    .executeTakeFirst()
  return kept !== undefined
}
