/**
 * Executions: one go at a run. The list is for people; the rest is what a runner says of the one it owns.
 *
 * A runner's bearer token carries run and execution. A write for an execution that is no longer the run's
 * current one is refused with 409 `conflict` and `retryable: false`; the runner stops at once.
 */
import { z } from 'zod'
import { CloudProviders } from './cloud-providers.ts'
import { AgentConfig } from './config.ts'
import { FaultCode } from './faults.ts'
import { route } from './route.ts'
import { RunId, RunState, Timestamp } from './run-states.ts'
import { GivenSkill } from './skills.ts'
import { TaskAssignment } from './task-assignments.ts'
import { Delta, NewEntry } from './transcripts.ts'
import { Usage } from './usage.ts'

export const ExecutionId = z.uuid()

/** Why a run did not succeed, decided where it happened. FAILED is the user's to fix, ERROR is ours. */
export const Failure = z.object({
  error_code: FaultCode,
  /** A sentence for a person: what happened, and what to do where we know it. */
  message: z.string().max(16_384),
  retryable: z.boolean(),
  /** Seconds that a provider asked to be left alone; a retry starts no sooner. */
  retry_after_s: z.number().min(0).max(86_400).optional(),
  /** A machine's word for it, such as `setup_command`, `output_limit`, `lease_lapsed`. */
  reason: z.string().max(64).optional(),
})
export type Failure = z.infer<typeof Failure>

export const Outcome = z.discriminatedUnion('outcome', [
  z.object({ outcome: z.literal('SUCCEEDED'), summary: z.string().max(16_384).optional() }),
  z.object({ outcome: z.literal('FAILED'), failure: Failure }),
  z.object({ outcome: z.literal('ERROR'), failure: Failure }),
  z.object({ outcome: z.literal('CANCELLED') }),
])
export type Outcome = z.infer<typeof Outcome>

export const EXECUTION_STATES = ['offered', 'claimed', 'running', 'ended'] as const

export const Execution = z.object({
  execution_id: ExecutionId,
  run_id: RunId,
  number: z.int(),
  state: z.enum(EXECUTION_STATES),
  /** What began it. */
  cause: z.enum(['start', 'retry', 'requested', 'local', 'message']),
  /** Set when ended; LAPSED: offered and never begun. */
  outcome: z.enum(['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED', 'LAPSED']).optional(),
  failure: Failure.optional(),
  worker_host: z.string().optional(),
  /** The environment as this execution has it, whatever became of it since. */
  environment: z.object({ uid: z.string(), name: z.string(), version: z.int() }).optional(),
  /** The harness's own, which later executions may go on with. */
  session_id: z.string().optional(),
  offered_at: Timestamp,
  claimed_at: Timestamp.nullable(),
  started_at: Timestamp.nullable(),
  ended_at: Timestamp.nullable(),
  entries: z.int(),
  usage: Usage.optional(),
})
export type Execution = z.infer<typeof Execution>

export const Limits = z.object({
  lease_ms: z.int(),
  heartbeat_ms: z.int(),
  /** From the request to cancel to the last signal. */
  cancel_grace_ms: z.int(),
  /** All entries of one execution together; more ends it with `output_limit`. */
  transcript_bytes_max: z.int(),
  /** One tool's or command's output as kept in the transcript; the middle of longer output is left out. */
  tool_output_bytes_max: z.int(),
  setup_command_ms: z.int(),
  clone_ms: z.int(),
  /** Between two checkpoints of the workspace; absent: none are taken. */
  checkpoint_ms: z.int().optional(),
  /** Absent: no limit. */
  execution_ms: z.int().optional(),
})
export type Limits = z.infer<typeof Limits>

