/** Ending everything that belongs to an execution, whatever it did to get away. */
import { setTimeout as wait } from 'node:timers/promises'
import { type Cgroup, closeForks, killCgroup, readMembers } from './cgroup.ts'
import { findMembers, hasEnded, isAlive, type ProcessStat, readStat, signal, signalSame, type Tree } from './proc.ts'

/** After this long with something still living the attempt is given up, to be repeated by a later sweep. */
export const END_MS = 15_000
const PASS_MS = 20

/** True when nothing is left. */
export async function endTree(tree: Tree, cgroup: Cgroup | null, end_ms = END_MS): Promise<boolean> {
  const deadline = performance.now() + end_ms
  for (;;) {
    if (endPass(tree, cgroup)) return true
    if (performance.now() > deadline) return false
    await wait(PASS_MS)
  }
}

/** True when nothing was found. */
function endPass(tree: Tree, cgroup: Cgroup | null): boolean {
  try {
    if (cgroup) {
      closeForks(cgroup)
      killCgroup(cgroup)
    }
    const left = livingOf(tree, cgroup)
    if (left.length === 0 && !rootLives(tree)) return true
    endMembers(tree, left, cgroup)
  } catch {
    // The process table could not be read just now; the next pass tries again.
  }
  return false
}

function rootLives(tree: Tree): boolean {
  return tree.root !== null && isAlive(tree.root)
}

function livingOf(tree: Tree, cgroup: Cgroup | null): ProcessStat[] {
  const members = new Map(findMembers(tree).map((stat) => [stat.pid, stat]))
  for (const pid of cgroup ? readMembers(cgroup) : []) {
    const stat = readStat(pid)
    if (stat && !hasEnded(stat)) members.set(pid, stat)
  }
  return [...members.values()]
}

/**
 * Without a cgroup a storm of forks outruns one pass of SIGKILL, so all are stopped first, until a look finds nobody
 * new, and then killed.
 */
function endMembers(tree: Tree, members: ProcessStat[], cgroup: Cgroup | null): void {
  if (process.platform !== 'linux') {
    if (tree.root) signal(-tree.root.pid, 'SIGKILL')
    return
  }
  const stopped = new Set<string>()
  let found = members
  for (let pass = 0; pass < 50 && found.length > 0; pass++) {
    for (const stat of found) {
      stopped.add(`${stat.pid} ${stat.started}`)
      signalSame(stat, 'SIGSTOP')
    }
    found = livingOf(tree, cgroup).filter((stat) => !stopped.has(`${stat.pid} ${stat.started}`))
  }
  for (const stat of livingOf(tree, cgroup)) signalSame(stat, 'SIGKILL')
}
