/**
 * Handoff: snapshots of a run's workspace. Their files are uploads of the run; which of them count is a row of
 * `snapshots` that the execution's own commit writes, all or none. What an ended execution has left is what the next
 * begins with; while one is at work, what it commits is nobody's yet.
 *
 * A client may leave files before there is a run: the token that it is given makes the next run begin with them, once.
 */
import { randomUUID } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import {
  type AnnouncedFile,
  Fault,
  SNAPSHOT_FILE_BYTES_MAX,
  SNAPSHOT_FILES_MAX,
  type UploadTarget,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { addressOf } from './attachments.ts'
import type { Caller, ExecutionCaller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { hashOf, newSessionSecret } from './tokens.ts'
import { superseded } from './transitions.ts'
import type { uploadsEngine } from './uploads.ts'
import { checkVisible } from './visible.ts'

/** How long a token waits for its run. */
const TOKEN_MS = 24 * 60 * 60_000
/** Tokens that one sweep forgets. */
const SWEEP_MAX = 200

type Asked = {
  mode?: 'checkpoint' | null | undefined
  generation?: string | null | undefined
  files: AnnouncedFile[]
  root: string
}

export function handoffEngine(room: Room, uploads: ReturnType<typeof uploadsEngine>) {
  const { clock } = room
  const db = room.database.kysely

  async function list(caller: Caller, run_id: string, root: string) {
    await checkVisible(room, caller, [run_id])
    const files = await filesOf(db, run_id)
    const attachments = await Promise.all(
      files.map(async ({ upload_id, name, mime_type }) => ({
        attachment_id: upload_id,
        filename: name,
        download_url: await addressOf(room, { upload_id }, root),
        mime_type,
      })),
    )
    return { attachments }
  }

  return {
    /** Of the newest snapshot that an ended execution has left, else of what the run began with. */
    list,

    async prepare(caller: ExecutionCaller, asked: Asked): Promise<{ uploads: UploadTarget[] }> {
      const { team_id, run_id, execution_id } = caller
      const generation = asked.mode === 'checkpoint' ? (asked.generation ?? null) : null
      if (asked.mode === 'checkpoint' && generation === null) {
        throw new Fault('invalid_request', 'A checkpoint needs a generation.', {
          errors: [{ pointer: '/generation', detail: 'absent' }],
        })
      }
      checkNames(asked.files.map(({ filename }) => filename))
      return db.transaction().execute(async (write) => {
        await lockRunning(write, caller)
        const before = await namesOf(write, caller, generation)
        if (new Set([...before, ...asked.files.map(({ filename }) => filename)]).size > SNAPSHOT_FILES_MAX)
          throw tooMany()
        const targets: UploadTarget[] = []
        for (const { filename: name, mime_type } of asked.files) {
          const { target } = await uploads.prepare(write, {
            ...{ team_id, run_id, purpose: 'snapshot', name, mime_type, root: asked.root },
            size_max: SNAPSHOT_FILE_BYTES_MAX,
            confirmed_by_coming: generation === null,
            data: { execution_id, generation },
          })
          targets.push(target)
        }
        return { uploads: targets }
      })
    },

    /** Every one of the files has come, or nothing changes. The same commit again answers the same. */
    async commit(caller: ExecutionCaller, { generation, files }: { generation: string; files: string[] }) {
      checkNames(files)
      await db.transaction().execute(async (write) => {
        await lockRunning(write, caller)
        const come = await comeOf(write, caller, generation)
        const missing = files.flatMap((name, at) => (come.has(name) ? [] : [{ name, at }]))
        if (missing.length > 0) {
          throw new Fault(
            'invalid_request',
            `Of generation ${generation} these have not come: ${missing.map(({ name }) => name).join(', ')}. Nothing was committed.`,
            { errors: missing.map(({ at }) => ({ pointer: `/files/${at}`, detail: 'has not come' })) },
          )
        }
        const upload_ids = files.flatMap((name) => come.get(name) ?? [])
        for (const upload_id of upload_ids)
          await uploads.confirm(write, { upload_id, team_id: caller.team_id, purpose: 'snapshot' })
        const row = { generation, files: upload_ids, committed_at: clock.now() }
        await write
          .insertInto('snapshots')
          .values({ execution_id: caller.execution_id, run_id: caller.run_id, ...row })
          .onConflict((one) => one.column('execution_id').doUpdateSet(row))
          .execute()
      })
      await forgetOlder(caller.run_id)
      return { generation }
    },

    /** Before there is a run. */
    async upload(caller: UserCaller, { files, root }: { files: AnnouncedFile[]; root: string }) {
      checkNames(files.map(({ filename }) => filename))
      const token = `hs-1.${newSessionSecret()}`
      const now = clock.now()
      const expires_at = new Date(now.getTime() + TOKEN_MS)
      const targets: UploadTarget[] = []
      await db.transaction().execute(async (write) => {
        const upload_ids: string[] = []
        for (const { filename: name, mime_type } of files) {
          const { team_id } = caller
          const { upload_id, target } = await uploads.prepare(write, {
            ...{ team_id, purpose: 'handoff', name, mime_type, root },
            size_max: SNAPSHOT_FILE_BYTES_MAX,
            confirmed_by_coming: true,
          })
          upload_ids.push(upload_id)
          targets.push(target)
        }
        const row = { handoff_id: randomUUID(), team_id: caller.team_id, token_hash: hashOf(token) }
        await write
          .insertInto('handoffs')
          .values({ ...row, files: upload_ids, created_at: now, expires_at })
          .execute()
      })
      return { initial_snapshot_token: token, expires_at: expires_at.toISOString(), uploads: targets }
    },

    /** In the transaction that makes the run. What has come of the files by the time it starts is what it begins with. */
    async begin(write: Kysely<Tables>, run: { team_id: string; run_id: string }, token: string): Promise<void> {
      const taken = await write
        .updateTable('handoffs')
        .set({ run_id: run.run_id })
        .where('token_hash', '=', hashOf(token))
        .where('team_id', '=', run.team_id)
        .where('run_id', 'is', null)
        .where('expires_at', '>', clock.now())
        .returning('files')
        .executeTakeFirst()
      if (!taken) {
        throw new Fault(
          'invalid_request',
          'This initial_snapshot_token is not known here, has expired, or a run began with it already. Upload the snapshot again.',
          { errors: [{ pointer: '/initial_snapshot_token', detail: 'not usable' }] },
        )
      }
      if (taken.files.length > 0)
        await write.updateTable('uploads').set({ run_id: run.run_id }).where('upload_id', 'in', taken.files).execute()
    },

    /** Forgets tokens that no run took in time. */
    async sweep(): Promise<void> {
      const { rows } = await sql<{ files: string[] }>`
        delete from handoffs where handoff_id = any(array(
          select handoff_id from handoffs where run_id is null and expires_at < ${clock.now()}
          order by expires_at limit ${SWEEP_MAX} for update skip locked))
        returning files`.execute(db)
      await uploads.discard(rows.flatMap(({ files }) => files))
    },
  }

  /** This execution's and the one that it began with stay. */
  async function forgetOlder(run_id: string): Promise<void> {
    await sql`
      delete from snapshots where run_id = ${run_id} and execution_id not in (
        select s.execution_id from snapshots s join executions e using (execution_id)
        where s.run_id = ${run_id} order by e.number desc limit 2)`.execute(db)
    const { rows } = await sql<{ upload_id: string }>`
      select upload_id from uploads where run_id = ${run_id} and purpose = 'snapshot' and confirmed_at is not null
        and data->>'generation' is not null
        and not exists (
          select from snapshots s where s.run_id = ${run_id} and uploads.upload_id = any(s.files))`.execute(db)
    await uploads.discard(rows.map(({ upload_id }) => upload_id))
  }
}

export type SnapshotFile = { upload_id: string; name: string; mime_type: string }

/** The files that the next execution of a run begins with. */
async function filesOf(read: Kysely<Tables>, run_id: string): Promise<SnapshotFile[]> {
  const { rows } = await sql<SnapshotFile>`
    with last as (
      select e.execution_id, s.files from executions e left join snapshots s using (execution_id)
      where e.run_id = ${run_id} and e.state = 'ended' and (s.files is not null or exists (
        select from uploads u where u.run_id = e.run_id and u.purpose = 'snapshot' and u.confirmed_at is not null
          and u.data->>'execution_id' = e.execution_id::text and u.data->>'generation' is null))
      order by e.number desc limit 1
    ), first as (
      select files from handoffs where run_id = ${run_id} and not exists (select from last)
    )
    select distinct on (u.name) u.upload_id, u.name, u.mime_type from uploads u
    where u.run_id = ${run_id} and u.confirmed_at is not null and (
      u.upload_id = any(array(select unnest(files) from last union all select unnest(files) from first))
      or (u.purpose = 'snapshot' and u.data->>'generation' is null
        and u.data->>'execution_id' = (select execution_id::text from last where files is null)))
    order by u.name, u.confirmed_at desc`.execute(read)
  return rows
}

/** Whether there is anything to begin with. */
export const hasSnapshot = (run_id: unknown) =>
  sql<boolean>`(exists (select from handoffs h where h.run_id = ${run_id})
    or exists (select from uploads u where u.run_id = ${run_id} and u.purpose = 'snapshot'
      and u.confirmed_at is not null))`

async function lockRunning(write: Kysely<Tables>, { execution_id }: ExecutionCaller): Promise<void> {
  const execution = await write
    .selectFrom('executions')
    .innerJoin('runs', 'runs.execution_id', 'executions.execution_id')
    .select('executions.execution_id')
    .where('executions.execution_id', '=', execution_id)
    .where('executions.state', '=', 'running')
    .forNoKeyUpdate(['executions'])
    .executeTakeFirst()
  if (!execution) throw superseded()
}

/** Names that were asked for; without a generation, by all executions of the run together. */
async function namesOf(write: Kysely<Tables>, caller: ExecutionCaller, generation: string | null): Promise<string[]> {
  const own = sql<boolean>`data->>'execution_id' = ${caller.execution_id} and data->>'generation' = ${generation}`
  const rows = await write
    .selectFrom('uploads')
    .select('name')
    .distinct()
    .where('run_id', '=', caller.run_id)
    .where('purpose', '=', 'snapshot')
    .where(generation === null ? sql<boolean>`data->>'generation' is null` : own)
    .execute()
  return rows.map(({ name }) => name)
}

/** By name, the newest that has come. */
async function comeOf(
  write: Kysely<Tables>,
  { run_id, execution_id }: ExecutionCaller,
  generation: string,
): Promise<Map<string, string>> {
  const rows = await write
    .selectFrom('uploads')
    .select(['upload_id', 'name'])
    .where('run_id', '=', run_id)
    .where('purpose', '=', 'snapshot')
    .where('received_at', 'is not', null)
    .where(sql<boolean>`data->>'execution_id' = ${execution_id} and data->>'generation' = ${generation}`)
    .orderBy('received_at')
    .execute()
  return new Map(rows.map(({ name, upload_id }) => [name, upload_id]))
}

function checkNames(names: string[]): void {
  const twice = names.findIndex((name, at) => names.indexOf(name) < at)
  if (twice < 0) return
  throw new Fault('invalid_request', `The file ${names[twice]} stands twice in the list.`, {
    errors: [{ pointer: `/files/${twice}`, detail: 'stands twice' }],
  })
}

const tooMany = (): Fault =>
  new Fault('invalid_request', `A snapshot has at most ${SNAPSHOT_FILES_MAX} files, with its manifest.`, {
    errors: [{ pointer: '/files', detail: `at most ${SNAPSHOT_FILES_MAX}` }],
  })
