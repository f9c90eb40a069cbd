/**
 * Letters that a runner had claimed when it died, and of which the transcript has no trace: nobody can tell whether the
 * agent was given them, so who goes on is given them again.
 */
import { type Selectable, sql } from 'kysely'
import { EntryBody } from '../contract/index.ts'
import type { Runs } from '../db/tables.ts'
import type { Room } from './engine.ts'

/** Newest kept; more than one look gives is never claimed at once. */
const LETTERS_MAX = 50
/** Of a letter, by which it is looked for in the transcript. */
const LOOKED_FOR_CHARACTERS = 200
/** A first line of fewer says nothing by itself: it may stand there for another reason. */
const TELLING_CHARACTERS = 40
/** Entries of which the database holds but a head, read at a time. */
const BLOBS_AT_ONCE = 16

/** `traces`: its beginning as text, as in JSON, and its first line if that is telling. One of them is in what gave it. */
type Suspect = { subject: string; body: string; traces: string[] }

export async function lostLetters(room: Room, run: Selectable<Runs>): Promise<string[]> {
  const { rows } = await sql<Suspect>`
    select m.subject, m.body, looks.traces from messages m
      cross join lateral (
        select concat('Subject: ', m.subject, E'\n\n', left(m.body, ${LOOKED_FOR_CHARACTERS})) as beginning,
          left(split_part(ltrim(m.body, E' \t\r\n'), E'\n', 1), ${LOOKED_FOR_CHARACTERS}) as line
      ) as b
      cross join lateral (
        select array[b.beginning, substr(to_json(b.beginning)::text, 2, length(to_json(b.beginning)::text) - 2)]
          || case when length(b.line) >= ${TELLING_CHARACTERS} then array[b.line] else '{}' end as traces
      ) as looks
    where m.recipient_run_id = ${run.run_id} and m.delivered_at is not null
      and exists (select from executions x where x.run_id = m.recipient_run_id and x.number < ${run.executions}
        and x.outcome <> 'SUCCEEDED' and m.delivered_at between x.started_at and x.ended_at)
      and not exists (select from entries e, unnest(looks.traces) as trace
        where e.run_id = m.recipient_run_id and e.kind in ('prompt', 'tool_result')
          and position(trace in coalesce(e.body->>'text', e.body->>'output', '')) > 0)
    order by m.number desc limit ${LETTERS_MAX}`.execute(room.database.kysely)
  return (await notInBlobs(room, run, rows))
    .reverse()
    .map(({ subject, body }) => `This message came for you while you were interrupted.\nSubject: ${subject}\n\n${body}`)
}

/** Without those that stand further behind in what gave them than its head in the database reaches. */
async function notInBlobs(room: Room, run: Selectable<Runs>, suspects: Suspect[]): Promise<Suspect[]> {
  if (suspects.length === 0) return []
  const entries = await room.database.kysely
    .selectFrom('entries')
    .select('blob_id')
    .where('run_id', '=', run.run_id)
    .where('kind', 'in', ['prompt', 'tool_result'])
    .where('blob_id', 'is not', null)
    .orderBy('execution_number', 'desc')
    .orderBy('number', 'desc')
    .execute()
  let left = suspects
  for (let at = 0; at < entries.length && left.length > 0; at += BLOBS_AT_ONCE) {
    const texts = await Promise.all(entries.slice(at, at + BLOBS_AT_ONCE).map(({ blob_id }) => textOf(room, blob_id)))
    left = left.filter(({ traces }) => !traces.some((trace) => texts.some((text) => text.includes(trace))))
  }
  return left
}

async function textOf(room: Room, blob_id: string | null): Promise<string> {
  const bytes = blob_id === null ? null : await room.blobs.read(blob_id)
  if (bytes === null) return ''
  const body = EntryBody.parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
  return body.kind === 'prompt' ? body.text : body.kind === 'tool_result' ? body.output : ''
}
