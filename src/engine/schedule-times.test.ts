/** Planned times against a model that looks at every minute of the clock. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cronFault } from '../contract/index.ts'
import { timesOf } from './schedule-times.ts'

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS

/** Three days around each change of a clock, and days without one. */
const SPANS = [
  ['Europe/Berlin', '2026-03-28T00:00Z'],
  ['Europe/Berlin', '2026-10-24T00:00Z'],
  ['America/New_York', '2026-03-07T00:00Z'],
  ['America/New_York', '2026-10-31T00:00Z'],
  ['Australia/Lord_Howe', '2026-04-03T00:00Z'],
  ['Australia/Lord_Howe', '2026-10-02T00:00Z'],
  ['UTC', '2026-03-28T00:00Z'],
] as const

const named = (cron_schedule: string, time_zone: string) => timesOf({ cron_schedule, time_zone })
const shown = (times: Date[]) => times.map((time) => time.toISOString().slice(5, 16))

function within(cron: string, zone: string, from: string, days: number): string[] {
  const start = new Date(from)
  return shown(named(cron, zone).latest(start, new Date(start.getTime() + days * DAY_MS - 1), 10_000))
}

test.each([
  // In the gap: when the clock has leapt, 01:00Z in Berlin, 07:00Z in New York, 15:30Z the day before on Lord Howe.
  ['30 2 * * *', 'Europe/Berlin', '2026-03-28T00:00Z', ['03-28T01:30', '03-29T01:00', '03-30T00:30']],
  ['30 2 * * *', 'America/New_York', '2026-03-07T00:00Z', ['03-07T07:30', '03-08T07:00', '03-09T06:30']],
  ['15 2 * * *', 'Australia/Lord_Howe', '2026-10-02T00:00Z', ['10-02T15:45', '10-03T15:30', '10-04T15:15']],
  // Twice on the clock: the first time alone.
  ['30 2 * * *', 'Europe/Berlin', '2026-10-24T00:00Z', ['10-24T00:30', '10-25T00:30', '10-26T01:30']],
  ['30 1 * * *', 'America/New_York', '2026-10-31T00:00Z', ['10-31T05:30', '11-01T05:30', '11-02T06:30']],
  ['45 1 * * *', 'Australia/Lord_Howe', '2026-04-03T00:00Z', ['04-03T14:45', '04-04T14:45', '04-05T15:15']],
  // A list is of the day, too.
  ['30 2,14 * * *', 'Europe/Berlin', '2026-03-29T00:00Z', ['03-29T01:00', '03-29T12:30', '03-30T00:30', '03-30T12:30']],
  ['0 2-3 * * *', 'Europe/Berlin', '2026-03-29T00:00Z', ['03-29T01:00', '03-30T00:00', '03-30T01:00']],
])('%s in %s comes once a day through a change of the clock', (cron, zone, from, times) => {
  expect(within(cron, zone, from, 3).slice(0, times.length)).toEqual(times)
})

test.each(SPANS)('an hourly schedule comes in every hour of %s from %s', (zone, from) => {
  const minutes = within('0 * * * *', zone, from, 3).map((time) => time.slice(-2))
  const shifted = zone === 'Australia/Lord_Howe'
  // Lord Howe puts its clock back by half an hour: its full hours lie elsewhere afterwards.
  expect(new Set(minutes)).toEqual(new Set(shifted ? ['00', '30'] : ['00']))
  expect(minutes.length).toBeGreaterThanOrEqual(shifted ? 71 : 72)
  if (!shifted) {
    const times = named('0 * * * *', zone).next(new Date(from), 72)
    expect(times.map((time, at) => time.getTime() - Date.parse(from) - (at + 1) * 60 * MINUTE_MS)).toEqual(
      Array(72).fill(0),
    )
  }
})

test('what counts minutes comes at every such minute of the clock, also in an hour that comes twice', () => {
  expect(within('*/30 2 * * *', 'Europe/Berlin', '2026-10-25T00:00Z', 1)).toEqual([
    '10-25T00:00',
    '10-25T00:30',
    '10-25T01:00',
    '10-25T01:30',
  ])
  expect(within('*/30 2 * * *', 'Europe/Berlin', '2026-03-29T00:00Z', 1)).toEqual([])
})

