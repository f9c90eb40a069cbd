/**
 * The `process` backend: a run is a tree of plain processes with the worker's own rights. NOT ISOLATED: it can read
 * and write whatever the worker's user can. For one's own machine and one's own prompts.
 *
 *     <state_dir>/sandboxes/<execution>/   0700
 *         sandbox.json     the record
 *         workspace/       where the runner starts
 *         tmp/             its TMPDIR
 *         stdout.log, stderr.log
 *
 * The runner is the leader of its own session and process group and writes to files, so that it does not notice
 * when the worker goes.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, constants as flags, fstatSync, openSync, readSync } from 'node:fs'
import { mkdir, readdir, realpath } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { whyOf } from '../../contract/why.ts'
import {
  type Cgroup,
  type CgroupRoots,
  detectCgroups,
  enterCgroup,
  listCgroups,
  openCgroup,
  removeCgroup,
} from './cgroup.ts'
import { freeBytes, removeFolder, wordBytes } from './disk.ts'
import { endTree } from './ending.ts'
import {
  bootId,
  EXECUTION_MARK,
  identify,
  isAlive,
  type ProcessId,
  type ProcessTable,
  sharedTable,
  signalSame,
  type Tree,
} from './proc.ts'
import { folderName, readRecord, type SandboxRecord, sha256, writeRecord } from './record.ts'
import { type Sandbox, type SandboxBackend, type SandboxEnd, SandboxRefused, type SandboxSpec } from './sandbox.ts'
import { oomVerdict, SANDBOX_LIMITS, type SandboxLimits, type Verdict, watch } from './watch.ts'

export type ProcessBackendOptions = {
  state_dir: string
  log: Logger
  limits?: Partial<SandboxLimits> | undefined
  /** Leaves the folders of ended sandboxes where they are. */
  keep_workspaces?: boolean | undefined
  /** False where no control groups are to be used even if they could be. */
  cgroups?: boolean | undefined
}

/** Between two attempts to end what could not be ended. */
const SWEEP_MS = 60_000
/** Between two looks at a runner that is not this process's child. */
const LOOK_MS = 200
const LAST_LINES_BYTES = 4096

type House = {
  folder: string
  log: Logger
  limits: SandboxLimits
  keep: boolean
  roots: CgroupRoots
  boot: string
  /** Aborts when the worker stops watching. */
  closed: AbortController
  leftovers: Map<string, Place>
  /** The process table, for those who count. */
  processes: () => ProcessTable
}

/** Where a sandbox is, whether or not anything in it lives. */
type Place = {
  record: SandboxRecord
  folder: string
  tree: () => Tree
  /** Nothing of it lives, so nothing of it can come any more. */
  ended: boolean
}

export async function openProcessBackend(options: ProcessBackendOptions): Promise<SandboxBackend> {
  const folder = join(options.state_dir, 'sandboxes')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const limits = { ...SANDBOX_LIMITS, ...options.limits }
  const house: House = {
    folder: await realpath(folder),
    log: options.log,
    limits,
    keep: options.keep_workspaces ?? false,
    roots:
      options.cgroups === false
        ? { folders: [] }
        : detectCgroups(`baton-${sha256(await realpath(folder)).slice(0, 16)}`),
    boot: bootId(),
    closed: new AbortController(),
    leftovers: new Map(),
    processes: sharedTable(limits.count_ms / 2),
  }
  const sweep = setInterval(() => void sweepLeftovers(house), SWEEP_MS).unref()
  return {
    name: 'process',
    isolated: false,
    open: (spec) => openSandbox(house, spec),
    adopt: () => adoptSandboxes(house),
    close: async () => {
      clearInterval(sweep)
      house.closed.abort()
    },
  }
}

async function openSandbox(house: House, spec: SandboxSpec): Promise<Sandbox> {
  await checkDisk(house)
  const folder = join(house.folder, folderName(spec.execution_id))
  const cgroup = openCgroup(house.roots, folderName(spec.execution_id), house.limits)
  const record: SandboxRecord = {
    version: 1,
    execution_id: spec.execution_id,
    task_id: spec.task_id,
    token_hash: spec.token_hash,
    own_models: [...spec.own_models],
    opened_at: new Date().toISOString(),
    boot_id: house.boot,
    process: null,
    cgroup,
  }
  try {
    await removeFolder(folder)
    for (const made of [folder, join(folder, 'workspace'), join(folder, 'tmp')]) await mkdir(made, { mode: 0o700 })
    await writeRecord(folder, record)
    const child = await startRunner(folder, cgroup, spec)
    record.process = identify(child.pid ?? 0)
    const place = placeOf(house, record, folder)
    const exit = exitOf(child)
    await writeRecord(folder, record)
    child.unref()
    return live(house, place, exit, false)
  } catch (error) {
    await clear(house, placeOf(house, record, folder))
    throw refusal(error)
  }
}

