/**
 * The engine: makes true in PostgreSQL what the contract says can be asked. It never sees HTTP.
 *
 * Every function takes the caller first and sees only the caller's team. Faults are thrown; anything else thrown is
 * a bug or the database being away.
 */
import type { Logger } from 'pino'
import type { Clock } from '../db/clock.ts'
import type { Database } from '../db/connect.ts'
import { accessEngine } from './access.ts'
import { agentsEngine } from './agents.ts'
import { type Answers, openAnswers } from './answers.ts'
import { artifactsEngine } from './artifacts.ts'
import { attachmentsEngine } from './attachments.ts'
import { batchesEngine } from './batches.ts'
import { openBell } from './bell.ts'
import type { BlobStore } from './blobs.ts'
import { type Bringing, bringing } from './brought.ts'
import { conversationFilesEngine } from './conversation-files.ts'
import { conversationsEngine } from './conversations.ts'
import { departuresEngine } from './departures.ts'
import { dispatchEngine } from './dispatch.ts'
import { environmentsEngine } from './environments.ts'
import { eventsEngine } from './events.ts'
import { executionsEngine } from './executions.ts'
import { federationEngine } from './federation.ts'
import { followUpsEngine } from './follow-ups.ts'
import { handoffEngine } from './handoff.ts'
import { identitiesEngine } from './identities.ts'
import { type Keyring, NO_KEYS } from './keyring.ts'
import { keysEngine } from './keys.ts'
import { openListeners } from './listeners.ts'
import { mailEngine } from './mail.ts'
import { mailboxEngine } from './mailbox.ts'
import { memoryEngine } from './memory.ts'
import { messagesEngine } from './messages.ts'
import { modelsEngine } from './models.ts'
import { noticesEngine } from './notices.ts'
import { plansEngine } from './plans.ts'
import { rememberingEngine } from './remembering.ts'
import { runsEngine } from './runs.ts'
import { schedulesEngine } from './schedules.ts'
import { missingKeys } from './sealing.ts'
import { mergeSearchIndex } from './search-index.ts'
import { type RedactorOf, redactors } from './secret-opening.ts'
import { secretsEngine } from './secrets.ts'
import { sessionsEngine } from './sessions.ts'
import { type Signer, signer } from './signing.ts'
import type { ReadSkills } from './skill-reader.ts'
import { sweepEngine } from './sweep.ts'
import { teamEngine } from './team.ts'
import { teamDeletion } from './team-deletion.ts'
import { teamsEngine } from './teams.ts'
import { transcriptsEngine } from './transcripts.ts'
import { type Enqueue, enqueuer, type Follow, follower } from './transitions.ts'
import { treesEngine } from './trees.ts'
import { uploadsEngine } from './uploads.ts'
import { workersEngine } from './workers.ts'
import { type Workload, workloadTokens } from './workload.ts'

export type EngineOptions = {
  database: Database
  clock: Clock
  blobs: BlobStore
  log: Logger
  server_id: string
  /** Master keys; absent: there are none, and no secrets can be kept. */
  keyring?: Keyring
  /** Reads the skills of repositories; absent: none is read. */
  skills?: ReadSkills
  limits?: Partial<EngineLimits>
}

/** All in milliseconds unless the name says bytes or tries. */
export type EngineLimits = {
  /** An offer that no worker claims in this time lapses. */
  offer_ms: number
  /** A claimed run whose runner has not begun in this time goes back to the queue. */
  begin_ms: number
  lease_ms: number
  heartbeat_ms: number
  cancel_grace_ms: number
  retry_first_ms: number
  retry_most_ms: number
  max_tries: number
  transcript_bytes_max: number
  tool_output_bytes_max: number
  setup_command_ms: number
  clone_ms: number
  /** Between two checkpoints of a workspace whose agent is at work. */
  checkpoint_ms: number
  /** What the times of schedules came to is kept this long; the latest of each schedule for ever. */
  firings_kept_ms: number
}

