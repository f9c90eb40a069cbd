/** A letter to a call that waits in the same process is given as it is accepted. */
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { sql } from 'kysely'
import pino from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { folderBlobs } from '../src/engine/blobs.ts'
import { openEngine } from '../src/engine/engine.ts'
import { serverThatAsks } from './house/asking.ts'
import { familyHouse, type Opened, type Runner } from './house/family.ts'
import { until } from './house/processes.ts'

let database: Opened['database']
let clock: Opened['clock']
let engine: Opened['engine']
let owner: Opened['owner']
const { beginAll, parent, spawn, finish, send, types } = familyHouse((its) => {
  ;({ database, clock, engine, owner } = its)
})

const HOLD_MS = 20_000

/** A held call of `wait_for_events`, once its agent is seen to wait. */
async function waits(runner: Runner, { hold_ms = HOLD_MS, signal = new AbortController().signal, at = engine } = {}) {
  const call_key = randomUUID()
  const answer = at.mail.wait(runner.caller, { call_key, hold_ms, timeout_s: 60, signal })
  const look = async () => (await engine.runs.get(owner, runner.run_id)).waiting_until
  await until('the agent waits', look)
  // The row is seen a moment before its writer hears that it is written.
  await look()
  return { call_key, answer: async () => (await answer).text }
}

/** Whether the last giving to a run was written by the transaction that accepted its letter. */
async function isGift(run_id: string): Promise<boolean | undefined> {
  const { rows } = await sql<{ is_gift: boolean }>`
    select g.xmin = m.xmin as is_gift from givings g join messages m on m.message_id = any(g.message_ids)
    where g.run_id = ${run_id} order by m.number desc limit 1`.execute(database.kysely)
  return rows[0]?.is_gift
}

async function family(names: string[]): Promise<[Runner, ...Runner[]]> {
  const lead = await parent()
  await spawn(lead, names)
  return [lead, ...(await beginAll())]
}

/** Holds up whoever writes to the log, until it is called. */
const stopLog = () => holdUp('select from event_counter for update')

/** Holds up whoever looks into an inbox; who accepts a letter goes on. */
const stopLooks = () => holdUp('lock table identities in access exclusive mode')

async function holdUp(lock: string): Promise<() => Promise<void>> {
  const client = await database.pool.connect()
  await client.query(`begin; ${lock}`)
  const { promise, resolve } = Promise.withResolvers<void>()
  const done = promise.then(async () => {
    await client.query('rollback')
    client.release()
  })
  onTestFinished(() => resolve())
  return () => {
    resolve()
    return done
  }
}

const isHeldUp = (what: string, times = 1) =>
  until(`${what} is held up`, async () => {
    const { rows } = await sql`
      select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`.execute(
      database.kysely,
    )
    return rows.length >= times
  })

test('it reads as in the inbox, its event comes before that of its reader going on, and no message is left over', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const body = { subject: 'About it', body: 'A word.\0', urgent: true }
  const letters = [
    () => engine.messages.send(lead.caller, { to: [a.run_id], ...body }, { mode: 'plan' }),
    () => engine.messages.send(owner, { to: [a.run_id], ...body }),
  ]
  for (const letter of letters) {
    await letter()
    const inbox = (await engine.mail.inbox(a.caller, a.execution_id)).text
    await engine.mail.delivered(a.caller, a.execution_id, await engine.mail.inbox(a.caller, a.execution_id))
    const { call_key, answer } = await waits(a)
    await letter()
    expect(await answer()).toBe(inbox)
    expect(await isGift(a.run_id)).toBe(true)
    expect((await types(a.run_id)).slice(-2)).toEqual(['new_message', 'run_resumed'])
    const run = await database.kysely
      .selectFrom('runs')
      .selectAll()
      .where('run_id', '=', a.run_id)
      .executeTakeFirstOrThrow()
    expect(run).toMatchObject({ undelivered: 0, waiting_until: null })
    // It is a giving like any other: the same call has it again, and the agent's next word confirms it.
    const signal = new AbortController().signal
    const again = await engine.mail.wait(a.caller, { call_key, hold_ms: 0, timeout_s: 60, signal })
    expect(again.text).toBe(inbox)
    if (a.caller.kind === 'execution') await engine.mail.heard(a.caller, performance.now())
  }
  const headers = await engine.messages.list(owner, a.run_id, { limit: 10 })
  expect(headers.map(({ delivered_at }) => delivered_at === null)).toEqual([false, false, false, false])
})

