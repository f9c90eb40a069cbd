/** Events without the runs that cause them, for tests of the log itself. */
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
  const { bell } = server.engine
  await logged({ clock, database, bell }, async (_write, events) => {
    for (let n = 0; n < count; n++) events.push({ team_id: run.team_id, event_type: 'run_in_progress', run_id })
  })
}
