/**
 * What a plain process may use: looked at from outside, since nothing but the kernel's process count can be enforced.
 * The first limit passed is the verdict; the sandbox is then ended.
 */
import { closeSync, constants, ftruncateSync, lstatSync, openSync } from 'node:fs'
import { type Cgroup, forksRefused, oomKills } from './cgroup.ts'
import { folderBytes, freeBytes, wordBytes } from './disk.ts'
import { findMembers, type ProcessTable, type Tree } from './proc.ts'
import type { LimitReason } from './sandbox.ts'

export type SandboxLimits = {
  /** Threads too, where a cgroup counts. */
  processes_max: number
  /** Absent: no limit. Enforced by the kernel, where it can be. */
  memory_bytes_max?: number | undefined
  /** Of the runner's own stdout and of its stderr; a harness's output goes elsewhere. */
  output_bytes_max: number
  workspace_bytes_max: number
  /** Below this no sandbox is opened. */
  disk_free_bytes_min: number
  watch_ms: number
  /** Between two looks at the process table where no cgroup counts. */
  count_ms: number
  /** Between two looks at the size of a workspace. */
  size_ms: number
}

export const SANDBOX_LIMITS: SandboxLimits = {
  processes_max: 1024,
  output_bytes_max: 16 * 1024 * 1024,
  workspace_bytes_max: 10 * 1024 ** 3,
  disk_free_bytes_min: 512 * 1024 * 1024,
  watch_ms: 250,
  count_ms: 500,
  size_ms: 10_000,
}

/** Files looked at in one walk of a workspace; beyond that the size is a lower bound. */
const WALK_ENTRIES_MAX = 500_000
/** A walk takes at most this part of the time. */
const WALK_SHARE = 30
/** A disk that lost less than this since the last walk needs no new one yet... */
const WALK_WORTH_BYTES = 32 * 1024 * 1024
/** ...unless this many walks were left out. */
const WALKS_SKIPPED_MAX = 6

export type Verdict = { reason: LimitReason; message: string }

export type Watched = {
  folder: string
  /** Files that the runner writes on its own: stdout and stderr. */
  outputs: string[]
  cgroup: Cgroup | null
  tree: () => Tree
  /** For counting only: it may be somewhat old. */
  processes: () => ProcessTable
}

/** Resolves with the first limit passed, or with null when the signal aborts. */
export function watch(sandbox: Watched, limits: SandboxLimits, signal: AbortSignal): Promise<Verdict | null> {
  const { promise, resolve } = Promise.withResolvers<Verdict | null>()
  const look = (at: () => Verdict | null) => () => {
    try {
      const verdict = at()
      if (verdict) resolve(verdict)
    } catch {
      // What cannot be read now (no file descriptor left, no memory) is read at the next look.
    }
  }
  const fast = setInterval(
    look(() => outputVerdict(sandbox, limits) ?? kernelVerdict(sandbox, limits)),
    limits.watch_ms,
  )
  const counted = sandbox.cgroup !== null && forksRefused(sandbox.cgroup) !== null
  const count = counted
    ? null
    : setInterval(
        look(() => countVerdict(sandbox, limits)),
        limits.count_ms,
      )
  void watchSize(sandbox, limits, signal).then((verdict) => verdict && resolve(verdict))
  signal.addEventListener('abort', () => resolve(null), { once: true })
  if (signal.aborted) resolve(null)
  return promise.finally(() => {
    clearInterval(fast)
    clearInterval(count ?? undefined)
  })
}

function outputVerdict({ outputs }: Watched, limits: SandboxLimits): Verdict | null {
  for (const path of outputs) {
    const stat = lstatSync(path, { throwIfNoEntry: false })
    if (!stat?.isFile() || stat.size <= limits.output_bytes_max) continue
    truncate(path, limits.output_bytes_max)
    return {
      reason: 'output_limit',
      message: `The runner itself printed more than ${wordBytes(limits.output_bytes_max)}, the limit of this worker.`,
    }
  }
  return null
}

/** Never through a link that the run may have put in the log's place. */
function truncate(path: string, bytes: number): void {
  const file = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW)
  try {
    ftruncateSync(file, bytes)
  } finally {
    closeSync(file)
  }
}

function kernelVerdict({ cgroup }: Watched, limits: SandboxLimits): Verdict | null {
  if (!cgroup) return null
  if ((forksRefused(cgroup) ?? 0) > 0) return tooManyProcesses(limits)
  return oomVerdict(cgroup, limits)
}

export function oomVerdict(cgroup: Cgroup | null, limits: SandboxLimits): Verdict | null {
  if (!cgroup || oomKills(cgroup) === 0) return null
  const bytes = limits.memory_bytes_max
  const most = bytes === undefined ? 'there is' : `the ${wordBytes(bytes)} that this worker allows`
  return { reason: 'container_oom', message: `The run used more memory than ${most}.` }
}

function countVerdict(sandbox: Watched, limits: SandboxLimits): Verdict | null {
  return findMembers(sandbox.tree(), sandbox.processes()).length > limits.processes_max
    ? tooManyProcesses(limits)
    : null
}

function tooManyProcesses(limits: SandboxLimits): Verdict {
  return {
    reason: 'process_limit',
    message: `The run had more than ${limits.processes_max} processes and threads, the limit of this worker.`,
  }
}

async function watchSize({ folder }: Watched, limits: SandboxLimits, signal: AbortSignal): Promise<Verdict | null> {
  let free = Number.POSITIVE_INFINITY
  let pause_ms = limits.size_ms
  for (let skipped = 0; ; skipped++) {
    if (!(await rest(pause_ms, signal))) return null
    pause_ms = limits.size_ms
    const now_free = await freeBytes(folder).catch(() => 0)
    if (free - now_free < WALK_WORTH_BYTES && skipped < WALKS_SKIPPED_MAX) continue
    const began = performance.now()
    const bounds = { bytes_max: limits.workspace_bytes_max, entries_max: WALK_ENTRIES_MAX, signal }
    const bytes = await folderBytes(folder, bounds).catch(() => 0)
    if (bytes > limits.workspace_bytes_max) {
      return {
        reason: 'disk_full',
        message: `The run's files take more than ${wordBytes(limits.workspace_bytes_max)}, the limit of this worker.`,
      }
    }
    free = now_free
    skipped = 0
    pause_ms = Math.max(limits.size_ms, (performance.now() - began) * WALK_SHARE)
  }
}

/** False when the signal aborted first. */
function rest(ms: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const stop = () => {
      clearTimeout(timer)
      resolve(false)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop)
      resolve(true)
    }, ms)
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
}