async function checkDisk(house: House): Promise<void> {
  const free = await freeBytes(house.folder)
  if (free >= house.limits.disk_free_bytes_min) return
  const floor = wordBytes(house.limits.disk_free_bytes_min)
  throw new SandboxRefused(
    'workspace_setup',
    `The worker's disk has ${wordBytes(free)} free, less than the ${floor} that a run needs. Free space at ${house.folder}.`,
  )
}

function refusal(error: unknown): SandboxRefused {
  if (error instanceof SandboxRefused) return error
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  const message = whyOf(error)
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new SandboxRefused('workspace_setup', "The worker's disk is full. Free space and start the run again.", {
      cause: error,
    })
  }
  return new SandboxRefused('workspace_setup', `The worker could not make a place for the run: ${message}`, {
    cause: error,
  })
}

async function startRunner(folder: string, cgroup: Cgroup | null, spec: SandboxSpec): Promise<ChildProcess> {
  const [program = '', ...args] = cgroup ? enterCgroup(cgroup, spec.command) : spec.command
  const workspace = join(folder, 'workspace')
  const outputs = outputsOf(folder).map((path) => openSync(path, 'a', 0o600))
  try {
    const child = spawn(program, args, {
      cwd: workspace,
      detached: true,
      stdio: ['ignore', outputs[0], outputs[1]],
      env: {
        ...spec.env,
        [EXECUTION_MARK]: spec.execution_id,
        BATON_WORKSPACE: workspace,
        TMPDIR: join(folder, 'tmp'),
      },
    })
    await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject))
    return child
  } catch (error) {
    const message = whyOf(error)
    throw new SandboxRefused('agent_invocation', `The runner could not be started: ${message}`, { cause: error })
  } finally {
    for (const output of outputs) closeSync(output)
  }
}

const outputsOf = (folder: string): string[] => [join(folder, 'stdout.log'), join(folder, 'stderr.log')]

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once('exit', (code, name) => resolve(code ?? (name === null ? null : 128 + constants.signals[name])))
  })
}

/** Resolves when a process that is nobody's child here is gone. */
function goneOf(id: ProcessId | null, closed: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    const look = setInterval(() => {
      if (id !== null && isAlive(id)) return
      clearInterval(look)
      resolve(null)
    }, LOOK_MS)
    closed.addEventListener('abort', () => clearInterval(look), { once: true })
  })
}

function placeOf(house: House, record: SandboxRecord, folder: string): Place {
  let seen_at = Number.NEGATIVE_INFINITY
  const tree = (): Tree => {
    const root = record.boot_id === house.boot ? record.process : null
    if (root && isAlive(root)) seen_at = performance.now()
    return { execution_id: record.execution_id, root, fresh: performance.now() - seen_at < FRESH_MS }
  }
  if (record.process) tree()
  return { record, folder, tree, ended: false }
}

/** A pid comes round again only after the kernel went through all the others. */
const FRESH_MS = 2000

function live(house: House, place: Place, exit: Promise<number | null>, adopted: boolean): Sandbox {
  const { record, folder } = place
  const over = new AbortController()
  const watching = AbortSignal.any([over.signal, house.closed.signal])
  const refresh = setInterval(place.tree, FRESH_MS / 4).unref()
  watching.addEventListener('abort', () => clearInterval(refresh), { once: true })
  const limit = watch(
    { folder, outputs: outputsOf(folder), cgroup: record.cgroup, tree: place.tree, processes: house.processes },
    house.limits,
    watching,
  )
  const end = () => endPlace(house, place)
  return {
    execution_id: record.execution_id,
    task_id: record.task_id,
    token_hash: record.token_hash,
    own_models: record.own_models,
    opened_at: record.opened_at,
    adopted,
    ended: settle(house, place, exit, limit).finally(() => over.abort()),
    stop: () => {
      const { root } = place.tree()
      if (root) signalSame(root, 'SIGTERM')
    },
    end,
    remove: () => clear(house, place),
  }
}

