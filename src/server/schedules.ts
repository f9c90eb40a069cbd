/** Makes the runs of schedules when their times come. Every server looks; who finds one first deals with it. */
import { pollLoop } from './poll.ts'
import type { ServerRoom } from './room.ts'

const POLL_MS = 1_000

export function openSchedules({ engine, log }: Pick<ServerRoom, 'engine' | 'log'>) {
  return pollLoop({
    name: 'schedules',
    log,
    poll_ms: POLL_MS,
    gather_ms: POLL_MS,
    step: async () => void (await engine.schedules.fire()),
  })
}
