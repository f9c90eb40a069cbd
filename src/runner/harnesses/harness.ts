/**
 * The seam between a runner and a harness: the program that drives a model (or, for `command`, a shell).
 *
 * A runner opens a harness once for an execution, prompts it, and closes it. An implementer
 *  - must not throw for what the harness did wrong: it answers with a `TurnEnd`; it throws only a `HarnessFailure`
 *    from `open`, when the harness cannot be started at all (missing CLI, no login), worded for a person;
 *  - must end every process it started when `close` resolves, whatever state it is in;
 *  - must return from `prompt` within `cancel_grace_ms` after `cancel`, by force if the harness does not obey;
 *  - must take `prompt` again after a turn that completed, in the same session, where it has turns at all;
 *  - must never ask a person: the permission policy of the run answers, and each denial is an entry;
 *  - must keep what it does not understand as an `unknown` entry instead of dropping it;
 *  - must never put a key or token into arguments, entries or logs.
 */
import type { AgentConfig, Assignment, EntryBody, Failure, PermissionPolicy, Usage } from '../../contract/index.ts'

/** Where the things that a harness says go. Calls are ordered; none of them waits. */
export type Sink = {
  /** A finished entry. */
  entry(body: EntryBody): void
  /** Text of an entry that is still growing; the entry with the whole text follows by `entry`. */
  delta(kind: 'text' | 'thought' | 'output', text: string, stream?: 'stdout' | 'stderr'): void
  /** Totals so far of this execution, replacing what was said before. */
  usage(usage: Usage): void
}

export type McpEndpoint = { name: string; url: string; headers: Record<string, string> }

export type HarnessStart = {
  assignment: Assignment
  config: AgentConfig
  /** Absolute path; the harness's working folder. */
  workspace: string
  /** Absolute path of a private folder (0700) for the harness's own configuration and session of this execution. */
  home: string
  /** The environment for the harness: complete, already without Baton's own tokens where the harness needs none. */
  env: Record<string, string>
  /** Extra MCP servers for the session, beside those of `config.mcp_servers`. */
  mcp: McpEndpoint[]
  permissions: PermissionPolicy
  sink: Sink
  signal: AbortSignal
}

export type TurnEnd =
  | { end: 'completed'; summary?: string }
  /** `forgotten`: the session goes on without what this turn was asked and did. */
  | { end: 'cancelled'; forgotten?: boolean }
  | { end: 'failed'; outcome: 'FAILED' | 'ERROR'; failure: Failure }

export type OpenHarness = {
  /** The harness's own session, for resuming later; null where it has none. */
  session_id: string | null
  prompt(text: string): Promise<TurnEnd>
  /**
   * Gives a prompt to the turn that runs now; `prompt` then resolves after it, too. `refused`: it was not taken, or no
   * turn runs. Absent where the harness cannot.
   */
  join?(text: string): Promise<'joined' | 'refused'>
  /** Asks the turn to stop, by no force; the session goes on. Absent where the harness cannot. */
  interrupt?(): Promise<void>
  /** Resolves when the harness has died by itself. Absent where nothing lives on between turns. */
  died?: Promise<TurnEnd>
  /** Ask the turn to stop: first in the harness's own words, then by signals. */
  cancel(): Promise<void>
  close(): Promise<void>
}

export type Harness = {
  name: string
  /** The longest that it lets a tool call take, in milliseconds. Absent: no tools and no turns, only one prompt. */
  tool_hold_ms?: number
  /** What below `home` holds its sessions, and nothing else: they are put back there before it is opened to resume. */
  session_folders?: readonly string[]
  /** Called when a session was put back: for a harness that goes by the place at which the session began. */
  moveSession?: ((home: string, workspace: string) => Promise<void>) | undefined
  open(start: HarnessStart): Promise<OpenHarness>
}

/** Thrown by `open` alone. */
export class HarnessFailure extends Error {
  override readonly name = 'HarnessFailure'
  readonly failure: Failure
  constructor(failure: Failure) {
    super(failure.message)
    this.failure = failure
  }
}
