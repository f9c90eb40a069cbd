/**
 * Keeps secrets out of what is written and said: a second line, behind not giving them away at all.
 *
 * Each secret is looked for as it is and as base64 (at its three alignments, both alphabets), hex, URL-encoded,
 * JSON-escaped and reversed; of one with several lines each long line, too. What has fewer than
 * `SECRET_CHARACTERS_MIN` characters would redact ordinary words and is left alone.
 */
import { SECRET_CHARACTERS_MIN } from './secrets.ts'

export const REDACTED = '•••'

/** Of a secret with several lines, those as long as this are secret each by itself. */
const LINE_CHARACTERS_MIN = 16

/** So much of the beginning of a secret tells something of it. */
const CUT_CHARACTERS_MIN = 4

export type Redactor = {
  text(text: string): string
  /** The same of a text that may have been cut short: neither is the beginning of a secret left at its end. */
  cut(text: string): string
  /** The same value with every string in it redacted. */
  deep(value: unknown): unknown
  /** The same bytes, each of a secret masked: nothing moves, whatever the format is. */
  bytes(bytes: Uint8Array): Uint8Array
  /** A redactor for text that arrives in pieces: holds back an end that might be the beginning of a secret. */
  stream(): RedactedStream
}

export type RedactedStream = { push(piece: string): string; flush(): string }

export function makeRedactor(secrets: Iterable<string>): Redactor {
  const whole_secrets = [...secrets].flatMap((secret) => [secret, ...linesOf(secret)])
  const needles = [...new Set(whole_secrets.filter((s) => s.length >= SECRET_CHARACTERS_MIN).flatMap(spellings))].sort(
    (a, b) => b.length - a.length,
  )
  const text = (whole: string) => needles.reduce((rest, needle) => rest.replaceAll(needle, REDACTED), whole)
  return {
    text,
    cut: (whole) => {
      const stream = redactedStream(needles, text)
      const sure = stream.push(whole)
      const rest = stream.flush()
      return rest.length < CUT_CHARACTERS_MIN ? sure + rest : sure + REDACTED
    },
    deep: (value) => mapStrings(value, text),
    bytes: (bytes) => masked(needles, bytes),
    stream: () => redactedStream(needles, text),
  }
}

/** Every string inside a value of JSON, replaced. */
export function mapStrings(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value)
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, change))
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [change(name), mapStrings(item, change)]))
}

/** Lines such as `-----BEGIN KEY-----` are no secret. */
const linesOf = (secret: string): string[] =>
  secret.includes('\n')
    ? secret.split(/\r?\n/).filter((line) => line.length >= LINE_CHARACTERS_MIN && !line.startsWith('-----'))
    : []

function spellings(secret: string): string[] {
  const bytes = new TextEncoder().encode(secret)
  const base64 = [0, 1, 2].map((lead) => base64At(bytes, lead))
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return [
    secret,
    ...(secret.includes('\n') ? [secret.replaceAll(/\r?\n/g, '\r\n')] : []),
    ...base64,
    ...base64.map((s) => s.replaceAll('+', '-').replaceAll('/', '_')),
    hex,
    hex.toUpperCase(),
    encodeURIComponent(secret.toWellFormed()),
    JSON.stringify(secret).slice(1, -1),
    [...secret].reverse().join(''),
  ].filter((spelling) => spelling.length >= SECRET_CHARACTERS_MIN)
}

/** The part of a base64 text that depends on these bytes alone when `lead` others stand before them in the triple. */
function base64At(bytes: Uint8Array, lead: number): string {
  const encoded = btoa('\0'.repeat(lead) + [...bytes].map((byte) => String.fromCharCode(byte)).join(''))
  return encoded.slice(Math.ceil((lead * 8) / 6), Math.floor(((lead + bytes.length) * 8) / 6))
}

const MASK = 0x2a

function masked(needles: string[], bytes: Uint8Array): Uint8Array {
  const encoder = new TextEncoder()
  let copy: Uint8Array | null = null
  for (const needle of needles.map((one) => encoder.encode(one))) {
    for (let at = indexOf(bytes, needle, 0); at !== -1; at = indexOf(bytes, needle, at + needle.length)) {
      copy ??= Uint8Array.from(bytes)
      copy.fill(MASK, at, at + needle.length)
    }
  }
  return copy ?? bytes
}

function indexOf(bytes: Uint8Array, needle: Uint8Array, from: number): number {
  const first = needle[0] ?? 0
  for (let at = bytes.indexOf(first, from); at !== -1; at = bytes.indexOf(first, at + 1)) {
    if (at + needle.length > bytes.length) return -1
    let same = 1
    while (same < needle.length && bytes[at + same] === needle[same]) same++
    if (same === needle.length) return at
  }
  return -1
}

function redactedStream(needles: string[], redact: (text: string) => string): RedactedStream {
  let held = ''
  return {
    push(piece) {
      const whole = redact(held + piece)
      const keep = beginning(needles, whole)
      held = whole.slice(whole.length - keep)
      return whole.slice(0, whole.length - keep)
    },
    flush() {
      const rest = held
      held = ''
      return rest
    },
  }
}

/** Length of the longest end of `text` that is the beginning of a needle. */
function beginning(needles: string[], text: string): number {
  let longest = 0
  for (const needle of needles) {
    const first = needle[0] ?? ''
    const from = Math.max(0, text.length - needle.length + 1)
    for (
      let at = text.indexOf(first, from);
      at !== -1 && text.length - at > longest;
      at = text.indexOf(first, at + 1)
    ) {
      if (needle.startsWith(text.slice(at))) longest = text.length - at
    }
  }
  return longest
}
