/**
 * Messages: accepted by a row in each recipient's inbox, in one transaction with the event that tells of it and, where
 * the recipient has ended, with its waking.
 *
 * Every writer locks the runs concerned in the order of their ids: an end and a message that come together are
 * decided by the recipient's row, so that no message is left behind by a run that ends.
 */
import { createHash, randomUUID } from 'node:crypto'
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  AgentConfig,
  Fault,
  harnessOf,
  type Message,
  type MessageHeader,
  type RunMode,
  type SendMessage,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { last } from '../db/prepared.ts'
import type { Messages } from '../db/tables.ts'
import { arrayOf } from './array-of.ts'
import { hasNews } from './attention.ts'
import { batched } from './batch.ts'
import { isOver } from './births.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { giftOf, READ, type Reader, reserve } from './gifts.ts'
import { givings } from './givings.ts'
import { type Kept, keepGift, keeping, keepLetter, newsOf, nothingKept } from './letters.ts'
import type { Listeners } from './listeners.ts'
import { logs, type NewEvent } from './log.ts'
import { runNotFound } from './runs.ts'
import { checkStorm, GUARDED, type Guarded, type Storm, stopTree } from './storms.ts'
import { afresh, checkCurrent, followIn } from './transitions.ts'
import { isVisible, visibleTo } from './visible.ts'

export function messagesEngine(room: Room, listeners: Listeners) {
  const { clock, bell } = room
  const db = room.database.kysely

  const sendOne = batched({
    most: SENDS_MAX,
    keyOf: ({ place }: Sending) => place,
    run: (all) => sendAll(room, listeners, all),
  })

  async function send(
    caller: Caller,
    body: SendMessage,
    options: { key?: string | undefined; mode?: RunMode | undefined; heard?: number } = {},
  ) {
    const sender_run_id = senderOf(caller, body)
    const to = [...new Set(body.to.map((run_id) => run_id.toLowerCase()))]
    if (sender_run_id !== null && to.includes(sender_run_id)) {
      throw new Fault('invalid_request', 'A run cannot send a message to itself.', {
        errors: [{ pointer: '/to', detail: 'names the sender' }],
      })
    }
    const sending: Sending = { place: randomUUID(), caller, sender_run_id, to, body, ...options }
    const sent = await sendOne(sending).catch((error: unknown) => {
      // The same call at the same time was accepted first: it is found now.
      if (isTwice(error)) return sendOne({ ...sending, place: randomUUID() })
      throw error
    })
    if ('fault' in sent) throw sent.fault
    if ('storm' in sent) throw await stopTree(room, sent.storm)
    for (const execution_id of sent.reached) bell.ring('mail', { execution_id })
    if (sent.woken > 0) bell.ring('queue', {})
    const { message_ids } = sent
    // One of each place of the request's list, also where that names a run twice.
    return { message_ids: body.to.map((run_id) => message_ids[to.indexOf(run_id.toLowerCase())] ?? '') }
  }

  async function visibleMessage(caller: Caller, message_id: string): Promise<Selectable<Messages>> {
    let query = db
      .selectFrom('messages')
      .innerJoin('runs', 'runs.run_id', 'messages.recipient_run_id')
      .selectAll('messages')
      .where('message_id', '=', message_id)
      .where(visibleTo(caller, 'runs'))
    if (caller.kind === 'execution') {
      query = query.where((m) =>
        m.or([m('recipient_run_id', '=', caller.run_id), m('sender_run_id', '=', caller.run_id)]),
      )
    }
    const message = await query.executeTakeFirst()
    if (!message) throw new Fault('resource_not_found', `There is no message ${message_id}.`)
    return message
  }

  return {
    send,

    async list(
      caller: Caller,
      run_id: string,
      query: { limit: number; unread?: boolean | undefined; since?: string | undefined },
    ): Promise<MessageHeader[]> {
      const run = await db
        .selectFrom('runs')
        .select('run_id')
        .where('run_id', '=', run_id)
        .where(visibleTo(caller, 'runs'))
        .executeTakeFirst()
      if (!run || (caller.kind === 'execution' && run.run_id !== caller.run_id)) throw runNotFound(run_id)
      let rows = db
        .selectFrom('messages')
        .selectAll()
        .where('recipient_run_id', '=', run_id)
        .orderBy('number')
        .limit(query.limit)
      if (query.unread) rows = rows.where('read_at', 'is', null)
      if (query.since !== undefined) rows = rows.where('sent_at', '>=', new Date(query.since))
      return (await rows.execute()).map(renderHeader)
    },

    async read(caller: Caller, message_id: string): Promise<Message> {
      const message = await visibleMessage(caller, message_id)
      const own = caller.kind !== 'execution' || message.recipient_run_id === caller.run_id
      const read_at = message.read_at ?? (own ? clock.now() : null)
      if (own && message.read_at === null) {
        await db
          .updateTable('messages')
          .set({ read_at })
          .where('message_id', '=', message_id)
          .where('read_at', 'is', null)
          .execute()
      }
      return { ...renderHeader({ ...message, read_at }), body: message.body }
    },

    async delivered(caller: Caller, message_id: string): Promise<Record<string, never>> {
      const message = await visibleMessage(caller, message_id)
      if (caller.kind === 'execution' && message.recipient_run_id !== caller.run_id)
        throw new Fault('not_authorized', 'Only the run that a message is to says that it was delivered.')
      const run_id = message.recipient_run_id
      await markDelivered(db, { run_id, message_ids: [message_id], now: clock.now(), claimed_by: null })
      return {}
    },
  }
}

