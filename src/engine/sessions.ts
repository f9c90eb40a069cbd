/**
 * The sessions that harnesses keep of their own: packed by the runner, opaque here, one for each run. A newer one takes
 * the place of the older, file by file. Only the current execution, while it runs, may keep one.
 */
import { randomBytes } from 'node:crypto'
import type { Kysely } from 'kysely'
import { sql } from 'kysely'
import { Fault, type KeptSession, SESSION_PACKED_BYTES_MAX } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import { type Part, type Position, partsBefore } from './conversation-parts.ts'
import type { Room } from './engine.ts'
import { superseded } from './transitions.ts'

/**
 * Before each file's bytes, in its blob: so no other blob has the same name, and it may be removed. Nobody can bring
 * about the removal of what another row names by sending the same bytes.
 */
const SALT_BYTES = 16

type Fresh = { path: string; blob_id: string; packed_bytes: number }
type Kept = { bytes: number; dropped: string[] }

export function sessionsEngine(room: Room) {
  const db = room.database.kysely

  async function keep(caller: Caller, execution_id: string, session: KeptSession): Promise<{ bytes: number }> {
    own(caller, execution_id)
    const bytes = sizeOf(session)
    if (bytes > SESSION_PACKED_BYTES_MAX) throw tooLarge(bytes)
    if (new Set(session.files.map(({ path }) => path)).size < session.files.length)
      throw new Fault('invalid_request', 'A file of the session stands twice in one request.')
    const fresh: Fresh[] = []
    try {
      for (const { path, packed } of session.files) {
        if (packed === undefined) continue
        const content = Buffer.from(packed, 'base64')
        const blob_id = await room.blobs.write(Buffer.concat([randomBytes(SALT_BYTES), content]))
        fresh.push({ path, blob_id, packed_bytes: content.length })
      }
      const kept = await db.transaction().execute((write) => replace(room, write, { caller, session, fresh }))
      await removeAll(kept.dropped)
      return { bytes: kept.bytes }
    } catch (error) {
      await removeAll(fresh.map(({ blob_id }) => blob_id))
      throw error
    }
  }

  async function read(caller: Caller, execution_id: string): Promise<KeptSession> {
    own(caller, execution_id)
    const run = await db
      .selectFrom('runs')
      .innerJoin('executions', 'executions.execution_id', 'runs.execution_id')
      .select(['runs.run_id', 'runs.conversation_id', 'runs.created_at', 'executions.harness'])
      .where('runs.execution_id', '=', execution_id)
      .executeTakeFirst()
    if (!run) throw nothingKept()
    const parts = [...(await partsBefore(db, run)), { run_id: run.run_id, until: null }]
    const session = await keptSession(db, parts, run.harness)
    if (session === null) throw nothingKept()
    const rows = await db
      .selectFrom('harness_session_files')
      .select(['path', 'blob_id'])
      .where('run_id', '=', session.run_id)
      .orderBy('path')
      .execute()
    const files: KeptSession['files'] = []
    for (const { path, blob_id } of rows) {
      const bytes = await room.blobs.read(blob_id)
      if (bytes === null) throw nothingKept()
      files.push({ path, packed: Buffer.from(bytes.subarray(SALT_BYTES)).toString('base64') })
    }
    return { session_id: session.session_id, entries: session.entries, files }
  }

  /** What is left over when this fails costs room and nothing else. */
  async function removeAll(blob_ids: string[]): Promise<void> {
    for (const blob_id of blob_ids) {
      await room.blobs.remove(blob_id).catch((error: unknown) => room.log.warn({ err: error, blob_id }, 'blob.left'))
    }
  }

  return { keep, read }
}

export type FoundSession = { run_id: string; session_id: string; execution_number: number; entries: number }

/**
 * The newest session of this harness that is kept of these runs. One that knows more than belongs to a part is not of
 * this conversation.
 */
export async function keptSession(db: Kysely<Tables>, parts: Part[], harness: string): Promise<FoundSession | null> {
  const run_ids = parts.map(({ run_id }) => run_id)
  const rows = await db
    .selectFrom('harness_sessions')
    .select(['run_id', 'session_id', 'execution_number', 'entries'])
    .where('run_id', 'in', run_ids)
    .where('harness', '=', harness)
    .execute()
  for (const { run_id, until } of parts.toReversed()) {
    const kept = rows.find((row) => row.run_id === run_id)
    if (kept !== undefined && (until === null || isWithin(kept, until))) return kept
  }
  return null
}

