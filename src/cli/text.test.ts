import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { alignColumns, nearest, neutralise, parseDuration, safeJson, truncate, widthOf } from './text.ts'

const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u200e\u200f]/

describe('neutralising', () => {
  test.each([
    ['a title change', '\x1b]0;owned\x07'],
    ['a clipboard write', '\x1b]52;c;aGk=\x07'],
    ['a cleared screen', '\x1b[2J\x1b[H'],
    ['a hidden link', '\x1b]8;;http://evil\x1b\\text'],
    ['an overwritten line', 'safe\rEVIL'],
    ['a status request', '\x1bP$q"p\x1b\\'],
    ['an 8-bit CSI', '\u009b31m'],
    ['reordered text', 'a\u202ecod.exe'],
    ['DEL', 'a\x7fb'],
  ])('%s is shown, not obeyed', (_, text) => {
    expect(neutralise(text)).not.toMatch(OBEYED)
  })

  test('no text at all gets through with something that a terminal obeys, and plain text is not changed', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => !OBEYED.test(neutralise(text))))
    expect(neutralise('Grüße,\n\t日本語 👍')).toBe('Grüße,\n\t日本語 👍')
  })

  test('JSON keeps its value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(safeJson(value))).toEqual(JSON.parse(JSON.stringify(value)))
      }),
    )
    expect(safeJson({ a: '\u009b\u202e\x7f' })).toBe('{"a":"\\u009b\\u202e\\u007f"}')
  })
})

test('columns line up by what a terminal shows, and the widest gives way', () => {
  const lines = alignColumns([
    ['ab', 'x'],
    ['日本', 'y'],
  ])
  expect(lines).toEqual(['ab    x', '日本  y'])
  for (const line of alignColumns([['id', 'a very long title that does not fit']], 20))
    expect(widthOf(line)).toBeLessThanOrEqual(20)
  expect(truncate('日本語', 5)).toBe('日本…')
})

test('several wide columns give way together, and what one goes on with stays whole', () => {
  const id = '019a0b6c-0000-7000-8000-000000000001'
  const rows = [
    ['RUN', 'STATE', 'ID', 'WORDS'],
    ['n'.repeat(128), 'INPROGRESS', id, 'w'.repeat(60)],
  ]
  const lines = alignColumns(rows, 80)
  expect(lines.map(widthOf)).toEqual([expect.any(Number), 80])
  expect(lines[1]).toMatch(new RegExp(`^n{13}…  INPROGRESS  ${id}  w{13}…$`))
  const narrow =
    alignColumns(
      rows.map((row) => row.toSpliced(2, 1)),
      80,
    )[1] ?? ''
  expect(narrow.split(/ +/)).toEqual([`${'n'.repeat(32)}…`, 'INPROGRESS', `${'w'.repeat(32)}…`])
})

test.each([
  ['30s', 30_000],
  ['1h30m', 5_400_000],
  ['250ms', 250],
  ['2', 2000],
  ['1.5s', 1500],
  ['soon', null],
  ['', null],
  ['-5s', null],
])('the duration %s', (text, ms) => {
  expect(parseDuration(text)).toBe(ms)
})

test('a mistyped word is matched, a different one is not', () => {
  expect(nearest('lst', ['list', 'logs'])).toBe('list')
  expect(nearest('xyzzy', ['list', 'logs'])).toBeUndefined()
})
