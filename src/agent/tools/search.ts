import { lstat, readdir, stat } from 'node:fs/promises'
import { join, matchesGlob, relative, sep } from 'node:path'
import { z } from 'zod'
import { confine } from './paths.ts'
import { defineTool, type ToolContext, ToolError } from './tool.ts'

const matches_max = 200
const line_chars_max = 300
const files_max = 500
const walk_max = 50_000
const search_ms = 30_000
const search_bytes_max = 4 * 1024 * 1024

export const search = defineTool({
  name: 'search',
  description:
    'Search the text of files for a regular expression; answers path:line:text. Leaves out binary files and what ' +
    `.gitignore names. At most ${matches_max} matches are shown.`,
  kind: 'search',
  input: z.object({
    pattern: z.string().min(1).describe('A Perl-compatible regular expression.'),
    path: z.string().default('.').describe('A file or folder to search in.'),
    glob: z.string().optional().describe('Only files whose path matches, such as *.ts or src/**/*.css.'),
    ignore_case: z.boolean().default(false),
  }),
  title: ({ pattern, path }) => `Search ${pattern}${path === '.' ? '' : ` in ${path}`}`,
  paths: ({ path }) => (path === '.' ? [] : [path]),
  async run({ pattern, path, glob, ignore_case }, context) {
    const place = relative(context.cwd, await confine(context.cwd, path)) || '.'
    await stat(join(context.cwd, place)).catch(() => {
      throw new ToolError(`${path} does not exist. Find the right path with list.`)
    })
    const found = await grep(context, pattern, place, ignore_case)
    const lines = found
      .split('\n')
      .filter((line) => line !== '' && (!glob || fits(line.slice(0, line.indexOf(':')), glob)))
    if (lines.length === 0) return { text: `No match for ${pattern} in ${place}${glob ? ` (${glob})` : ''}.` }
    const shown = lines
      .slice(0, matches_max)
      .map((line) => (line.length > line_chars_max ? `${line.slice(0, line_chars_max)} …` : line))
    const rest = lines.length - shown.length
    return {
      text: shown.join('\n') + (rest > 0 ? `\n[${rest} more matches. Narrow the pattern, the path or the glob.]` : ''),
    }
  },
})

export const list = defineTool({
  name: 'list',
  description: `List files, at most ${files_max}. Leaves out what .gitignore names. A glob finds by name: **/*.ts.`,
  kind: 'search',
  input: z.object({ path: z.string().default('.'), glob: z.string().optional() }),
  title: ({ path, glob }) => `List ${glob ?? path}`,
  paths: ({ path }) => (path === '.' ? [] : [path]),
  async run({ path, glob }, context) {
    const folder = await confine(context.cwd, path)
    const found = await stat(folder).catch(() => undefined)
    if (!found) throw new ToolError(`${path} does not exist.`)
    if (!found.isDirectory()) throw new ToolError(`${path} is a file. Use read.`)
    const files = (await tracked(context, folder)) ?? (await walk(context.cwd, folder, context.signal))
    const wanted = files.filter((file) => !glob || fits(file, glob)).sort()
    if (wanted.length === 0) return { text: glob ? `No file matches ${glob}.` : `${path} holds no files.` }
    const shown = await present(context.cwd, wanted.slice(0, files_max))
    const rest = wanted.length - files_max
    return { text: shown.join('\n') + (rest > 0 ? `\n[${rest} more files. Give a path or a glob.]` : '') }
  },
})

const fits = (file: string, glob: string): boolean =>
  matchesGlob(file, glob) || (!glob.includes('/') && matchesGlob(file.slice(file.lastIndexOf('/') + 1), glob))

/** git is on every machine that runs Baton, is fast, knows .gitignore, and can be killed amid a bad pattern. */
async function grep(context: ToolContext, pattern: string, place: string, ignore_case: boolean): Promise<string> {
  const inside = await git(context, ['rev-parse', '--is-inside-work-tree'])
  const scope = inside.exit_code === 0 ? ['--untracked'] : ['--no-index', '--exclude-standard']
  const flags = ['grep', '-n', '-I', '--no-color', '--full-name', ...scope, ...(ignore_case ? ['-i'] : [])]
  const ask = (dialect: string) => git(context, [...flags, dialect, '-e', pattern, '--', place])
  const answer = await ask('-P')
  const ended =
    answer.exit_code > 1 && /cannot use Perl|PCRE|USE_LIBPCRE/i.test(answer.output) ? await ask('-E') : answer
  if (ended.end === 'timed_out')
    throw new ToolError(`The search took more than ${search_ms / 1000} s. Narrow the path or simplify the pattern.`)
  if (ended.exit_code > 1) throw new ToolError(`The search failed: ${ended.output.trim().slice(0, 500)}`)
  return ended.output
}

async function tracked(context: ToolContext, folder: string): Promise<string[] | undefined> {
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--deduplicate', '--', folder]
  const answer = await git(context, args)
  return answer.exit_code === 0 ? answer.output.split('\0').filter((file) => file !== '') : undefined
}

const git = async (context: ToolContext, args: string[]) => {
  const { cwd, env, signal, shells } = context
  const argv = ['git', '-c', 'core.quotePath=false', ...args] as const
  return shells
    .run({ argv, cwd, env, signal, timeout_ms: search_ms, head_bytes_max: search_bytes_max, tail_bytes_max: 0 })
    .catch(() => {
      throw new ToolError('git was not found on this machine. Use bash with grep or find.')
    })
}

async function walk(cwd: string, folder: string, signal: AbortSignal): Promise<string[]> {
  const files: string[] = []
  const folders = [folder]
  for (let next = folders.pop(); next !== undefined && files.length < walk_max; next = folders.pop()) {
    signal.throwIfAborted()
    for (const entry of await readdir(next, { withFileTypes: true }).catch(() => [])) {
      const path = join(next, entry.name)
      if (!entry.isDirectory()) files.push(relative(cwd, path).replaceAll(sep, '/'))
      else if (entry.name !== '.git' && entry.name !== 'node_modules') folders.push(path)
    }
  }
  return files
}

/** git names a deleted file until the deletion is staged. */
async function present(cwd: string, files: string[]): Promise<string[]> {
  const found = await Promise.all(
    files.map((file) =>
      lstat(join(cwd, file)).then(
        () => true,
        () => false,
      ),
    ),
  )
  return files.filter((_, at) => found[at])
}
