/**
 * Artifacts: what a run made for people, as it reported them. A file's bytes lie in the blob store; who may fetch them
 * is in the address itself, signed with a secret that all servers on this database share, and it expires.
 */
import { createHash, randomUUID } from 'node:crypto'
import { type Kysely, type Selectable, sql } from 'kysely'
import { z } from 'zod'
import {
  ARTIFACT_BYTES_MAX,
  type Artifact,
  Fault,
  type FileToSend,
  type KeptFile,
  type NewFile,
  type ReportArtifact,
  type SignedDownload,
  UPLOAD_BYTES_MAX,
  type UploadTarget,
} from '../contract/index.ts'
import { mimeTypeOf } from '../contract/mime-types.ts'
import type { Tables } from '../db/connect.ts'
import type { Artifacts } from '../db/tables.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { keepBlobs } from './kept-blobs.ts'
import { superseded } from './transitions.ts'
import { uploadsEngine } from './uploads.ts'
import { visibleRuns } from './visible.ts'

/** How long an address serves a file. */
const DOWNLOAD_MS = 15 * 60_000

/** What is kept of a file besides its bytes; the artifact as lists of runs show it. */
const FileRow = z.object({
  filepath: z.string(),
  filename: z.string(),
  mime_type: z.string(),
  size_bytes: z.int(),
  description: z.string().optional(),
  title: z.string().optional(),
})

/** What an upload of ours keeps until it is confirmed. */
const PURPOSE = 'artifact'
const Waiting = FileRow.omit({ size_bytes: true }).extend({ artifact_type: z.enum(['FILE', 'SCREENSHOT']) })

type NewArtifact = {
  artifact_type: 'PULL_REQUEST' | 'EXTERNAL_REFERENCE' | 'FILE' | 'SCREENSHOT'
  data: object
  blob_id: string | null
}
type OwnRun = { team_id: string; run_id: string }

