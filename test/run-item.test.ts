/** What is asked for when a run is made, and what the run answers of it: the public fields, and the rules between them. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { z } from 'zod'
import type { CreateRun } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'
import type { ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker
beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 20 })
  worker = await house.worker({ capacity: 20 })
})
afterAll(() => house.close())

/** For a worker that does not exist, so that it stays as it is made. */
const create = async (body: z.input<typeof CreateRun>, headers: Record<string, string> = {}) => {
  const config = { worker_host: 'nobody', ...body.config }
  const { run_id } = await house.client.runs.create({ body: { prompt: 'x', ...body, config }, headers })
  return house.client.runs.get({ params: { run_id } })
}

const asked = (run_id: string, action: string, body?: string) =>
  fetch(`${house.url}/api/v1/agent/runs/${run_id}/${action}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${house.api_key}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body }),
  })

test('every field of the public configuration comes back as it was given, and others are dropped', async () => {
  const store = await house.client.memory.createStore()
  const config = {
    name: 'reviewer',
    model_id: 'opus',
    base_prompt: 'Be kind.',
    runner_id: 'big',
    skill_spec: 'acme/shop:.claude/skills/review/SKILL.md',
    mcp_servers: {
      files: { command: 'mcp-files', args: ['--here'], env: { A: 'b' } },
      docs: { url: 'https://docs.example/mcp', headers: { 'x-a': 'b' } },
    },
    computer_use_enabled: false,
    computer_use_model_id: 'mouse',
    idle_timeout_minutes: 60,
    harness: { type: 'claude', model_id: 'sonnet', reasoning_level: 'high' },
    harness_auth_secrets: {},
    inference_providers: { aws: { disabled: true, region: 'eu-central-1', role_arn: 'arn:aws:iam::1:role/x' } },
    memory_stores: [{ uid: store.uid, access: 'read_only' as const, instructions: 'What we know.' }],
    credential_strategy: 'CREATOR' as const,
    session_sharing: { public_access: 'VIEWER' as const },
    snapshot_upload_timeout_secs: 30,
    snapshot_script_timeout_secs: 5,
  }
  const flags = { snapshot_disabled: true, interactive: true, orchestration_handoff: true }
  const given = { config: { ...config, quantum: true } as never, title: 'Mine', ...flags }
  const run = await create(given)
  const answered = { skills: [config.skill_spec], worker_host: 'nobody', ...flags }
  expect(run.agent_config).toEqual({ ...config, ...answered })
  expect(run).toMatchObject({
    title: 'Mine',
    agent_skill: { name: 'review', full_path: '.claude/skills/review/SKILL.md' },
    source: 'API',
    execution_location: 'REMOTE',
    is_sandbox_running: false,
    is_run_type_cancellable: true,
    task_id: run.run_id,
  })
  const child = await create({ parent_run_id: run.run_id })
  expect(child.agent_config).toMatchObject({ runner_id: 'big', computer_use_enabled: false, idle_timeout_minutes: 60 })
  for (const flag of Object.keys(flags)) expect(child.agent_config).not.toHaveProperty(flag)
  const plain = await create({ interactive: false, orchestration_handoff: null })
  expect(plain.agent_config).toEqual({ worker_host: 'nobody' })
})

const wrongs: [string, unknown, RegExp][] = [
  ['a minute of idling too many', { idle_timeout_minutes: 61 }, /`config.idle_timeout_minutes` is not valid/],
  ['no idling', { idle_timeout_minutes: 0 }, /`config.idle_timeout_minutes` is not valid/],
  ['full access by link', { session_sharing: { public_access: 'FULL' } }, /public access is VIEWER or EDITOR/i],
  ['two places of an MCP server', { mcp_servers: { m: { url: 'https://a.example', command: 'b' } } }, /exactly one of/],
  ['no place of an MCP server', { mcp_servers: { m: { args: ['b'] } } }, /exactly one of warp_id, command and url/],
  ['an MCP server kept at Warp', { mcp_servers: { m: { warp_id: 'linear' } } }, /stored at Warp/],
  ['a memory store for nothing', { memory_stores: [{ uid: 'a', access: 'read_only', instructions: '' }] }, /Say what/i],
  ['another strategy', { credential_strategy: 'BOTH' }, /`config.credential_strategy` is not valid/],
  ['a skill and other skills', { skill_spec: 'a', skills: ['b'] }, /not both/],
]
test.each(wrongs)('%s is refused in a sentence', async (_, config, sentence) => {
  const made = house.client.runs.create({ body: { prompt: 'x', config: config as never } })
  await expect(made).rejects.toMatchObject({ status: 400, message: expect.stringMatching(sentence) })
})

test("metadata is the maker's over the parent's over that of the ticket that asked", async () => {
  const parent = await create({
    metadata: { team: 'shop', ticket_source: 'MINE' },
    trigger_url: 'https://linear.app/acme/issue/VIS-12/fix-the-login',
  })
  expect(parent).toMatchObject({
    trigger_url: 'https://linear.app/acme/issue/VIS-12/fix-the-login',
    metadata: { team: 'shop', ticket_id: 'VIS-12', ticket_source: 'MINE' },
  })
  const child = await create({
    parent_run_id: parent.run_id,
    metadata: { team: 'web' },
    trigger_url: 'https://acme.atlassian.net/browse/OPS-7',
  })
  expect(child.metadata).toEqual({ team: 'web', ticket_id: 'VIS-12', ticket_source: 'MINE' })
  expect(child.source).toBe('ORCHESTRATION')
  const jira = await create({ trigger_url: 'https://acme.atlassian.net/browse/ops-7' })
  expect(jira.metadata).toEqual({ ticket_id: 'OPS-7', ticket_source: 'JIRA' })
  const twenty = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`key${n}`, '']))
  expect((await create({ metadata: twenty, trigger_url: jira.trigger_url })).metadata).toEqual(twenty)
  await expect(create({ parent_run_id: parent.run_id, metadata: twenty })).rejects.toMatchObject({
    status: 400,
    message: expect.stringMatching(/has 23 keys of metadata; 20 is the most/),
  })
  await expect(create({ trigger_url: 'javascript:alert(1)' })).rejects.toMatchObject({ status: 400 })
})

test('the source is what the header says, and an unknown one an ordinary call', async () => {
  for (const [said, source] of [
    ['GITHUB_ACTION', 'GITHUB_ACTION'],
    ['AGENT_WEBHOOK', 'API'],
    ['FAX', 'API'],
  ] as const)
    expect((await create({}, { 'x-oz-api-source': said })).source).toBe(source)
})

test('a run of a GitHub Action says that its kind is not cancelled, and takes no follow-ups', async () => {
  const run = await create({}, { 'x-oz-api-source': 'GITHUB_ACTION' })
  expect(run.is_run_type_cancellable).toBe(false)
  const refused = await asked(run.run_id, 'followups', '{"message":"more"}')
  expect(refused.status).toBe(422)
  expect(await refused.json()).toMatchObject({ error: expect.stringContaining('GITHUB_ACTION') })
  expect((await house.client.runs.get({ params: { run_id: run.run_id } })).prompt).toBe('x')
})

test('a run of a schedule says which', async () => {
  const schedule_id = randomUUID()
  const { team_id, user_id } = house.owner
  const now = new Date()
  const row = { schedule_id, team_id, name: 'Nightly', cron_schedule: '0 3 * * *', time_zone: 'UTC', enabled: false }
  await house.database.kysely
    .insertInto('schedules')
    .values({
      ...{ ...row, prompt: 'x', config: '{}', mode: 'normal', metadata: '{}', overlap_policy: 'skip' },
      ...{ catch_up: 'latest', catch_up_window_minutes: 1, creator_id: user_id, editor_id: user_id },
      ...{ created_at: now, updated_at: now },
    })
    .execute()
  const { run_id } = await create({})
  await house.database.kysely.updateTable('runs').set({ schedule_id }).where('run_id', '=', run_id).execute()
  const schedule = { schedule_id, schedule_name: 'Nightly', cron_schedule: '0 3 * * *' }
  expect(await house.client.runs.get({ params: { run_id } })).toMatchObject({ schedule })
  const { runs } = await house.client.runs.list({ query: { schedule_id } })
  expect(runs).toMatchObject([{ run_id, schedule }])
})

test('usage is told in all and by model, time as a duration, and the session by a link to its page', async () => {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'x', config: { model_id: 'opus' } } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const session_id = randomUUID()
  const usage = {
    input_tokens: 1000,
    output_tokens: 100,
    cache_read_tokens: 5000,
    cache_write_tokens: 400,
    cost_usd: 0.5,
  }
  await piece.runner.executions.heartbeat({ params: { execution_id: piece.execution_id }, body: { session_id, usage } })
  await piece.runner.executions.finish({
    params: { execution_id: piece.execution_id },
    body: { outcome: { outcome: 'SUCCEEDED' }, entries: 0, usage },
  })
  const run = await house.client.runs.get({ params: { run_id } })
  expect(run.run_time).toMatch(/^PT[\d.]+S$/)
  expect(run.request_usage).toMatchObject({ total_tokens: 6500, inference_cost_usd: 0.5, input_tokens: 1000 })
  const { platform_usage_usd, byok_inference_usage = {} } = run.request_usage?.usage_by_category?.primary_agent ?? {}
  expect(platform_usage_usd).toBe(0)
  expect(Object.keys(byok_inference_usage)).toEqual(['opus'])
  const { token_count, cost_usd } = byok_inference_usage.opus ?? {}
  expect(token_count).toEqual({ input: 1000, output: 100, input_cache_read: 5000, input_cache_write: 400 })
  expect(Object.values(cost_usd ?? {}).reduce((sum, cost) => sum + cost, 0)).toBeCloseTo(0.5)
  // Each execution is another session, whichever of its harness's it goes on with.
  expect(run.session_id).toBe(piece.execution_id)
  expect(run.session_link).toBe(`${house.url}/runs/${run_id}/sessions/${piece.execution_id}`)
  const page = await fetch(run.session_link ?? '', { redirect: 'manual' })
  expect([page.status, page.headers.get('location')]).toEqual([302, `/runs/${run_id}`])
})

test('a cancel is answered with the id while the run has not ended, and with 400 after that', async () => {
  const queued = await create({})
  const { run_id } = await house.client.runs.create({ body: { prompt: 'x' } })
  const pending = await worker.next()
  expect((await house.client.runs.get({ params: { run_id } })).state).toBe('PENDING')
  const begun = (await house.client.runs.create({ body: { prompt: 'x' } })).run_id
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  for (const id of [queued.run_id, pending.run_id, begun]) {
    const answer = await asked(id, 'cancel')
    expect([answer.status, await answer.json()]).toEqual([200, id])
  }
  await piece.finish({ outcome: 'CANCELLED' })
  for (const id of [queued.run_id, pending.run_id, begun]) {
    const again = await asked(id, 'cancel')
    expect(again.status).toBe(400)
    expect(await again.json()).toMatchObject({ error: expect.stringContaining('already ended (CANCELLED)') })
  }
  expect((await asked(randomUUID(), 'cancel')).status).toBe(404)
})
