/** Waiting for mail in the engine: what is given, confirmed, given back and given again. */
import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { familyHouse, type Opened, type Runner } from './house/family.ts'

let database: Opened['database']
let clock: Opened['clock']
let engine: Opened['engine']
let owner: Opened['owner']
const { types, beginAll, parent, spawn, finish, send, deliver } = familyHouse((its) => {
  ;({ database, clock, engine, owner } = its)
})

test('a wait answers at once what is there, and takes up no slot when nothing is', async () => {
  await engine.access.limitRuns(owner, 1)
  const lead = await parent()
  await spawn(lead, ['a'])
  expect(await beginAll()).toHaveLength(0)
  const signal = new AbortController().signal
  const none = await engine.mail.wait(lead.caller, { call_key: randomUUID(), hold_ms: 0, timeout_s: 60, signal })
  expect(none.text).toBeNull()
  expect(await engine.runs.get(owner, lead.run_id)).toMatchObject({
    state: 'INPROGRESS',
    waiting_until: expect.any(String),
  })
  const [child] = (await beginAll()) as [Runner]
  expect(child).toBeDefined()
  await send(child.caller, [lead.run_id], 'r', 'the result')
  await finish(child)
  const some = await engine.mail.wait(lead.caller, { call_key: randomUUID(), hold_ms: 0, timeout_s: 60, signal })
  expect(some.text).toMatch(/the result[\s\S]*has succeeded/)
  expect((await engine.runs.get(owner, lead.run_id)).waiting_until).toBeUndefined()
  expect((await types(lead.run_id)).slice(-2)).toEqual(['new_message', 'run_resumed'])
})

test('a held wait returns when a message comes', async () => {
  const lead = await parent()
  const waiting = engine.mail.wait(lead.caller, {
    call_key: randomUUID(),
    hold_ms: 20_000,
    timeout_s: 60,
    signal: new AbortController().signal,
  })
  await send(owner, [lead.run_id], 's', 'wake up')
  expect((await waiting).text).toContain('wake up')
})

/** An agent's call of `wait_for_events` that is answered at once. */
const waitAs = (runner: Runner, call_key: string = randomUUID()) =>
  engine.mail.wait(runner.caller, { call_key, hold_ms: 0, timeout_s: 60, signal: new AbortController().signal })
const deliveredOf = async (run_id: string) =>
  (await engine.messages.list(owner, run_id, { limit: 100 })).map((header) => header.delivered_at !== null)

test('what a wait answered is delivered when the agent goes on, and answered again to the same call', async () => {
  const lead = await parent()
  await send(owner, [lead.run_id], 's', 'first word')
  expect((await waitAs(lead, 'call 1')).text).toContain('first word')
  expect(await deliveredOf(lead.run_id)).toEqual([false])
  await send(owner, [lead.run_id], 's', 'second word')
  expect((await waitAs(lead, 'call 1')).text).toMatch(/first word/)
  expect((await engine.mail.inbox(lead.caller, lead.execution_id)).text).toMatch(/^(?!.*first word)[\s\S]*second word/)
  const next = await waitAs(lead, 'call 2')
  expect(next.text).toContain('second word')
  expect(next.text).not.toContain('first word')
  expect(await deliveredOf(lead.run_id)).toEqual([true, false])
  expect((await engine.mail.inbox(lead.caller, lead.execution_id, { turn_over: true })).text).toBeNull()
  expect(await deliveredOf(lead.run_id)).toEqual([true, true])
  expect(await finish(lead)).toMatchObject({ state: 'SUCCEEDED' })
})

test('an answer that did not arrive is given again, its news too', async () => {
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  await send(child.caller, [lead.run_id], 's', 'the result')
  await finish(child)
  const first = await waitAs(lead, 'lost')
  await engine.mail.giveBack(lead.execution_id, 'another call')
  expect((await engine.mail.inbox(lead.caller, lead.execution_id)).text).toBeNull()
  await engine.mail.giveBack(lead.execution_id, 'lost')
  expect((await engine.executions.heartbeat(lead.caller, lead.execution_id, {})).inbox).toBe(true)
  expect((await waitAs(lead)).text).toBe(first.text)
})

test('what an execution that failed had not confirmed is given to the next one', async () => {
  const lead = await parent()
  await send(owner, [lead.run_id], 's', 'not to be lost')
  await waitAs(lead)
  const failure = { error_code: 'internal_error', message: 'The harness died.', retryable: true }
  await finish(lead, { outcome: 'ERROR', failure })
  clock.advance(300_000)
  const [again] = (await beginAll()) as [Runner]
  expect(again.run_id).toBe(lead.run_id)
  expect((await deliver(again)).text).toContain('not to be lost')
  expect(await deliveredOf(lead.run_id)).toEqual([true])
  expect(await finish(again)).toMatchObject({ state: 'SUCCEEDED' })
})

