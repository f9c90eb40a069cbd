import { mkdir, open, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import { z } from 'zod'
import { whyOf } from '../../contract/why.ts'
import { confine } from './paths.ts'
import { defineTool, ToolError } from './tool.ts'

const file_bytes_max = 8 * 1024 * 1024
const lines_default = 2000
const line_chars_max = 2000
const text_chars_max = 100_000
const sniff_bytes = 8192

const Path = z.string().min(1).describe('Relative to the workspace, or absolute inside of it.')

export const read = defineTool({
  name: 'read',
  description:
    `Read a text file, with line numbers. Without offset and limit: the first ${lines_default} lines. ` +
    'The numbers and the tab after them are not part of the file.',
  kind: 'read',
  input: z.object({
    path: Path,
    offset: z.number().int().positive().default(1).describe('The first line to read; 1 is the first of the file.'),
    limit: z.number().int().positive().max(10_000).default(lines_default).describe('How many lines.'),
  }),
  title: ({ path }) => `Read ${path}`,
  paths: ({ path }) => [path],
  async run({ path, offset, limit }, { cwd }) {
    const text = await readText(await confine(cwd, path), path)
    if (text === '') return { text: `[${path} is empty.]` }
    const lines = text.replace(/\n$/, '').split('\n')
    if (offset > lines.length)
      throw new ToolError(`${path} has only ${lines.length} lines; offset ${offset} is past its end.`)
    return { text: window(lines, offset, limit) }
  },
})

export const write = defineTool({
  name: 'write',
  description:
    'Write a whole file: creates it, with its folders, or replaces what it holds. To change a part, use edit.',
  kind: 'edit',
  asks: true,
  input: z.object({ path: Path, content: z.string() }),
  title: ({ path }) => `Write ${path}`,
  paths: ({ path }) => [path],
  async run({ path, content }, { cwd }) {
    const file = await confine(cwd, path)
    const found = await stat(file).catch(() => undefined)
    if (found && !found.isFile()) throw new ToolError(`${path} is not a file. Choose another path.`)
    const old_text = found ? await readText(file, path).catch(() => '') : null
    await mkdir(dirname(file), { recursive: true }).catch((error: unknown) => {
      throw new ToolError(whyOf(error))
    })
    await save(file, content)
    const bytes = Buffer.byteLength(content)
    const text = `${found ? 'Replaced' : 'Created'} ${relative(cwd, file)} (${bytes} bytes).`
    return { text, changes: [{ path: file, old_text, new_text: content }] }
  },
})

export const edit = defineTool({
  name: 'edit',
  description:
    'Replace an exact piece of text in a file. old_text must stand in the file exactly once, byte for byte, with its ' +
    'indentation and without line numbers; take in neighbouring lines to make it so, or set replace_all.',
  kind: 'edit',
  asks: true,
  input: z.object({
    path: Path,
    old_text: z.string().min(1),
    new_text: z.string(),
    replace_all: z.boolean().default(false).describe('Replace every occurrence.'),
  }),
  title: ({ path }) => `Edit ${path}`,
  paths: ({ path }) => [path],
  async run({ path, old_text, new_text, replace_all }, { cwd }) {
    if (old_text === new_text) throw new ToolError('old_text and new_text are the same: there is nothing to change.')
    const file = await confine(cwd, path)
    const before = await readText(file, path)
    const pieces = before.split(old_text)
    const found = pieces.length - 1
    if (found === 0) throw new ToolError(notFound(before, path, old_text))
    if (found > 1 && !replace_all) {
      throw new ToolError(
        `old_text was found ${found} times in ${path}. Add lines around it until it is unique, or set replace_all.`,
      )
    }
    const after = pieces.join(new_text)
    await save(file, after)
    const text = `Replaced ${found} ${found === 1 ? 'place' : 'places'} in ${relative(cwd, file)}.`
    return { text, changes: [{ path: file, old_text: before, new_text: after }] }
  },
})

/** Refuses what is no text for a model. `name` is what the model called the file. */
async function readText(file: string, name: string): Promise<string> {
  const found = await stat(file).catch(() => undefined)
  if (!found) throw new ToolError(`${name} does not exist. Find the right path with list or search.`)
  if (found.isDirectory()) throw new ToolError(`${name} is a folder. Use list to see what is in it.`)
  if (!found.isFile()) throw new ToolError(`${name} is not a regular file.`)
  if (await isBinary(file))
    throw new ToolError(`${name} is a binary file (${found.size} bytes); it cannot be read or edited as text.`)
  if (found.size > file_bytes_max) {
    throw new ToolError(`${name} is too large (${found.size} bytes). Read a part with bash: sed -n '1,200p'.`)
  }
  return readFile(file, 'utf8').catch((error: unknown) => {
    throw new ToolError(whyOf(error))
  })
}

async function isBinary(file: string): Promise<boolean> {
  const opened = await open(file, 'r').catch((error: unknown) => {
    throw new ToolError(whyOf(error))
  })
  try {
    const { bytesRead, buffer } = await opened.read(Buffer.alloc(sniff_bytes), 0, sniff_bytes, 0)
    return buffer.subarray(0, bytesRead).includes(0)
  } finally {
    await opened.close()
  }
}

function window(lines: string[], offset: number, limit: number): string {
  const shown: string[] = []
  let chars = 0
  for (const [at, line] of lines.slice(offset - 1, offset - 1 + limit).entries()) {
    const cut = line.length - line_chars_max
    const text = cut > 0 ? `${line.slice(0, line_chars_max)} [… ${cut} more characters]` : line
    chars += text.length + 8
    if (chars > text_chars_max) break
    shown.push(`${String(offset + at).padStart(6)}\t${text}`)
  }
  const next = offset + shown.length
  if (next > lines.length) return shown.join('\n')
  return `${shown.join('\n')}\n[Lines ${offset}–${next - 1} of ${lines.length}. Read on with offset ${next}.]`
}

function notFound(text: string, path: string, old_text: string): string {
  const bare = (piece: string) => piece.replace(/\s+/g, ' ').trim()
  const near = bare(text).includes(bare(old_text))
    ? ' It is there with other white space: indentation or line ends differ.'
    : ''
  return `old_text was not found in ${path}.${near} Read the file again and copy the text exactly, no line numbers.`
}

const save = (file: string, text: string): Promise<void> =>
  writeFile(file, text).catch((error: unknown) => {
    throw new ToolError(whyOf(error))
  })
