/**
 * Attachments: files that a person gives a run, with its prompt or with what is said later. Each execution finds all of
 * its run's in the folder that `BATON_ATTACHMENTS_DIR` names, as `{attachment_id}/{file_name}`, outside the
 * repositories; its agent is told where they are.
 */
import { z } from 'zod'
import { FileName, MimeType } from './files.ts'
import { route } from './route.ts'
import { UploadTarget } from './uploads.ts'

/** Sent along when a run is created. */
export const ATTACHMENTS_MAX = 5
/** Of one of those, as bytes. */
export const ATTACHMENT_BYTES_MAX = 10 * 1024 * 1024
/** Of one that comes by an address of its own. */
export const LATER_ATTACHMENT_BYTES_MAX = 25 * 1024 * 1024
/** Addresses that are asked for together, and files that one run may have. */
export const FILES_A_REQUEST_MAX = 25
export const FILES_A_RUN_MAX = 100
/** In base64, beside whatever else a new run is described by. */
export const CREATE_RUN_BYTES_MAX = 4 * 1024 * 1024 + ATTACHMENTS_MAX * Math.ceil(ATTACHMENT_BYTES_MAX / 3) * 4

export const NewAttachment = z.object({
  file_name: FileName,
  mime_type: MimeType,
  /** In base64. */
  data: z.string(),
})
export type NewAttachment = z.infer<typeof NewAttachment>

/** A file that is to come. */
export const AnnouncedFile = z.object({ filename: FileName, mime_type: MimeType })
export type AnnouncedFile = z.infer<typeof AnnouncedFile>

/** As a runner is told of it. */
export const AttachedFile = z.object({
  attachment_id: z.uuid(),
  filename: z.string(),
  mime_type: z.string(),
  size_bytes: z.int(),
  /** Signed; it expires, and takes no other credentials. */
  download_url: z.string(),
})
export type AttachedFile = z.infer<typeof AttachedFile>

const RunPath = z.object({ run_id: z.uuid() })
const TAG = 'Attachments'

export const attachmentRoutes = {
  prepare: route({
    name: 'attachments.prepare',
    method: 'POST',
    path: '/agent/runs/{run_id}/attachments/prepare',
    tag: TAG,
    callers: ['user'],
    summary: 'Addresses to send files to, which the run then has: at once if it is at work, else when it next is.',
    params: RunPath,
    body: z.object({ files: z.array(AnnouncedFile).min(1).max(FILES_A_REQUEST_MAX) }),
    answer: z.object({
      attachments: z.array(
        z.object({ attachment_id: z.uuid(), upload_url: z.string(), upload_target: UploadTarget.optional() }),
      ),
    }),
  }),
  download: route({
    name: 'attachments.download',
    method: 'POST',
    path: '/agent/runs/{run_id}/attachments/download',
    tag: TAG,
    callers: ['user', 'execution'],
    summary: 'Addresses that serve files of the run for a while: its attachments, and those of its snapshots.',
    params: RunPath,
    body: z.object({ attachment_ids: z.array(z.uuid()).min(1).max(FILES_A_RUN_MAX) }),
    answer: z.object({ attachments: z.array(z.object({ attachment_id: z.uuid(), download_url: z.string() })) }),
  }),
  take: route({
    name: 'attachments.take',
    method: 'POST',
    path: '/executions/{execution_id}/attachments',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'All files that the run was given, for its sandbox; until more come the runner is not told again.',
    params: z.object({ execution_id: z.uuid() }),
    answer: z.object({ attachments: z.array(AttachedFile) }),
  }),
}
