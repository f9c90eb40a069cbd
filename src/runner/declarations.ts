/**
 * What of a workspace is to be kept, as the public declarations say it: lines of JSON in a file that a script of the
 * environment may write. Without any, it is the repositories that were cloned, or, where there are none, the files of
 * the workspace.
 */
import { lstat, readdir, readFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { SNAPSHOT_FILES_MAX, SnapshotDeclaration } from '../contract/index.ts'
import { declarationsOf, FILE_VARIABLE, SCRIPT_VARIABLE } from './declared.ts'
import { duration } from './failures.ts'
import type { Groups } from './spawn.ts'

const SCRIPT_MS = 60_000
/** Never part of what an agent made: state of ours, of git, and what is installed anew. */
const LEFT_OUT = new Set(['.baton', '.git', 'node_modules', '.venv', '__pycache__'])
const DEPTH_MAX = 16

export type Declared = { repos: string[]; files: string[] }

export type DeclareOptions = {
  run_id: string
  workspace: string
  /** Absolute paths of what was cloned. */
  cloned: string[]
  env: Record<string, string>
  groups: Groups
  signal: AbortSignal
  /** How long the script may take, where it is not `SCRIPT_MS`. */
  script_ms?: number | undefined
  /** Told of what is not understood. */
  warn(message: string): void
}

export async function findDeclared(options: DeclareOptions): Promise<Declared> {
  const { env, run_id, workspace, cloned, warn } = options
  const path = env[FILE_VARIABLE] || declarationsOf(run_id)
  await runScript(options)
  const said = await readFile(path, 'utf8').catch(() => null)
  const declared = said === null ? [] : parse(said, path, warn)
  const of = (kind: 'repo' | 'file') => declared.filter((one) => one.kind === kind).map((one) => one.path)
  const loose = cloned.length === 0 && declared.length === 0 ? await filesIn(workspace) : []
  return { repos: [...new Set([...cloned, ...of('repo')])], files: [...new Set([...of('file'), ...loose])] }
}

async function runScript({
  env,
  workspace,
  groups,
  signal,
  warn,
  script_ms = SCRIPT_MS,
}: DeclareOptions): Promise<void> {
  const script = env[SCRIPT_VARIABLE]
  if (!script) return
  const command = { file: '/bin/sh', args: ['-c', script], cwd: workspace, env, limit_ms: script_ms, signal }
  const end = await groups.run({ ...command, onOutput() {} })
  if (end.end === 'exited' && end.code === 0) return
  const how = end.end === 'exited' ? `exited with ${end.code}` : end.end === 'timed_out' ? 'took too long' : end.end
  warn(`The script of ${SCRIPT_VARIABLE} ${how} (it may take ${duration(script_ms)}).`)
}

function parse(text: string, path: string, warn: (message: string) => void): SnapshotDeclaration[] {
  return text.split('\n').flatMap((line, at) => {
    if (line.trim() === '') return []
    const parsed = SnapshotDeclaration.safeParse(jsonOf(line))
    if (parsed.success && isAbsolute(parsed.data.path)) return [parsed.data]
    warn(`Line ${at + 1} of ${path} declares nothing: write {"version":1,"kind":"repo","path":"/absolute"}.`)
    return []
  })
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

/** Plain files, in order; one more than can be kept says that there are too many. */
async function filesIn(folder: string, depth = 0): Promise<string[]> {
  const found: string[] = []
  const names = await readdir(folder).catch(() => [])
  for (const name of names.sort()) {
    if (LEFT_OUT.has(name) || found.length > SNAPSHOT_FILES_MAX) continue
    const stat = await lstat(join(folder, name)).catch(() => null)
    if (stat?.isFile()) found.push(join(folder, name))
    else if (stat?.isDirectory() && depth < DEPTH_MAX) found.push(...(await filesIn(join(folder, name), depth + 1)))
  }
  return found.slice(0, SNAPSHOT_FILES_MAX + 1)
}
