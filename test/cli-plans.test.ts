/** Plans and follow-ups through the built command line and a real server. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Ended, type Home, makeHome } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'
import { type Agent, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

let home: Home
let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  home = await makeHome()
  house = await startHouse({ max_concurrent_runs: 50 })
  worker = await house.worker({ capacity: 50 })
})
afterAll(async () => {
  await house?.close()
  await home?.remove()
})

const baton = (args: string[], stdin?: string): Promise<Ended> =>
  home.run(args, {
    env: { BATON_SERVER: house.url, BATON_API_KEY: house.api_key },
    ...(stdin === undefined ? {} : { stdin }),
  })

const AGENTS = [
  { name: 'one', prompt: 'Do package one.', expected_return: 'the files' },
  { name: 'docs', prompt: 'Do the docs.' },
]

async function proposed(): Promise<Agent> {
  const made = await baton(['agent', 'run-cloud', 'Migrate.', '--mode', 'orchestrate', '--json'])
  expect(made.code, made.stderr).toBe(0)
  const agent = await takeAgent(house, worker)
  expect(JSON.parse(made.stdout)).toMatchObject({ run_id: agent.run_id })
  await agent.call('propose_plan', { plan: '# Migrate\n\nTwo agents.', agents: AGENTS, config: { parallelism: 2 } })
  return agent
}

test('open plans are listed, shown whole, and approved with edits', async () => {
  const { run_id } = await proposed()
  const list = await baton(['run', 'plan'])
  expect(list.stdout).toMatch(new RegExp(`${run_id} +1 .* 2 +Migrate`))
  const shown = await baton(['run', 'plan', run_id])
  expect(shown.stdout).toMatch(/^Migrate {2}version 1, waits for an answer/)
  expect(shown.stdout).toMatch(/2 agents:[\s\S]*one .*Do package one\. +the files[\s\S]*parallelism +2/)
  expect(shown.stderr).toContain(`baton run approve ${run_id} --plan-version 1`)
  const file = join(home.folder, 'edits.yaml')
  await writeFile(file, 'document: "# Migrate less"\n')
  const approved = await baton([
    ...['run', 'approve', run_id, '--remove', 'docs', '--parallelism', '1', '-f', file, '--message', 'Go.', '--json'],
  ])
  expect(approved.code, approved.stderr).toBe(0)
  expect(JSON.parse(approved.stdout)).toMatchObject({
    version: 2,
    state: 'approved',
    author: 'person',
    document: '# Migrate less',
    children: [{ name: 'one' }],
    config: { parallelism: 1 },
    words: 'Go.',
  })
  const all = await baton(['run', 'plan', run_id, '--all', '--jq', '.plans[].state'])
  expect(all.stdout.trim().split('\n')).toEqual(['approved', 'superseded'])
})

test('a plan is sent back in words and rejected, and what is wrong is said with its exit code', async () => {
  const { run_id } = await proposed()
  const revised = await baton(['run', 'revise', run_id, '-'], 'Name the risks.\n')
  expect(revised.stdout).toContain('asked to change version 1')
  const late = await baton(['run', 'approve', run_id])
  expect(late).toMatchObject({ code: 6, stderr: expect.stringMatching(/already sent back for changes/) })
  expect(await baton(['run', 'approve', run_id, '--plan-version', 'x'])).toMatchObject({ code: 2 })
  expect(await baton(['run', 'plan', run_id, '--plan-version', '9'])).toMatchObject({ code: 5 })
  const other = await proposed()
  const wrong = await baton(['run', 'approve', other.run_id, '--remove', 'nobody'])
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringMatching(/no agent nobody: one, docs/) })
  const rejected = await baton(['run', 'reject', other.run_id, 'Not now.'])
  expect(rejected.stdout).toContain('rejected')
  await other.finish({ outcome: 'CANCELLED' })
  const { stdout } = await baton(['run', 'get', other.run_id, '--jq', '.status_message.message'])
  expect(stdout.trim()).toBe('The plan was rejected: Not now.')
})

test('a follow-up reaches the agent, and a wrong mode is refused', async () => {
  await house.client.runs.create({ body: { prompt: 'go' } })
  const agent = await takeAgent(house, worker)
  expect((await baton(['run', 'follow-up', agent.run_id, 'And the docs.', '--mode', 'plan'])).code).toBe(0)
  const inbox = await agent.runner.executions.inbox({ params: { execution_id: agent.execution_id } })
  expect(inbox.text).toMatch(/And the docs\.[\s\S]*asked to PLAN/)
  expect(await baton(['run', 'follow-up', agent.run_id, 'x', '--mode', 'y'])).toMatchObject({ code: 2 })
  expect(await baton(['agent', 'run-cloud', 'x', '--mode', 'y'])).toMatchObject({ code: 2 })
  expect(await baton(['run', 'follow-up', agent.run_id, '-'], ' ')).toMatchObject({ code: 2 })
})

test('a prompt that is given is never searched for a mode', async () => {
  const made = await baton(['agent', 'run-cloud', '/plan the week', '--json'])
  const { run_id } = JSON.parse(made.stdout)
  expect(await house.client.runs.get({ params: { run_id } })).toMatchObject({
    mode: 'normal',
    prompt: '/plan the week',
  })
})