test('its hop and cause are what the reader writes with from then on', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const { answer } = await waits(a)
  const { message_ids } = await send(lead.caller, [a.run_id])
  await answer()
  await send(a.caller, [lead.run_id])
  const [answered] = await database.kysely
    .selectFrom('messages')
    .select(['hop', 'cause_id'])
    .where('recipient_run_id', '=', lead.run_id)
    .execute()
  expect(answered).toEqual({ hop: 2, cause_id: message_ids[0] })
})

test('of letters that come together each comes once, in order, and one goes to many at once', async () => {
  const [lead, ...children] = await family(['a', 'b', 'c'])
  const to = children.map(({ run_id }) => run_id)
  const waiting = await Promise.all(children.map((child) => waits(child)))
  await Promise.all(['first', 'second', 'third'].map((word) => send(lead.caller, to, word)))
  for (const [at, child] of children.entries()) {
    expect(await isGift(child.run_id)).toBe(true)
    let heard = (await waiting[at]?.answer()) ?? ''
    while ((heard.match(/Subject/g) ?? []).length < 3) heard += (await (await next(child)).text) ?? ''
    expect([...heard.matchAll(/Subject: (\w+)/g)].map(([, word]) => word)).toEqual(['first', 'second', 'third'])
  }
})

const next = (runner: Runner) => {
  const signal = new AbortController().signal
  return engine.mail.wait(runner.caller, { call_key: randomUUID(), hold_ms: HOLD_MS, timeout_s: 60, signal })
}

/** Another server, of which this one hears nothing but that it has come. */
async function silentServer() {
  const log = pino({ level: 'silent' })
  const heard = new Promise<void>((resolve) => onTestFinished(engine.bell.hear('reconnected', () => resolve())))
  const alone = { ...database, listen: async () => async () => {} }
  const other = await openEngine({ database: alone, clock, blobs: folderBlobs(tmpdir()), log, server_id: randomUUID() })
  onTestFinished(() => other.close())
  await heard
  return other
}

/** The database, for a server whose first words to the others are lost. */
function losing(words: number): Opened['database'] {
  const query = async (text: string, values: unknown[]) => {
    if (text.includes('pg_notify') && words-- > 0) throw new Error('The connection is gone.')
    return database.pool.query(text, values)
  }
  return { ...database, pool: Object.create(database.pool, { query: { value: query } }) }
}

test('a server whose first words to the others were lost says them again, and a letter that it accepts is told', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const log = pino({ level: 'silent' })
  const knows = new Promise<void>((resolve) => onTestFinished(engine.bell.hear('reconnected', () => resolve())))
  const blobs = folderBlobs(tmpdir())
  const other = await openEngine({ database: losing(2), clock, blobs, log, server_id: randomUUID() })
  onTestFinished(() => other.close())
  const { answer } = await waits(a)
  await knows
  const rung = new Promise<void>((resolve) => onTestFinished(engine.bell.hear('mail', () => resolve())))
  await other.messages.send(lead.caller, { to: [a.run_id], subject: 'hello', body: 'text' })
  await rung
  expect(await answer()).toContain('hello')
})

test('news of a child that another server wrote, and nobody has rung for yet, come before it', async () => {
  const [lead, a, b] = (await family(['a', 'b'])) as [Runner, Runner, Runner]
  const other = await silentServer()
  const { answer } = await waits(lead)
  await other.executions.finish(a.caller, a.execution_id, { outcome: { outcome: 'SUCCEEDED' }, entries: 0 })
  await send(b.caller, [lead.run_id], 'later')
  expect(await answer()).toMatch(/has succeeded[\s\S]*later/)
  expect(await isGift(lead.run_id)).toBe(false)
})

test.each(['given as it is accepted', 'accepted by another server'])(
  'of two calls that wait the newer one has it, and the older ends with a word that it was given: %s',
  async (how) => {
    const [lead, a] = (await family(['a'])) as [Runner, Runner]
    const untilOf = async () => (await engine.runs.get(owner, a.run_id)).waiting_until
    const older = await waits(a)
    const before = await untilOf()
    const newer = await waits(a)
    await until('the newer takes its place', async () => (await untilOf()) !== before)
    if (how === 'given as it is accepted') await send(lead.caller, [a.run_id], 'once')
    else {
      const other = await silentServer()
      await other.messages.send(lead.caller, { to: [a.run_id], subject: 'once', body: 'text' })
      engine.bell.ring('mail', { execution_id: a.execution_id })
    }
    expect(await newer.answer()).toContain('once')
    expect(await older.answer()).toContain('given to you directly')
    expect(await isGift(a.run_id)).toBe(how === 'given as it is accepted')
  },
)

