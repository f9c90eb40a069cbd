/**
 * One command in a process group of its own. When it takes too long or the run stops, the whole group ends.
 *
 * A command may leave something running in its group (a database for the tests, say): that lives until
 * `Groups.close`, which ends it with the execution.
 */
import { spawn } from 'node:child_process'

/** Between SIGTERM and SIGKILL, in milliseconds. */
export const KILL_GRACE_MS = 1000
/** How long output may go on after the command has ended, when something that it left holds its pipes, in ms. */
const DRAIN_MS = 200

export type Command = {
  file: string
  args: string[]
  cwd: string
  env: Record<string, string>
  limit_ms: number
  signal: AbortSignal
  onOutput: (stream: 'stdout' | 'stderr', text: string) => void
}

export type CommandEnd =
  | { end: 'exited'; code: number }
  | { end: 'killed'; by: string }
  | { end: 'timed_out' }
  | { end: 'not_started'; message: string }
  | { end: 'stopped' }

export type Groups = { run(command: Command): Promise<CommandEnd>; close(): Promise<void> }

export function makeGroups(): Groups {
  const alive = new Set<number>()

  function run(command: Command): Promise<CommandEnd> {
    if (command.signal.aborted) return Promise.resolve({ end: 'stopped' })
    return new Promise((resolve) => {
      const child = spawn(command.file, command.args, {
        cwd: command.cwd,
        env: command.env,
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const group = child.pid
      let forced: CommandEnd | undefined
      const force = (end: CommandEnd) => {
        forced ??= end
        if (group !== undefined) void endGroup(group, KILL_GRACE_MS)
      }
      const stop = () => force({ end: 'stopped' })
      const limit = setTimeout(() => force({ end: 'timed_out' }), command.limit_ms)
      command.signal.addEventListener('abort', stop, { once: true })
      if (group !== undefined) alive.add(group)
      for (const stream of ['stdout', 'stderr'] as const) {
        child[stream].setEncoding('utf8').on('data', (text: string) => command.onOutput(stream, text))
      }
      const settle = (end: CommandEnd) => {
        clearTimeout(limit)
        command.signal.removeEventListener('abort', stop)
        if (group !== undefined && !isAlive(group)) alive.delete(group)
        resolve(forced ?? end)
      }
      child.once('error', (error) => settle({ end: 'not_started', message: error.message }))
      child.once('exit', (code, signal) => {
        const end: CommandEnd = code === null ? { end: 'killed', by: signal ?? 'a signal' } : { end: 'exited', code }
        const drained = setTimeout(() => settle(end), DRAIN_MS)
        child.once('close', () => {
          clearTimeout(drained)
          settle(end)
        })
      })
    })
  }

  return {
    run,
    async close() {
      await Promise.all([...alive].map((group) => endGroup(group, KILL_GRACE_MS)))
      alive.clear()
    },
  }
}

/** SIGTERM, then after `grace_ms` SIGKILL, to every process of the group. */
async function endGroup(group: number, grace_ms: number): Promise<void> {
  signalGroup(group, 'SIGTERM')
  for (const until = performance.now() + grace_ms; performance.now() < until; ) {
    if (!isAlive(group)) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  signalGroup(group, 'SIGKILL')
}

function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal)
  } catch {
    return false
  }
}

const isAlive = (group: number) => signalGroup(group, 0)