const isWithin = ({ execution_number, entries }: FoundSession, until: Position): boolean =>
  execution_number < until.execution_number || (execution_number === until.execution_number && entries <= until.number)

type Replace = { caller: ExecutionCaller; session: KeptSession; fresh: Fresh[] }

/** The execution's row is locked, so that it cannot end, nor another take its place, meanwhile. */
async function replace(room: Room, write: Kysely<Tables>, { caller, session, fresh }: Replace): Promise<Kept> {
  const { run_id, team_id, execution_id } = caller
  const execution = await write
    .selectFrom('executions')
    .innerJoin('runs', 'runs.execution_id', 'executions.execution_id')
    .select(['executions.number', 'executions.harness'])
    .where('executions.execution_id', '=', execution_id)
    .where('executions.state', '=', 'running')
    .forNoKeyUpdate(['executions'])
    .executeTakeFirst()
  if (!execution) throw superseded()
  if (await isLater(write, run_id, { execution_number: execution.number, entries: session.entries }))
    return { bytes: 0, dropped: fresh.map(({ blob_id }) => blob_id) }
  const held = await write
    .selectFrom('harness_session_files')
    .select(['path', 'blob_id', 'packed_bytes'])
    .where('run_id', '=', run_id)
    .execute()
  const sent = new Set(fresh.map(({ path }) => path))
  const named = new Set(session.files.map(({ path }) => path))
  const stays = held.filter(({ path }) => named.has(path) && !sent.has(path))
  if (stays.length + fresh.length < named.size) throw notHeld()
  const bytes = [...stays, ...fresh].reduce((sum, { packed_bytes }) => sum + packed_bytes, 0)
  if (bytes > SESSION_PACKED_BYTES_MAX) throw tooLarge(bytes)
  const now = room.clock.now()
  const row = {
    harness: execution.harness,
    session_id: session.session_id,
    execution_number: execution.number,
    entries: session.entries,
    kept_at: now,
  }
  await write
    .insertInto('harness_sessions')
    .values({ run_id, team_id, ...row })
    .onConflict((c) => c.column('run_id').doUpdateSet(row))
    .execute()
  const gone = held.filter((file) => !stays.includes(file))
  await sql`delete from harness_session_files where run_id = ${run_id} and path = any(${gone.map((f) => f.path)}::text[])`.execute(
    write,
  )
  const dropped = gone.map(({ blob_id }) => blob_id)
  await sql`delete from blobs where blob_id = any(${dropped}::text[])`.execute(write)
  if (fresh.length > 0) {
    const blobs = fresh.map(({ blob_id, packed_bytes }) => ({
      blob_id,
      size_bytes: packed_bytes + SALT_BYTES,
      created_at: now,
    }))
    await write.insertInto('blobs').values(blobs).execute()
    await write
      .insertInto('harness_session_files')
      .values(fresh.map((file) => ({ run_id, ...file })))
      .execute()
  }
  return { bytes, dropped }
}

/** A request that was given up may arrive after the one that followed it. */
async function isLater(
  write: Kysely<Tables>,
  run_id: string,
  { execution_number, entries }: { execution_number: number; entries: number },
): Promise<boolean> {
  const later = await write
    .selectFrom('harness_sessions')
    .select('run_id')
    .where('run_id', '=', run_id)
    .where('execution_number', '=', execution_number)
    .where('entries', '>', entries)
    .executeTakeFirst()
  return later !== undefined
}

const sizeOf = ({ files }: KeptSession): number =>
  files.reduce((sum, { packed }) => sum + (packed === undefined ? 0 : Buffer.byteLength(packed, 'base64')), 0)

const tooLarge = (bytes: number): Fault =>
  new Fault(
    'invalid_request',
    `The session is packed into ${bytes} bytes, more than the ${SESSION_PACKED_BYTES_MAX} that are kept.`,
    { status: 413 },
  )

const notHeld = (): Fault =>
  new Fault('conflict', 'A file of the session is not held here; send all of them.', { retryable: true })

const nothingKept = (): Fault => new Fault('resource_not_found', 'No session of this run is kept.')

/** A runner may speak of its own execution alone. */
function own(caller: Caller, execution_id: string): asserts caller is ExecutionCaller {
  if (caller.kind !== 'execution' || caller.execution_id !== execution_id)
    throw new Fault('resource_not_found', `There is no execution ${execution_id}.`)
}
