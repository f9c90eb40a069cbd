import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { paint } from '../output.ts'
import { alignColumns } from '../text.ts'

export function declare(command: Command): void {
  command.addHelpText(
    'after',
    '\nBesides these, "command" runs the prompt as a shell command. BATON_HARNESSES names ACP agents of your own.',
  )
}

export async function run(context: Context): Promise<void> {
  const [{ probeHarness }, { harnessCache, profiles }] = await Promise.all([
    import('../../runner/install.ts'),
    import('../../runner/harnesses/registry.ts'),
  ])
  const progress = context.out.progress('Looking at harnesses')
  const cache = harnessCache(context.env)
  const states = await Promise.all(
    profiles.map((profile) => probeHarness(profile, context.env, cache, context.signal)),
  ).finally(() => progress.done())
  await context.out.show(
    states,
    () =>
      alignColumns([
        ['HARNESS', 'STATE', 'VERSION', 'WHAT TO DO'].map(paint.dim),
        ...states.map((state) => [
          state.name,
          state.missing.length === 0
            ? paint.green('ready')
            : paint.yellow(state.path === null ? 'not installed' : 'no login'),
          state.version ?? '-',
          state.missing.join(' '),
        ]),
      ]),
    () => states,
  )
}
