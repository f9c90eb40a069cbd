/** The files of an export: written and read as streams, each with its SHA-256. */
import { createHash } from 'node:crypto'
import { createReadStream, type ReadStream } from 'node:fs'
import { mkdir, open, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const CHUNK_BYTES = 1024 * 1024

export type FileSum = { bytes: number; sha256: string }
export type BlobLine = FileSum & { path: string }

/** Writes and syncs a new file, closed to others. */
export async function writeFileOf(
  path: string,
  chunks: AsyncIterable<string | Buffer>,
  signal?: AbortSignal,
): Promise<FileSum> {
  const file = await open(path, 'wx', 0o600)
  try {
    const hash = createHash('sha256')
    let bytes = 0
    for await (const chunk of chunks) {
      signal?.throwIfAborted()
      const buffer = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      hash.update(buffer)
      bytes += buffer.length
      await file.writeFile(buffer)
    }
    await file.sync()
    return { bytes, sha256: hash.digest('hex') }
  } finally {
    await file.close()
  }
}

export async function sumOf(path: string, signal?: AbortSignal): Promise<FileSum> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of readChunks(path)) {
    signal?.throwIfAborted()
    hash.update(chunk)
    bytes += chunk.length
  }
  return { bytes, sha256: hash.digest('hex') }
}

/** Lines end with \n and nothing else: U+2028, at which readline also cuts, may stand in JSON. */
export async function* readLines(path: string): AsyncGenerator<string> {
  let rest: Buffer[] = []
  for await (const chunk of readChunks(path)) {
    let from = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      yield Buffer.concat([...rest, chunk.subarray(from, end)]).toString('utf8')
      rest = []
      from = end + 1
    }
    if (from < chunk.length) rest.push(chunk.subarray(from))
  }
  if (rest.length > 0) yield Buffer.concat(rest).toString('utf8')
}

/** What a blob is called: the SHA-256 of its content. */
export const BLOB_NAME = /^[0-9a-f]{64}$/

/** Wherever the blobs of a server lie: those that it names, and a way to add one. */
export type BlobPlace = {
  size(blob_id: string): Promise<number | null>
  open(blob_id: string): Promise<AsyncIterable<Uint8Array> | null>
  draft(chunks: AsyncIterable<Uint8Array>): Promise<{ keep(): Promise<void>; drop(): Promise<void> }>
}

/** Writes each blob to a file below `to`, and says which as JSON lines. One that is not there is left out. */
export async function* saveBlobs(
  blobs: BlobPlace,
  names: AsyncIterable<string>,
  { to, signal }: { to: string; signal?: AbortSignal | undefined },
): AsyncGenerator<string> {
  for await (const blob_id of names) {
    const stream = await blobs.open(blob_id)
    if (stream === null) continue
    const path = `${blob_id.slice(0, 2)}/${blob_id}`
    const target = join(to, path)
    await mkdir(dirname(target), { recursive: true, mode: 0o700 })
    const sum = await writeFileOf(target, buffersOf(stream), signal)
    yield `${JSON.stringify({ path, ...sum } satisfies BlobLine)}\n`
  }
}

/** One of that name and length is already there: its name is the sum of its content. */
export async function putBlob(blobs: BlobPlace, blob_id: string, from: string): Promise<void> {
  const { size } = await stat(from)
  if ((await blobs.size(blob_id)) === size) return
  const draft = await blobs.draft(readChunks(from))
  try {
    await draft.keep()
  } finally {
    await draft.drop()
  }
}

async function* buffersOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
}

const readChunks = (path: string): AsyncGenerator<Buffer> =>
  chunksOf(createReadStream(path, { highWaterMark: CHUNK_BYTES }))

async function* chunksOf(stream: ReadStream): AsyncGenerator<Buffer> {
  for await (const chunk of stream) {
    if (Buffer.isBuffer(chunk)) yield chunk
  }
}
