/**
 * Handoff: what of a workspace one execution leaves to the next, wherever that runs. A snapshot is a set of files and
 * their manifest, `snapshot_state.json`; the newest that an ended execution has left is put back before the next one's
 * agent is given its prompt. A client may leave one before there is a run (`initial_snapshot_token`).
 */
import { z } from 'zod'
import { AnnouncedFile, FILES_A_REQUEST_MAX, FILES_A_RUN_MAX } from './attachments.ts'
import { FileName } from './files.ts'
import { route } from './route.ts'
import { UploadTarget } from './uploads.ts'

/** Of one file of a snapshot. */
export const SNAPSHOT_FILE_BYTES_MAX = 25 * 1024 * 1024
/** With the manifest. */
export const SNAPSHOT_FILES_MAX = FILES_A_RUN_MAX
export const SNAPSHOT_MANIFEST = 'snapshot_state.json'

export const Generation = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,128}$/, 'A generation has 1 to 128 letters, digits, dots, underscores and dashes.')
  .refine((generation) => !generation.includes('__'), 'A generation has no two underscores in a row.')

/** Lines of the file that declares what is to be kept. */
export const SnapshotDeclaration = z.object({
  version: z.literal(1),
  kind: z.enum(['repo', 'file']),
  path: z.string().min(1).max(4096),
})
export type SnapshotDeclaration = z.infer<typeof SnapshotDeclaration>

export const SNAPSHOT_STATES = ['uploaded', 'clean', 'skipped', 'gather_failed', 'read_failed'] as const

const Kept = z.object({
  path: z.string(),
  /** Ours: the same below the workspace; null: it lies elsewhere. */
  relative: z.string().nullish(),
  status: z.enum(SNAPSHOT_STATES),
  /** Ours: why it is not uploaded. */
  reason: z.string().optional(),
})

export const SnapshotManifest = z.object({
  version: z.literal(1),
  /** Ours: when it was taken. */
  taken_at: z.string().optional(),
  /** Ours: while the agent was at work, and what it was doing then: nothing, or an action that had not ended. */
  checkpoint: z.enum(['between_actions', 'in_an_action']).optional(),
  repos: z.array(
    Kept.extend({
      /** Ours: names of uploaded files: what is not committed, and commits that came since the clone. */
      patch: z.string().optional(),
      bundle: z.string().optional(),
      /** Ours: where the repository stood; no branch: detached. */
      head: z.string().optional(),
      branch: z.string().nullish(),
    }),
  ),
  files: z.array(Kept.extend({ name: z.string().optional() })),
})
export type SnapshotManifest = z.infer<typeof SnapshotManifest>

const Files = z.array(AnnouncedFile).min(1).max(FILES_A_REQUEST_MAX)
const SUPPORT_TAG = 'Harness support'
const TAG = 'Handoff'

export const handoffRoutes = {
  attachments: route({
    name: 'handoff.attachments',
    method: 'GET',
    path: '/agent/runs/{run_id}/handoff/attachments',
    tag: TAG,
    callers: ['user', 'execution'],
    summary: 'The files of the newest snapshot that an ended execution of the run has left, with fresh addresses.',
    params: z.object({ run_id: z.uuid() }),
    answer: z.object({
      attachments: z.array(
        z.object({
          attachment_id: z.string(),
          filename: z.string(),
          download_url: z.string(),
          mime_type: z.string().optional(),
        }),
      ),
    }),
  }),
  upload: route({
    name: 'handoff.upload_snapshot',
    method: 'POST',
    path: '/agent/handoff/upload-snapshot',
    tag: TAG,
    callers: ['user'],
    summary: 'Addresses for the files of a snapshot that a new run is to begin with, and the token that names it.',
    body: z.object({ files: Files }),
    answer: z.object({ initial_snapshot_token: z.string(), expires_at: z.string(), uploads: z.array(UploadTarget) }),
  }),
  uploadSnapshot: route({
    name: 'harness_support.upload_snapshot',
    method: 'POST',
    path: '/harness-support/upload-snapshot',
    tag: SUPPORT_TAG,
    callers: ['execution'],
    summary: "Addresses for files of the run's snapshot, in the order of the list.",
    body: z.object({
      /** Absent: each file counts when it has come. Else only what `commit-snapshot` names does. */
      mode: z.literal('checkpoint').nullish(),
      generation: Generation.nullish(),
      files: Files,
    }),
    answer: z.object({ uploads: z.array(UploadTarget) }),
  }),
  commitSnapshot: route({
    name: 'harness_support.commit_snapshot',
    method: 'POST',
    path: '/harness-support/commit-snapshot',
    tag: SUPPORT_TAG,
    callers: ['execution'],
    summary: 'These files of a generation, all of which have come, are the snapshot of the execution from now on.',
    body: z.object({ generation: Generation, files: z.array(FileName).min(1).max(SNAPSHOT_FILES_MAX) }),
    answer: z.object({ generation: z.string() }),
  }),
}
