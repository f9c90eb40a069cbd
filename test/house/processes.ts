/** Real processes, for tests that kill them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { findMembers, hasEnded, readStat } from '../../src/worker/sandboxes/proc.ts'

/** Awaits a condition; the failure says which. */
export async function until<T>(what: string, look: () => T | Promise<T>, ms = 10_000): Promise<NonNullable<T>> {
  const deadline = performance.now() + ms
  for (;;) {
    const seen = await look()
    if (seen !== null && seen !== undefined && seen !== false) return seen as NonNullable<T>
    if (performance.now() > deadline) throw new Error(`Not within ${ms} ms: ${what}`)
    await wait(20)
  }
}

/** Living processes of an execution: whoever carries its mark. */
export const processesOf = (execution_id: string): number[] =>
  findMembers({ execution_id, root: null, fresh: false }).map(({ pid }) => pid)

export function lives(pid: number): boolean {
  const stat = readStat(pid)
  return stat !== null && !hasEnded(stat)
}

export function readPid(path: string): number | null {
  try {
    return Number(readFileSync(path, 'utf8').trim()) || null
  } catch {
    return null
  }
}

export type WorkerProcess = { child: ChildProcess; kill(): Promise<void>; log(): string }

export type WorkerProcessOptions = {
  server: string
  state_dir: string
  api_key?: string
  capacity?: number
  processes_max?: number
  /** Program and first arguments of the runner; a shell that does what the assignment says where absent. */
  runner?: string[]
}

/** `baton worker` as a process of its own. */
export function startWorkerProcess(options: WorkerProcessOptions): WorkerProcess {
  const script = join(import.meta.dirname, 'worker-process.ts')
  const child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] })
  let log = ''
  child.stdout.on('data', (bytes) => {
    log += bytes
  })
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  return {
    child,
    log: () => log,
    kill: async () => {
      child.kill('SIGKILL')
      await gone
    },
  }
}
