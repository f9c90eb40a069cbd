/**
 * The beginning of a managed runner that starts from a snapshot of its loaded self (docs/decisions/0022). All but
 * `main` is run once, when Baton is built; what is loaded and made then is what every such runner starts with. So
 * nothing here may be random, or of the time or the machine.
 */
import { startupSnapshot } from 'node:v8'
import about from '../../../package.json' with { type: 'json' }
import { readManaged, runManaged } from '../managed.ts'
import { openSignals } from '../signals.ts'

void load()
startupSnapshot.setDeserializeMainFunction(() => void main())

/** What the runner of a plain command comes to need, in its own order. */
async function load(): Promise<void> {
  await import('../../runner/run.ts')
  await import('../../runner/interpreted.ts')
  await import('../../runner/work.ts')
  await import('../../runner/harnesses/registry.ts')
}

async function main(): Promise<void> {
  const { argv, env } = process
  if (argv[2] === '--version') return void process.stdout.write(`${about.version}\n`)
  const signal = openSignals(process)
  const managed = readManaged(argv.slice(2), env)
  if (managed === null) throw new Error('This starts managed runs alone.')
  const line = { version: about.version, env, cwd: process.cwd(), stderr: process.stderr, signal }
  process.exit(await runManaged(managed, line))
}
