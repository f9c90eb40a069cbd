/**
 * Artifacts: what a run made for people, as it reported them. A file's bytes lie in the blob store; who may fetch them
 * is in the address itself, signed with a secret that all servers on this database share, and it expires.
 */
import { createHash, randomUUID } from 'node:crypto'
import { type Selectable, sql } from 'kysely'
import { z } from 'zod'
import {
  ARTIFACT_BYTES_MAX,
  type Artifact,
  Fault,
  type KeptFile,
  type NewFile,
  type ReportArtifact,
} from '../contract/index.ts'
import type { Artifacts } from '../db/tables.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { mimeTypeOf } from './mime-types.ts'
import { checkVisible, visibleRuns } from './visible.ts'

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
type FileRow = z.infer<typeof FileRow>

export function artifactsEngine(room: Room) {
  const { clock } = room
  const db = room.database.kysely

  /** The same artifact of a run, however often and by whichever of its executions it is reported, is one. */
  async function insert(
    run: { team_id: string; run_id: string },
    artifact_type: 'PULL_REQUEST' | 'EXTERNAL_REFERENCE' | 'FILE',
    data: object,
    blob_id: string | null,
  ): Promise<{ artifact_uid: string }> {
    const key = blob_id === null ? [artifact_type, data] : [artifact_type, data, blob_id]
    return db
      .insertInto('artifacts')
      .values({
        artifact_uid: randomUUID(),
        team_id: run.team_id,
        run_id: run.run_id,
        artifact_type,
        data: JSON.stringify(data),
        blob_id,
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

  async function insertFile(run: { team_id: string; run_id: string }, file: NewFile): Promise<KeptFile> {
    const bytes = bytesOf(file)
    const data = rowOf(file, bytes)
    const blob_id = await room.blobs.write(bytes)
    await db
      .insertInto('blobs')
      .values({ blob_id, size_bytes: bytes.length, created_at: clock.now() })
      .onConflict((one) => one.doNothing())
      .execute()
    const { artifact_uid } = await insert(run, 'FILE', data, blob_id)
    const { filepath, mime_type, size_bytes, description = null } = data
    return { artifact_uid, filepath, description, mime_type, size_bytes }
  }

  /** The caller's own sight; a task sees what those have made that it builds on, too. */
  async function read(caller: Caller, artifact_uid: string): Promise<Selectable<Artifacts>> {
    const row = await db
      .selectFrom('artifacts')
      .innerJoin('runs', 'runs.run_id', 'artifacts.run_id')
      .selectAll('artifacts')
      .where('artifact_uid', '=', artifact_uid)
      .where((where) => where.or([visibleRuns(caller), builtOn(caller)]))
      .executeTakeFirst()
    if (!row) throw absent(artifact_uid)
    return row
  }

  async function get(caller: Caller, artifact_uid: string, download_root: string): Promise<Artifact> {
    const row = await read(caller, artifact_uid)
    const made = { artifact_uid, created_at: row.created_at.toISOString() }
    if (row.artifact_type === 'PLAN') {
      const plan = await db
        .selectFrom('plans')
        .select(['plan_id', 'title', 'document'])
        .where('artifact_uid', '=', artifact_uid)
        .executeTakeFirst()
      if (!plan) throw absent(artifact_uid)
      const { plan_id, title, document: content } = plan
      const data = { document_uid: plan_id, notebook_uid: plan_id, title, content, content_type: 'text/markdown' }
      return { ...made, artifact_type: 'PLAN', data }
    }
    if (row.artifact_type !== 'FILE' && row.artifact_type !== 'SCREENSHOT') {
      throw new Fault(
        'invalid_request',
        `Artifact ${artifact_uid} is a ${row.artifact_type}: it has no content here. Its run lists where it is.`,
      )
    }
    const { mime_type: content_type, description, ...file } = FileRow.parse(row.data)
    const { query, expires_at } = await room.signer.sign('artifacts', artifact_uid, DOWNLOAD_MS)
    const download_url = `${download_root}${artifact_uid}?${query}`
    const download = { download_url, expires_at, content_type, ...(description && { description }) }
    if (row.artifact_type === 'SCREENSHOT') return { ...made, artifact_type: 'SCREENSHOT', data: download }
    const { blob_id: sha256 } = row
    return { ...made, artifact_type: 'FILE', data: { ...download, ...file, ...(sha256 && { sha256 }) } }
  }

  return {
    get,

    async report(caller: Caller, { artifact_type, data }: ReportArtifact): Promise<{ artifact_uid: string }> {
      if (caller.kind !== 'execution') throw new Fault('not_authorized', 'Only a running agent reports artifacts.')
      if (artifact_type !== 'FILE') return insert(caller, artifact_type, data, null)
      const { artifact_uid } = await insertFile(caller, data)
      return { artifact_uid }
    },

    /** A file of a run; a run keeps files for itself alone. */
    async keep(caller: Caller, run_id: string, file: NewFile): Promise<KeptFile> {
      if (caller.kind === 'execution' && caller.run_id !== run_id)
        throw new Fault('not_authorized', `This token is that of run ${caller.run_id}, not of ${run_id}.`)
      await checkVisible(room, caller, [run_id])
      return insertFile({ team_id: caller.team_id, run_id }, file)
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
      const bytes = row?.blob_id ? await room.blobs.read(row.blob_id) : null
      if (!row || bytes === null) throw absent(artifact_uid)
      const { filename, mime_type } = FileRow.parse(row.data)
      return { bytes, filename, mime_type }
    },
  }
}

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

function rowOf({ filepath, filename, mime_type, description, title, encoding }: NewFile, bytes: Buffer): FileRow {
  const name = filename ?? filepath.split('/').at(-1) ?? filepath
  return {
    filepath,
    filename: name,
    mime_type: mime_type ?? mimeTypeOf(name, encoding === 'utf-8'),
    size_bytes: bytes.length,
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
