/**
 * Puts back what an earlier execution has left of its workspace, before the agent is given its prompt. Every file of
 * the snapshot lies at `{attachments_dir}/handoff/{attachment_id}`; what the manifest knows is put where it was. What
 * cannot be put back is told to the agent, with where it lies, and the run goes on.
 */
import { copyFile, lstat, mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SNAPSHOT_FILE_BYTES_MAX, SNAPSHOT_MANIFEST, SnapshotManifest } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { fetchFile } from './carry-files.ts'
import type { Client } from './client.ts'
import { isPlainPath } from './clone.ts'
import { type Git, git } from './git.ts'
import type { Transcript } from './transcript.ts'

/** All of it together, in milliseconds. */
const RESTORE_MS = 10 * 60_000

export type RestoreOptions = {
  client: Client
  run_id: string
  workspace: string
  /** Of attachments; absolute. */
  folder: string
  git: Git
  transcript: Transcript
}

/** `told`: what the agent must know; empty: there was nothing to put back. */
export type Restored = { restored: boolean; told: string }

type Here = Map<string, { path: string; filename: string }>

export async function restore(options: RestoreOptions): Promise<Restored> {
  const { transcript, git: tool } = options
  const signal = AbortSignal.any([tool.signal, AbortSignal.timeout(RESTORE_MS)])
  try {
    return await restoreNow({ ...options, git: { ...tool, signal } })
  } catch (error) {
    tool.signal.throwIfAborted()
    const message = `What your last session left in the workspace could not be put back: ${whyOf(error)}.`
    transcript.system('warning', 'not_restored', message)
    return { restored: false, told: `${message} The workspace is as it was at the very beginning.` }
  }
}

async function restoreNow(options: RestoreOptions): Promise<Restored> {
  const { client, run_id, folder, transcript, git: tool } = options
  const { attachments } = await client.handoff.attachments({ params: { run_id }, signal: tool.signal })
  if (attachments.length === 0) return { restored: false, told: '' }
  const here: Here = new Map()
  for (const { attachment_id, filename, download_url } of attachments) {
    const path = join(folder, 'handoff', attachment_id)
    const bytes_max = SNAPSHOT_FILE_BYTES_MAX
    await fetchFile({ url: download_url, path, bytes_max, signal: tool.signal })
    here.set(filename, { path, filename })
  }
  const manifest = await readManifest(here)
  const lines = manifest === null ? listed(here) : await putBack(options, manifest, here)
  const said = lines.length === 0 ? '' : ['Of what was left in the workspace for you:', ...lines].join('\n')
  const since = sinceCheckpoint(manifest)
  transcript.system(
    lines.length === 0 ? 'info' : 'warning',
    'restored',
    [said || 'The workspace is as the last execution left it.', since].filter(Boolean).join('\n'),
  )
  return {
    restored: true,
    told: [said || (since ? '' : 'Your workspace is as you left it.'), since].filter(Boolean).join('\n'),
  }
}

/** Who was interrupted does not find the files of the last minutes, and must not believe to. */
function sinceCheckpoint(manifest: SnapshotManifest | null): string {
  const { checkpoint, taken_at } = manifest ?? {}
  if (checkpoint === undefined) return ''
  const half = checkpoint === 'in_an_action' ? ' Something was under way then: look for what is half-written.' : ''
  return `The workspace is as it was at ${taken_at ?? 'an earlier time'}; what was changed after that is lost.${half}`
}

/** Null: there is none, or not one of ours. */
async function readManifest(here: Here): Promise<SnapshotManifest | null> {
  const found = here.get(SNAPSHOT_MANIFEST)
  if (found === undefined) return null
  try {
    return SnapshotManifest.parse(JSON.parse(await readFile(found.path, 'utf8')))
  } catch {
    return null
  }
}

const listed = (here: Here): string[] => [...here.values()].map(({ path, filename }) => `- ${filename} is at ${path}.`)

