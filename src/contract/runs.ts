/** Runs: one piece of work given to an agent. Paths and fields are those of the public Oz v1 API; ours are marked. */
import { z } from 'zod'
import { ATTACHMENTS_MAX, CREATE_RUN_BYTES_MAX, NewAttachment } from './attachments.ts'
import { AgentConfig } from './config.ts'
import { FaultCode } from './faults.ts'
import { WebAddress } from './files.ts'
import { ListedArtifact } from './listed-artifacts.ts'
import { RunMode } from './modes.ts'
import { Scope } from './roles.ts'
import { QueryBoolean, queryNumber, repeated, route } from './route.ts'
import { AskedTime, RUN_STATES, RunId, RunState, Timestamp } from './run-states.ts'
import { SkillSpec } from './skills.ts'
import { TreeStop } from './trees.ts'
import { RequestUsage } from './usage.ts'

export const RUN_SOURCES = [
  'API',
  'CLI',
  'WEB_APP',
  'LOCAL',
  'LINEAR',
  'SLACK',
  'SCHEDULED_AGENT',
  'GITHUB_ACTION',
  'CLOUD_MODE',
  'JIRA',
  'SELF_IMPROVEMENT',
  'GITHUB_WEBHOOK',
  'GITLAB_WEBHOOK',
  'AUTOFIX',
  'RUN_SCORER',
  'ORCHESTRATION',
  'BENCHMARK_TRIAL',
] as const
export const RunSource = z.enum(RUN_SOURCES)
export type RunSource = z.infer<typeof RunSource>

/** The longest prompt, in bytes of UTF-8. */
export const PROMPT_BYTES_MAX = 1024 * 1024

/** Keys of a run's metadata, its own and its parent's together. */
export const METADATA_KEYS_MAX = 20

const MetadataKey = z
  .string()
  .regex(/^[a-zA-Z0-9._-]{1,64}$/, 'A key of metadata is 1 to 64 letters, digits, dots, - and _.')
const MetadataValue = z
  .string()
  .refine((v) => new TextEncoder().encode(v).length <= 256 && !v.includes('\0'), 'at most 256 bytes, no NUL')

export const Metadata = z
  .record(MetadataKey, MetadataValue)
  .refine((m) => Object.keys(m).length <= METADATA_KEYS_MAX, `at most ${METADATA_KEYS_MAX} keys`)

export const Prompt = z
  .string()
  .refine(
    (p) => new TextEncoder().encode(p).length <= PROMPT_BYTES_MAX,
    `A prompt is at most ${PROMPT_BYTES_MAX} bytes.`,
  )
  .refine((p) => !p.includes('\0'), 'A prompt has no NUL byte.')

/** Of each of them, and of all of one kind together, in characters. */
const GIVEN_LENGTH_MAX = 1024 * 1024
const GIVENS_LENGTH_MAX = 4 * GIVEN_LENGTH_MAX
const GIVENS_MAX = 50

/** Messages of the protocol of Oz clients, in base64: kept and answered as they come. */
const Givens = z
  .array(
    z
      .string()
      .max(GIVEN_LENGTH_MAX)
      .regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/, 'Write it in base64.'),
  )
  .max(GIVENS_MAX)
  .refine(
    (all) => all.reduce((sum, { length }) => sum + length, 0) <= GIVENS_LENGTH_MAX,
    `At most ${GIVENS_LENGTH_MAX} characters together.`,
  )

