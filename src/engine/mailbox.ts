/** The messages to and from a run, as a person looks at them: looking marks nothing. */
import { type Kysely, sql } from 'kysely'
import { Fault, type Letter, type Message } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { creatorOf } from './makers.ts'
import { renderHeader } from './messages.ts'
import { checkVisible } from './visible.ts'

export function mailboxEngine(room: Room) {
  const db = room.database.kysely

  return {
    async list(
      caller: Caller,
      run_id: string,
      query: { limit: number; before?: string | undefined },
    ): Promise<{ messages: Letter[]; has_earlier: boolean }> {
      await checkVisible(room, caller, [run_id])
      const start = query.before === undefined ? undefined : await find(db, run_id, query.before)
      let rows = selectMessages(db, run_id)
      if (start)
        rows = rows.where(sql<boolean>`(m.sent_at, m.message_id) < (${start.sent_at}, ${start.message_id}::uuid)`)
      const found = await rows
        .orderBy('m.sent_at', 'desc')
        .orderBy('m.message_id', 'desc')
        .limit(query.limit + 1)
        .execute()
      const messages = found.slice(0, query.limit).reverse()
      return {
        messages: messages.map((row) => ({
          ...renderHeader(row),
          sender_run_id: row.sender_run_id,
          recipient_run_id: row.recipient_run_id,
          sender_name: row.sender_name ?? 'Unknown',
          sender: personBehind(row),
          recipient_name: row.recipient_name ?? 'Unknown',
          urgent: row.urgent,
        })),
        has_earlier: found.length > query.limit,
      }
    },

    async look(caller: Caller, asked: { run_id: string; message_id: string }): Promise<Message> {
      await checkVisible(room, caller, [asked.run_id])
      const message = await find(db, asked.run_id, asked.message_id)
      return { ...renderHeader(message), body: message.body }
    },
  }
}

function selectMessages(db: Kysely<Tables>, run_id: string) {
  return db
    .selectFrom('messages as m')
    .leftJoin('runs as sender', 'sender.run_id', 'm.sender_run_id')
    .leftJoin('runs as recipient', 'recipient.run_id', 'm.recipient_run_id')
    .leftJoin('users as person', 'person.user_id', 'm.sender_user_id')
    .leftJoin('identities as agent', 'agent.identity_uid', 'm.sender_identity_uid')
    .where((m) => m.or([m('m.recipient_run_id', '=', run_id), m('m.sender_run_id', '=', run_id)]))
    .selectAll('m')
    .select([
      sql<string | null>`coalesce(sender.config->>'name', sender.title, agent.name, person.display_name)`.as(
        'sender_name',
      ),
      'person.display_name as person_name',
      'person.email as person_email',
      'agent.name as agent_name',
      sql<string | null>`coalesce(recipient.config->>'name', recipient.title)`.as('recipient_name'),
    ])
}

type Sent = {
  sender_user_id: string | null
  sender_identity_uid: string | null
  person_name: string | null
  person_email: string | null
  agent_name: string | null
}

/** Null: a run sent it. */
function personBehind(row: Sent): Letter['sender'] {
  if (row.sender_user_id === null) return null
  return creatorOf({
    creator_id: row.sender_user_id,
    display_name: row.person_name ?? '',
    email: row.person_email,
    creator_identity_uid: row.sender_identity_uid,
    creator_identity_name: row.agent_name,
  })
}

async function find(db: Kysely<Tables>, run_id: string, message_id: string) {
  const message = await selectMessages(db, run_id).where('m.message_id', '=', message_id).executeTakeFirst()
  if (!message) throw new Fault('resource_not_found', `Run ${run_id} has no message ${message_id}.`)
  return message
}
