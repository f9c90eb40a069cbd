/**
 * Children beside the run: runs of their own, with runners of their own, in this run's sandbox and on its files.
 *
 * Each is a process group of its own. They outlive their parent's end and its cancel, but not the sandbox: this runner
 * waits for them before it exits, and when it is told to end or dies, so do they.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import type { TaskAssignment } from '../contract/index.ts'
import type { Client } from './client.ts'
import { cliEntry, type Surroundings, surroundingsBeside } from './environment.ts'
import type { Transcript } from './transcript.ts'
import { ANSWER_MS } from './upload.ts'

/** Where a runner beside another keeps its state, and whose end ends it; set by the one that starts it. */
export const BESIDE_FOLDER = 'BATON_BESIDE_FOLDER'
export const BESIDE_PID = 'BATON_BESIDE_PID'
/** How often a runner looks whether the one that it is beside still lives, in milliseconds. */
const WATCH_MS = 1000

export type Beside = {
  /** Takes the children that wait and starts them. Never rejects: who was not taken is told again. */
  take(): Promise<void>
  /** Resolves when none is at work. */
  ended(): Promise<void>
}

export type BesideOptions = {
  client: Client
  execution_id: string
  server: string
  env: Surroundings
  /** This run's own state; the children's lies next to it. */
  folder: string
  /** Where the harness works; null while that is being prepared. */
  workspace: () => string | null
  transcript: Transcript
  /** Aborted when this process is told to end: then they are told, too. */
  told: AbortSignal
}

export function makeBeside(options: BesideOptions): Beside {
  const alive = new Map<string, Promise<void>>()
  let taking: Promise<void> = Promise.resolve()

  async function takeNow(): Promise<void> {
    const workspace = options.workspace()
    if (workspace === null) return
    const { execution_id, client } = options
    const signal = AbortSignal.timeout(ANSWER_MS)
    const { assignments } = await client.executions.children({ params: { execution_id }, signal })
    for (const assignment of assignments) {
      if (alive.has(assignment.execution_id)) continue
      const ended = startBeside(options, assignment, workspace).finally(() => alive.delete(assignment.execution_id))
      alive.set(assignment.execution_id, ended)
    }
  }

  return {
    take() {
      taking = taking.then(takeNow).catch(() => {})
      return taking
    },
    async ended() {
      await taking
      while (alive.size > 0) await Promise.all(alive.values())
    },
  }
}

/** Resolves when it has ended. What became of it the server hears from itself, or by its lease. */
function startBeside(options: BesideOptions, assignment: TaskAssignment, workspace: string): Promise<void> {
  const { server, env, folder, transcript, told } = options
  const { task_id, execution_id, task } = assignment
  const entry = cliEntry(env)
  const failed = (why: string) =>
    transcript.system('error', 'child_not_started', `The child "${task.title}" could not be started beside it: ${why}.`)
  if (entry === undefined || told.aborted) {
    failed(told.aborted ? 'the sandbox is ending' : 'the program that starts Baton is not known (BATON_CLI)')
    return Promise.resolve()
  }
  const args = ['agent', 'run', '--task-id', task_id, '--sandboxed', '--server-root-url', server]
  const child = spawn(process.execPath, [entry, ...args, ...assignment.additional_oz_args], {
    cwd: workspace,
    detached: true,
    stdio: 'ignore',
    env: {
      ...surroundingsBeside(env),
      ...assignment.env_vars,
      TASK_ID: task_id,
      WARP_SERVER_ROOT_URL: server,
      BATON_WORKSPACE: workspace,
      [BESIDE_FOLDER]: join(dirname(folder), execution_id),
      [BESIDE_PID]: String(process.pid),
    },
  })
  const tell = () => signalGroup(child)
  told.addEventListener('abort', tell, { once: true })
  return new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', (error) => {
      failed(error.message)
      resolve()
    })
  }).finally(() => told.removeEventListener('abort', tell))
}

function signalGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGTERM')
  } catch {
    // It has ended meanwhile.
  }
}

/** Calls `onGone` once, when the runner that this one is beside has died. */
export function watchParent(env: Surroundings, onGone: () => void): { close(): void } {
  const pid = Number(env[BESIDE_PID])
  if (!Number.isSafeInteger(pid) || pid <= 0) return { close: () => {} }
  const look = setInterval(() => {
    try {
      process.kill(pid, 0)
    } catch {
      clearInterval(look)
      onGone()
    }
  }, WATCH_MS).unref()
  return { close: () => clearInterval(look) }
}
