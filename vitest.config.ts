import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'src/**/*.test.tsx', 'test/**/*.test.ts'],
    // The four real harness CLIs have a configuration of their own: `npm run test:harnesses`.
    exclude: ['test/harnesses/**', '**/node_modules/**'],
    globalSetup: ['test/house/global-setup.ts'],
    // A noisy machine misses a deadline once or twice; a defect misses it every time. Developers see every miss.
    retry: process.env.CI ? 2 : 0,
    testTimeout: 20_000,
    hookTimeout: 30_000,
  },
})
