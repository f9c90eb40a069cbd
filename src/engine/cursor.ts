/** Opaque page cursors: where the last page ended, bound to the sort that it was made for. */
import { z } from 'zod'
import { Fault } from '../contract/index.ts'

const Cursor = z.object({ sort: z.string(), at: z.iso.datetime(), id: z.uuid() })
export type Cursor = z.infer<typeof Cursor>

export const renderCursor = (cursor: Cursor): string => Buffer.from(JSON.stringify(cursor)).toString('base64url')

export function readCursor(text: string, sort: string): Cursor {
  const refused = () =>
    new Fault('invalid_request', 'This cursor does not belong to this list and sort order. Start again without one.', {
      errors: [{ pointer: '/cursor', detail: 'not a cursor of this list' }],
    })
  let raw: unknown
  try {
    raw = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'))
  } catch {
    throw refused()
  }
  const cursor = Cursor.safeParse(raw)
  if (!cursor.success || cursor.data.sort !== sort) throw refused()
  return cursor.data
}
