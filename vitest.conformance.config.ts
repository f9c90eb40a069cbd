/** The public MCP conformance suite, fetched into .cache/conformance, against `/mcp`: `npm run test:conformance`. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/conformance/**/*.conformance.ts'],
    globalSetup: ['test/house/global-setup.ts', 'test/conformance/fetch.ts'],
    testTimeout: 300_000,
    hookTimeout: 60_000,
  },
})
