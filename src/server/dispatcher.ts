/** The dispatch loop of one server: offers queued runs to its own connections whenever either may have changed. */
import type { Connection, Offer } from '../engine/dispatch.ts'
import { pollLoop } from './poll.ts'
import type { ServerRoom } from './room.ts'

const POLL_MS = 1_000
/** Runs that come this soon after a look at the queue wait for the next; one that comes alone is offered at once. */
const GATHER_MS = 10

export type Dispatching = {
  connections(): Connection[]
  /** False when the connection has gone meanwhile. */
  deliver(offer: Offer): boolean
}

export function openDispatcher({ engine, log }: ServerRoom, { connections, deliver }: Dispatching) {
  const loop = pollLoop({
    name: 'dispatch',
    log,
    poll_ms: POLL_MS,
    gather_ms: GATHER_MS,
    async step() {
      for (;;) {
        const open = connections().filter((connection) => connection.free > 0)
        if (open.length === 0) return
        const offers = await engine.dispatch.offer(open)
        for (const offer of offers) {
          if (!deliver(offer)) await engine.workers.release(offer.assignment.task_id, offer.assignment.execution_id)
        }
        if (offers.length === 0) return
      }
    },
  })
  const deaf = [engine.bell.hear('queue', loop.wake), engine.bell.hear('reconnected', loop.wake)]
  return {
    wake: loop.wake,
    async close(): Promise<void> {
      for (const stop of deaf) stop()
      await loop.close()
    },
  }
}
