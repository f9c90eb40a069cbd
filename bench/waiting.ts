/**
 * What agents that wait cost a server: `AGENTS` runs, each with its runner's control stream and heartbeats, first with
 * their turns ended (parked), then with a call of `wait_for_events` held open for each.
 */
import { pause } from '../src/sdk/client.ts'
import { liftLimits, openCrowd } from './agents.ts'
import { type Figure, mebibytes, percent } from './figures.ts'
import { collectGarbage, cpuSeconds, residentBytes, type Up, up } from './house.ts'

const AGENTS = 1000
/** Before the first look the server has served this many. */
const WARM = 20
const BYTES_MAX = 150 * 1000 * 1000
const SETTLE_MS = 3_000
/** Over this time the processor's share is taken, in milliseconds. */
const WATCH_MS = 15_000

export async function waiting(): Promise<Figure[]> {
  const baton = await up(['--no-worker', '--max-concurrent', '10000'], { inspect: true })
  try {
    await liftLimits(baton)
    await warm(baton)
    const idle = await settled(baton)
    const crowd = await openCrowd(baton, AGENTS)
    try {
      const children = crowd.families.flatMap((family) => family.children)
      await crowd.accompany(children)
      for (const child of children) await child.call('wait_for_events', {}, { hold_ms: 0 })
      const parked = await costs(baton, idle)
      const held = children.map((child) => child.call('wait_for_events').catch(() => {}))
      const calls = await costs(baton, idle)
      await crowd.close()
      await Promise.all(held)
      return [
        { name: 'memory of the server before', value: mebibytes(idle) },
        bytesFigure(`${AGENTS} parked agents`, parked.bytes),
        { name: `${AGENTS} parked agents: share of one core`, value: percent(parked.share) },
        bytesFigure(`${AGENTS} agents with a held call`, calls.bytes),
        { name: `${AGENTS} agents with a held call: share of one core`, value: percent(calls.share) },
      ]
    } finally {
      await crowd.close()
    }
  } finally {
    await baton.close()
  }
}

function bytesFigure(what: string, bytes: number): Figure {
  return {
    name: `${what}: memory of the server, more than before`,
    value: mebibytes(bytes),
    promise: '< 150 MB',
    held: bytes < BYTES_MAX,
  }
}

async function warm(baton: Up): Promise<void> {
  const crowd = await openCrowd(baton, WARM)
  const children = crowd.families.flatMap((family) => family.children)
  await crowd.accompany(children)
  for (const child of children) await child.call('wait_for_events', {}, { hold_ms: 0 })
  await crowd.close()
}

async function settled(baton: Up): Promise<number> {
  await pause(SETTLE_MS)
  await collectGarbage(baton)
  return residentBytes(baton.pid)
}

/** Memory more than `idle` once settled, and what of a core is used while nothing happens. */
async function costs(baton: Up, idle: number): Promise<{ bytes: number; share: number }> {
  await pause(SETTLE_MS)
  const before = await cpuSeconds(baton.pid)
  const began = performance.now()
  await pause(WATCH_MS)
  const share = ((await cpuSeconds(baton.pid)) - before) / ((performance.now() - began) / 1000)
  return { bytes: (await settled(baton)) - idle, share }
}
