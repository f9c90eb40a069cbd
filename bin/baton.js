#!/usr/bin/env node
/** Starts Baton. Plain enough for an old Node to read, which then hands over to the one that came with the package. */
import { spawn } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import module from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const [major, minor] = process.versions.node.split('.').map(Number)

if (major > 22 || (major === 22 && minor >= 18)) {
  const { HOME, XDG_CACHE_HOME } = process.env
  if (XDG_CACHE_HOME || HOME)
    module.enableCompileCache(join(XDG_CACHE_HOME || join(HOME, '.cache'), 'baton', 'compiled'))
  if (existsSync(new URL('../dist/baton.js', import.meta.url))) await import('../dist/baton.js')
  else stop('Baton is not built yet. Run "npm run build" in its folder.')
} else {
  const own = findOwnNode(dirname(realpathSync(fileURLToPath(import.meta.url))))
  if (own === null)
    stop(
      `Baton needs Node 22.18 or later; this is ${process.versions.node}. Install it from https://nodejs.org, or run "npm install" in Baton's folder, which brings one.`,
    )
  else handOver(own)
}

/** The package `node-<platform>-<arch>`, in this package's or an outer `node_modules`. */
function findOwnNode(from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const file = join(folder, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node')
    if (existsSync(file)) return file
    if (dirname(folder) === folder) return null
  }
}

function handOver(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' })
  // A terminal sends Ctrl-C to both; the child decides what it means.
  process.on('SIGINT', () => {})
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => stop(`${node} cannot be started: ${error.message}`))
  child.on('exit', (code, signal) => {
    if (signal === null) return process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

function stop(sentence) {
  process.stderr.write(`${sentence}\n`)
  process.exit(1)
}
