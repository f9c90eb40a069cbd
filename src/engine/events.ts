/** Events: reading the log. Writing it is `log.ts`. */
import type { Event } from '../contract/index.ts'
import type { Caller } from './caller.ts'
import type { Room } from './engine.ts'
import { runNotFound } from './runs.ts'

export type LoggedEvent = Event & { team_id: string; parent_run_id: string | null }

export function eventsEngine(room: Room) {
  const db = room.database.kysely

  const select = () =>
    db
      .selectFrom('events')
      .innerJoin('runs', 'runs.run_id', 'events.run_id')
      .select([
        'events.sequence',
        'events.event_type',
        'events.run_id',
        'events.ref_id',
        'events.execution_id',
        'events.occurred_at',
        'events.team_id',
        'runs.parent_run_id',
      ])
      .orderBy('events.sequence')

  type Row = Awaited<ReturnType<ReturnType<typeof select>['execute']>>[number]
  const render = (row: Row): Event => ({
    sequence: row.sequence,
    event_type: row.event_type,
    run_id: row.run_id,
    ref_id: row.ref_id,
    execution_id: row.execution_id,
    occurred_at: row.occurred_at.toISOString(),
  })

  async function visible(caller: Caller, run_ids: string[]): Promise<void> {
    if (run_ids.length === 0) return
    const found = await db
      .selectFrom('runs')
      .select('run_id')
      .where('run_id', 'in', run_ids)
      .where('team_id', '=', caller.team_id)
      .execute()
    const known = new Set(found.map((run) => run.run_id))
    const missing = run_ids.find((run_id) => !known.has(run_id.toLowerCase()))
    if (missing) throw runNotFound(missing)
  }

  return {
    visible,

    async list(
      caller: Caller,
      query: { run_ids?: string[] | undefined; since: number; limit: number },
    ): Promise<Event[]> {
      if (query.run_ids) await visible(caller, query.run_ids)
      let rows = select()
        .where('events.team_id', '=', caller.team_id)
        .where('events.sequence', '>', query.since)
        .limit(query.limit)
      if (query.run_ids) rows = rows.where('events.run_id', 'in', query.run_ids)
      return (await rows.execute()).map(render)
    },

    /** All teams', for the hub of a server. */
    async read(since: number, limit: number): Promise<LoggedEvent[]> {
      const rows = await select().where('events.sequence', '>', since).limit(limit).execute()
      return rows.map((row) => ({ ...render(row), team_id: row.team_id, parent_run_id: row.parent_run_id }))
    },

    /** The highest number that is visible. */
    async head(): Promise<number> {
      return (await db.selectFrom('event_counter').select('value').executeTakeFirstOrThrow()).value
    },

    /** Positions in the log mean something only within one epoch. */
    async epoch(): Promise<string> {
      return (await db.selectFrom('store').select('epoch').executeTakeFirstOrThrow()).epoch
    },
  }
}
