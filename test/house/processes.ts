/** Real processes, for tests that kill them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { z } from 'zod'
import type { SocketConnection } from '../../src/db/connect.ts'
import type { EngineLimits } from '../../src/engine/engine.ts'
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
  allow_local_repositories?: boolean
  /** Its name; `crew` where absent. */
  worker_id?: string
  /** On top of the test's own environment. */
  environment?: Record<string, string>
}

/** `baton worker` as a process of its own. */
export function startWorkerProcess({ environment, ...options }: WorkerProcessOptions): WorkerProcess {
  const script = join(import.meta.dirname, 'worker-process.ts')
  const child = spawn(process.execPath, [script, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  })
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

/** A server in a process of its own, on a database that is there already; it is ready when this resolves. */
export async function startServerProcess(options: {
  connection: SocketConnection
  port: number
  blobs_dir: string
  key_file?: string
  engine_limits?: Partial<EngineLimits>
}): Promise<ServerProcess> {
  const script = join(import.meta.dirname, 'server-process.ts')
  const child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const ready = await new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (bytes: Buffer) => resolve(bytes.toString()))
    child.once('exit', () => reject(new Error('The server ended before it was ready.')))
  })
  return {
    ...Ready.parse(JSON.parse(ready)),
    async kill() {
      child.kill('SIGKILL')
      await gone
    },
  }
}

/** `api_key`: the first team's, told once. */
const Ready = z.object({ url: z.string(), api_key: z.string().nullable() })

export type ServerProcess = z.infer<typeof Ready> & { kill(): Promise<void> }
