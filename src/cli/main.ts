/** The command line's beginning: the only place that reads the process's environment, catches signals and exits. */
import about from '../../package.json' with { type: 'json' }
import { readManaged, runManaged } from './managed.ts'
import { openSignals } from './signals.ts'

const args = process.argv.slice(2)

if (args.length === 1 && (args[0] === '--version' || args[0] === '-V')) process.stdout.write(`${about.version}\n`)
else await main()

async function main(): Promise<void> {
  const signal = openSignals(process)
  const managed = readManaged(args, process.env)
  if (managed !== null) process.exit(await runManaged(managed, lineOf(signal)))
  const { runCommandLine } = await import('./command-line.ts')
  process.exit(await runCommandLine(lineOf(signal)))
}

function lineOf(signal: AbortSignal) {
  return {
    args,
    version: about.version,
    env: process.env,
    cwd: process.cwd(),
    pid: process.pid,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signal,
    self: [process.execPath, ...process.execArgv, process.argv[1] ?? ''],
  }
}
