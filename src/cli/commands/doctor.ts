import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, readFile, statfs } from 'node:fs/promises'
import { createServer } from 'node:net'
import { delimiter, dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Command } from 'commander'
import { whyOf } from '../../contract/why.ts'
import { connect } from '../../sdk/client.ts'
import { type BlobPlace, findBlobs, nameOfBlobs, openBlobs } from '../blob-place.ts'
import type { Context, Given } from '../context.ts'
import { CommandFailure, EXIT } from '../exits.ts'
import { openLog } from '../house.ts'
import { paint } from '../output.ts'
import { cacheFolder, DEFAULT_PORT, dataFolder } from '../settings.ts'
import { alignColumns, bytes } from '../text.ts'

type Verdict = 'ok' | 'warn' | 'fail'
type Check = { check: string; verdict: Verdict; found: string; advice?: string }

const DISK_WARN_BYTES = 2 * 1024 ** 3
const DISK_FAIL_BYTES = 200 * 1024 ** 2
const ASK_MS = 3000
const MODEL_VARIABLES = [
  'ANTHROPIC_API_KEY',
  'OPENAI_API_KEY',
  'GEMINI_API_KEY',
  'GOOGLE_GENERATIVE_AI_API_KEY',
  'BATON_MODEL_BASE_URL',
]

export function declare(command: Command): void {
  command
    .option('--data-dir <dir>', 'the data folder to look at (default: $XDG_DATA_HOME/baton)')
    .option('--port <n>', 'the port to look at', String(DEFAULT_PORT))
    .addHelpText('after', '\nThe exit code is 1 when something fails that "baton up" needs, and 0 otherwise.')
}

export async function run(context: Context, given: Given): Promise<number> {
  const { out } = context
  const { dataDir, port } = given.options
  const data_dir = typeof dataDir === 'string' ? resolve(context.cwd, dataDir) : dataFolder(context.env)
  const progress = out.progress('Looking around')
  const checks = (
    await Promise.all([
      node(),
      git(context),
      postgres(context),
      folder(data_dir),
      disk(data_dir),
      blobs(context, data_dir),
      server(context, Number(port)),
      sandboxes(context),
      cgroups(),
      models(context),
      harnesses(context),
    ]).finally(() => progress.done())
  ).flat()
  const signs = { ok: paint.green('ok'), warn: paint.yellow('warn'), fail: paint.red('fail') }
  await out.show(
    checks,
    () =>
      alignColumns(
        checks.map((c) => [signs[c.verdict], c.check, c.advice === undefined ? c.found : `${c.found}. ${c.advice}`]),
      ),
    () => checks,
  )
  return checks.some((c) => c.verdict === 'fail') ? EXIT.failed : EXIT.ok
}

async function node(): Promise<Check> {
  return { check: 'node', verdict: 'ok', found: `${process.versions.node} at ${process.execPath}` }
}

const execute = promisify(execFile)

async function git(context: Context): Promise<Check> {
  const found = await execute('git', ['--version'], { signal: context.signal }).then(
    ({ stdout }) => stdout.trim(),
    () => null,
  )
  if (found === null)
    return {
      check: 'git',
      verdict: 'fail',
      found: 'missing',
      advice: 'Install it: apt-get install git, or xcode-select --install',
    }
  return { check: 'git', verdict: 'ok', found }
}

async function postgres(context: Context): Promise<Check> {
  if (context.env.DATABASE_URL)
    return { check: 'postgres', verdict: 'ok', found: 'DATABASE_URL is set; "baton serve" uses it' }
  const [{ findBinaries }, { postgresUser }] = await Promise.all([
    import('../../db/binaries.ts'),
    import('../../db/postgres-user.ts'),
  ])
  try {
    await findBinaries(await postgresUser(), {
      fallback_dir: cacheFolder(context.env),
      cache_dir: cacheFolder(context.env),
    })
    return { check: 'postgres', verdict: 'ok', found: 'the embedded PostgreSQL is there' }
  } catch (error) {
    return {
      check: 'postgres',
      verdict: 'fail',
      found: error instanceof Error ? error.message.replace(/\.$/, '') : 'missing',
      advice: 'Or set DATABASE_URL to one of your own',
    }
  }
}

async function folder(data_dir: string): Promise<Check> {
  try {
    await access(await existing(data_dir), constants.W_OK)
    return { check: 'data folder', verdict: 'ok', found: data_dir }
  } catch {
    return {
      check: 'data folder',
      verdict: 'fail',
      found: `${data_dir} cannot be written`,
      advice: 'Choose another with --data-dir',
    }
  }
}

async function disk(data_dir: string): Promise<Check> {
  const { bavail, bsize } = await statfs(await existing(data_dir))
  const free = bavail * bsize
  const found = `${bytes(free)} free at ${data_dir}`
  if (free < DISK_FAIL_BYTES) return { check: 'disk', verdict: 'fail', found, advice: 'Make room' }
  return free < DISK_WARN_BYTES
    ? { check: 'disk', verdict: 'warn', found, advice: 'Runs need room for their workspaces' }
    : { check: 'disk', verdict: 'ok', found }
}

/** The folder, or the nearest one above it that exists. */
async function existing(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    if (
      await access(at).then(
        () => true,
        () => false,
      )
    )
      return at
    if (dirname(at) === at) return at
  }
}