test('a newer call that goes without a word leaves what comes to the older', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const older = await waits(a)
  const gone = new AbortController()
  const newer = await waits(a, { signal: gone.signal })
  gone.abort()
  await newer.answer()
  await send(lead.caller, [a.run_id], 'once')
  expect(await older.answer()).toContain('once')
})

test('a call that comes as a letter is given to another takes no letter after it away from its reader', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const first = await waits(a)
  const go = await stopLog()
  const sending = send(lead.caller, [a.run_id], 'one')
  await isHeldUp('the letter')
  const second = next(a)
  await isHeldUp('the letter and the second call', 2)
  await go()
  await sending
  await send(lead.caller, [a.run_id], 'two')
  expect(await first.answer()).toMatch(/^(?!.*two)[\s\S]*one/)
  expect((await second).text).toMatch(/two|given to you directly/)
})

test('what cannot be accepted is refused, and the call goes on waiting for the next', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const { answer } = await waits(a)
  const go = await stopLog()
  await expect(send(lead.caller, [a.run_id], 'lost')).rejects.toThrow(/lock timeout/)
  await go()
  await send(lead.caller, [a.run_id], 'next')
  expect(await answer()).toMatch(/^(?!.*lost)[\s\S]*next/)
  expect(await isGift(a.run_id)).toBe(true)
})

test('a call that is told of its letter while it looks, and finds it given, has it and leaves none behind', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const looks = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  const slow = await serverThatAsks({ database, clock }, (text, ask) => {
    if (!text.includes('as stale')) return ask()
    looks.resolve()
    return go.promise.then(ask)
  })
  const signal = new AbortController().signal
  const answer = slow.mail.wait(a.caller, { call_key: randomUUID(), hold_ms: 20, timeout_s: 60, signal })
  await looks.promise
  await slow.messages.send(lead.caller, { to: [a.run_id], subject: 'About it', body: 'once' })
  go.resolve()
  expect((await answer).text).toContain('once')
  expect(await isGift(a.run_id)).toBe(true)
  expect((await slow.mail.inbox(a.caller, a.execution_id)).text).toBeNull()
})

test('a call that is to end while its letter is being accepted ends with it', async () => {
  const [lead, a, b] = (await family(['a', 'b'])) as [Runner, Runner, Runner]
  const gone = new AbortController()
  const given_up = await waits(a, { signal: gone.signal })
  const timed_out = await waits(b, { hold_ms: 500 })
  const go = await stopLog()
  const sending = send(lead.caller, [a.run_id, b.run_id])
  await isHeldUp('the letter')
  gone.abort()
  const answers = Promise.all([given_up.answer(), timed_out.answer()])
  expect(await Promise.race([answers, new Promise((resolve) => setTimeout(resolve, 700, 'waits'))])).toBe('waits')
  await go()
  await sending
  for (const text of await answers) expect(text).toContain('hello')
  expect([await isGift(a.run_id), await isGift(b.run_id)]).toEqual([true, true])
  await finish(lead)
})

test('a call that looks while it is told gives what it was told once', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const { answer } = await waits(a)
  const go = await stopLooks()
  engine.bell.ring('mail', { execution_id: a.execution_id })
  await isHeldUp('the look')
  await send(lead.caller, [a.run_id], 'once')
  await go()
  expect(await answer()).toContain('once')
  expect(await isGift(a.run_id)).toBe(true)
  expect((await engine.mail.inbox(a.caller, a.execution_id)).text).toBeNull()
})

test('what fails after letters were accepted is no refusal of them', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const { answer } = await waits(lead)
  await send(a.caller, [lead.run_id], 'read')
  await answer()
  await refuse('delete on givings')
  const word = (body: string) =>
    engine.messages.send(lead.caller, { to: [a.run_id], subject: 's', body }, { heard: performance.now() })
  await Promise.all([word('one'), word('two')])
  expect(await engine.messages.list(owner, a.run_id, { limit: 10 })).toHaveLength(2)
})

