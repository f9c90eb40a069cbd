import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import { withStore } from '../store.ts'

export function declare(command: Command): void {
  command
    .argument('<dir>', 'a folder that "baton export" wrote')
    .option('--data-dir <dir>', 'data folder of the new server (default: $XDG_DATA_HOME/baton)')
    .addHelpText(
      'after',
      '\nThe database must be empty: one in which no server was ever started. DATABASE_URL names an outside PostgreSQL.',
    )
}

export async function run(context: Context, given: Given): Promise<void> {
  const in_dir = resolve(context.cwd, given.args[0] ?? '')
  await withStore(context, given.options.dataDir, async (store) => {
    const done = await store.transfer.importAll(store.database, store.blobs, in_dir, {
      log: store.log,
      signal: context.signal,
    })
    await context.out.show({ folder: in_dir, ...done }, () => [
      `Imported ${done.rows} rows of ${done.tables} tables and ${done.blobs} blobs. Start the server with "baton up".`,
    ])
    if (done.sealed)
      context.out.note(
        'Secrets in it are locked. Give this server the master keys of the other: put its file secret-keys into the data ' +
          'folder, or set BATON_SECRET_KEY.',
      )
  })
}
