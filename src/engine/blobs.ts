/**
 * Blobs: bytes too large for a row, named by their SHA-256.
 *
 * A store must have the bytes on disk (fsync) before `write` resolves, must show a blob only when it is complete, and
 * must answer null, not throw, for a name that it does not hold. Only what no other row can name may be removed: equal
 * bytes have one name, whoever wrote them.
 */
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'

export type BlobStore = {
  write(bytes: Uint8Array): Promise<string>
  read(blob_id: string): Promise<Uint8Array | null>
  /** A name that is not held is no fault. */
  remove(blob_id: string): Promise<void>
}

export function folderBlobs(folder: string): BlobStore {
  const place = (blob_id: string) => join(folder, blob_id.slice(0, 2), blob_id)
  return {
    async write(bytes) {
      const blob_id = createHash('sha256').update(bytes).digest('hex')
      const path = place(blob_id)
      const shelf = dirname(path)
      // Whoever finds it, or its shelf, may be ahead of the one who made it: both sync.
      const last = () => Promise.all([syncFolder(shelf), syncFolder(folder)])
      const there = await stat(path).catch(() => null)
      if (there?.size === bytes.length) {
        await last()
        return blob_id
      }
      await mkdir(shelf, { recursive: true, mode: 0o700 })
      const draft = `${path}.${randomUUID()}`
      try {
        await writeDurably(draft, bytes)
        await rename(draft, path)
        await last()
      } catch (error) {
        await rm(draft, { force: true })
        throw error
      }
      return blob_id
    },
    async read(blob_id) {
      if (!/^[0-9a-f]{64}$/.test(blob_id)) return null
      return readFile(place(blob_id)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return null
        throw error
      })
    },
    async remove(blob_id) {
      if (/^[0-9a-f]{64}$/.test(blob_id)) await rm(place(blob_id), { force: true })
    },
  }
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
