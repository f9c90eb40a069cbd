/**
 * Commands of the model, each in a process group (and session) of its own, so that ending a command ends what it
 * started. A process that opens a session of its own escapes this; the sandbox around the harness ends that one.
 * What a command leaves running in its group (a server for the next command) lives until the session ends or a turn is
 * cancelled.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { boundedOutput } from './output.ts'

export const HEAD_BYTES_MAX = 10_000
export const TAIL_BYTES_MAX = 20_000
/** A command that writes more than this is ended: nobody reads it, and it costs the machine. */
export const FLOOD_BYTES_MAX = 64 * 1024 * 1024
/** How long output is awaited after the command itself has ended while something it started holds the pipe. */
const drain_ms = 200

export type CommandEnd = { exit_code: number; output: string; end: 'exited' | 'timed_out' | 'flooded' | 'cancelled' }

export type Command = {
  argv: readonly [string, ...string[]]
  cwd: string
  env: Record<string, string>
  timeout_ms: number
  signal: AbortSignal
  head_bytes_max?: number
  tail_bytes_max?: number
}

export type Shells = {
  run(command: Command): Promise<CommandEnd>
  /** Ends every process group that is still there, at once. */
  killAll(): void
}

export const shellPath = (): string => ['/bin/bash', '/usr/bin/bash'].find((path) => existsSync(path)) ?? '/bin/sh'

export function openShells(): Shells {
  const groups = new Set<number>()
  const kill = (group: number) => {
    groups.delete(group)
    signalGroup(group, 'SIGKILL')
  }
  return {
    killAll: () => [...groups].forEach(kill),
    run(command) {
      for (const group of groups) if (!signalGroup(group, 0)) groups.delete(group)
      return runCommand(command, groups, kill)
    },
  }
}

function runCommand(command: Command, groups: Set<number>, kill: (group: number) => void): Promise<CommandEnd> {
  const {
    argv: [file, ...args],
    cwd,
    env,
    signal,
    timeout_ms,
  } = command
  const output = boundedOutput(command.head_bytes_max ?? HEAD_BYTES_MAX, command.tail_bytes_max ?? TAIL_BYTES_MAX)
  if (signal.aborted) return Promise.resolve({ exit_code: 137, output: '', end: 'cancelled' })
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    const group = child.pid
    let end: CommandEnd['end'] = 'exited'
    let drain: NodeJS.Timeout | undefined
    const stop = (why: CommandEnd['end']) => {
      if (end === 'exited') end = why
      if (group !== undefined) kill(group)
    }
    const onAbort = () => stop('cancelled')
    const timeout = setTimeout(() => stop('timed_out'), timeout_ms)
    const settle = () => {
      clearTimeout(timeout)
      clearTimeout(drain)
      signal.removeEventListener('abort', onAbort)
      child.stdout.destroy()
      child.stderr.destroy()
    }
    const write = (chunk: Buffer) => {
      output.write(chunk)
      if (output.bytes() > FLOOD_BYTES_MAX) stop('flooded')
    }
    if (group !== undefined) groups.add(group)
    signal.addEventListener('abort', onAbort)
    child.stdout.on('data', write)
    child.stderr.on('data', write)
    child.on('error', (error) => {
      settle()
      reject(error)
    })
    child.on('exit', (code, name) => {
      const exit_code = code ?? 128 + (name ? constants.signals[name] : 0)
      const finish = () => {
        settle()
        resolve({ exit_code, output: output.text(), end })
      }
      child.on('close', finish)
      drain = setTimeout(finish, drain_ms)
    })
  })
}

/** False when the group is gone. */
function signalGroup(group: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, name)
  } catch {
    return false
  }
}