export function artifactsEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely
  const uploads = uploadsEngine(room)

  /** The same artifact of a run, however often and by whichever of its executions it is reported, is one. */
  async function insert(
    write: Kysely<Tables>,
    { team_id, run_id }: OwnRun,
    { artifact_type, data, blob_id }: NewArtifact,
  ): Promise<{ artifact_uid: string }> {
    const key = blob_id === null ? [artifact_type, data] : [artifact_type, data, blob_id]
    return write
      .insertInto('artifacts')
      .values({
        artifact_uid: randomUUID(),
        ...{ team_id, run_id, artifact_type, blob_id },
        data: JSON.stringify(data),
        created_at: clock.now(),
        report_key: createHash('sha256').update(ordered(key)).digest('hex'),
      })
      .onConflict((one) =>
        one
          .columns(['run_id', 'report_key'])
          .where('report_key', 'is not', null)
          // Nothing changes, and the row that is there answers.
          .doUpdateSet({ report_key: sql`artifacts.report_key` }),
      )
      .returning('artifact_uid')
      .executeTakeFirstOrThrow()
  }

  /** An execution that has been replaced adds nothing any more: its run's row is locked, and names who may. */
  async function insertOwn(caller: ExecutionCaller, made: NewArtifact): Promise<{ artifact_uid: string }> {
    return db.transaction().execute(async (write) => {
      const own = await write
        .selectFrom('runs')
        .select('run_id')
        .where('run_id', '=', caller.run_id)
        .where('execution_id', '=', caller.execution_id)
        .forKeyShare()
        .executeTakeFirst()
      if (!own) throw superseded()
      return insert(write, caller, made)
    })
  }

  /** The caller's own sight, and what a run shows to all; a task sees what those have made that it builds on, too. */
  async function read(caller: Caller | null, artifact_uid: string): Promise<Selectable<Artifacts>> {
    const row = await db
      .selectFrom('artifacts')
      .innerJoin('runs', 'runs.run_id', 'artifacts.run_id')
      .selectAll('artifacts')
      .where('artifact_uid', '=', artifact_uid)
      .where((where) => where.or(caller === null ? [isPublic] : [isPublic, visibleRuns(caller), builtOn(caller)]))
      .executeTakeFirst()
    if (row) return row
    if (caller !== null) throw absent(artifact_uid)
    throw new Fault('authentication_required', 'Only what a run shows to all is read without a key.')
  }

  async function readPlan({ artifact_uid, created_at }: Selectable<Artifacts>): Promise<Artifact> {
    const plan = await db
      .selectFrom('plans')
      .select(['plan_id', 'title', 'document'])
      .where('artifact_uid', '=', artifact_uid)
      .executeTakeFirst()
    if (!plan) throw absent(artifact_uid)
    const { plan_id, title, document: content } = plan
    const data = { document_uid: plan_id, notebook_uid: plan_id, title, content, content_type: 'text/markdown' }
    return { artifact_uid, artifact_type: 'PLAN', created_at: created_at.toISOString(), data }
  }

  /** The run that a file is sent for; a run's own token sends for that run alone. */
  async function runOf(caller: Caller, { run_id, conversation_id }: FileToSend): Promise<OwnRun> {
    const run = await db
      .selectFrom('runs')
      .select(['runs.run_id', 'runs.team_id'])
      .where(visibleRuns(caller))
      .$if(run_id !== undefined, (some) => some.where('runs.run_id', '=', run_id ?? ''))
      .$if(conversation_id !== undefined, (some) => some.where('runs.conversation_id', '=', conversation_id ?? ''))
      // Of the runs that went on with a conversation, the last.
      .orderBy('runs.created_at', 'desc')
      .executeTakeFirst()
    const own = caller.kind === 'execution' ? caller.run_id : run?.run_id
    if (run_id !== undefined && caller.kind === 'execution' && run_id.toLowerCase() !== own)
      throw new Fault('not_authorized', `This token is that of run ${own}, not of ${run_id}.`)
    if (!run || run.run_id !== own)
      throw new Fault(
        'resource_not_found',
        run_id === undefined ? `There is no conversation ${conversation_id}.` : `There is no run ${run_id}.`,
      )
    return run
  }

  /** `caller` null: nobody said who asks. `download_root`: where this server serves files. */
  async function get(caller: Caller | null, artifact_uid: string, download_root: string): Promise<Artifact> {
    const row = await read(caller, artifact_uid)
    if (row.artifact_type === 'PLAN') return readPlan(row)
    if (row.artifact_type !== 'FILE' && row.artifact_type !== 'SCREENSHOT') {
      throw new Fault(
        'invalid_request',
        `Artifact ${artifact_uid} is a ${row.artifact_type}: it has no content here. Its run lists where it is.`,
      )
    }
    const made = { artifact_uid, created_at: row.created_at.toISOString() }
    const { mime_type: content_type, description, filepath, ...file } = FileRow.parse(row.data)
    const { query, expires_at } = await room.signer.sign('artifacts', artifact_uid, DOWNLOAD_MS)
    const download_url = `${download_root}${artifact_uid}?${query}`
    const download = { download_url, expires_at, content_type, ...(description && { description }) }
    if (row.artifact_type === 'SCREENSHOT') return { ...made, artifact_type: 'SCREENSHOT', data: download }
    const shown = { ...(caller === null ? {} : { filepath }), ...(row.blob_id && { sha256: row.blob_id }) }
    return { ...made, artifact_type: 'FILE', data: { ...download, ...file, ...shown } }
  }

  return {
    get,

    /** Where its file is served. */
    async address(caller: Caller | null, artifact_uid: string, download_root: string): Promise<SignedDownload> {
      const artifact = await get(caller, artifact_uid, download_root)
      if (artifact.artifact_type === 'PLAN')
        throw new Fault('invalid_request', `Artifact ${artifact_uid} is a plan: it is read with its text, as no file.`)
      const { download_url, expires_at } = artifact.data
      return { download_url, expires_at }
    },

    async report(caller: Caller, { artifact_type, data }: ReportArtifact): Promise<{ artifact_uid: string }> {
      if (caller.kind !== 'execution') throw new Fault('not_authorized', 'Only a running agent reports artifacts.')
      if (artifact_type !== 'FILE') {
        const said = Object.fromEntries(Object.entries(data).filter(([, value]) => value !== null))
        return insertOwn(caller, { artifact_type, data: said, blob_id: null })
      }
      const bytes = bytesOf(data)
      const row = { ...factsOf(data, data.encoding === 'utf-8'), size_bytes: bytes.length }
      const [blob_id = null] = await keepBlobs(room, [bytes])
      return insertOwn(caller, { artifact_type, data: row, blob_id })
    },

    /** Where a file of a run is to be sent; `root` as in `NewUpload`. */
    async upload(
      caller: Caller,
      file: FileToSend,
      root: string,
    ): Promise<{ upload_id: string; upload_target: UploadTarget }> {
      const run = await runOf(caller, file)
      const data = { ...factsOf(file, false), artifact_type: file.artifact_type }
      const { upload_id, target } = await uploads.prepare(db, {
        ...run,
        purpose: PURPOSE,
        name: data.filename,
        mime_type: data.mime_type,
        size_max: UPLOAD_BYTES_MAX,
        ...(file.size_bytes === undefined ? {} : { size_bytes: file.size_bytes }),
        data,
        root,
      })
      return { upload_id, upload_target: target }
    },

    /** The file that was sent becomes an artifact of its run. */
    async confirm(caller: Caller, upload_id: string, checksum: string | undefined): Promise<KeptFile> {
      await uploads.checkHeld([upload_id])
      return db.transaction().execute(async (write) => {
        const run = await write
          .selectFrom('uploads')
          .innerJoin('runs', 'runs.run_id', 'uploads.run_id')
          .select(['runs.run_id', 'runs.team_id', 'runs.execution_id'])
          .where('upload_id', '=', upload_id)
          .where(visibleRuns(caller))
          .executeTakeFirst()
        if (!run || (caller.kind === 'execution' && caller.run_id !== run.run_id))
          throw new Fault('resource_not_found', `There is no upload ${upload_id}.`)
        if (caller.kind === 'execution' && caller.execution_id !== run.execution_id) throw superseded()
        const which = { upload_id, team_id: run.team_id, purpose: PURPOSE }
        const { blob_id, size_bytes, data } = await uploads.confirm(write, { ...which, crc32c: checksum })
        const { artifact_type, ...facts } = Waiting.parse(data)
        const { artifact_uid } = await insert(write, run, { artifact_type, data: { ...facts, size_bytes }, blob_id })
        const { filepath, mime_type, description = null } = facts
        return { artifact_uid, filepath, description, mime_type, size_bytes }
      })
    },

    /** For whoever holds an address that was signed here and has not expired. */
    async download(artifact_uid: string, query: Record<string, string>) {
      await room.signer.check('artifacts', artifact_uid, query)
      if (!z.uuid().safeParse(artifact_uid).success) throw absent(artifact_uid)
      const row = await db
        .selectFrom('artifacts')
        .select(['data', 'blob_id'])
        .where('artifact_uid', '=', artifact_uid)
        .executeTakeFirst()
      if (!row?.blob_id) throw absent(artifact_uid)
      const { filename, mime_type } = FileRow.parse(row.data)
      return { blob_id: row.blob_id, filename, mime_type }
    },
  }
}

