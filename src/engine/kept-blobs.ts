/**
 * Which blobs are kept: each has a row, and what needs it refers to that row by a foreign key. The order is law: first
 * the row (`claimBlobs`), then the bytes, then the reference. A blob to which nothing refers for `UNUSED_MS` after it
 * was last claimed is removed, its row locked meanwhile: whoever claims it then waits, and writes the bytes anew.
 */
import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/connect.ts'
import { blobIdOf } from './blobs.ts'
import type { Room } from './engine.ts'

const UNUSED_MS = 24 * 60 * 60_000
/** A blob that is claimed again and again has its row written once in this time. */
const CLAIMED_MS = 60 * 60_000
/** Blobs that one look for unused ones goes through. */
const LOOK_MAX = 1_000

type Sized = { blob_id: string; size_bytes: number }

/** To be committed before the bytes are written. */
export async function claimBlobs(room: Room, blobs: Sized[]): Promise<void> {
  if (blobs.length === 0) return
  const created_at = room.clock.now()
  // In one order everywhere, so that no two wait for each other.
  const rows = [...new Map(blobs.map((blob) => [blob.blob_id, blob])).values()].sort((a, b) =>
    a.blob_id < b.blob_id ? -1 : 1,
  )
  await room.database.kysely
    .insertInto('blobs')
    .values(rows.map(({ blob_id, size_bytes }) => ({ blob_id, size_bytes, created_at })))
    .onConflict((one) =>
      one
        .column('blob_id')
        .doUpdateSet({ created_at })
        .where('blobs.created_at', '<', new Date(created_at.getTime() - CLAIMED_MS)),
    )
    .execute()
}

/** Answers their names, in the same order. */
export async function keepBlobs(room: Room, bodies: Uint8Array[]): Promise<string[]> {
  await claimBlobs(
    room,
    bodies.map((bytes) => ({ blob_id: blobIdOf(bytes), size_bytes: bytes.length })),
  )
  return Promise.all(bodies.map((bytes) => room.blobs.write(bytes)))
}

/** Removes what nothing needs. Made once for a server: it remembers how far it has looked. */
export function unusedBlobs(room: Room) {
  const db = room.database.kysely
  let references: Promise<Reference[]> | null = null
  let looked = { created_at: new Date(0), blob_id: '' }

  async function remove(blob_id: string, before: Date): Promise<boolean> {
    references ??= readReferences(db)
    const unused = unusedIn(await references)
    return db
      .transaction()
      .execute(async (write) => {
        const { rows } = await sql`delete from blobs
          where blob_id = ${blob_id} and created_at < ${before} and ${unused} returning blob_id`.execute(write)
        if (rows.length === 0) return false
        await room.blobs.remove(blob_id)
        return true
      })
      .catch((error: unknown) => {
        // Something came to need it just now.
        if (error instanceof Error && 'code' in error && error.code === '23503') return false
        throw error
      })
  }

  return {
    /** Looks through the next few, from the oldest to those of a day ago; each is looked at once. */
    async sweep(): Promise<number> {
      references ??= readReferences(db)
      const before = new Date(room.clock.now().getTime() - UNUSED_MS)
      const { rows } = await sql<{ blob_id: string; created_at: Date; unused: boolean }>`
        select blob_id, created_at, ${unusedIn(await references)} as unused from blobs
        where (created_at, blob_id) > (${looked.created_at}, ${looked.blob_id}) and created_at < ${before}
        order by created_at, blob_id limit ${LOOK_MAX}`.execute(db)
      let removed = 0
      for (const { blob_id, unused } of rows) if (unused && (await remove(blob_id, before))) removed += 1
      const last = rows.at(-1)
      if (last) looked = last
      return removed
    },

    /** For blobs to which something has just ceased to refer; the younger ones are looked at when their time comes. */
    async drop(blob_ids: string[]): Promise<void> {
      const before = new Date(room.clock.now().getTime() - UNUSED_MS)
      for (const blob_id of blob_ids) await remove(blob_id, before)
    },
  }
}

type Reference = { table: string; column: string }

/** Whatever refers to blobs, by the schema itself: a table that comes later is not forgotten. */
async function readReferences(db: Kysely<Tables>): Promise<Reference[]> {
  const { rows } = await sql<Reference>`
    select c.conrelid::regclass::text as table, a.attname::text as column
    from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
    where c.contype = 'f' and c.confrelid = 'blobs'::regclass`.execute(db)
  return rows
}

function unusedIn(references: Reference[]) {
  const uses = references.map(
    ({ table, column }) =>
      sql`not exists (select from ${sql.table(table)} as user_of where user_of.${sql.ref(column)} = blobs.blob_id)`,
  )
  return sql<boolean>`(${sql.join(uses, sql` and `)})`
}
