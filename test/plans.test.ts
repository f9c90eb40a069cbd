/** Plans that wait for a person: proposed by agents over MCP, answered over HTTP, and what an approval then rules. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type House, startHouse } from './house/house.ts'
import { type Agent, callTool, openMcpClient, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 100 })
  worker = await house.worker({ capacity: 100 })
})
afterAll(() => house.close())

const PLAN = '# Migrate\n\nTwo agents, one for each package.'
const AGENTS = [
  { name: 'one', prompt: 'Do package one.', expected_return: 'the list of files' },
  { name: 'two', prompt: 'Do package two.' },
]

async function planner(mode: 'normal' | 'plan' | 'orchestrate' = 'orchestrate', more: Record<string, unknown> = {}) {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'Migrate.', mode, ...more } })
  return take(run_id)
}

/** This run as an agent at work; what else is offered meanwhile ends at once. */
async function take(run_id: string): Promise<Agent> {
  for (;;) {
    const agent = await takeAgent(house, worker)
    if (agent.run_id === run_id) return agent
    await agent.finish()
  }
}

const propose = (agent: Agent, more: Record<string, unknown> = {}) =>
  agent.call('propose_plan', { plan: PLAN, agents: AGENTS, config: { parallelism: 1 }, ...more })

const get = (run_id: string) => house.client.runs.get({ params: { run_id } })
const plansOf = async (run_id: string) => (await house.client.plans.ofRun({ params: { run_id } })).plans
const at = (run_id: string, version: number) => ({ params: { run_id, version } })

/** What the agent's next prompt is, as its runner gets it. */
async function nextPrompt(agent: Agent): Promise<string> {
  const params = { execution_id: agent.execution_id }
  const inbox = await agent.runner.executions.inbox({ params })
  await agent.runner.executions.delivered({
    params,
    body: { message_ids: inbox.message_ids, sequence: inbox.sequence },
  })
  return inbox.text ?? ''
}

test('the first prompt says what the mode asks for, and a normal run is asked nothing', async () => {
  const agent = await planner('orchestrate')
  expect((await agent.start()).guidance).toMatch(/ORCHESTRATE.*propose_plan/s)
  const plain = await planner('normal')
  expect((await plain.start()).guidance).toBeNull()
})

test('a proposal makes the run BLOCKED with a version, an artifact and an entry in the list of open plans', async () => {
  const agent = await planner()
  const { said, text } = await propose(agent)
  expect(said).toMatchObject({ version: 1, status: 'waits_for_a_person' })
  expect(text).toMatch(/End your turn now/)
  expect(await get(agent.run_id)).toMatchObject({
    state: 'BLOCKED',
    open_plan: 1,
    mode: 'orchestrate',
    artifacts: [{ artifact_type: 'PLAN', data: { title: 'Migrate', version: 1 } }],
  })
  const { plans } = await house.client.plans.list({ query: { state: 'proposed' } })
  expect(plans.find((plan) => plan.run_id === agent.run_id)).toMatchObject({ version: 1, title: 'Migrate' })
  const events = await house.client.events.list({ query: { run_ids: [agent.run_id] } })
  expect(events.map((event) => event.event_type)).toEqual(expect.arrayContaining(['plan_proposed', 'run_blocked']))
})

test('before approval run_agents is refused with what to do, without and with an open plan', async () => {
  const agent = await planner()
  const asked = { agent_run_configs: AGENTS.map(({ name, prompt }) => ({ name, prompt })) }
  expect(await agent.call('run_agents', asked)).toMatchObject({ is_error: true, text: /propose_plan/ })
  await propose(agent)
  expect(await agent.call('run_agents', asked)).toMatchObject({ is_error: true, text: /waits for a person/ })
  expect((await get(agent.run_id)).children).toEqual([])
})

