/** Short git commands on a repository of the workspace, told to run nothing that the repository brings. */
import { gitEnvironment, SAFE_CONFIG } from './clone.ts'
import type { Groups } from './spawn.ts'

const OUTPUT_MAX = 1024 * 1024

export type Git = {
  groups: Groups
  env: Record<string, string>
  limit_ms: number
  signal: AbortSignal
}

/** Throws with what git said when it does not exit with 0. Answers what it wrote to stdout. */
export async function git(
  { groups, env, limit_ms, signal }: Git,
  cwd: string,
  args: string[],
  variables: Record<string, string> = {},
): Promise<string> {
  let out = ''
  let said = ''
  const end = await groups.run({
    file: 'git',
    args: [...SAFE_CONFIG, ...args],
    cwd,
    env: { ...gitEnvironment(env), ...variables },
    limit_ms,
    signal,
    onOutput(stream, text) {
      if (stream === 'stdout' && out.length < OUTPUT_MAX) out += text
      if (stream === 'stderr') said = (said + text).slice(-2048)
    },
  })
  if (end.end === 'exited' && end.code === 0) return out
  const what = said.trim().split('\n').at(-1) || (end.end === 'exited' ? `exit ${end.code}` : end.end)
  throw new Error(`git ${args[0]}: ${what}`)
}
