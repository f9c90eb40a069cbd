/** An execution that has been taken: opens what it needs, drives it to its end, reports that, and closes everything. */
import { rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { Assignment, type EntryBody, NO_USAGE, type Outcome, type Usage } from '../contract/index.ts'
import { type Client, connect } from '../sdk/client.ts'
import { makeDeltas } from './deltas.ts'
import { drive } from './drive.ts'
import { bug, diskFull, duration, runnerStopped, timedOut } from './failures.ts'
import { FINISH_GIVE_UP_MS, FINISH_TOLD_GIVE_UP_MS, reportEnd } from './finish.ts'
import { type Journal, JournalFull, openJournal } from './journal.ts'
import { openLifeline } from './lifeline.ts'
import { makeRedactor, secretsIn, secretsOfUrl } from './redact.ts'
import type { ExitReport, RunnerOptions } from './run.ts'
import { makeSampler } from './sample.ts'
import { makeGroups } from './spawn.ts'
import { makeStop, type Stop } from './stop.ts'
import { makeTranscript } from './transcript.ts'
import { makeUpload } from './upload.ts'

/** What a runner that was told to end waits for the server to say whether that is a cancel, in milliseconds. */
const TOLD_ASK_MS = 1500
/** At this part of the time limit a warning is written. */
const WARN_AT = 0.9
/** A server that was away for less is not worth an entry, in milliseconds. */
const AWAY_WORTH_SAYING_MS = 2000

export async function work(options: RunnerOptions, answer: unknown): Promise<ExitReport> {
  const parsed = Assignment.safeParse(answer)
  if (!parsed.success) {
    const where = parsed.error.issues[0]?.path.join('.') ?? ''
    return { end: 'refused', message: `The server's assignment is not understood (${where}). Server and runner must be of the same version; this is ${options.version}.` }
  }
  const assignment = parsed.data
  const client = connect({ server: options.server, token: options.token, retries: 0 })
  const folder = options.state_folder ?? stateFolder(options)
  try {
    const journal = openJournal({ path: join(folder, 'journal.ndjson'), entries_held: assignment.entries_held })
    try {
      return await workWith({ options, assignment, client, folder, journal })
    } finally {
      journal.close()
    }
  } catch (error) {
    if (!(error instanceof JournalFull)) throw error
    const outcome = diskFull(error.message)
    await client.executions.finish({ params: { execution_id: assignment.execution_id }, body: { outcome, entries: assignment.entries_held } })
    return { end: 'finished', run_id: assignment.run_id, outcome }
  }
}

/** Managed: in the workspace, which is the execution's alone. Local: where a person's programs keep their state. */
export function stateFolder({ place, workspace, execution_id, env }: Pick<RunnerOptions, 'place' | 'workspace' | 'execution_id' | 'env'>): string {
  if (place === 'managed') return join(workspace, '.baton', execution_id)
  return join(env.XDG_STATE_HOME || join(env.HOME || homedir(), '.local', 'state'), 'baton', 'executions', execution_id)
}

export type Work = { options: RunnerOptions; assignment: Assignment; client: Client; folder: string; journal: Journal }

async function workWith(its: Work): Promise<ExitReport> {
  const { options, assignment, client, journal } = its
  const { execution_id, limits } = assignment
  const started = performance.now()
  const stop = makeStop()
  const redactor = makeRedactor(secretsOf(options, assignment))
  const sampler = makeSampler()
  const groups = makeGroups()
  let said: Usage = NO_USAGE
  let session_id: string | null = null
  let away_since: number | null = null
  const usage = (): Usage => ({ ...said, ...sampler.now(), wall_seconds: (performance.now() - started) / 1000 })
  const onSuperseded = (message: string) => {
    transcript.seal()
    stop.because({ why: 'superseded', message })
  }
  const deltas = makeDeltas({ client, execution_id, redactor, next: () => journal.highest + 1, onDelta: options.onDelta, signal: stop.superseded })
  const transcript = makeTranscript({
    journal, redactor, limits, deltas,
    onEntry(entry) {
      upload.wake()
      options.onEntry?.(entry)
    },
    onLimit: (outcome) => stop.because({ why: 'limit', outcome }),
  })
  const upload = makeUpload({
    client, execution_id, journal, entries_held: assignment.entries_held, onSuperseded, signal: stop.superseded,
    onAway(away) {
      const gone_ms = away_since === null ? 0 : performance.now() - away_since
      away_since = away ? performance.now() : null
      if (!away && gone_ms >= AWAY_WORTH_SAYING_MS) transcript.system('info', 'server_back', `The server was away for ${duration(gone_ms)}. Nothing was lost.`)
    },
  })
  const lifeline = openLifeline({
    client, execution_id, heartbeat_ms: limits.heartbeat_ms, usage, session_id: () => session_id, onCancel: () => stop.because({ why: 'cancelled' }), onSuperseded,
  })
  let asked: Promise<{ cancel_requested: boolean } | null> | undefined
  const onTold = () => {
    asked ??= lifeline.ask(TOLD_ASK_MS)
    stop.because({ why: 'told' })
  }
  if (options.signal.aborted) onTold()
  else options.signal.addEventListener('abort', onTold, { once: true })
  const timers = limits.execution_ms === undefined ? [] : limitTime(limits.execution_ms, stop, transcript.system)

  try {
    const driven = await drive({
      ...its, transcript, groups, stop,
      sink: { entry: (body: EntryBody) => transcript.entry(body), delta: transcript.delta, usage: (total) => { said = total } },
      onSession(id) {
        session_id = id
      },
    }).catch((error: unknown): Outcome => bug(error))
    for (const timer of timers) clearTimeout(timer)
    await groups.close()
    const outcome = driven ?? (await outcomeOfStop(stop, options, asked))
    transcript.flush()
    if (outcome.outcome === 'FAILED' || outcome.outcome === 'ERROR') transcript.system('error', 'ended', outcome.failure.message)
    const told = stop.reason?.why === 'told' || options.signal.aborted
    const finished = await reportEnd({
      client, execution_id, journal, upload, outcome, usage, session_id, superseded: stop.superseded, give_up_ms: told ? FINISH_TOLD_GIVE_UP_MS : FINISH_GIVE_UP_MS,
    })
    if (!finished.told && finished.why === 'unreachable') return { end: 'unreachable', message: finished.message }
    await rm(its.folder, { recursive: true, force: true })
    return finished.told ? { end: 'finished', run_id: assignment.run_id, outcome } : { end: 'superseded', message: finished.message }
  } finally {
    for (const timer of timers) clearTimeout(timer)
    options.signal.removeEventListener('abort', onTold)
    transcript.seal()
    lifeline.close()
    deltas.close()
    sampler.close()
    await upload.close()
    await groups.close()
  }
}

async function outcomeOfStop(stop: Stop, options: RunnerOptions, asked: Promise<{ cancel_requested: boolean } | null> | undefined): Promise<Outcome> {
  const { reason } = stop
  switch (reason?.why) {
    case 'limit': return reason.outcome
    case 'told': return options.place === 'local' || (await asked)?.cancel_requested ? { outcome: 'CANCELLED' } : runnerStopped()
    // What is said of a superseded execution reaches nobody.
    case 'cancelled': case 'superseded': case undefined: return { outcome: 'CANCELLED' }
  }
}

function limitTime(execution_ms: number, stop: Stop, system: (level: 'warning', name: string, text: string) => void): NodeJS.Timeout[] {
  const left_ms = execution_ms * (1 - WARN_AT)
  return [
    setTimeout(() => system('warning', 'time_almost_up', `The run is stopped in ${duration(left_ms)}, when its limit of ${duration(execution_ms)} is reached.`), execution_ms - left_ms),
    setTimeout(() => stop.because({ why: 'limit', outcome: timedOut(execution_ms) }), execution_ms),
  ]
}

/** Everything that must not appear in a transcript, as far as we can know it. */
function secretsOf(options: RunnerOptions, { config }: Assignment): string[] {
  const servers = Object.values(config.mcp_servers ?? {})
  return [
    options.token,
    ...secretsIn(options.env),
    ...secretsIn(config.environment?.variables ?? {}),
    ...(config.environment?.repositories ?? []).flatMap(({ url }) => secretsOfUrl(url)),
    ...servers.flatMap((server) => ('env' in server ? secretsIn(server.env) : 'headers' in server ? Object.values(server.headers) : [])),
  ]
}