type Minute = { at: number; minute: number; hour: number; day: number; month: number; weekday: number }

/** What the clock of the zone shows in each minute. */
function clockOf(zone: string, from: string, days: number): Minute[] {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    hourCycle: 'h23',
    ...{ minute: 'numeric', hour: 'numeric', day: 'numeric', month: 'numeric', year: 'numeric' },
  })
  return Array.from({ length: (days * DAY_MS) / MINUTE_MS }, (_, index) => {
    const at = Date.parse(from) + index * MINUTE_MS
    const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]))
    const { minute = 0, hour = 0, day = 0, month = 0, year = 0 } = parts
    return { at, minute, hour, day, month, weekday: new Date(Date.UTC(year, month - 1, day)).getUTCDay() }
  })
}

function numbers(field: string, most: number): Set<number> {
  const found = new Set<number>()
  for (const part of field.split(',')) {
    const [range = '', step = '1'] = part.split('/')
    const [from = 0, to = from] = range === '*' ? [0, most] : range.split('-').map(Number)
    for (let n = from; n <= to; n += Number(step)) found.add(n)
  }
  return found
}

function matcher(cron: string) {
  const [minute = '', hour = '', day = '', month = '', weekday = ''] = cron.split(' ')
  const [minutes, hours, months] = [numbers(minute, 59), numbers(hour, 23), numbers(month, 12)]
  const days = numbers(day, 31)
  const weekdays = new Set([...numbers(weekday, 7)].map((n) => n % 7))
  // Where both are restricted, either will do.
  const either = day !== '*' && weekday !== '*'
  const isDay = (at: Minute) => {
    const [is_day, is_weekday] = [day === '*' || days.has(at.day), weekday === '*' || weekdays.has(at.weekday)]
    return either ? is_day || is_weekday : is_day && is_weekday
  }
  const matches = (at: Minute) =>
    minutes.has(at.minute) && hours.has(at.hour) && (month === '*' || months.has(at.month)) && isDay(at)
  return { matches, of_the_day: !/[*/]/.test(minute + hour) }
}

/** The rule of `schedule-times.ts`, minute by minute. */
function expected(cron: string, clock: Minute[]): number[] {
  const { matches, of_the_day } = matcher(cron)
  if (!of_the_day) return clock.filter(matches).map(({ at }) => at)
  const seen = new Set<string>()
  const found = new Set<number>()
  const wall = ({ month, day, hour, minute }: Minute) => [month, day, hour, minute].join()
  for (const [index, now] of clock.entries()) {
    const before = clock[index - 1]
    if (matches(now) && !seen.has(wall(now))) found.add(now.at)
    seen.add(wall(now))
    // Minutes that the clock leapt over, all within this day.
    const leapt = before === undefined ? 0 : (now.hour - before.hour) * 60 + now.minute - before.minute - 1
    for (let n = 1; before && before.day === now.day && n <= leapt; n++) {
      const minute = before.hour * 60 + before.minute + n
      if (matches({ ...now, hour: Math.floor(minute / 60), minute: minute % 60 })) found.add(now.at)
    }
  }
  return [...found]
}

type Span = { zone: string; from: string; clock: Minute[] }
const clocks: Span[] = SPANS.map(([zone, from]) => ({ zone, from, clock: clockOf(zone, from, 3) }))

/** By its place, so that a counterexample is short. */
function spanOf(index: number): Span {
  const span = clocks[index]
  if (span === undefined) throw new Error(`no span ${index}`)
  return span
}

const value = (least: number, most: number) => fc.integer({ min: least, max: most })
const range = (least: number, most: number) =>
  fc.tuple(value(least, most), value(least, most)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)].join('-'))
const field = (least: number, most: number) =>
  fc.oneof(
    { weight: 3, arbitrary: fc.constant('*') },
    { weight: 3, arbitrary: value(least, most).map(String) },
    { weight: 1, arbitrary: range(least, most) },
    { weight: 1, arbitrary: fc.array(value(least, most), { minLength: 2, maxLength: 4 }).map((all) => all.join()) },
    {
      weight: 1,
      arbitrary: fc.tuple(range(least, most), value(1, Math.min(9, most))).map(([all, step]) => `${all}/${step}`),
    },
  )
