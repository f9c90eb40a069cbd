/**
 * Leaves a snapshot of the workspace when an execution is about to end, and checkpoints while it is at work: of each
 * repository its commits since the clone (a bundle) and what is not committed (a patch), of each declared file itself,
 * and last the manifest. It counts when all of it is at the server, in place of the one before; it never fails the run,
 * and what could not be kept is said.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import {
  type AgentConfig,
  FILES_A_REQUEST_MAX,
  SNAPSHOT_FILE_BYTES_MAX,
  SNAPSHOT_FILES_MAX,
  SNAPSHOT_MANIFEST,
  type SnapshotManifest,
} from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { sendFile, tried } from './carry-files.ts'
import type { Client } from './client.ts'
import { findDeclared } from './declarations.ts'
import { megabytes } from './failures.ts'
import { type Git, git } from './git.ts'
import { makeGroups } from './spawn.ts'
import type { Transcript } from './transcript.ts'

/** One git command, and all of it together, in milliseconds. */
const GIT_MS = 60_000
const UPLOAD_MS = 120_000

/** What stands where, since it was prepared. */
export type Prepared = {
  workspace: string
  /** Repositories that were cloned, absolute, with the commit at which each stood; null: it has none yet. */
  cloned: Map<string, string | null>
  env: Record<string, string>
  /** There is an earlier snapshot, put back or left as a checkpoint: then also "nothing is different" must be said. */
  earlier: boolean
  /** The last checkpoint: what was in it, and when. */
  checkpoint?: { print: string; taken_at: string }
  /** The last checkpoint could not be taken, and it was said. */
  is_failing?: boolean
}

export type SnapshotOptions = {
  client: Client
  run_id: string
  /** Of this execution alone; it tells apart what several executions leave. */
  number: number
  /** For what is gathered. */
  folder: string
  transcript: Transcript
  superseded: AbortSignal
  /** Where the run says how long all of it together may take, and the script that declares. */
  config: Pick<AgentConfig, 'snapshot_upload_timeout_secs' | 'snapshot_script_timeout_secs'>
}

const uploadTime = ({ config: { snapshot_upload_timeout_secs: secs } }: SnapshotOptions): AbortSignal =>
  AbortSignal.timeout(secs === undefined ? UPLOAD_MS : secs * 1000)

type Manifest = SnapshotManifest
type Gathered = { manifest: Manifest; files: { name: string; path: string; mime_type: string }[] }

/** Never rejects, and takes no longer than `limit`. */
export async function leaveSnapshot(options: SnapshotOptions, prepared: Prepared, limit: AbortSignal): Promise<void> {
  const { transcript, superseded } = options
  const signal = AbortSignal.any([limit, superseded, uploadTime(options)])
  const warn = (message: string) => transcript.system('warning', 'snapshot', message)
  const leave = async ({ gathered, folder }: Laid) => {
    const { files, manifest } = gathered
    if (files.length === 0 && !prepared.earlier && !hasTrouble(manifest)) return
    await send(options, gathered, { folder, signal })
    for (const { path, status, reason } of [...manifest.repos, ...manifest.files])
      if (reason !== undefined && status !== 'uploaded') warn(`${path} is not kept for the next execution: ${reason}.`)
  }
  await laid(options, prepared, { signal, warn, use: leave }).catch((error: unknown) => {
    if (superseded.aborted) return
    const why = signal.aborted ? 'it took too long' : whyOf(error)
    const { taken_at } = prepared.checkpoint ?? {}
    const kept = taken_at === undefined ? 'not kept' : `kept as it was at ${taken_at}, no later,`
    warn(`The workspace is ${kept} for the next execution: ${why}.`)
  })
}

/**
 * While its agent is at work. `isWhole` says that the agent has begun nothing since; null: it is in the middle of
 * something. Answers false where it was not whole, and nothing is left. What fails is said once, until one succeeds.
 */
export async function leaveCheckpoint(
  options: SnapshotOptions,
  prepared: Prepared,
  { isWhole, signal: stop }: { isWhole: (() => boolean) | null; signal: AbortSignal },
): Promise<boolean> {
  const { transcript, superseded } = options
  const signal = AbortSignal.any([stop, superseded, uploadTime(options)])
  const leave = async ({ gathered, folder }: Laid): Promise<boolean> => {
    const { files, manifest } = gathered
    const print = await printOf(gathered)
    if (isWhole?.() === false) return false
    if (files.length === 0 && !prepared.earlier) return true
    if (print === prepared.checkpoint?.print) return true
    const taken_at = new Date().toISOString()
    const checkpoint = isWhole === null ? 'in_an_action' : 'between_actions'
    const marked = { files, manifest: { ...manifest, taken_at, checkpoint } satisfies Manifest }
    const is_same = async () => isWhole === null || (await printOf(gathered)) === print
    if (!(await send(options, marked, { folder, signal, is_same }))) return false
    prepared.earlier = true
    prepared.checkpoint = { print, taken_at }
    prepared.is_failing = false
    return true
  }
  try {
    return await laid(options, prepared, { signal, warn() {}, use: leave })
  } catch (error) {
    if (stop.aborted || superseded.aborted) return true
    const why = signal.aborted ? 'it took too long' : whyOf(error)
    const said = `The workspace could not be kept while at work: ${why}. It is tried again.`
    if (!prepared.is_failing) transcript.system('warning', 'snapshot', said)
    prepared.is_failing = true
    return true
  }
}

