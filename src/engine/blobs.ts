/**
 * Blobs: bytes too large for a row, named by their SHA-256.
 *
 * A store must have the bytes on disk (fsync), or in the keeping of a store that promises the same, before `write` or a
 * draft's `keep` resolves; must show a blob only when it is complete; and must answer null, not throw, for a name that
 * it does not hold. Equal bytes have one name, whoever wrote them: what may be removed, and when, `kept-blobs.ts` says.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { draftsIn } from './blob-drafts.ts'

export type BlobStore = {
  write(bytes: Uint8Array): Promise<string>
  /** Takes in what streams, whole, before it has a name; whoever asks for it keeps it or drops it. */
  draft(chunks: AsyncIterable<Uint8Array>): Promise<BlobDraft>
  read(blob_id: string): Promise<Uint8Array | null>
  /** The bytes from the first to the last of `range`, both included, or all. Whoever opens it reads or cancels it. */
  open(blob_id: string, range?: ByteRange): Promise<ReadableStream<Uint8Array> | null>
  /** In bytes. */
  size(blob_id: string): Promise<number | null>
  /** A name that is not held is no fault. */
  remove(blob_id: string): Promise<void>
  /** Forgets drafts of before, whose writer has gone. */
  tidy(before: Date): Promise<void>
}

export type ByteRange = { first: number; last: number }

export type BlobDraft = {
  blob_id: string
  size_bytes: number
  /** From now on the store holds it. */
  keep(): Promise<void>
  /** Changes nothing once it is kept. */
  drop(): Promise<void>
}

export const blobIdOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export const isBlobId = (name: string): boolean => /^[0-9a-f]{64}$/.test(name)

/** Where a blob lies below a folder, and below the prefix of a bucket just so: a copy of one is the other. */
export const placeOf = (blob_id: string): string => `${blob_id.slice(0, 2)}/${blob_id}`

export function folderBlobs(folder: string): BlobStore {
  const place = (blob_id: string) => join(folder, placeOf(blob_id))
  const drafts = draftsIn(join(folder, 'drafts'))

  /** Whoever finds a blob, or its shelf, may be ahead of the one who made it: both sync. */
  const syncAround = (path: string) => Promise.all([syncFolder(dirname(path)), syncFolder(folder)])

  async function holds(blob_id: string, size_bytes: number): Promise<boolean> {
    const path = place(blob_id)
    const there = await stat(path).catch(() => null)
    if (there?.size !== size_bytes) return false
    await syncAround(path)
    return true
  }

  async function draft(chunks: AsyncIterable<Uint8Array>): Promise<BlobDraft> {
    const { path, blob_id, size_bytes } = await drafts.write(chunks)
    return {
      blob_id,
      size_bytes,
      async keep() {
        const to = place(blob_id)
        await mkdir(dirname(to), { recursive: true, mode: 0o700 })
        await rename(path, to)
        await syncAround(to)
      },
      drop: () => rm(path, { force: true }),
    }
  }

  return {
    draft,
    async write(bytes) {
      const blob_id = blobIdOf(bytes)
      if (await holds(blob_id, bytes.length)) return blob_id
      const made = await draft(once(bytes))
      try {
        await made.keep()
      } finally {
        await made.drop()
      }
      return blob_id
    },
    async read(blob_id) {
      return isBlobId(blob_id) ? readFile(place(blob_id)).catch(absent) : null
    },
    async open(blob_id, range) {
      if (!isBlobId(blob_id)) return null
      const stream = createReadStream(place(blob_id), range && { start: range.first, end: range.last })
      const error = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
        stream.once('open', () => resolve(null))
        stream.once('error', resolve)
      })
      return error === null ? (Readable.toWeb(stream) as ReadableStream<Uint8Array>) : absent(error)
    },
    async size(blob_id) {
      const found = isBlobId(blob_id) ? await stat(place(blob_id)).catch(absent) : null
      return found?.size ?? null
    },
    async remove(blob_id) {
      if (isBlobId(blob_id)) await rm(place(blob_id), { force: true })
    },
    tidy: drafts.tidy,
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

function absent(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null
  throw error
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