/** `claimed_by`: the execution whose runner takes them for its agent. */
type Delivery = { run_id: string; message_ids: string[]; now: Date; claimed_by: string | null }

/** Marks once, and takes off the run's count what was marked and not given by a tool before. One statement. */
export async function markDelivered(db: Kysely<Tables>, delivery: Delivery): Promise<void> {
  const { run_id, message_ids, now, claimed_by } = delivery
  if (message_ids.length === 0) return
  await sql`
    with held as (select run_id from runs where run_id = ${run_id} for no key update),
    marked as (
      update messages set delivered_at = ${now}, claimed_by = ${claimed_by} from held
      where recipient_run_id = held.run_id and message_id = any(${message_ids}::uuid[]) and delivered_at is null
      returning message_id, hop, number
    )
    update runs set undelivered = runs.undelivered - more.counted, hop = greatest(runs.hop, more.hop),
      cause_id = (select message_id from marked order by number desc limit 1)
    from (
      select count(*)::int as count, max(hop) as hop, count(*) filter (where not exists (
        select from givings g where g.run_id = ${run_id} and marked.message_id = any(g.message_ids)))::int as counted
      from marked
    ) as more
    where runs.run_id = ${run_id} and more.count > 0`.execute(db)
}

export function renderHeader(message: Selectable<Messages>): MessageHeader {
  return {
    message_id: message.message_id,
    sender_run_id: message.sender_run_id ?? '',
    subject: message.subject,
    sent_at: message.sent_at.toISOString(),
    delivered_at: message.delivered_at?.toISOString() ?? null,
    read_at: message.read_at?.toISOString() ?? null,
  }
}

function senderOf(caller: Caller, body: SendMessage): string | null {
  if (caller.kind === 'worker') throw new Fault('not_authorized', "A worker's key sends no messages.")
  if (caller.kind === 'user') return body.sender_run_id?.toLowerCase() ?? null
  if (body.sender_run_id != null && body.sender_run_id.toLowerCase() !== caller.run_id) {
    throw new Fault('not_authorized', 'A run sends messages in its own name alone.')
  }
  return caller.run_id
}

/** In whose name keys are kept: the run that sends, else the person. */
const nameOf = (caller: Caller, sender_run_id: string | null): string | null =>
  sender_run_id ?? (caller.kind === 'user' ? caller.user_id : null)

type Sending = {
  /** Its own, so that sendings are accepted together. */
  place: string
  caller: Caller
  sender_run_id: string | null
  to: string[]
  body: SendMessage
  key?: string | undefined
  /** The agents are asked to plan or orchestrate from now on. */
  mode?: RunMode | undefined
  /** An agent's own call, made then by `performance.now()`: it has read what had been sent to it. */
  heard?: number
}

/** What a send key stands for: another of these under the same key is another message. */
const hashOfSending = ({ to, body: { subject, body, urgent = false }, mode }: Sending): string =>
  createHash('sha256')
    .update(JSON.stringify([to, subject, body, urgent, mode ?? null]))
    .digest('hex')

