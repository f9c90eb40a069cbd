/**
 * JSON from outside, as strictly as it is safe: no nesting that exhausts the stack of whoever walks it, no key that is
 * given twice (two readers would read two things), no key `__proto__` (where objects are copied it would become their
 * prototype, or be lost), no characters that PostgreSQL cannot keep.
 */
import { Fault, pointerOf } from '../contract/index.ts'

export const JSON_DEPTH_MAX = 200

/**
 * NUL and half of a surrogate pair are valid in JSON's escapes and nowhere else: refused, or made U+FFFD, which is also
 * put behind a key `__proto__`.
 */
export type Unstorable = 'refuse' | 'mend'

export function parseJson(text: string, unstorable: Unstorable): unknown {
  checkShape(text)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new Fault('invalid_request', `The body is not valid JSON${placeOf(text, cause)}.`)
  }
  return /__proto__|\\u(005f|0000|d[89a-f])/i.test(text) ? storable(value, unstorable, []) : value
}

/** V8 names either a position or the piece of text that it stumbled over. */
function placeOf(text: string, cause: unknown): string {
  const message = cause instanceof Error ? cause.message : ''
  const position = /position (\d+)/.exec(message)?.[1]
  if (position !== undefined) return ` at position ${position} ${lineOf(text, Number(position))}`
  return /unexpected end/i.test(message) ? `: it ends too early, at position ${text.length}` : ''
}

function lineOf(text: string, position: number): string {
  const before = text.slice(0, position)
  return `(line ${before.split('\n').length}, column ${before.length - before.lastIndexOf('\n')})`
}

function storable(value: unknown, unstorable: Unstorable, path: PropertyKey[]): unknown {
  if (typeof value === 'string') {
    if (value.isWellFormed() && !value.includes('\0')) return value
    if (unstorable === 'mend') return value.toWellFormed().replaceAll('\0', '\u{fffd}')
    const what = value.includes('\0') ? 'a NUL character (\\u0000)' : 'half of a surrogate pair (\\ud800 to \\udfff)'
    const pointer = pointerOf(path)
    throw new Fault('invalid_request', `The text at ${pointer || 'the top'} has ${what}, which cannot be kept.`, {
      errors: [{ pointer, detail: `has ${what}` }],
    })
  }
  if (Array.isArray(value)) return value.map((item, at) => storable(item, unstorable, [...path, at]))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [
      storableKey(key, unstorable, path),
      storable(member, unstorable, [...path, key]),
    ]),
  )
}

function storableKey(key: string, unstorable: Unstorable, path: PropertyKey[]): unknown {
  if (key !== '__proto__') return storable(key, unstorable, [...path, key])
  if (unstorable === 'mend') return `${key}\u{fffd}`
  throw new Fault('invalid_request', 'No object may have the key "__proto__". Call it something else.', {
    errors: [{ pointer: pointerOf([...path, key]), detail: 'is no key' }],
  })
}

/** Reads the text once, for its nesting and its keys; what is no JSON is left to the parser to say. */
function checkShape(text: string): void {
  /** Of each open object the keys so far; null for an array. */
  const open: (Set<string> | null)[] = []
  let key_next = false
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22: {
        const end = endOfString(text, at)
        const keys = open.at(-1)
        if (key_next && keys) checkKey(keys, text, at, end)
        key_next = false
        at = end
        break
      }
      case 0x7b:
      case 0x5b:
        key_next = text[at] === '{'
        open.push(key_next ? new Set() : null)
        if (open.length > JSON_DEPTH_MAX)
          throw new Fault('invalid_request', `The JSON is nested deeper than ${JSON_DEPTH_MAX} levels.`)
        break
      case 0x7d:
      case 0x5d:
        open.pop()
        key_next = false
        break
      case 0x2c:
        key_next = true
    }
  }
}

/** The place of the closing quote. */
function endOfString(text: string, begin: number): number {
  for (let end = text.indexOf('"', begin + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let escapes = 0
    while (text.charCodeAt(end - 1 - escapes) === 0x5c) escapes++
    if (escapes % 2 === 0) return end
  }
  return text.length
}

function checkKey(keys: Set<string>, text: string, begin: number, end: number): void {
  const raw = text.slice(begin + 1, end)
  const key = raw.includes('\\') ? unescaped(raw) : raw
  if (keys.has(key)) {
    const shown = JSON.stringify(key.slice(0, 80))
    throw new Fault(
      'invalid_request',
      `The key ${shown} is given twice in one object, at position ${begin} ${lineOf(text, begin)}. Give it once.`,
    )
  }
  keys.add(key)
}

function unescaped(raw: string): string {
  try {
    return String(JSON.parse(`"${raw}"`))
  } catch {
    return raw
  }
}