export const ENGINE_LIMITS: EngineLimits = {
  offer_ms: 10_000,
  begin_ms: 120_000,
  lease_ms: 60_000,
  heartbeat_ms: 5_000,
  cancel_grace_ms: 2_000,
  retry_first_ms: 2_000,
  retry_most_ms: 300_000,
  max_tries: 3,
  transcript_bytes_max: 64 * 1024 * 1024,
  tool_output_bytes_max: 256 * 1024,
  setup_command_ms: 30 * 60_000,
  clone_ms: 10 * 60_000,
  checkpoint_ms: 5 * 60_000,
  firings_kept_ms: 90 * 24 * 3_600_000,
}

export type Engine = Awaited<ReturnType<typeof openEngine>>

export async function openEngine(options: EngineOptions) {
  const limits = { ...ENGINE_LIMITS, ...options.limits }
  const bell = await openBell(options.database, options.server_id)
  const db = options.database.byIndex
  const own = { limits, bell, signer: signer(options.database, options.clock) }
  const keyed = { ...options, keyring: options.keyring ?? NO_KEYS }
  const workload = workloadTokens(keyed)
  const redactorOf = redactors(keyed)
  const answers = openAnswers(db, options.log)
  const room = {
    ...keyed,
    ...own,
    answers,
    workload,
    redactorOf,
    follow: follower(db),
    enqueue: enqueuer(db),
    brings: bringing(db),
  }
  const listeners = openListeners()
  const transcripts = transcriptsEngine(room)
  const uploads = uploadsEngine(room)
  const conversationFiles = conversationFilesEngine(room, uploads)
  const messages = messagesEngine(room, listeners)
  const plans = plansEngine(room)
  const attachments = attachmentsEngine(room, uploads)
  const handoff = handoffEngine(room, uploads)
  const runs = runsEngine(room, { attachments, handoff })
  const teams = teamsEngine(room)
  const deletion = teamDeletion(room, { runs })
  return {
    limits,
    bell,
    access: accessEngine(room),
    runs,
    executions: executionsEngine(room),
    sessions: sessionsEngine(room),
    transcripts,
    conversations: conversationsEngine(room, { transcripts, files: conversationFiles }),
    conversationFiles,
    events: eventsEngine(room),
    workers: workersEngine(room),
    messages,
    plans,
    batches: batchesEngine(room, { runs }),
    schedules: schedulesEngine(room, { runs }),
    followUps: followUpsEngine(room, { messages, plans, attachments }),
    mailbox: mailboxEngine(room),
    mail: mailEngine(room, listeners),
    trees: treesEngine(room),
    team: teamEngine(room),
    teams,
    departures: departuresEngine(room, { runs, teams }),
    teamDeletion: deletion,
    keys: keysEngine(room),
    artifacts: artifactsEngine(room),
    attachments,
    handoff,
    uploads,
    blobs: options.blobs,
    notices: noticesEngine(room),
    environments: environmentsEngine(room),
    identities: identitiesEngine(room),
    memory: memoryEngine(room),
    remembering: rememberingEngine(room),
    secrets: secretsEngine(room),
    federation: federationEngine(room),
    workload,
    redactorOf,
    missingKeys: () => missingKeys(room),
    agents: agentsEngine(room),
    models: modelsEngine(room),
    dispatch: dispatchEngine(room),
    sweep: sweepEngine(room, { deletion }),
    mergeSearchIndex: () => mergeSearchIndex(room),
    async close(): Promise<void> {
      await answers.close()
      await bell.close()
    },
  }
}

/** What every part of the engine works with. */
export type Room = Omit<EngineOptions, 'limits' | 'keyring'> & {
  limits: EngineLimits
  keyring: Keyring
  workload: Workload
  redactorOf: RedactorOf
  bell: Awaited<ReturnType<typeof openBell>>
  answers: Answers
  follow: Follow
  enqueue: Enqueue
  brings: Bringing
  signer: Signer
}
