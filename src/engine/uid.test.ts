import { expect, test } from 'vitest'
import { z } from 'zod'
import { newTimedId } from './uid.ts'

test('an id has the form of version 4, sorts by its time, and is another one each time', () => {
  const times = ['2001-09-09T01:46:40.001Z', '2026-01-31T12:00:00Z', '2026-01-31T12:00:00.001Z', '2126-01-31T12:00:00Z']
  const ids = times.map((at) => newTimedId(new Date(at)))
  for (const id of ids) expect(z.uuidv4().safeParse(id).success, id).toBe(true)
  expect(ids.toSorted()).toEqual(ids)
  const now = new Date()
  expect(new Set(Array.from({ length: 1_000 }, () => newTimedId(now))).size).toBe(1_000)
})
