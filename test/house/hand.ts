/** An agent in the test's own hands: the real runner, in this process, with a harness that does what the test says. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { HarnessStart, OpenHarness, TurnEnd } from '../../src/runner/harnesses/harness.ts'
import { type ExitReport, runExecution } from '../../src/runner/run.ts'
import type { House } from './house.ts'
import type { Piece } from './worker.ts'

/** What the agent does with a prompt; it is `asked` in the order of its turns. */
export type Hand = (asked: { text: string; start: HarnessStart; turn: number }) => Promise<TurnEnd | undefined>

const NO_END: OpenHarness = {
  session_id: null,
  prompt: async () => ({ end: 'completed' }),
  cancel: async () => {},
  close: async () => {},
}

/**
 * Works on what was offered, each time in a sandbox folder of its own below `folder`. What `hand` throws first is
 * thrown here when the execution is over: to the runner it would be a harness that failed, which nobody may look at.
 */
export async function workByHand(house: House, piece: Piece, folder: string, hand: Hand): Promise<ExitReport> {
  const own = join(folder, piece.execution_id)
  mkdirSync(own, { recursive: true })
  piece.claim()
  let turn = 0
  const thrown: unknown[] = []
  const report = await runExecution({
    server: house.url,
    token: piece.assignment.env_vars.WARP_API_KEY ?? '',
    execution_id: piece.execution_id,
    version: '0.0.0',
    env: { PATH: process.env.PATH ?? '', HOME: own, BATON_ALLOW_LOCAL_REPOSITORIES: '1' },
    workspace: join(own, 'workspace'),
    place: 'managed',
    signal: new AbortController().signal,
    harness: {
      name: 'hand',
      tool_hold_ms: 1000,
      open: async (start) => ({
        ...NO_END,
        prompt: async (text) => {
          const end = await hand({ text, start, turn: ++turn }).catch((error: unknown) => void thrown.push(error))
          return end ?? { end: 'completed' }
        },
      }),
    },
  })
  if (thrown.length > 0) throw thrown[0]
  return report
}
