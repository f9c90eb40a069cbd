/**
 * Letters that a runner had claimed when it died, and of which the transcript has no trace: nobody can tell whether the
 * agent was given them, so who goes on is given them again.
 */
import { type Selectable, sql } from 'kysely'
import type { Runs } from '../db/tables.ts'
import type { Room } from './engine.ts'

/** Newest kept; more than one look gives is never claimed at once. */
const LETTERS_MAX = 50
/** Of a letter's first line, by which it is looked for in the transcript. */
const LOOKED_FOR_CHARACTERS = 200

export async function lostLetters(room: Room, run: Selectable<Runs>): Promise<string[]> {
  const { rows } = await sql<{ subject: string; body: string }>`
    select m.subject, m.body from messages m
    where m.recipient_run_id = ${run.run_id} and m.delivered_at is not null
      and exists (select from executions x where x.run_id = m.recipient_run_id and x.number < ${run.executions}
        and x.outcome <> 'SUCCEEDED' and m.delivered_at between x.started_at and x.ended_at)
      and not exists (select from entries e where e.run_id = m.recipient_run_id and e.kind in ('prompt', 'tool_result')
        and position(left(split_part(m.body, E'\n', 1), ${LOOKED_FOR_CHARACTERS})
          in coalesce(e.body->>'text', e.body->>'output', '')) > 0)
    order by m.number desc limit ${LETTERS_MAX}`.execute(room.database.kysely)
  return rows
    .reverse()
    .map(({ subject, body }) => `This message came for you while you were interrupted.\nSubject: ${subject}\n\n${body}`)
}
