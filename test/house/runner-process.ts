/** `baton agent run --task-id …` from the sources, as a worker starts it. */
import { runExecution } from '../../src/runner/run.ts'

const stop = new AbortController()
process.once('SIGTERM', () => stop.abort('SIGTERM'))

const report = await runExecution({
  server: process.env.WARP_SERVER_ROOT_URL ?? '',
  token: process.env.WARP_API_KEY ?? '',
  execution_id: process.env.BATON_EXECUTION_ID ?? '',
  workspace: process.env.BATON_WORKSPACE ?? '',
  version: '1.0.0',
  env: process.env,
  place: 'managed',
  signal: stop.signal,
})
process.exitCode = report.end === 'finished' ? 0 : 1
