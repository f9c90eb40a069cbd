/**
 * Uploads: files that come by an address of their own, which is signed, expires and takes no key. Each has a purpose,
 * whose room prepares it and, when it has come whole, confirms it: in the transaction in which something refers to it.
 *
 *     prepared → received (again and again, each taking the place of the one before) → confirmed (for good)
 *
 * What is not confirmed within a day is forgotten. What is confirmed stays as long as its row.
 */
import { randomUUID } from 'node:crypto'
import { type Kysely, type Selectable, sql } from 'kysely'
import { z } from 'zod'
import { crc32cSum } from '../contract/crc32c.ts'
import { Fault, type Received, type UploadTarget } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Uploads } from '../db/tables.ts'
import type { BlobDraft } from './blobs.ts'
import type { Room } from './engine.ts'
import { claimBlobs, unusedBlobs } from './kept-blobs.ts'

/** Below the root under which the server was reached; followed by the upload's id. */
export const UPLOAD_PATH = '/uploads/'

/** How long an address takes a file. */
const TARGET_MS = 60 * 60_000
/** How long a file waits to be confirmed. */
const UNCONFIRMED_MS = 24 * 60 * 60_000
/** Uploads that one sweep forgets. */
const SWEEP_MAX = 1_000
/** Names of the fields of a form, as they are said in its target. */
export const FORM_FIELDS = { mime_type: 'content-type', crc32c: 'crc32c', file: 'file' } as const

export type NewUpload = {
  team_id: string
  run_id?: string
  /** What it is for: only who knows it finds it again. */
  purpose: string
  name: string
  mime_type: string
  /** The most bytes that are taken. */
  size_max: number
  /** How many there are to be, where that is known: another number is refused. */
  size_bytes?: number
  /** What its purpose keeps of it until then. */
  data?: Record<string, unknown>
  /** Confirmed by its coming: for files that nobody confirms. */
  confirmed_by_coming?: boolean
  /** A multipart form with its own checksum, instead of the bare bytes. */
  as_form?: boolean
  /** The root under which whoever is to send it has reached this server, such as `https://baton.example`. */
  root: string
}

export type Incoming = {
  chunks: AsyncIterable<Uint8Array>
  /** What the sender says that its CRC32C is. */
  crc32c?: string | null
  /** What the sender says that its length is, in bytes. */
  size_bytes?: number | null
}

export type ConfirmedUpload = {
  upload_id: string
  blob_id: string
  size_bytes: number
  crc32c: string
  name: string
  mime_type: string
  data: unknown
}

type Row = Selectable<Uploads>
type Which = { upload_id: string; team_id: string; purpose: string }

