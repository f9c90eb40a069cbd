/** Letters: how they read for an agent, and how those that are accepted together are kept, in one statement. */
import { type Insertable, type RawBuilder, sql } from 'kysely'
import { RunMode } from '../contract/index.ts'
import type { Messages } from '../db/tables.ts'
import { isOver } from './births.ts'
import type { Gift } from './gifts.ts'
import type { NewEvent } from './log.ts'
import { modeWords } from './mode-words.ts'
import type { Guarded } from './storms.ts'

export type Letter = Insertable<Messages> & { message_id: string }

type Count = {
  run_id: string
  own: number
  given: number
  sent: number
  wakes: number
  hop?: number
  cause_id?: string
}

/** What a transaction keeps: the letters, and what they change in the rows of those who get them and of their trees. */
export type Kept = { letters: Letter[]; gifts: Gift[]; counts: Map<string, Count> }

export const nothingKept = (): Kept => ({ letters: [], gifts: [], counts: new Map() })

/** `sender_name` null: a person's. */
export type Shown = {
  urgent: boolean
  sender_run_id: string | null
  sender_name: string | null
  subject: string
  body: string
  mode: string | null
}

/** As its reader is given it. */
export function renderLetter({ urgent, sender_run_id, sender_name, subject, body, mode }: Shown): string {
  const agent = `agent "${sender_name}"`
  // By the key of an agent identity, where there is a name and no run.
  const by = sender_name === null ? 'a person' : agent
  const sender = sender_run_id === null ? by : `${agent} (run ${sender_run_id})`
  const words = mode === null ? [] : [modeWords(RunMode.parse(mode)) ?? '']
  return [`${urgent ? 'Urgent message' : 'Message'} from ${sender}\nSubject: ${subject}`, body, ...words].join('\n\n')
}

export const joinPieces = (texts: string[]): string => `${texts.join('\n\n---\n\n')}\n`

/** Adds a letter; the rows in memory stay as the database's will be. */
export function keepLetter(kept: Kept, letter: Letter, run: Guarded, root: Guarded | undefined): void {
  kept.letters.push(letter)
  const wakes = isOver(run.state) ? 1 : 0
  countOf(kept, run.run_id).own += 1
  const of_tree = countOf(kept, run.root_run_id)
  of_tree.sent += 1
  of_tree.wakes += wakes
  if (root === undefined) return
  root.tree_messages += 1
  root.tree_wakes += wakes
}

export function keepGift(kept: Kept, gift: Gift, { message_id, hop }: Letter): void {
  kept.gifts.push(gift)
  Object.assign(countOf(kept, gift.giving.run_id), { given: 1, hop, cause_id: message_id })
}

function countOf({ counts }: Kept, run_id: string): Count {
  const count = counts.get(run_id) ?? { run_id, own: 0, given: 0, sent: 0, wakes: 0 }
  counts.set(run_id, count)
  return count
}

export function newsOf({ letters, gifts }: Kept): NewEvent[] {
  const come = letters.map(({ team_id, recipient_run_id: run_id, message_id }) => ({ team_id, run_id, message_id }))
  const team_of = new Map(come.map(({ run_id, team_id }) => [run_id, team_id]))
  return [
    ...come.map(({ message_id, ...of }): NewEvent => ({ ...of, event_type: 'new_message', ref_id: message_id })),
    ...gifts.map(({ giving: { run_id, execution_id } }): NewEvent => {
      return { team_id: team_of.get(run_id) ?? '', event_type: 'run_resumed', run_id, execution_id }
    }),
  ]
}

/** One statement, for a row may be both a reader's and its tree's. `more`: further parts of it. */
export const keeping = ({ letters, gifts, counts }: Kept, more = sql``): RawBuilder<unknown> => sql`
    with kept as (
      insert into messages (message_id, team_id, sender_run_id, sender_user_id, sender_identity_uid, recipient_run_id,
        number, subject, body, urgent, hop, cause_id, send_key, send_hash, mode, sent_at)
      select m.message_id, m.team_id, m.sender_run_id, m.sender_user_id, m.sender_identity_uid, m.recipient_run_id,
        m.number, m.subject, m.body, m.urgent, m.hop, m.cause_id, m.send_key, m.send_hash, m.mode, m.sent_at
      from jsonb_populate_recordset(null::messages, ${JSON.stringify(letters)}::jsonb) as m
    )${gifts.length === 0 ? sql`` : giving(gifts)}${more}
    update runs set messages = runs.messages + c.own, undelivered = runs.undelivered + c.own - c.given,
      tree_messages = runs.tree_messages + c.sent, tree_wakes = runs.tree_wakes + c.wakes,
      waiting_until = case when c.given > 0 then null else runs.waiting_until end,
      hop = greatest(runs.hop, c.hop), cause_id = coalesce(c.cause_id, runs.cause_id)
    from jsonb_to_recordset(${JSON.stringify([...counts.values()])}::jsonb)
      as c(run_id uuid, own int, given int, sent int, wakes int, hop int, cause_id uuid)
    where runs.run_id = c.run_id`

const giving = (gifts: Gift[]): RawBuilder<unknown> => sql`, gifts as (
      insert into givings (execution_id, run_id, call_key, message_ids, sequence, text, given_at)
      select g.execution_id, g.run_id, g.call_key, g.message_ids, g.sequence, g.text, g.given_at
      from jsonb_populate_recordset(null::givings, ${JSON.stringify(gifts.map((gift) => gift.giving))}::jsonb) as g
    )`
