/**
 * Calls that are held open. Clients of 2025-11-25 give a call up with a request of its own, which names the call by its
 * id; a call that was given up must not take messages that nobody reads, nor keep what it was answered meanwhile. What
 * another server holds is given up when its connection ends.
 *
 * Some clients give up each call that they made when a step of their model is over, also those whose answer they have
 * (OpenCode 1.18). A word that was sent before the answer was read comes over another connection than the answer's,
 * which was busy; so an answer counts as read from the moment when its connection carries anything else.
 */
import type { RequestId } from '@modelcontextprotocol/server'

/**
 * A call that was answered may be given up this long after, unless the answer was read: its caller's word crossed it.
 * In milliseconds; shorter than connections are kept without use, or a read answer could lose its proof.
 */
const CROSSED_MS = 60_000

export type HeldCalls = ReturnType<typeof heldCalls>

export function heldCalls() {
  const held = new Map<string, Set<AbortController>>()
  const keyOf = (execution_id: string, id: RequestId) => `${execution_id} ${typeof id} ${id}`
  return {
    open(execution_id: string, id: RequestId): { given_up: AbortSignal; close(answer?: { read: AbortSignal }): void } {
      const key = keyOf(execution_id, id)
      const alike = held.get(key) ?? new Set()
      const call = new AbortController()
      held.set(key, alike.add(call))
      return {
        given_up: call.signal,
        close(answer) {
          const forget = () => {
            alike.delete(call)
            if (alike.size === 0 && held.get(key) === alike) held.delete(key)
          }
          if (answer === undefined || answer.read.aborted) return forget()
          const crossed = setTimeout(forget, CROSSED_MS).unref()
          const onRead = () => {
            clearTimeout(crossed)
            forget()
          }
          answer.read.addEventListener('abort', onRead, { once: true })
        },
      }
    },
    giveUp(execution_id: string, id: RequestId): void {
      for (const call of held.get(keyOf(execution_id, id)) ?? []) call.abort()
    },
  }
}
