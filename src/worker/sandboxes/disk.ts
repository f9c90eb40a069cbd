/** What sandboxes cost in disk space, and giving it back. Nothing here follows a link. */
import { chmod, lstat, opendir, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'

export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

export type SizeBounds = { bytes_max: number; entries_max: number; signal: AbortSignal }

/** Bytes on disk below a folder. Stops counting when a bound is passed: the answer is then a lower bound. */
export async function folderBytes(folder: string, bounds: SizeBounds): Promise<number> {
  let bytes = 0
  let entries = 0
  const open = [folder]
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const listing = await opendir(at).catch(() => null)
    if (!listing) continue
    for await (const entry of listing) {
      if (bounds.signal.aborted || ++entries > bounds.entries_max || bytes > bounds.bytes_max) return bytes
      const path = join(at, entry.name)
      const stat = await lstat(path).catch(() => null)
      bytes += (stat?.blocks ?? 0) * 512
      if (stat?.isDirectory()) open.push(path)
    }
  }
  return bytes
}

/** Deletes a folder and what is in it, also folders that a run made unreadable. A link is removed, never followed. */
export async function removeFolder(folder: string): Promise<void> {
  const remove = () => rm(folder, { recursive: true, force: true, maxRetries: 3, retryDelay: 50 })
  try {
    await remove()
  } catch {
    await openFolders(folder)
    await remove()
  }
}

async function openFolders(folder: string): Promise<void> {
  const stat = await lstat(folder).catch(() => null)
  if (!stat?.isDirectory()) return
  await chmod(folder, 0o700).catch(() => {})
  const listing = await opendir(folder).catch(() => null)
  if (!listing) return
  for await (const entry of listing) if (entry.isDirectory()) await openFolders(join(folder, entry.name))
}

export function wordBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const step = Math.min(Math.max(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), 0), units.length - 1)
  return `${Math.round((bytes / 1024 ** step) * 10) / 10} ${units[step]}`
}
