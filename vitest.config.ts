import { existsSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

/** What some tests need besides npm's packages, by where Debian puts it. */
const TOOLS = [
  { name: 'chromium', path: process.env.BATON_TEST_CHROMIUM ?? '/usr/bin/chromium', tests: 'test/web-*.test.ts' },
  { name: 'python3-swift', path: '/usr/lib/python3/dist-packages/swift', tests: 'test/blobs-s3.test.ts' },
  { name: 'strace', path: '/usr/bin/strace', tests: 'test/durability.test.ts' },
]
// CI leaves nothing out: there a missing tool is a failure.
const missing = process.env.CI ? [] : TOOLS.filter(({ path }) => !existsSync(path))
for (const { name, tests } of missing) console.warn(`Left out, for want of ${name}: ${tests}`)

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'src/**/*.test.tsx', 'test/**/*.test.ts'],
    // The four real harness CLIs have a configuration of their own: `npm run test:harnesses`.
    exclude: ['test/harnesses/**', '**/node_modules/**', ...missing.map(({ tests }) => tests)],
    globalSetup: ['test/house/global-setup.ts'],
    testTimeout: 20_000,
    hookTimeout: 30_000,
  },
})
