/**
 * Where files and transcripts are served: addresses that are signed and expire, and take no other credentials. Not
 * part of the contract's routes, since what comes from there is no JSON.
 *
 * What runs have made is never to act in the page's name: it is saved, not shown, and may run nothing.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { type Entry, Fault } from '../contract/index.ts'
import type { BlobStore, ByteRange } from '../engine/blobs.ts'
import type { ServerRoom } from './room.ts'

export const DOWNLOAD_PATH = '/artifacts/'
export const TRANSCRIPT_PATH = '/transcripts/'
export const CONVERSATION_FILE_PATH = '/conversation-files/'
export const ATTACHMENT_PATH = '/attachments/'

/** The root under which the one who asks has reached this server. */
export const rootOf = (headers: IncomingHttpHeaders, is_secure: boolean): string =>
  `${is_secure ? 'https' : 'http'}://${headers.host ?? 'localhost'}`

export type ServedFile = { blob_id: string; filename: string; mime_type: string }

export async function sendDownload(
  { engine }: ServerRoom,
  incoming: IncomingMessage,
  { artifact_uid, query }: { artifact_uid: string; query: Record<string, string> },
): Promise<Response> {
  return sendFile(engine.blobs, incoming, await engine.artifacts.download(artifact_uid, query))
}

/** The bytes of a blob, or the range of them that was asked for, as they come from the store. */
export async function sendFile(blobs: BlobStore, incoming: IncomingMessage, file: ServedFile): Promise<Response> {
  const size_bytes = await blobs.size(file.blob_id)
  if (size_bytes === null) throw new Fault('resource_not_found', 'The file is not in the store any more.')
  const etag = `"${file.blob_id}"`
  const headers: Record<string, string> = {
    ...savedAs(file.filename, file.mime_type),
    'accept-ranges': 'bytes',
    etag,
  }
  const range = rangeOf(incoming.headers, etag, size_bytes)
  if (range === 'unsatisfiable')
    throw new Fault(
      'invalid_request',
      `The file has ${size_bytes} bytes, and none of them are in the range asked for.`,
      {
        status: 416,
        headers: { 'content-range': `bytes */${size_bytes}` },
      },
    )
  const part: Record<string, string> =
    range === null ? {} : { 'content-range': `bytes ${range.first}-${range.last}/${size_bytes}` }
  const length = range === null ? size_bytes : range.last - range.first + 1
  const answer = {
    status: range === null ? 200 : 206,
    headers: { ...headers, ...part, 'content-length': String(length) },
  }
  if (incoming.method === 'HEAD') return new Response(null, answer)
  const stream = await blobs.open(file.blob_id, range ?? undefined)
  if (stream === null) throw new Fault('resource_not_found', 'The file is not in the store any more.')
  return new Response(stream, answer)
}

export const savedAs = (filename: string, mime_type: string): Record<string, string> => ({
  'content-type': mime_type,
  'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(filename)}`,
  'content-security-policy': "default-src 'none'; sandbox",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'private, no-store',
})

export async function sendConversationFile(
  { engine }: ServerRoom,
  incoming: IncomingMessage,
  { upload_id, query }: { upload_id: string; query: Record<string, string> },
): Promise<Response> {
  return sendFile(engine.blobs, incoming, await engine.conversationFiles.download(upload_id, query))
}

export async function sendAttachment(
  { engine }: ServerRoom,
  incoming: IncomingMessage,
  { upload_id, query }: { upload_id: string; query: Record<string, string> },
): Promise<Response> {
  return sendFile(engine.blobs, incoming, await engine.attachments.served(upload_id, query))
}

/** An entry on each line, as they are read: a transcript may be larger than memory. */
export async function sendTranscript(
  { engine }: ServerRoom,
  { run_id, query }: { run_id: string; query: Record<string, string> },
): Promise<Response> {
  const pages = engine.transcripts.read(run_id, query)
  // Refused before anything is sent, or not at all.
  const first = await pages.next()
  const encoder = new TextEncoder()
  const linesOf = (entries: Entry[]) => encoder.encode(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''))
  let next = first
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (next.done) return controller.close()
      controller.enqueue(linesOf(next.value))
      next = await pages.next()
    },
    async cancel() {
      await pages.return(undefined)
    },
  })
  return new Response(body, { headers: savedAs(`${run_id}.ndjson`, 'application/x-ndjson') })
}

/** RFC 9110, section 14: one range; null: all of it, which is also what several ranges get. */
function rangeOf(headers: IncomingHttpHeaders, etag: string, size_bytes: number): ByteRange | 'unsatisfiable' | null {
  if (headers['if-range'] !== undefined && headers['if-range'] !== etag) return null
  const [, from = '', to = ''] = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? '') ?? []
  if (from === '' && to === '') return null
  const first = from === '' ? Math.max(0, size_bytes - Number(to)) : Number(from)
  const last = from === '' || to === '' ? size_bytes - 1 : Math.min(Number(to), size_bytes - 1)
  if (first >= size_bytes || (from === '' && Number(to) === 0)) return 'unsatisfiable'
  return first <= last ? { first, last } : null
}
