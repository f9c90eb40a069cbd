/** Runs: one piece of work given to an agent. Paths and fields are those of the public Oz v1 API; ours are marked. */
import { z } from 'zod'
import { AgentConfig } from './config.ts'
import { FaultCode } from './faults.ts'
import { RunMode } from './modes.ts'
import { QueryBoolean, repeated, route } from './route.ts'
import { SkillSpec } from './skills.ts'
import { RequestUsage } from './usage.ts'

export const RUN_STATES = [
  'QUEUED',
  'PENDING',
  'CLAIMED',
  'INPROGRESS',
  'SUCCEEDED',
  'FAILED',
  'ERROR',
  'BLOCKED',
  'CANCELLED',
] as const
export type RunState = (typeof RUN_STATES)[number]

/** Accepts the GraphQL spelling and lower case; emits the REST spelling. */
export const RunState = z.preprocess(
  (v) => (typeof v === 'string' ? v.toUpperCase().replace(/^IN[_-]PROGRESS$/, 'INPROGRESS') : v),
  z.enum(RUN_STATES),
)

/** States in which nothing more happens unless somebody asks for it. */
export const ENDED_STATES = ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'] as const satisfies readonly RunState[]
export const isEnded = (state: RunState): boolean => (ENDED_STATES as readonly RunState[]).includes(state)

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
] as const
export const RunSource = z.enum(RUN_SOURCES)
export type RunSource = z.infer<typeof RunSource>

export const Timestamp = z.string()
export const RunId = z.uuid()

/** The longest prompt, in bytes of UTF-8. */
export const PROMPT_BYTES_MAX = 1024 * 1024

export const Metadata = z
  .record(
    z.string().regex(/^[a-zA-Z0-9._-]{1,64}$/),
    z
      .string()
      .refine((v) => new TextEncoder().encode(v).length <= 256 && !v.includes('\0'), 'at most 256 bytes, no NUL'),
  )
  .refine((m) => Object.keys(m).length <= 20, 'at most 20 keys')

const Prompt = z
  .string()
  .refine(
    (p) => new TextEncoder().encode(p).length <= PROMPT_BYTES_MAX,
    `A prompt is at most ${PROMPT_BYTES_MAX} bytes.`,
  )
  .refine((p) => !p.includes('\0'), 'A prompt has no NUL byte.')

export const CreateRun = z.object({
  /** May be absent where a skill is named. */
  prompt: Prompt.optional(),
  /** Goes before `config.skill_spec` and `config.skills`. */
  skill: SkillSpec.optional(),
  title: z.string().max(512).optional(),
  config: AgentConfig.optional(),
  metadata: Metadata.optional(),
  team: z.boolean().optional(),
  interactive: z.boolean().optional(),
  /** Uid or, ours, name of the agent identity that works on it; null: none, also where the parent has one. */
  agent_identity_uid: z.string().min(1).max(128).nullish(),
  /** Makes the run a child of that one: inherits its configuration where its own says nothing. */
  parent_run_id: RunId.optional(),
  mode: RunMode.optional(),
  /** Ours: `parent` runs beside the parent, in its sandbox and files. */
  placement: z.enum(['worker', 'parent']).optional(),
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
})

export const StatusMessage = z.object({
  message: z.string(),
  error_code: FaultCode.optional(),
  retryable: z.boolean().optional(),
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
  creator: UserProfile,
  executor: UserProfile,
  request_usage: RequestUsage.optional(),
  agent_config: AgentConfig,
  agent_skill: z.object({ name: z.string(), full_path: z.string().optional() }).optional(),
  /** Ours: the environment that `agent_config.environment_id` names. */
  environment: z.object({ uid: z.string(), name: z.string() }).optional(),
  conversation_id: z.string(),
  session_id: z.string().optional(),
  session_link: z.string().optional(),
  parent_run_id: z.string().optional(),
  is_sandbox_running: z.boolean(),
  is_run_type_cancellable: z.boolean(),
  artifacts: z.array(z.unknown()),
  /** Ours: the last ones, oldest first. */
  notices: z.array(Notice),
  scope: z.object({ type: z.enum(['User', 'Team']), uid: z.string().optional() }),
  metadata: z.record(z.string(), z.string()),
  last_event_sequence: z.number().nullable(),
  children: z.array(z.string()),
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
  waiting_for: z.enum(['capacity', 'worker', 'retry', 'parent', 'tasks', 'lane']).optional(),
  /** Ours: INPROGRESS, its turn ended, waiting for events until then. */
  waiting_until: Timestamp.optional(),
  /** Ours: the top of its tree. */
  root_run_id: RunId,
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

export const ListRuns = z.object({
  limit: z.coerce.number().int().min(1).max(500).default(20),
  cursor: z.string().max(2048).optional(),
  sort_by: z.enum(['updated_at', 'created_at']).default('updated_at'),
  sort_order: z.enum(['asc', 'desc']).default('desc'),
  state: repeated(RunState),
  source: RunSource.optional(),
  execution_location: z.enum(['LOCAL', 'REMOTE']).optional(),
  creator: z.string().optional(),
  name: z.string().optional(),
  created_after: z.iso.datetime({ offset: true }).optional(),
  created_before: z.iso.datetime({ offset: true }).optional(),
  updated_after: z.iso.datetime({ offset: true }).optional(),
  ancestor_run_id: RunId.optional(),
  /** Ours: only runs that no other run started. */
  top: QueryBoolean.optional(),
  q: z.string().max(512).optional(),
})
export type ListRuns = z.infer<typeof ListRuns>

export const runRoutes = {
  create: route({
    name: 'runs.create',
    method: 'POST',
    path: '/agent/runs',
    aliases: ['/agent/run'],
    tag: 'Runs',
    callers: ['user', 'execution'],
    summary:
      'Create a run; for a run itself, a child of its own. An Idempotency-Key header makes repeating it safe for 24 hours.',
    body: CreateRun,
    answer: CreatedRun,
  }),
  list: route({
    name: 'runs.list',
    method: 'GET',
    path: '/agent/runs',
    tag: 'Runs',
    callers: ['user', 'execution'],
    summary: 'List runs, newest change first, by opaque cursor.',
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
