/**
 * Checkpoints: the workspace is kept while its agent is at work, so that a machine that dies takes little of it along.
 * Each waits for a moment between two actions; one in which an action began is taken anew. What is never between two
 * actions is kept as it is, and says so. While an agent waits and nothing has been done since, none is taken, so that
 * waiting costs nothing. At most one is taken at a time, and none while `aside` has the workspace.
 */
import { pause } from '../sdk/calls.ts'
import type { Boundary } from './boundary.ts'

/** Added to the time between two, so that runners which began together do not all come at once, in milliseconds. */
const JITTER_MS = 30_000
/** How long one waits for the agent to be between two actions, in milliseconds. */
const BOUNDARY_MS = 10 * 60_000
/** Before one that was broken into is taken anew, in milliseconds. */
const AGAIN_MS = 5_000

/** `isWhole`: nothing has begun since; null: whatever is there is to be kept. Answers false when it was not whole. */
export type Take = (isWhole: (() => boolean) | null, signal: AbortSignal) => Promise<boolean>

export type Checkpoints = {
  /** Runs `step` with no checkpoint beside it: one that is being taken is given up, and the next comes later. */
  aside<T>(step: () => Promise<T>): Promise<T>
  close(): Promise<void>
}

/** `every_ms`: between two; absent: there are none. */
export function makeCheckpoints(its: {
  every_ms: number | undefined
  boundary: Boundary
  /** Never rejects. */
  take: Take
}): Checkpoints {
  const { every_ms, boundary, take } = its
  if (every_ms === undefined) return { aside: (step) => step(), close: async () => {} }
  const part_ms = every_ms / 10
  const deadline_ms = Math.min(BOUNDARY_MS, 2 * every_ms)
  /** Turns that had ended at the last one; null: there was none, or the agent was at work. */
  let kept_turns: number | null = null
  let stop = new AbortController()
  let running = taking(stop.signal)

  async function taking(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause((every_ms ?? 0) + Math.random() * Math.min(JITTER_MS, part_ms), signal).catch(() => {})
      if (!signal.aborted) await takeOne(signal).catch(() => {})
    }
  }

  async function takeOne(signal: AbortSignal): Promise<void> {
    if (boundary.ended !== null && boundary.ended === kept_turns) return
    const until = performance.now() + deadline_ms
    for (;;) {
      const is_quiet = await boundary.quiet(until - performance.now(), signal)
      const { begun, ended } = boundary
      if (await take(is_quiet ? () => boundary.begun === begun : null, signal)) {
        if (!signal.aborted) kept_turns = ended
        return
      }
      await pause(Math.min(AGAIN_MS, part_ms), signal)
      if (performance.now() >= until) return void (await take(null, signal))
    }
  }

  async function halt(): Promise<void> {
    stop.abort()
    await running
  }

  return {
    async aside(step) {
      await halt()
      try {
        return await step()
      } finally {
        stop = new AbortController()
        running = taking(stop.signal)
      }
    },
    close: halt,
  }
}
