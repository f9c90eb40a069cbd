/**
 * Calls that are held open. Clients of 2025-11-25 give a call up with a request of its own, which names the call by its
 * id; a call that was given up must not take messages that nobody reads, nor keep what it was answered meanwhile. What
 * another server holds is given up when its connection ends.
 */
import type { RequestId } from '@modelcontextprotocol/server'

/** A call that was answered may be given up this long after: its caller's word crossed the answer. In milliseconds. */
const CROSSED_MS = 60_000

export type HeldCalls = ReturnType<typeof heldCalls>

export function heldCalls() {
  const held = new Map<string, Set<AbortController>>()
  const keyOf = (execution_id: string, id: RequestId) => `${execution_id} ${typeof id} ${id}`
  return {
    open(execution_id: string, id: RequestId): { given_up: AbortSignal; close(how?: 'answered'): void } {
      const key = keyOf(execution_id, id)
      const alike = held.get(key) ?? new Set()
      const call = new AbortController()
      held.set(key, alike.add(call))
      return {
        given_up: call.signal,
        close(how) {
          const forget = () => {
            alike.delete(call)
            if (alike.size === 0 && held.get(key) === alike) held.delete(key)
          }
          if (how === 'answered') setTimeout(forget, CROSSED_MS).unref()
          else forget()
        },
      }
    },
    giveUp(execution_id: string, id: RequestId): void {
      for (const call of held.get(keyOf(execution_id, id)) ?? []) call.abort()
    },
  }
}
