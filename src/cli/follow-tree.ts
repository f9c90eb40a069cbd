/**
 * A tree as it moves. Events say that there is something to see; the tree itself is then read anew, at most four times
 * a second, however much happens in it.
 */
import type { Event, Tree } from '../contract/index.ts'
import { type Client, pause } from '../sdk/client.ts'
import { ignoreBreaks } from './follow-run.ts'

const REFRESH_MS = 250
/** Tokens and last words grow without an event. */
export const STALE_MS = 2000

export type FollowTree = {
  client: Client
  run_id: string
  /** The tree as read after `events`, which happened in it since the last time. `first`: it was not known before. */
  onTree(tree: Tree, events: Event[], first: boolean): void
  signal: AbortSignal
}

export type TreeFollower = {
  /** The last that was read; null while the run has no children. */
  current(): Tree | null
  /** Begins to read: the run has children. */
  begin(): void
  /** An event of whichever run; null: some may have been missed. */
  hear(event: Event | null): void
  /** Reads it again when it has not been read for `STALE_MS`. */
  freshen(): void
  /** Reads it for the last time, if it ever did. */
  close(): Promise<Tree | null>
}

export function followTree({ client, run_id, onTree, signal }: FollowTree): TreeFollower {
  const closing = new AbortController()
  const stop = AbortSignal.any([signal, closing.signal])
  const known = new Set([run_id.toLowerCase()])
  const heard: Event[] = []
  let tree: Tree | null = null
  let begun = false
  let changed = false
  let read_at = 0
  let reading: Promise<void> | null = null

  const read = async (): Promise<void> => {
    changed = false
    const events = heard.splice(0)
    const next = await client.trees.get({ params: { run_id }, signal }).catch(ignoreBreaks)
    read_at = performance.now()
    if (next === null) {
      heard.unshift(...events)
      changed = true
      return
    }
    const first = tree === null
    tree = next
    for (const node of next.nodes) known.add(node.run_id)
    onTree(next, events, first)
  }
  const loop = async (): Promise<void> => {
    while (changed && !stop.aborted) {
      await read()
      await pause(REFRESH_MS, stop).catch(() => {})
    }
  }
  const change = (): void => {
    changed = true
    if (!begun || reading !== null || stop.aborted) return
    reading = loop()
      .catch(() => {})
      .finally(() => {
        reading = null
      })
  }
  const begin = (): void => {
    if (begun) return
    begun = true
    change()
  }

  return {
    current: () => tree,
    begin,
    hear(event) {
      if (event === null) {
        if (begun) change()
        return
      }
      if (!known.has(event.run_id)) return
      heard.push(event)
      if (event.event_type === 'child_agent_started') {
        // What the child does next may come before the tree is read with it.
        if (event.ref_id !== null) known.add(event.ref_id)
        begin()
      }
      change()
    },
    freshen() {
      if (begun && performance.now() - read_at > STALE_MS) change()
    },
    async close() {
      closing.abort()
      await reading
      if (begun && !signal.aborted) await read().catch(() => {})
      return tree
    },
  }
}
