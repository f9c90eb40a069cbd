/**
 * Starting a managed runner from the snapshot that the build has left beside the bundle (docs/decisions/0022). It fits
 * the Node that made it alone, and what does not fit ends a Node before it has begun, so it is tried once.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Context } from './context.ts'

const SNAPSHOT = join(import.meta.dirname, 'runner.blob')
const TRY_MS = 10_000

type Started = Pick<Context, 'self' | 'version' | 'env'>

/** The program and its first arguments, as `self` has them; null where that does not work. Never rejects. */
export function findQuickRunner({ self, version, env }: Started, snapshot = SNAPSHOT): Promise<string[] | null> {
  const [program = '', ...rest] = self
  const args = [...rest.slice(0, -1), '--snapshot-blob', snapshot, ...rest.slice(-1)]
  if (!existsSync(snapshot)) return Promise.resolve(null)
  return new Promise((resolve) => {
    const how = { env: { PATH: env.PATH }, timeout: TRY_MS }
    const tried = execFile(program, [...args, '--version'], how, (error, said) =>
      resolve(error === null && said.trim() === version ? [program, ...args] : null),
    )
    tried.unref()
  })
}

/** The same as soon as it is known, and while the snapshot is there; until then null, and runners start as usual. */
export function quickRunner(context: Started): () => string[] | null {
  let found: string[] | null = null
  void findQuickRunner(context).then((command) => {
    found = command
  })
  return () => (existsSync(SNAPSHOT) ? found : null)
}
