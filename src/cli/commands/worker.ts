import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { connect } from '../../sdk/client.ts'
import type { Context, Given } from '../context.ts'
import { CommandFailure, EXIT } from '../exits.ts'
import { openLog, startWorker, untilStopped, workerName } from '../house.ts'
import { paint } from '../output.ts'
import { dataFolder } from '../settings.ts'

export function declare(command: Command): void {
  command
    .option('--worker-id <name>', 'its name; several workers may share one (default: the host name)')
    .option('--max-concurrent-tasks <n>', 'runs at a time; 0: no limit', '4')
    .option(
      '--backend <backend>',
      'process (also called direct): a plain process for each run, not isolated',
      'process',
    )
    .option('--data-dir <dir>', 'where it keeps its sandboxes (default: $XDG_DATA_HOME/baton/worker)')
    .option('--web-socket-url <url>', 'where the server takes workers, where it is not below --server')
    .option('--allow-local-repositories', "let runs clone repositories by path from this machine's disk")
    .option('--log-level <level>', 'trace, debug, info, warn, error, fatal, silent', 'info')
    .addHelpText(
      'after',
      '\nModel keys come from its environment: ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, BATON_MODEL_BASE_URL.',
    )
}

const Options = z.object({
  workerId: z
    .string()
    .min(1)
    .max(256)
    .refine((id) => !id.startsWith('warp'), '--worker-id must not begin with "warp"')
    .optional(),
  maxConcurrentTasks: z.coerce
    .number('--max-concurrent-tasks is a number')
    .int()
    .min(0, '--max-concurrent-tasks is 0 or more'),
  backend: z.enum(['process', 'direct'], 'The backends are process and direct (the same); others are not there yet'),
  dataDir: z.string().optional(),
  webSocketUrl: z.string().optional(),
  allowLocalRepositories: z.boolean().default(false),
  logLevel: z.string(),
})

export async function run(context: Context, given: Given): Promise<number> {
  const parsed = Options.safeParse(given.options)
  if (!parsed.success) throw new CommandFailure('usage', `${parsed.error.issues[0]?.message ?? 'Wrong option'}.`)
  const options = parsed.data
  const server = serverOf(context, options.webSocketUrl)
  const api_key = context.settings.api_key.value
  if (api_key === undefined)
    throw new CommandFailure(
      'auth',
      `No API key is known for ${server}.`,
      'Set BATON_API_KEY or WARP_API_KEY, or run "baton login".',
    )
  const log = await openLog(options.logLevel)
  const who = await connect({ server, token: api_key }).access.whoami({ signal: context.signal })
  const worker_id = options.workerId ?? workerName()
  const worker = await startWorker(context, {
    server,
    api_key,
    worker_id,
    capacity: options.maxConcurrentTasks,
    log,
    allow_local_repositories: options.allowLocalRepositories,
    state_dir:
      options.dataDir === undefined ? join(dataFolder(context.env), 'worker') : resolve(context.cwd, options.dataDir),
  })
  try {
    await context.out.record({ type: 'ready', worker_id, server }, () => [
      `${paint.green('Worker')} ${paint.bold(worker_id)} takes runs of team ${who.team.name} from ${server}`,
    ])
    await Promise.race([untilStopped(context.signal), worker.closed])
    context.out.note('Stopping. Runs that are going on keep going; the next worker on this folder finds them again.')
  } finally {
    await worker.close()
  }
  return EXIT.ok
}

/** The root of the server, from the address of its socket where only that was given. */
function serverOf(context: Context, socket: string | undefined): string {
  const { server } = context.settings
  if (socket === undefined || server.from !== 'default') return server.value ?? ''
  if (!URL.canParse(socket) || !/^wss?:/.test(socket))
    throw new CommandFailure(
      'usage',
      `"${socket}" is not the address of a socket.`,
      'Write it as ws://host:port/api/v1/selfhosted/worker/ws.',
    )
  return new URL(socket).origin.replace(/^ws/, 'http')
}
