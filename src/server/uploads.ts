/**
 * Where files come in: addresses that are signed and expire, and take no other credentials. Not part of the contract's
 * routes, since what goes there is no JSON: the bare bytes (PUT), or a form (POST) as `FORM_FIELDS` says.
 *
 * Nothing is held in memory but what is on its way, and nothing is read before the address is known to be good.
 */
import type { IncomingMessage } from 'node:http'
import { Fault, type Received } from '../contract/index.ts'
import { FORM_FIELDS } from '../engine/uploads.ts'
import type { ServerRoom } from './room.ts'

/** What a form may have around its file. */
const FORM_BYTES_MAX = 64 * 1024
const FIELD_BYTES_MAX = 4 * 1024
const FIELDS_MAX = 32

export async function receiveUpload(
  { engine: { uploads } }: ServerRoom,
  incoming: IncomingMessage,
  { upload_id, query }: { upload_id: string; query: Record<string, string> },
): Promise<Response> {
  const coding = incoming.headers['content-encoding']
  if (coding && coding !== 'identity')
    throw new Fault('invalid_request', `Files are taken uncompressed, not as ${JSON.stringify(coding)}.`, {
      status: 415,
    })
  const length = Number(incoming.headers['content-length'] ?? 0)
  const received =
    incoming.method === 'POST'
      ? await readForm(incoming, (file) =>
          uploads.receive(upload_id, query, { ...file, size_bytes: Math.max(0, length - FORM_BYTES_MAX) }),
        )
      : await uploads.receive(upload_id, query, { chunks: whole(incoming), size_bytes: length })
  return Response.json(received, { headers: { 'cache-control': 'no-store' } })
}

type FormFile = { chunks: AsyncIterable<Uint8Array>; crc32c: string | null }

/** Fields come in order, so that what is said of the file is known before it comes; what follows it is not read. */
async function readForm(incoming: IncomingMessage, receive: (file: FormFile) => Promise<Received>): Promise<Received> {
  const type = incoming.headers['content-type'] ?? ''
  if (!/^multipart\/form-data\s*;/i.test(type))
    throw new Fault('invalid_request', 'A file is sent with PUT as it is, or with POST as multipart/form-data.', {
      status: 415,
    })
  const { Busboy } = await import('@fastify/busboy')
  const form = new Busboy({
    headers: { ...incoming.headers, 'content-type': type },
    isPartAFile: (name) => name === FORM_FIELDS.file,
    limits: { fields: FIELDS_MAX, fieldSize: FIELD_BYTES_MAX, files: 1 },
  })
  return new Promise((resolve, reject) => {
    let crc32c: string | null = null
    let received: Promise<Received> | null = null
    form.on('field', (name, value) => {
      if (name === FORM_FIELDS.crc32c) crc32c = value
    })
    form.on('file', (_name, file) => {
      received = receive({ chunks: whole(file), crc32c })
      received.catch((error: unknown) => {
        incoming.unpipe(form)
        reject(error)
      })
    })
    form.on('finish', () => {
      if (received === null) reject(new Fault('invalid_request', `The form has no field "${FORM_FIELDS.file}".`))
      else received.then(resolve, reject)
    })
    form.on('error', () => reject(new Fault('invalid_request', 'The body is not the multipart form that it says.')))
    incoming.on('error', () => {
      form.destroy()
      reject(brokenOff())
    })
    incoming.pipe(form)
  })
}

/** A sender that goes away in the middle has sent nothing. */
async function* whole(stream: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream) if (chunk instanceof Uint8Array) yield chunk
  } catch {
    throw brokenOff()
  }
}

const brokenOff = (): Fault => new Fault('invalid_request', 'The body broke off before its end. Send it again, whole.')
