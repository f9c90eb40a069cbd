/** The files of an export: written and read as streams, each with its SHA-256. */
import { createHash } from 'node:crypto'
import { createReadStream, type ReadStream } from 'node:fs'
import { mkdir, open, readdir, rename, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

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

/** What a blob is called: the SHA-256 of its content. Anything else in the folder is still being written. */
export const BLOB_NAME = /^[0-9a-f]{64}$/

/**
 * Copies every blob below a folder, and says which as JSON lines. A folder that is not there has none; a blob that has
 * gone meanwhile has no row any more.
 */
export async function* copyBlobs(from: string, to: string, signal?: AbortSignal): AsyncGenerator<string> {
  for (const path of await blobsBelow(from)) {
    const target = join(to, path)
    const source = await open(join(from, path)).catch(absent)
    if (source === null) continue
    await mkdir(dirname(target), { recursive: true, mode: 0o700 })
    const sum = await writeFileOf(target, chunksOf(source.createReadStream({ highWaterMark: CHUNK_BYTES })), signal)
    yield `${JSON.stringify({ path, ...sum } satisfies BlobLine)}\n`
  }
}

/** Whole or absent. A file of that name and length is already there: its name is the sum of its content. */
export async function copyWhole(from: string, to: string, expected: FileSum, signal?: AbortSignal): Promise<void> {
  const there = await stat(to).then(
    (found) => found.size,
    () => null,
  )
  if (there === expected.bytes) return
  await mkdir(dirname(to), { recursive: true, mode: 0o700 })
  const unfinished = `${to}.${process.pid}.import`
  await writeFileOf(unfinished, readChunks(from), signal)
  await rename(unfinished, to)
}

async function blobsBelow(folder: string): Promise<string[]> {
  const found = (await readdir(folder, { recursive: true, withFileTypes: true }).catch(absent)) ?? []
  const blobs = found.filter((file) => file.isFile() && BLOB_NAME.test(file.name))
  return blobs.map((file) => relative(folder, join(file.parentPath, file.name))).sort()
}

function absent(error: unknown): null {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
  throw error
}

const readChunks = (path: string): AsyncGenerator<Buffer> =>
  chunksOf(createReadStream(path, { highWaterMark: CHUNK_BYTES }))

async function* chunksOf(stream: ReadStream): AsyncGenerator<Buffer> {
  for await (const chunk of stream) {
    if (Buffer.isBuffer(chunk)) yield chunk
  }
}
