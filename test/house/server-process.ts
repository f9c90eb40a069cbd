/** A server in a process of its own, on a database that outlives it, so that a test can kill it. */
import { pino } from 'pino'
import { z } from 'zod'
import { databaseClock } from '../../src/db/clock.ts'
import { openDatabase } from '../../src/db/connect.ts'
import { folderBlobs } from '../../src/engine/blobs.ts'
import { openKeyring } from '../../src/engine/keyring.ts'
import { openServer } from '../../src/server/server.ts'

const Options = z.object({
  connection: z.object({ host: z.string(), user: z.string(), database: z.string() }),
  blobs_dir: z.string(),
  port: z.int(),
  /** Without it no secrets can be kept. */
  key_file: z.string().optional(),
  engine_limits: z.record(z.string(), z.number()).default({ retry_first_ms: 100, retry_most_ms: 200 }),
})
const { connection, blobs_dir, port, key_file, engine_limits } = Options.parse(JSON.parse(process.argv[2] ?? '{}'))

const database = openDatabase({ connection }, { pool_max: 20 })
const server = await openServer({
  database,
  clock: await databaseClock(database),
  blobs: folderBlobs(blobs_dir),
  log: pino({ level: 'error' }, pino.destination(2)),
  port,
  web_dir: null,
  engine_limits,
  ...(key_file && { keyring: await openKeyring({ file: key_file }) }),
})
const { api_key } = await server.engine.access.prepare()
process.stdout.write(`${JSON.stringify({ url: server.url, api_key })}\n`)