/** What a task that this one depends on has come to. */
export const TaskResult = z.object({
  name: z.string(),
  run_id: RunId,
  state: RunState,
  harness: z.string(),
  model_id: z.string().optional(),
  /** The agent's own summary, else its last words or the command's output; the end of what is too long. */
  text: z.string(),
  artifacts: z.array(
    z.object({ artifact_uid: z.string(), artifact_type: z.string(), created_at: Timestamp, data: z.unknown() }),
  ),
  usage: Usage,
  /** Of all its executions together. */
  run_seconds: z.number(),
})
export type TaskResult = z.infer<typeof TaskResult>

/** What an execution is given of secrets, for its sandbox. */
export const GivenSecrets = z.object({
  /** Variables for whatever the worker does not set itself. */
  variables: z.record(z.string(), z.string()),
  /** Variables that go before the worker's: the run names them for its harness. */
  chosen: z.record(z.string(), z.string()),
  /** For what MCP servers name, by name; absent: they name none. */
  mcp: z.record(z.string(), z.string()).optional(),
  /** What of these must be seen nowhere. */
  hidden: z.array(z.string()),
  /** Why they cannot be given: a sentence that the run ends with. */
  problem: z.string().nullable(),
})
export type GivenSecrets = z.infer<typeof GivenSecrets>

const CloudLogin = z.object({
  /** `for_models`: the harness asks its models there, too. `region`: null where its programs know it themselves. */
  aws: z.object({ role_arn: z.string(), region: z.string().nullable(), for_models: z.boolean() }).optional(),
  gcp: CloudProviders.shape.gcp,
})
export type CloudLogin = z.infer<typeof CloudLogin>

export const Assignment = z.object({
  run_id: RunId,
  execution_id: ExecutionId,
  number: z.int(),
  team_id: z.string(),
  title: z.string(),
  prompt: z.string(),
  config: AgentConfig,
  parent_run_id: z.string().nullable(),
  conversation_id: z.string(),
  limits: Limits,
  /** Entries of this execution that the server already holds: above 0 when a runner starts again. */
  entries_held: z.int(),
  /** The harness's own session, where there is one to go on with. `kept`: the server holds its files. */
  resume: z.object({ harness: z.string(), session_id: z.string(), kept: z.boolean().optional() }).nullable(),
  /** What began it; `message`: there is no prompt, the inbox holds it. */
  cause: Execution.shape.cause,
  placement: z.enum(['worker', 'parent']),
  /** What happened before and how it ended, for a harness that does not remember; null: it was never given anything. */
  context: z.string().nullable(),
  /** Of the tasks that this task of a batch depends on, in the order of the list; absent: it depends on none. */
  results: z.array(TaskResult).optional(),
  /** Files that the run was given, to be taken before its agent begins; absent: none. */
  attachments: z.int().optional(),
  /** Skills that came with the run, for its sandbox; absent: none. */
  runtime_skills: z.array(GivenSkill).optional(),
  /** There is a snapshot of a workspace to begin with. */
  restores: z.boolean().optional(),
  /** The execution is to leave no snapshot of its workspace. */
  snapshot_disabled: z.boolean().optional(),
  /** What its memory stores hold, as it is to be told; absent: nothing. */
  memories: z.string().optional(),
  /** What the platform asks of the agent besides the prompt, such as to propose a plan first. */
  guidance: z.string().nullable(),
  /** The same for one that remembers: what its session does not hold. */
  missed: z.string().nullable().optional(),
  /** Absent: none. */
  secrets: GivenSecrets.optional(),
  /** Where the run logs in by what it is; absent: nowhere. */
  cloud: CloudLogin.optional(),
})
export type Assignment = z.infer<typeof Assignment>

/** What a run is to be told, and whether it waits. */
export const Inbox = z.object({
  /** Null: nothing waits. */
  text: z.string().nullable(),
  message_ids: z.array(z.uuid()),
  /** The log up to here is in the text. */
  sequence: z.int(),
  /** What came up to here was given before. */
  since: z.int(),
  urgent: z.boolean(),
  /** Its agent waits for events until then; null: it does not wait, and a turn that ends without more ends the run. */
  waiting_until: Timestamp.nullable(),
  /** The run's tree is stopped: its agent ends its turn, and is given nothing before a person releases the tree. */
  halted: z.boolean().optional(),
})
export type Inbox = z.infer<typeof Inbox>

