/** What an execution does between start and end: prepares the workspace, opens the harness, gives it the prompt. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Failure, harnessOf, type Outcome } from '../contract/index.ts'
import { cloneAll } from './clone.ts'
import { harnessEnvironment } from './environment.ts'
import { diskFull, SetupFailure } from './failures.ts'
import { type Harness, HarnessFailure, type HarnessStart, type OpenHarness, type TurnEnd } from './harnesses/harness.ts'
import type { Open, Work } from './open.ts'
import type { RunnerOptions } from './run.ts'
import { runSetup } from './setup.ts'
import { within } from './within.ts'

/** A harness that does not close in this time is left to the sandbox, in milliseconds. */
const CLOSE_MS = 5000

export type Drive = Work & Open

/** The harness's own outcome, or null when the execution was stopped first. */
export async function drive(its: Drive): Promise<Outcome | null> {
  const { assignment, transcript, journal, stop } = its
  if (journal.resumed)
    transcript.system('warning', 'runner_restarted', 'The runner was started again; the work begins anew.')
  else transcript.entry({ kind: 'prompt', text: assignment.prompt })
  try {
    const start = await prepare(its)
    const harness = its.options.harness ?? (await findNamed(harnessOf(assignment.config), its.options.env))
    const open = await openHarness(harness, start, its)
    if (open === null) return null
    its.progress.session_id = open.session_id
    transcript.system('info', 'harness_started', `Started ${harness.name}.`, { harness: harness.name })
    try {
      const end = await promptIt(open, its)
      its.progress.session_id = open.session_id
      return stop.reason === null ? outcomeOf(end, harness.name) : null
    } finally {
      await within(CLOSE_MS, open.close())
    }
  } catch (error) {
    if (stop.reason !== null) return null
    if (error instanceof SetupFailure || error instanceof HarnessFailure) return ofFailure(error.failure)
    if (isDiskFull(error)) return diskFull(`${error.message}.`)
    throw error
  }
}

async function prepare(its: Drive): Promise<HarnessStart> {
  const { options, assignment, transcript, groups, stop, journal } = its
  const { config, limits } = assignment
  const home = join(its.folder, 'home')
  await mkdir(home, { recursive: true, mode: 0o700 })
  await mkdir(options.workspace, { recursive: true })
  const { repositories = [], setup_commands = [] } = config.environment ?? {}
  const local_allowed = options.place === 'local' || options.env.BATON_ALLOW_LOCAL_REPOSITORIES === '1'
  const env = harnessEnvironment(assignment, options.env, options.place, options.workspace)
  const cwd = await cloneAll({
    workspace: options.workspace,
    repositories,
    env,
    local_allowed,
    replace: journal.resumed && options.place === 'managed',
    clone_ms: limits.clone_ms,
    groups,
    transcript,
    signal: stop.signal,
  })
  await runSetup({
    workspace: options.workspace,
    commands: setup_commands,
    env,
    limits,
    groups,
    transcript,
    signal: stop.signal,
  })
  return {
    assignment,
    config,
    workspace: cwd,
    home,
    env,
    mcp: [],
    permissions: config.permissions ?? 'allow',
    sink: its.sink,
    signal: stop.signal,
  }
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

async function promptIt(open: OpenHarness, { assignment, stop }: Drive): Promise<TurnEnd> {
  const { config, prompt, limits } = assignment
  // To a shell a prompt is a program; what is said to a model before it is not.
  const before = harnessOf(config) === 'command' ? '' : (config.base_prompt ?? '')
  const turn = open.prompt([before, prompt].filter((text) => text !== '').join('\n\n'))
  const stopped = aborted(stop.signal).then(async (): Promise<TurnEnd> => {
    await within(
      limits.cancel_grace_ms,
      open.cancel().then(() => turn),
    )
    return { end: 'cancelled' }
  })
  return Promise.race([turn, stopped])
}

/** What trying again cannot mend is for the owner of the run to mend. */
const ofFailure = (failure: Failure): Outcome => ({ outcome: failure.retryable ? 'ERROR' : 'FAILED', failure })

const isDiskFull = (error: unknown): error is Error =>
  error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')

function outcomeOf(turn: TurnEnd, harness: string): Outcome {
  switch (turn.end) {
    case 'completed':
      return { outcome: 'SUCCEEDED', ...(turn.summary === undefined ? {} : { summary: turn.summary.slice(0, 16_384) }) }
    case 'failed':
      return { outcome: turn.outcome, failure: turn.failure }
    case 'cancelled':
      return {
        outcome: 'FAILED',
        failure: {
          error_code: 'internal_error',
          retryable: false,
          reason: 'harness_cancelled',
          message: `${harness} ended its turn as cancelled, though nobody had asked for that.`,
        },
      }
  }
}

const aborted = (signal: AbortSignal): Promise<null> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(null)
    else signal.addEventListener('abort', () => resolve(null), { once: true })
  })

async function findNamed(name: string, env: RunnerOptions['env']): Promise<Harness> {
  const { findHarness } = await import('./harnesses/registry.ts')
  return findHarness(name, env)
}