async function settle(
  house: House,
  place: Place,
  exit: Promise<number | null>,
  limit: Promise<Verdict | null>,
): Promise<SandboxEnd> {
  const never = new Promise<never>(() => {})
  const first = await Promise.race([
    exit.then((exit_code) => ({ exit_code })),
    limit.then((verdict) => verdict ?? never),
  ])
  const verdict = 'reason' in first ? first : oomVerdict(place.record.cgroup, house.limits)
  if (verdict) await endPlace(house, place)
  const last_lines = lastLines(outputsOf(place.folder)[1] ?? '', place.record.token_hash)
  if (verdict) return { how: 'limit', ...verdict, last_lines }
  return { how: 'exited', exit_code: 'exit_code' in first ? first.exit_code : null, last_lines }
}

async function endPlace(house: House, place: Place): Promise<void> {
  const { execution_id, cgroup } = place.record
  place.ended ||= await endTree(place.tree(), cgroup)
  if (place.ended) return
  house.leftovers.set(execution_id, place)
  house.log.error({ execution_id }, 'Processes of this run could not be ended. The worker tries again every minute.')
}

/** Ends and deletes everything that a sandbox was. Never throws: what stays is tried again by the sweep. */
async function clear(house: House, place: Place): Promise<void> {
  const { record, folder } = place
  try {
    await endPlace(house, place)
    if (record.cgroup) await removeCgroup(record.cgroup)
    if (!house.keep) await removeFolder(folder)
    else await writeRecord(folder, { ...record, process: null, boot_id: 'ended' })
  } catch (error) {
    house.leftovers.set(record.execution_id, place)
    house.log.warn(
      { execution_id: record.execution_id, err: error },
      'The folder of an ended run could not be removed. The worker tries again.',
    )
  }
}

async function sweepLeftovers(house: House): Promise<void> {
  for (const [execution_id, place] of [...house.leftovers]) {
    house.leftovers.delete(execution_id)
    await clear(house, place)
  }
}

async function adoptSandboxes(house: House): Promise<Sandbox[]> {
  const adopted: Sandbox[] = []
  const known = new Set<string>()
  for (const entry of await readdir(house.folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue
    const folder = join(house.folder, entry.name)
    const record = await readRecord(folder)
    if (record?.boot_id === 'ended') continue
    known.add(entry.name)
    if (record && folderName(record.execution_id) === entry.name) {
      const place = placeOf(house, record, folder)
      adopted.push(live(house, place, goneOf(place.tree().root, house.closed.signal), true))
    } else await clear(house, placeOf(house, nameless(entry.name, house), folder))
  }
  for (const name of listCgroups(house.roots)) {
    if (known.has(name)) continue
    const { record, tree } = placeOf(house, nameless(name, house), join(house.folder, name))
    if (record.cgroup && (await endTree(tree(), record.cgroup))) await removeCgroup(record.cgroup)
  }
  return adopted
}

/** What can be said of a folder or group whose record was never written. */
function nameless(name: string, house: House): SandboxRecord {
  return {
    version: 1,
    execution_id: name,
    task_id: '',
    token_hash: '',
    own_models: [],
    opened_at: '',
    boot_id: house.boot,
    process: null,
    cgroup: { folders: house.roots.folders.map((root) => join(root, name)) },
  }
}

/** The end of a log, without the execution's token wherever it stands in it. */
export function lastLines(path: string, token_hash: string): string {
  try {
    const text = readEnd(path)
      .toString('utf8')
      .replace(/[A-Za-z0-9_.-]{16,}/g, (word) => (sha256(word) === token_hash ? '•••' : word))
    return text.trimEnd().split('\n').slice(-10).join('\n')
  } catch {
    return ''
  }
}

/** Never through a link that the run may have put in the log's place. */
function readEnd(path: string): Buffer {
  const file = openSync(path, flags.O_RDONLY | flags.O_NOFOLLOW | flags.O_NONBLOCK)
  try {
    const stat = fstatSync(file)
    const bytes = Buffer.alloc(stat.isFile() ? Math.min(stat.size, LAST_LINES_BYTES) : 0)
    readSync(file, bytes, 0, bytes.length, stat.size - bytes.length)
    return bytes
  } finally {
    closeSync(file)
  }
}
