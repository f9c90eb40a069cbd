/** Events: reading the log. Writing it is `log.ts`. */
import { type RawBuilder, type SqlBool, sql } from 'kysely'
import { CHILD_EVENTS, type ClientEvent, type Event, Fault } from '../contract/index.ts'
import type { Caller, Owned } from './caller.ts'
import type { Room } from './engine.ts'
import { runNotFound } from './runs.ts'
import { checkVisible, sees, sightOf, visibleRuns, visibleTo } from './visible.ts'

export type LoggedEvent = Event & Owned & { parent_run_id: string | null; ancestors: string[] }

/** Which events a reader asks for. Children are known by their parent, so that those made later join by themselves. */
export type EventQuery = {
  run_ids?: string[] | undefined
  ancestor_run_id?: string | undefined
  include_self?: boolean | undefined
}

type Report = { event_type: (typeof CHILD_EVENTS)[number]; execution_id?: string | null | undefined }

/** What of a query a caller may see: in the log, and in what has just been read of it. */
export type EventSelection = {
  /** Selections with the same key are the same. */
  key: string
  wants(event: LoggedEvent): boolean
  /** A condition on `events` and the `runs` that they are of. */
  where: RawBuilder<SqlBool>
}

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
        'runs.owner_user_id',
        sql<string[]>`runs.ancestors::text[]`.as('ancestors'),
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

  return {
    visible: (caller: Caller, run_ids: string[]): Promise<void> => checkVisible(room, caller, run_ids),
    select: selectEvents,

    async list(
      caller: Caller,
      query: EventQuery & { since: number; before?: number | undefined; limit: number },
    ): Promise<Event[]> {
      const { run_ids = [], ancestor_run_id, before } = query
      if (run_ids.length > 0 && ancestor_run_id !== undefined)
        throw new Fault('invalid_request', 'Give either run_ids or ancestor_run_id, not both.')
      await checkVisible(room, caller, [...run_ids, ...(ancestor_run_id === undefined ? [] : [ancestor_run_id])])
      const wanted = select().where('events.sequence', '>', query.since).where(selectEvents(caller, query).where)
      if (before === undefined) return (await wanted.limit(query.limit).execute()).map(render)
      const last = wanted.where('events.sequence', '<', before).clearOrderBy().orderBy('events.sequence', 'desc')
      return (await last.limit(query.limit).execute()).map(render).reverse()
    },

    /** All teams' events after `since`, for the hub of a server; only those of a selection, and up to one, where given. */
    async read(
      since: number,
      limit: number,
      only: { where?: EventSelection['where']; until?: number } = {},
    ): Promise<LoggedEvent[]> {
      let rows = select().where('events.sequence', '>', since).limit(limit)
      if (only.until !== undefined) rows = rows.where('events.sequence', '<=', only.until)
      if (only.where !== undefined) rows = rows.where(only.where)
      const found = await rows.execute()
      return found.map((row) => ({
        ...render(row),
        team_id: row.team_id,
        owner_user_id: row.owner_user_id,
        parent_run_id: row.parent_run_id,
        ancestors: row.ancestors,
      }))
    },

    /** Moves the delivery cursor of a run forward, never back, and not beyond what has happened: what comes is news. */
    async advance(caller: Caller, run_id: string, sequence: number): Promise<Record<string, never>> {
      if (caller.kind === 'execution' && caller.run_id !== run_id.toLowerCase()) throw runNotFound(run_id)
      const moved = await db
        .updateTable('runs')
        .set({
          last_event_sequence: sql<number>`greatest(coalesce(last_event_sequence, 0),
            least(${sequence}, (select value from event_counter)))`,
        })
        .where('run_id', '=', run_id)
        .where(visibleTo(caller, 'runs'))
        .executeTakeFirst()
      if (moved.numUpdatedRows === 0n) throw runNotFound(run_id)
      return {}
    },

    /**
     * The engine writes every change of a state with its cause, so a report adds nothing: what is so is confirmed by
     * its place in the log, and what is not so must not be told to a parent.
     */
    async report(caller: Caller, run_id: string, { event_type, execution_id }: Report): Promise<{ sequence: number }> {
      await checkVisible(room, caller, [run_id])
      const last = await db
        .selectFrom('events')
        .select(['sequence', 'event_type', 'execution_id'])
        .where('run_id', '=', run_id)
        .where('event_type', 'in', ['run_queued', ...CHILD_EVENTS])
        .orderBy('sequence', 'desc')
        .limit(1)
        .executeTakeFirst()
      const of_other = execution_id != null && last?.execution_id !== execution_id.toLowerCase()
      if (last?.event_type === event_type && !of_other) return { sequence: last.sequence }
      throw new Fault(
        'conflict',
        `The log says ${last?.event_type ?? 'nothing'} of run ${run_id}${of_other ? ' or names another execution' : ''}, ` +
          `not ${event_type}. What becomes of a run is written by the server with its cause; report the cause.`,
        { retryable: false },
      )
    },

    /** A worker's key, which sees no run, may measure those of its team. */
    async measure(caller: Caller, run_id: string, measured: ClientEvent): Promise<Record<string, never>> {
      const seen = caller.kind === 'worker' ? sql<boolean>`runs.team_id = ${caller.team_id}` : visibleRuns(caller)
      const run = await db
        .selectFrom('runs')
        .select('runs.run_id')
        .where('runs.run_id', '=', run_id)
        .where(seen)
        .executeTakeFirst()
      if (!run) throw runNotFound(run_id)
      const { event_uuid, event_name, timestamp, payload } = measured
      room.log.info({ run_id: run.run_id, event_uuid, event_name, timestamp, payload }, 'client.event')
      return {}
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

function selectEvents(caller: Caller, query: EventQuery): EventSelection {
  const sight = sightOf(caller)
  const visible = sql<SqlBool>`events.team_id = ${caller.team_id} and ${visibleRuns(caller)}`
  // Ids are stored in lower case and accepted in any.
  const ancestor_run_id = query.ancestor_run_id?.toLowerCase()
  if (ancestor_run_id !== undefined) {
    const { include_self = false } = query
    return {
      key: `${sight} below ${ancestor_run_id} ${include_self}`,
      wants: (event) =>
        sees(caller, event) &&
        (event.parent_run_id === ancestor_run_id || (include_self && event.run_id === ancestor_run_id)),
      where: sql`${visible} and (runs.parent_run_id = ${ancestor_run_id}
        or (${include_self} and runs.run_id = ${ancestor_run_id}))`,
    }
  }
  if (query.run_ids !== undefined) {
    const run_ids = new Set(query.run_ids.map((run_id) => run_id.toLowerCase()))
    return {
      key: `${sight} of ${[...run_ids].sort().join()}`,
      wants: (event) => run_ids.has(event.run_id) && sees(caller, event),
      where: sql`${visible} and events.run_id = any(${[...run_ids]}::uuid[])`,
    }
  }
  return { key: `${sight} all`, wants: (event) => sees(caller, event), where: visible }
}
