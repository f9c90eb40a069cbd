/** Files of this machine, as they are kept with a run. */
import { readFile } from 'node:fs/promises'
import { basename, relative, resolve, sep } from 'node:path'
import { ARTIFACT_BYTES_MAX } from '../contract/index.ts'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'
import { bytes } from './text.ts'

/** What is kept of a file: its path as others may see it, and what is in it. */
export async function fileToKeep(context: Context, file: string) {
  const content = await readWhole(context, file)
  const text = textOf(content)
  return {
    filepath: shownPath(context.cwd, file),
    ...(text === null
      ? { content: content.toString('base64'), encoding: 'base64' as const }
      : { content: text, encoding: 'utf-8' as const }),
  }
}

async function readWhole(context: Context, file: string): Promise<Buffer> {
  const content = await readFile(resolve(context.cwd, file)).catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailure('usage', `${file} cannot be read (${error.code ?? error.message}).`)
  })
  if (content.length <= ARTIFACT_BYTES_MAX) return content
  throw new CommandFailure(
    'usage',
    `${file} has ${bytes(content.length)}; an artifact has at most ${bytes(ARTIFACT_BYTES_MAX)}.`,
  )
}

/** Null: it is no text. */
function textOf(content: Buffer): string | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content)
    return text.includes('\0') ? null : text
  } catch {
    return null
  }
}

/** Relative where it lies in this folder, else its name alone. */
function shownPath(cwd: string, file: string): string {
  const path = relative(cwd, resolve(cwd, file))
  return path.startsWith('..') || path === resolve(cwd, file) ? basename(file) : path.split(sep).join('/')
}
