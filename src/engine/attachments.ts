/**
 * Attachments: files that people give a run. Those that come with its prompt are kept with it; later ones come by an
 * address of their own and count when they have come. Each is an upload of the run.
 *
 * A runner takes all of them for its sandbox, at its start and whenever there are more than it has taken. What an agent
 * was not told of yet goes with the next follow-up.
 */
import { randomUUID } from 'node:crypto'
import { type Kysely, type Selectable, sql } from 'kysely'
import { crc32cSum } from '../contract/crc32c.ts'
import {
  type AnnouncedFile,
  ATTACHMENT_BYTES_MAX,
  type AttachedFile,
  Fault,
  FILES_A_RUN_MAX,
  LATER_ATTACHMENT_BYTES_MAX,
  type NewAttachment,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Uploads } from '../db/tables.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { keepBlobs } from './kept-blobs.ts'
import { superseded } from './transitions.ts'
import type { uploadsEngine } from './uploads.ts'
import { checkVisible } from './visible.ts'

const PURPOSE = 'attachment'
/** How long an address serves a file. */
const DOWNLOAD_MS = 15 * 60_000

type File = Pick<Selectable<Uploads>, 'upload_id' | 'name' | 'mime_type'>
/** With its bytes in the store. */
export type KeptAttachment = {
  file_name: string
  mime_type: string
  blob_id: string
  size_bytes: number
  crc32c: string
}

export function attachmentsEngine(room: Room, uploads: ReturnType<typeof uploadsEngine>) {
  const { clock } = room
  const db = room.database.kysely

  const ofRun = (run_id: string) =>
    db
      .selectFrom('uploads')
      .select(['upload_id', 'name', 'mime_type', 'size_bytes'])
      .where('run_id', '=', run_id)
      .where('purpose', '=', PURPOSE)
      .where('confirmed_at', 'is not', null)
      .orderBy('created_at')
      .orderBy('name')
      .orderBy('upload_id')

  return {
    async prepare(caller: Caller, run_id: string, { files, root }: { files: AnnouncedFile[]; root: string }) {
      await checkVisible(room, caller, [run_id])
      return db.transaction().execute(async (write) => {
        await write.selectFrom('runs').select('run_id').where('run_id', '=', run_id).forNoKeyUpdate().execute()
        await checkRoom(write, run_id, files.length)
        const attachments = []
        for (const { filename: name, mime_type } of files) {
          const { team_id } = caller
          const { upload_id, target } = await uploads.prepare(write, {
            ...{ team_id, run_id, purpose: PURPOSE, name, mime_type, root },
            size_max: LATER_ATTACHMENT_BYTES_MAX,
            confirmed_by_coming: true,
          })
          attachments.push({ attachment_id: upload_id, upload_url: target.url, upload_target: target })
        }
        return { attachments }
      })
    },

    /** In the order of `attachment_ids`, which name attachments or snapshot files of the run. */
    async download(
      caller: Caller,
      run_id: string,
      { attachment_ids, root }: { attachment_ids: string[]; root: string },
    ) {
      await checkVisible(room, caller, [run_id])
      const found = await db
        .selectFrom('uploads')
        .select(['upload_id', 'name', 'mime_type'])
        .where('run_id', '=', run_id)
        .where('purpose', 'in', [PURPOSE, 'snapshot', 'handoff'])
        .where('upload_id', 'in', attachment_ids)
        .where('received_at', 'is not', null)
        .execute()
      const attachments = []
      for (const attachment_id of attachment_ids.map((id) => id.toLowerCase())) {
        const file = found.find(({ upload_id }) => upload_id === attachment_id)
        if (!file)
          throw new Fault('resource_not_found', `Run ${run_id} has no file ${attachment_id}, or it has not come yet.`)
        attachments.push({ attachment_id, download_url: await addressOf(room, file, root) })
      }
      return { attachments }
    },

    /** All that the run has; the runner is told again when there are more. */
    async take(caller: Caller, execution_id: string, root: string): Promise<{ attachments: AttachedFile[] }> {
      own(caller, execution_id)
      const files = await ofRun(caller.run_id).execute()
      const taken = await db
        .updateTable('executions')
        .set({ attachments: files.length })
        .where('execution_id', '=', execution_id)
        .where('state', '=', 'running')
        .executeTakeFirst()
      if (taken.numUpdatedRows === 0n) throw superseded()
      const attachments = await Promise.all(
        files.map(async (file) => ({
          attachment_id: file.upload_id,
          filename: file.name,
          mime_type: file.mime_type,
          size_bytes: file.size_bytes ?? 0,
          download_url: await addressOf(room, file, root),
        })),
      )
      return { attachments }
    },

    /** What a follow-up says of files that its agent was not told of; `said` notes that it was. The same key, the same. */
    async untold(run_id: string, key: string = randomUUID()): Promise<{ text: string; said(): Promise<void> }> {
      const files = await ofRun(run_id).where(sql<boolean>`(data is null or data->>'told' = ${key})`).execute()
      const lines = files.map(({ upload_id, name, mime_type }) => `- ${upload_id}/${name} (${mime_type})`)
      const text =
        files.length === 0 ? '' : `\n\nFiles for you, in the folder $BATON_ATTACHMENTS_DIR:\n${lines.join('\n')}`
      return {
        text,
        async said() {
          if (files.length === 0) return
          const upload_ids = files.map(({ upload_id }) => upload_id)
          const data = JSON.stringify({ told: key })
          await db.updateTable('uploads').set({ data }).where('upload_id', 'in', upload_ids).execute()
        },
      }
    },

    /** For whoever holds an address that was signed here and has not expired. */
    async served(upload_id: string, query: Record<string, string>) {
      await room.signer.check('attachments', upload_id, query)
      const file = await db
        .selectFrom('uploads')
        .select(['blob_id', 'name', 'mime_type'])
        .where('upload_id', '=', upload_id)
        .executeTakeFirst()
      if (!file?.blob_id) throw new Fault('resource_not_found', 'This file is not kept any more.')
      return { blob_id: file.blob_id, filename: file.name, mime_type: file.mime_type }
    },

    /** The bytes into the store, before there is a run; `attach` gives them to it. */
    async keep(files: NewAttachment[]): Promise<KeptAttachment[]> {
      const bodies = files.map(({ data }, at) => bytesOf(data, at))
      const blob_ids = await keepBlobs(room, bodies)
      return files.map(({ file_name, mime_type }, at) => {
        const bytes = bodies[at] ?? Buffer.alloc(0)
        const sum = crc32cSum()
        sum.add(bytes)
        return { file_name, mime_type, blob_id: blob_ids[at] ?? '', size_bytes: bytes.length, crc32c: sum.text() }
      })
    },

    /** In the transaction that makes the run. */
    async attach(write: Kysely<Tables>, run: { team_id: string; run_id: string }, kept: KeptAttachment[]) {
      if (kept.length === 0) return
      const now = clock.now()
      const rows = kept.map(({ file_name, mime_type, blob_id, size_bytes, crc32c }) => ({
        ...{ upload_id: randomUUID(), ...run, purpose: PURPOSE, name: file_name, mime_type },
        ...{ size_max: ATTACHMENT_BYTES_MAX, confirmed_by_coming: true, created_at: now },
        ...{ blob_id, size_bytes, crc32c, received_at: now, confirmed_at: now },
        data: JSON.stringify({ told: 'with the prompt' }),
      }))
      await write.insertInto('uploads').values(rows).execute()
    },
  }
}