test('an approval reaches the agent, and what is approved goes before what it asks for', async () => {
  const agent = await planner()
  await propose(agent, { config: { parallelism: 1, model_id: 'approved-model' } })
  const approved = await house.client.plans.approve({ ...at(agent.run_id, 1), body: { message: 'Go ahead.' } })
  expect(approved).toMatchObject({ state: 'approved', version: 1, decided_by: { type: 'user' }, words: 'Go ahead.' })
  expect(await nextPrompt(agent)).toMatch(/Version 1 of your plan is approved.*Go ahead\..*- one: returns the list/s)
  expect((await get(agent.run_id)).state).toBe('INPROGRESS')
  const { said } = await agent.call('run_agents', {
    agent_run_configs: [
      { name: 'ONE', prompt: 'Something else.', model_id: 'my-model' },
      { name: 'two', prompt: 'Something else.' },
      { name: 'three', prompt: 'Not in the plan.' },
    ],
  })
  expect(said.agents).toMatchObject([
    { status: 'launched' },
    { status: 'launched' },
    { status: 'failed', error: expect.stringMatching(/not in the approved plan, which has: one, two/) },
  ])
  const first = await takeAgent(house, worker)
  expect(await get(first.run_id)).toMatchObject({
    prompt: 'Do package one.\n\nReturn: the list of files',
    agent_config: { model_id: 'approved-model' },
  })
  // The server holds the second back: one works at a time.
  const { children } = await get(agent.run_id)
  const second = children.find((run_id) => run_id !== first.run_id) ?? ''
  expect(await get(second)).toMatchObject({ state: 'QUEUED', waiting_for: 'lane' })
  await first.finish()
  await (await take(second)).finish()
})

test('what a person edits is a version of its own, and binds the agent', async () => {
  const agent = await planner()
  await propose(agent)
  const edited = await house.client.plans.approve({
    ...at(agent.run_id, 1),
    body: { children: [{ name: 'one', prompt: 'Only this.' }], config: { parallelism: 3 } },
  })
  expect(edited).toMatchObject({ version: 2, author: 'person', state: 'approved' })
  expect(await plansOf(agent.run_id)).toMatchObject([
    { version: 2, state: 'approved' },
    { version: 1, state: 'superseded' },
  ])
  expect(await nextPrompt(agent)).toMatch(/approved, with changes/)
  const asked = {
    agent_run_configs: [
      { name: 'one', prompt: 'x' },
      { name: 'two', prompt: 'x' },
    ],
  }
  const { said } = await agent.call('run_agents', asked)
  expect(said.agents).toMatchObject([{ status: 'launched' }, { status: 'failed' }])
  await (await worker.next()).work()
})

test('asking for changes is told to the agent, whose next proposal is the next version', async () => {
  const agent = await planner('plan')
  await propose(agent)
  const body = { message: 'Name the risks.' }
  expect(await house.client.plans.revise({ ...at(agent.run_id, 1), body })).toMatchObject({
    state: 'changes_requested',
    words: 'Name the risks.',
  })
  expect(await nextPrompt(agent)).toMatch(/asks for changes.*Name the risks\./s)
  expect((await propose(agent, { plan: `${PLAN}\n\nRisks: none.` })).said).toMatchObject({ version: 2 })
  expect(await get(agent.run_id)).toMatchObject({ state: 'BLOCKED', open_plan: 2 })
})

test('an answer to an outdated version is refused with what differs', async () => {
  const agent = await planner()
  await propose(agent)
  await propose(agent, { config: { parallelism: 5 } })
  const answer = house.client.plans.approve({ ...at(agent.run_id, 1), body: {} })
  await expect(answer).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/Version 1 is outdated: version 2/),
    details: { retryable: false, errors: [{ pointer: '/config/parallelism', detail: 'was 1, is 5' }] },
  })
  expect(await get(agent.run_id)).toMatchObject({ state: 'BLOCKED', open_plan: 2 })
})

test('of many who answer at once, one wins, and the others are told', async () => {
  const agent = await planner()
  await propose(agent)
  const answers = await Promise.allSettled([
    ...Array.from({ length: 5 }, () => house.client.plans.approve({ ...at(agent.run_id, 1), body: {} })),
    ...Array.from({ length: 5 }, () => house.client.plans.revise({ ...at(agent.run_id, 1), body: { message: 'no' } })),
  ])
  expect(answers.filter((answer) => answer.status === 'fulfilled')).toHaveLength(1)
  for (const answer of answers) {
    if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ code: 'conflict' })
  }
  const messages = await house.client.messages.list({ params: { run_id: agent.run_id } })
  expect(messages).toHaveLength(1)
})

test('a rejected plan cancels its run, which says why', async () => {
  const agent = await planner()
  await propose(agent)
  await house.client.plans.reject({ ...at(agent.run_id, 1), body: { message: 'Not now.' } })
  expect(await get(agent.run_id)).toMatchObject({ state: 'BLOCKED', cancel_requested: true })
  await agent.finish({ outcome: 'CANCELLED' })
  expect(await get(agent.run_id)).toMatchObject({
    state: 'CANCELLED',
    status_message: { message: 'The plan was rejected: Not now.' },
  })
  const late = house.client.plans.approve({ ...at(agent.run_id, 1), body: {} })
  await expect(late).rejects.toMatchObject({ code: 'conflict', message: expect.stringMatching(/already rejected/) })
})

