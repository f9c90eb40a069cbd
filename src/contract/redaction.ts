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
  const text = (whole: string) => redact(whole, rangesOf(needles, whole))
  return {
    text,
    cut: (whole) => {
      const stream = redactedStream(needles)
      const sure = stream.push(whole)
      const rest = stream.flush()
      return rest.length < CUT_CHARACTERS_MIN ? sure + rest : sure + REDACTED
    },
    deep: (value) => mapStrings(value, text),
    bytes: (bytes) => masked(needles, bytes),
    stream: () => redactedStream(needles),
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

type Range = { from: number; to: number }

/** Where secrets stand, in order; those that overlap are one, so that of each nothing is left beside another. */
function rangesOf(needles: string[], text: string, first: Range[] = []): Range[] {
  const found = [...first]
  for (const needle of needles) {
    for (let at = text.indexOf(needle); at !== -1; at = text.indexOf(needle, at + 1))
      found.push({ from: at, to: at + needle.length })
  }
  return merged(found)
}

function merged(ranges: Range[]): Range[] {
  const whole: Range[] = []
  for (const { from, to } of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = whole.at(-1)
    if (last !== undefined && from < last.to) last.to = Math.max(last.to, to)
    else whole.push({ from, to })
  }
  return whole
}

function redact(text: string, ranges: Range[]): string {
  if (ranges.length === 0) return text
  let shown = ''
  let at = 0
  for (const { from, to } of ranges) {
    shown += text.slice(at, from) + REDACTED
    at = to
  }
  return shown + text.slice(at)
}

/**
 * What is held back is held as it came: an end that is a secret may be the beginning of a longer one. Where a secret
 * reaches into what is held back, it is shown as redacted at once, and the held text begins with the rest of it.
 */
function redactedStream(needles: string[]): RedactedStream {
  let held = ''
  /** So many characters of the held text are of a secret that was shown as redacted. */
  let covered = 0

  function take(whole: string, keep: number): string {
    const cut = whole.length - keep
    const ranges = rangesOf(needles, whole, covered === 0 ? [] : [{ from: 0, to: covered }])
    const begun = ranges.filter(({ from }) => from < cut)
    const shown = redact(
      whole.slice(0, cut),
      begun.map(({ from, to }) => ({ from, to: Math.min(to, cut) })),
    )
    const out = covered === 0 || cut === 0 ? shown : shown.slice(REDACTED.length)
    if (cut > 0) covered = Math.max(0, (begun.at(-1)?.to ?? 0) - cut)
    held = whole.slice(cut)
    return out
  }

  return {
    push(piece) {
      const whole = held + piece
      return take(whole, beginning(needles, whole))
    },
    flush: () => take(held, 0),
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
