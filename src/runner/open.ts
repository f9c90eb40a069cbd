/** Opens everything that an execution at work needs, wired to each other, and closes it all. */
import { join } from 'node:path'
import {
  type Assignment,
  harnessOf,
  hasReference,
  makeRedactor,
  NO_USAGE,
  type Outcome,
  type Redactor,
  secretsNamedBy,
  type Usage,
} from '../contract/index.ts'
import { type Attachments, makeAttachments } from './attachments.ts'
import { type Beside, makeBeside } from './beside.ts'
import { type Boundary, makeBoundary } from './boundary.ts'
import { type Checkpoints, makeCheckpoints } from './checkpoints.ts'
import type { Client } from './client.ts'
import { type Deltas, makeDeltas } from './deltas.ts'
import { duration, timedOut } from './failures.ts'
import type { Sink } from './harnesses/harness.ts'
import type { Journal } from './journal.ts'
import { type Keeping, makeKeeping } from './keeping.ts'
import { type Lifeline, openLifeline } from './lifeline.ts'
import { type Mail, makeMail } from './mail.ts'
import { secretsIn, secretsOfUrl } from './redact.ts'
import type { RunnerOptions } from './run.ts'
import { makeSampler } from './sample.ts'
import type { Prepared, SnapshotOptions } from './snapshot.ts'
import { type Groups, makeGroups } from './spawn.ts'
import { makeStop, type Stop } from './stop.ts'
import { makeTranscript, type Transcript } from './transcript.ts'
import { makeUpload, type Upload } from './upload.ts'

/** At this part of the time limit a warning is written. */
const WARN_AT = 0.9
/** A server that was away for less is not worth an entry, in milliseconds. */
const AWAY_WORTH_SAYING_MS = 2000

/** A turn whose harness has said that it stops may take so many times the grace of a cancel to end by itself. */
const SHUTDOWN_GRACES = 5

export type Work = { options: RunnerOptions; assignment: Assignment; client: Client; folder: string; journal: Journal }

/** What changes while the execution goes on. */
export type Progress = {
  /** As the harness told it. */
  told_usage: Usage
  session_id: string | null
  /** It goes on with the session of an earlier execution. */
  remembers: boolean
  /** Where the harness works; null while that is being prepared. */
  workspace: string | null
  /** What a snapshot of the workspace is taken of; null: there is nothing to leave. */
  prepared: Prepared | null
  /** What the agent must know of the workspace, once, before anything else. */
  restored: string
  /** Of the skills that the run follows; put before its prompt. */
  instructions: string
  /** The end has been sent: from now on only its answer says what became of it, for our own end supersedes us too. */
  reporting: boolean
}

export type Open = {
  stop: Stop
  groups: Groups
  redactor: Redactor
  transcript: Transcript
  upload: Upload
  keeping: Keeping
  lifeline: Lifeline
  mail: Mail
  beside: Beside
  attachments: Attachments
  boundary: Boundary
  snapshots: SnapshotOptions
  checkpoints: Checkpoints
  sink: Sink
  progress: Progress
  usage: () => Usage
  close(): Promise<void>
}

