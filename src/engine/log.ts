/**
 * The log. An event is written in the transaction of its cause, and numbers become visible in order: the counter row is
 * bumped by the last statement before commit, so that whoever holds a higher number commits later.
 */
import { type Kysely, type RawBuilder, sql, type Transaction } from 'kysely'
import type { EventType } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { last } from '../db/prepared.ts'
import { arrayOf } from './array-of.ts'
import type { Room } from './engine.ts'

export type NewEvent = {
  team_id: string
  event_type: EventType
  run_id: string
  ref_id?: string | null
  execution_id?: string | null
}

type Write = Transaction<Tables>

type Logging = Pick<Room, 'database' | 'clock' | 'bell'>

/**
 * Runs `work` in a transaction and logs what it pushed to `events`. Other servers and streams are told after the
 * commit.
 */
export async function logged<T>(room: Logging, work: (write: Write, events: NewEvent[]) => Promise<T>): Promise<T> {
  const { kysely } = room.database
  const now = room.clock.now()
  const { result, is_news } = await kysely.transaction().execute((write) => logWith(last, write, now, work))
  if (is_news) room.bell.ring('log', {})
  return result
}

/** The same in a transaction that is another's: who commits it tells of the news, after that. */
export const loggedIn = <T, W extends Kysely<Tables>>(write: W, now: Date, work: Logged<T, W>): Promise<News<T>> =>
  logWith((write, query) => query.execute(write), write, now, work)

type Logged<T, W> = (write: W, events: NewEvent[]) => Promise<T>
type News<T> = { result: T; is_news: boolean }

async function logWith<T, W extends Kysely<Tables>>(
  append: (write: Kysely<Tables>, query: RawBuilder<unknown>) => Promise<unknown>,
  write: W,
  now: Date,
  work: Logged<T, W>,
): Promise<News<T>> {
  const events: NewEvent[] = []
  const result = await work(write, events)
  if (events.length > 0) await append(write, sql`with ${logs(events, now)} select`)
  return { result, is_news: events.length > 0 }
}

/** Two parts of a statement, which log these events. It is the last before its transaction's commit. */
export const logs = (events: NewEvent[], occurred_at: Date): RawBuilder<unknown> => sql`
    bump as (update event_counter set value = value + ${events.length} returning value),
    said as (
      insert into events (sequence, team_id, event_type, run_id, ref_id, execution_id, occurred_at)
      select bump.value - ${events.length} + e.place, e.team_id, e.event_type, e.run_id, e.ref_id, e.execution_id,
        ${occurred_at}
      from bump, unnest(
        ${arrayOf('uuid', events, (e) => e.team_id)}, ${arrayOf('text', events, (e) => e.event_type)},
        ${arrayOf('uuid', events, (e) => e.run_id)}, ${arrayOf('text', events, (e) => e.ref_id ?? null)},
        ${arrayOf('uuid', events, (e) => e.execution_id ?? null)}
      ) with ordinality as e(team_id, event_type, run_id, ref_id, execution_id, place)
    )`