type Sent =
  | { message_ids: string[]; woken: number; reached: string[] }
  | { storm: Storm }
  /** Refused; the others of the batch are accepted all the same. */
  | { fault: Fault }

/** Sendings of one transaction. */
const SENDS_MAX = 50

/** In the order in which they came: a tree's messages wait for its root's row once, not one after the other. */
async function sendAll(room: Room, listeners: Listeners, all: Sending[]): Promise<Sent[]> {
  const kept = nothingKept()
  const write = room.database.kysely.transaction()
  const { sent, events, unconfirmed } = await write
    .execute(async (write) => {
      const { sent, unconfirmed } = await acceptAll(room, write, { all, kept, listeners })
      const events = newsOf(kept)
      if (events.length > 0) await last(write, keeping(kept, sql`, ${logs(events, room.clock.now())}`))
      return { sent, events, unconfirmed }
    })
    .catch((error: unknown) => {
      for (const { reserved } of kept.gifts) reserved.release()
      throw error
    })
  const { confirm, giveBack } = givings(room)
  const began = new Map(
    all.flatMap(({ caller, heard }) =>
      caller.kind === 'execution' && heard !== undefined ? [[caller.execution_id, heard] as const] : [],
    ),
  )
  const missed = kept.gifts.filter(({ giving, reserved }) => !reserved.tell(giving.text))
  if (events.length > 0) room.bell.ring('log', {})
  const after = [
    ...unconfirmed.map((execution_id) => confirm(execution_id, began.get(execution_id) ?? 0)),
    ...missed.map((gift) => giveBack(gift.giving.execution_id, gift.giving.call_key)),
  ]
  // All of it is accepted: to refuse it now would have it sent twice.
  for (const one of await Promise.allSettled<unknown>(after))
    if (one.status === 'rejected') room.log.warn({ err: one.reason }, 'messages.not_confirmed')
  return sent
}

/** A person's word to runs whose rows, and their roots', are locked already. */
export async function sendIn(room: Room, write: Kysely<Tables>, events: NewEvent[], word: Word): Promise<void> {
  const { caller, to, subject, body } = word
  const sending = {
    place: randomUUID(),
    caller,
    sender_run_id: null,
    to,
    body: { to, subject, body },
  }
  const kept = nothingKept()
  const { sent } = await acceptAll(room, write, { all: [sending], kept, listeners: null })
  if (sent[0] !== undefined && 'fault' in sent[0]) throw sent[0].fault
  if (kept.letters.length > 0) await keeping(kept).execute(write)
  events.push(...newsOf(kept))
}

type Word = { caller: UserCaller; to: string[]; subject: string; body: string }

type Accepting = { all: Sending[]; kept: Kept; listeners: Listeners | null }

/** Judges each; what is to be kept of them is not in the database yet. */
async function acceptAll(room: Room, write: Kysely<Tables>, accepting: Accepting): Promise<Accepted> {
  const { family, before, unconfirmed } = await lockRuns(write, accepting)
  const sent: Sent[] = []
  for (const sending of accepting.all) {
    try {
      sent.push(before.get(sending.place) ?? (await accept(room, write, { sending, family, ...accepting })))
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown
      sent.push({ fault: thrown })
    }
  }
  return { sent, unconfirmed }
}

/** `unconfirmed`: executions that have read an answer of which that is not in the database yet. */
type Accepted = { sent: Sent[]; unconfirmed: string[] }

type Family = Map<string, Reader>
type Locked = { family: Family; before: Map<string, Sent>; unconfirmed: string[] }

/**
 * The runs concerned and the roots of their trees, locked in the order of their ids, each with what its team allows;
 * and what was sent by the same calls before.
 */
