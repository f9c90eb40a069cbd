/** The platform as agents see it: every tool of `/mcp`, over both protocols, through the real client. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type House, startHouse } from './house/house.ts'
import { type Agent, type Protocol, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

const TOOLS = [
  'run_agents',
  'send_message_to_agent',
  'wait_for_events',
  'list_agents',
  'propose_plan',
  'fetch_conversation',
  'cancel_agent',
  'report_artifact',
  'finish_task',
]
const PROTOCOLS: Protocol[] = ['2026-07-28', '2025-11-25']

type Launched = { name: string; status: string; agent_id?: string; error?: string }

let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 500 })
  worker = await house.worker({ capacity: 500 })
})
afterAll(() => house.close())

async function startParent(options: { protocol?: Protocol; hold_ms?: number } = {}): Promise<Agent> {
  await house.client.runs.create({ body: { prompt: 'lead' } })
  return takeAgent(house, worker, options)
}

const configs = (...names: string[]) => ({
  agent_run_configs: names.map((name) => ({ name, prompt: `do ${name}`, harness_type: 'claude' })),
})
const agentsOf = (said: Record<string, unknown>) => said.agents as Launched[]

/** A parent and one child of it, both at work. */
async function startPair(options: { protocol?: Protocol; hold_ms?: number } = {}) {
  const parent = await startParent(options)
  await parent.call('run_agents', configs('child'))
  const child = await takeAgent(house, worker, options)
  return { parent, child }
}

describe.each(PROTOCOLS)('over protocol %s', (protocol) => {
  test('an agent is offered every tool, described, with what goes in and what comes out', async () => {
    const { mcp } = await startParent({ protocol })
    const { tools } = await mcp.listTools()
    expect(tools.map((tool) => tool.name).sort()).toEqual([...TOOLS].sort())
    for (const tool of tools) {
      expect(tool.description?.length, tool.name).toBeGreaterThan(150)
      expect(tool.inputSchema.type, tool.name).toBe('object')
      expect(tool.outputSchema?.type, tool.name).toBe('object')
    }
    const input = tools.find((tool) => tool.name === 'run_agents')?.inputSchema
    expect(Object.keys(input?.properties ?? {}).sort()).toEqual(
      ['agent_run_configs', 'base_prompt', 'environment_id', 'harness_type', 'model_id', 'skills', 'where'].sort(),
    )
    expect(input?.required).toEqual(['agent_run_configs'])
    expect(mcp.getInstructions()).toMatch(/run_agents/)
  })

  test('the skill is a prompt and a resource', async () => {
    const { mcp } = await startParent({ protocol })
    expect((await mcp.listPrompts()).prompts.map((prompt) => prompt.name)).toEqual(['orchestrating'])
    const prompt = await mcp.getPrompt({ name: 'orchestrating' })
    expect(JSON.stringify(prompt.messages[0]?.content)).toMatch(/End your turn|end your turn/)
    const { resources } = await mcp.listResources()
    const read = await mcp.readResource({ uri: resources[0]?.uri ?? '' })
    expect(JSON.stringify(read.contents)).toMatch(/name: orchestrating/)
  })

  test('many agents start in one call, in the order of the list, each with its own result', async () => {
    const parent = await startParent({ protocol })
    const { said, text, is_error } = await parent.call('run_agents', {
      base_prompt: 'The goal.',
      agent_run_configs: [
        { name: 'one', prompt: 'part one', harness_type: 'claude' },
        { name: 'two', prompt: 'part two', harness_type: 'No Such Harness!' },
        { name: 'three', prompt: 'part three', harness_type: 'codex', title: 'The third' },
      ],
    })
    expect(is_error).toBe(false)
    const agents = agentsOf(said)
    expect(agents.map(({ name, status }) => [name, status])).toEqual([
      ['one', 'launched'],
      ['two', 'failed'],
      ['three', 'launched'],
    ])
    expect(agents[1]?.error).toMatch(/harness/i)
    expect(text).toMatch(/wait_for_events/)
    const run = await house.client.runs.get({ params: { run_id: agents[2]?.agent_id ?? '' } })
    expect(run).toMatchObject({
      parent_run_id: parent.run_id,
      source: 'ORCHESTRATION',
      title: 'The third',
      prompt: 'The goal.\n\npart three',
      agent_config: { name: 'three', harness: { type: 'codex' } },
    })
    for (let n = 0; n < 2; n++) (await worker.next()).claim()
  })

  test('a message waits for the agent, and is given to it once', async () => {
    const { parent, child } = await startPair({ protocol })
    const sent = await child.call('send_message_to_agent', {
      addresses: [parent.run_id],
      subject: 'result',
      message: 'All tests pass.',
    })
    expect(sent.is_error, sent.text).toBe(false)
    const first = await parent.call('wait_for_events')
    expect(first.said).toMatchObject({ status: 'events' })
    expect(first.text).toMatch(/result[\s\S]*All tests pass\./)
    const second = await parent.call('wait_for_events')
    expect(second.said).toMatchObject({ status: 'nothing_yet' })
    expect(second.text).toMatch(/End your turn/)
    const [header] = await house.client.messages.list({ params: { run_id: parent.run_id } })
    expect(header?.message_id).toBe(sent.said.message_id)
    expect(header?.delivered_at).not.toBeNull()
  })

  test('a held call returns when a late message comes', async () => {
    const { parent, child } = await startPair({ protocol, hold_ms: 15_000 })
    const began = performance.now()
    const waiting = parent.call('wait_for_events', { idle_timeout_seconds: 60 })
    await expect
      .poll(async () => (await house.client.runs.get({ params: { run_id: parent.run_id } })).waiting_until)
      .toBeDefined()
    await child.call('send_message_to_agent', { addresses: ['parent'], subject: 'late', message: 'Here it is.' })
    const { said, text } = await waiting
    expect(said).toMatchObject({ status: 'events' })
    expect(text).toMatch(/Here it is\./)
    expect(performance.now() - began).toBeLessThan(10_000)
  })
})