test('a plan without agents lets the agent go on alone', async () => {
  const agent = await planner('plan')
  await propose(agent, { agents: [], config: {} })
  await house.client.plans.approve({ ...at(agent.run_id, 1), body: {} })
  expect(await nextPrompt(agent)).toMatch(/do the work yourself/)
  const { is_error, text } = await agent.call('run_agents', { agent_run_configs: [{ name: 'x', prompt: 'x' }] })
  expect(is_error).toBe(true)
  expect(text).toMatch(/starts no agents/)
  expect(await agent.finish()).toEqual({ state: 'SUCCEEDED' })
})

test('a plan outlives the execution that proposed it, and its answer begins another', async () => {
  const agent = await planner()
  await propose(agent)
  const failure = { error_code: 'internal_error', message: 'gone', retryable: true } as const
  await agent.finish({ outcome: 'ERROR', failure })
  expect(await get(agent.run_id)).toMatchObject({ state: 'BLOCKED', open_plan: 1 })
  await house.restart()
  worker = await house.worker({ capacity: 100 })
  await house.client.plans.approve({ ...at(agent.run_id, 1), body: {} })
  const next = await take(agent.run_id)
  expect((await next.start()).cause).toBe('message')
  expect(await nextPrompt(next)).toMatch(/Version 1 of your plan is approved/)
})

test('a run that waits for an answer is cancelled at once where its execution has gone', async () => {
  const agent = await planner()
  await propose(agent)
  await agent.finish({ outcome: 'ERROR', failure: { error_code: 'internal_error', message: 'gone', retryable: true } })
  await house.client.runs.cancel({ params: { run_id: agent.run_id }, body: {} })
  expect((await get(agent.run_id)).state).toBe('CANCELLED')
})

test('other messages wait while a plan is open, and a follow-up asks for changes', async () => {
  const agent = await planner()
  await propose(agent)
  await house.client.messages.send({ body: { to: [agent.run_id], subject: 'fyi', body: 'from aside' } })
  expect(await nextPrompt(agent)).toBe('')
  await house.client.followUps.create({ params: { run_id: agent.run_id }, body: { message: 'Smaller, please.' } })
  expect(await plansOf(agent.run_id)).toMatchObject([{ state: 'changes_requested', words: 'Smaller, please.' }])
  expect(await nextPrompt(agent)).toMatch(/from aside.*Smaller, please\./s)
})

test('a follow-up with a key is said once, whatever the run has come to when it is repeated', async () => {
  const agent = await planner()
  await propose(agent)
  const { run_id } = agent
  const say = (message: string, key: string) =>
    house.client.followUps.create({ params: { run_id }, body: { message }, headers: { 'idempotency-key': key } })
  await Promise.all([1, 2, 3].map(() => say('Smaller, please.', 'smaller')))
  await say('Smaller, please.', 'smaller')
  await expect(say('Larger, please.', 'smaller')).rejects.toMatchObject({ status: 422 })
  expect(await plansOf(run_id)).toMatchObject([{ state: 'changes_requested', words: 'Smaller, please.' }])
  expect((await nextPrompt(agent)).match(/Smaller, please\./g)).toHaveLength(1)
  // The other way round: a message is none about a plan that came after it.
  await say('And in blue.', 'blue')
  expect(await nextPrompt(agent)).toMatch(/And in blue\./)
  await propose(agent)
  await say('And in blue.', 'blue')
  expect((await get(run_id)).state).toBe('BLOCKED')
  expect(await nextPrompt(agent)).toBe('')
})

test('a follow-up is added to a prompt that has not begun, and reaches an agent that has', async () => {
  const busy = await startHouse({ max_concurrent_runs: 1 })
  const { run_id } = await busy.client.runs.create({ body: { prompt: 'First.' } })
  await busy.client.followUps.create({ params: { run_id }, body: { message: 'And second.', mode: 'plan' } })
  expect(await busy.client.runs.get({ params: { run_id } })).toMatchObject({
    prompt: 'First.\n\nAnd second.',
    mode: 'plan',
  })
  await busy.close()
  const agent = await planner('normal')
  const body = { message: 'Think again.', mode: 'orchestrate' } as const
  await house.client.followUps.create({ params: { run_id: agent.run_id }, body })
  expect(await nextPrompt(agent)).toMatch(/Think again\..*ORCHESTRATE/s)
  expect((await get(agent.run_id)).mode).toBe('orchestrate')
  const refused = house.client.followUps.create({ params: { run_id: agent.run_id }, body: { message: ' ' } })
  await expect(refused).rejects.toMatchObject({ code: 'invalid_request' })
})

