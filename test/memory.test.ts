/** Memory: stores over the API, what runs are given of them, and what their agents add. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { MEMORIES_MAX } from '../src/contract/index.ts'
import { renderMemories } from '../src/engine/remembering.ts'
import { type House, startHouse } from './house/house.ts'
import { type Agent, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker
let names = 0

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 100 })
  worker = await house.worker({ capacity: 100 })
})
afterAll(() => house.close())

const memory = () => house.client.memory
const newStore = async (description = `store ${++names}`) => (await memory().createStore({ body: { description } })).uid
const add = (store_uid: string, content: string, more: object = {}) =>
  memory().create({ params: { store_uid }, body: { content, source: 'MANUAL', ...more } })
const listed = async (store_uid: string) => (await memory().list({ params: { store_uid } })).memories

type Stores = { uid: string; access: 'read_write' | 'read_only'; instructions: string }[]

/** A run with these stores, at work. */
async function begin(memory_stores: Stores, more: object = {}): Promise<Agent> {
  await house.client.runs.create({ body: { prompt: 'go', config: { memory_stores }, ...more } })
  return takeAgent(house, worker)
}
const toldTo = async ({ runner, execution_id }: Agent) =>
  (await runner.executions.start({ params: { execution_id }, body: {} })).memories

test('a memory is added, changed from the version that was read, deleted, and leaves a tombstone and its versions', async () => {
  const store_uid = await newStore()
  const { memory_id, version_id } = await add(store_uid, 'Use pnpm.', { reason: 'seen', source_id: 'doc-1' })
  const params = { store_uid, memory_id }
  expect(await listed(store_uid)).toMatchObject([
    { uid: memory_id, version_id, content: 'Use pnpm.', source: 'MANUAL', source_id: 'doc-1', is_tombstoned: false },
  ])
  const changed = await memory().update({ params, body: { content: 'Use npm.', version: 1 } })
  expect(changed).toMatchObject({ memory_id, version_id: expect.not.stringMatching(version_id) })
  await expect(memory().update({ params, body: { content: 'Use yarn.', version: 1 } })).rejects.toMatchObject({
    code: 'conflict',
    retryable: false,
    message: expect.stringContaining('it is at version 2'),
  })
  await memory().delete({ params })
  await memory().delete({ params })
  const [gone] = await listed(store_uid)
  expect(gone).toMatchObject({ is_tombstoned: true, tombstoned_at: expect.any(String), content: 'Use npm.' })
  await expect(memory().update({ params, body: { content: 'x' } })).rejects.toMatchObject({ code: 'invalid_request' })
  expect((await memory().versions({ params })).versions).toMatchObject([
    { uid: version_id, version: 1, content: 'Use pnpm.', reason: 'seen' },
    { uid: changed.version_id, version: 2, content: 'Use npm.', reason: null },
  ])
})

test('of many who change one memory at once, each change is a version', async () => {
  const store_uid = await newStore()
  const { memory_id } = await add(store_uid, '0')
  const params = { store_uid, memory_id }
  const from_first = Array.from({ length: 5 }, (_, n) =>
    memory().update({ params, body: { content: `a${n}`, version: 1 } }),
  )
  const won = (await Promise.allSettled(from_first)).filter(({ status }) => status === 'fulfilled')
  expect(won).toHaveLength(1)
  await Promise.all(Array.from({ length: 5 }, (_, n) => memory().update({ params, body: { content: `b${n}` } })))
  const { versions } = await memory().versions({ params })
  expect(versions.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5, 6, 7])
})

test('a store holds so many memories and no more', async () => {
  const store_uid = await newStore()
  const all = Array.from({ length: MEMORIES_MAX }, (_, n) => ({
    ...{ memory_id: crypto.randomUUID(), store_uid, version: 1, version_id: crypto.randomUUID(), content: `${n}` },
    ...{ source: 'MANUAL', created_at: new Date(), updated_at: new Date() },
  }))
  await house.database.kysely.insertInto('memories').values(all).execute()
  await expect(add(store_uid, 'one more')).rejects.toMatchObject({ code: 'invalid_request' })
  await memory().delete({ params: { store_uid, memory_id: all[0]?.memory_id ?? '' } })
  await add(store_uid, 'one more')
})

