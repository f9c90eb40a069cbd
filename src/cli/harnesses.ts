/** Harness profiles by the names that a person gives. */
import { harnessNamed } from '../contract/index.ts'
import type { Profile } from '../runner/harnesses/profile.ts'
import type { Context } from './context.ts'
import { CommandFailure } from './exits.ts'
import { nearest } from './text.ts'

export async function chosenProfiles(
  context: Context,
  names: string[],
): Promise<{ cache: string | null; profiles: Profile[] }> {
  const { harnessCache, profiles } = await import('../runner/harnesses/registry.ts')
  const chosen = names.map((name) => {
    const profile = profiles.find((one) => one.name === harnessNamed(name))
    if (profile) return profile
    const known = profiles.map((one) => one.name)
    const meant = nearest(name, known)
    throw new CommandFailure(
      'usage',
      `There is no harness "${name}".`,
      meant ? `Did you mean "${meant}"?` : `There are ${known.join(', ')}.`,
    )
  })
  return { cache: harnessCache(context.env), profiles: chosen }
}
