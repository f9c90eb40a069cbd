/** An execution that has been taken: drives it to its end, reports that, and leaves nothing behind. */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { Assignment, type Outcome } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { BESIDE_FOLDER, watchParent } from './beside.ts'
import { connect } from './client.ts'
import { DECLARING, declarationsOf } from './declared.ts'
import { drive } from './drive.ts'
import { bug, diskFull, runnerStopped, saidFailed, sandboxGone } from './failures.ts'
import { type Finished, reportEnd } from './finish.ts'
import { JournalFull, openJournal } from './journal.ts'
import { type Open, openAll, type Work } from './open.ts'
import type { ExitReport, RunnerOptions } from './run.ts'
import type { Prepared } from './snapshot.ts'
import type { Stop } from './stop.ts'
import { carry } from './wire.ts'

/** What a runner that was told to end waits for the server to say whether that is a cancel, in milliseconds. */
const TOLD_ASK_MS = 1500
/** How long an end that was asked for waits for a snapshot of the workspace, in milliseconds. */
const LEAVE_TOLD_MS = 3_000

export async function work(options: RunnerOptions, answer: unknown): Promise<ExitReport> {
  const parsed = Assignment.safeParse(answer)
  if (!parsed.success) {
    const where = parsed.error.issues[0]?.path.join('.') ?? ''
    return {
      end: 'refused',
      message:
        `The server's assignment is not understood (${where}). ` +
        `Server and runner must be of the same version; this is ${options.version}.`,
    }
  }
  const assignment = parsed.data
  const client = connect({ server: options.server, token: options.token, retries: 0, carry })
  const beside = assignment.placement === 'parent' ? options.env[BESIDE_FOLDER] : undefined
  const folder = options.state_folder ?? beside ?? stateFolder(options)
  const its = { options, assignment, client, folder }
  try {
    const journal = openJournal({ path: join(folder, 'journal.ndjson'), entries_held: assignment.entries_held })
    try {
      return await workWith({ ...its, journal })
    } finally {
      journal.close()
    }
  } catch (error) {
    if (!(error instanceof JournalFull)) throw error
    return endWithoutJournal(its, diskFull(error.message))
  }
}

/** Managed: in the workspace, which is the execution's alone. Local: where a person's programs keep their state. */
export function stateFolder(options: Pick<RunnerOptions, 'place' | 'workspace' | 'execution_id' | 'env'>): string {
  const { place, workspace, execution_id, env } = options
  if (place === 'managed') return join(workspace, '.baton', execution_id)
  return join(env.XDG_STATE_HOME || join(env.HOME || homedir(), '.local', 'state'), 'baton', 'executions', execution_id)
}

async function workWith(its: Work): Promise<ExitReport> {
  const { signal, env } = its.options
  const open = openAll(its)
  const told = askWhenTold(open, signal)
  const parent = watchParent(its.assignment.placement === 'parent' ? env : {}, () =>
    open.stop.because({ why: 'limit', outcome: sandboxGone() }),
  )
  try {
    const tell = (outcome: Outcome) => tellEnd(its, open, clean(open, outcome), false)
    const driven = await drive({ ...its, ...open, tell }).catch((error: unknown) => ({
      outcome: bug(error),
      finished: null,
    }))
    await open.groups.close()
    const outcome = clean(open, driven.outcome ?? outcomeOfStop(open.stop, its, await told.cancel_requested()))
    if (driven.finished === null && 'failure' in outcome)
      open.transcript.system('error', 'ended', outcome.failure.message)
    const finished = driven.finished ?? (await tellEnd(its, open, outcome, true))
    return await reported(its, finished, outcome)
  } finally {
    parent.close()
    told.close()
    await open.close()
    await open.beside.ended()
  }
}

/** What the end says may be what a harness said. */
function clean({ redactor }: Open, outcome: Outcome): Outcome {
  const text = (said: string) => (said.endsWith('…') ? `${redactor.cut(said.slice(0, -1))}…` : redactor.cut(said))
  if ('failure' in outcome)
    return { ...outcome, failure: { ...outcome.failure, message: text(outcome.failure.message) } }
  if (outcome.outcome === 'SUCCEEDED' && outcome.summary !== undefined)
    return { ...outcome, summary: text(outcome.summary) }
  return outcome
}

