import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { paint } from '../output.ts'

export function declare(command: Command): void {
  command
    .argument('<harness>', 'its name')
    .addHelpText('after', '\nOpens a session and closes it again; no model is called.')
}

export async function run(context: Context, given: Given): Promise<void> {
  const [{ testHarness }, { findHarness }] = await Promise.all([
    import('../../runner/install.ts'),
    import('../../runner/harnesses/registry.ts'),
  ])
  const name = given.args[0] ?? ''
  const progress = context.out.progress(`Starting ${name}`)
  try {
    const env = Object.fromEntries(
      Object.entries(context.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
    )
    const tested = await testHarness(findHarness(name, context.env), env, context.signal)
    progress.done()
    await context.out.show({ harness: name, ...tested }, () => [
      `${paint.green('ok')} ${name} opened a session in ${tested.ms} ms`,
    ])
  } catch (error) {
    if (error instanceof Error && error.name === 'HarnessFailure') throw new CommandFailure('failed', error.message)
    throw error
  } finally {
    progress.done()
  }
}