test('what the model is to do next is in the structured answer and in the text', async () => {
  const { parent, child } = await startPair()
  const sent = await child.call('send_message_to_agent', { addresses: ['parent'], subject: 's', message: 'm' })
  await parent.call('wait_for_events')
  const waited = await parent.call('wait_for_events')
  const begun = await parent.call('run_agents', { agent_run_configs: [{ name: 'next', prompt: 'p' }] })
  await takeAgent(house, worker)
  const cancelled = await parent.call('cancel_agent', { agent_id: 'next' })
  const finished = await child.call('finish_task', { success: true, summary: 's' })
  expect(waited.said).toMatchObject({ status: 'nothing_yet', advice: expect.stringMatching(/^End your turn now/) })
  for (const { said, text } of [sent, waited, begun, cancelled, finished]) {
    expect(said.advice).toEqual(expect.stringMatching(/\w{3}/))
    expect(text).toContain(said.advice)
  }
})

test('a wait that ends without events says until when the agent is waited for, and shows it as waiting', async () => {
  const parent = await startParent()
  const { said } = await parent.call('wait_for_events', { idle_timeout_seconds: 120 })
  const run = await house.client.runs.get({ params: { run_id: parent.run_id } })
  expect(said.waiting_until).toBe(run.waiting_until)
  const seconds = (Date.parse(String(said.waiting_until)) - Date.now()) / 1000
  expect(seconds).toBeGreaterThan(100)
  expect(seconds).toBeLessThan(125)
})

test('what a parent hears of its child comes after the message with the result', async () => {
  const { parent, child } = await startPair()
  await child.call('send_message_to_agent', { addresses: 'parent', subject: 'result', message: 'forty-two' })
  await child.call('finish_task', { success: true, summary: 'Found it.' })
  await child.finish()
  const { text } = await parent.call('wait_for_events')
  expect(text).toMatch(/forty-two[\s\S]*"child"[\s\S]*has succeeded/)
  expect(await house.client.runs.get({ params: { run_id: child.run_id } })).toMatchObject({
    state: 'SUCCEEDED',
    status_message: { message: 'Found it.' },
  })
})

