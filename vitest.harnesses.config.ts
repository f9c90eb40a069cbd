/** The four real harness CLIs, fetched into .cache/harnesses, against a scripted model on loopback: `npm run test:harnesses`. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/harnesses/**/*.test.ts'],
    globalSetup: ['test/harnesses/fetch.ts', 'test/house/global-setup.ts'],
    // One CLI at a time: each takes a whole core while it starts.
    fileParallelism: false,
    // A noisy machine misses a deadline once; a defect misses it twice. Developers see every miss.
    retry: process.env.CI ? 1 : 0,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
