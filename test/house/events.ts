/** Events without the runs that cause them, for tests of the log itself. */
import { tmpdir } from 'node:os'
import { pino } from 'pino'
import { folderBlobs } from '../../src/engine/blobs.ts'
import { logged } from '../../src/engine/log.ts'
import type { House } from './house.ts'

/** Writes `count` events about a run in one transaction, as the engine does. */
export async function enqueueEvents(house: House, run_id: string, count: number): Promise<void> {
  const { clock, database, server } = house
  const run = await database.kysely
    .selectFrom('runs')
    .select('team_id')
    .where('run_id', '=', run_id)
    .executeTakeFirstOrThrow()
  const { bell, limits } = server.engine
  const room = {
    clock,
    database,
    bell,
    limits,
    server_id: server.server_id,
    log: pino({ level: 'silent' }),
    blobs: folderBlobs(tmpdir()),
  }
  await logged(room, async (_write, events) => {
    for (let n = 0; n < count; n++) events.push({ team_id: run.team_id, event_type: 'run_in_progress', run_id })
  })
}
