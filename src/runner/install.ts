/**
 * Fetching harnesses into the user's cache folder, never into Baton's own dependencies, and looking at what is there.
 *
 * An installation is made beside its place and moved there when it is whole, so that one that was interrupted is never
 * taken for one. A note of what was fetched makes repeating it free.
 */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { type Harness, HarnessFailure, type HarnessStart } from './harnesses/harness.ts'
import { hasLogin, onPath, type Profile } from './harnesses/profile.ts'
import { locate, readConfigured } from './harnesses/registry.ts'

const VERSION_MS = 15_000
const NOTE = 'baton-installed.json'
const LAST_LINES = 8
/** npm is given this long between SIGTERM and SIGKILL, in milliseconds. */
const STOP_GRACE_MS = 2000

export type InstallOptions = {
  signal: AbortSignal
  onProgress: (line: string) => void
  env: Record<string, string | undefined>
  /** Fetch even what is there. */
  again?: boolean
}

/** Answers the folder. Throws a `HarnessFailure` that says what to do. */
export async function installHarness(profile: Profile, cache_dir: string, options: InstallOptions): Promise<string> {
  const folder = join(cache_dir, profile.name)
  if (profile.packages.length === 0) {
    options.onProgress(`${profile.title} is part of Baton; there is nothing to fetch.`)
    return folder
  }
  if (options.again !== true && (await isInstalled(profile, folder))) {
    options.onProgress(`${profile.title} is already in ${folder}.`)
    return folder
  }
  const npm = onPath('npm', strings(options.env)) ?? onPath('npm', { PATH: dirname(process.execPath) })
  if (npm === null)
    throw failure(`npm is needed to fetch ${profile.title}, and there is none on PATH. Install Node.js with npm.`)
  await mkdir(cache_dir, { recursive: true })
  const fresh = await mkdtemp(join(cache_dir, `.${profile.name}-`))
  try {
    options.onProgress(`Fetching ${profile.packages.join(', ')} with npm; this may take a minute.`)
    await writeFile(join(fresh, 'package.json'), '{"private":true}\n')
    await runNpm(npm, profile, fresh, options)
    await writeFile(join(fresh, NOTE), JSON.stringify({ packages: profile.packages }))
    await rm(folder, { recursive: true, force: true })
    await rename(fresh, folder)
  } catch (error) {
    await rm(fresh, { recursive: true, force: true })
    throw error
  }
  options.onProgress(`${profile.title} is in ${folder}.`)
  return folder
}

export type HarnessState = {
  name: string
  title: string
  /** The program, where there is one. */
  path: string | null
  version: string | null
  login: boolean
  /** What keeps it from starting, as sentences; empty when nothing does. */
  missing: string[]
}

/** What `baton harness list` tells: cheap, and nothing is started but `--version` where a program is there. */
export async function probeHarness(
  profile: Profile,
  env: Record<string, string | undefined>,
  cache_dir: string | null,
  signal: AbortSignal,
): Promise<HarnessState> {
  const known = cache_dir === null ? env : { ...env, BATON_HARNESS_CACHE: cache_dir }
  const found = locate(profile, known, readConfigured(env))
  const login = hasLogin(profile, strings(env))
  const missing: string[] = []
  if (found === null)
    missing.push(
      profile.packages.length === 0
        ? `There is no ${profile.command}.`
        : `Run \`baton harness install ${profile.name}\`.`,
    )
  if (!login) missing.push(profile.login.how)
  const version =
    found === null ? null : await versionOf(profile, found.found, { cache_dir, env: strings(env), signal })
  return { name: profile.name, title: profile.title, path: found?.found ?? null, version, login, missing }
}

