/** Artifacts as a run lists them, in the shapes of the public Oz API. */
import { z } from 'zod'

const Listed = z.object({ created_at: z.string() })

export const ListedArtifact = z.discriminatedUnion('artifact_type', [
  Listed.extend({
    artifact_type: z.literal('PLAN'),
    data: z.object({
      document_uid: z.string(),
      artifact_uid: z.string().optional(),
      notebook_uid: z.string().optional(),
      url: z.string().optional(),
      title: z.string().optional(),
      /** Ours: the plan's version. */
      version: z.int().optional(),
    }),
  }),
  Listed.extend({ artifact_type: z.literal('PULL_REQUEST'), data: z.object({ url: z.string(), branch: z.string() }) }),
  Listed.extend({
    artifact_type: z.literal('SCREENSHOT'),
    data: z.object({ artifact_uid: z.string(), mime_type: z.string(), description: z.string().optional() }),
  }),
  Listed.extend({
    artifact_type: z.literal('FILE'),
    data: z.object({
      artifact_uid: z.string(),
      filepath: z.string(),
      filename: z.string(),
      mime_type: z.string(),
      description: z.string().optional(),
      size_bytes: z.int().optional(),
      title: z.string().optional(),
    }),
  }),
  Listed.extend({
    artifact_type: z.literal('EXTERNAL_REFERENCE'),
    data: z.object({
      reference_type: z.string(),
      url: z.string(),
      title: z.string().optional(),
      metadata: z.record(z.string(), z.unknown()).optional(),
    }),
  }),
])
export type ListedArtifact = z.infer<typeof ListedArtifact>
