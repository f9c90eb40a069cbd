import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'src/**/*.test.tsx', 'test/**/*.test.ts'],
    globalSetup: ['test/house/global-setup.ts'],
    testTimeout: 20_000,
    hookTimeout: 30_000,
  },
})