type Laid = { gathered: Gathered; folder: string }

/** Gathers into a folder that is gone afterwards. */
async function laid<T>(
  options: SnapshotOptions,
  prepared: Prepared,
  { signal, warn, use }: { signal: AbortSignal; warn: (message: string) => void; use: (laid: Laid) => Promise<T> },
): Promise<T> {
  const { run_id } = options
  const { snapshot_script_timeout_secs: secs } = options.config
  const script_ms = secs === undefined ? undefined : secs * 1000
  const { workspace, env } = prepared
  const folder = join(options.folder, 'snapshot')
  const groups = makeGroups()
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true, mode: 0o700 })
  try {
    const cloned = [...prepared.cloned.keys()]
    const declared = await findDeclared({ run_id, workspace, cloned, env, groups, signal, script_ms, warn })
    const gathered = await gather(prepared, declared, { folder, git: { groups, env, limit_ms: GIT_MS, signal } })
    return await use({ gathered, folder })
  } finally {
    await groups.close()
    await rm(folder, { recursive: true, force: true })
  }
}

/** The same for the same: of patches what is in them, of bundles which commits, of files their size and time. */
async function printOf({ manifest, files }: Gathered): Promise<string> {
  const sum = createHash('sha256').update(JSON.stringify(manifest))
  for (const { name, path } of files) {
    if (name.endsWith('.patch') && manifest.repos.some(({ patch }) => patch === name))
      for await (const chunk of createReadStream(path)) sum.update(chunk)
    else if (!manifest.repos.some(({ bundle }) => bundle === name)) {
      const found = await stat(path, { bigint: true }).catch(() => null)
      sum.update(`${name} ${found?.size} ${found?.mtimeNs} ${found?.ino}`)
    }
  }
  return sum.digest('hex')
}

async function send(
  { client, number }: SnapshotOptions,
  { manifest, files }: Gathered,
  { folder, signal, is_same }: { folder: string; signal: AbortSignal; is_same?: () => Promise<boolean> },
): Promise<boolean> {
  const generation = `e${number}.${Date.now().toString(36)}`
  const path = join(folder, SNAPSHOT_MANIFEST)
  await writeFile(path, `${JSON.stringify(manifest)}\n`)
  const all = [...files, { name: SNAPSHOT_MANIFEST, path, mime_type: 'application/json' }]
  for (let at = 0; at < all.length; at += FILES_A_REQUEST_MAX) {
    const some = all.slice(at, at + FILES_A_REQUEST_MAX)
    const named = some.map(({ name, mime_type }) => ({ filename: name, mime_type }))
    const body = { mode: 'checkpoint' as const, generation, files: named }
    const { uploads } = await tried(signal, () => client.handoff.uploadSnapshot({ body, signal }))
    for (const [nth, file] of some.entries()) {
      const target = uploads[nth]
      if (target) await sendFile(target, file.path, signal)
    }
  }
  if ((await is_same?.()) === false) return false
  const body = { generation, files: all.map(({ name }) => name) }
  await tried(signal, () => client.handoff.commitSnapshot({ body, signal }))
  return true
}

const hasTrouble = ({ repos, files }: Manifest): boolean =>
  [...repos, ...files].some(({ status }) => status !== 'clean' && status !== 'uploaded')

type Gathering = { folder: string; git: Git }

async function gather(
  { workspace, cloned }: Prepared,
  declared: { repos: string[]; files: string[] },
  { folder, git: tool }: Gathering,
): Promise<Gathered> {
  const files: Gathered['files'] = []
  const manifest: Manifest = { version: 1, repos: [], files: [] }
  for (const [at, path] of declared.repos.entries()) {
    const repo = { path, relative: below(workspace, path) }
    try {
      const kept = await gatherRepo(tool, path, {
        base: cloned.get(path) ?? null,
        stem: join(folder, `repo-${at + 1}`),
      })
      for (const file of kept.files) files.push(file)
      manifest.repos.push({ ...repo, ...kept.entry })
    } catch (error) {
      tool.signal.throwIfAborted()
      manifest.repos.push({ ...repo, status: 'gather_failed', reason: whyOf(error) })
    }
  }
  const room = SNAPSHOT_FILES_MAX - 1 - files.length
  for (const [at, path] of declared.files.entries()) {
    const file = { path, relative: below(workspace, path) }
    const size = await sizeOf(path)
    if (size === null) manifest.files.push({ ...file, status: 'read_failed', reason: 'it is no file that can be read' })
    else if (size > SNAPSHOT_FILE_BYTES_MAX) manifest.files.push({ ...file, status: 'skipped', reason: tooLarge(size) })
    else if (at >= room)
      manifest.files.push({ ...file, status: 'skipped', reason: `at most ${SNAPSHOT_FILES_MAX} files are kept` })
    else {
      const name = `file-${at + 1}-${basename(path)
        .replace(/[\\\p{Cc}]/gu, '_')
        .slice(-200)}`
      files.push({ name, path, mime_type: 'application/octet-stream' })
      manifest.files.push({ ...file, status: 'uploaded', name })
    }
  }
  return { manifest, files }
}

