/**
 * Cron as the standard has it: five fields, of which each is `*`, a number, a name, a range or a list of these, with
 * steps. What other programs add to it (seconds, years, `@daily`, `L`, `W`, `#`, `?`) is refused in a sentence that
 * says what to write instead, where there is something.
 */
import { entryOf } from './entry-of.ts'

type Field = { name: string; least: number; most: number; words: readonly string[] }

const MONTHS = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'] as const
const DAYS = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'] as const

const FIELDS: readonly Field[] = [
  { name: 'minute', least: 0, most: 59, words: [] },
  { name: 'hour', least: 0, most: 23, words: [] },
  { name: 'day of the month', least: 1, most: 31, words: [] },
  { name: 'month', least: 1, most: 12, words: MONTHS },
  { name: 'day of the week', least: 0, most: 7, words: DAYS },
]

const NICKNAMES: Record<string, string> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
}

export const CRON_CHARACTERS_MAX = 256

/** A sentence about the first thing that is wrong with it; null: nothing is. */
export function cronFault(text: string): string | null {
  const cron = text.trim()
  const shape = 'A cron schedule has five fields: minute, hour, day of the month, month, day of the week'
  if (cron === '') return `${shape}, such as 0 9 * * 1-5.`
  const nickname = entryOf(NICKNAMES, cron.toLowerCase())
  if (nickname !== undefined) return `${shape}; write ${cron} as ${nickname}.`
  const fields = cron.split(/\s+/)
  if (cron.startsWith('@')) return `${shape}; ${JSON.stringify(cron)} cannot be said in these.`
  if (fields.length !== FIELDS.length) {
    const more = fields.length > FIELDS.length ? ' Seconds and years have none.' : ''
    return `${shape}. This one has ${fields.length}.${more}`
  }
  for (const [at, field] of FIELDS.entries()) {
    const fault = fieldFault(fields[at] ?? '', field)
    if (fault !== null) return fault
  }
  return null
}

function fieldFault(text: string, field: Field): string | null {
  const head = `The ${field.name} ${JSON.stringify(text)} is not valid:`
  for (const part of text.split(',')) {
    const fault = partFault(part, field)
    if (fault !== null) return `${head} ${fault}`
  }
  return null
}

function partFault(part: string, field: Field): string | null {
  if (part === '') return 'between two commas there is nothing.'
  const [range = '', step, ...rest] = part.split('/')
  if (rest.length > 0) return 'it has two steps.'
  if (step !== undefined && !(/^\d{1,3}$/.test(step) && Number(step) >= 1 && Number(step) <= field.most))
    return `the step ${JSON.stringify(step)} is no number from 1 to ${field.most}.`
  if (range === '*') return null
  const [from = '', to, ...others] = range.split('-')
  if (others.length > 0) return 'a range has one beginning and one end.'
  const first = numberOf(from, field)
  if (typeof first === 'string') return first
  if (to === undefined)
    return step === undefined ? null : `a step needs * or a range before it, such as ${from}-${field.most}/${step}.`
  const last = numberOf(to, field)
  if (typeof last === 'string') return last
  return first <= last ? null : `the range ${range} ends before it begins.`
}

/** The number that is meant, or a sentence. */
function numberOf(text: string, { least, most, words }: Field): number | string {
  const at = words.indexOf(text.toUpperCase())
  if (at !== -1) return at + least
  const named = words.length === 0 ? '' : ` or ${words[0]} to ${words.at(-1)}`
  if (/^\d{1,4}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text)
  return `${JSON.stringify(text)} is no number from ${least} to ${most}${named}.`
}
