/**
 * Storms as agents make them, through `/mcp` with the tokens of their executions: each is stopped by the documented
 * limit, its root waits for a person, who is told why and can let it go on.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type House, startHouse } from './house/house.ts'
import { type Agent, type Answer, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

type Launched = { name: string; status: string; agent_id?: string; error?: string }

/** As migration 0002 sets them; `docs/orchestration.md` says the same. */
const DEFAULTS = {
  max_depth: 1,
  max_children: 200,
  max_tree_runs: 1000,
  max_tree_messages: 5000,
  max_tree_wakes: 500,
  max_hops: 32,
  max_tree_tokens: null,
}

let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 2000 })
  worker = await house.worker({ capacity: 2000 })
})
afterEach(() => limit(DEFAULTS))
afterAll(() => house.close())

const limit = (limits: object) => house.database.kysely.updateTable('teams').set(limits).execute()
const runOf = (run_id: string) => house.client.runs.get({ params: { run_id } })
const treeOf = (run_id: string) => house.client.trees.get({ params: { run_id } })
const release = (run_id: string) => house.client.trees.release({ params: { run_id } })
const eventsOf = (run_id: string) => house.client.events.list({ query: { run_ids: [run_id], limit: 500 } })
const typesOf = async (run_id: string) => (await eventsOf(run_id)).map(({ event_type }) => event_type)
/** Tops of trees that wait for a person's release. */
const stoppedTops = async () =>
  (await house.client.runs.list({ query: { tree_stopped: true } })).runs.map(({ run_id }) => run_id)

async function startParent(): Promise<Agent> {
  await house.client.runs.create({ body: { prompt: 'lead' } })
  return takeAgent(house, worker)
}

async function startPair(): Promise<{ parent: Agent; child: Agent }> {
  const parent = await startParent()
  await parent.call('run_agents', { agent_run_configs: [{ name: 'child', prompt: 'answer', harness_type: 'claude' }] })
  return { parent, child: await takeAgent(house, worker) }
}

const say = (from: Agent, to: string, message: string) =>
  from.call('send_message_to_agent', { addresses: [to], subject: 's', message })

/** Each answers as soon as it hears; the answer that was refused. */
async function pingPong(
  one: Agent,
  other: Agent,
  turns_max = 1000,
): Promise<{ turns: number; refused: Answer | null }> {
  for (let turns = 0; turns < turns_max; turns++) {
    const [from, to] = turns % 2 === 0 ? [one, other] : [other, one]
    const sent = await say(from, to.run_id, `turn ${turns}`)
    if (sent.is_error) return { turns, refused: sent }
    expect((await to.call('wait_for_events')).text).toContain(`turn ${turns}`)
  }
  return { turns: turns_max, refused: null }
}

/** The root says why, in its state, in its events and in its tree; nobody below can send or start anything. */
async function expectStopped(root: Agent, reason: string, words: RegExp): Promise<void> {
  expect((await runOf(root.run_id)).state).toBe('BLOCKED')
  expect((await typesOf(root.run_id)).filter((type) => type === 'run_blocked')).toHaveLength(1)
  expect((await eventsOf(root.run_id)).at(-1)).toMatchObject({ event_type: 'tree_stopped', ref_id: reason })
  expect((await treeOf(root.run_id)).stopped).toMatchObject({ reason, message: expect.stringMatching(words) })
  const born = await root.call('run_agents', {
    agent_run_configs: [{ name: 'late', prompt: 'x', harness_type: 'claude' }],
  })
  expect(born.text).toMatch(/stopped|BLOCKED/i)
  expect((await treeOf(root.run_id)).nodes.map(({ name }) => name)).not.toContain('late')
}

