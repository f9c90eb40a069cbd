/**
 * Keeps secrets out of what a runner writes: a second line, behind not giving them to the harness at all.
 *
 * Each secret is looked for as it is and as base64 (at its three alignments, both alphabets), hex, URL-encoded,
 * JSON-escaped and reversed. Secrets shorter than `SECRET_LENGTH_MIN` would redact ordinary words and are left alone.
 */

export const SECRET_LENGTH_MIN = 8
export const REDACTED = '•••'

const SECRET_NAME =
  /(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|APIKEY|KEY|CREDENTIALS?|PAT)(_|$)|API_?KEY|SECRET|TOKEN$|PASSWORD$/i

export type Redactor = {
  text(text: string): string
  /** The same value with every string in it redacted. */
  deep(value: unknown): unknown
  /** A redactor for text that arrives in pieces: holds back an end that might be the beginning of a secret. */
  stream(): RedactedStream
}

export type RedactedStream = { push(piece: string): string; flush(): string }

export function makeRedactor(secrets: Iterable<string>): Redactor {
  const needles = [...new Set([...secrets].filter((s) => s.length >= SECRET_LENGTH_MIN).flatMap(spellings))].sort(
    (a, b) => b.length - a.length,
  )
  const text = (whole: string) => needles.reduce((rest, needle) => rest.replaceAll(needle, REDACTED), whole)
  return { text, deep: (value) => mapStrings(value, text), stream: () => redactedStream(needles, text) }
}

/** The values of variables whose names say that they are secret. */
export function secretsIn(variables: Record<string, string | undefined>): string[] {
  return Object.entries(variables).flatMap(([name, value]) =>
    value !== undefined && SECRET_NAME.test(name) ? [value] : [],
  )
}

/** The password or token inside `https://user:password@host/…`, as written and decoded. */
export function secretsOfUrl(url: string): string[] {
  const userinfo = /^[a-z][a-z0-9+.-]*:\/\/([^@/]*)@/i.exec(url)?.[1]
  if (userinfo === undefined) return []
  const secret = userinfo.slice(userinfo.indexOf(':') + 1)
  return [...new Set([secret, safeDecode(secret)])]
}

/** Every string inside a value of JSON, replaced. */
export function mapStrings(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value)
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, change))
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [change(name), mapStrings(item, change)]))
}

function spellings(secret: string): string[] {
  const bytes = Buffer.from(secret)
  const base64 = [0, 1, 2].map((lead) => base64At(bytes, lead))
  return [
    secret,
    ...base64,
    ...base64.map((s) => s.replaceAll('+', '-').replaceAll('/', '_')),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
    encodeURIComponent(secret.toWellFormed()),
    JSON.stringify(secret).slice(1, -1),
    [...secret].reverse().join(''),
  ].filter((spelling) => spelling.length >= SECRET_LENGTH_MIN)
}

/** The part of a base64 text that depends on these bytes alone when `lead` others stand before them in the triple. */
function base64At(bytes: Buffer, lead: number): string {
  const encoded = Buffer.concat([Buffer.alloc(lead), bytes]).toString('base64')
  return encoded.slice(Math.ceil((lead * 8) / 6), Math.floor(((lead + bytes.length) * 8) / 6))
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

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
