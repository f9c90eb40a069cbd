/** Start-up: `baton --version` beside `node -e 0`, and the demo from start to end. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Figure, median, ms, times } from './figures.ts'
import { ENTRY } from './house.ts'

const ROUNDS = 21
const VERSION_RATIO_MAX = 1.6
const DEMO_MS_MAX = 20_000

export async function startup(): Promise<Figure[]> {
  const home = mkdtempSync(join(tmpdir(), 'baton-bench-'))
  try {
    const bare: number[] = []
    const version: number[] = []
    time(['--version'], home)
    for (let round = 0; round < ROUNDS; round++) {
      bare.push(time(null, home))
      version.push(time(['--version'], home))
    }
    const ratio = median(version) / median(bare)
    const demo = time(['demo'], home)
    return [
      { name: '`node -e 0`', value: ms(median(bare)) },
      {
        name: '`baton --version`',
        value: `${ms(median(version))} (${times(ratio)} bare)`,
        promise: `≤ ${VERSION_RATIO_MAX}×`,
        held: ratio <= VERSION_RATIO_MAX,
      },
      {
        name: '`npm run demo` after install',
        value: `${(demo / 1000).toFixed(1)} s`,
        promise: '≤ 20 s',
        held: demo <= DEMO_MS_MAX,
      },
    ]
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

/** Milliseconds of one run of baton with these arguments, or of a bare Node. */
function time(args: string[] | null, home: string): number {
  const began = performance.now()
  const { status, stderr } = spawnSync(process.execPath, args === null ? ['-e', '0'] : [ENTRY, ...args], {
    env: { ...process.env, HOME: home },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  if (status !== 0) throw new Error(`baton ${args?.join(' ')} ended with ${status}: ${stderr}`)
  return performance.now() - began
}