/** A folder is looked at with the data folder. */
async function blobs(context: Context, data_dir: string): Promise<Check[]> {
  const check = 'blobs'
  let place: BlobPlace
  try {
    place = findBlobs({ env: context.env, cwd: context.cwd, data_dir })
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error
    return [
      { check, verdict: 'fail', found: error.message.replace(/\.$/, ''), ...(error.hint && { advice: error.hint }) },
    ]
  }
  if (place.kind === 'folder') return []
  const found = nameOfBlobs(place)
  const store = await openBlobs(place, data_dir, await openLog('silent'))
  try {
    const blob_id = await store.write(randomBytes(32))
    const size_bytes = await store.size(blob_id)
    await store.remove(blob_id)
    if (size_bytes === 32) return [{ check, verdict: 'ok', found: `${found} takes, gives and removes` }]
    return [{ check, verdict: 'fail', found: `${found} does not give what it took` }]
  } catch (error) {
    const advice = whyOf(error)
    return [{ check, verdict: 'fail', found: `${found} cannot be used`, advice }]
  }
}

async function server(context: Context, port: number): Promise<Check[]> {
  const { server, api_key } = context.settings
  const address = server.value ?? ''
  const client = connect({
    server: address,
    retries: 0,
    ...(api_key.value === undefined ? {} : { token: api_key.value }),
  })
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(ASK_MS)])
  const health = await client.access.health({ signal }).catch(() => null)
  if (health === null)
    return [
      { check: 'server', verdict: 'warn', found: `${address} does not answer`, advice: 'Start one with "baton up"' },
      await portCheck(port),
    ]
  const checks: Check[] = [
    health.status === 'ok'
      ? { check: 'server', verdict: 'ok', found: `${address}, version ${health.version}` }
      : { check: 'server', verdict: 'warn', found: `${address} has no database`, advice: 'Look at its log' },
  ]
  if (health.version !== context.version) {
    checks.push({
      check: 'version',
      verdict: 'warn',
      found: `server ${health.version}, this ${context.version}`,
      advice: 'Use the same version of both',
    })
  }
  const who = await client.access.whoami({ signal }).catch(() => null)
  checks.push(
    who === null
      ? { check: 'login', verdict: 'warn', found: `not logged in to ${address}`, advice: 'Run "baton login"' }
      : { check: 'login', verdict: 'ok', found: `${who.user?.display_name ?? who.kind}, team ${who.team.name}` },
  )
  return checks
}

function portCheck(port: number): Promise<Check> {
  return new Promise((done) => {
    const probe = createServer()
    probe.once('error', () =>
      done({
        check: 'port',
        verdict: 'fail',
        found: `${port} is taken by another program`,
        advice: 'Start with --port 0 or another',
      }),
    )
    probe.listen(port, '127.0.0.1', () =>
      probe.close(() => done({ check: 'port', verdict: 'ok', found: `${port} is free` })),
    )
  })
}

async function sandboxes(context: Context): Promise<Check> {
  const tools = ['bwrap', 'docker', 'podman']
  const there = await Promise.all(tools.map((tool) => onPath(context, tool)))
  const found = tools.filter((_, i) => there[i])
  if (found.length > 0)
    return {
      check: 'sandbox',
      verdict: 'ok',
      found: `${found.join(', ')}; runs are plain processes, not isolated, in this version`,
    }
  return {
    check: 'sandbox',
    verdict: 'warn',
    found: 'no bubblewrap, docker or podman; runs are plain processes, not isolated',
  }
}

async function onPath(context: Context, program: string): Promise<boolean> {
  const folders = (context.env.PATH ?? '').split(delimiter).filter((one) => one !== '')
  for (const one of folders)
    if (
      await access(join(one, program), constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return true
  return false
}

async function cgroups(): Promise<Check> {
  if (process.platform !== 'linux')
    return { check: 'cgroups', verdict: 'warn', found: 'only Linux has them; memory of runs is not limited' }
  const mounts = await readFile('/proc/self/mounts', 'utf8').catch(() => '')
  const kinds = [/ cgroup2 /.test(mounts) ? 'version 2' : '', / cgroup /.test(mounts) ? 'version 1' : ''].filter(
    (one) => one !== '',
  )
  if (kinds.length > 0) return { check: 'cgroups', verdict: 'ok', found: kinds.join(' and ') }
  return {
    check: 'cgroups',
    verdict: 'warn',
    found: 'none',
    advice: 'Memory and processes of runs cannot be limited here',
  }
}

async function models(context: Context): Promise<Check> {
  const found = MODEL_VARIABLES.filter((name) => context.env[name])
  if (found.length > 0) return { check: 'model keys', verdict: 'ok', found: found.join(', ') }
  return {
    check: 'model keys',
    verdict: 'warn',
    found: 'none',
    advice: 'The built-in agent needs one of ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, BATON_MODEL_BASE_URL',
  }
}

async function harnesses(context: Context): Promise<Check[]> {
  const [{ probeHarness }, { harnessCache, profiles }] = await Promise.all([
    import('../../runner/install.ts'),
    import('../../runner/harnesses/registry.ts'),
  ])
  const cache = harnessCache(context.env)
  const states = await Promise.all(
    profiles
      .filter((one) => one.name !== 'baton')
      .map((profile) => probeHarness(profile, context.env, cache, context.signal)),
  )
  return states.map((state): Check => {
    const check = `harness ${state.name}`
    if (state.missing.length === 0)
      return { check, verdict: 'ok', found: `${state.version ?? ''} at ${state.path}`.trim() }
    return {
      check,
      verdict: 'warn',
      found: state.path === null ? 'not installed' : 'no login',
      advice: state.missing.join(' ').replace(/\.$/, ''),
    }
  })
}
