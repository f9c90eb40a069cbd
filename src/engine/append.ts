/**
 * Transcript entries, exactly once: numbers are dense from 1 in each execution, what is held already is ignored, a
 * gap is refused, and the answer is the highest number held. The execution's row is locked, so that two uploads of
 * one runner cannot interleave, and a write of an execution that has ended is refused.
 */
import { sql } from 'kysely'
import { ENTRY_HEAD_BYTES, type EntryBody, Fault, type NewEntry } from '../contract/index.ts'
import { arrayOf } from './array-of.ts'
import { batched } from './batch.ts'
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

export type Append = (execution_id: string, entries: NewEntry[]) => Promise<{ highest: number }>

/** Uploads of one statement. */
const UPLOADS_MAX = 20

/** Appends by group commit. */
export function appender(room: Room): Append {
  const together = batched<Upload, Held | undefined>({
    most: UPLOADS_MAX,
    keyOf: ({ execution_id }) => execution_id,
    run: async (uploads) => {
      const held = await insertAll(room, uploads, 'free')
      return uploads.map(({ execution_id }) => held.get(execution_id))
    },
  })
  const insert = async (upload: Upload): Promise<Held | undefined> =>
    (await together(upload)) ?? (await insertAll(room, [upload], 'any')).get(upload.execution_id)

  return async (execution_id, entries) => {
    const kept = entries.map(keep).sort((a, b) => a.number - b.number)
    checkDense(kept)
    // Blobs are named by content: written before their entries, a repeat finds them there.
    await keepBlobs(
      room,
      kept.flatMap(({ whole }) => whole ?? []),
    )
    const held = await insert({ execution_id, kept })
    if (!held) throw superseded()
    if (kept[0] && kept[0].number > held.entries + 1) throw missing(held.entries + 1, kept[0].number)
    if (held.highest !== null) room.bell.ring('entries', { run_id: held.run_id })
    return { highest: held.highest ?? held.entries }
  }
}

/** Characters of an execution's last words. */
const WORDS_CHARACTERS = 200

type Upload = { execution_id: string; kept: Kept[] }
type Held = { run_id: string; entries: number; highest: number | null }

/**
 * One statement for uploads of different executions: locks each, inserts what is new and joins on without a gap, and
 * moves the mark. `free`: whose row somebody else holds is missing in the answer, so that nobody waits for the lock of
 * another, and no two statements for each other.
 */
async function insertAll(room: Room, uploads: Upload[], which: 'free' | 'any'): Promise<Map<string, Held>> {
  const lock = which === 'free' ? sql`for no key update of x skip locked` : sql`for no key update of x`
  const all = uploads.flatMap(({ execution_id, kept }) => kept.map((entry) => ({ ...entry, execution_id })))
  const { rows } = await sql<Held & { execution_id: string }>`
    with held as (
      select x.execution_id, x.run_id, x.team_id, x.number, x.entries, asked.first from executions x join unnest(
        ${arrayOf('uuid', uploads, (u) => u.execution_id)}, ${arrayOf('int', uploads, (u) => u.kept[0]?.number ?? 0)}
      ) as asked(execution_id, first) using (execution_id)
      where x.state = 'running' ${lock}
    ), fresh as (
      select e.*, held.run_id, held.team_id, held.number as execution_number
      from held join unnest(
        ${arrayOf('uuid', all, (e) => e.execution_id)}, ${arrayOf('int', all, (e) => e.number)},
        ${arrayOf('timestamptz', all, (e) => e.at)}, ${arrayOf('text', all, (e) => e.kind)},
        ${arrayOf('jsonb', all, (e) => e.body)}, ${arrayOf('text', all, (e) => e.blob_id)},
        ${arrayOf('int', all, (e) => e.body_bytes)}
      ) as e(execution_id, number, at, kind, body, blob_id, body_bytes) using (execution_id)
      where e.number > held.entries and held.first <= held.entries + 1
    ), words as (
      select distinct on (execution_id) execution_id,
        right(rtrim(body->>'text', E' \\t\\r\\n'), ${WORDS_CHARACTERS}) as last
      from fresh where kind in ('text', 'output') and body->>'text' ~ '\\S' order by execution_id, number desc
    ), made as (
      insert into entries (execution_id, number, run_id, team_id, execution_number, at, kind, body, blob_id, body_bytes)
      select execution_id, number, run_id, team_id, execution_number, at, kind, body, blob_id, body_bytes from fresh
      returning execution_id, number, body_bytes
    ), more as (
      select execution_id, max(number) as highest, sum(body_bytes) as bytes from made group by execution_id
    ), grown as (
      update executions x set entries = more.highest, transcript_bytes = x.transcript_bytes + more.bytes,
        last_words = coalesce((select last from words where words.execution_id = x.execution_id), x.last_words)
      from more where x.execution_id = more.execution_id
    )
    select held.execution_id, held.run_id, held.entries, more.highest
    from held left join more using (execution_id)`.execute(room.database.byIndex)
  return new Map(rows.map((row) => [row.execution_id, row]))
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
