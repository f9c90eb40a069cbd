/**
 * The calls of this process that wait for mail. Who accepts a letter for an agent that waits here gives it along, in
 * the same statement (`messages.ts`), so that the call answers at once and need not look for it.
 */
import type { Seen } from './givings.ts'

/** A run's row as the call left it when it parked: all that came before was given. */
export type Quiet = Pick<Seen, 'messages' | 'last_event_sequence'> & { execution_id: string; waiting_until: Date }

export type Listener = {
  /** From here on it can be told; again after each time that it parked. */
  listen(quiet: Quiet): void
  /** What it was told; waits for who is about to. Null: nothing. */
  told(): Promise<string | null>
  /** It was told something that it has not read, or somebody is about to. */
  hasWord(): boolean
  /** True: it was told something that it has not read. */
  close(): boolean
}

/** A listener that is kept for one letter, until that is in the database or is not. */
export type Reserved = {
  call_key: string
  /** False: the call has gone meanwhile. */
  tell(text: string): boolean
  release(): void
}

type Slot = {
  call_key: string
  wake: () => void
  quiet: Quiet | null
  text: string | null
  telling: Promise<void> | null
}

export type Listeners = ReturnType<typeof openListeners>

export function openListeners() {
  const slots = new Map<string, Slot>()

  return {
    /**
     * One call per run: a second one takes the place of the first, which then looks for itself. `wake`: it was told
     * something.
     */
    open(run_id: string, { call_key, wake }: Pick<Slot, 'call_key' | 'wake'>): Listener {
      const slot: Slot = { call_key, wake, quiet: null, text: null, telling: null }
      return {
        listen(quiet) {
          slot.quiet = quiet
          slots.set(run_id, slot)
        },
        async told() {
          await slot.telling
          const { text } = slot
          slot.text = null
          return text
        },
        hasWord: () => slot.telling !== null || slot.text !== null,
        close() {
          if (slots.get(run_id) === slot) slots.delete(run_id)
          slot.quiet = null
          return slot.text !== null
        },
      }
    },

    /** What to compare the run's row with; null: nobody listens. */
    quiet: (run_id: string): Quiet | null => slots.get(run_id)?.quiet ?? null,

    /** Null: nobody listens, or what is listened for is on its way. */
    reserve(run_id: string): Reserved | null {
      const slot = slots.get(run_id)
      if (slot === undefined || slot.quiet === null || slot.telling !== null) return null
      const { promise, resolve } = Promise.withResolvers<void>()
      slot.telling = promise
      const free = () => {
        slot.telling = null
        resolve()
      }
      return {
        call_key: slot.call_key,
        tell(text) {
          const is_there = slot.quiet !== null
          if (is_there) slot.text = text
          // It hears one letter; what comes after waits for the next call.
          slot.quiet = null
          free()
          if (is_there) slot.wake()
          return is_there
        },
        release: free,
      }
    },
  }
}
