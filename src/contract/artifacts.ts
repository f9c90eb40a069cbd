/**
 * Artifacts: what a run made for people. The public Oz reading of one (`GET /agent/artifacts/{uid}`), and ours for
 * keeping a file with a run: ask for an address, send the file there, confirm it.
 *
 * A file's bytes are fetched from its `download_url`, which is signed, expires, and takes no other credentials.
 */
import { z } from 'zod'
import { FileName, isPlainName, MimeType } from './files.ts'
import { route } from './route.ts'
import { RunId, Timestamp } from './run-states.ts'
import { SignedDownload } from './transcripts.ts'
import { Crc32c, UPLOAD_BYTES_MAX, UploadTarget } from './uploads.ts'

/** Of one file that is reported with its content in the report, as bytes. */
export const ARTIFACT_BYTES_MAX = 1024 * 1024
/** Base64, and text in which each character is escaped, take up more than the file itself. */
export const ARTIFACT_BODY_BYTES_MAX = 8 * ARTIFACT_BYTES_MAX

const FilePath = z
  .string()
  .max(1024)
  .refine((path) => path.split('/').every(isPlainName), 'A file path is relative, with / and without "..".')

const FileFacts = z.object({
  /** Where it lay, relative. */
  filepath: FilePath,
  /** The last part of the path where absent. */
  filename: FileName.optional(),
  /** By the name's ending where absent. */
  mime_type: MimeType.optional(),
  title: z.string().max(1024).optional(),
  description: z.string().max(4096).optional(),
})

/** What a file is, and what is in it. */
export const NewFile = FileFacts.extend({
  content: z.string(),
  /** What `content` is written in. */
  encoding: z.enum(['utf-8', 'base64']).default('utf-8'),
})
export type NewFile = z.infer<typeof NewFile>

const SCREENSHOT_TYPE = /^image\/(png|jpeg|gif|webp)$/

/** What a file is that is going to be sent, and of which run: by its id, or by its conversation's. */
export const FileToSend = FileFacts.extend({
  run_id: RunId.optional(),
  conversation_id: z.uuid().optional(),
  artifact_type: z.enum(['FILE', 'SCREENSHOT']).default('FILE'),
  /** How many bytes there are to be: another number is refused. */
  size_bytes: z.int().min(0).max(UPLOAD_BYTES_MAX, `A file has at most ${UPLOAD_BYTES_MAX} bytes.`).optional(),
})
  .refine(
    ({ run_id, conversation_id }) => (run_id === undefined) !== (conversation_id === undefined),
    'Name the run or its conversation: one of run_id and conversation_id.',
  )
  .refine(
    ({ artifact_type, mime_type }) => artifact_type === 'FILE' || SCREENSHOT_TYPE.test(mime_type ?? ''),
    'A screenshot is image/png, image/jpeg, image/gif or image/webp.',
  )
export type FileToSend = z.infer<typeof FileToSend>

const Made = z.object({ artifact_uid: z.string(), created_at: Timestamp })

export const PlanArtifact = Made.extend({
  artifact_type: z.literal('PLAN'),
  data: z.object({
    document_uid: z.string(),
    /** Oz's; the same as `document_uid` here. */
    notebook_uid: z.string(),
    url: z.string().optional(),
    title: z.string().optional(),
    content: z.string(),
    content_type: z.string(),
  }),
})

const Download = z.object({
  download_url: z.string(),
  expires_at: Timestamp,
  content_type: z.string(),
  description: z.string().optional(),
})

export const ScreenshotArtifact = Made.extend({ artifact_type: z.literal('SCREENSHOT'), data: Download })

export const FileArtifact = Made.extend({
  artifact_type: z.literal('FILE'),
  data: Download.extend({
    filename: z.string(),
    filepath: z.string().optional(),
    size_bytes: z.int().optional(),
    title: z.string().optional(),
    /** Ours: SHA-256 of the bytes, in hex. */
    sha256: z.string().optional(),
  }),
})

export const Artifact = z.discriminatedUnion('artifact_type', [PlanArtifact, ScreenshotArtifact, FileArtifact])
export type Artifact = z.infer<typeof Artifact>

export const KeptFile = z.object({
  artifact_uid: z.string(),
  filepath: z.string(),
  description: z.string().nullable(),
  mime_type: z.string(),
  size_bytes: z.int(),
})
export type KeptFile = z.infer<typeof KeptFile>

const ArtifactPath = z.object({ artifact_uid: z.uuid().toLowerCase() })
const TAG = 'Artifacts'

export const artifactRoutes = {
  get: route({
    name: 'artifacts.get',
    method: 'GET',
    path: '/agent/artifacts/{artifact_uid}',
    tag: TAG,
    callers: ['user', 'execution'],
    anonymous: true,
    summary:
      'One artifact: a plan with its text, a file or screenshot with an address that serves it for a while. Those of a ' +
      'run whose session_sharing has a public_access are read without a key.',
    params: ArtifactPath,
    answer: Artifact,
  }),
  download: route({
    name: 'artifacts.download',
    method: 'GET',
    path: '/agent/artifacts/{artifact_uid}/download',
    tag: TAG,
    callers: ['user', 'execution'],
    anonymous: true,
    summary: 'Ours: the file of an artifact: leads to the address that serves it.',
    params: ArtifactPath,
    answer: SignedDownload,
    status: 302,
  }),
  upload: route({
    name: 'artifacts.upload',
    method: 'POST',
    path: '/agent/artifacts/uploads',
    tag: TAG,
    callers: ['user', 'execution'],
    summary: 'Ours: an address to send a file of a run to, of at most 100 MiB. Nothing is kept until it is confirmed.',
    body: FileToSend,
    answer: z.object({ upload_id: z.string(), upload_target: UploadTarget }),
  }),
  confirm: route({
    name: 'artifacts.confirm',
    method: 'POST',
    path: '/agent/artifacts/uploads/{upload_id}/confirm',
    tag: TAG,
    callers: ['user', 'execution'],
    summary:
      'Ours: keep the file that was sent, checked. The same file of a run is kept once, however often confirmed.',
    params: z.object({ upload_id: z.uuid() }),
    body: z.object({
      /** CRC32C of what was sent: base64 of its four bytes, the highest first. */
      checksum: Crc32c.optional(),
    }),
    answer: KeptFile,
  }),
}
