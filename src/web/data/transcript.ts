/**
 * The part of a transcript that the page holds: a run of entries without holes, in order, each position once.
 *
 * It is bounded: when it grows past `WINDOW_ENTRIES_MAX` at one side it lets go at the other. A window that has let go
 * of its end (`has_later`) takes no live entries until it has come back to the end.
 */
import type { Entry } from '../../contract/index.ts'

export type TranscriptWindow = { entries: Entry[]; has_earlier: boolean; has_later: boolean }

/** What is read first, and how much more each time, in entries. */
export const FIRST_ENTRIES = 50
export const MORE_ENTRIES = 100
export const WINDOW_ENTRIES_MAX = 1000

export function appendEntries(window: TranscriptWindow, incoming: Entry[]): TranscriptWindow {
  const last = window.entries.at(-1)?.position ?? ''
  const fresh = inOrder(incoming.filter((entry) => entry.position > last))
  if (fresh.length === 0) return window
  const entries = [...window.entries, ...fresh]
  const excess = Math.max(0, entries.length - WINDOW_ENTRIES_MAX)
  return { entries: entries.slice(excess), has_earlier: window.has_earlier || excess > 0, has_later: window.has_later }
}

/** Whether nothing lies between: entries are numbered without holes in each execution. */
export function follows(window: TranscriptWindow, incoming: Entry[]): boolean {
  const last = window.entries.at(-1)
  const next = last ? incoming.find((entry) => entry.position > last.position) : incoming[0]
  if (!next) return true
  return last?.execution_id === next.execution_id ? next.number === last.number + 1 : next.number === 1
}

export function appendLater(window: TranscriptWindow, page: TranscriptWindow): TranscriptWindow {
  return { ...appendEntries(window, page.entries), has_later: page.has_later }
}

export function prependEarlier(window: TranscriptWindow, page: TranscriptWindow): TranscriptWindow {
  const first = window.entries[0]?.position
  const older = first === undefined ? page.entries : page.entries.filter((entry) => entry.position < first)
  const entries = [...inOrder(older), ...window.entries]
  const excess = entries.length > WINDOW_ENTRIES_MAX
  return {
    entries: excess ? entries.slice(0, WINDOW_ENTRIES_MAX) : entries,
    has_earlier: page.has_earlier,
    has_later: window.has_later || excess,
  }
}

/** The newest page read again: joined to what is held where the two touch, in its place where they do not. */
export function renewEnd(window: TranscriptWindow | undefined, page: TranscriptWindow): TranscriptWindow {
  const first = page.entries[0]
  const last = window?.entries.at(-1)
  if (!window || !first || !last || window.has_later) return page
  if (first.position <= last.position) return appendEntries(window, page.entries)
  return page
}

function inOrder(entries: Entry[]): Entry[] {
  const sorted = [...entries].sort((a, b) => (a.position < b.position ? -1 : a.position > b.position ? 1 : 0))
  return sorted.filter((entry, index) => entry.position !== sorted[index - 1]?.position)
}
