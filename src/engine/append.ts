/**
 * Transcript entries, exactly once: numbers are dense from 1 in each execution, what is held already is ignored, a
 * gap is refused, and the answer is the highest number held. The execution's row is locked, so that two uploads of
 * one runner cannot interleave, and a write of an execution that has ended is refused.
 */
import { sql } from 'kysely'
import { ENTRY_HEAD_BYTES, type EntryBody, Fault, type NewEntry } from '../contract/index.ts'
import { arrayOf } from './array-of.ts'
import { blobIdOf } from './blobs.ts'
import type { Room } from './engine.ts'
import { keepBlobs } from './kept-blobs.ts'
import { superseded } from './transitions.ts'

type Kept = {
  number: number
  at: string
  kind: string
  body: string
  /** Where `body` is only the head of it. */
  whole: Buffer | null
  blob_id: string | null
  body_bytes: number
}

export async function appendEntries(
  room: Room,
  execution_id: string,
  entries: NewEntry[],
): Promise<{ highest: number }> {
  const kept = entries.map(keep).sort((a, b) => a.number - b.number)
  checkDense(kept)
  // Blobs are named by content: written before their entries, a repeat finds them there.
  await keepBlobs(
    room,
    kept.flatMap(({ whole }) => whole ?? []),
  )
  const held = await insert(room, execution_id, kept)
  if (!held) throw superseded()
  if (kept[0] && kept[0].number > held.entries + 1) throw missing(held.entries + 1, kept[0].number)
  if (held.highest !== null) room.bell.ring('entries', { run_id: held.run_id })
  return { highest: held.highest ?? held.entries }
}

/** Characters of an execution's last words. */
const WORDS_CHARACTERS = 200

type Held = { run_id: string; entries: number; highest: number | null }

/** One statement: locks the execution, inserts what is new and joins on without a gap, and moves the mark. */
async function insert(room: Room, execution_id: string, kept: Kept[]): Promise<Held | undefined> {
  const first = kept[0]?.number ?? 0
  const { rows } = await sql<Held>`
    with held as (
      select execution_id, run_id, team_id, number, entries from executions
      where execution_id = ${execution_id} and state = 'running' for no key update
    ), fresh as (
      select e.*, held.run_id, held.team_id, held.number as execution_number
      from held, unnest(
        ${arrayOf('int', kept, (e) => e.number)}, ${arrayOf('timestamptz', kept, (e) => e.at)},
        ${arrayOf('text', kept, (e) => e.kind)}, ${arrayOf('jsonb', kept, (e) => e.body)},
        ${arrayOf('text', kept, (e) => e.blob_id)}, ${arrayOf('int', kept, (e) => e.body_bytes)}
      ) as e(number, at, kind, body, blob_id, body_bytes)
      where e.number > held.entries and ${first}::int <= held.entries + 1
    ), words as (
      select right(rtrim(body->>'text', E' \\t\\r\\n'), ${WORDS_CHARACTERS}) as last from fresh
      where kind in ('text', 'output') and body->>'text' ~ '\\S' order by number desc limit 1
    ), made as (
      insert into entries (execution_id, number, run_id, team_id, execution_number, at, kind, body, blob_id, body_bytes)
      select ${execution_id}, number, run_id, team_id, execution_number, at, kind, body, blob_id, body_bytes from fresh
      returning number, body_bytes
    ), grown as (
      update executions set entries = more.highest, transcript_bytes = transcript_bytes + more.bytes,
        last_words = coalesce((select last from words), last_words)
      from (select max(number) as highest, sum(body_bytes) as bytes from made) as more
      where executions.execution_id = ${execution_id} and more.highest is not null
    )
    select held.run_id, held.entries, (select max(number) from made) as highest from held`.execute(room.database.kysely)
  return rows[0]
}

function checkDense(kept: Kept[]): void {
  for (const [at, entry] of kept.entries()) {
    const before = kept[at - 1]
    if (before && entry.number > before.number + 1) throw missing(before.number + 1, entry.number)
    if (before?.number === entry.number) {
      throw new Fault('invalid_request', `Entry ${entry.number} stands twice in one request.`)
    }
  }
}

function missing(number: number, before: number): Fault {
  return new Fault('conflict', `Entry ${number} is missing before entry ${before}; send from ${number}.`, {
    retryable: true,
  })
}

function keep(entry: NewEntry): Kept {
  const body = renderJson(entry.body)
  const body_bytes = Buffer.byteLength(body)
  const row = { number: entry.number, at: entry.at, kind: entry.body.kind, body_bytes }
  if (body_bytes <= ENTRY_HEAD_BYTES) return { ...row, body, whole: null, blob_id: null }
  const whole = Buffer.from(body)
  return { ...row, body: renderJson(headOf(entry.body)), whole, blob_id: blobIdOf(whole) }
}

/** PostgreSQL's text and jsonb have neither NUL nor lone surrogates: what is none there becomes U+FFFD. */
function renderJson(body: EntryBody): string {
  const json = JSON.stringify(body)
  if (!/\\u(0000|d[89a-f])/i.test(json)) return json
  const plain = (text: string): string => text.toWellFormed().replaceAll('\0', '\u{fffd}')
  return JSON.stringify(body, (_, value) => (typeof value === 'string' ? plain(value) : value))
}

/** The same entry with its long texts cut to what a row keeps. */
export function headOf(body: EntryBody): EntryBody {
  const room = Math.floor(ENTRY_HEAD_BYTES / 2)
  const short = (text: string, most = room) => (text.length <= most ? text : text.slice(0, most))
  switch (body.kind) {
    case 'prompt':
    case 'text':
    case 'thought':
    case 'output':
      return { ...body, text: short(body.text) }
    case 'system':
      return { kind: 'system', level: body.level, name: body.name, text: short(body.text) }
    case 'tool_call':
      return {
        kind: 'tool_call',
        call_id: body.call_id,
        name: body.name,
        category: body.category,
        title: short(body.title, 512),
        ...(body.parent_call_id === undefined ? {} : { parent_call_id: body.parent_call_id }),
      }
    case 'tool_result': {
      const { changes: _changes, ...rest } = body
      return { ...rest, output: short(body.output) }
    }
    case 'plan':
      return {
        kind: 'plan',
        items: body.items.slice(0, 20).map((item) => ({ ...item, content: short(item.content, 200) })),
      }
    case 'gap':
      return body
    case 'unknown':
      return { kind: 'unknown', raw: short(JSON.stringify(body.raw) ?? '', 1024) }
  }
}
