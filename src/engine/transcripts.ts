/** Transcripts: the entries of a run in their order, in windows and whole. */
import type { Selectable } from 'kysely'
import { sql } from 'kysely'
import { type Entry, EntryBody, Fault, type SignedDownload } from '../contract/index.ts'
import type { Entries } from '../db/tables.ts'
import type { Caller } from './caller.ts'
import type { Position } from './conversation-parts.ts'
import type { Room } from './engine.ts'
import { runNotFound } from './runs.ts'
import { visibleRuns } from './visible.ts'

type Window = { after?: string | undefined; before?: string | undefined; limit: number }

/** How long an address serves a transcript. */
const DOWNLOAD_MS = 15 * 60_000
const BLOBS_AT_ONCE = 16
const PAGE_ENTRIES = 200

export function transcriptsEngine(room: Room) {
  const db = room.database.kysely

  async function visible(caller: Caller, run_id: string) {
    const run = await db
      .selectFrom('runs')
      .select('run_id')
      .where('run_id', '=', run_id)
      .where(visibleRuns(caller))
      .executeTakeFirst()
    if (!run) throw runNotFound(run_id)
    return run
  }

  async function after(run_id: string, position: string | null, limit: number): Promise<Entry[]> {
    const rows = await above(run_id, position).limit(limit).execute()
    return rows.map(render)
  }

  function above(run_id: string, position: string | null) {
    const rows = db
      .selectFrom('entries')
      .selectAll()
      .where('run_id', '=', run_id)
      .orderBy('execution_number')
      .orderBy('number')
    if (position === null || position === '') return rows
    const at = readPosition(position)
    return rows.where(sql<boolean>`(execution_number, number) > (${at.execution_number}, ${at.number})`)
  }

  async function before(run_id: string, position: string | null, limit: number): Promise<Entry[]> {
    let rows = db
      .selectFrom('entries')
      .selectAll()
      .where('run_id', '=', run_id)
      .orderBy('execution_number', 'desc')
      .orderBy('number', 'desc')
    if (position !== null) {
      const at = readPosition(position)
      rows = rows.where(sql<boolean>`(execution_number, number) < (${at.execution_number}, ${at.number})`)
    }
    return (await rows.limit(limit).execute()).reverse().map(render)
  }

  async function list(caller: Caller, run_id: string, window: Window) {
    await visible(caller, run_id)
    if (window.after !== undefined && window.before !== undefined) {
      throw new Fault('invalid_request', 'Give either after or before, not both.', {
        errors: [{ pointer: '/before', detail: 'excludes after' }],
      })
    }
    if (window.after !== undefined) {
      const found = await after(run_id, window.after, window.limit + 1)
      return {
        entries: found.slice(0, window.limit),
        has_earlier: window.after !== '',
        has_later: found.length > window.limit,
      }
    }
    const found = await before(run_id, window.before ?? null, window.limit + 1)
    return {
      entries: found.slice(-window.limit),
      has_earlier: found.length > window.limit,
      has_later: window.before !== undefined,
    }
  }

  async function whole(row: Selectable<Entries>): Promise<Entry> {
    const entry = render(row)
    if (row.blob_id === null) return entry
    const bytes = await room.blobs.read(row.blob_id)
    if (bytes === null) return entry
    const { cut: _cut, ...rest } = entry
    return { ...rest, body: EntryBody.parse(JSON.parse(Buffer.from(bytes).toString('utf8'))) }
  }

  async function get(caller: Caller, run_id: string, position: string): Promise<Entry> {
    await visible(caller, run_id)
    const at = readPosition(position)
    const row = await db
      .selectFrom('entries')
      .selectAll()
      .where('run_id', '=', run_id)
      .where('execution_number', '=', at.execution_number)
      .where('number', '=', at.number)
      .executeTakeFirst()
    if (!row) throw new Fault('resource_not_found', `Run ${run_id} has no entry ${position}.`)
    return whole(row)
  }

  /** Whole entries, in order; `until` is the last. */
  async function allOf(run_id: string, until: Position | null): Promise<Entry[]> {
    let rows = above(run_id, null)
    if (until !== null)
      rows = rows.where(sql<boolean>`(execution_number, number) <= (${until.execution_number}, ${until.number})`)
    return readWhole(await rows.execute())
  }

  /** Blobs, a few at a time. */
  async function readWhole(rows: Selectable<Entries>[]): Promise<Entry[]> {
    const entries: Entry[] = []
    for (let at = 0; at < rows.length; at += BLOBS_AT_ONCE)
      entries.push(...(await Promise.all(rows.slice(at, at + BLOBS_AT_ONCE).map(whole))))
    return entries
  }

  /** An address of `read`, for whoever the caller gives it to. `root` is what the address begins with. */
  async function sign(caller: Caller, run_id: string, root: string): Promise<SignedDownload> {
    const run = await visible(caller, run_id)
    const { query, expires_at } = await room.signer.sign('transcripts', run.run_id, DOWNLOAD_MS)
    return { download_url: `${root}${run.run_id}?${query}`, expires_at }
  }

  /** The whole transcript, for whoever holds an address that was signed here: pages of whole entries, in order. */
  async function* read(run_id: string, query: Record<string, string>): AsyncGenerator<Entry[]> {
    await room.signer.check('transcripts', run_id, query)
    for (let position: string | null = null; ; ) {
      const entries: Entry[] = await readWhole(await above(run_id, position).limit(PAGE_ENTRIES).execute())
      yield entries
      if (entries.length < PAGE_ENTRIES) return
      position = entries.at(-1)?.position ?? null
    }
  }

  return { list, get, after, allOf, sign, read }
}

/** Sorts as text: execution number and entry number, each padded. */
export const renderPosition = (execution_number: number, number: number): string =>
  `${String(execution_number).padStart(6, '0')}.${String(number).padStart(9, '0')}`

function readPosition(position: string): { execution_number: number; number: number } {
  const match = /^(\d{1,9})\.(\d{1,9})$/.exec(position)
  if (!match)
    throw new Fault(
      'invalid_request',
      `${JSON.stringify(position)} is not a position of a transcript; take one from an entry.`,
      { errors: [{ pointer: '/position', detail: 'not a position' }] },
    )
  return { execution_number: Number(match[1]), number: Number(match[2]) }
}

function render(row: Selectable<Entries>): Entry {
  const body = EntryBody.safeParse(row.body)
  return {
    run_id: row.run_id,
    execution_id: row.execution_id,
    execution_number: row.execution_number,
    number: row.number,
    at: row.at.toISOString(),
    position: renderPosition(row.execution_number, row.number),
    body: body.success ? body.data : { kind: 'unknown', raw: row.body },
    ...(row.blob_id === null ? {} : { cut: { bytes: row.body_bytes } }),
  }
}
