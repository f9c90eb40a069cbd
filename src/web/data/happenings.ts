/**
 * What happened around a run beside its transcript: births of its children, changes of their states, messages to and
 * from it. In the order of the log among themselves; among the entries of the transcript they stand by the clock.
 */
import type { Event, Letter } from '../../contract/index.ts'
import type { Item } from '../transcript/items.ts'
import type { Status } from '../words.ts'

/** Events of a run and its children that the page holds: a piece of the log without holes, up to its end. */
export type Happenings = { events: Event[]; has_earlier: boolean }

/** Events read at once. */
export const EVENTS_READ = 200

export type Happening = { sequence: number; at: string } & (
  | { kind: 'born'; run_id: string }
  | { kind: 'state'; run_id: string; status: Status }
  | { kind: 'letter'; letter: Letter }
)

const CHILD_STATUSES: Record<string, Status> = {
  run_in_progress: 'working',
  run_waiting: 'waiting',
  run_blocked: 'needs_you',
  run_succeeded: 'succeeded',
  run_failed: 'failed',
  run_errored: 'failed',
  run_cancelled: 'cancelled',
}

/** `children`: those of the run itself; what happens further down is told where it belongs. */
export function happeningsOf(
  run_id: string,
  children: ReadonlySet<string>,
  { events, letters }: { events: Event[]; letters: Letter[] },
): Happening[] {
  const mail = new Map(letters.map((letter) => [letter.message_id, letter]))
  return events.flatMap((event): Happening[] => {
    const { sequence, occurred_at: at, ref_id } = event
    if (event.event_type === 'child_agent_started')
      return event.run_id === run_id && ref_id !== null ? [{ sequence, at, kind: 'born', run_id: ref_id }] : []
    if (event.event_type === 'new_message') {
      const letter = ref_id === null ? undefined : mail.get(ref_id)
      return letter ? [{ sequence, at, kind: 'letter', letter }] : []
    }
    const status = CHILD_STATUSES[event.event_type]
    return status === undefined || !children.has(event.run_id)
      ? []
      : [{ sequence, at, kind: 'state', run_id: event.run_id, status }]
  })
}

/**
 * The rows of a transcript with what happened between them. Before a window that does not reach the start, and after
 * one that does not reach the end, nothing is added.
 */
export function withHappenings(
  items: Item[],
  happenings: Happening[],
  window: { has_earlier: boolean; has_later: boolean },
): Item[] {
  const first = timeOf(items[0])
  const waiting = happenings.filter((one) => !window.has_earlier || first === undefined || Date.parse(one.at) >= first)
  const merged: Item[] = []
  let next = 0
  for (const item of items) {
    const at = timeOf(item) ?? Number.POSITIVE_INFINITY
    for (let one = waiting[next]; one && Date.parse(one.at) < at; one = waiting[next]) {
      // Live text is always last, and the window's end may not be the transcript's.
      if (at === Number.POSITIVE_INFINITY && window.has_later) break
      merged.push(rowOf(one))
      next++
    }
    merged.push(item)
  }
  if (!window.has_later) merged.push(...waiting.slice(next).map(rowOf))
  return merged
}

const rowOf = (happening: Happening): Item => ({ key: `happening:${happening.sequence}`, happening })

const timeOf = (item: Item | undefined): number | undefined =>
  item && 'entry' in item ? Date.parse(item.entry.at) : undefined