test("a child's plan is approved by itself, unless the team lets children ask", async () => {
  const parent = await planner('normal')
  const child = await planner('plan', { parent_run_id: parent.run_id })
  expect((await propose(child)).said).toMatchObject({ status: 'approved' })
  expect((await get(child.run_id)).state).toBe('INPROGRESS')
  await house.client.team.changeLimits({ body: { children_ask: true } })
  const asking = await planner('plan', { parent_run_id: parent.run_id })
  expect((await propose(asking)).said).toMatchObject({ status: 'waits_for_a_person' })
  await house.client.team.changeLimits({ body: { children_ask: false } })
})

test('what cannot be carried out is refused before anybody is asked', async () => {
  const agent = await planner()
  const secret = await propose(agent, { config: { auth: 'no-such-secret' } })
  expect(secret).toMatchObject({ is_error: true, text: expect.stringMatching(/no secret "no-such-secret"/) })
  const twins = await propose(agent, { agents: [AGENTS[0], { ...AGENTS[0], name: ' ONE ' }] })
  expect(twins).toMatchObject({ is_error: true, text: expect.stringMatching(/same name/) })
  expect(await propose(agent, { plan: '  ' })).toMatchObject({ is_error: true })
  expect(await plansOf(agent.run_id)).toEqual([])
  const command = house.client.runs.create({
    body: { prompt: 'ls', mode: 'plan', config: { harness: { type: 'command' } } },
  })
  await expect(command).rejects.toMatchObject({ code: 'invalid_request' })
})

test('the same call again makes no second version', async () => {
  const agent = await planner()
  const meta = { 'baton/call_id': 'call-1' }
  const args = { plan: PLAN, agents: AGENTS }
  const first = await agent.call('propose_plan', args, meta)
  expect((await agent.call('propose_plan', args, meta)).said).toEqual(first.said)
  expect(await plansOf(agent.run_id)).toHaveLength(1)
})

test("a person's assistant sees open plans over MCP and answers them with the person's key", async () => {
  const agent = await planner()
  await propose(agent)
  const assistant = await openMcpClient(house.url, house.api_key)
  const { tools } = await assistant.listTools()
  expect(tools.map((tool) => tool.name).sort()).toEqual([
    'approve_plan',
    'follow_up',
    'get_run',
    'list_open_plans',
    'list_runs',
    'reject_plan',
    'request_plan_changes',
    'start_run',
  ])
  const { text } = await callTool(assistant, 'list_open_plans')
  expect(text).toContain(`Run ${agent.run_id}, version 1: Migrate`)
  const stale = await callTool(assistant, 'approve_plan', { run_id: agent.run_id, version: 7 })
  expect(stale).toMatchObject({ is_error: true, text: expect.stringMatching(/no version 7/) })
  const answer = await callTool(assistant, 'request_plan_changes', {
    run_id: agent.run_id,
    version: 1,
    message: 'Less.',
  })
  expect(answer.said).toEqual({ run_id: agent.run_id, version: 1, state: 'changes_requested' })
  expect(await nextPrompt(agent)).toContain('Less.')
  const made = await callTool(assistant, 'start_run', { prompt: 'Look around.', mode: 'plan' })
  const started = await take(String(made.said.run_id))
  expect((await callTool(assistant, 'get_run', { run_id: started.run_id })).said).toMatchObject({ state: 'INPROGRESS' })
  expect((await callTool(assistant, 'list_runs', { state: 'INPROGRESS' })).text).toContain(started.run_id)
  const said = await callTool(assistant, 'follow_up', { run_id: started.run_id, message: 'And the docs.' })
  expect(said.is_error).toBe(false)
  expect(await nextPrompt(started)).toContain('And the docs.')
  const other = await house.addTeam('other')
  const stranger = await openMcpClient(house.url, other.api_key)
  expect((await callTool(stranger, 'list_open_plans')).said).toEqual({ plans: [] })
  expect(await callTool(stranger, 'get_run', { run_id: started.run_id })).toMatchObject({ is_error: true })
  await Promise.all([assistant.close(), stranger.close()])
})
