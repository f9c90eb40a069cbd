/** A worker in a process of its own, so that a test can kill it. */
import { pino } from 'pino'
import { z } from 'zod'
import { openWorker } from '../../src/worker/worker.ts'
import { SHELL_RUNNER } from './shell-runner.ts'

const Options = z.object({
  server: z.string(),
  state_dir: z.string(),
  capacity: z.int().default(4),
  processes_max: z.int().default(1024),
  api_key: z.string().default('worker-key'),
  runner: z.array(z.string()).default(SHELL_RUNNER.command),
  worker_id: z.string().default('crew'),
  allow_local_repositories: z.boolean().default(false),
})
const options = Options.parse(JSON.parse(process.argv[2] ?? '{}'))
const { server, state_dir, capacity, processes_max, api_key, runner, worker_id, allow_local_repositories } = options
const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())

const worker = await openWorker({
  server,
  state_dir,
  capacity,
  api_key,
  worker_id,
  version: '1.0.0',
  backend: 'process',
  models: [],
  harnesses: [],
  runner: { command: runner },
  environment: process.env,
  allow_local_repositories,
  log: pino({ level: 'info' }),
  signal: stop.signal,
  limits: { reconnect_min_ms: 50, reconnect_max_ms: 200, processes_max },
})
await worker.closed
