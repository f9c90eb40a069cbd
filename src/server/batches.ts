/**
 * Goes on with batches when a task of theirs has ended. Each server hears of it; one that is killed, or a ring that is
 * lost, costs a batch the time of a poll.
 */
import { pollLoop } from './poll.ts'
import type { ServerRoom } from './room.ts'

const POLL_MS = 3_000
/** Ends of tasks that come this soon after a look at their batch wait for the next look; longer where a look takes long. */
const GATHER_MS = 25
const GATHER_TIMES = 2

export function openBatches({ engine, log }: Pick<ServerRoom, 'engine' | 'log'>) {
  const due = new Set<string>()
  let looked_at = 0
  let took_ms = 0

  async function step(): Promise<void> {
    const began = Date.now()
    if (Date.now() - looked_at >= POLL_MS) {
      for (const batch_id of await engine.batches.open()) due.add(batch_id)
      looked_at = Date.now()
    }
    for (const batch_id of [...due]) {
      due.delete(batch_id)
      await engine.batches.advance(batch_id).catch((error: unknown) => {
        due.add(batch_id)
        throw error
      })
    }
    took_ms = Date.now() - began
  }

  const loop = pollLoop({
    name: 'batches',
    log,
    poll_ms: POLL_MS,
    gather_ms: () => Math.max(GATHER_MS, GATHER_TIMES * took_ms),
    step,
  })
  const deaf = [
    engine.bell.hear('batches', ({ run_id }) => {
      due.add(run_id)
      loop.wake()
    }),
    engine.bell.hear('reconnected', () => {
      looked_at = 0
      loop.wake()
    }),
  ]
  return {
    async close(): Promise<void> {
      for (const stop of deaf) stop()
      await loop.close()
    },
  }
}