/** Each statement that does this to a row fails. */
async function refuse(what: string): Promise<void> {
  await sql`create function refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$`.execute(
    database.kysely,
  )
  await sql`create trigger refuse before ${sql.raw(what)} execute function refuse()`.execute(database.kysely)
}

test.each([
  ['before anything of them is kept', "update on runs for each row when (new.state = 'QUEUED')"],
  ['as both are kept', "insert on messages for each row when (new.subject = 'never')"],
])('a letter about to be given is given once, although the one accepted with it fails %s', async (_, what) => {
  const [lead, a, b] = (await family(['a', 'b'])) as [Runner, Runner, Runner]
  await finish(b)
  const { answer } = await waits(a)
  await refuse(what)
  const sending = [send(lead.caller, [a.run_id], 'once'), send(lead.caller, [b.run_id], 'never')]
  const sent = await Promise.allSettled(sending)
  expect(sent.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
  expect((await answer())?.match(/once/g)).toHaveLength(1)
  expect(await isGift(a.run_id)).toBe(true)
  expect((await engine.mail.inbox(a.caller, a.execution_id)).text).toBeNull()
  expect(await engine.messages.list(owner, a.run_id, { limit: 10 })).toHaveLength(1)
  expect(await engine.messages.list(owner, b.run_id, { limit: 10 })).toEqual([])
})

test.each([true, false])(
  'a letter whose sender lost its connection is given once; kept already: %s',
  async (is_kept) => {
    const [lead, a] = (await family(['a'])) as [Runner, Runner]
    let breaks = true
    const other = await serverThatAsks({ database, clock }, async (text, ask) => {
      if (!breaks || !text.includes('insert into messages')) return ask()
      breaks = false
      if (is_kept) await ask()
      throw new Error('Connection terminated unexpectedly')
    })
    const { answer } = await waits(a, { at: other })
    const send = () =>
      other.messages.send(lead.caller, { to: [a.run_id], subject: 'once', body: 'text' }, { key: 'the same' })
    await expect(send()).rejects.toThrow('terminated')
    const sent = await send()
    // The call looks by itself now and then; this only spares the time.
    other.bell.ring('mail', { execution_id: a.execution_id })
    expect((await answer())?.match(/once/g)).toHaveLength(1)
    expect(await isGift(a.run_id)).toBe(true)
    expect((await other.mail.inbox(a.caller, a.execution_id)).text).toBeNull()
    const headers = await engine.messages.list(owner, a.run_id, { limit: 10 })
    expect(headers.map(({ message_id }) => message_id)).toEqual(sent.message_ids)
  },
)

test('an execution that has ended writes no letters and starts no children, whoever still believes its token', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  await finish(a)
  await expect(send(a.caller, [lead.run_id])).rejects.toMatchObject({ code: 'conflict' })
  await expect(spawn(a, ['late'])).resolves.toMatchObject([{ fault: { code: 'conflict' } }])
  await send(lead.caller, [a.run_id])
  await expect(send(a.caller, [lead.run_id])).rejects.toMatchObject({ code: 'conflict' })
  const [again] = await beginAll()
  await expect(send(a.caller, [lead.run_id])).rejects.toMatchObject({ code: 'conflict' })
  if (again) await send(again.caller, [lead.run_id])
  expect(await engine.messages.list(owner, lead.run_id, { limit: 10 })).toHaveLength(1)
})

test('a call that is given up as it looks leaves what it found to whoever else is told of mail', async () => {
  const [lead, a] = (await family(['a'])) as [Runner, Runner]
  const other = await silentServer()
  const gone = new AbortController()
  const { answer } = await waits(a, { signal: gone.signal })
  await other.messages.send(lead.caller, { to: [a.run_id], subject: 'hello', body: 'text' })
  const go = await stopLooks()
  engine.bell.ring('mail', { execution_id: a.execution_id })
  await isHeldUp('the look')
  gone.abort()
  const rung: string[] = []
  onTestFinished(engine.bell.hear('mail', ({ execution_id }) => void rung.push(execution_id)))
  await go()
  expect(await answer()).toBeNull()
  expect(rung).toEqual([a.execution_id])
  expect((await engine.mail.inbox(a.caller, a.execution_id)).text).toContain('hello')
})
