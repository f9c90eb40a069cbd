/**
 * What time it is, for everything that is stored or compared with something stored.
 *
 * All servers share the database's time, so that leases and deadlines set by one are judged right by another.
 * Between two looks at the database the process's own monotonic clock carries it on; it never goes back, whatever
 * the machine's clock does.
 */
import type { Database } from './connect.ts'

export type Clock = { now(): Date }

const RESYNCHRONISE_MS = 60_000
/** An answer that took longer says too little about when it was given. */
const ROUND_TRIP_MS_MAX = 250

/** Starts from the database's time; rejects when the database does not answer. Close it to end its timer. */
export async function databaseClock(
  database: Database,
  options: { resynchronise_ms?: number } = {},
): Promise<Clock & { close(): void }> {
  const first = await sample(database)
  let offset_ms = first.offset_ms
  let latest_ms = -Infinity
  const timer = setInterval(() => {
    sample(database).then(
      (next) => {
        if (next.round_trip_ms <= ROUND_TRIP_MS_MAX) offset_ms = next.offset_ms
      },
      // The database is away: the monotonic clock carries on alone until it is back.
      () => undefined,
    )
  }, options.resynchronise_ms ?? RESYNCHRONISE_MS).unref()
  return {
    now() {
      latest_ms = Math.max(latest_ms, performance.now() + offset_ms)
      return new Date(latest_ms)
    },
    close: () => clearInterval(timer),
  }
}

/** A clock turned by hand, for tests. */
export function manualClock(start: Date = new Date('2026-01-01T00:00:00Z')): Clock & { advance(ms: number): void } {
  let now_ms = start.getTime()
  return {
    now: () => new Date(now_ms),
    advance: (ms) => {
      now_ms += ms
    },
  }
}

async function sample(database: Database): Promise<{ offset_ms: number; round_trip_ms: number }> {
  const client = await database.pool.connect()
  try {
    const asked = performance.now()
    const answer = await client.query<{ ms: number }>(
      'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
    )
    const answered = performance.now()
    const ms = answer.rows[0]?.ms
    if (ms === undefined) throw new Error('PostgreSQL did not say what time it is.')
    return { offset_ms: ms - (asked + answered) / 2, round_trip_ms: answered - asked }
  } finally {
    client.release()
  }
}