export const CreateRun = z.object({
  /** May be absent where a skill or a conversation is named. */
  prompt: Prompt.optional(),
  /** Goes before `config.skill_spec` and `config.skills`. */
  skill: SkillSpec.optional(),
  title: z.string().max(512).optional(),
  config: AgentConfig.optional(),
  metadata: Metadata.optional(),
  /** False: the run and what descends from it are seen by its maker alone. A child's is as its parent's. */
  team: z.boolean().optional(),
  /** Only with the key of an agent that may: this person, by e-mail or id, counts as its creator. */
  on_behalf_of: z.string().min(1).max(320).optional(),
  /** Kept, answered in `agent_config`, and of no effect, as `orchestration_handoff` is. */
  interactive: z.boolean().optional(),
  /** Uid or, ours, name of the agent identity that works on it; null: none, also where the parent has one. */
  agent_identity_uid: z.string().min(1).max(128).nullish(),
  /** Makes the run a child of that one: inherits its configuration where its own says nothing. */
  parent_run_id: RunId.optional(),
  /** Goes on with that conversation: the agent knows what was said and done in it. */
  conversation_id: z.uuid().optional(),
  mode: RunMode.optional(),
  /** Files for its sandbox; their bytes are no part of the prompt. */
  attachments: z.array(NewAttachment).max(ATTACHMENTS_MAX).optional(),
  /** Skills that the client has at hand: its agent finds them in its sandbox. */
  runtime_skills: Givens.nullish(),
  /** What the prompt refers to: its agent finds it as files, like attachments. */
  referenced_attachments: Givens.nullish(),
  /** From `handoff.upload_snapshot`: its workspace begins with those files. */
  initial_snapshot_token: z.string().max(256).nullish(),
  /** Its executions leave no snapshot of the workspace. */
  snapshot_disabled: z.boolean().nullish(),
  orchestration_handoff: z.boolean().nullish(),
  /** Ours: `parent` runs beside the parent, in its sandbox and files. */
  placement: z.enum(['worker', 'parent']).optional(),
  /** Ours: the thread, ticket or job that asks for it. A ticket's gives the metadata `ticket_id` and `ticket_source`. */
  trigger_url: WebAddress.optional(),
})
export type CreateRun = z.infer<typeof CreateRun>

export const CreatedRun = z.object({
  run_id: RunId,
  task_id: RunId,
  state: RunState,
  at_capacity: z.boolean().optional(),
})
export type CreatedRun = z.infer<typeof CreatedRun>

export const UserProfile = z.object({
  type: z.enum(['user', 'service_account']),
  uid: z.string(),
  display_name: z.string().optional(),
  email: z.string().optional(),
  photo_url: z.string().optional(),
})

export const StatusMessage = z.object({
  message: z.string(),
  error_code: FaultCode.optional(),
  retryable: z.boolean().optional(),
  session_debug_until: Timestamp.optional(),
})

/** Ours: what the agent told the person behind it while at work, in Markdown. */
export const Notice = z.object({ notice_id: z.uuid(), message: z.string(), created_at: Timestamp })
export type Notice = z.infer<typeof Notice>