export function uploadsEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely
  const unused = unusedBlobs(room)

  async function targetOf(upload_id: string, { root, mime_type, as_form = false }: NewUpload): Promise<UploadTarget> {
    const { query } = await room.signer.sign('uploads', upload_id, TARGET_MS)
    const url = `${root}${UPLOAD_PATH}${upload_id}?${query}`
    if (!as_form) return { url, method: 'PUT', headers: { 'content-type': mime_type }, fields: null }
    return {
      url,
      method: 'POST',
      headers: null,
      fields: [
        { name: FORM_FIELDS.mime_type, value: { kind: 'static', value: mime_type } },
        { name: FORM_FIELDS.crc32c, value: { kind: 'content_crc32c' } },
        { name: FORM_FIELDS.file, value: { kind: 'content_data' } },
      ],
    }
  }

  /** The draft becomes what the upload is; null: it is confirmed meanwhile, as something else. */
  async function keep(upload_id: string, draft: BlobDraft, crc32c: string): Promise<Row | null> {
    await claimBlobs(room, [draft])
    await draft.keep()
    const now = clock.now()
    const kept = await db
      .updateTable('uploads')
      .set({ blob_id: draft.blob_id, size_bytes: draft.size_bytes, crc32c, received_at: now })
      .set({ confirmed_at: sql`case when confirmed_by_coming then coalesce(confirmed_at, ${now}::timestamptz) end` })
      .where('upload_id', '=', upload_id)
      .where('confirmed_at', 'is', null)
      .returningAll()
      .executeTakeFirst()
    if (kept) return kept
    const row = await find(db, upload_id)
    return row.blob_id === draft.blob_id ? row : null
  }

  return {
    /** `write`: the transaction, where there is one, in which its purpose notes it. */
    async prepare(write: Kysely<Tables>, upload: NewUpload): Promise<{ upload_id: string; target: UploadTarget }> {
      const { team_id, run_id = null, purpose, name, mime_type, size_max, size_bytes = null } = upload
      if (size_bytes !== null && size_bytes > size_max) throw tooLarge(size_max)
      await checkRoom(write, team_id, size_bytes ?? 1)
      const upload_id = randomUUID()
      const target = await targetOf(upload_id, upload)
      await write
        .insertInto('uploads')
        .values({
          ...{ upload_id, team_id, run_id, purpose, name, mime_type, size_max, size_said: size_bytes },
          data: upload.data === undefined ? null : JSON.stringify(upload.data),
          confirmed_by_coming: upload.confirmed_by_coming ?? false,
          created_at: clock.now(),
        })
        .execute()
      return { upload_id, target }
    },

    /**
     * For whoever holds an address that was signed here and has not expired. The bytes are in the store, and the
     * upload's row says so, when this resolves; nothing has changed where it does not.
     */
    async receive(upload_id: string, query: Record<string, string>, incoming: Incoming): Promise<Received> {
      await room.signer.check('uploads', upload_id, query)
      const upload = await find(db, upload_id)
      const { size_max, size_said } = upload
      if ((incoming.size_bytes ?? 0) > size_max) throw tooLarge(size_max)
      const sum = crc32cSum()
      const draft = await room.blobs.draft(summed(incoming.chunks, sum, size_max))
      try {
        const crc32c = sum.text()
        if (incoming.crc32c && incoming.crc32c !== crc32c) throw wrongSum(incoming.crc32c, crc32c)
        if (size_said !== null && size_said !== draft.size_bytes) throw wrongSize(size_said, draft.size_bytes)
        // One whose size was said counts already, and what takes another's place counts once.
        if (size_said === null) await checkRoom(db, upload.team_id, draft.size_bytes - (upload.size_bytes ?? 0))
        const kept = upload.confirmed_at === null ? await keep(upload_id, draft, crc32c) : upload
        if (kept?.blob_id !== draft.blob_id)
          throw new Fault('conflict', 'Another file has come here and is confirmed. Ask for a new address.', {
            retryable: false,
          })
        return { size_bytes: draft.size_bytes, sha256: draft.blob_id, crc32c }
      } finally {
        await draft.drop()
      }
    },

    /**
     * That it has come, whole, and is what was sent: `crc32c` is the sender's. The same again answers the same. In the
     * transaction `write` something comes to refer to its blob, unless the row itself is what keeps it.
     */
    async confirm(
      write: Kysely<Tables>,
      { upload_id, team_id, purpose, crc32c }: Which & { crc32c?: string | undefined },
    ): Promise<ConfirmedUpload> {
      const row = await write
        .selectFrom('uploads')
        .selectAll()
        .where('upload_id', '=', upload_id)
        .where('team_id', '=', team_id)
        .where('purpose', '=', purpose)
        .forUpdate()
        .executeTakeFirst()
      if (!row) throw absent(upload_id)
      const confirmed = confirmedOf(row)
      if (!confirmed)
        throw new Fault('invalid_request', 'The file has not come yet. Send it to its address, then confirm it.')
      if (crc32c !== undefined && crc32c !== confirmed.crc32c) throw wrongSum(crc32c, confirmed.crc32c)
      await write
        .updateTable('uploads')
        .set({ confirmed_at: clock.now() })
        .where('upload_id', '=', upload_id)
        .where('confirmed_at', 'is', null)
        .execute()
      return confirmed
    },

    /** That the store has what has come. Asked before the transaction that confirms it: a store may take its time. */
    async checkHeld(upload_ids: string[]): Promise<void> {
      const received = await db
        .selectFrom('uploads')
        .select(['name', 'blob_id', 'size_bytes'])
        .where('upload_id', '=', sql<string>`any(${upload_ids}::uuid[])`)
        .where('received_at', 'is not', null)
        .execute()
      for (const { name, blob_id, size_bytes } of received) {
        if (blob_id !== null && (await room.blobs.size(blob_id)) !== size_bytes)
          throw new Fault('invalid_request', `${name} is not in the store any more. Send it once more.`)
      }
    },

    /** Those of a run that are confirmed, the newest first. */
    async ofRun(run_id: string, purpose: string): Promise<ConfirmedUpload[]> {
      const rows = await db
        .selectFrom('uploads')
        .selectAll()
        .where('run_id', '=', run_id)
        .where('purpose', '=', purpose)
        .where('confirmed_at', 'is not', null)
        .orderBy('confirmed_at', 'desc')
        .orderBy('upload_id')
        .execute()
      return rows.flatMap((row) => confirmedOf(row) ?? [])
    },

    /** Forgets uploads that nothing else refers to; their blobs go when nothing has needed them for a day. */
    async discard(upload_ids: string[]): Promise<void> {
      if (upload_ids.length === 0) return
      const gone = await db.deleteFrom('uploads').where('upload_id', 'in', upload_ids).returning('blob_id').execute()
      await unused.drop(gone.flatMap(({ blob_id }) => blob_id ?? []))
    },

    /** Forgets what nobody has confirmed in time, and removes blobs that nothing needs. */
    async sweep(): Promise<void> {
      const { rows } = await sql<{ blob_id: string | null }>`
        delete from uploads where upload_id = any(array(
          select upload_id from uploads where confirmed_at is null
            and created_at < ${new Date(clock.now().getTime() - UNCONFIRMED_MS)}
          order by created_at limit ${SWEEP_MAX} for update skip locked))
        returning blob_id`.execute(db)
      await unused.drop(rows.flatMap(({ blob_id }) => blob_id ?? []))
      await unused.sweep()
      await room.blobs.tidy(new Date(clock.now().getTime() - UNCONFIRMED_MS))
    },
  }
}

