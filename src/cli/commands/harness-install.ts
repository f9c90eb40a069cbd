import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { chosenProfiles } from '../harnesses.ts'

export function declare(command: Command): void {
  command.argument('<harness...>', 'claude, codex, gemini or opencode').option('--again', 'fetch even what is there')
}

export async function run(context: Context, given: Given): Promise<void> {
  const [{ installHarness }, { HarnessFailure }] = await Promise.all([
    import('../../runner/install.ts'),
    import('../../runner/harnesses/harness.ts'),
  ])
  const { cache, profiles } = await chosenProfiles(context, given.args)
  if (cache === null) throw new CommandFailure('failed', 'There is no cache folder.', 'Set XDG_CACHE_HOME or HOME.')
  for (const profile of profiles) {
    const progress = context.out.progress(`Fetching ${profile.title}`)
    const folder = await installHarness(profile, cache, {
      signal: context.signal,
      env: context.env,
      again: given.options.again === true,
      onProgress: (line) => progress.say(line),
    })
      .catch((error: unknown) => {
        throw error instanceof HarnessFailure ? new CommandFailure('failed', error.message) : error
      })
      .finally(() => progress.done())
    await context.out.show({ harness: profile.name, folder }, () => [
      profile.packages.length === 0
        ? `${profile.title} is part of Baton; there is nothing to fetch.`
        : `${profile.title} is in ${folder}. Try it with: baton harness test ${profile.name}`,
    ])
  }
}
