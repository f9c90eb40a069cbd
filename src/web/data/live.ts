/** Text that is being written: what deltas have carried of entries that have not come yet. Kept nowhere else. */
import type { Delta, Entry } from '../../contract/index.ts'

export type LiveText = {
  execution_id: string
  number: number
  kind: Delta['kind']
  stream?: 'stdout' | 'stderr'
  text: string
  /** Where `text` begins in the whole, in characters: above 0 when this page came late or let go of the start. */
  from: number
}

/** The end of a longer live text is what is shown; the entry brings the whole. */
export const LIVE_TEXT_MAX = 32_768

export function applyDeltas(live: LiveText[], execution_id: string, deltas: Delta[]): LiveText[] {
  let next = live.filter((one) => one.execution_id === execution_id)
  for (const delta of deltas) {
    const known = next.find((one) => one.number === delta.number)
    const grown = grow(known, execution_id, delta)
    next = known ? next.map((one) => (one === known ? grown : one)) : [...next, grown]
  }
  return next.sort((a, b) => a.number - b.number)
}

function grow(known: LiveText | undefined, execution_id: string, delta: Delta): LiveText {
  const reached = known ? known.from + known.text.length : 0
  const joins = known && delta.offset <= reached && delta.offset >= known.from
  const text = joins ? known.text.slice(0, delta.offset - known.from) + delta.text : delta.text
  const from = joins ? known.from : delta.offset
  const excess = Math.max(0, text.length - LIVE_TEXT_MAX)
  return {
    execution_id,
    number: delta.number,
    kind: delta.kind,
    text: text.slice(excess),
    from: from + excess,
    ...(delta.stream === undefined ? {} : { stream: delta.stream }),
  }
}

/** Drops what has come as an entry, and what an execution left that is not the one that writes now. */
export function settleLive(live: LiveText[], entries: Entry[]): LiveText[] {
  const last = entries.at(-1)
  if (live.length === 0 || !last) return live
  return live.filter((one) => one.execution_id === last.execution_id && one.number > last.number)
}
