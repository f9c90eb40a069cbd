/**
 * Callers identified a moment ago, so that a runner's or a script's next request costs no query. What is kept is
 * at most
 * `identify_kept_ms` old: a revoked key opens nothing after that, on any server.
 *
 * Only who is asking is kept, never what they may see: the engine judges each write by the database.
 */
import { createHash } from 'node:crypto'
import type { Shown } from '../engine/access.ts'
import type { Caller } from '../engine/caller.ts'
import type { Engine } from '../engine/engine.ts'

const KNOWN_MAX = 10_000

export type KnownCallers = ReturnType<typeof knownCallers>

export function knownCallers(engine: Engine, kept_ms: number) {
  const known = new Map<string, { caller: Caller; until: number }>()
  const forget = (execution_id: string) => {
    for (const [key, { caller }] of known) {
      if (caller.kind === 'execution' && caller.execution_id === execution_id) known.delete(key)
    }
  }
  // Cancelled or superseded: its token says something else from now on.
  const deaf = engine.bell.hear('control', ({ execution_id }) => forget(execution_id))
  return {
    async identify(shown: Shown): Promise<Caller | null> {
      // Signing out must hold for the very next request.
      if ('session' in shown) return engine.access.identify(shown)
      const key = keyOf(shown.token)
      const seen = known.get(key)
      if (seen && Date.now() < seen.until) return seen.caller
      const caller = await engine.access.identify(shown)
      known.delete(key)
      if (caller) known.set(key, { caller, until: Date.now() + kept_ms })
      const oldest = known.keys().next().value
      if (known.size > KNOWN_MAX && oldest !== undefined) known.delete(oldest)
      return caller
    },
    /** It was looked up elsewhere, from `began` (milliseconds since 1970): an execution's standing is all there is to it. */
    keep(shown: Shown, began: number): void {
      const seen = 'token' in shown ? known.get(keyOf(shown.token)) : undefined
      if (seen?.caller.kind === 'execution' && !seen.caller.ended) seen.until = began + kept_ms
    },
    /** The execution has ended, or is about to: look again next time. */
    forget,
    close: deaf,
  }
}

const keyOf = (token: string): string => createHash('sha256').update(token).digest('base64')
