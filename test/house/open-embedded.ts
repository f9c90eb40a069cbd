/** A process of its own that opens the embedded PostgreSQL in the folder it is given and holds it until it is ended. */
import { openEmbedded } from '../../src/db/embedded.ts'

const [data_dir = '', url, cache_dir] = process.argv.slice(2)
try {
  const embedded = await openEmbedded({ data_dir, settings: { fsync: 'off' }, ...(cache_dir && { cache_dir }) })
  if (url) await embedded.announce(url)
  process.once('SIGTERM', () => embedded.close().then(() => process.exit(0)))
  process.stdout.write(
    `${JSON.stringify({ pid: embedded.pid(), adopted: embedded.adopted, connection: embedded.connection })}\n`,
  )
} catch (error) {
  process.stdout.write(
    `${JSON.stringify({ error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) })}\n`,
  )
  process.exit(1)
}
