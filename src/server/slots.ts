/**
 * The slots of one worker connection: what it holds, and how much more it would take.
 *
 * A worker that said its capacity is offered what that leaves. One that did not is offered runs until it rejects
 * one; then it is left alone until it ends one, or for `worker_full_ms`.
 */
import type { ServerLimits } from './limits.ts'

type Held = { task_id: string; execution_id: string; claimed: boolean; waiting: boolean }

/** How long a new connection has to say `worker_hello` before it is taken for one that does not, in milliseconds. */
const HELLO_MS = 300
/** Runs offered at once to a worker that did not say its capacity. */
const UNSAID_FREE = 4
/** A run has ended, yet its worker has not said so: it may be clearing up. After this its slot counts as free. */
const LINGER_MS = 2_000

export type Slots = ReturnType<typeof openSlots>

/** `wake` is called whenever there may be more room. */
export function openSlots(limits: ServerLimits, wake: () => void) {
  const held = new Map<string, Held>()
  const timers = new Map<string, NodeJS.Timeout>()
  let capacity: number | null = null
  let silent_until = Date.now() + HELLO_MS
  after('hello', HELLO_MS, wake)

  function after(name: string, ms: number, then: () => void): void {
    clearTimeout(timers.get(name))
    timers.set(
      name,
      setTimeout(() => {
        timers.delete(name)
        then()
      }, ms).unref(),
    )
  }

  function free(task_id: string): void {
    clearTimeout(timers.get(task_id))
    timers.delete(task_id)
    if (held.delete(task_id)) wake()
  }

  function freeSlots(): number {
    if (Date.now() < silent_until) return 0
    const busy = [...held.values()].filter((one) => !one.waiting).length
    return capacity === null ? UNSAID_FREE : Math.max(0, capacity - busy)
  }

  return {
    free: freeSlots,
    held: (): Held[] => [...held.values()],
    hello(said: number, running: { task_id: string; execution_id: string }[]): void {
      capacity = said
      silent_until = 0
      for (const { task_id, execution_id } of running)
        held.set(task_id, { task_id, execution_id, claimed: true, waiting: false })
      wake()
    },
    offered(task_id: string, execution_id: string): void {
      clearTimeout(timers.get(task_id))
      timers.delete(task_id)
      held.set(task_id, { task_id, execution_id, claimed: false, waiting: false })
    },
    claimed(task_id: string): void {
      const one = held.get(task_id)
      if (one) one.claimed = true
    },
    /** Its agent waits for events with its turn ended, or goes on. True when it is held here. */
    waits(task_id: string, waiting: boolean): boolean {
      const one = held.get(task_id)
      if (!one) return false
      const full = freeSlots() === 0
      one.waiting = waiting
      if (waiting && full) wake()
      return true
    },
    rejected(task_id: string): void {
      silent_until = Date.now() + limits.worker_full_ms
      after('full', limits.worker_full_ms, wake)
      free(task_id)
    },
    ended(task_id: string): void {
      silent_until = 0
      free(task_id)
      wake()
    },
    /** The log says that the run has ended; a worker of the public protocol need not say so itself. */
    runEnded(task_id: string): void {
      if (!held.has(task_id)) return
      if (capacity === null) free(task_id)
      else after(task_id, LINGER_MS, () => free(task_id))
    },
    freeSoon: (task_id: string): void => after(task_id, LINGER_MS, () => free(task_id)),
    close(): void {
      for (const timer of timers.values()) clearTimeout(timer)
      timers.clear()
      held.clear()
    },
  }
}
