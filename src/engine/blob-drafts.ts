/** Files on this machine that are still coming in: nobody sees them, and those that are left over are forgotten. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

type Draft = { path: string; blob_id: string; size_bytes: number }

export function draftsIn(folder: string) {
  return {
    /** On disk when it resolves; nothing is left where it fails. */
    async write(chunks: AsyncIterable<Uint8Array>): Promise<Draft> {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const path = join(folder, randomUUID())
      const file = await open(path, 'wx', 0o600)
      const hash = createHash('sha256')
      let size_bytes = 0
      try {
        for await (const chunk of chunks) {
          hash.update(chunk)
          size_bytes += chunk.length
          await file.writeFile(chunk)
        }
        await file.sync()
      } catch (error) {
        await rm(path, { force: true })
        throw error
      } finally {
        await file.close()
      }
      return { path, blob_id: hash.digest('hex'), size_bytes }
    },

    async tidy(before: Date): Promise<void> {
      const names = await readdir(folder).catch(() => [])
      for (const name of names) {
        const path = join(folder, name)
        const found = await stat(path).catch(() => null)
        if (found && found.mtime < before) await rm(path, { force: true })
      }
    },
  }
}