test("stores are the team's or one person's, and nobody else sees or attaches them", async () => {
  const other = await house.addTeam('elsewhere')
  const mine = await memory().createStore({ body: { team: false } })
  expect(mine).toMatchObject({ owner_type: 'user', owner_uid: house.owner.user_id, description: null })
  const shared = await memory().createStore({ body: { description: 'shared' } })
  expect(shared).toMatchObject({ owner_type: 'team', owner_uid: house.owner.team_id, description: 'shared' })
  expect(await memory().updateStore({ params: { store_uid: shared.uid }, body: { description: null } })).toMatchObject({
    description: null,
  })
  expect((await other.client.memory.stores()).memory_stores).toEqual([])
  const lent = { uid: shared.uid, access: 'read_only' as const, instructions: 'x' }
  for (const wrong of [
    () => other.client.memory.list({ params: { store_uid: shared.uid } }),
    () => other.client.memory.store({ params: { store_uid: mine.uid } }),
  ])
    await expect(wrong()).rejects.toMatchObject({ code: 'resource_not_found' })
  for (const wrong of [
    () => other.client.runs.create({ body: { prompt: 'x', config: { memory_stores: [lent] } } }),
    () => other.client.identities.create({ body: { name: 'x', memory: { attached_stores: [lent] } } }),
    () => house.client.runs.create({ body: { prompt: 'x', config: { memory_stores: [{ ...lent, uid: mine.uid }] } } }),
    () => house.client.runs.create({ body: { prompt: 'x', config: { memory_stores: [lent, lent] } } }),
  ])
    await expect(wrong()).rejects.toMatchObject({ code: 'invalid_request' })
})

test('an agent identity is given stores and keeps one of its own; its runs have them, unless they say otherwise', async () => {
  const [notes, spare] = [await newStore('notes'), await newStore()]
  const attached = { uid: notes, access: 'read_only' as const, instructions: 'How we work.' }
  const made = await house.client.identities.create({
    body: { name: 'Mnemosyne', memory: { attached_stores: [attached], auto_memory: { enabled: true } } },
  })
  const own = made.memory.auto_memory.store
  expect(made.memory).toMatchObject({
    attached_stores: [attached],
    auto_memory: { enabled: true, store: { access: 'read_write', owner_type: 'service_account', owner_uid: made.uid } },
  })
  const { memory_stores } = await memory().stores()
  expect(memory_stores).toContainEqual(expect.objectContaining({ uid: own?.uid, owner_uid: made.uid }))
  const agents = async (store_uid = '') => (await memory().agents({ params: { store_uid } })).agents
  expect(await agents(notes)).toEqual([{ ...attached, uid: made.uid, name: 'Mnemosyne' }])
  expect(await agents(own?.uid)).toMatchObject([{ uid: made.uid, access: 'read_write' }])
  await expect(memory().deleteStore({ params: { store_uid: notes } })).rejects.toMatchObject({ code: 'conflict' })

  await add(notes, 'Tabs are four wide.')
  const agent = await begin([], { config: {}, agent_identity_uid: made.uid })
  expect((await house.client.runs.get({ params: { run_id: agent.run_id } })).agent_config.memory_stores).toMatchObject([
    attached,
    { uid: own?.uid, access: 'read_write' },
  ])
  expect(await toldTo(agent)).toMatch(
    /## notes \(store \w+, read only\)\nHow we work\.\n- \[[-\w]+\] Tabs are four wide\./,
  )
  expect((await agent.call('save_memory', { content: 'The tests need Redis.' })).is_error).toBe(false)
  expect(await listed(own?.uid ?? '')).toMatchObject([
    { content: 'The tests need Redis.', source_run_id: agent.run_id },
  ])
  const { system_prompt } = await agent.runner.harnessConversations.resolvePrompt({ body: {} })
  expect(system_prompt).toContain('Tabs are four wide.')
  const bare = await begin([], { agent_identity_uid: made.uid })
  expect(await toldTo(bare)).toBeUndefined()

  const params = { identity_uid: made.uid }
  const kept = await house.client.identities.update({ params, body: { memory: { auto_memory: { enabled: false } } } })
  expect(kept.memory).toEqual({ attached_stores: [attached], auto_memory: { enabled: false } })
  const moved = { ...attached, uid: spare }
  const again = await house.client.identities.update({
    params,
    body: { memory: { attached_stores: [moved], auto_memory: { enabled: true } } },
  })
  expect(again.memory).toMatchObject({ attached_stores: [moved], auto_memory: { store: { uid: own?.uid } } })
  expect((await house.client.identities.update({ params, body: { memory: {} } })).memory).toEqual({
    attached_stores: [],
    auto_memory: { enabled: false },
  })
  await memory().deleteStore({ params: { store_uid: notes } })
})

