/** What an execution does between start and end: prepares the workspace, opens the harness, talks with it. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Failure, harnessOf, type McpServers, type Outcome, withSecrets } from '../contract/index.ts'
import { ATTACHMENTS_VARIABLE } from './attachments.ts'
import { type Checkout, checkRepositories, cloneAll } from './clone.ts'
import { harnessEnvironment, ownAccess, withLogin } from './environment.ts'
import { diskFull, SetupFailure } from './failures.ts'
import type { Finished } from './finish.ts'
import {
  type Harness,
  HarnessFailure,
  type HarnessStart,
  type McpEndpoint,
  type OpenHarness,
} from './harnesses/harness.ts'
import type { Open, Work } from './open.ts'
import { writeResults } from './results.ts'
import { openResumed } from './resume.ts'
import type { RunnerOptions } from './run.ts'
import { runSetup } from './setup.ts'
import { converse, type Driven, promptOnce } from './turns.ts'
import { within } from './within.ts'

/** A harness that does not close in this time is left to the sandbox, in milliseconds. */
const CLOSE_MS = 5000

export type Drive = Work &
  Open & {
    /** Reports the end to the server, which may answer that a message came first. */
    tell(outcome: Outcome): Promise<Finished>
  }

/** To the end of the harness, or null outcome when the execution was stopped first. */
export async function drive(its: Drive): Promise<Driven> {
  const { assignment, transcript, journal, stop } = its
  if (journal.resumed)
    transcript.system('warning', 'runner_restarted', 'The runner was started again; the work begins anew.')
  else if (assignment.cause !== 'message') transcript.entry({ kind: 'prompt', text: askedFor(assignment) })
  const ended = new AbortController()
  try {
    const start = await prepare(its, ended.signal)
    const harness = its.options.harness ?? (await findNamed(harnessOf(assignment.config), its.options.env))
    const { open, held, resume } = await openResumed(its, harness, { ...start, mcp: mcpOf(harness, its) }, (next) =>
      openHarness(harness, next, its),
    )
    if (open === null) return STOPPED
    its.progress.session_id = open.session_id
    its.progress.remembers = resume !== null && resume.session_id === open.session_id
    its.keeping.begin({ session_id: open.session_id, folders: harness.session_folders ?? [], held })
    its.progress.workspace = start.workspace
    transcript.system('info', 'harness_started', `Started ${harness.name}.`, { harness: harness.name })
    try {
      const driven = await (harness.tool_hold_ms === undefined ? promptOnce : converse)(its, open, harness.name)
      its.progress.session_id = open.session_id
      return driven
    } finally {
      await within(CLOSE_MS, open.close())
    }
  } catch (error) {
    if (stop.reason !== null) return STOPPED
    if (error instanceof SetupFailure || error instanceof HarnessFailure) return failed(error.failure)
    if (isDiskFull(error)) return { outcome: diskFull(`${error.message}.`), finished: null }
    throw error
  } finally {
    ended.abort()
  }
}

const STOPPED: Driven = { outcome: null, finished: null }

/** What trying again cannot mend is for the owner of the run to mend. */
const failed = (failure: Failure): Driven => ({
  outcome: { outcome: failure.retryable ? 'ERROR' : 'FAILED', failure },
  finished: null,
})

/**
 * To plugins of harnesses that were made for Oz: messages are given to the agent by its driver, which is this runner;
 * a listener of their own would give each of them twice.
 */
function listened(folder: string): Record<string, string> {
  const root = join(folder, 'messages')
  return {
    OZ_MESSAGE_LISTENER_MANAGED_EXTERNALLY: '1',
    WARP_MESSAGE_LISTENER_MANAGED_EXTERNALLY: '1',
    OZ_MESSAGE_LISTENER_STATE_ROOT: root,
    WARP_MESSAGE_LISTENER_STATE_ROOT: root,
  }
}

/** What the agent may do to the platform, it does there, in the name of its own execution. */
function mcpOf(harness: Harness, { options }: Drive): McpEndpoint[] {
  if (harness.tool_hold_ms === undefined) return []
  const url = `${options.server.replace(/\/+$/, '')}/mcp?hold_ms=${harness.tool_hold_ms}`
  return [{ name: 'baton', url, headers: { Authorization: `Bearer ${options.token}` } }]
}

async function prepare(its: Drive, ended: AbortSignal): Promise<HarnessStart> {
  const { options, assignment, stop } = its
  const { config, secrets } = assignment
  if (secrets?.problem) throw new SetupFailure(secrets.problem, 'secret')
  const home = join(its.folder, 'home')
  // At once: the threads that would wait for the disk are more work to start than this is.
  mkdirSync(home, { recursive: true, mode: 0o700 })
  mkdirSync(options.workspace, { recursive: true })
  const own_env = withLogin(
    harnessEnvironment(assignment, options.env, options.place, options.workspace),
    assignment,
    await cloudLogin(its, ended),
  )
  const files = { [ATTACHMENTS_VARIABLE]: its.attachments.folder }
  const env = { ...own_env, ...listened(its.folder), ...files, ...(await writeResults(its.folder, assignment.results)) }
  if (assignment.attachments !== undefined) await its.attachments.take()
  const { runtime_skills } = assignment
  const given = runtime_skills === undefined ? null : await import('./given-skills.ts')
  const told = (await given?.putSkills(its.folder, runtime_skills ?? [], its.transcript)) ?? ''
  // Beside its parent it works on the parent's files, as they are.
  const cwd = assignment.placement === 'parent' ? options.workspace : await checkOut(its, env)
  await followSkills(its, cwd, given === null ? [] : [given.givenFolder(its.folder)])
  its.progress.instructions = [its.progress.instructions, told].filter(Boolean).join('\n\n')
  const servers = fillServers(its)
  const own = options.place === 'managed' ? ownAccess(options.token, options.server) : {}
  return {
    assignment,
    config: servers === undefined ? config : { ...config, mcp_servers: servers },
    workspace: cwd,
    home,
    // Under these names the run's own variables are the user's.
    env: { ...own, ...env },
    mcp: [],
    permissions: config.permissions ?? 'allow',
    sink: its.sink,
    signal: stop.signal,
  }
}

