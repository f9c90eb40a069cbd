/**
 * Where a file is sent, as the public Oz API says it: an address that is signed, expires, and takes no other
 * credentials. Bytes never go through JSON this way, so a file may be large.
 *
 * Without `fields` the body is the file itself, sent with `headers`. With `fields` it is a multipart form of just these
 * fields in this order. Sending the same file again changes nothing; another one takes its place until the first of
 * them is confirmed.
 */
import { z } from 'zod'

export const UploadFieldValue = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('static'), value: z.string() }),
  /** The CRC32C of the file: base64 of its four bytes, the highest first. */
  z.object({ kind: z.literal('content_crc32c') }),
  /** The file. */
  z.object({ kind: z.literal('content_data') }),
])

export const UploadTarget = z.object({
  url: z.string(),
  method: z.enum(['PUT', 'POST']),
  headers: z.record(z.string(), z.string()).nullable(),
  fields: z.array(z.object({ name: z.string(), value: UploadFieldValue })).nullable(),
})
export type UploadTarget = z.infer<typeof UploadTarget>

/** CRC32C as clients write it. */
export const Crc32c = z.string().regex(/^[A-Za-z0-9+/]{6}==$/, 'A CRC32C is written as base64 of its four bytes.')

/** What the address answers. */
export const Received = z.object({ size_bytes: z.int(), sha256: z.string(), crc32c: z.string() })
export type Received = z.infer<typeof Received>

/** Of one file that comes by an address of its own, in bytes, unless its kind says less. */
export const UPLOAD_BYTES_MAX = 100 * 1024 * 1024