/** A condition on `runs`: what it makes may be read by whoever knows where, while its team is there. */
const isPublic = sql<boolean>`runs.config #>> '{session_sharing,public_access}' in ('VIEWER', 'EDITOR')
  and not exists (select from teams where teams.team_id = runs.team_id and teams.deleted_at is not null)`

const absent = (artifact_uid: string): Fault =>
  new Fault('resource_not_found', `There is no artifact ${artifact_uid} that you may see.`)

function builtOn(caller: Caller) {
  if (caller.kind !== 'execution') return sql<boolean>`false`
  return sql<boolean>`runs.team_id = ${caller.team_id} and runs.run_id = any(
    array(select unnest(own.depends_on) from batch_tasks own where own.run_id = ${caller.run_id}))`
}

function bytesOf({ content, encoding }: NewFile): Buffer {
  if (encoding === 'base64' && !/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(content))
    throw new Fault('invalid_request', 'The content is not base64.', {
      errors: [{ pointer: '/content', detail: 'not base64' }],
    })
  const bytes = Buffer.from(content, encoding)
  if (bytes.length <= ARTIFACT_BYTES_MAX) return bytes
  throw new Fault(
    'invalid_request',
    `The file has ${bytes.length} bytes; an artifact has at most ${ARTIFACT_BYTES_MAX}. Keep it elsewhere and report where.`,
    { errors: [{ pointer: '/content', detail: `at most ${ARTIFACT_BYTES_MAX} bytes` }] },
  )
}

function factsOf(
  { filepath, filename, mime_type, description, title }: Omit<NewFile, 'content' | 'encoding'>,
  is_text: boolean,
) {
  const name = filename ?? filepath.split('/').at(-1) ?? filepath
  return {
    filepath,
    filename: name,
    mime_type: mime_type ?? mimeTypeOf(name, is_text),
    ...(description === undefined ? {} : { description }),
    ...(title === undefined ? {} : { title }),
  }
}

/** JSON in which the order of names says nothing. */
const ordered = (value: unknown): string =>
  JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
