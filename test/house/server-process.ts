/** A server in a process of its own, so that a test can kill it. It says its address when it is ready. */
import { pino } from 'pino'
import { databaseClock } from '../../src/db/clock.ts'
import { openDatabase, type SocketConnection } from '../../src/db/connect.ts'
import { folderBlobs } from '../../src/engine/blobs.ts'
import { openServer } from '../../src/server/server.ts'

const { connection, port, blobs_dir }: { connection: SocketConnection; port: number; blobs_dir: string } = JSON.parse(
  process.argv[2] ?? '{}',
)
const database = openDatabase({ connection }, { pool_max: 20 })
const server = await openServer({
  database,
  clock: await databaseClock(database),
  blobs: folderBlobs(blobs_dir),
  log: pino({ level: 'error' }, pino.destination(2)),
  port,
  web_dir: null,
  validate_answers: false,
  engine_limits: { retry_first_ms: 100, retry_most_ms: 200 },
})
process.stdout.write(`${server.url}\n`)
