/**
 * From asking for a run of the `command` harness to the event that it is INPROGRESS, on an idle machine, one at a
 * time.
 */
import { spawnSync } from 'node:child_process'
import { routes } from '../src/contract/index.ts'
import { follow } from '../src/sdk/stream.ts'
import { type Figure, mebibytes, median, ms, quantile, times } from './figures.ts'
import { residentBytes, up } from './house.ts'

const ROUNDS = 60
const P50_MS_MAX = 400
const SPAWN_RATIO_MAX = 4
const TAIL_RATIO_MAX = 3
const IDLE_BYTES_MAX = 150 * 1024 * 1024

export async function dispatch(): Promise<Figure[]> {
  const baton = await up()
  const stop = new AbortController()
  try {
    const idle = await residentBytes(baton.pid)
    const arrived = new Map<string, (at: number) => void>()
    const reading = read(baton.client, stop.signal, (type, run_id) =>
      arrived.get(`${type} ${run_id}`)?.(performance.now()),
    )
    const spawns: number[] = []
    const begins: number[] = []
    for (let round = 0; round < ROUNDS + 3; round++) {
      const spawned = spawnBare()
      const asked = performance.now()
      const { run_id } = await baton.client.runs.create({
        body: { prompt: 'true', config: { harness: { type: 'command' } } },
      })
      const begun = await new Promise<number>((done) => arrived.set(`run_in_progress ${run_id}`, done))
      await new Promise<number>((done) => arrived.set(`run_succeeded ${run_id}`, done))
      // The first rounds warm the caches of the file system and of the compiler.
      if (round < 3) continue
      spawns.push(spawned)
      begins.push(begun - asked)
    }
    stop.abort()
    await reading
    const p50 = median(begins)
    const p99 = quantile(begins, 0.99)
    const ratio = p50 / median(spawns)
    return [
      { name: 'bare `node -e 0` + `sh -c :`', value: ms(median(spawns)) },
      {
        name: 'create → INPROGRESS, p50',
        value: `${ms(p50)} (${times(ratio)} bare)`,
        promise: `≤ ${P50_MS_MAX} ms and ≤ ${SPAWN_RATIO_MAX}×`,
        held: p50 <= P50_MS_MAX && ratio <= SPAWN_RATIO_MAX,
      },
      {
        name: 'create → INPROGRESS, p99',
        value: `${ms(p99)} (${times(p99 / p50)} p50)`,
        promise: `≤ ${TAIL_RATIO_MAX}× p50`,
        held: p99 <= TAIL_RATIO_MAX * p50,
      },
      {
        name: 'idle memory of server and worker in one process',
        value: mebibytes(idle),
        promise: '< 150 MB',
        held: idle < IDLE_BYTES_MAX,
      },
    ]
  } finally {
    stop.abort()
    await baton.close()
  }
}

async function read(
  client: Parameters<typeof follow>[0],
  signal: AbortSignal,
  onEvent: (type: string, run_id: string) => void,
): Promise<void> {
  for await (const { frame } of follow(client, routes.events.stream, { signal, query: () => ({ since: 0 }) }))
    onEvent(frame.event_type, frame.run_id)
}

function spawnBare(): number {
  const began = performance.now()
  spawnSync(process.execPath, ['-e', '0'])
  spawnSync('sh', ['-c', ':'])
  return performance.now() - began
}
