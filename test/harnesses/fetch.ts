/** Fetches the four CLIs once into an ignored folder; a folder that has them is used as it is. */

import { profiles } from '../../src/runner/harnesses/registry.ts'
import { installHarness } from '../../src/runner/install.ts'
import { CACHE } from './place.ts'

export async function setup(): Promise<void> {
  const signal = AbortSignal.timeout(5 * 60_000)
  for (const profile of profiles) {
    if (profile.packages.length === 0) continue
    await installHarness(profile, CACHE, {
      signal,
      env: process.env,
      onProgress: (line) => console.log(`${profile.name}: ${line}`),
    })
  }
}
