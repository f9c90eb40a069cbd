/** Moments and lengths of time, for people. Time is always an argument. */
import type { Run } from '../contract/index.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** `8 s`, `2 min 5 s`, `3 h 4 min`, `2 d 1 h`. */
export function lengthWords(ms: number): string {
  if (ms < SECOND) return ms < 100 ? '< 0.1 s' : `${(ms / SECOND).toFixed(1)} s`
  const units: [number, string][] = [
    [DAY, 'd'],
    [HOUR, 'h'],
    [MINUTE, 'min'],
    [SECOND, 's'],
  ]
  const first = units.findIndex(([size]) => ms >= size)
  const parts = units.slice(first, first + 2).map(([size, word], index) => {
    const whole = Math.floor((index === 0 ? ms : ms % (units[first]?.[0] ?? 1)) / size)
    return whole === 0 && index > 0 ? '' : `${whole} ${word}`
  })
  return parts.filter(Boolean).join(' ')
}

/** `just now`, `3 min ago`, `in 20 s`, `yesterday`; a date when it is more than a week away. */
export function relativeWords(at: number, now: number): string {
  const away = Math.abs(now - at)
  if (away < 10 * SECOND) return 'just now'
  if (away >= 7 * DAY)
    return new Date(at).toLocaleDateString(undefined, { year: 'numeric', month: 'short', day: 'numeric' })
  const [size, word] =
    away < MINUTE ? [SECOND, 's'] : away < HOUR ? [MINUTE, 'min'] : away < DAY ? [HOUR, 'h'] : [DAY, 'd']
  const count = `${Math.floor(away / size)} ${word}`
  return at > now ? `in ${count}` : `${count} ago`
}

export const absoluteWords = (at: number): string =>
  new Date(at).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' })

/** Whether a run has a length of its own: it has ended, or works now. While it waits it has none. */
export function isTimed(run: Pick<Run, 'state' | 'started_at' | 'ended_at'>): boolean {
  return run.started_at !== null && (run.ended_at !== null || run.state === 'INPROGRESS' || run.state === 'BLOCKED')
}