/** For so many bytes more. Exact only for one after the other: together, uploads may go a little beyond it. */
async function checkRoom(db: Kysely<Tables>, team_id: string, bytes: number): Promise<void> {
  const { max_file_bytes: most } = await db
    .selectFrom('teams')
    .select('max_file_bytes')
    .where('team_id', '=', team_id)
    .executeTakeFirstOrThrow()
  if (most === null) return
  const { used } = await db
    .selectFrom('uploads')
    .select(sql<number>`coalesce(sum(coalesce(size_bytes, size_said)), 0)::bigint`.as('used'))
    .where('team_id', '=', team_id)
    .executeTakeFirstOrThrow()
  if (used + bytes <= most) return
  throw new Fault(
    'budget_exceeded',
    `The files of your team have ${used} of the ${most} bytes that they may have together (max_file_bytes): this does ` +
      'not fit. An admin may raise the limit.',
  )
}

async function find(db: Kysely<Tables>, upload_id: string): Promise<Row> {
  const row = z.uuid().safeParse(upload_id).success
    ? await db.selectFrom('uploads').selectAll().where('upload_id', '=', upload_id).executeTakeFirst()
    : undefined
  if (!row) throw absent(upload_id)
  return row
}

function confirmedOf({ upload_id, blob_id, size_bytes, crc32c, name, mime_type, data }: Row): ConfirmedUpload | null {
  if (blob_id === null || size_bytes === null || crc32c === null) return null
  return { upload_id, blob_id, size_bytes, crc32c, name, mime_type, data }
}

async function* summed(
  chunks: AsyncIterable<Uint8Array>,
  sum: ReturnType<typeof crc32cSum>,
  size_max: number,
): AsyncGenerator<Uint8Array> {
  let size_bytes = 0
  for await (const chunk of chunks) {
    size_bytes += chunk.length
    if (size_bytes > size_max) throw tooLarge(size_max)
    sum.add(chunk)
    yield chunk
  }
}

const absent = (upload_id: string): Fault => new Fault('resource_not_found', `There is no upload ${upload_id}.`)

const tooLarge = (size_max: number): Fault =>
  new Fault('invalid_request', `The file is larger than the ${size_max} bytes that are taken here.`, { status: 413 })

const wrongSize = (said: number, came: number): Fault =>
  new Fault('invalid_request', `The file was to have ${said} bytes, and ${came} came. Send it again, whole.`)

const wrongSum = (said: string, is: string): Fault =>
  new Fault('invalid_request', `The file's CRC32C was to be ${said}, and what came has ${is}. Send it again.`)
