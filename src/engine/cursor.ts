/** Opaque page cursors: where the last page ended, bound to the list and sort that it was made for. */
import { z } from 'zod'
import { Fault } from '../contract/index.ts'

/** A time in a cursor. PostgreSQL knows no year 0. */
export const CursorTime = z.iso.datetime().refine((time) => !time.startsWith('0000'))

/** Of a list that is sorted by time. */
const TimeCursor = z.object({ sort: z.string(), at: CursorTime, id: z.uuid() })
type TimeCursor = z.infer<typeof TimeCursor>

export const renderCursor = <T extends { sort: string }>(cursor: T): string =>
  Buffer.from(JSON.stringify(cursor)).toString('base64url')

export const readCursor = (text: string, sort: string): TimeCursor => readCursorAs(TimeCursor, text, sort)

export function readCursorAs<T extends { sort: string }>(schema: z.ZodType<T>, text: string, sort: string): T {
  const refused = () =>
    new Fault(
      'invalid_request',
      'This cursor does not belong to this list with these filters and this sort order. Start again without one.',
      { errors: [{ pointer: '/cursor', detail: 'not a cursor of this list' }] },
    )
  let raw: unknown
  try {
    raw = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'))
  } catch {
    throw refused()
  }
  const cursor = schema.safeParse(raw)
  if (!cursor.success || cursor.data.sort !== sort) throw refused()
  return cursor.data
}