export function openAll({ options, assignment, client, folder, journal }: Work): Open {
  const { execution_id, limits } = assignment
  const started = performance.now()
  const progress: Progress = {
    told_usage: NO_USAGE,
    session_id: null,
    remembers: false,
    workspace: null,
    prepared: null,
    restored: '',
    reporting: false,
    instructions: '',
  }
  const stop = makeStop()
  const boundary = makeBoundary()
  const sampler = makeSampler()
  const groups = makeGroups()
  const redactor = makeRedactor(secretsOf(options, assignment))
  const { hidden = [] } = assignment.secrets ?? {}
  const usage = () => ({ ...progress.told_usage, ...sampler.now(), wall_seconds: (performance.now() - started) / 1000 })
  const onSuperseded = (message: string) => {
    if (progress.reporting) return
    transcript.seal()
    stop.because({ why: 'superseded', message })
  }
  const { onDelta } = options
  const next = () => journal.highest + 1
  const deltas: Deltas = makeDeltas({ client, execution_id, redactor, next, onDelta, signal: stop.superseded })
  const onLimit = (outcome: Outcome) => stop.because({ why: 'limit', outcome })
  const transcript: Transcript = makeTranscript({
    journal,
    redactor,
    limits,
    deltas,
    onLimit,
    onEntry(entry) {
      boundary.saw(entry.body)
      upload.wake()
      options.onEntry?.(entry)
    },
  })
  const { entries_held } = assignment
  const onAway = sayBack(transcript)
  const upload = makeUpload({
    client,
    execution_id,
    journal,
    entries_held,
    onSuperseded,
    onAway,
    signal: stop.superseded,
  })
  const keeping = makeKeeping({
    client,
    execution_id,
    home: join(folder, 'home'),
    journal,
    transcript,
    superseded: stop.superseded,
    onSuperseded,
    ...(hidden.length === 0 ? {} : { mask: makeRedactor(hidden).bytes }),
  })
  const mail = makeMail({ client, execution_id, onSuperseded, signal: stop.signal })
  const beside = makeBeside({
    client,
    execution_id,
    server: options.server,
    env: options.env,
    folder,
    workspace: () => progress.workspace,
    transcript,
    told: options.signal,
  })
  const attachments = makeAttachments({
    client,
    execution_id,
    folder: join(folder, 'attachments'),
    transcript,
    signal: stop.signal,
  })
  let shutdown: NodeJS.Timeout | undefined
  const lifeline = openLifeline({
    client,
    execution_id,
    heartbeat_ms: limits.heartbeat_ms,
    folder,
    usage,
    session_id: () => progress.session_id,
    onCancel: () => stop.because({ why: 'cancelled' }),
    onInbox: mail.ring,
    onTree: mail.halt,
    onChildren: () => void beside.take(),
    onAttachments: () => void attachments.take(),
    onShutdown() {
      shutdown ??= setTimeout(() => stop.because({ why: 'shutdown' }), SHUTDOWN_GRACES * limits.cancel_grace_ms)
    },
    onSuperseded,
    onAlone(message) {
      transcript.seal()
      stop.because({ why: 'superseded', message })
    },
  })
  const { run_id, number, config } = assignment
  const snapshots = { client, run_id, number, folder, transcript, superseded: stop.superseded, config }
  // A plain command is never between two actions, and begins anew: half of its work would be in its way.
  const every_ms = harnessOf(config) === 'command' ? undefined : limits.checkpoint_ms
  const checkpoints = makeCheckpoints({
    every_ms,
    boundary,
    async take(isWhole, signal) {
      const { prepared, workspace } = progress
      if (prepared === null || workspace === null || stop.reason !== null) return true
      const { leaveCheckpoint } = await import('./snapshot.ts')
      return leaveCheckpoint(snapshots, prepared, { isWhole, signal })
    },
  })
  const timers = limits.execution_ms === undefined ? [] : limitTime(limits.execution_ms, stop, transcript)
  const sink: Sink = {
    entry: transcript.entry,
    delta: transcript.delta,
    usage(total) {
      progress.told_usage = total
    },
  }
  async function close(): Promise<void> {
    for (const timer of timers) clearTimeout(timer)
    clearTimeout(shutdown)
    await checkpoints.close()
    transcript.seal()
    lifeline.close()
    deltas.close()
    sampler.close()
    await upload.close()
    await groups.close()
  }
  const told = { lifeline, mail, beside, attachments }
  const kept = { boundary, snapshots, checkpoints }
  return { stop, groups, redactor, transcript, upload, keeping, ...told, ...kept, sink, progress, usage, close }
}

function sayBack(transcript: Transcript): (away: boolean) => void {
  let since: number | null = null
  return (away) => {
    const gone_ms = since === null ? 0 : performance.now() - since
    since = away ? performance.now() : null
    if (away || gone_ms < AWAY_WORTH_SAYING_MS) return
    transcript.system('info', 'server_back', `The server was away for ${duration(gone_ms)}. Nothing was lost.`)
  }
}

function limitTime(execution_ms: number, stop: Stop, transcript: Transcript): NodeJS.Timeout[] {
  const left_ms = execution_ms * (1 - WARN_AT)
  const warning = `The run is stopped in ${duration(left_ms)}, when its limit of ${duration(execution_ms)} is reached.`
  return [
    setTimeout(() => transcript.system('warning', 'time_almost_up', warning), execution_ms - left_ms),
    setTimeout(() => stop.because({ why: 'limit', outcome: timedOut(execution_ms) }), execution_ms),
  ]
}

/** What names a secret is none. */
const isValue = (text: string): boolean => !hasReference(text)

/** Everything that must not appear in a transcript, as far as we can know it. */
function secretsOf(options: RunnerOptions, { config, secrets }: Assignment): string[] {
  const servers = Object.values(config.mcp_servers ?? {})
  return [
    options.token,
    ...(secrets?.hidden ?? []),
    ...secretsIn(options.env),
    ...secretsIn(config.environment?.variables ?? {}),
    ...(config.environment?.repositories ?? []).flatMap(({ url }) => secretsOfUrl(url)),
    ...servers.flatMap((server) => ('env' in server ? secretsIn(server.env) : [])).filter(isValue),
    ...servers.flatMap((server) => ('headers' in server ? Object.values(server.headers) : [])).filter(isValue),
    // At a person's own machine these are its variables.
    ...(options.place === 'local' ? secretsNamedBy(config.mcp_servers ?? {}) : []).flatMap(
      ({ name }) => options.env[name] ?? [],
    ),
  ]
}
