import type { Command } from 'commander'
import type { HarnessState } from '../../runner/install.ts'
import type { Context } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'
import { alignColumns } from '../text.ts'

export function declare(command: Command): void {
  command.addHelpText('after', '\nBATON_HARNESSES adds ACP agents of your own: {"NAME":{"command":"…","args":[]}}')
}

export async function run(context: Context): Promise<void> {
  const [{ probeHarness }, { harnessCache, knownProfiles }, { HarnessFailure }] = await Promise.all([
    import('../../runner/install.ts'),
    import('../../runner/harnesses/registry.ts'),
    import('../../runner/harnesses/harness.ts'),
  ])
  const progress = context.out.progress('Looking at harnesses')
  const cache = harnessCache(context.env)
  try {
    const found = await Promise.all(
      knownProfiles(context.env).map((profile) => probeHarness(profile, context.env, cache, context.signal)),
    )
    const states = [...found, COMMAND]
    progress.done()
    await context.out.show(
      states,
      () =>
        alignColumns([
          ['HARNESS', 'STATE', 'VERSION', 'WHAT TO DO'].map(paint.dim),
          ...states.map((state) => [state.name, standing(state), state.version ?? '-', state.missing.join(' ')]),
        ]),
      () => states,
    )
  } catch (error) {
    if (error instanceof HarnessFailure) throw new CommandFailure('usage', error.message)
    throw error
  } finally {
    progress.done()
  }
}

/** A shell is always there, and needs no model. */
const COMMAND: HarnessState = {
  name: 'command',
  title: 'A shell command',
  path: '/bin/sh',
  version: null,
  login: true,
  missing: [],
}

function standing(state: HarnessState): string {
  if (state.missing.length === 0) return paint.green('ready')
  if (state.path === null) return paint.yellow('not installed')
  return paint.yellow(state.name === 'baton' ? 'no model key' : 'no login')
}