test('two agents that answer each other for ever are stopped at 32 hops, and go on when they are released', async () => {
  const { parent, child } = await startPair()
  const { turns, refused } = await pingPong(parent, child)
  expect(turns).toBe(32)
  expect(refused?.text).toMatch(/32/)
  await expectStopped(parent, 'hops', /limit of 32 \(max_hops\)/)
  const kept = (await house.client.messages.list({ params: { run_id: child.run_id }, query: { limit: 100 } })).length
  expect(kept).toBe(16)
  await release(parent.run_id)
  expect(await runOf(parent.run_id)).toMatchObject({ state: 'INPROGRESS' })
  expect((await treeOf(parent.run_id)).stopped).toBeNull()
  expect((await pingPong(parent, child, 10)).refused).toBeNull()
})

test('a message of a person begins a new chain of hops', async () => {
  await limit({ max_hops: 4 })
  const { parent, child } = await startPair()
  expect((await pingPong(parent, child, 4)).refused).toBeNull()
  await house.client.messages.send({ body: { to: [parent.run_id], subject: 's', body: 'go on' } })
  await parent.call('wait_for_events')
  const { state } = await runOf(parent.run_id)
  expect(state).toBe('INPROGRESS')
})

test('an agent cannot wake itself, by its own id or by being asked to', async () => {
  const { parent } = await startPair()
  const said = await say(parent, parent.run_id, 'again')
  expect(said).toMatchObject({ is_error: true, text: expect.stringMatching(/itself/) })
  expect(await house.client.messages.list({ params: { run_id: parent.run_id }, query: {} })).toEqual([])
  await parent.finish()
  const late = await parent.runner.messages
    .send({ body: { to: [parent.run_id], subject: 's', body: 'wake me' } })
    .catch((error: unknown) => error)
  expect(late).toMatchObject({ name: 'Fault' })
  expect(await runOf(parent.run_id)).toMatchObject({ state: 'SUCCEEDED', executions: 1 })
})

test('a parent that wakes its child for ever is stopped by the limit of wakes', async () => {
  await limit({ max_tree_wakes: 5 })
  const { parent, child } = await startPair()
  let last = child
  let wakes = 0
  for (; wakes < 50; wakes++) {
    await last.finish()
    const sent = await say(parent, child.run_id, `again ${wakes}`)
    if (sent.is_error) break
    last = await takeAgent(house, worker)
    await last.call('wait_for_events')
  }
  expect(wakes).toBe(5)
  await expectStopped(parent, 'wakes', /limit of 5 \(max_tree_wakes\)/)
  expect((await runOf(child.run_id)).state).toBe('SUCCEEDED')
  await release(parent.run_id)
  expect((await say(parent, child.run_id, 'once more')).is_error).toBe(false)
  await (await takeAgent(house, worker)).finish({ outcome: 'CANCELLED' })
})

test('a flood of messages is stopped by the limit of messages', async () => {
  await limit({ max_tree_messages: 20 })
  const { parent, child } = await startPair()
  const sent = await Promise.all(Array.from({ length: 30 }, (_, at) => say(parent, child.run_id, `flood ${at}`)))
  expect(sent.filter(({ is_error }) => !is_error)).toHaveLength(20)
  expect(await house.client.messages.list({ params: { run_id: child.run_id }, query: { limit: 100 } })).toHaveLength(20)
  await expectStopped(parent, 'messages', /limit of 20 \(max_tree_messages\)/)
})

test('a bomb of a thousand children stops at the children that one run may have, exactly', async () => {
  const parent = await startParent()
  const bomb = async (call: number) => {
    const names = Array.from({ length: 100 }, (_, at) => `bomb ${call}-${at}`)
    const agents = names.map((name) => ({ name, prompt: 'x', harness_type: 'claude', where: 'nowhere' }))
    const { said } = await parent.call('run_agents', { agent_run_configs: agents })
    return said.agents as Launched[]
  }
  const launched = (await Promise.all(Array.from({ length: 10 }, (_, call) => bomb(call)))).flat()
  expect(launched).toHaveLength(1000)
  expect(launched.filter(({ agent_id }) => agent_id !== undefined)).toHaveLength(DEFAULTS.max_children)
  const refused = launched.find(({ agent_id }) => agent_id === undefined)
  expect(refused?.error).toMatch(/max_children is 200/)
  expect((await treeOf(parent.run_id)).nodes).toHaveLength(DEFAULTS.max_children + 1)
}, 90_000)

