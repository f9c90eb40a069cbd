/**
 * Transcript entries, exactly once: numbers are dense from 1 in each execution, what is held already is ignored,
 * a gap is
 * refused, and the answer is the highest number held. The execution's row is locked, so that two uploads of one runner
 * cannot interleave, and a write of an execution that has ended is refused.
 */
import { sql } from 'kysely'
import { ENTRY_HEAD_BYTES, type EntryBody, Fault, type NewEntry } from '../contract/index.ts'
import type { Room } from './engine.ts'
import { superseded } from './transitions.ts'

type Kept = { number: number; at: string; kind: string; body: string; blob_id: string | null; body_bytes: number }

export async function appendEntries(
  room: Room,
  execution_id: string,
  entries: NewEntry[],
): Promise<{ highest: number }> {
  // Blobs are named by content: written before the transaction, a repeat finds them there.
  const kept = await Promise.all(entries.map((entry) => keep(room, entry)))
  const { run_id, highest, grew } = await room.database.kysely.transaction().execute(async (write) => {
    const execution = await write
      .selectFrom('executions')
      .select(['run_id', 'team_id', 'number', 'entries', 'state'])
      .where('execution_id', '=', execution_id)
      .forNoKeyUpdate()
      .executeTakeFirst()
    if (execution?.state !== 'running') throw superseded()
    const fresh = kept.filter((entry) => entry.number > execution.entries).sort((a, b) => a.number - b.number)
    if (fresh.length === 0) return { run_id: execution.run_id, highest: execution.entries, grew: false }
    checkDense(fresh, execution.entries)
    for (const entry of fresh) {
      if (entry.blob_id === null) continue
      await write
        .insertInto('blobs')
        .values({ blob_id: entry.blob_id, size_bytes: entry.body_bytes, created_at: room.clock.now() })
        .onConflict((c) => c.doNothing())
        .execute()
    }
    await sql`
      insert into entries (execution_id, number, run_id, team_id, execution_number, at, kind, body, blob_id, body_bytes)
      select ${execution_id}, e.number, ${execution.run_id}, ${execution.team_id}, ${execution.number},
        e.at, e.kind, e.body, e.blob_id, e.body_bytes
      from unnest(${fresh.map((e) => e.number)}::int[], ${fresh.map((e) => e.at)}::timestamptz[],
        ${fresh.map((e) => e.kind)}::text[],
        ${fresh.map((e) => e.body)}::jsonb[], ${fresh.map((e) => e.blob_id)}::text[],
        ${fresh.map((e) => e.body_bytes)}::int[]
      ) as e(number, at, kind, body, blob_id, body_bytes)`.execute(write)
    const highest = fresh.at(-1)?.number ?? execution.entries
    const bytes = fresh.reduce((sum, entry) => sum + entry.body_bytes, 0)
    await write
      .updateTable('executions')
      .set({ entries: highest, transcript_bytes: sql<number>`transcript_bytes + ${bytes}` })
      .where('execution_id', '=', execution_id)
      .execute()
    return { run_id: execution.run_id, highest, grew: true }
  })
  if (grew) room.bell.ring('entries', { run_id })
  return { highest }
}

function checkDense(fresh: Kept[], held: number): void {
  const gap = fresh.findIndex((entry, at) => entry.number !== held + 1 + at)
  if (gap >= 0) {
    throw new Fault(
      'conflict',
      `Entry ${held + 1 + gap} is missing before entry ${fresh[gap]?.number}; send from ${held + 1}.`,
      { retryable: true },
    )
  }
}

async function keep(room: Room, entry: NewEntry): Promise<Kept> {
  // PostgreSQL's text and jsonb have no NUL and no lone surrogates.
  const body = clean(JSON.stringify(entry.body))
  const body_bytes = Buffer.byteLength(body)
  const row = { number: entry.number, at: entry.at, kind: entry.body.kind, body_bytes }
  if (body_bytes <= ENTRY_HEAD_BYTES) return { ...row, body, blob_id: null }
  const blob_id = await room.blobs.write(Buffer.from(body))
  return { ...row, body: clean(JSON.stringify(headOf(entry.body))), blob_id }
}

const clean = (json: string): string =>
  json
    .replace(/\\u0000/g, '\\ufffd')
    .replace(/\\u(d[89ab][0-9a-f]{2})(?!\\ud[c-f])/gi, '\\ufffd')
    .replace(/(?<!\\ud[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})/gi, '\\ufffd')

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