/** Files of one harness session, all of them together before they are packed, and what they are packed into. */
export const SESSION_FILES_MAX = 200
export const SESSION_BYTES_MAX = 32 * 1024 * 1024
export const SESSION_PACKED_BYTES_MAX = 12 * 1024 * 1024
const PATH_LENGTH_MAX = 512

/** Below the harness's home, with `/`: it cannot lead out of it. */
const SessionPath = z
  .string()
  .max(PATH_LENGTH_MAX)
  .refine(
    (path) => !/[\\\0]/.test(path) && path.split('/').every((part) => !['', '.', '..'].includes(part)),
    'must be a path below the home of the harness',
  )

/** A harness's own session, as its runner packs it. */
export const KeptSession = z.object({
  session_id: z.string().max(256),
  /** Transcript entries of this execution that the session knows of. */
  entries: z.int().nonnegative(),
  files: z
    .array(
      z.object({
        path: SessionPath,
        /** gzip, in base64. Absent when it is sent: the same as before. */
        packed: z.string().optional(),
      }),
    )
    .max(SESSION_FILES_MAX),
})
export type KeptSession = z.infer<typeof KeptSession>

const ExecutionPath = z.object({ execution_id: ExecutionId })

/** What the server tells a runner on its control stream; `heartbeat` repeats a cancel, so none is lost. */
export const Control = z.discriminatedUnion('type', [
  z.object({ type: z.literal('hello') }),
  z.object({ type: z.literal('cancel') }),
  /** Something waits in the inbox: take it when the harness can be given it. */
  z.object({ type: z.literal('inbox'), urgent: z.boolean() }),
  /** The run's tree was stopped, or released: look into the inbox, which says so, too. */
  z.object({ type: z.literal('tree'), halted: z.boolean() }),
  /** The harness has said that it stops: report the end when its turn has ended, and soon. */
  z.object({ type: z.literal('shutdown') }),
  /** Children wait to be started beside this run: take them. */
  z.object({ type: z.literal('children') }),
  /** The run was given files that this execution has not taken. */
  z.object({ type: z.literal('attachments') }),
  /** The execution is no longer the run's current one: stop, write nothing more. */
  z.object({ type: z.literal('superseded') }),
])
export type Control = z.infer<typeof Control>

