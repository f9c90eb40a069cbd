/**
 * What a worker starts: `agent run --task-id RUN --sandboxed --server-root-url URL …`, with all that counts in the
 * environment. It passes the rest of the command line by, which a runner that lives for a second would only load.
 */

import { endOf } from './exit-report.ts'
import { EXIT } from './exits.ts'

export type Managed = {
  /** Root of the server, without `/api/v1`. */
  server: string
  token: string
  execution_id: string
}

type Environment = Record<string, string | undefined>

/** Null where it is for the command line. */
export function readManaged(args: string[], env: Environment): Managed | null {
  const { BATON_EXECUTION_ID: execution_id, WARP_API_KEY: token, WARP_SERVER_ROOT_URL: server } = env
  if (args[0] !== 'agent' || args[1] !== 'run' || !args.includes('--task-id')) return null
  if (execution_id === undefined || token === undefined || server === undefined) return null
  return { server, token, execution_id }
}

type Line = {
  version: string
  env: Environment
  cwd: string
  stderr: { write(text: string): unknown }
  signal: AbortSignal
}

export async function runManaged(managed: Managed, line: Line): Promise<number> {
  const { version, env, cwd, signal } = line
  const { runExecution } = await import('../runner/run.ts')
  const report = await runExecution({ ...managed, version, env, workspace: cwd, place: 'managed', signal })
  const { exit, said } = endOf(report, signal)
  if (said !== undefined) line.stderr.write(`${said}\n`)
  return EXIT[exit]
}
