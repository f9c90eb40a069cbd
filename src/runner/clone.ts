/**
 * Clones the environment's repositories with the machine's own git, which is told to run nothing that a repository
 * brings: no hooks, no submodules, no file system monitor, no transport but https and ssh, and no question to a person.
 */
import { lstat, mkdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { addressKind, isRef, ownerAndName, type Repository, withoutSecret } from '../contract/index.ts'
import { duration, SetupFailure } from './failures.ts'
import { secretsOfUrl } from './redact.ts'
import type { CommandEnd, Groups } from './spawn.ts'
import type { Transcript } from './transcript.ts'

/** Between two progress entries of one clone, in milliseconds. */
const PROGRESS_MS = 3000
const LAST_LINES = 8

export type CloneOptions = {
  workspace: string
  repositories: Repository[]
  env: Record<string, string>
  /** Whether paths of this machine may be cloned. */
  local_allowed: boolean
  /** Clone again over what an earlier, killed runner of this execution left. */
  replace: boolean
  clone_ms: number
  groups: Groups
  transcript: Transcript
  signal: AbortSignal
}

/** A repository that has been checked: safe to give to git. */
export type Checkout = { url: string; shown_url: string; ref: string | undefined; directory: string; local: boolean }

/** Clones all, in order; answers the folder that the harness works in. Throws `SetupFailure`. */
export async function cloneAll(options: CloneOptions): Promise<string> {
  const checkouts = checkRepositories(options.repositories, options.local_allowed)
  for (const checkout of checkouts) await cloneOne(options, checkout)
  const [only, ...others] = checkouts
  return only !== undefined && others.length === 0 ? join(options.workspace, only.directory) : options.workspace
}

/** Refuses by a sentence what git must never see. */
export function checkRepositories(repositories: Repository[], local_allowed: boolean): Checkout[] {
  const checkouts = repositories.map((repository) => {
    const { url, ref } = repository
    const local = checkUrl(url, local_allowed)
    if (ref !== undefined && !isRef(ref))
      throw new SetupFailure(
        `"${ref}" is not a branch, tag or commit of git. Correct the ref of ${withoutSecret(url)}.`,
        'clone',
      )
    const directory = repository.directory ?? ownerAndName(url).name
    if (!isPlainPath(directory)) {
      throw new SetupFailure(
        `"${directory}" cannot be the folder of a repository. Give a relative path in the workspace, like "src/app".`,
        'clone',
      )
    }
    return { url, shown_url: withoutSecret(url), ref, directory, local }
  })
  for (const [at, { directory }] of checkouts.entries()) {
    const taken = checkouts.findIndex(
      (other, before) =>
        before < at &&
        (`${directory}/`.startsWith(`${other.directory}/`) || other.directory.startsWith(`${directory}/`)),
    )
    if (taken >= 0)
      throw new SetupFailure(
        `Two repositories want the folder "${directory}". Give one of them another "directory".`,
        'clone',
      )
  }
  return checkouts
}

function checkUrl(url: string, local_allowed: boolean): boolean {
  const shown = withoutSecret(url)
  const kind = addressKind(url)
  if (kind === null) {
    throw new SetupFailure(
      `"${shown}" is not the address of a git repository. Use https://host/path, ssh://host/path or git@host:path.`,
      'clone',
    )
  }
  if (kind === 'local' && !local_allowed) {
    throw new SetupFailure(
      `${shown} is a path of the worker's own disk, which this worker does not allow. ` +
        'Give an https or ssh address, or start the worker with BATON_ALLOW_LOCAL_REPOSITORIES=1.',
      'clone',
    )
  }
  return kind === 'local'
}

/** Relative, below its folder, made of plain names; never git's or Baton's own folder. */
export function isPlainPath(path: string): boolean {
  return path
    .split('/')
    .every(
      (part) =>
        part !== '' &&
        part !== '.' &&
        part !== '..' &&
        !part.startsWith('-') &&
        !/[\p{Cc}\\:]/u.test(part) &&
        !/^\.(git|baton)$/i.test(part),
    )
}

async function cloneOne(options: CloneOptions, checkout: Checkout): Promise<void> {
  const { transcript } = options
  const target = join(options.workspace, checkout.directory)
  const started = performance.now()
  await makeRoom(target, options.replace)
  transcript.system(
    'info',
    'cloning',
    `Cloning ${checkout.shown_url}${checkout.ref === undefined ? '' : ` at ${checkout.ref}`}.`,
  )
  const commit = /^[0-9a-f]{7,64}$/.test(checkout.ref ?? '') ? checkout.ref : undefined
  const branch = checkout.ref !== undefined && commit === undefined ? ['--branch', checkout.ref] : []
  const local = checkout.local ? ['--no-hardlinks'] : []
  await git(options, checkout, options.workspace, [
    'clone',
    '--progress',
    '--no-recurse-submodules',
    '--origin',
    'origin',
    ...local,
    ...branch,
    ...(commit === undefined ? [] : ['--no-checkout']),
    '--',
    checkout.url,
    target,
  ])
  if (commit !== undefined) await checkOutCommit(options, checkout, target, commit)
  transcript.system(
    'info',
    'cloned',
    `Cloned ${checkout.shown_url} into ${checkout.directory} in ${duration(performance.now() - started)}.`,
  )
}

/** A commit that no branch or tag reaches is not in the clone; many servers give it when asked by its full name. */
async function checkOutCommit(
  options: CloneOptions,
  checkout: Checkout,
  target: string,
  commit: string,
): Promise<void> {
  const here = await gitEnd(options, target, ['checkout', '--quiet', commit, '--'])
  if (here.end.end === 'exited' && here.end.code === 0) return
  if (commit.length >= 40) await git(options, checkout, target, ['fetch', '--no-recurse-submodules', 'origin', commit])
  await git(options, checkout, target, ['checkout', '--quiet', commit, '--'])
}

async function makeRoom(target: string, replace: boolean): Promise<void> {
  const there = await lstat(target).catch(() => null)
  if (there !== null && replace) await rm(target, { recursive: true, force: true })
  else if (there !== null)
    throw new SetupFailure(
      `The folder ${target} is there already. Move it away, or give the repository another "directory".`,
      'clone',
    )
  await mkdir(dirname(target), { recursive: true })
}

async function git(options: CloneOptions, checkout: Checkout, cwd: string, args: string[]): Promise<void> {
  const { end, lines } = await gitEnd(options, cwd, args)
  if (end.end === 'exited' && end.code === 0) return
  const secrets = secretsOfUrl(checkout.url)
  const said = secrets.reduce(
    (text, secret) => (secret === '' ? text : text.replaceAll(secret, '•••')),
    lines.join('\n'),
  )
  throw cloneFailure(checkout, end, said, options.clone_ms)
}

async function gitEnd(
  options: CloneOptions,
  cwd: string,
  args: string[],
): Promise<{ end: CommandEnd; lines: string[] }> {
  const lines: string[] = []
  let rest = ''
  let progress_at = performance.now() + PROGRESS_MS
  const end = await options.groups.run({
    file: 'git',
    args: [...SAFE_CONFIG, ...(options.local_allowed ? ['-c', 'protocol.file.allow=always'] : []), ...args],
    cwd,
    env: gitEnvironment(options.env),
    limit_ms: options.clone_ms,
    signal: options.signal,
    onOutput(_stream, text) {
      const parts = (rest + text).split(/[\r\n]+/)
      rest = (parts.pop() ?? '').slice(-4096)
      for (const part of parts) {
        const percent = /^(remote: )?[A-Z][\w ]+: +\d+% /.test(part)
        if (percent && performance.now() >= progress_at) {
          progress_at = performance.now() + PROGRESS_MS
          options.transcript.system('info', 'cloning', part.trim())
        } else if (!percent && part.trim() !== '') lines.push(part.trimEnd())
      }
      lines.splice(0, lines.length - LAST_LINES)
    },
  })
  if (rest.trim() !== '') lines.push(rest.trim())
  return { end, lines: lines.slice(-LAST_LINES) }
}

export const SAFE_CONFIG = [
  'protocol.allow=never',
  'protocol.https.allow=always',
  'protocol.ssh.allow=always',
  'core.hooksPath=/dev/null',
  'core.fsmonitor=false',
  'core.askPass=',
  'submodule.recurse=false',
  'advice.detachedHead=false',
  'transfer.bundleURI=false',
].flatMap((setting) => ['-c', setting])

const GIT_PASSED = [
  /^(PATH|HOME|USER|LOGNAME|TMPDIR|LANG|LC_.*|SSH_AUTH_SOCK|XDG_CONFIG_HOME|BATON_EXECUTION_ID)$/,
  /^(GIT_SSL_CAINFO|SSL_CERT_(FILE|DIR)|(https?|all|no)_proxy)$/i,
]

export function gitEnvironment(env: Record<string, string>): Record<string, string> {
  const passed = Object.entries(env).filter(([name]) => GIT_PASSED.some((known) => known.test(name)))
  return {
    ...Object.fromEntries(passed),
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '',
    SSH_ASKPASS: '',
    GIT_LFS_SKIP_SMUDGE: '1',
    LC_ALL: 'C',
    GIT_SSH_COMMAND: env.GIT_SSH_COMMAND ?? 'ssh -o BatchMode=yes -o ConnectTimeout=20',
  }
}

function cloneFailure(checkout: Checkout, end: CommandEnd, said: string, clone_ms: number): SetupFailure {
  const what = `Cloning ${checkout.shown_url}`
  if (end.end === 'timed_out')
    return new SetupFailure(`${what} took longer than ${duration(clone_ms)} and was stopped.\n${said}`, 'clone', true)
  if (end.end === 'stopped') return new SetupFailure(`${what} was stopped.`, 'clone')
  if (end.end === 'not_started') {
    return new SetupFailure(
      /ENOENT/.test(end.message)
        ? `${what} needs git, which this machine does not have. Install git where the worker runs.`
        : `${what} failed: git could not be started (${end.message}).`,
      'clone',
    )
  }
  const how = end.end === 'exited' ? `git exited with ${end.code}` : `git was ended by ${end.by}`
  const known = KNOWN_TROUBLE.find(({ says }) => says.test(said))
  return new SetupFailure(
    `${what} failed (${how}). ${known?.advice(checkout) ?? 'Git said:'}\n${said}`,
    known?.reason ?? 'clone',
    known?.retryable ?? false,
  )
}

type Trouble = { says: RegExp; advice: (checkout: Checkout) => string; retryable?: boolean; reason?: string }

const KNOWN_TROUBLE: Trouble[] = [
  {
    says: /No space left on device|Disk quota exceeded/,
    reason: 'disk_full',
    advice: () => 'The disk of the sandbox is full: free space there, then retry.',
  },
  {
    says: /Remote branch .* not found|did not match any|not our ref|remote ref|invalid reference|(not a|read) tree/i,
    advice: ({ ref }) => `There is no branch, tag or commit "${ref}" there: correct the ref.`,
  },
  {
    says: /could not read (Username|Password)|Authentication failed|Permission denied|prompts disabled|error: 40[13]/i,
    advice: () =>
      'The repository asks for a login: check the address, and give the worker access to it, ' +
      'such as an ssh key or a git credential helper of its user.',
  },
  {
    says: /Host key verification failed/,
    advice: () => "The host's ssh key is not known to the worker: add it to known_hosts of its user.",
  },
  {
    says: /Could not resolve host(name)?/i,
    advice: () => 'The host name cannot be found: check the address, and the network of the worker.',
  },
  {
    says: /dubious ownership/,
    advice: () =>
      'The repository belongs to another user of this machine: ' +
      "run the worker as its owner, or list it under git's safe.directory.",
  },
  {
    says: /not found|does not exist|does not appear to be a git repository|error: 404/i,
    advice: () => 'There is no repository at this address, or the worker may not see it: check the address.',
  },
  {
    says: /timed out|Connection (reset|refused)|early EOF|RPC failed|hung up unexpectedly|error: 5\d\d/i,
    retryable: true,
    advice: () => 'The host did not answer well.',
  },
]
