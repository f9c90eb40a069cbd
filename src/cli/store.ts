/** This machine's database without a server, for moving data in and out. */
import { resolve } from 'node:path'
import type { Logger } from 'pino'
import type { BlobStore } from '../engine/blobs.ts'
import { findBlobs, openBlobs } from './blob-place.ts'
import type { Context } from './context.ts'
import { openLog } from './house.ts'
import { cacheFolder, dataFolder } from './settings.ts'

type Transfer = typeof import('../db/transfer.ts')
type Store = { database: Parameters<Transfer['exportAll']>[0]; blobs: BlobStore; log: Logger; transfer: Transfer }

export async function withStore(
  context: Context,
  given: unknown,
  work: (store: Store) => Promise<void>,
): Promise<void> {
  const data_dir = typeof given === 'string' ? resolve(context.cwd, given) : dataFolder(context.env)
  const place = findBlobs({ env: context.env, cwd: context.cwd, data_dir })
  const [{ openDatabase }, { openEmbedded }, transfer] = await Promise.all([
    import('../db/connect.ts'),
    import('../db/embedded.ts'),
    import('../db/transfer.ts'),
  ])
  const log = await openLog(context.debug ? 'debug' : 'warn')
  const url = context.env.DATABASE_URL
  const progress = context.out.progress('Opening the database')
  const embedded = url
    ? null
    : await openEmbedded({ data_dir, cache_dir: cacheFolder(context.env), log, signal: context.signal }).finally(() =>
        progress.done(),
      )
  try {
    const database = openDatabase(embedded ? { connection: embedded.connection } : { url: url ?? '' }, { log })
    const moving = context.out.progress('Moving data')
    try {
      await work({ database, blobs: await openBlobs(place, data_dir, log), log, transfer })
    } finally {
      moving.done()
      await database.close()
    }
  } finally {
    await embedded?.close()
  }
}
