/** Text for a terminal: made harmless, made to fit, made short. */

/** Controls but newline and tab, DEL, C1, and what reorders or hides text (bidi marks, zero-width, line separators). */
const HARMFUL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g

/** Shows what a terminal would obey instead of letting it obey: ESC as `␛`, others as `\u{…}`. */
export function neutralise(text: string): string {
  return text.replace(/\r\n/g, '\n').replace(HARMFUL, (c) => {
    const code = c.charCodeAt(0)
    if (code < 0x20) return String.fromCharCode(0x2400 + code)
    return code === 0x7f ? '␡' : `\\u{${code.toString(16)}}`
  })
}

/** JSON whose value is the same and that no terminal obeys. */
export function safeJson(value: unknown, indent?: number): string {
  return (JSON.stringify(value, null, indent) ?? 'null').replace(HARMFUL, (c) =>
    c.charCodeAt(0) < 0x20 ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** One line: breaks and tabs become spaces. */
export const oneLine = (text: string): string => neutralise(text).replace(/\s+/g, ' ').trim()

/** Columns that a text takes; wide East Asian characters and pictures take two. */
export function widthOf(text: string): number {
  let width = 0
  for (const char of text) width += columnsOf(char.codePointAt(0) ?? 0)
  return width
}

function columnsOf(code: number): number {
  // Combining marks, and the paints of output.ts.
  if ((code >= 0x300 && code <= 0x36f) || (code >= 0xfdd0 && code <= 0xfddf)) return 0
  const wide =
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    code >= 0x1f300
  return wide ? 2 : 1
}

export function truncate(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text
  let kept = ''
  let width = 0
  for (const char of text) {
    const more = columnsOf(char.codePointAt(0) ?? 0)
    if (width + more > columns - 1) break
    kept += char
    width += more
  }
  return `${kept}…${/[\ufdd0-\ufdde]/.test(kept) ? '\ufddf' : ''}`
}

/** Milliseconds as `850ms`, `4.2s`, `3m 5s`, `2h 4m`, `3d 1h`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}ms`
  const s = ms / 1000
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.floor(s)}s`
  if (s < 3600) return `${Math.floor(s / 60)}m ${Math.floor(s % 60)}s`
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${Math.floor((s % 3600) / 60)}m`
  return `${Math.floor(s / 86_400)}d ${Math.floor((s % 86_400) / 3600)}h`
}

const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `30s`, `1h30m`, `250ms`, or a bare number of seconds; null when it is none of these. */
export function parseDuration(text: string): number | null {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) return null
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g))
    total += Number(amount) * (UNIT_MS[unit ?? 's'] ?? 0)
  return total
}

export const ago = (iso: string, now: number): string =>
  `${duration(Math.max(0, now - Date.parse(iso)))
    .split(' ')[0]
    ?.replace(/\.\d+/, '')} ago`

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`
  if (count < 1024 ** 2) return `${(count / 1024).toFixed(1)} KB`
  return count < 1024 ** 3 ? `${(count / 1024 ** 2).toFixed(1)} MB` : `${(count / 1024 ** 3).toFixed(1)} GB`
}

/** No column is made narrower, in columns of a terminal. */
const NARROW = 8
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/**
 * Rows as aligned columns, two spaces between, no borders. With a width the widest columns give way until all fit, the
 * last of them first; ids never do, for a piece of one is of no use. Where that is not enough, lines without an id end
 * early, so that no row of a terminal goes on in the next.
 */
export function alignColumns(rows: string[][], width?: number): string[] {
  const widths: number[] = []
  for (const row of rows)
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, widthOf(cell))
    })
  const ids = widths.map((_, i) => rows.some((row) => UUID.test(row[i] ?? '')))
  if (width !== undefined) {
    const over = widths.reduce((sum, w) => sum + w, 0) + 2 * (widths.length - 1) - width
    for (let left = over; left > 0; left--) {
      const widest = Math.max(...widths.filter((_, i) => !ids[i]))
      if (widest <= NARROW) break
      widths[widths.findLastIndex((columns, i) => columns === widest && !ids[i])] = widest - 1
    }
  }
  return rows.map((row) => {
    const line = row
      .map((cell, i) => {
        const columns = widths[i] ?? 0
        const text = width === undefined ? cell : truncate(cell, columns)
        return i === row.length - 1 ? text : text + ' '.repeat(Math.max(0, columns - widthOf(text)))
      })
      .join('  ')
      .trimEnd()
    return width === undefined || ids.includes(true) ? line : truncate(line, width)
  })
}

export const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`

/** The known word nearest to a mistyped one, when it is near enough to be meant. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const scored = known
    .map((k) => [k, distance(word.toLowerCase(), k.toLowerCase())] as const)
    .sort((a, b) => a[1] - b[1])
  const best = scored[0]
  return best && best[1] <= Math.max(1, Math.floor(word.length / 2.5)) ? best[0] : undefined
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1)
    }
    row = next
  }
  return row[b.length] ?? 0
}
