import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import { EXIT } from '../exits.ts'
import { openHouse, untilStopped } from '../house.ts'
import { paint } from '../output.ts'
import { writePrivate } from '../private-file.ts'
import { parseServing } from '../serving.ts'
import { DEFAULT_PORT, dataFolder } from '../settings.ts'

export function declare(command: Command): void {
  command
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <n>', '0 for any free one', String(DEFAULT_PORT))
    .option('--data-dir <dir>', 'where the embedded PostgreSQL keeps its data (default: $XDG_DATA_HOME/baton)')
    .option('--blob-dir <dir>', 'where files and large texts are kept (default: blobs in the data folder)')
    .option(
      '--public-host <name>',
      'a name besides loopback under which it is reached; may be repeated',
      (value: string, before: string[] = []) => [...before, value],
    )
    .option('--ready-file <file>', 'when ready, this file gets {url, api_key, pid} as JSON')
    .option('--log-level <level>', 'trace, debug, info, warn, error, fatal, silent', 'info')
    .addHelpText(
      'after',
      '\nDATABASE_URL names an outside PostgreSQL; without it the embedded one is started. BATON_BLOBS=s3://bucket/prefix\n' +
        'keeps files and large texts in S3: docs/storage.md.',
    )
}

export async function run(context: Context, given: Given): Promise<number> {
  const { out } = context
  const serving = parseServing(context, given.options)
  const { blobDir, publicHost } = given.options
  const data_dir = serving.data_dir ?? dataFolder(context.env)
  const progress = out.progress('Starting')
  const house = await openHouse(context, {
    ...serving,
    data_dir,
    progress,
    own_machine: context.env.BATON_ALLOW_LOCAL_REPOSITORIES === '1',
    database_url: context.env.DATABASE_URL || undefined,
    ...(typeof blobDir === 'string' && { blob_dir: blobDir }),
    ...(Array.isArray(publicHost) && { public_hosts: publicHost.map(String) }),
  }).finally(() => progress.done())
  try {
    const { url, api_key } = house
    if (serving.ready_file !== undefined)
      await writePrivate(serving.ready_file, `${JSON.stringify({ url, api_key, pid: context.pid })}\n`)
    await out.record({ type: 'ready', url, pid: context.pid }, () => [
      `${paint.green('Serving')} at ${paint.bold(url)}`,
      ...(house.first_start ? [`  key     ${api_key} ${paint.dim('(shown this once)')}`] : []),
    ])
    await untilStopped(context.signal)
    out.note('Stopping.')
  } finally {
    await house.close()
  }
  return EXIT.ok
}
