/** The rows of a transcript: entries, with each tool call and its result as one, and the live text after them. */
import type { Entry, EntryBody } from '../../contract/index.ts'
import type { Happening } from '../data/happenings.ts'
import type { LiveText } from '../data/live.ts'

export type Item = {
  /** The same for a live text and for the entry that it becomes, so that the row stays. */
  key: string
  /** The number of an execution that begins here, where there is more than one. */
  execution?: number
} & ({ entry: Entry; result?: Entry } | { live: LiveText } | { happening: Happening })

export function itemsOf(entries: Entry[], live: LiveText[]): Item[] {
  const items: Item[] = []
  const calls = new Map<string, number>()
  let execution = 1
  for (const entry of entries) {
    const call = entry.body.kind === 'tool_result' ? calls.get(callKey(entry, entry.body.call_id)) : undefined
    const item = call === undefined ? undefined : items[call]
    if (call !== undefined && item && 'entry' in item && !item.result) {
      items[call] = { ...item, result: entry }
      continue
    }
    if (entry.body.kind === 'tool_call') calls.set(callKey(entry, entry.body.call_id), items.length)
    const begins = entry.execution_number !== execution
    execution = entry.execution_number
    items.push({ key: `${entry.execution_id}:${entry.number}`, entry, ...(begins ? { execution } : {}) })
  }
  const held = new Set(items.map((item) => item.key))
  for (const one of live) {
    const key = `${one.execution_id}:${one.number}`
    if (!held.has(key)) items.push({ key, live: one })
  }
  return items
}

const callKey = (entry: Entry, call_id: string) => `${entry.execution_id} ${call_id}`

/** Rough heights in pixels, until a row has been measured. */
export function guessHeight(item: Item | undefined): number {
  if (!item || 'live' in item) return 72
  if ('happening' in item) return 36
  return guessOf(item.entry.body)
}

function guessOf(body: EntryBody): number {
  switch (body.kind) {
    case 'prompt':
    case 'text':
      return 40 + Math.ceil(body.text.length / 90) * 23
    case 'output':
      return 4 + body.text.split('\n').length * 20
    case 'plan':
      return 48 + body.items.length * 26
    case 'thought':
    case 'tool_call':
    case 'tool_result':
    case 'system':
    case 'gap':
    case 'unknown':
      return 40
  }
}