test('finish_task without success ends the run as FAILED with the summary', async () => {
  const agent = await startParent()
  const { is_error } = await agent.call('finish_task', { success: false, summary: 'The build does not start.' })
  expect(is_error).toBe(false)
  await agent.finish()
  expect(await house.client.runs.get({ params: { run_id: agent.run_id } })).toMatchObject({
    state: 'FAILED',
    status_message: { message: 'The build does not start.' },
  })
})

test('who finishes after a wait without events waits for nothing any more', async () => {
  const agent = await startParent()
  expect((await agent.call('wait_for_events')).said).toMatchObject({ status: 'nothing_yet' })
  expect(await house.client.runs.get({ params: { run_id: agent.run_id } })).toHaveProperty('waiting_until')
  await agent.call('finish_task', { success: true, summary: 'Done.' })
  expect(await house.client.runs.get({ params: { run_id: agent.run_id } })).not.toHaveProperty('waiting_until')
})

test('a message wakes a child that has ended', async () => {
  const { parent, child } = await startPair()
  await child.finish()
  const { is_error, text } = await parent.call('send_message_to_agent', {
    addresses: ['child'],
    subject: 'one more',
    message: 'Also do this.',
  })
  expect(is_error, text).toBe(false)
  const again = await worker.next()
  expect(again.run_id).toBe(child.run_id)
  again.claim()
  await again.start()
  const inbox = await again.runner.executions.inbox({ params: { execution_id: again.execution_id } })
  expect(inbox.text).toMatch(/Also do this\./)
})

test('agents whose names are at work are named instead of started again', async () => {
  const parent = await startParent()
  const first = agentsOf((await parent.call('run_agents', configs('a', 'b'))).said)
  const second = await parent.call('run_agents', configs('B ', 'c'))
  expect(agentsOf(second.said)).toMatchObject([
    { status: 'already_running', agent_id: first[1]?.agent_id },
    { name: 'c', status: 'launched' },
  ])
  expect(second.text).toMatch(/already at work/)
  for (let n = 0; n < 3; n++) (await worker.next()).claim()
})

test('parallel identical calls make one set of children', async () => {
  const parent = await startParent()
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => parent.call('run_agents', configs('x', 'y'), { 'baton/call_id': 'toolu_1' })),
  )
  const ids = new Set(answers.flatMap(({ said }) => agentsOf(said).map((agent) => agent.agent_id)))
  expect(ids.size).toBe(2)
  const { nodes } = await house.client.trees.get({ params: { run_id: parent.run_id } })
  expect(nodes).toHaveLength(3)
  for (let n = 0; n < 2; n++) (await worker.next()).claim()
})

test('one call sent twice over HTTP sends one message, and two calls two', async () => {
  const { parent, child } = await startPair()
  const message = { addresses: [child.run_id], subject: 's', message: 'the same words' }
  const post = (id: number) =>
    fetch(`${house.url}/mcp`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${parent.token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2025-11-25',
      },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id,
        method: 'tools/call',
        params: { name: 'send_message_to_agent', arguments: message },
      }),
    }).then((response) => response.text())
  await post(7)
  await post(7)
  expect(await house.client.messages.list({ params: { run_id: child.run_id } })).toHaveLength(1)
  await post(8)
  expect(await house.client.messages.list({ params: { run_id: child.run_id } })).toHaveLength(2)
})

test('the spellings of the public tool are understood, and what has no effect is named', async () => {
  const { uid } = await house.client.environments.create({ body: { name: 'e1' } })
  const parent = await startParent()
  const { said, text } = await parent.call('run_agents', {
    summary: 'Two parts.',
    skills: ['a-skill'],
    harness_type: 'claude',
    execution_mode: {
      Remote: { worker_host: 'scripted', environment_id: 'e1', runner_id: 'big', computer_use_enabled: false },
    },
    agent_run_configs: JSON.stringify([{ name: 'spelled', prompt: 'p', model_id: null }]),
  })
  expect(said.ignored).toEqual(['runner_id'])
  expect(text).toMatch(/Without effect here: runner_id/)
  const piece = await worker.next()
  expect(piece.assignment.task.agent_config_snapshot).toMatchObject({
    worker_host: 'scripted',
    environment_id: uid,
    skills: ['a-skill'],
  })
  piece.claim()
})