test('children of children are stopped by depth, and a tree by all its runs', async () => {
  await limit({ max_depth: 2, max_tree_runs: 5 })
  const { parent, child } = await startPair()
  const start = async (from: Agent, ...names: string[]) => {
    const agents = names.map((name) => ({ name, prompt: 'x', harness_type: 'claude', where: 'nowhere' }))
    return (await from.call('run_agents', { agent_run_configs: agents })).said.agents as Launched[]
  }
  const grown = await start(child, 'a', 'b', 'c', 'd', 'e')
  expect(grown.filter(({ agent_id }) => agent_id !== undefined)).toHaveLength(3)
  expect(grown.at(-1)?.error).toMatch(/max_tree_runs is 5/)
  expect((await treeOf(parent.run_id)).nodes).toHaveLength(5)
})

test('a tree whose root has ended stops all the same: the root says why and stays as it ended, and a person releases it', async () => {
  await limit({ max_tree_messages: 2 })
  const root = await startParent()
  const names = ['sender', 'patient']
  await root.call('run_agents', {
    agent_run_configs: names.map((name) => ({ name, prompt: 'answer', harness_type: 'claude' })),
  })
  const sender = await takeAgent(house, worker)
  const patient = await takeAgent(house, worker)
  await patient.call('wait_for_events')
  await root.finish({ outcome: 'SUCCEEDED', summary: 'Both are at work.' })
  root.complete()
  const { updated_at: _, ...ended } = await runOf(root.run_id)

  for (const words of ['one', 'two']) expect((await say(sender, patient.run_id, words)).is_error).toBe(false)
  expect((await say(sender, patient.run_id, 'three')).text).toMatch(/limit of 2/)
  const why = { reason: 'messages', message: expect.stringMatching(/limit of 2/) }
  expect((await treeOf(root.run_id)).stopped).toMatchObject(why)
  expect(await runOf(root.run_id)).toMatchObject({ ...ended, child_states: expect.any(Object), tree_stopped: why })
  expect((await runOf(sender.run_id)).tree_stopped).toBeUndefined()
  const told = (await eventsOf(root.run_id)).slice(-2).map(({ event_type, ref_id }) => [event_type, ref_id])
  expect(told).toEqual([
    ['run_succeeded', null],
    ['tree_stopped', 'messages'],
  ])
  expect(await stoppedTops()).toContain(root.run_id)
  expect((await runOf(sender.run_id)).state).toBe('BLOCKED')
  expect((await patient.call('wait_for_events')).text).not.toContain('one')

  // A word to the root wakes it after the release, and not before: what is asked for later begins first.
  await house.client.messages.send({ body: { to: [root.run_id], subject: 's', body: 'What of it?' } })
  expect(await runOf(root.run_id)).toMatchObject({ state: 'QUEUED', waiting_for: 'release' })
  const { run_id: other } = await house.client.runs.create({ body: { prompt: 'other' } })
  const next = await takeAgent(house, worker)
  expect(next.run_id).toBe(other)
  await next.finish()

  await release(patient.run_id)
  expect(await stoppedTops()).not.toContain(root.run_id)
  expect((await runOf(root.run_id)).tree_stopped).toBeUndefined()
  expect(await typesOf(root.run_id)).toContain('tree_released')
  await expect(release(root.run_id)).rejects.toMatchObject({ code: 'conflict' })
  const woken = await takeAgent(house, worker)
  expect(woken.run_id).toBe(root.run_id)
  expect((await woken.call('wait_for_events')).text).toContain('What of it?')
  expect((await patient.call('wait_for_events')).text).toMatch(/one[\s\S]*two/)
  expect((await sender.call('wait_for_events')).text).toContain('a person has let it go on')
  expect((await say(sender, patient.run_id, 'four')).is_error).toBe(false)
})
