/**
 * Messages: accepted by a row in each recipient's inbox, in one transaction with the event that tells of it and, where
 * the recipient has ended, with its waking.
 *
 * Every writer locks the runs concerned in the order of their ids: an end and a message that come together are
 * decided by the recipient's row, so that no message is left behind by a run that ends.
 */
import { randomUUID } from 'node:crypto'
import type { Insertable, Kysely, Selectable } from 'kysely'
import { sql } from 'kysely'
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
import type { Messages, Runs } from '../db/tables.ts'
import { isOver } from './births.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { logged, type NewEvent } from './log.ts'
import { runNotFound } from './runs.ts'
import { checkStorm, stopTree } from './storms.ts'
import { afresh, followIn } from './transitions.ts'

export function messagesEngine(room: Room) {
  const { clock, bell } = room
  const db = room.database.kysely

  async function send(
    caller: Caller,
    body: SendMessage,
    options: { key?: string | undefined; mode?: RunMode | undefined } = {},
  ) {
    const sender_run_id = senderOf(caller, body)
    const to = [...new Set(body.to.map((run_id) => run_id.toLowerCase()))]
    if (sender_run_id !== null && to.includes(sender_run_id)) {
      throw new Fault('invalid_request', 'A run cannot send a message to itself.', {
        errors: [{ pointer: '/to', detail: 'names the sender' }],
      })
    }
    const sent = await logged(room, async (write, events) => {
      const family = await lockRuns(write, caller, [...to, ...(sender_run_id === null ? [] : [sender_run_id])])
      const repeated =
        options.key === undefined ? null : await findSent(write, nameOf(caller, sender_run_id), options.key, to.length)
      if (repeated) return { message_ids: repeated, woken: [], reached: [] }
      const sender = sender_run_id === null ? null : (family.get(sender_run_id) ?? null)
      for (const run_id of to) checkRecipient(family.get(run_id), run_id, sender, caller)
      const recipients = to.map((run_id) => family.get(run_id) as Selectable<Runs>)
      await checkNoBatch(write, recipients)
      const storm = await checkStorm(write, recipients, sender)
      if (storm) return { storm }
      const user_id = caller.kind === 'user' ? caller.user_id : null
      return accept(room, write, events, { body, sender, user_id, recipients, key: options.key, mode: options.mode })
    })
    if ('storm' in sent) throw await stopTree(room, sent.storm)
    for (const execution_id of sent.reached) bell.ring('control', { execution_id })
    if (sent.woken.length > 0) bell.ring('queue', {})
    return { message_ids: sent.message_ids }
  }

  async function visibleMessage(caller: Caller, message_id: string): Promise<Selectable<Messages>> {
    let query = db
      .selectFrom('messages')
      .selectAll()
      .where('message_id', '=', message_id)
      .where('team_id', '=', caller.team_id)
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
        .where('team_id', '=', caller.team_id)
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
      await markDelivered(db, message.recipient_run_id, [message_id], clock.now())
      return {}
    },
  }
}

/** Marks once, and takes off the run's count what was marked and not given by a tool before. One statement. */
export async function markDelivered(
  db: Kysely<Tables>,
  run_id: string,
  message_ids: string[],
  now: Date,
): Promise<void> {
  if (message_ids.length === 0) return
  await sql`
    with held as (select run_id from runs where run_id = ${run_id} for no key update),
    marked as (
      update messages set delivered_at = ${now} from held
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
    sender_run_id: message.sender_run_id,
    subject: message.subject,
    sent_at: message.sent_at.toISOString(),
    delivered_at: message.delivered_at?.toISOString() ?? null,
    read_at: message.read_at?.toISOString() ?? null,
  }
}

function senderOf(caller: Caller, body: SendMessage): string | null {
  if (caller.kind === 'worker') throw new Fault('not_authorized', "A worker's key sends no messages.")
  if (caller.kind === 'user') return body.sender_run_id?.toLowerCase() ?? null
  if (body.sender_run_id !== undefined && body.sender_run_id.toLowerCase() !== caller.run_id) {
    throw new Fault('not_authorized', 'A run sends messages in its own name alone.')
  }
  return caller.run_id
}

/** In whose name keys are kept: the run that sends, else the person. */
const nameOf = (caller: Caller, sender_run_id: string | null): string | null =>
  sender_run_id ?? (caller.kind === 'user' ? caller.user_id : null)

/** The runs concerned and the roots of their trees, locked in the order of their ids. */
async function lockRuns(
  write: Kysely<Tables>,
  caller: Caller,
  run_ids: string[],
): Promise<Map<string, Selectable<Runs>>> {
  const { rows } = await sql<Selectable<Runs>>`
    select * from runs
    where team_id = ${caller.team_id} and (run_id = any(${run_ids}::uuid[])
      or run_id in (
        select root_run_id from runs where run_id = any(${run_ids}::uuid[]) and team_id = ${caller.team_id}
      ))
    order by run_id for no key update`.execute(write)
  return new Map(rows.map((run) => [run.run_id, run]))
}

async function findSent(
  write: Kysely<Tables>,
  sender: string | null,
  key: string,
  count: number,
): Promise<string[] | null> {
  if (sender === null) return null
  const keys = Array.from({ length: count }, (_, at) => `${key}#${at}`)
  const rows = await write
    .selectFrom('messages')
    .select(['message_id', 'send_key'])
    .where(sql<boolean>`coalesce(sender_run_id, sender_user_id) = ${sender}`)
    .where('send_key', 'in', keys)
    .execute()
  if (rows.length === 0) return null
  return keys.map((one) => rows.find((row) => row.send_key === one)?.message_id ?? '')
}