test('list_agents shows the tree with who is who', async () => {
  const { parent, child } = await startPair()
  await child.append({ kind: 'text', text: 'Looking at the tests.' })
  const mine = await parent.call('list_agents')
  expect(mine.said).toMatchObject({
    all_ended: false,
    agents: [
      { agent_id: parent.run_id, relation: 'you', state: 'INPROGRESS' },
      { agent_id: child.run_id, name: 'child', relation: 'child', last_words: 'Looking at the tests.' },
    ],
  })
  const theirs = await child.call('list_agents')
  expect(theirs.said).toMatchObject({ agents: [{ relation: 'parent' }, { relation: 'you' }] })
  expect(mine.text).toMatch(/child \(child, INPROGRESS, agent_id [0-9a-f-]{36}\): Looking at the tests\./)
})

test('fetch_conversation reads a child from the end, and earlier when asked', async () => {
  const { parent, child } = await startPair()
  await child.append(...Array.from({ length: 260 }, (_, at) => ({ kind: 'text' as const, text: `line ${at + 1}` })))
  const last = await parent.call('fetch_conversation', { agent_id: 'child' })
  expect(last.text).toMatch(/line 260/)
  expect(last.said.conversation).not.toMatch(/line 1\n/)
  const earlier = await parent.call('fetch_conversation', { agent_id: child.run_id, before: last.said.before })
  expect(`${earlier.said.conversation}\n`).toMatch(/line 1\n[\s\S]*line 60\n/)
  expect(earlier.said.before).toBeUndefined()
})

test('cancel_agent stops a child, and with subtree all below it', async () => {
  await house.database.kysely.updateTable('teams').set({ max_depth: 2 }).execute()
  const { parent, child } = await startPair()
  await child.call('run_agents', configs('grandchild'))
  const grandchild = await takeAgent(house, worker)
  const { said } = await parent.call('cancel_agent', { agent_id: 'child', subtree: true })
  expect(said).toMatchObject({ agent_id: child.run_id, accepted: true, subtree: true })
  for (const { run_id } of [child, grandchild]) {
    expect(await house.client.runs.get({ params: { run_id } })).toMatchObject({ cancel_requested: true })
  }
  expect(await house.client.runs.get({ params: { run_id: parent.run_id } })).toMatchObject({ cancel_requested: false })
  const upwards = await grandchild.call('cancel_agent', { agent_id: parent.run_id })
  expect(upwards).toMatchObject({ is_error: true, text: expect.stringMatching(/^You did not start "lead" .*that you/) })
  const itself = await grandchild.call('cancel_agent', { agent_id: 'grandchild' })
  expect(itself).toMatchObject({ is_error: true, text: expect.stringMatching(/^That is you; /) })
  const read = await grandchild.call('fetch_conversation', { agent_id: 'parent' })
  expect(read).toMatchObject({ is_error: true, text: expect.stringMatching(/^You did not start "child"/) })
})

test('to cancel an agent once more, when it is cancelled, is accepted as the first time; what succeeded is said so', async () => {
  const { parent, child } = await startPair()
  const cancelled = await parent.call('run_agents', configs('late'))
  await worker.next()
  for (let n = 0; n < 2; n++) {
    const { said } = await parent.call('cancel_agent', { agent_id: 'late' })
    expect(said).toMatchObject({ agent_id: agentsOf(cancelled.said)[0]?.agent_id, accepted: true })
  }
  await child.finish()
  const late = await parent.call('cancel_agent', { agent_id: child.run_id })
  expect(late).toMatchObject({ is_error: true, text: expect.stringContaining('SUCCEEDED') })
})

