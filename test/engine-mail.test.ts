/** Waiting for mail in the engine: what is given, confirmed, given back and given again. */
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import pino from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { folderBlobs } from '../src/engine/blobs.ts'
import type { ExecutionCaller } from '../src/engine/caller.ts'
import { openEngine } from '../src/engine/engine.ts'
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
const waitAs = (runner: Runner, call_key: string = randomUUID(), more: { sent?: AbortSignal; hold_ms?: number } = {}) =>
  engine.mail.wait(runner.caller, {
    call_key,
    hold_ms: 0,
    timeout_s: 60,
    signal: new AbortController().signal,
    ...more,
  })
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

/** An agent's answer that is on its way, until it is sent or lost. */
async function answerOnItsWay(lead: Runner) {
  await send(owner, [lead.run_id], 's', 'on its way')
  const sent = new AbortController()
  expect((await waitAs(lead, 'on its way', { sent: sent.signal })).text).toContain('on its way')
  return { sent: () => sent.abort(), lose: () => engine.mail.giveBack(lead.execution_id, 'on its way') }
}

const goesOn = {
  'a tool that it calls': (lead: Runner, began: number) => engine.mail.heard(lead.caller as ExecutionCaller, began),
  'a letter that it writes': (lead: Runner, began: number) =>
    engine.messages.send(lead.caller, { to: [owed], subject: 's', body: 'b' }, { heard: began }),
  'another call that waits': async (lead: Runner, began: number) => {
    const waits = { call_key: randomUUID(), hold_ms: 0, timeout_s: 60, signal: new AbortController().signal, began }
    expect((await engine.mail.wait(lead.caller, waits)).text ?? '').not.toContain('on its way')
  },
}
let owed = ''

test.each(Object.entries(goesOn))('%s shows nothing of an answer beside it, which may be lost', async (_, goOn) => {
  const lead = await parent()
  await spawn(lead, ['a'])
  owed = ((await beginAll()) as [Runner])[0].run_id
  const lost = await answerOnItsWay(lead)
  await goOn(lead, performance.now())
  expect(await deliveredOf(lead.run_id)).toEqual([false])
  await lost.lose()
  expect((await waitAs(lead)).text).toContain('on its way')
  await engine.mail.inbox(lead.caller, lead.execution_id, { turn_over: true })
  expect(await deliveredOf(lead.run_id)).toEqual([true])

  const read = await answerOnItsWay(lead)
  const before = performance.now()
  read.sent()
  await goOn(lead, before)
  expect(await deliveredOf(lead.run_id)).toEqual([true, false])
  await goOn(lead, performance.now())
  expect(await deliveredOf(lead.run_id)).toEqual([true, true])
})

test('a call that waits beside an answer on its way has the letter if that is lost', async () => {
  const lead = await parent()
  const lost = await answerOnItsWay(lead)
  const beside = waitAs(lead, 'beside', { hold_ms: 20_000 })
  expect(await Promise.race([beside, new Promise((resolve) => setTimeout(resolve, 500, 'held'))])).toBe('held')
  await lost.lose()
  expect((await beside).text).toContain('on its way')
})

test('an answer that is not sent when the turn is over is in the inbox again', async () => {
  const lead = await parent()
  await answerOnItsWay(lead)
  const inbox = await engine.mail.inbox(lead.caller, lead.execution_id, { turn_over: true })
  expect(inbox.text).toContain('on its way')
})

test('another server takes an answer as read when it is written that it was sent; what nobody sent comes back', async () => {
  const lead = await parent()
  const log = pino({ level: 'silent' })
  const other = await openEngine({ database, clock, blobs: folderBlobs(tmpdir()), log, server_id: randomUUID() })
  onTestFinished(() => other.close())
  const read = await answerOnItsWay(lead)
  await other.mail.heard(lead.caller as ExecutionCaller, performance.now())
  expect(await deliveredOf(lead.run_id)).toEqual([false])
  read.sent()
  await expect
    .poll(async () => {
      await other.mail.heard(lead.caller as ExecutionCaller, performance.now())
      return deliveredOf(lead.run_id)
    })
    .toEqual([true])
  await answerOnItsWay(lead)
  clock.advance(4_000)
  await other.sweep.run()
  expect((await engine.mail.inbox(lead.caller, lead.execution_id)).text).toBeNull()
  clock.advance(2_000)
  await other.sweep.run()
  expect((await engine.mail.inbox(lead.caller, lead.execution_id)).text).toContain('on its way')
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

test('a claim of news alone that is made once more is the same one; what a tool gave meanwhile is not claimed', async () => {
  const lead = await parent()
  await spawn(lead, ['a', 'b'])
  const [a, b] = (await beginAll()) as [Runner, Runner]
  const look = () => engine.mail.inbox(lead.caller, lead.execution_id)
  const claim = (seen: Awaited<ReturnType<typeof look>>, claim_id: string) =>
    engine.mail.delivered(lead.caller, lead.execution_id, { ...seen, claim_id })
  await finish(a)
  const one = await look()
  const claim_id = randomUUID()
  expect([await claim(one, claim_id), await claim(one, claim_id)]).toEqual([{}, {}])
  await finish(b)
  const two = await look()
  expect((await waitAs(lead)).text).toMatch(new RegExp(`^(?![^]*${a.run_id})[^]*${b.run_id}`))
  expect(await claim(two, randomUUID())).toEqual({ already: true })
  await engine.mail.inbox(lead.caller, lead.execution_id, { turn_over: true })
  expect(await claim(two, randomUUID())).toEqual({ already: true })
})

test('of letters that a runner had claimed when it died those of which there is no trace come again, no others', async () => {
  const lead = await parent()
  await send(owner, [lead.run_id], 'long', `given one ${'x'.repeat(100_000)}`)
  await send(owner, [lead.run_id], 'short', 'given two')
  const { text } = await deliver(lead)
  await send(owner, [lead.run_id], 'untold', 'lost one')
  await send(owner, [lead.run_id], 'untold', '\nlost two')
  await deliver(lead)
  await send(owner, [lead.run_id], 'by a tool', 'given "three"\nof two lines')
  const output = JSON.stringify({ status: 'events', events: (await deliver(lead)).text })
  await engine.executions.append(lead.caller, lead.execution_id, [
    { number: 1, at: clock.now().toISOString(), body: { kind: 'prompt', text: `${text}` } },
    {
      number: 2,
      at: clock.now().toISOString(),
      body: { kind: 'tool_result', call_id: 'c', status: 'completed', output },
    },
  ])
  const failure = { error_code: 'internal_error' as const, message: 'The harness died.', retryable: true }
  await engine.executions.finish(lead.caller, lead.execution_id, { outcome: { outcome: 'ERROR', failure }, entries: 2 })
  clock.advance(300_000)
  const [again] = (await beginAll()) as [Runner]
  const { context } = await engine.executions.start(again.caller, again.execution_id)
  const untold = context?.split('This message came for you while you were interrupted.').slice(1) ?? []
  expect(untold.map((letter) => /(given|lost) \w+/.exec(letter)?.[0])).toEqual(['lost one', 'lost two'])
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
