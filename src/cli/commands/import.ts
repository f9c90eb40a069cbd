import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import { withStore } from '../store.ts'
import { plural } from '../text.ts'

export function declare(command: Command): void {
  command
    .argument('<dir>', 'a folder that "baton export" wrote')
    .option('--data-dir <dir>', 'data folder of the new server (default: $XDG_DATA_HOME/baton)')
    .addHelpText(
      'after',
      `
The database must be empty: one in which no server was ever started. DATABASE_URL names an outside PostgreSQL,
BATON_BLOBS where blobs go, if not into the data folder.`,
    )
}

export async function run(context: Context, given: Given): Promise<void> {
  const in_dir = resolve(context.cwd, given.args[0] ?? '')
  await withStore(context, given.options.dataDir, async (store) => {
    const done = await store.transfer.importAll(store.database, store.blobs, in_dir, {
      log: store.log,
      signal: context.signal,
    })
    const command = context.env.DATABASE_URL ? 'serve' : 'up'
    await context.out.show({ folder: in_dir, ...done }, () => [
      `Imported ${done.rows} rows of ${done.tables} tables and ${plural(done.blobs, 'blob')}. Start the server with "baton ${command}".`,
    ])
    if (done.sealed)
      context.out.note(
        'Secrets in it are locked. Give this server the master keys of the other: put its file secret-keys into the data ' +
          'folder, or set BATON_SECRET_KEY.',
      )
  })
}