test('a runner that starts again gives what the agent before it may not have read', async () => {
  const lead = await parent()
  await send(owner, [lead.run_id], 's', 'not to be lost')
  await waitAs(lead)
  await engine.executions.start(lead.caller, lead.execution_id)
  expect((await deliver(lead)).text).toContain('not to be lost')
  expect(await finish(lead)).toMatchObject({ state: 'SUCCEEDED' })
})

test('news that the runner gave meanwhile are not given by a tool again', async () => {
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  await finish(child)
  const seen = await engine.mail.inbox(lead.caller, lead.execution_id)
  expect(seen.text).toContain('has succeeded')
  expect((await waitAs(lead)).text).toContain('has succeeded')
  await send(owner, [lead.run_id], 's', 'later')
  const [message] = await engine.messages.list(owner, lead.run_id, { limit: 1 })
  const stale = { message_ids: [message?.message_id ?? ''], sequence: seen.sequence + 1, since: seen.since }
  expect(await engine.mail.delivered(lead.caller, lead.execution_id, stale)).toEqual({ already: true })
  const now = await engine.mail.inbox(lead.caller, lead.execution_id)
  expect(now.text).toMatch(/^(?!.*has succeeded)[\s\S]*later/)
  expect(await engine.mail.delivered(lead.caller, lead.execution_id, now)).toEqual({})
})

test('a claim that is made once more is the same one; what a tool gave meanwhile is not claimed', async () => {
  const lead = await parent()
  const look = () => engine.mail.inbox(lead.caller, lead.execution_id)
  const claim = async (seen: Awaited<ReturnType<typeof look>>) =>
    engine.mail.delivered(lead.caller, lead.execution_id, seen)
  await send(owner, [lead.run_id], 'one')
  const one = await look()
  expect([await claim(one), await claim(one)]).toEqual([{}, {}])
  await send(owner, [lead.run_id], 'two')
  const two = await look()
  expect((await waitAs(lead)).text).toContain('two')
  expect(await claim(two)).toEqual({ already: true })
  await engine.mail.inbox(lead.caller, lead.execution_id, { turn_over: true })
  expect(await claim(two)).toEqual({ already: true })
})

test('a wait ends when the runner gives the agent something meanwhile, so that nothing later overtakes it', async () => {
  const lead = await parent()
  const waiting = engine.mail.wait(lead.caller, {
    call_key: 'held',
    hold_ms: 20_000,
    timeout_s: 60,
    signal: new AbortController().signal,
  })
  await expect.poll(async () => (await engine.runs.get(owner, lead.run_id)).waiting_until).toBeDefined()
  // As a runner does: accepted, looked at and claimed between two looks of the tool.
  await database.kysely.transaction().execute(async (write) => {
    await write.updateTable('runs').set({ messages: 1 }).where('run_id', '=', lead.run_id).execute()
  })
  engine.bell.ring('control', { execution_id: lead.execution_id })
  expect((await waiting).text).toMatch(/given to you directly/)
})

test('a message marked by hand after a tool gave it is counted once', async () => {
  const lead = await parent()
  await send(owner, [lead.run_id], 's', 'x')
  await waitAs(lead)
  const [message] = await engine.messages.list(owner, lead.run_id, { limit: 1 })
  await engine.messages.delivered(owner, message?.message_id ?? '')
  await engine.mail.inbox(lead.caller, lead.execution_id, { turn_over: true })
  const run = await database.kysely
    .selectFrom('runs')
    .select('undelivered')
    .where('run_id', '=', lead.run_id)
    .executeTakeFirstOrThrow()
  expect(run.undelivered).toBe(0)
})

test('a wait whose time is over says so', async () => {
  const lead = await parent()
  await engine.mail.wait(lead.caller, {
    call_key: randomUUID(),
    hold_ms: 0,
    timeout_s: 60,
    signal: new AbortController().signal,
  })
  expect((await engine.mail.inbox(lead.caller, lead.execution_id)).text).toBeNull()
  clock.advance(61_000)
  expect((await engine.executions.heartbeat(lead.caller, lead.execution_id, {})).inbox).toBe(true)
  expect((await deliver(lead)).text).toContain('Nothing came')
})