/** The workspace, for the next execution. An end that was asked for does not wait long for it. */
async function leave({ assignment, options }: Work, open: Open, outcome: Outcome): Promise<void> {
  const { progress, stop, checkpoints, snapshots } = open
  const { prepared } = progress
  if (prepared === null || progress.workspace === null || stop.superseded.aborted) return
  if (hasNothing(prepared, assignment.run_id)) return
  const is_told = options.signal.aborted
  const hurry = is_told || outcome.outcome === 'CANCELLED' ? [AbortSignal.timeout(LEAVE_TOLD_MS)] : []
  const limit = AbortSignal.any([...hurry, ...(is_told ? [] : [options.signal])])
  const { leaveSnapshot } = await import('./snapshot.ts')
  await checkpoints.aside(() => leaveSnapshot(snapshots, prepared, limit))
}

/** A run that has written nothing pays nothing for it, not even the loading of what would. */
function hasNothing({ cloned, env, earlier, workspace }: Prepared, run_id: string): boolean {
  if (cloned.size > 0 || earlier || DECLARING.some((name) => env[name]) || existsSync(declarationsOf(run_id)))
    return false
  try {
    return readdirSync(workspace).every((name) => name === '.baton')
  } catch {
    // Its command took it away, or the right to look into it.
    return true
  }
}

/** `leave_inbox`: nobody can be given what waits there; otherwise it comes before a success. */
async function tellEnd(its: Work, open: Open, outcome: Outcome, leave_inbox: boolean): Promise<Finished> {
  const { client, journal, assignment, options } = its
  await leave(its, open, outcome)
  open.transcript.flush()
  return reportEnd({
    client,
    execution_id: assignment.execution_id,
    journal,
    upload: open.upload,
    outcome,
    keep: open.keeping.kept,
    leave_inbox,
    usage: open.usage,
    session_id: open.progress.session_id,
    superseded: open.stop.superseded,
    told_to_end: options.signal,
    onSending() {
      open.progress.reporting = true
    },
  })
}

async function reported(its: Work, finished: Finished, outcome: Outcome): Promise<ExitReport> {
  if (!finished.told && finished.why === 'unreachable') return { end: 'unreachable', message: finished.message }
  rmSync(its.folder, { recursive: true, force: true })
  if (!finished.told) return { end: 'superseded', message: finished.message }
  const { state } = finished
  const said = state === 'FAILED' && outcome.outcome === 'SUCCEEDED' ? saidFailed() : outcome
  return { end: 'finished', run_id: its.assignment.run_id, state, outcome: said }
}

/** Stops the execution when this process is told to end, and asks the server whether that is a cancel. */
function askWhenTold({ stop, lifeline }: Open, signal: AbortSignal) {
  let asked: ReturnType<typeof lifeline.ask> | undefined
  const onTold = () => {
    asked = lifeline.ask(TOLD_ASK_MS)
    stop.because({ why: 'told' })
  }
  if (signal.aborted) onTold()
  else signal.addEventListener('abort', onTold, { once: true })
  return {
    cancel_requested: async () => (await asked)?.cancel_requested ?? false,
    close: () => signal.removeEventListener('abort', onTold),
  }
}

function outcomeOfStop({ reason }: Stop, { options, assignment }: Work, cancel_requested: boolean): Outcome {
  switch (reason?.why) {
    case 'limit':
      return reason.outcome
    case 'told':
      if (options.place === 'local' || cancel_requested) return { outcome: 'CANCELLED' }
      return assignment.placement === 'parent' ? sandboxGone() : runnerStopped()
    case 'shutdown':
      return { outcome: 'SUCCEEDED' }
    // What is said of a superseded execution reaches nobody.
    case 'cancelled':
    case 'superseded':
    case undefined:
      return { outcome: 'CANCELLED' }
  }
}

async function endWithoutJournal({ assignment, client }: Omit<Work, 'journal'>, outcome: Outcome): Promise<ExitReport> {
  const { run_id, execution_id, entries_held } = assignment
  try {
    const body = { outcome, entries: entries_held }
    const { state } = await client.executions.finish({ params: { execution_id }, body })
    return { end: 'finished', run_id, state, outcome }
  } catch (error) {
    return { end: 'unreachable', message: whyOf(error) }
  }
}