export const Run = z.object({
  run_id: RunId,
  task_id: RunId,
  title: z.string(),
  prompt: z.string(),
  state: RunState,
  created_at: Timestamp,
  updated_at: Timestamp,
  started_at: Timestamp.nullable(),
  /** Ours: when the run reached its ended state. */
  ended_at: Timestamp.nullable(),
  /** ISO 8601 duration of all executions together, such as `PT2M30S`. */
  run_time: z.string().optional(),
  status_message: StatusMessage.optional(),
  source: RunSource,
  execution_location: z.enum(['LOCAL', 'REMOTE']),
  schedule: z.object({ schedule_id: z.uuid(), schedule_name: z.string(), cron_schedule: z.string() }).optional(),
  /** The thread, ticket or job that asked for it. */
  trigger_url: z.string().optional(),
  creator: UserProfile,
  executor: UserProfile,
  request_usage: RequestUsage.optional(),
  agent_config: AgentConfig,
  agent_skill: z.object({ name: z.string(), full_path: z.string().optional() }).optional(),
  /** Ours: the environment that `agent_config.environment_id` names. */
  environment: z.object({ uid: z.string(), name: z.string() }).optional(),
  conversation_id: z.string(),
  /** Of the execution that is or was last at work: each has another. */
  session_id: RunId.optional(),
  /** Its last path segment is `session_id`. */
  session_link: z.string().optional(),
  parent_run_id: z.string().optional(),
  is_sandbox_running: z.boolean(),
  /** As the public API says it, by source and place; here every run that has not ended can be cancelled. */
  is_run_type_cancellable: z.boolean(),
  artifacts: z.array(ListedArtifact),
  /** Ours: the last ones, oldest first. */
  notices: z.array(Notice),
  scope: Scope,
  metadata: z.record(z.string(), z.string()),
  last_event_sequence: z.number().nullable(),
  children: z.array(z.string()),
  /** As they were given; of one run, not in lists. */
  runtime_skills: z.array(z.string()).optional(),
  referenced_attachments: z.array(z.string()).optional(),
  /** Ours: how many of its children are in each state. */
  child_states: z.partialRecord(z.enum(RUN_STATES), z.int()),
  /** Ours: the name that its parent goes by, else the parent's title. */
  parent_name: z.string().optional(),
  /** Ours: the execution that is current, or was last; absent before the first offer. */
  execution_id: z.string().optional(),
  /** Ours: executions so far. */
  executions: z.int(),
  /** Ours: a cancel was asked for and is being carried out. */
  cancel_requested: z.boolean(),
  /** Ours: why a QUEUED run waits. */
  waiting_for: z.enum(['capacity', 'worker', 'retry', 'parent', 'tasks', 'lane', 'release']).optional(),
  /** Ours: INPROGRESS, its turn ended, waiting for events until then. */
  waiting_until: Timestamp.optional(),
  /** Ours: the top of its tree. */
  root_run_id: RunId,
  /** Ours: of the top of a tree that the storm guard stopped, whether or not the run itself has ended. */
  tree_stopped: TreeStop.optional(),
  depth: z.int(),
  mode: RunMode,
  /** Ours: the version of its plan that waits for a person; the run is BLOCKED until then. */
  open_plan: z.int().optional(),
  /** Ours: it is a batch; its children are its tasks. */
  is_batch: z.boolean(),
  /** Ours: where a child runs; `parent` is in its parent's sandbox. */
  placement: z.enum(['worker', 'parent']),
  /** Ours: a queued retry starts no sooner than this. */
  not_before: Timestamp.optional(),
  /** Ours: the worker that has or had the current execution. */
  worker_host: z.string().optional(),
})
export type Run = z.infer<typeof Run>

export const PageInfo = z.object({ has_next_page: z.boolean(), next_cursor: z.string().optional() })

const RunPath = z.object({ run_id: RunId })

/** What a search looks for, each by itself. */
export const wordsOf = (q: string): string[] => q.split(/\s+/u).filter((word) => word !== '')

/** Pairs of `metadata[key]=value` that one list may ask for. */
const METADATA_PAIRS_MAX = 5
/** Words that one search may have. */
const SEARCH_WORDS_MAX = 16

const Id = z.string().min(1).max(320)

