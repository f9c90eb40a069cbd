/**
 * Whether an agent is between two actions: then its files are as it means them to be. What it does is known by its tool
 * calls alone, so one that has begun and has no result yet is an action.
 */
import type { EntryBody } from '../contract/index.ts'

export type Boundary = {
  saw(body: EntryBody): void
  turnBegan(): void
  /** What has no result by now will have none. */
  turnEnded(): void
  /** Tool calls so far: the same as before, and nothing has been begun since. */
  readonly begun: number
  /** How many turns have ended; null: one is running. */
  readonly ended: number | null
  /** True as soon as no action is under way; false when one still is after `ms`. Rejects when aborted. */
  quiet(ms: number, signal: AbortSignal): Promise<boolean>
}

export function makeBoundary(): Boundary {
  const open = new Set<string>()
  const waiters = new Set<() => void>()
  let begun = 0
  let turns = 0
  let in_turn = false

  function settled(): void {
    if (open.size > 0) return
    for (const wake of waiters) wake()
  }

  return {
    saw(body) {
      if (body.kind === 'tool_call') {
        open.add(body.call_id)
        begun += 1
      } else if (body.kind === 'tool_result' && open.delete(body.call_id)) settled()
    },
    turnBegan() {
      in_turn = true
    },
    turnEnded() {
      in_turn = false
      turns += 1
      open.clear()
      settled()
    },
    get begun() {
      return begun
    },
    get ended() {
      return in_turn ? null : turns
    },
    quiet(ms, signal) {
      if (open.size === 0) return Promise.resolve(true)
      return new Promise((resolve, reject) => {
        const end = () => {
          clearTimeout(timer)
          waiters.delete(wake)
          signal.removeEventListener('abort', aborted)
        }
        const wake = () => {
          end()
          resolve(true)
        }
        const aborted = () => {
          end()
          reject(signal.reason)
        }
        const timer = setTimeout(() => {
          end()
          resolve(false)
        }, ms)
        waiters.add(wake)
        signal.addEventListener('abort', aborted, { once: true })
        if (signal.aborted) aborted()
      })
    },
  }
}
