/**
 * Artifacts: what a run made for people. The public Oz reading of one (`GET /agent/artifacts/{uid}`), and ours for
 * keeping a file with a run.
 *
 * A file's bytes are fetched from its `download_url`, which is signed, expires, and takes no other credentials.
 */
import { z } from 'zod'
import { route } from './route.ts'
import { RunId, Timestamp } from './runs.ts'

/** Of one file, as bytes. */
export const ARTIFACT_BYTES_MAX = 1024 * 1024
/** Base64, and text in which each character is escaped, take up more than the file itself. */
export const ARTIFACT_BODY_BYTES_MAX = 8 * ARTIFACT_BYTES_MAX

/** Neither leads anywhere else, wherever somebody may save it. */
const isPlainName = (name: string): boolean => !/[\\\p{Cc}]/u.test(name) && !['', '.', '..'].includes(name)

const FileName = z
  .string()
  .max(255)
  .refine((name) => isPlainName(name) && !name.includes('/'), 'A file name has no folder and no control characters.')

const FilePath = z
  .string()
  .max(1024)
  .refine((path) => path.split('/').every(isPlainName), 'A file path is relative, with / and without "..".')

const MimeType = z
  .string()
  .max(255)
  .regex(/^[\w.+-]+\/[\w.+-]+(; ?charset=[\w-]+)?$/, 'A MIME type is written like text/markdown.')

/** What a file is, and what is in it. */
export const NewFile = z.object({
  /** Where it lay, relative. */
  filepath: FilePath,
  /** The last part of the path where absent. */
  filename: FileName.optional(),
  /** By the name's ending where absent. */
  mime_type: MimeType.optional(),
  title: z.string().max(1024).optional(),
  description: z.string().max(4096).optional(),
  content: z.string(),
  /** What `content` is written in. */
  encoding: z.enum(['utf-8', 'base64']).default('utf-8'),
})
export type NewFile = z.infer<typeof NewFile>

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

const TAG = 'Artifacts'

export const artifactRoutes = {
  get: route({
    name: 'artifacts.get',
    method: 'GET',
    path: '/agent/artifacts/{artifact_uid}',
    tag: TAG,
    callers: ['user', 'execution'],
    summary: 'One artifact: a plan with its text, a file or screenshot with an address that serves it for a while.',
    params: z.object({ artifact_uid: z.uuid() }),
    answer: Artifact,
  }),
  create: route({
    name: 'artifacts.create',
    method: 'POST',
    path: '/agent/runs/{run_id}/artifacts',
    tag: TAG,
    callers: ['user', 'execution'],
    summary: 'Ours: keep a file of at most 1 MiB with a run. The same file of a run is kept once.',
    params: z.object({ run_id: RunId }),
    body: NewFile,
    answer: KeptFile,
    body_bytes_max: ARTIFACT_BODY_BYTES_MAX,
  }),
}