export const ListRuns = z.object({
  limit: queryNumber(1, 500).default(20),
  /** Of the page before, with the same filters and sort. */
  cursor: z.string().max(2048).optional(),
  /** `agent`: by the name of the skill; runs without one come last. */
  sort_by: z.enum(['updated_at', 'created_at', 'title', 'agent']).default('updated_at'),
  sort_order: z.enum(['asc', 'desc']).default('desc'),
  /** Any of them. */
  state: repeated(RunState),
  /** Some clients of Oz call the API `AGENT_WEBHOOK`. */
  source: z.preprocess((source) => (source === 'AGENT_WEBHOOK' ? 'API' : source), RunSource).optional(),
  execution_location: z.enum(['LOCAL', 'REMOTE']).optional(),
  /** Uid or e-mail address. */
  creator: Id.optional(),
  /** Uid of an agent identity; uid or e-mail address of a person where the run is in the name of no agent. */
  executor: Id.optional(),
  /** `config.name`. */
  name: z.string().min(1).max(256).optional(),
  model_id: z.string().min(1).max(256).optional(),
  /** Uid or, ours, name; `empty-environment`: runs that have none. */
  environment_id: Id.optional(),
  /** The same as `skill_spec`. */
  skill: z.string().min(1).max(1024).optional(),
  skill_spec: z.string().min(1).max(1024).optional(),
  schedule_id: z.uuid().optional(),
  /** Its direct children. */
  ancestor_run_id: RunId.optional(),
  artifact_type: z.enum(['PLAN', 'PULL_REQUEST', 'SCREENSHOT', 'FILE', 'EXTERNAL_REFERENCE']).optional(),
  created_after: AskedTime.optional(),
  created_before: AskedTime.optional(),
  updated_after: AskedTime.optional(),
  /** Every word, in title, skill or the beginning of the prompt; where no run has them, nearly as written. */
  q: z
    .string()
    .max(512)
    .refine((q) => wordsOf(q).length <= SEARCH_WORDS_MAX, `A search has at most ${SEARCH_WORDS_MAX} words.`)
    .optional(),
  /** `metadata[key]=value`, all of them. */
  metadata: z
    .record(MetadataKey, MetadataValue, 'Write it as metadata[key]=value.')
    .refine((m) => Object.keys(m).length <= METADATA_PAIRS_MAX, `at most ${METADATA_PAIRS_MAX} pairs`)
    .optional(),
  /** There are no automations here: no run has one. */
  automation_id: Id.optional(),
  /** Of the agent identity that works on it. */
  factory_uid: Id.optional(),
  /** Ours: only runs that no other run started. */
  top: QueryBoolean.optional(),
  /** Ours: only tops of trees that the storm guard stopped and nobody has released. */
  tree_stopped: QueryBoolean.optional(),
})
export type ListRuns = z.infer<typeof ListRuns>

export const runRoutes = {
  create: route({
    name: 'runs.create',
    method: 'POST',
    idempotent: true,
    path: '/agent/runs',
    aliases: ['/agent/run'],
    tag: 'Runs',
    callers: ['user', 'execution'],
    summary:
      'Create a run; for a run itself, a child of its own. An Idempotency-Key header makes repeating it safe for 24 hours.',
    body: CreateRun,
    body_bytes_max: CREATE_RUN_BYTES_MAX,
    answer: CreatedRun,
  }),
  list: route({
    name: 'runs.list',
    method: 'GET',
    path: '/agent/runs',
    tag: 'Runs',
    callers: ['user', 'execution'],
    summary: 'List runs, filtered and sorted, by opaque cursor; newest change first where nothing else is asked for.',
    query: ListRuns,
    answer: z.object({ runs: z.array(Run), page_info: PageInfo }),
  }),
  get: route({
    name: 'runs.get',
    method: 'GET',
    path: '/agent/runs/{run_id}',
    tag: 'Runs',
    callers: ['user', 'execution'],
    summary: 'One run.',
    params: RunPath,
    answer: Run,
  }),
  cancel: route({
    name: 'runs.cancel',
    method: 'POST',
    path: '/agent/runs/{run_id}/cancel',
    aliases: ['/agent/tasks/{run_id}/cancel'],
    tag: 'Runs',
    callers: ['user', 'execution'],
    summary:
      'Cancel a run, or with `cascade` (ours) its whole subtree at once. The intent is kept until the run has ended.',
    params: RunPath,
    body: z.object({ cascade: z.boolean().optional() }),
    answer: z.string(),
  }),
  retry: route({
    name: 'runs.retry',
    method: 'POST',
    path: '/agent/runs/{run_id}/retry',
    tag: 'Runs',
    callers: ['user'],
    summary: 'Start a new execution of a run that has ended (ours).',
    params: RunPath,
    answer: CreatedRun,
  }),
}
