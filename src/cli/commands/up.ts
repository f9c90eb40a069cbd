import { join } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import type { Context, Given } from '../context.ts'
import { CommandFailure, EXIT } from '../exits.ts'
import { isLoopback, openHouse, startWorker, untilStopped, workerName } from '../house.ts'
import { paint } from '../output.ts'
import { writePrivate } from '../private-file.ts'
import { parseServing } from '../serving.ts'
import { DEFAULT_PORT, dataFolder, writeConfig } from '../settings.ts'

export function declare(command: Command): void {
  command
    .option('--port <n>', '0 for any free one', String(DEFAULT_PORT))
    .option(
      '--host <address>',
      'address to listen on; elsewhere than on loopback it is reached by that address',
      '127.0.0.1',
    )
    .option('--data-dir <dir>', 'where everything is kept (default: $XDG_DATA_HOME/baton)')
    .option('--ready-file <file>', 'when ready, this file gets {url, api_key, pid} as JSON')
    .option('--max-concurrent <n>', 'runs that may be under way at a time; kept for later starts (at first: 4)')
    .option('--no-worker', 'no worker: PostgreSQL and server only')
    .option('--log-level <level>', 'trace, debug, info, warn, error, fatal, silent', 'warn')
    .addHelpText('after', '\nCtrl-C stops it; runs that are going on keep going and are found again by the next start.')
}

const Options = z.object({
  maxConcurrent: z.coerce
    .number('--max-concurrent is a number')
    .int()
    .min(1, '--max-concurrent is 1 or more')
    .optional(),
  worker: z.boolean(),
})

export async function run(context: Context, given: Given): Promise<number> {
  const { out, signal } = context
  const serving = parseServing(context, given.options)
  const parsed = Options.safeParse(given.options)
  if (!parsed.success) throw new CommandFailure('usage', `${parsed.error.issues[0]?.message ?? 'Wrong option'}.`)
  const data_dir = serving.data_dir ?? dataFolder(context.env)
  const progress = out.progress('Starting')
  const house = await openHouse(context, {
    ...serving,
    data_dir,
    progress,
    own_machine: isLoopback(serving.host),
    max_concurrent: parsed.data.maxConcurrent,
  }).catch((error: unknown) => {
    progress.done()
    sayOtherAddress(context, error)
    throw error
  })
  try {
    const worker = parsed.data.worker
      ? await startWorker(context, {
          server: house.url,
          api_key: house.api_key,
          worker_id: workerName(),
          capacity: house.max_concurrent_runs,
          state_dir: join(data_dir, 'worker'),
          log: house.log,
          allow_local_repositories: true,
        })
      : null
    try {
      progress.done()
      const { url, api_key } = house
      if (isLoopback(serving.host)) await logIn(context, url, api_key)
      if (serving.ready_file !== undefined)
        await writePrivate(serving.ready_file, `${JSON.stringify({ url, api_key, pid: context.pid })}\n`)
      const login = await house.loginLink()
      await out.record({ type: 'ready', url, pid: context.pid, login_url: login }, () => [
        `${paint.green('Baton is ready')} at ${paint.bold(url)}`,
        `  page    ${login} ${paint.dim('(signs you in once, within 5 minutes)')}`,
        ...(house.first_start
          ? [`  key     ${api_key} ${paint.dim('(shown this once; also kept for this command line)')}`]
          : []),
        `  data    ${data_dir}`,
        `  try     baton agent run-cloud "echo hello" --harness command --follow`,
      ])
      await untilStopped(signal)
      out.note('Stopping. Runs that are going on keep going. (Ctrl-C again: at once)')
    } finally {
      await worker?.close()
    }
  } finally {
    await house.close()
  }
  return EXIT.ok
}

/** The second `baton up` on a folder answers where the first one is. */
function sayOtherAddress(context: Context, error: unknown): void {
  if (!(error instanceof Error) || error.name !== 'DataFolderInUse' || !('owner' in error)) return
  const owner = z.object({ url: z.string() }).safeParse(error.owner)
  if (owner.success && !context.out.machine) context.out.line(owner.data.url)
}

/** On loopback whoever starts the server is logged in: the key becomes the profile `local`. */
async function logIn(context: Context, url: string, api_key: string): Promise<void> {
  const { config, config_path } = context.settings
  const others = Object.keys(config.profiles).some((name) => name !== 'local' && name === config.current_profile)
  config.profiles.local = { ...config.profiles.local, server: url, api_key }
  if (!others) config.current_profile = 'local'
  await writeConfig(config_path, config)
  if (others)
    context.out.note(`Your profile is "${config.current_profile}"; for this server say --config-profile local.`)
}
