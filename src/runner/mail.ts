/**
 * The run's inbox, as its runner sees it. What waits is looked at, claimed, written down, and then given to the agent.
 *
 * The claim comes before the agent is given anything: a tool that the agent calls (`wait_for_events`) may answer with
 * the same letters at the same moment, and whichever of the two the server hears first surfaces them.
 */
import { randomUUID } from 'node:crypto'
import type { Inbox } from '../contract/index.ts'
import { pause } from '../sdk/calls.ts'
import type { Client } from './client.ts'
import { ANSWER_MS, awayDelay, isAway, isSuperseded } from './upload.ts'

export type Mail = {
  /** Something may wait. */
  ring(): void
  /** The tree of the run is stopped, as far as is known here: nothing may be given to its agent. */
  readonly halted: boolean
  /** The server says whether it is. */
  halt(halted: boolean): void
  /** Resolves when it has rung since the last look, when `until` is aborted, or after `within_ms`. */
  rung(until: AbortSignal, within_ms?: number): Promise<void>
  /** Asks until the server answers; rejects when the execution is stopped. `over`: between two turns of the agent. */
  look(turn?: 'over'): Promise<Inbox>
  /** True: the text of this look is the runner's to give, and nobody else's. Like `look`, it asks until it knows. */
  claim(seen: Inbox): Promise<boolean>
}

export type MailOptions = {
  client: Client
  execution_id: string
  onSuperseded: (message: string) => void
  signal: AbortSignal
}

export function makeMail({ client, execution_id, onSuperseded, signal }: MailOptions): Mail {
  const params = { execution_id }
  const waiters = new Set<() => void>()
  let rang = false
  let halted = false
  let halts = 0
  const ring = () => {
    rang = true
    for (const wake of [...waiters]) wake()
  }

  async function asked<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries++) {
      signal.throwIfAborted()
      try {
        return await ask(AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]))
      } catch (error) {
        signal.throwIfAborted()
        if (isSuperseded(error)) onSuperseded(error.message)
        if (!isAway(error)) throw error
        await pause(awayDelay(tries), signal)
      }
    }
  }

  return {
    ring,
    get halted() {
      return halted
    },
    halt(now) {
      if (now === halted) return
      halted = now
      halts += 1
      ring()
    },
    async rung(until, within_ms) {
      if (rang || until.aborted) return
      await new Promise<void>((resolve) => {
        const timer = within_ms === undefined ? undefined : setTimeout(() => wake(), within_ms)
        const wake = () => {
          clearTimeout(timer)
          waiters.delete(wake)
          until.removeEventListener('abort', wake)
          resolve()
        }
        waiters.add(wake)
        until.addEventListener('abort', wake, { once: true })
      })
    },
    async look(turn) {
      rang = false
      const before = halts
      const body = turn === 'over' ? { turn_over: true } : {}
      const seen = await asked((limit) => client.executions.inbox({ params, body, signal: limit }))
      // What was said while this was asked may be newer.
      if (halts === before) halted = seen.halted ?? false
      return seen
    },
    async claim({ message_ids, sequence, since }) {
      // Asked again, because the answer was lost, it is still the same claim.
      const body = { message_ids, sequence, since, claim_id: randomUUID() }
      const { already = false } = await asked((limit) => client.executions.delivered({ params, body, signal: limit }))
      return !already
    },
  }
}