test('yes and no are taken also as text', async () => {
  const { parent, child } = await startPair()
  const sent = await parent.call('send_message_to_agent', { addresses: ['child'], message: 'stop', urgent: 'true' })
  expect(sent).toMatchObject({ is_error: false })
  const { messages } = await house.client.messages.mailbox({ params: { run_id: child.run_id }, query: {} })
  expect(messages).toMatchObject([{ urgent: true }])
  const { said } = await parent.call('cancel_agent', { agent_id: 'child', subtree: 'True' })
  expect(said).toMatchObject({ accepted: true, subtree: true })
  const neither = await parent.call('cancel_agent', { agent_id: 'child', subtree: 'perhaps' })
  expect(neither).toMatchObject({ is_error: true, text: expect.stringMatching(/subtree/) })
})

test('report_artifact is seen with the run and the tree; one that says too little is refused in words', async () => {
  const agent = await startParent()
  const url = 'https://git.example/team/repo/pull/7'
  const { said } = await agent.call('report_artifact', { artifact_type: 'pull request', url, branch: 'fix' })
  await agent.call('report_artifact', { artifact_type: 'EXTERNAL_REFERENCE', data: { url, reference_type: 'issue' } })
  const { artifacts } = await house.client.trees.get({ params: { run_id: agent.run_id } })
  expect(artifacts).toMatchObject([
    { artifact_uid: said.artifact_uid, artifact_type: 'PULL_REQUEST', data: { url, branch: 'fix' } },
    { artifact_type: 'EXTERNAL_REFERENCE', data: { url, reference_type: 'issue' } },
  ])
  const long = { url: `${url}?${'a'.repeat(4000)}`, reference_type: 'r'.repeat(256) }
  expect((await agent.call('report_artifact', { artifact_type: 'EXTERNAL_REFERENCE', ...long })).is_error).toBe(false)
  const wrong = await agent.call('report_artifact', { artifact_type: 'PULL_REQUEST', url })
  expect(wrong).toMatchObject({ is_error: true })
  expect(wrong.text).toMatch(/branch/)
})

describe('what goes wrong is said so that a model can act on it', () => {
  test.each([
    ['an agent that is not there', 'send_message_to_agent', { addresses: ['nobody'], message: 'x' }, /list_agents/],
    ['an id that is not there', 'send_message_to_agent', { addresses: [randomUUID()], message: 'x' }, /no run/],
    ['a parent that is not there', 'send_message_to_agent', { addresses: ['parent'], message: 'x' }, /no parent/],
    ['no agents at all', 'run_agents', { agent_run_configs: [] }, /agent_run_configs/],
    ['a child without a prompt', 'run_agents', { agent_run_configs: [{ name: 'a' }] }, /prompt/],
    ['cancelling nobody', 'cancel_agent', {}, /agent_id/],
  ])('%s', async (_, tool, args, words) => {
    const agent = await startParent()
    const { is_error, text } = await agent.call(tool, args)
    expect(is_error).toBe(true)
    expect(text).toMatch(words)
    expect(text).not.toMatch(/node_modules|\.ts:\d|select /)
  })

  test('a message of more bytes than one may have, which is not cut and not sent', async () => {
    const { parent, child } = await startPair()
    const say = (message: string) =>
      parent.call('send_message_to_agent', { addresses: ['child'], subject: 's', message })
    const refused = await say(`${'é'.repeat(65_536)}.`)
    expect(refused).toMatchObject({ is_error: true, text: expect.stringMatching(/at most 131072 bytes/) })
    expect(await say('é'.repeat(65_536))).toMatchObject({ is_error: false })
    expect(await house.client.messages.list({ params: { run_id: child.run_id }, query: {} })).toHaveLength(1)
  })

  test('a message to itself', async () => {
    const agent = await startParent()
    const { is_error, text } = await agent.call('send_message_to_agent', { addresses: [agent.run_id], message: 'x' })
    expect([is_error, text]).toEqual([true, expect.stringMatching(/itself/)])
  })
})
