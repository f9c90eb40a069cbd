import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import { CommandFailure, type ExitName } from '../exits.ts'
import { paint } from '../output.ts'

export function declare(command: Command): void {
  command
    .argument('<harness>', 'its name')
    .option('--model <id>', 'open the session with this model')
    .addHelpText('after', '\nOpens a session and closes it again; no model is called.')
}

const EXITS: Record<string, ExitName> = { harness_login: 'auth', harness_unknown: 'usage' }

export async function run(context: Context, given: Given): Promise<void> {
  const [{ testHarness }, { findHarness }, { HarnessFailure }] = await Promise.all([
    import('../../runner/install.ts'),
    import('../../runner/harnesses/registry.ts'),
    import('../../runner/harnesses/harness.ts'),
  ])
  const name = given.args[0] ?? ''
  const { model } = given.options
  const progress = context.out.progress(`Starting ${name}`)
  try {
    const env = Object.fromEntries(
      Object.entries(context.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
    )
    const model_id = typeof model === 'string' ? model : undefined
    const tested = await testHarness(findHarness(name, context.env), { env, model_id, signal: context.signal })
    progress.done()
    await context.out.show({ harness: name, ...tested }, () => [
      `${paint.green('ok')} ${name} opened a session in ${tested.ms} ms`,
    ])
  } catch (error) {
    if (error instanceof HarnessFailure)
      throw new CommandFailure(EXITS[error.failure.reason ?? ''] ?? 'failed', error.message)
    throw error
  } finally {
    progress.done()
  }
}
