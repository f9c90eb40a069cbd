/**
 * What a foreign harness keeps of its conversation: its own transcript, in its own format, and the last of its
 * terminal. They are uploaded again and again while it works; the newest that has come whole is the conversation's.
 */
import { type Selectable, sql } from 'kysely'
import { Fault, type SignedDownload, UPLOAD_BYTES_MAX, type UploadTarget } from '../contract/index.ts'
import type { Uploads } from '../db/tables.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import { type Part, partsBefore, partsOf } from './conversation-parts.ts'
import type { Room } from './engine.ts'
import { runNotFound } from './runs.ts'
import type { uploadsEngine } from './uploads.ts'
import { visibleRuns } from './visible.ts'

/** How long an address serves one. */
const DOWNLOAD_MS = 15 * 60_000

/** By their purpose as uploads; with what they are served as. */
const KINDS = {
  conversation_transcript: { name: 'transcript.json', mime_type: 'application/json', what: 'transcript' },
  conversation_block: { name: 'block-snapshot', mime_type: 'application/octet-stream', what: 'block snapshot' },
} as const
export type ConversationFile = keyof typeof KINDS

type Row = Pick<Selectable<Uploads>, 'upload_id' | 'blob_id' | 'name' | 'mime_type'>

export function conversationFilesEngine(room: Room, uploads: ReturnType<typeof uploadsEngine>) {
  const db = room.database.kysely

  async function find(parts: Part[], kind: ConversationFile): Promise<Row | null> {
    const run_ids = parts.map(({ run_id }) => run_id)
    const until = parts.map(({ until }) => until?.at ?? null)
    const { rows } = await sql<Row>`
      select upload_id, blob_id, name, mime_type from uploads
      join unnest(${run_ids}::uuid[], ${until}::timestamptz[]) as part(run_id, until) using (run_id)
      where purpose = ${kind} and confirmed_at is not null and (part.until is null or confirmed_at <= part.until)
      order by confirmed_at desc, upload_id limit 1`.execute(db)
    return rows[0] ?? null
  }

  async function findFor(caller: Caller, conversation_id: string, kind: ConversationFile): Promise<Row | null> {
    const { parts } = await partsOf(db, conversation_id, visibleRuns(caller))
    if (parts.length === 0) throw new Fault('resource_not_found', `There is no conversation ${conversation_id}.`)
    return find(parts, kind)
  }

  /** For the run that goes on with it: also what came before it, which is not otherwise its to see. */
  async function findOwn({ run_id }: ExecutionCaller, kind: ConversationFile): Promise<Row | null> {
    const run = await runOf(run_id)
    return find([...(await partsBefore(db, run)), { run_id, until: null }], kind)
  }

  async function runOf(run_id: string) {
    const run = await db
      .selectFrom('runs')
      .select(['run_id', 'conversation_id', 'created_at'])
      .where('run_id', '=', run_id)
      .executeTakeFirst()
    if (!run) throw runNotFound(run_id)
    return run
  }

  async function signed(file: Row | null, kind: ConversationFile, root: string): Promise<SignedDownload> {
    if (file === null)
      throw new Fault('resource_not_found', `No ${KINDS[kind].what} of this conversation was uploaded.`)
    const { query, expires_at } = await room.signer.sign('conversation_files', file.upload_id, DOWNLOAD_MS)
    return { download_url: `${root}${file.upload_id}?${query}`, expires_at }
  }

  /** What newer ones have taken the place of, unless a fork may be of then. */
  async function discardOlder(run_id: string, kind: ConversationFile): Promise<void> {
    const forked = await db
      .selectFrom('conversation_parts')
      .select('run_id')
      .where('run_id', '=', run_id)
      .executeTakeFirst()
    if (forked) return
    const [, ...older] = await uploads.ofRun(run_id, kind)
    await uploads.discard(older.map(({ upload_id }) => upload_id))
  }

  return {
    /** An address of the newest; `root` is what the address begins with. */
    async sign(
      caller: Caller,
      { conversation_id, kind, root }: { conversation_id: string; kind: ConversationFile; root: string },
    ): Promise<SignedDownload> {
      return signed(await findFor(caller, conversation_id, kind), kind, root)
    },

    /** Whether the harness's own transcript has come. */
    async has(caller: Caller, conversation_id: string): Promise<boolean> {
      return (await findFor(caller, conversation_id, 'conversation_transcript')) !== null
    },

    /** Of the conversation of the caller's own run. */
    async signOwn(caller: ExecutionCaller, kind: ConversationFile, root: string): Promise<SignedDownload> {
      return signed(await findOwn(caller, kind), kind, root)
    },

    /** Whether the harness of the caller's own run has a transcript to go on with. */
    async hasOwn(caller: ExecutionCaller): Promise<boolean> {
      return (await findOwn(caller, 'conversation_transcript')) !== null
    },

    /** The harness's own transcript; null: there is none, or it has more bytes. */
    async read(caller: Caller, conversation_id: string, bytes_max: number): Promise<Uint8Array | null> {
      const file = await findFor(caller, conversation_id, 'conversation_transcript')
      if (!file?.blob_id || ((await room.blobs.size(file.blob_id)) ?? 0) > bytes_max) return null
      return room.blobs.read(file.blob_id)
    },

    /** Where the caller's own run sends the next one; it counts when it has come whole. */
    async prepare(
      caller: ExecutionCaller,
      { conversation_id, kind, root }: { conversation_id: string; kind: ConversationFile; root: string },
    ): Promise<UploadTarget> {
      if ((await runOf(caller.run_id)).conversation_id !== conversation_id.toLowerCase())
        throw new Fault('resource_not_found', `Conversation ${conversation_id} is not that of run ${caller.run_id}.`)
      await discardOlder(caller.run_id, kind)
      const { team_id, run_id } = caller
      const { name, mime_type } = KINDS[kind]
      const upload = { team_id, run_id, purpose: kind, name, mime_type, size_max: UPLOAD_BYTES_MAX }
      return (await uploads.prepare(db, { ...upload, confirmed_by_coming: true, root })).target
    },

    /** For whoever holds an address that was signed here and has not expired. */
    async download(upload_id: string, query: Record<string, string>) {
      await room.signer.check('conversation_files', upload_id, query)
      const row = await db
        .selectFrom('uploads')
        .select(['blob_id', 'name', 'mime_type'])
        .where('upload_id', '=', upload_id)
        .executeTakeFirst()
      if (!row?.blob_id) throw new Fault('resource_not_found', 'A newer one has taken its place. Ask for its address.')
      return { blob_id: row.blob_id, filename: row.name, mime_type: row.mime_type }
    },
  }
}