async function lockRuns(write: Kysely<Tables>, { all, listeners }: Accepting): Promise<Locked> {
  const named = all.flatMap(({ caller, to, sender_run_id }) =>
    [...to, ...(sender_run_id === null ? [] : [sender_run_id])].map((run_id) => ({ run_id, team_id: caller.team_id })),
  )
  const keys = all.flatMap(({ place, caller, sender_run_id, to, key }) =>
    key === undefined ? [] : to.map((_, at) => ({ place, sender: nameOf(caller, sender_run_id), key: `${key}#${at}` })),
  )
  const heard = all.flatMap(({ caller, heard }) =>
    heard !== undefined && caller.kind === 'execution' ? [caller.execution_id] : [],
  )
  const listening = [...new Set(named.map(({ run_id }) => run_id))].flatMap((run_id) => {
    const quiet = listeners?.quiet(run_id)
    return quiet ? [{ run_id, since: quiet.last_event_sequence ?? 0 }] : []
  })
  const { rows } = await sql<Reader & { sent: Twin[] | null; unconfirmed: string[] | null }>`
    with named as (
      select distinct run_id, team_id
      from unnest(${arrayOf('uuid', named, (one) => one.run_id)}, ${arrayOf('uuid', named, (one) => one.team_id)})
        as n(run_id, team_id)
    ), mine as (
      select r.run_id, r.root_run_id from named n join runs r using (run_id, team_id)
    ), sent as (
      select jsonb_agg(jsonb_build_object('place', k.place, 'key', k.key, 'message_id', m.message_id,
        'hash', m.send_hash)) as sent
      from unnest(${arrayOf('text', keys, (one) => one.place)}, ${arrayOf('uuid', keys, (one) => one.sender)},
        ${arrayOf('text', keys, (one) => one.key)}) as k(place, sender, key)
        join messages m on coalesce(m.sender_run_id, m.sender_user_id) = k.sender and m.send_key = k.key
    ), unread as (
      select array_agg(execution_id::text) as unconfirmed from givings
      where execution_id = any(${arrayOf('uuid', heard, (id) => id)}::uuid[])
    ), quiet as materialized (
      select l.run_id from unnest(${arrayOf('uuid', listening, (one) => one.run_id)},
        ${arrayOf('int8', listening, (one) => one.since)}) as l(run_id, since)
      where not ${hasNews(sql`l.run_id`, sql`l.since`)}
    )
    select ${sql.join([...GUARDED, ...READ].map((column) => sql.ref(`r.${column}`)))}, t.max_hops,
      t.max_tree_messages, t.max_tree_wakes, t.max_tree_tokens, sent.sent, unread.unconfirmed,
      (select value from event_counter) as up_to, exists (select from quiet q where q.run_id = r.run_id) as is_quiet
    from runs r join teams t on t.team_id = r.team_id cross join sent cross join unread
    where r.run_id in (select run_id from mine union select root_run_id from mine)
    order by r.run_id for no key update of r`.execute(write)
  const before = new Map<string, Sent>()
  for (const sending of all) {
    const own = (rows[0]?.sent ?? []).filter((one) => one.place === sending.place)
    if (own.length > 0) before.set(sending.place, sentBefore(sending, own))
  }
  const family = new Map(rows.map(({ sent: _, unconfirmed: __, ...run }) => [run.run_id, run]))
  return { family, before, unconfirmed: rows[0]?.unconfirmed ?? [] }
}

/** A message that was sent with the same key; null: before such hashes were kept. */
type Twin = { place: string; key: string; message_id: string; hash: string | null }

function sentBefore(sending: Sending, twins: Twin[]): Sent {
  const { to, key } = sending
  const hash = hashOfSending(sending)
  if (twins.some((twin) => twin.hash !== null && twin.hash !== hash)) {
    const said = `The Idempotency-Key ${key} was used for a different message. Use a new key.`
    return { fault: new Fault('operation_not_supported', said) }
  }
  const message_ids = to.map((_, at) => twins.find((twin) => twin.key === `${key}#${at}`)?.message_id ?? '')
  return { message_ids, woken: 0, reached: [] }
}

const UNIQUE_VIOLATION = '23505'
const isTwice = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === UNIQUE_VIOLATION

function checkRecipient(
  run: Reader | undefined,
  { run_id, sender, caller }: { run_id: string; sender: Reader | null; caller: Caller },
): Reader {
  // Another tree's runs are as if they were not there for an agent.
  if (!run || (caller.kind === 'execution' && run.root_run_id !== sender?.root_run_id)) throw runNotFound(run_id)
  if (!isOver(run.state)) return run
  if (harnessOf(AgentConfig.parse(run.config)) === 'command') {
    throw new Fault('operation_not_supported', `Run ${run_id} was a plain command and has ended; it cannot be woken.`)
  }
  if (run.execution_location === 'LOCAL' || run.placement === 'parent') {
    throw new Fault(
      'operation_not_supported',
      `Run ${run_id} has ended, and the place where it ran is not a worker's; it cannot be woken.`,
    )
  }
  return run
}

