/**
 * Starting a managed runner from the snapshot that the build has left beside the bundle. It fits the Node that made it
 * alone, and what does not fit ends a Node before it has begun: so it is tried once, by a program that is waited for,
 * and until that has answered runners start the usual way.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Context } from './context.ts'

export const SNAPSHOT = join(import.meta.dirname, 'runner.blob')
const TRY_MS = 10_000

/** The command, as `context.self` is one; null: not (yet) known to work. */
export function quickRunner(
  { self, version, env, signal }: Pick<Context, 'self' | 'version' | 'env' | 'signal'>,
  snapshot = SNAPSHOT,
): () => string[] | null {
  const [program = '', ...rest] = self
  const args = [...rest.slice(0, -1), '--snapshot-blob', snapshot, ...rest.slice(-1)]
  let works = false
  if (existsSync(snapshot)) {
    const limits = { env: { PATH: env.PATH }, timeout: TRY_MS, signal }
    execFile(program, [...args, '--version'], limits, (error, said) => {
      works = error === null && said.trim() === version
    }).unref()
  }
  return () => (works && existsSync(snapshot) ? [program, ...args] : null)
}