/** Answers a line for each that is not where it was. */
async function putBack(options: RestoreOptions, manifest: SnapshotManifest, here: Here): Promise<string[]> {
  const lines: string[] = []
  for (const repo of manifest.repos) {
    if (repo.status === 'clean') continue
    try {
      if (repo.status !== 'uploaded') throw new Error(repo.reason ?? 'it was not kept')
      await putRepo(options, repo, here)
    } catch (error) {
      options.git.signal.throwIfAborted()
      const parts = [repo.bundle, repo.patch].flatMap((name) => here.get(name ?? '')?.path ?? [])
      const where = parts.length === 0 ? '' : ` What there is of it is at ${parts.join(' and ')}.`
      lines.push(`- The repository ${repo.relative ?? repo.path} is not as it was: ${whyOf(error)}.${where}`)
    }
  }
  for (const { path, relative, status, name, reason } of manifest.files) {
    const kept = here.get(name ?? '')?.path
    try {
      if (status !== 'uploaded' || kept === undefined) throw new Error(reason ?? 'it was not kept')
      if (relative == null || !isPlainPath(relative)) {
        lines.push(`- The file ${path} is at ${kept}.`)
        continue
      }
      const target = join(options.workspace, relative)
      await checkWay(options.workspace, dirname(relative))
      await mkdir(dirname(target), { recursive: true })
      await copyFile(kept, target)
    } catch (error) {
      lines.push(`- The file ${relative ?? path} is not there: ${whyOf(error)}.`)
    }
  }
  return lines
}

/** At the commit and on the branch where it stood, with what was not committed. */
async function putRepo(
  { workspace, git: tool }: RestoreOptions,
  { relative, head, branch, bundle, patch }: SnapshotManifest['repos'][number],
  here: Here,
): Promise<void> {
  if (relative == null || (relative !== '' && !isPlainPath(relative)))
    throw new Error('it lay outside of the workspace')
  const path = join(workspace, relative)
  if ((await lstat(join(path, '.git')).catch(() => null)) === null) throw new Error('it was not cloned this time')
  const held = (name: string | undefined) => {
    const file = name === undefined ? undefined : here.get(name)
    if (name !== undefined && file === undefined) throw new Error(`${name} is missing`)
    return file?.path
  }
  const commits = held(bundle)
  const changes = held(patch)
  if (commits !== undefined)
    await git(tool, path, ['-c', 'protocol.file.allow=always', 'fetch', '--quiet', '--no-tags', commits, 'HEAD'])
  if (head !== undefined) await standAt(tool, path, { head, branch: branch ?? null })
  if (changes === undefined) return
  const apply = ['apply', '--whitespace=nowarn']
  await git(tool, path, [...apply, changes]).catch(() => git(tool, path, [...apply, '--3way', changes]))
}

async function standAt(tool: Git, path: string, { head, branch }: { head: string; branch: string | null }) {
  if (!/^[0-9a-f]{40,64}$/.test(head)) throw new Error('its commit has no name of git')
  const there = await git(tool, path, ['cat-file', '-e', `${head}^{commit}`]).then(
    () => true,
    () => false,
  )
  if (!there) await git(tool, path, ['fetch', '--quiet', '--no-tags', 'origin', head])
  const is_ref = branch !== null && (await isBranch(tool, path, branch))
  await git(
    tool,
    path,
    is_ref ? ['checkout', '--quiet', '-B', branch, head] : ['checkout', '--quiet', '--detach', head],
  )
}

const isBranch = (tool: Git, path: string, branch: string): Promise<boolean> =>
  git(tool, path, ['check-ref-format', '--branch', branch]).then(
    () => true,
    () => false,
  )

/** What was put back before may have made a symlink. */
async function checkWay(workspace: string, folder: string): Promise<void> {
  const parts = folder === '.' ? [] : folder.split('/')
  for (let to = 1; to <= parts.length; to++) {
    const stat = await lstat(join(workspace, ...parts.slice(0, to))).catch(() => null)
    if (stat !== null && !stat.isDirectory()) throw new Error(`${parts.slice(0, to).join('/')} is no folder`)
  }
}
