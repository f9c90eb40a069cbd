import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import { withStore } from '../store.ts'
import { plural } from '../text.ts'

export function declare(command: Command): void {
  command
    .argument('<dir>', 'a new folder')
    .option('--data-dir <dir>', 'data folder of the server (default: $XDG_DATA_HOME/baton)')
    .addHelpText(
      'after',
      `
The server must not be running on the embedded database. DATABASE_URL names an outside PostgreSQL, whose servers may
work on; BATON_BLOBS says where they keep blobs, if not in the data folder.`,
    )
}

export async function run(context: Context, given: Given): Promise<void> {
  const out_dir = resolve(context.cwd, given.args[0] ?? '')
  await withStore(context, given.options.dataDir, async (store) => {
    const done = await store.transfer.exportAll(store.database, store.blobs, out_dir, {
      log: store.log,
      signal: context.signal,
    })
    await context.out.show({ folder: out_dir, ...done }, () => [
      `Exported ${done.rows} rows of ${done.tables} tables and ${plural(done.blobs, 'blob')} to ${out_dir}.`,
    ])
    if (done.blobs_missing > 0)
      context.out.warn(`${plural(done.blobs_missing, 'blob')} more that the database names could not be found.`)
    if (done.sealed)
      context.out.note(
        'Secrets in it stay locked. Keep the master keys, too, apart from it: secret-keys in the data folder, or BATON_SECRET_KEY.',
      )
  })
}