/** An address that serves the file of an upload for a while. */
export async function addressOf(room: Room, { upload_id }: Pick<File, 'upload_id'>, root: string): Promise<string> {
  const { query } = await room.signer.sign('attachments', upload_id, DOWNLOAD_MS)
  return `${root}${upload_id}?${query}`
}

async function checkRoom(write: Kysely<Tables>, run_id: string, more: number): Promise<void> {
  const { count } = await write
    .selectFrom('uploads')
    .select((u) => u.fn.countAll<number>().as('count'))
    .where('run_id', '=', run_id)
    .where('purpose', '=', PURPOSE)
    .executeTakeFirstOrThrow()
  if (Number(count) + more <= FILES_A_RUN_MAX) return
  const said = `A run has at most ${FILES_A_RUN_MAX} attachments; this one has ${count}.`
  throw new Fault('invalid_request', said, { errors: [{ pointer: '/files', detail: `at most ${FILES_A_RUN_MAX}` }] })
}

function bytesOf(data: string, at: number): Buffer {
  const refused = (detail: string) =>
    new Fault('invalid_request', `\`attachments[${at}].data\` is not valid: ${detail}.`, {
      errors: [{ pointer: `/attachments/${at}/data`, detail }],
    })
  const bytes = Buffer.from(data, 'base64')
  // What is no base64 was left out.
  if (bytes.toString('base64').replace(/=+$/, '') !== data.replace(/\s+/g, '').replace(/=+$/, ''))
    throw refused('it is not base64')
  if (bytes.length > ATTACHMENT_BYTES_MAX)
    throw refused(`the file has ${bytes.length} bytes, and at most ${ATTACHMENT_BYTES_MAX} are taken`)
  return bytes
}

function own(caller: Caller, execution_id: string): asserts caller is ExecutionCaller {
  if (caller.kind !== 'execution' || caller.execution_id !== execution_id)
    throw new Fault('resource_not_found', `There is no execution ${execution_id}.`)
}