type RepoEntry = Omit<Manifest['repos'][number], 'path' | 'relative'>

type GatheredRepo = { entry: RepoEntry; files: Gathered['files'] }
type From = { base: string | null; stem: string }

/** How often a repository is read in which commits are made meanwhile. */
const READS_MAX = 5

/** Its commits and its patch are of one commit: a patch on a commit that is not kept is worth nothing. */
async function gatherRepo(tool: Git, path: string, from: From): Promise<GatheredRepo> {
  for (let reads = 0; reads < READS_MAX; reads++) {
    const gathered = await readRepo(tool, path, from)
    const { head, branch } = await lookAt(tool, path, 'no')
    if (head === gathered.entry.head && branch === gathered.entry.branch) return gathered
  }
  throw new Error('it got commits all the time while it was read')
}

/** Where it stands, and whether anything is not committed, with (`normal`) or without (`no`) what git knows not. */
async function lookAt(tool: Git, path: string, untracked: 'no' | 'normal') {
  const status = await git(tool, path, ['status', '--porcelain=v2', '--branch', `--untracked-files=${untracked}`])
  const head = /^# branch\.oid ([0-9a-f]+)$/m.exec(status)?.[1]
  const named = /^# branch\.head (.+)$/m.exec(status)?.[1] ?? null
  const branch = named === '(detached)' ? null : named
  return { head, branch, changed: status.split('\n').some((line) => line !== '' && !line.startsWith('#')) }
}

async function readRepo(tool: Git, path: string, { base, stem }: From): Promise<GatheredRepo> {
  const { head, branch, changed } = await lookAt(tool, path, 'normal')
  const where = { ...(head === undefined ? {} : { head }), branch }
  if (!changed && head !== undefined && head === base) return { entry: { ...where, status: 'clean' }, files: [] }
  const files: Gathered['files'] = []
  const entry: RepoEntry = { ...where, status: 'uploaded' }
  if (head !== undefined && head !== base && (await isOwn(tool, path, head))) {
    const bundle = `${stem}.bundle`
    await git(tool, path, ['bundle', 'create', '--quiet', bundle, 'HEAD', '--not', '--remotes'])
    await checkSize(bundle)
    files.push({ name: basename(bundle), path: bundle, mime_type: 'application/octet-stream' })
    entry.bundle = basename(bundle)
  }
  if (changed) {
    const patch = `${stem}.patch`
    await writePatch(tool, path, { patch, index: `${stem}.index`, head })
    await checkSize(patch)
    files.push({ name: basename(patch), path: patch, mime_type: 'text/x-patch' })
    entry.patch = basename(patch)
  }
  return { entry, files }
}

/** It has commits that no remote branch has. */
const isOwn = async (tool: Git, path: string, head: string): Promise<boolean> =>
  (await git(tool, path, ['rev-list', '--max-count=1', head, '--not', '--remotes'])).trim() !== ''

/** With what git does not know of yet, through an index of our own: the agent's is as it was. */
async function writePatch(
  tool: Git,
  path: string,
  { patch, index, head }: { patch: string; index: string; head: string | undefined },
): Promise<void> {
  const own = (await git(tool, path, ['rev-parse', '--path-format=absolute', '--git-path', 'index'])).trim()
  await copyFile(own, index).catch(() => {})
  const variables = { GIT_INDEX_FILE: index }
  await git(tool, path, ['add', '--all', '--', '.'], variables)
  const plain = ['--binary', '--full-index', '--no-ext-diff', '--no-textconv', '--no-color', '--no-renames']
  await git(tool, path, ['diff', '--cached', ...plain, `--output=${patch}`, head ?? EMPTY_TREE, '--'], variables)
}

/** The name that git gives a tree without files. */
const EMPTY_TREE = '4b825dc642cb6eb9a060e54bf8d69288fbee4904'

async function checkSize(path: string): Promise<void> {
  const size = (await sizeOf(path)) ?? 0
  if (size > SNAPSHOT_FILE_BYTES_MAX) throw new Error(tooLarge(size))
}

const tooLarge = (size: number): string =>
  `it has ${megabytes(size)}, and ${megabytes(SNAPSHOT_FILE_BYTES_MAX)} are kept`

async function sizeOf(path: string): Promise<number | null> {
  const found = await stat(path).catch(() => null)
  return found?.isFile() ? found.size : null
}

/** Null: it lies elsewhere. */
export function below(workspace: string, path: string): string | null {
  const way = relative(workspace, path)
  return way === '..' || way.startsWith('../') || way.startsWith('/') ? null : way
}
