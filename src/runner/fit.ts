/** Makes an entry small enough to be kept, and says in the entry itself what is missing. */
import { ENTRY_BYTES_MAX, type EntryBody, mapStrings } from '../contract/index.ts'

/** A growing text becomes an entry at this length even when more follows, in UTF-16 units. */
export const TEXT_LENGTH_MAX = 256 * 1024

/** Tried in turn, in bytes, for every string of an entry that is too large. */
const STRING_BYTES_MAX = [512 * 1024, 128 * 1024, 32 * 1024, 8 * 1024, 2 * 1024, 256]

export function fitEntry(body: EntryBody, tool_output_bytes_max: number): EntryBody {
  const clean = storable(body)
  const fitted: EntryBody =
    clean.kind === 'tool_result' ? { ...clean, output: cutMiddle(clean.output, tool_output_bytes_max) } : clean
  const bytes = bodyBytes(fitted)
  if (bytes <= ENTRY_BYTES_MAX) return fitted
  for (const max of STRING_BYTES_MAX) {
    const smaller = mapStrings(fitted, (text) => cutMiddle(text, max)) as EntryBody
    if (bodyBytes(smaller) <= ENTRY_BYTES_MAX) return smaller
  }
  return {
    kind: 'gap',
    bytes,
    reason: `An entry of kind ${body.kind} was larger than ${ENTRY_BYTES_MAX} bytes and could not be shortened.`,
  }
}

export const bodyBytes = (body: EntryBody): number => Buffer.byteLength(JSON.stringify(body))

/** Keeps head and tail, with a mark between them that counts the bytes left out. */
export function cutMiddle(text: string, bytes_max: number): string {
  if (text.length * 3 <= bytes_max) return text
  const bytes = Buffer.from(text)
  if (bytes.length <= bytes_max) return text
  const head = utf8Head(bytes, Math.floor(bytes_max / 2))
  const tail = utf8Tail(bytes, Math.floor(bytes_max / 2))
  return `${head}\n… ${bytes.length - head.length - tail.length} bytes left out …\n${tail}`
}

/** The longest whole-character beginning of at most `max` bytes. */
export function utf8Head(bytes: Buffer, max: number): Buffer {
  if (bytes.length <= max) return bytes
  let end = max
  while (end > 0 && isContinuation(bytes[end])) end--
  return bytes.subarray(0, end)
}

/** The longest whole-character end of at most `max` bytes. */
export function utf8Tail(bytes: Buffer, max: number): Buffer {
  let start = Math.max(0, bytes.length - max)
  while (start < bytes.length && start > 0 && isContinuation(bytes[start])) start++
  return bytes.subarray(start)
}

const isContinuation = (byte: number | undefined) => byte !== undefined && (byte & 0xc0) === 0x80

/** PostgreSQL's jsonb takes neither NUL nor half of a surrogate pair. */
function storable(body: EntryBody): EntryBody {
  return mapStrings(body, (text) => text.toWellFormed().replaceAll('\0', '\u{fffd}')) as EntryBody
}
