/**
 * The guard of what stays open: streams and worker sockets end within `identify_again_ms` after their key was revoked,
 * on every server, and what hangs on a role as soon as that is another. However many are open, it asks the database a
 * few questions each time, never one for each; and what it learned of a token spares its next requests a question of
 * their own.
 */
import type { Logger } from 'pino'
import type { Role } from '../contract/index.ts'
import type { Shown } from '../engine/access.ts'
import type { Engine } from '../engine/engine.ts'
import type { KnownCallers } from './known.ts'
import type { ServerLimits } from './limits.ts'
import { pollLoop } from './poll.ts'

export type Guarded = {
  /** What opened it. */
  shown: Shown
  /** Whether it stays open when the execution whose token opened it has ended. */
  outlives_execution: boolean
  /** Set: it was opened with this role and ends with it. */
  role?: Role
  end(why: 'revoked' | 'role_changed'): void
}

export type Guard = ReturnType<typeof openGuard>

type GuardRoom = { engine: Engine; known: KnownCallers; limits: ServerLimits; log: Logger }

export function openGuard({ engine, known, limits, log }: GuardRoom) {
  const open = new Map<string, { shown: Shown; alike: Set<Guarded> }>()
  const loop = pollLoop({
    name: 'guard',
    log,
    poll_ms: limits.identify_again_ms,
    gather_ms: limits.identify_again_ms,
    // A database that is away says nothing about a key: the step fails, and everything stays open.
    async step() {
      const asked = [...open.values()]
      if (asked.length === 0) return
      const began = Date.now()
      const standings = await engine.access.standings(asked.map(({ shown }) => shown))
      for (const [at, { shown, alike }] of asked.entries()) {
        const standing = standings[at]
        if (standing === undefined) continue
        if (standing.is === 'known') known.keep(shown, began)
        for (const one of alike) {
          if (standing.is === 'unknown' || (standing.is === 'ended' && !one.outlives_execution)) one.end('revoked')
          else if (standing.is === 'known' && one.role !== undefined && standing.role !== one.role)
            one.end('role_changed')
        }
      }
    },
  })
  return {
    /** Guards it until the function that is returned is called. */
    watch(guarded: Guarded): () => void {
      const key = keyOf(guarded.shown)
      const same = open.get(key) ?? { shown: guarded.shown, alike: new Set<Guarded>() }
      open.set(key, same)
      same.alike.add(guarded)
      return () => {
        same.alike.delete(guarded)
        if (same.alike.size === 0 && open.get(key) === same) open.delete(key)
      }
    },
    close: loop.close,
  }
}

const keyOf = (shown: Shown): string => ('token' in shown ? `token ${shown.token}` : `session ${shown.session}`)
