import { expect, test } from 'vitest'
import type { Entry } from '../../contract/index.ts'
import { applyDeltas, settleLive } from './live.ts'
import {
  appendEntries,
  follows,
  prependEarlier,
  renewEnd,
  type TranscriptWindow,
  WINDOW_ENTRIES_MAX,
} from './transcript.ts'

const RUN = '00000000-0000-4000-8000-000000000000'
const FIRST = '00000000-0000-4000-8000-000000000001'
const SECOND = '00000000-0000-4000-8000-000000000002'

function entries(from: number, to: number, execution_number = 1): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, at) => ({
    run_id: RUN,
    execution_id: execution_number === 1 ? FIRST : SECOND,
    execution_number,
    number: from + at,
    at: '2026-01-01T00:00:00Z',
    position: `${String(execution_number).padStart(6, '0')}.${String(from + at).padStart(8, '0')}`,
    body: { kind: 'text', text: `${from + at}` },
  }))
}
const window = (held: Entry[], more: Partial<TranscriptWindow> = {}): TranscriptWindow => ({
  entries: held,
  has_earlier: false,
  has_later: false,
  ...more,
})
const numbers = (held: TranscriptWindow) => held.entries.map((entry) => entry.number)

test('an entry that comes twice, or late, is shown once and in order', () => {
  const once = appendEntries(window(entries(1, 3)), [...entries(5, 5), ...entries(2, 4), ...entries(5, 5)])
  expect(numbers(once)).toEqual([1, 2, 3, 4, 5])
  expect(appendEntries(once, entries(1, 5))).toBe(once)
})

test('a hole before what comes is seen, also where an execution begins', () => {
  const held = window(entries(1, 3))
  expect(follows(held, entries(3, 5))).toBe(true)
  expect(follows(held, entries(5, 6))).toBe(false)
  expect(follows(held, entries(1, 1, 2))).toBe(true)
  expect(follows(held, entries(2, 2, 2))).toBe(false)
  expect(follows(window([]), entries(2, 2))).toBe(false)
})

test('a window that grows too long lets go at the other side and says so', () => {
  const long = appendEntries(
    window(entries(1, WINDOW_ENTRIES_MAX)),
    entries(WINDOW_ENTRIES_MAX + 1, WINDOW_ENTRIES_MAX + 10),
  )
  expect(long).toMatchObject({ has_earlier: true, has_later: false })
  expect([long.entries.length, numbers(long)[0]]).toEqual([WINDOW_ENTRIES_MAX, 11])
  const back = prependEarlier(long, window(entries(1, 10)))
  expect(back).toMatchObject({ has_earlier: false, has_later: true })
  expect([back.entries.length, numbers(back).at(-1)]).toEqual([WINDOW_ENTRIES_MAX, WINDOW_ENTRIES_MAX])
})

test('the end read again joins what is held, or takes its place where a hole would lie between', () => {
  expect(numbers(renewEnd(window(entries(1, 4)), window(entries(3, 6))))).toEqual([1, 2, 3, 4, 5, 6])
  expect(numbers(renewEnd(window(entries(1, 4)), window(entries(7, 9), { has_earlier: true })))).toEqual([7, 8, 9])
})

test('live text grows by its offsets, survives a repeat, shows that its start is missing, and goes when its entry comes', () => {
  const delta = (text: string, offset: number, number = 1) => ({ kind: 'text' as const, text, offset, number })
  let live = applyDeltas([], FIRST, [delta('Hel', 0), delta('lo', 3), delta('lo', 3)])
  expect(live).toMatchObject([{ text: 'Hello', from: 0 }])
  live = applyDeltas(live, FIRST, [delta('late', 100)])
  expect(live).toMatchObject([{ text: 'late', from: 100 }])
  live = applyDeltas(live, FIRST, [delta('next', 0, 2)])
  expect(settleLive(live, entries(1, 1))).toMatchObject([{ text: 'next', number: 2 }])
  expect(settleLive(live, entries(1, 2))).toEqual([])
})