/** Opens a session and closes it: what `baton harness test` does. Costs no model call. Throws what `open` throws. */
export async function testHarness(
  harness: Harness,
  { env, model_id, signal }: { env: Record<string, string>; model_id?: string | undefined; signal: AbortSignal },
): Promise<{ session_id: string | null; ms: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'baton-harness-'))
  const started = performance.now()
  try {
    const workspace = join(folder, 'workspace')
    const home = join(folder, 'home')
    await mkdir(workspace)
    await mkdir(home, { mode: 0o700 })
    const config = { harness: { type: harness.name }, ...(model_id === undefined ? {} : { model_id }) }
    const start: HarnessStart = {
      assignment: { ...bareAssignment(harness.name), config },
      config,
      workspace,
      home,
      env,
      mcp: [],
      permissions: 'deny',
      sink: { entry: () => {}, delta: () => {}, usage: () => {} },
      signal,
    }
    const open = await harness.open(start)
    await open.close()
    return { session_id: open.session_id, ms: Math.round(performance.now() - started) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const bareAssignment = (harness: string): HarnessStart['assignment'] => ({
  run_id: NOBODY,
  execution_id: NOBODY,
  number: 1,
  team_id: NOBODY,
  title: 'Harness test',
  prompt: '',
  config: { harness: { type: harness } },
  parent_run_id: null,
  conversation_id: NOBODY,
  limits: LIMITS,
  entries_held: 0,
  resume: null,
  cause: 'start',
  placement: 'worker',
  guidance: null,
  context: null,
})
const LIMITS: HarnessStart['assignment']['limits'] = {
  lease_ms: 0,
  heartbeat_ms: 0,
  cancel_grace_ms: 2000,
  transcript_bytes_max: 1_000_000,
  tool_output_bytes_max: 100_000,
  setup_command_ms: 0,
  clone_ms: 0,
}
const NOBODY = '00000000-0000-0000-0000-000000000000'

const Note = z.object({ packages: z.array(z.string()) })

async function isInstalled(profile: Profile, folder: string): Promise<boolean> {
  try {
    const note = Note.parse(JSON.parse(await readFile(join(folder, NOTE), 'utf8')))
    return profile.packages.every((name) => note.packages.includes(name))
  } catch {
    return false
  }
}

function runNpm(
  npm: string,
  profile: Profile,
  folder: string,
  { signal, onProgress, env }: InstallOptions,
): Promise<void> {
  const args = ['install', '--no-audit', '--no-fund', '--no-progress', '--prefix', folder, '--', ...profile.packages]
  return new Promise((resolve, reject) => {
    const child = spawn(npm, args, { cwd: folder, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    const last: string[] = []
    let offline = false
    const stop = () => {
      endGroup(child.pid, 'SIGTERM')
      setTimeout(() => endGroup(child.pid, 'SIGKILL'), STOP_GRACE_MS).unref()
    }
    signal.addEventListener('abort', stop, { once: true })
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        for (const line of text.split('\n').filter((l) => l.trim() !== '')) {
          last.push(line)
          // npm says it early, above more lines than are kept.
          offline ||= OFFLINE.test(line)
          if (last.length > LAST_LINES) last.shift()
          onProgress(line)
        }
      })
    }
    child.once('error', (error) => reject(failure(`npm could not be started: ${error.message}`)))
    child.once('close', (code) => {
      signal.removeEventListener('abort', stop)
      if (signal.aborted) reject(failure(`Fetching ${profile.title} was stopped.`))
      else if (code === 0) resolve()
      else reject(failure(npmFailure(profile, code, last.join('\n'), offline)))
    })
  })
}

const OFFLINE = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ENOTCACHED/

function npmFailure(profile: Profile, code: number | null, last: string, offline: boolean): string {
  const why = offline
    ? 'The npm registry cannot be reached from here. Connect to the network, or point npm at a mirror with `npm config set registry URL`.'
    : `npm exited with ${code}. Its last lines were:\n${last}`
  return `${profile.title} could not be fetched. ${why}`
}

function endGroup(group: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (group !== undefined) process.kill(-group, signal)
  } catch {
    // It has ended already.
  }
}

const Package = z.looseObject({ version: z.string() })

/** A fetched copy states its version in its package; another program is asked. */
async function versionOf(
  profile: Profile,
  path: string,
  { cache_dir, ...means }: Means & { cache_dir: string | null },
): Promise<string | null> {
  const [spec] = profile.packages
  if (spec === undefined) return null
  if (cache_dir !== null && path.startsWith(join(cache_dir, profile.name))) {
    const file = join(cache_dir, profile.name, 'node_modules', spec.slice(0, spec.lastIndexOf('@')), 'package.json')
    const parsed = Package.safeParse(
      await readFile(file, 'utf8')
        .then(JSON.parse)
        .catch(() => null),
    )
    if (parsed.success) return parsed.data.version
  }
  return askVersion(path, means)
}

type Means = { env: Record<string, string>; signal: AbortSignal }

/** Null: it cannot be started, does not end in time, or says no version. */
function askVersion(path: string, { env, signal }: Means): Promise<string | null> {
  return new Promise((resolve) => {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(VERSION_MS)])
    const child = spawn(path, ['--version'], {
      env,
      stdio: ['ignore', 'pipe', 'ignore'],
      signal: limit,
      killSignal: 'SIGKILL',
    })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      text = (text + part).slice(0, 1000)
    })
    child.once('error', () => resolve(null))
    child.once('close', (code) => resolve(code === 0 ? (/\d+\.\d+\.\d+\S*/.exec(text)?.[0] ?? null) : null))
  })
}

const strings = (env: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined))

const failure = (message: string) =>
  new HarnessFailure({ error_code: 'operation_not_supported', retryable: false, reason: 'harness_install', message })
