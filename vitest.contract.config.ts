/** The public Oz v1 API: its published SDK, raw requests, and the shell recipes of its guides: `npm run test:contract`. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/contract/**/*.contract.ts'],
    globalSetup: ['test/contract/up.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
