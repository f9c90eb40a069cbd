/**
 * Bundles the command line with everything it starts into `dist`, one chunk per command and part, so that starting one
 * command loads only what it needs. Chunks lie flat beside the entry, since some look for their files beside themselves.
 * Beside them lies `runner.blob`: a managed runner as it is when all is loaded (docs/decisions/0022).
 */
import { execFile } from 'node:child_process'
import { cp, readdir, rename, rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { defineConfig } from 'rolldown'

const dist = new URL('./dist/', import.meta.url)

const shared = {
  platform: 'node' as const,
  // `pg` takes its native sibling only when it is installed; the others start worker threads from their own files.
  // The contract only makes values: a part that uses a few of its shapes loads the files of those alone.
  treeshake: { moduleSideEffects: [{ test: /src\/(contract|sdk)\//, sideEffects: false }] },
  external: ['pg-native', 'pino', 'jq-wasm'],
}
const minify = { compress: true, mangle: false, codegen: { removeWhitespace: true } }

export default defineConfig([
  {
    ...shared,
    input: { baton: 'src/cli/main.ts' },
    output: {
      dir: 'dist',
      format: 'esm',
      entryFileNames: '[name].js',
      chunkFileNames: 'chunk-[name]-[hash].js',
      minify,
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
          await cp(new URL('./src/db/migrations/', import.meta.url), new URL('./migrations/', dist), {
            recursive: true,
          })
          await cp(new URL('./src/server/skills/', import.meta.url), new URL('./skills/', dist), { recursive: true })
        },
      },
    ],
  },
  {
    ...shared,
    input: { runner: 'src/cli/startup/main.ts' },
    // Of no use to a plain command, and large.
    external: [...shared.external, '@agentclientprotocol/sdk'],
    // A snapshot is made of one file, which may import nothing but Node's own.
    output: { dir: 'dist', format: 'cjs', entryFileNames: '[name].cjs', codeSplitting: false, minify, cleanDir: false },
    plugins: [{ name: 'snapshot-of-the-runner', writeBundle: makeSnapshot }],
  },
])

/** In one step, so that whoever starts runners meanwhile finds the old one or the new one. Without it all works, too. */
async function makeSnapshot(): Promise<void> {
  const [made, script, blob] = ['runner.blob.made', 'runner.cjs', 'runner.blob'].map((name) =>
    fileURLToPath(new URL(name, dist)),
  ) as [string, string, string]
  try {
    await promisify(execFile)(process.execPath, ['--snapshot-blob', made, '--build-snapshot', script])
    await rename(made, blob)
  } catch (error) {
    for (const file of [made, blob]) await rm(file, { force: true })
    console.warn(`Runners will start without a snapshot, a little slower: ${String(error)}`)
  } finally {
    await rm(script)
  }
}
