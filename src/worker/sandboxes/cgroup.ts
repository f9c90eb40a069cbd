/**
 * A control group per sandbox, where the worker may make one: it counts and limits processes in the kernel, finds those
 * that hid, and kills them all at once.
 *
 * Seen: version 1 (one hierarchy per controller), version 2, and hybrids where `cgroup.kill` of an otherwise empty
 * version 2 mount works beside the version 1 limits. Under pure version 2 the limits need delegation to a group
 * without processes of its own, which is seldom given; killing works without. Every piece is tried, none is assumed.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

/** Folders of one group, one for each hierarchy in use. They are kept in the sandbox's record. */
export type Cgroup = { folders: string[] }

export type CgroupLimits = { processes_max: number; memory_bytes_max?: number | undefined }

/** Where groups may be made, empty when nowhere. */
export type CgroupRoots = { folders: string[] }

/** Enters each group named before `--`, then becomes the program after it: no moment outside the group. */
const ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'

/** The command that starts `command` inside the group. */
export function enterCgroup(group: Cgroup, command: readonly string[]): string[] {
  return ['/bin/sh', '-c', ENTER, 'sh', ...group.folders, '--', ...command]
}

/** Finds the hierarchies in which this process may make groups and put processes, by doing it once. */
export function detectCgroups(name: string): CgroupRoots {
  if (process.platform !== 'linux') return { folders: [] }
  const roots: string[] = []
  for (const own of ownFolders(readText('/proc/self/mountinfo'), readText('/proc/self/cgroup'))) {
    const root = join(own, name)
    if (!makeRoot(root)) continue
    const probe = join(root, `probe-${process.pid}`)
    if (makeFolder(probe) && entersGroup(probe)) roots.push(root)
    attempt(() => rmdirSync(probe))
    attempt(() => rmdirSync(root))
  }
  return { folders: roots }
}

function makeRoot(root: string): boolean {
  if (!makeFolder(root)) return false
  attempt(() => writeFileSync(join(root, 'cgroup.subtree_control'), '+pids +memory'))
  return true
}

function entersGroup(folder: string): boolean {
  const [program = '', ...args] = enterCgroup({ folders: [folder] }, ['true'])
  return spawnSync(program, args, { stdio: 'ignore', timeout: 5000 }).status === 0
}

/** This process's own folder in the hierarchies that serve: pids, memory and version 2. */
export function ownFolders(mountinfo: string, cgroup: string): string[] {
  const folders: string[] = []
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const [, , , root = '/', mount = ''] = before.split(' ')
    const [type, , options = ''] = after.split(' ')
    const controller = options.split(',').find((option) => option === 'pids' || option === 'memory')
    if (type !== 'cgroup2' && !(type === 'cgroup' && controller)) continue
    const own = ownPath(cgroup, type === 'cgroup2' ? '' : (controller ?? ''))
    if (own === null || own.startsWith('/..')) continue
    folders.push(resolve(mount, own.startsWith(root) ? own.slice(root === '/' ? 1 : root.length + 1) : '.'))
  }
  return [...new Set(folders)]
}

function ownPath(cgroup: string, controller: string): string | null {
  for (const line of cgroup.split('\n')) {
    const [, controllers = '', ...path] = line.split(':')
    if (path.length > 0 && (controller === '' ? controllers === '' : controllers.split(',').includes(controller)))
      return path.join(':')
  }
  return null
}

/** Null when no group could be made. */
export function openCgroup(roots: CgroupRoots, name: string, limits: CgroupLimits): Cgroup | null {
  const folders = roots.folders
    .filter(makeRoot)
    .map((root) => join(root, name))
    .filter(makeFolder)
  for (const folder of folders) {
    attempt(() => writeFileSync(join(folder, 'pids.max'), String(limits.processes_max)))
    if (limits.memory_bytes_max === undefined) continue
    const memory = String(limits.memory_bytes_max)
    for (const file of ['memory.max', 'memory.limit_in_bytes'])
      attempt(() => writeFileSync(join(folder, file), memory, { flag: 'r+' }))
  }
  return folders.length === 0 ? null : { folders }
}

/** How often a fork was refused by the limit, null where the kernel does not limit. */
export function forksRefused(group: Cgroup): number | null {
  return readCounter(group, ['pids.events'], 'max')
}

export function oomKills(group: Cgroup): number {
  return readCounter(group, ['memory.events', 'memory.oom_control'], 'oom_kill') ?? 0
}

function readCounter(group: Cgroup, files: string[], key: string): number | null {
  for (const folder of group.folders) {
    for (const file of files) {
      const found = new RegExp(`^${key} (\\d+)$`, 'm').exec(readText(join(folder, file)))
      if (found) return Number(found[1])
    }
  }
  return null
}

export function readMembers(group: Cgroup): number[] {
  const pids = group.folders.flatMap((folder) => readText(join(folder, 'cgroup.procs')).split('\n'))
  return [...new Set(pids.filter((pid) => pid !== '' && pid !== '0').map(Number))]
}

/** Nobody in the group can fork any more. */
export function closeForks(group: Cgroup): void {
  for (const folder of group.folders) attempt(() => writeFileSync(join(folder, 'pids.max'), '0', { flag: 'r+' }))
}

export function killCgroup(group: Cgroup): void {
  for (const folder of group.folders) attempt(() => writeFileSync(join(folder, 'cgroup.kill'), '1', { flag: 'r+' }))
}

/** Removes the group once it is empty, and its root with the last one; a group keeps its zombies for a moment. */
export async function removeCgroup(group: Cgroup): Promise<boolean> {
  for (let tries = 0; tries < 50; tries++) {
    for (const folder of group.folders) attempt(() => rmdirSync(folder))
    if (group.folders.every((folder) => !exists(folder))) {
      for (const folder of group.folders) attempt(() => rmdirSync(dirname(folder)))
      return true
    }
    await wait(20)
  }
  return false
}

/** Names of the groups that exist below the roots. */
export function listCgroups(roots: CgroupRoots): string[] {
  const names = roots.folders.flatMap(
    (root) =>
      attempt(() =>
        readdirSync(root, { withFileTypes: true })
          .filter((entry) => entry.isDirectory())
          .map((entry) => entry.name),
      ) ?? [],
  )
  return [...new Set(names)]
}

function makeFolder(folder: string): boolean {
  attempt(() => mkdirSync(folder))
  return exists(folder)
}

const exists = (folder: string): boolean => attempt(() => readdirSync(folder)) !== undefined

const readText = (file: string): string => attempt(() => readFileSync(file, 'utf8')) ?? ''

function attempt<T>(step: () => T): T | undefined {
  try {
    return step()
  } catch {
    return undefined
  }
}