/** PostgreSQL's text has neither NUL nor lone surrogates. */
const storable = (text: string): string => text.toWellFormed().replaceAll('\0', '\u{fffd}')

/** Adds its letters to what is kept together; the rows in memory stay as the database's will be. */
async function accept(
  room: Room,
  write: Kysely<Tables>,
  { sending, family, kept, listeners }: Omit<Accepting, 'all'> & { sending: Sending; family: Family },
): Promise<Sent> {
  const { caller, sender_run_id, to, body, key, mode } = sending
  const own = (run_id: string) => {
    const run = family.get(run_id)
    return run !== undefined && isVisible(caller, run) ? run : undefined
  }
  const sender = sender_run_id === null ? null : own(sender_run_id)
  if (sender === undefined) throw runNotFound(sender_run_id ?? '')
  if (sender !== null) checkCurrent(caller, sender)
  const recipients = to.map((run_id) => checkRecipient(own(run_id), { run_id, sender, caller }))
  await checkNoBatch(write, recipients)
  const roots = [...new Set(recipients.map((run) => run.root_run_id))].flatMap((run_id) => family.get(run_id) ?? [])
  const storm = await checkStorm(write, { roots, recipients, sender })
  if (storm) return { storm }
  const sender_name = sender === null ? null : (AgentConfig.parse(sender.config).name ?? sender.title)
  const now = room.clock.now()
  const woken = recipients.filter((run) => isOver(run.state))
  const reached: string[] = []
  const message_ids: string[] = []
  for (const [at, run] of recipients.entries()) {
    const letter = {
      message_id: randomUUID(),
      team_id: run.team_id,
      sender_run_id: sender?.run_id ?? null,
      sender_user_id: sender === null && caller.kind === 'user' ? caller.user_id : null,
      sender_identity_uid: sender === null && caller.kind === 'user' ? caller.identity_uid : null,
      recipient_run_id: run.run_id,
      number: run.messages + 1,
      subject: storable(body.subject),
      body: storable(body.body),
      urgent: body.urgent ?? false,
      hop: sender === null ? 0 : sender.hop + 1,
      cause_id: sender?.cause_id ?? null,
      send_key: key === undefined ? null : `${key}#${at}`,
      send_hash: key === undefined ? null : hashOfSending(sending),
      mode: mode ?? null,
      sent_at: now,
    }
    const reserved = letter.sender_identity_uid === null ? reserve(listeners, run) : null
    if (reserved !== null) keepGift(kept, giftOf(reserved, run, { ...letter, sender_name }), letter)
    else if (run.execution_id !== null && !isOver(run.state)) reached.push(run.execution_id)
    run.messages += 1
    keepLetter(kept, letter, run, family.get(run.root_run_id))
    message_ids.push(letter.message_id)
  }
  if (mode !== undefined) await changeMode(write, recipients, mode)
  for (const run of woken) await wake(write, run, now)
  return { message_ids, woken: woken.length, reached }
}

/** A batch has no agent that could be told something; only what never had an execution may be one. */
async function checkNoBatch(write: Kysely<Tables>, recipients: Guarded[]): Promise<void> {
  const run_ids = recipients.filter((run) => run.execution_id === null).map((run) => run.run_id)
  if (run_ids.length === 0) return
  const batch = await write.selectFrom('batches').select('run_id').where('run_id', 'in', run_ids).executeTakeFirst()
  if (!batch) return
  throw new Fault(
    'operation_not_supported',
    `Run ${batch.run_id} is a batch, which has no agent of its own; send the message to one of its tasks.`,
  )
}

async function changeMode(write: Kysely<Tables>, recipients: Guarded[], mode: RunMode): Promise<void> {
  const run_ids = recipients.map((run) => run.run_id)
  await write.updateTable('runs').set({ mode, approved_plan: null }).where('run_id', 'in', run_ids).execute()
}

/** A run that has ended begins another execution, whose first prompt is its inbox. */
async function wake(write: Kysely<Tables>, run: Guarded, now: Date): Promise<void> {
  await followIn(write, 'again', { run_id: run.run_id, now, set: afresh(now) })
  run.state = 'QUEUED'
}
