/** The four real harness CLIs, fetched into .cache/harnesses, against a scripted model on loopback: `npm run test:harnesses`. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/harnesses/**/*.test.ts'],
    globalSetup: ['test/harnesses/fetch.ts', 'test/house/global-setup.ts'],
    // One CLI at a time: each takes a whole core while it starts.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
