/**
 * The times that five fields of cron plan, told by the clock of a time zone.
 *
 * Where a clock is put forward or back, the rule is Vixie's, as croner has it:
 * - A schedule whose minute and hour are given without `*` and steps is of the day: a time that the clock leaps over
 *   comes when it has leapt, and one that the clock shows twice comes the first time alone.
 * - Any other is of the clock: it comes whenever the clock shows such a time, so that `0 * * * *` is every hour.
 */
import { Cron } from 'croner'

const HOUR_MS = 3_600_000
/** How far back the latest times are looked for, ever further. */
const REACHES_MS = [HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS, 32 * 24 * HOUR_MS]

/** For what the contract let through. */
export function timesOf({ cron_schedule, time_zone }: { cron_schedule: string; time_zone: string }) {
  const cron = new Cron(cron_schedule, { timezone: time_zone, mode: '5-part', fixedTimeRule: 'no-wildcard' })

  /** The first that is later; null: there is none, as of the 30th of February. */
  const after = (moment: Date): Date | null => cron.nextRun(moment)

  /** From `from` to `to`, both included. */
  function between(from: Date, to: Date): Date[] {
    const found: Date[] = []
    for (let time = after(new Date(from.getTime() - 1)); time !== null && time <= to; time = after(time)) {
      found.push(time)
    }
    return found
  }

  return {
    after,

    /** The next so many. */
    next(moment: Date, count: number): Date[] {
      const found: Date[] = []
      for (let time = after(moment); time !== null && found.length < count; time = after(time)) found.push(time)
      return found
    },

    /** The last `most` of those from `from` to `to`, both included, in order. */
    latest(from: Date, to: Date, most: number): Date[] {
      for (const reach_ms of REACHES_MS) {
        const start = new Date(to.getTime() - reach_ms)
        if (start <= from) break
        const found = between(start, to)
        if (found.length >= most) return found.slice(-most)
      }
      return between(from, to).slice(-most)
    },
  }
}
