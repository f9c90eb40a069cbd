/**
 * The seam between a worker and the places where runs happen.
 *
 * A sandbox is one live place made for one execution. It belongs to the execution, not to the worker process that
 * opened it: a worker may be killed, replaced or updated while its sandboxes go on.
 *
 * Who implements a backend promises:
 * - `open` makes a private place, starts the runner in it and comes back at once; it never waits for the run. When it
 *   rejects, nothing of the attempt is left: no process, no folder, no record.
 * - What is needed to find the sandbox again is on disk before the runner can have done anything, so that a worker
 *   killed at any moment leaves nothing that `adopt` does not find.
 * - `adopt` gives back every sandbox of this worker's folder, live ones and those that ended while nobody looked. It
 *   judges life by more than a pid: pids are used again, zombies answer `kill -0`, machines are restarted.
 * - `ended` resolves once the runner is gone or a limit was passed; it never rejects. It says nothing of what
 *   the runner started: only `end` does.
 * - `end` ends the runner and *everything* it started, also what changed its session, its group or its parent, and
 *   resolves when none of it is left. It may be called at any time and any number of times.
 * - `remove` comes after `end`: nothing of the sandbox is left on the machine afterwards.
 *
 * What must never happen:
 * - a process outside the sandbox is signalled, or a file outside it is deleted, whatever links the run planted;
 * - a token or key becomes part of an argument list, a log line or a failure's message;
 * - a run makes the worker fail: floods, fork storms and full disks are the run's failure;
 * - success is told from an exit code: what became of the run is what the runner reported to the server.
 */

export type SandboxSpec = {
  execution_id: string
  task_id: string
  /** Program and arguments of the runner; no secrets. */
  command: readonly string[]
  /** The whole environment, but for what only the backend knows: BATON_WORKSPACE and TMPDIR. */
  env: Readonly<Record<string, string>>
  /** SHA-256 in hex of the execution's own token. */
  token_hash: string
  /** Providers for which it has keys of its own. */
  own_models: readonly string[]
}

export type SandboxEnd =
  /** `exit_code` is 128 + signal for a signal, and null where nobody saw the end. */
  | { how: 'exited'; exit_code: number | null; last_lines: string }
  | { how: 'limit'; reason: LimitReason; message: string; last_lines: string }

export type LimitReason = 'process_limit' | 'output_limit' | 'disk_full' | 'container_oom'

export type Sandbox = {
  readonly execution_id: string
  readonly task_id: string
  readonly token_hash: string
  readonly own_models: readonly string[]
  readonly opened_at: string
  readonly adopted: boolean
  readonly ended: Promise<SandboxEnd>
  /** Asks the runner, and the runner alone, to stop what it does and to report. */
  stop(): void
  end(): Promise<void>
  remove(): Promise<void>
}

export type SandboxBackend = {
  readonly name: string
  /** Whether a run is kept from the rest of the machine. */
  readonly isolated: boolean
  /** Rejects with `SandboxRefused` when the place cannot be made. */
  open(spec: SandboxSpec): Promise<Sandbox>
  adopt(): Promise<Sandbox[]>
  /** Stops watching. Sandboxes go on. */
  close(): Promise<void>
}

export type OpenFailureReason = 'workspace_setup' | 'agent_invocation'

export class SandboxRefused extends Error {
  override readonly name = 'SandboxRefused'
  readonly reason: OpenFailureReason

  constructor(reason: OpenFailureReason, message: string, options?: ErrorOptions) {
    super(message, options)
    this.reason = reason
  }
}