const cronText = fc
  .tuple(field(0, 59), fc.oneof(field(0, 23), field(0, 4)), field(1, 31), field(1, 12), field(0, 7))
  .map((fields) => fields.join(' '))

test('the times of any cron are those of the model, in every zone and through every change', () => {
  fc.assert(
    fc.property(cronText, fc.constantFrom(...clocks.keys()), (cron, at) => {
      const { zone, from, clock } = spanOf(at)
      expect(cronFault(cron)).toBeNull()
      expect(within(cron, zone, from, 3)).toEqual(shown(expected(cron, clock).map((at) => new Date(at))))
    }),
    { numRuns: 150 },
  )
})

test('the latest times are the last of all between', () => {
  const span = fc.tuple(fc.constantFrom(...clocks.keys()), value(0, 4320), value(0, 4320))
  fc.assert(
    fc.property(cronText, span, value(1, 5), (cron, [index, a, b], most) => {
      const { zone, from: start, clock } = spanOf(index)
      const at = (minutes: number) => new Date(Date.parse(start) + minutes * MINUTE_MS)
      const [from, to] = [at(Math.min(a, b)), at(Math.max(a, b))]
      const all = expected(cron, clock).filter((time) => time >= from.getTime() && time <= to.getTime())
      const latest = named(cron, zone).latest(from, to, most)
      expect(latest.map((time) => time.getTime())).toEqual(all.slice(-most))
    }),
    { numRuns: 100 },
  )
})

test('the latest of a year of minutes is found at once', () => {
  const began = performance.now()
  const [time] = named('* * * * *', 'UTC').latest(new Date('2025-01-01Z'), new Date('2026-01-01T12:00:30Z'), 1)
  expect(time?.toISOString()).toBe('2026-01-01T12:00:00.000Z')
  expect(performance.now() - began).toBeLessThan(1_000)
})

test.each([
  ['', /has five fields: minute, hour, .* such as 0 9 \* \* 1-5\.$/],
  ['* * * *', /This one has 4\.$/],
  ['0 0 9 * * 1-5', /This one has 6\. Seconds and years have none\.$/],
  ['@daily', /write @daily as 0 0 \* \* \*\.$/],
  ['@reboot', /"@reboot" cannot be said in these\.$/],
  ['60 * * * *', /^The minute "60" is not valid: "60" is no number from 0 to 59\.$/],
  ['* 24 * * *', /^The hour "24" is not valid/],
  ['* * 0 * *', /^The day of the month "0".* from 1 to 31\.$/],
  ['* * * FOO *', /^The month "FOO".* from 1 to 12 or JAN to DEC\.$/],
  ['* * * * 8', /^The day of the week "8".* from 0 to 7 or SUN to SAT\.$/],
  ['*/0 * * * *', /the step "0" is no number from 1 to 59\.$/],
  ['5/15 * * * *', /a step needs \* or a range before it, such as 5-59\/15\.$/],
  ['30-10 * * * *', /the range 30-10 ends before it begins\.$/],
  ['1,,2 * * * *', /between two commas there is nothing\.$/],
  ['1/2/3 * * * *', /it has two steps\.$/],
  ['* * L * *', /^The day of the month "L" is not valid/],
  ['* * * * 5#2', /^The day of the week "5#2" is not valid/],
  ['? * * * *', /^The minute "\?" is not valid/],
])('%j is refused in a sentence', (cron, sentence) => {
  expect(cronFault(cron)).toMatch(sentence)
})

test.each(['0 9 * * 1-5', '*/15 0-6,18-23 1,15 JAN-MAR mon,FRI', ' 5   4 * *  7 ', '0-59/7 * * dec 5-7'])(
  '%j is taken, and understood',
  (cron) => {
    expect(cronFault(cron)).toBeNull()
    expect(named(cron.trim(), 'UTC').after(new Date())).toBeInstanceOf(Date)
  },
)

test('what never comes has no time', () => {
  expect(named('0 0 30 2 *', 'UTC').after(new Date())).toBeNull()
  expect(named('0 0 29 2 *', 'UTC').after(new Date('2026-01-01Z'))?.toISOString()).toBe('2028-02-29T00:00:00.000Z')
})