/** A person's own machine has its own logins. */
async function cloudLogin(its: Drive, ended: AbortSignal): Promise<Record<string, string>> {
  const { assignment, options, client, folder } = its
  if (assignment.cloud === undefined || options.place === 'local') return {}
  const { logIn } = await import('./cloud.ts')
  return logIn({ cloud: assignment.cloud, run_id: assignment.run_id, client, folder, signal: ended })
}

/** From here on the values of secrets stand in the place of their names. At a person's own machine, its variables do. */
function fillServers({ options, assignment }: Drive): McpServers | undefined {
  const { config, secrets } = assignment
  if (config.mcp_servers === undefined) return undefined
  const is_local = options.place === 'local'
  return withSecrets(config.mcp_servers, ({ server, name }) => {
    const value = is_local ? options.env[name] : secrets?.mcp?.[name]
    if (value) return value
    const what = is_local ? `the variable ${name}, which is not set here` : `the secret ${name}, which it was not given`
    throw new SetupFailure(`MCP server ${server} needs ${what}.`, 'secret')
  })
}

/** The prompt; of a run that has none, what it was made to do. */
const askedFor = ({ prompt, config }: Drive['assignment']): string =>
  prompt.trim() !== '' ? prompt : `Follow ${config.skills?.join(', ') ?? 'the instructions'}.`

async function followSkills(its: Drive, cwd: string, given: string[]): Promise<void> {
  const { options, assignment, transcript } = its
  const { skills = [], environment } = assignment.config
  if (skills.length === 0) return
  const { findSkills, renderSkills } = await import('./skills.ts')
  const beside = assignment.placement === 'parent'
  const found = await findSkills({
    specs: skills,
    repositories: beside ? [] : checkRepositories(environment?.repositories ?? [], true),
    workspace: options.workspace,
    cwd,
    homes: [...given, ...(options.place === 'local' && options.env.HOME ? [options.env.HOME] : [])],
  })
  for (const { name, file } of found)
    transcript.system('info', 'skill', `Follows the skill ${name} (${file}).`, { skill: name })
  its.progress.instructions = renderSkills(found)
}

async function checkOut(its: Drive, env: Record<string, string>): Promise<string> {
  const { options, assignment, transcript, groups, stop, journal } = its
  const { workspace } = options
  const { limits } = assignment
  const { repositories = [], setup_commands = [] } = assignment.config.environment ?? {}
  const cwd = await cloneAll({
    workspace,
    repositories,
    env,
    local_allowed: options.place === 'local' || options.env.BATON_ALLOW_LOCAL_REPOSITORIES === '1',
    replace: journal.resumed && options.place === 'managed',
    clone_ms: limits.clone_ms,
    groups,
    transcript,
    signal: stop.signal,
  })
  await handOver(its, env, checkRepositories(repositories, true))
  await runSetup({ workspace, commands: setup_commands, env, limits, groups, transcript, signal: stop.signal })
  return cwd
}

/** What the execution before has left is put back; and what this one is to leave is known from here on. */
async function handOver(its: Drive, env: Record<string, string>, checkouts: Checkout[]): Promise<void> {
  const { options, assignment, transcript, groups, stop, client, progress, attachments } = its
  if (options.place !== 'managed') return
  const { workspace } = options
  const { run_id, limits } = assignment
  const tool = { groups, env, limit_ms: limits.clone_ms, signal: stop.signal }
  const paths = checkouts.map(({ directory }) => join(workspace, directory))
  const cloned = new Map<string, string | null>()
  if (paths.length > 0) {
    const { git } = await import('./git.ts')
    for (const path of paths) {
      const head = await git(tool, path, ['rev-parse', '--verify', '--quiet', 'HEAD']).catch(() => null)
      cloned.set(path, head?.trim() ?? null)
    }
  }
  let earlier = false
  if (assignment.restores) {
    const { restore } = await import('./restore.ts')
    const put = await restore({ client, run_id, workspace, folder: attachments.folder, git: tool, transcript })
    earlier = put.restored
    progress.restored = put.told
  }
  if (!assignment.snapshot_disabled) progress.prepared = { workspace, cloned, env, earlier }
}

/** Opening may take long (a CLI that is fetched first); a stop does not wait, but what opens after all is closed. */
async function openHarness(harness: Harness, start: HarnessStart, { stop }: Drive): Promise<OpenHarness | null> {
  const opening = harness.open(start)
  const open = await Promise.race([opening, aborted(stop.signal)])
  if (open !== null && stop.reason === null) return open
  const late = opening.then(
    (opened) => opened.close(),
    () => {},
  )
  await within(start.assignment.limits.cancel_grace_ms, late)
  return null
}

const isDiskFull = (error: unknown): error is Error =>
  error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')

const aborted = (signal: AbortSignal): Promise<null> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(null)
    else signal.addEventListener('abort', () => resolve(null), { once: true })
  })

async function findNamed(name: string, env: RunnerOptions['env']): Promise<Harness> {
  const { findHarness } = await import('./harnesses/registry.ts')
  return findHarness(name, env)
}