function checkRecipient(
  run: Selectable<Runs> | undefined,
  run_id: string,
  sender: Selectable<Runs> | null,
  caller: Caller,
): void {
  // Another tree's runs are as if they were not there for an agent.
  if (!run || (caller.kind === 'execution' && run.root_run_id !== sender?.root_run_id)) throw runNotFound(run_id)
  if (!isOver(run.state)) return
  if (harnessOf(AgentConfig.parse(run.config)) === 'command') {
    throw new Fault('operation_not_supported', `Run ${run_id} was a plain command and has ended; it cannot be woken.`)
  }
  if (run.execution_location === 'LOCAL' || run.placement === 'parent') {
    throw new Fault(
      'operation_not_supported',
      `Run ${run_id} has ended, and the place where it ran is not a worker's; it cannot be woken.`,
    )
  }
}

/** A batch has no agent that could be told something; only what never had an execution may be one. */
async function checkNoBatch(write: Kysely<Tables>, recipients: Selectable<Runs>[]): Promise<void> {
  const run_ids = recipients.filter((run) => run.execution_id === null).map((run) => run.run_id)
  if (run_ids.length === 0) return
  const batch = await write.selectFrom('batches').select('run_id').where('run_id', 'in', run_ids).executeTakeFirst()
  if (!batch) return
  throw new Fault(
    'operation_not_supported',
    `Run ${batch.run_id} is a batch, which has no agent of its own; send the message to one of its tasks.`,
  )
}

type Letter = Insertable<Messages>

/** PostgreSQL's text has neither NUL nor lone surrogates. */
const storable = (text: string): string => text.toWellFormed().replaceAll('\0', '\u{fffd}')

type Accepting = {
  body: SendMessage
  sender: Selectable<Runs> | null
  user_id: string | null
  recipients: Selectable<Runs>[]
  key: string | undefined
  /** The agent is asked to plan or orchestrate from now on. */
  mode?: RunMode | undefined
}

export async function accept(
  room: Room,
  write: Kysely<Tables>,
  events: NewEvent[],
  { body, sender, user_id, recipients, key, mode }: Accepting,
) {
  const now = room.clock.now()
  const hop = sender === null ? 0 : sender.hop + 1
  const rows = recipients.map((run, at) => ({
    message_id: randomUUID(),
    team_id: run.team_id,
    sender_run_id: sender?.run_id ?? null,
    sender_user_id: sender === null ? user_id : null,
    recipient_run_id: run.run_id,
    number: run.messages + 1,
    subject: storable(body.subject),
    body: storable(body.body),
    urgent: body.urgent ?? false,
    hop,
    cause_id: sender?.cause_id ?? null,
    send_key: key === undefined ? null : `${key}#${at}`,
    mode: mode ?? null,
    sent_at: now,
  }))
  const woken = recipients.filter((run) => isOver(run.state))
  await keep(write, rows, recipients, woken)
  if (mode !== undefined) await changeMode(write, recipients, mode)
  for (const run of woken) await wake(write, run, now)
  for (const row of rows) {
    events.push({
      team_id: row.team_id,
      event_type: 'new_message',
      run_id: row.recipient_run_id,
      ref_id: row.message_id,
    })
  }
  const reached = recipients.flatMap((run) =>
    run.execution_id !== null && !isOver(run.state) ? [run.execution_id] : [],
  )
  return { message_ids: rows.map((row) => row.message_id), woken: woken.map((run) => run.run_id), reached }
}

/** A run that has ended begins another execution, whose first prompt is its inbox. */
async function wake(write: Kysely<Tables>, run: Selectable<Runs>, now: Date): Promise<void> {
  await followIn(write, 'again', {
    run_id: run.run_id,
    now,
    set: afresh(now),
  })
}

async function changeMode(write: Kysely<Tables>, recipients: Selectable<Runs>[], mode: RunMode): Promise<void> {
  const run_ids = recipients.map((run) => run.run_id)
  await write.updateTable('runs').set({ mode, approved_plan: null }).where('run_id', 'in', run_ids).execute()
}

/** The letters, and the counts of those who get them and of their trees: one statement, for a row may be both. */
async function keep(
  write: Kysely<Tables>,
  letters: Letter[],
  recipients: Selectable<Runs>[],
  woken: Selectable<Runs>[],
): Promise<void> {
  const counts = new Map<string, { run_id: string; own: number; sent: number; wakes: number }>()
  const countOf = (run_id: string) => {
    const count = counts.get(run_id) ?? { run_id, own: 0, sent: 0, wakes: 0 }
    counts.set(run_id, count)
    return count
  }
  for (const run of recipients) {
    countOf(run.run_id).own += 1
    countOf(run.root_run_id).sent += 1
  }
  for (const run of woken) countOf(run.root_run_id).wakes += 1
  await sql`
    with kept as (
      insert into messages (message_id, team_id, sender_run_id, sender_user_id, recipient_run_id, number, subject, body,
        urgent, hop, cause_id, send_key, mode, sent_at)
      select m.message_id, m.team_id, m.sender_run_id, m.sender_user_id, m.recipient_run_id, m.number, m.subject,
        m.body, m.urgent, m.hop, m.cause_id, m.send_key, m.mode, m.sent_at
      from jsonb_populate_recordset(null::messages, ${JSON.stringify(letters)}::jsonb) as m
    )
    update runs set messages = runs.messages + c.own, undelivered = runs.undelivered + c.own,
      tree_messages = runs.tree_messages + c.sent, tree_wakes = runs.tree_wakes + c.wakes
    from jsonb_to_recordset(${JSON.stringify([...counts.values()])}::jsonb)
      as c(run_id uuid, own int, sent int, wakes int)
    where runs.run_id = c.run_id`.execute(write)
}
