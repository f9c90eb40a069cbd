/**
 * Bundles the command line with everything it starts into `dist`, one chunk per command and part, so that starting one
 * command loads only what it needs. Chunks lie flat beside the entry, since some look for their files beside themselves.
 */
import { cp, readdir, rm } from 'node:fs/promises'
import { defineConfig } from 'rolldown'

const dist = new URL('./dist/', import.meta.url)

export default defineConfig({
  input: { baton: 'src/cli/main.ts' },
  platform: 'node',
  // `pg` takes its native sibling only when it is installed; the others start worker threads from their own files.
  // The contract only makes values: a part that uses a few of its shapes loads the files of those alone.
  treeshake: { moduleSideEffects: [{ test: /src\/(contract|sdk)\//, sideEffects: false }] },
  external: ['pg-native', 'pino', 'jq-wasm'],
  output: {
    dir: 'dist',
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: 'chunk-[name]-[hash].js',
    minify: { compress: true, mangle: false, codegen: { removeWhitespace: true } },
    sourcemap: false,
    cleanDir: false,
  },
  plugins: [
    {
      name: 'files-beside-the-bundle',
      async buildStart() {
        for (const name of await readdir(dist).catch(() => []))
          if (/^(chunk-.*|baton)\.js$/.test(name)) await rm(new URL(name, dist))
      },
      async writeBundle() {
        await cp(new URL('./src/db/migrations/', import.meta.url), new URL('./migrations/', dist), { recursive: true })
        await cp(new URL('./src/server/skills/', import.meta.url), new URL('./skills/', dist), { recursive: true })
      },
    },
  ],
})
