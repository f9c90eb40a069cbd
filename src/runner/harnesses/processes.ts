/**
 * The processes of a harness: its own group, and whatever left that group. A harness's shell tool may start a
 * session of its own and daemons may leave their parents, so every process also carries a mark in its environment.
 * On Linux both are searched in /proc; elsewhere only the group can be.
 */
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'

const MARK = 'BATON_PROCESS_MARK'
const POLL_MS = 20
/** How long processes may take to vanish after SIGKILL, in milliseconds; a longer wait is a stuck kernel call. */
const KILLED_MS = 2000

export type Tree = { group: number; mark: string }

export const makeMark = (): { mark: string; env: Record<string, string> } => {
  const mark = randomUUID()
  return { mark, env: { [MARK]: mark } }
}

/** SIGTERM to all of them, and SIGKILL to those still there after `grace_ms`. Resolves when none is left. */
export async function endTree(tree: Tree, grace_ms: number): Promise<void> {
  const grace_until = performance.now() + grace_ms
  const living = membersOf(tree)
  if (living.length === 0) return
  signalAll(living, 'SIGTERM')
  while (membersOf(tree).length > 0 && performance.now() < grace_until) await pause(POLL_MS)
  const killed_until = performance.now() + KILLED_MS
  while (membersOf(tree).length > 0 && performance.now() < killed_until) {
    signalTree(tree, 'SIGKILL')
    await pause(POLL_MS)
  }
}

export const signalTree = (tree: Tree, signal: NodeJS.Signals): void => signalAll(membersOf(tree), signal)

function signalAll(pids: number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** The living processes of a tree: pids, or on systems without /proc the negative id of the group. */
export function membersOf(tree: Tree): number[] {
  if (process.platform !== 'linux') return isGroupAlive(tree.group) ? [-tree.group] : []
  const found: number[] = []
  const own_start = startOf(fieldsOf(process.pid))
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    if (isMember(pid, tree, own_start)) found.push(pid)
  }
  return found
}

/** What is older than this process was not started by it: most of the machine is passed over with one small read. */
function isMember(pid: number, tree: Tree, own_start: number): boolean {
  try {
    const fields = fieldsOf(pid)
    const [state, , group] = fields
    if (state === 'Z' || state === 'X') return false
    if (Number(group) === tree.group) return true
    if (startOf(fields) < own_start) return false
    return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`${MARK}=${tree.mark}`)
  } catch {
    return false
  }
}

/** State, parent, group and so on. The command name before them stands in parentheses and may hold any character. */
function fieldsOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

/** In clock ticks since boot. */
const startOf = (fields: string[]): number => Number(fields[19])

function isGroupAlive(group: number): boolean {
  try {
    return process.kill(-group, 0)
  } catch {
    return false
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