export const executionRoutes = {
  list: route({
    name: 'executions.list',
    method: 'GET',
    path: '/agent/runs/{run_id}/executions',
    tag: 'Executions',
    callers: ['user', 'execution'],
    summary: 'The executions of a run, oldest first (ours).',
    params: z.object({ run_id: RunId }),
    answer: z.object({ executions: z.array(Execution) }),
  }),
  start: route({
    name: 'executions.start',
    method: 'POST',
    path: '/executions/{execution_id}/start',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'CLAIMED to INPROGRESS; the first lease. Repeating it while running answers the same.',
    params: ExecutionPath,
    body: z.object({ version: z.string().optional() }),
    answer: Assignment,
  }),
  heartbeat: route({
    name: 'executions.heartbeat',
    method: 'POST',
    path: '/executions/{execution_id}/heartbeat',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'Renew the lease.',
    params: ExecutionPath,
    body: z.object({ session_id: z.string().max(256).optional(), usage: Usage.optional() }),
    answer: z.object({
      cancel_requested: z.boolean(),
      lease_ms: z.int(),
      /** The same as `tree`, `inbox`, `children` and `attachments` of the control stream, so that none is lost. */
      halted: z.boolean().optional(),
      /** The same as `shutdown`. */
      shut_down: z.boolean().optional(),
      inbox: z.boolean(),
      children: z.boolean(),
      attachments: z.boolean().optional(),
    }),
  }),
  control: route({
    name: 'executions.control',
    method: 'GET',
    path: '/executions/{execution_id}/control',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'What the runner must know at once, as an event stream.',
    params: ExecutionPath,
    answer: Control,
    produces: 'event-stream',
  }),
  append: route({
    name: 'executions.append',
    method: 'POST',
    path: '/executions/{execution_id}/entries',
    tag: 'Runner',
    callers: ['execution'],
    summary:
      'Add transcript entries. Numbers already held are ignored; a gap is refused; the answer is the highest held.',
    params: ExecutionPath,
    body: z.object({ entries: z.array(NewEntry).max(500) }),
    answer: z.object({ highest: z.int() }),
    body_bytes_max: 16 * 1024 * 1024,
  }),
  deltas: route({
    name: 'executions.deltas',
    method: 'POST',
    path: '/executions/{execution_id}/deltas',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'Live text that is not yet an entry; shown to whoever watches, kept nowhere.',
    params: ExecutionPath,
    body: z.object({ deltas: z.array(Delta).max(50) }),
    answer: z.object({ watched: z.boolean() }),
  }),
  finish: route({
    name: 'executions.finish',
    method: 'POST',
    path: '/executions/{execution_id}/finish',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'The end, after every entry. Repeating it with the same outcome answers the same.',
    params: ExecutionPath,
    body: z.object({
      outcome: Outcome,
      entries: z.int(),
      usage: Usage.optional(),
      session_id: z.string().max(256).optional(),
      /** The harness cannot be prompted again: what lies in the inbox does not hold up the end. */
      leave_inbox: z.boolean().optional(),
    }),
    /** `inbox`: a message came first; the execution has not ended, take it and go on. */
    answer: z.object({ state: z.string(), inbox: z.boolean().optional() }),
  }),
  inbox: route({
    name: 'executions.inbox',
    method: 'POST',
    path: '/executions/{execution_id}/inbox',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'What waits for the agent, as the text of its next prompt. It stays until it is said to be delivered.',
    params: ExecutionPath,
    /** `turn_over`: the agent's turn has ended, so that what its tools answered has arrived. */
    body: z.object({ turn_over: z.boolean().optional() }),
    answer: Inbox,
  }),
  delivered: route({
    name: 'executions.delivered',
    method: 'POST',
    path: '/executions/{execution_id}/delivered',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'The agent was given what the inbox held up to here; it is never given it again.',
    params: ExecutionPath,
    body: z.object({
      message_ids: z.array(z.uuid()).max(500),
      sequence: z.int().nonnegative(),
      /** As the inbox said it: if anything was given since, nothing is marked. */
      since: z.int().nonnegative().optional(),
      /** The runner's own for this claim: asked again with it, it is answered as the first time. */
      claim_id: z.uuid().optional(),
    }),
    /**
     * `already`: a tool's answer surfaced some of it first; nothing was marked: look again, and give what is left. Who
     * asks again, with letters that it has claimed, is answered as the first time, too.
     */
    answer: z.object({ already: z.boolean().optional() }),
  }),
  children: route({
    name: 'executions.children',
    method: 'POST',
    path: '/executions/{execution_id}/children',
    tag: 'Runner',
    callers: ['execution'],
    summary: 'Takes the children that are to run beside this run: each is offered to its runner.',
    params: ExecutionPath,
    answer: z.object({ assignments: z.array(TaskAssignment) }),
  }),
  session: route({
    name: 'executions.session',
    method: 'GET',
    path: '/executions/{execution_id}/session',
    tag: 'Runner',
    callers: ['execution'],
    summary: "The harness's session as the last runner of the run left it, to go on with.",
    params: ExecutionPath,
    answer: KeptSession,
  }),
  keep: route({
    name: 'executions.keep',
    method: 'PUT',
    path: '/executions/{execution_id}/session',
    tag: 'Runner',
    callers: ['execution'],
    summary: "Keep the harness's session, in place of the one kept before.",
    params: ExecutionPath,
    body: KeptSession,
    answer: z.object({ bytes: z.int() }),
    body_bytes_max: 20 * 1024 * 1024,
  }),
}