test('an agent writes to the stores that it may write to, and is told which', async () => {
  const [open, closed, more] = [await newStore(), await newStore(), await newStore()]
  const { memory_id } = await add(open, 'Old.')
  const locked = await add(closed, 'Fixed.')
  const agent = await begin([
    { uid: closed, access: 'read_only', instructions: 'Read it.' },
    { uid: open, access: 'read_write', instructions: 'Add to it.' },
  ])
  const tools = async ({ mcp }: Agent) => (await mcp.listTools()).tools.map(({ name }) => name)
  expect(await tools(agent)).toContain('save_memory')
  const saving = { memory: 'New.', store: open, reason: 'seen' }
  const { said } = await agent.call('save_memory', saving)
  expect(said).toMatchObject({ store_uid: open })
  // Once more, as by a harness that lost the answer: it is the same memory.
  expect((await agent.call('save_memory', saving)).said).toEqual(said)
  expect((await agent.call('save_memory', { content: 'Newer.', memory_id })).said).toMatchObject({ memory_id })
  expect(await listed(open)).toMatchObject([
    { content: 'Newer.', source: 'MANUAL' },
    { content: 'New.', source: 'AGENT', source_run_id: agent.run_id },
  ])
  for (const wrong of [
    { content: 'x', store_uid: closed },
    { content: 'x', store_uid: more },
    { content: 'x', memory_id: locked.memory_id },
    { content: ' ' },
    { content: 'x', memory_id: 'nonsense' },
  ])
    expect((await agent.call('save_memory', wrong)).is_error, JSON.stringify(wrong)).toBe(true)
  const reader = await begin([{ uid: closed, access: 'read_only', instructions: 'Read it.' }])
  expect(await tools(reader)).not.toContain('save_memory')
  expect(await reader.call('save_memory', { content: 'x' })).toMatchObject({
    is_error: true,
    text: expect.stringContaining('no memory store that it may write to'),
  })
  await agent.finish({ outcome: 'CANCELLED' })
  await memory().deleteStore({ params: { store_uid: closed } })
  expect(await toldTo(reader)).toBeUndefined()
})

test('an agent is given so much, what was changed last first, and is told how much is left out', async () => {
  const store_uid = await newStore()
  for (let n = 0; n < 5; n++) await add(store_uid, `${n}${'x'.repeat(16_000)}`)
  const run = { ...house.owner, owner_user_id: null, config: {} }
  const memory_stores = [{ uid: store_uid, access: 'read_only', instructions: 'All.' }]
  const told = await renderMemories(house.database.kysely, { ...run, config: { memory_stores } })
  expect(told?.length).toBeLessThan(50_000)
  expect(told).toMatch(/\] 4xx/)
  expect(told).not.toMatch(/\] 0xx/)
  expect(told).toMatch(/… \d older memories are left out\./)
})
