/**
 * Where the file tools may go: inside the session's folder, also after symbolic links are followed. This keeps a
 * model from straying; it is not a sandbox (the bash tool can go anywhere, and a link can change after the check).
 */
import { lstat, realpath } from 'node:fs/promises'
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import { ToolError } from './tool.ts'

/** The absolute path without links. `cwd` must be without links. */
export async function confine(cwd: string, path: string): Promise<string> {
  if (path.includes('\0')) throw new ToolError('A path cannot hold a NUL character.')
  const wanted = resolve(cwd, path)
  const real = await realPath(wanted)
  if (!isInside(cwd, real)) {
    throw new ToolError(`${path} is outside of the workspace ${cwd}. Use a path inside of it, relative to it.`)
  }
  return real
}

export function isInside(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way === '' || !(way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way))
}

/** For what does not exist yet: the real path of the nearest folder that does, and the rest behind it. */
async function realPath(path: string): Promise<string> {
  const found = await realpath(path).catch(() => undefined)
  if (found !== undefined) return found
  const link = await lstat(path).catch(() => undefined)
  if (link?.isSymbolicLink()) throw new ToolError(`${path} is a symbolic link to nothing. Use the real path.`)
  const parent = dirname(path)
  if (parent === path) return path
  return join(await realPath(parent), path.slice(parent.length + (parent.endsWith(sep) ? 0 : 1)))
}
