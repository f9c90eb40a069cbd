/**
 * Processes as the kernel sees them.
 *
 * A process is known by its pid *and* its start time: pids are used again. A zombie has ended, although `kill -0`
 * finds it. Without /proc (macOS) only pid and process group are known, and the answers are weaker.
 */
import { readdirSync, readFileSync } from 'node:fs'

/** `started`: clock ticks since boot, as /proc/PID/stat gives it; null where there is no /proc. */
export type ProcessId = { pid: number; started: string | null }

export type ProcessStat = {
  pid: number
  parent: number
  group: number
  session: number
  state: string
  started: string
}

/** By pid. */
export type ProcessTable = Map<number, ProcessStat>

export const EXECUTION_MARK = 'BATON_EXECUTION_ID'

const hasProc = process.platform === 'linux'

export function readStat(pid: number): ProcessStat | null {
  try {
    return parseStat(pid, readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return null
  }
}

/** The second field is the program's name in brackets and may itself hold brackets and spaces. */
export function parseStat(pid: number, text: string): ProcessStat | null {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state, parent, group, session] = fields
  const started = fields[19]
  if (state === undefined || session === undefined || started === undefined) return null
  return { pid, parent: Number(parent), group: Number(group), session: Number(session), state, started }
}

export const hasEnded = (stat: ProcessStat): boolean => stat.state === 'Z' || stat.state === 'X' || stat.state === 'x'

export function identify(pid: number): ProcessId {
  return { pid, started: readStat(pid)?.started ?? null }
}

export function isAlive(id: ProcessId): boolean {
  if (hasProc) {
    const stat = readStat(id.pid)
    return stat !== null && stat.started === id.started && !hasEnded(stat)
  }
  return signal(id.pid, 0)
}

/** Empty where the kernel does not say. Changes with every boot, so pids of another boot mean nothing. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return ''
  }
}

/** False when there was nothing to signal. Never throws. */
export function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** Signals only the very process that was meant. */
export function signalSame(id: ProcessId, name: NodeJS.Signals): boolean {
  return isAlive(id) && signal(id.pid, name)
}

export type Tree = {
  execution_id: string
  root: ProcessId | null
  /**
   * The root was alive a moment ago, so that its pid cannot mean another process yet. Then its session and group count
   * also after its end; otherwise only the mark in a process's environment does.
   */
  fresh: boolean
}

/**
 * The living processes of an execution: its root, the root's session and group, all their descendants, and whoever
 * carries the execution's mark in its environment (daemons that left session and parent behind).
 */
export function findMembers(tree: Tree, all: ProcessTable = listProcesses()): ProcessStat[] {
  if (!hasProc) return []
  const members = new Map<number, ProcessStat>()
  const spared = ancestorsOf(process.pid, all)
  const root = tree.root === null ? undefined : all.get(tree.root.pid)
  const lines = root === undefined ? tree.fresh : root.started === tree.root?.started
  for (const stat of all.values()) {
    if (spared.has(stat.pid)) continue
    const inLine =
      lines && (stat.pid === tree.root?.pid || stat.session === tree.root?.pid || stat.group === tree.root?.pid)
    if (inLine || (isYounger(stat, tree.root) && carriesMark(stat.pid, tree.execution_id))) members.set(stat.pid, stat)
  }
  addDescendants(members, all, spared)
  return [...members.values()].filter((stat) => !hasEnded(stat))
}

/** Nothing of a tree is older than its root: most of the machine is passed over with one small read. */
const isYounger = (stat: ProcessStat, root: ProcessId | null): boolean =>
  root === null || root.started === null || Number(stat.started) >= Number(root.started)

function addDescendants(members: ProcessTable, all: ProcessTable, spared: Set<number>): void {
  const children = Map.groupBy(all.values(), (stat) => stat.parent)
  const open = [...members.keys()]
  for (let parent = open.pop(); parent !== undefined; parent = open.pop()) {
    for (const child of children.get(parent) ?? []) {
      if (members.has(child.pid) || spared.has(child.pid)) continue
      members.set(child.pid, child)
      open.push(child.pid)
    }
  }
}

/** A look at the table that answers for `ms`: one costs milliseconds, and many sandboxes count their processes. */
export function sharedTable(ms: number): () => ProcessTable {
  let all: ProcessTable = new Map()
  let read_at = Number.NEGATIVE_INFINITY
  return () => {
    if (performance.now() - read_at < ms) return all
    all = listProcesses()
    read_at = performance.now()
    return all
  }
}

function listProcesses(): ProcessTable {
  const all: ProcessTable = new Map()
  if (!hasProc) return all
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    const stat = readStat(pid)
    if (stat) all.set(pid, stat)
  }
  return all
}

function ancestorsOf(pid: number, all: ProcessTable): Set<number> {
  const line = new Set<number>([1])
  for (let at = pid; at > 0 && !line.has(at); at = all.get(at)?.parent ?? 0) line.add(at)
  return line
}

function carriesMark(pid: number, execution_id: string): boolean {
  try {
    const environ = readFileSync(`/proc/${pid}/environ`, 'latin1')
    return `\0${environ}\0`.includes(`\0${EXECUTION_MARK}=${execution_id}\0`)
  } catch {
    return false
  }
}
