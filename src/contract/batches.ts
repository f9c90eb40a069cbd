/**
 * Batches: a list of tasks for many agents. A batch is a run whose children the server starts: each task is a run of
 * its own, with the same states, events, limits and restarts as any other. All routes are ours.
 */
import { z } from 'zod'
import { AgentConfig, HarnessName } from './config.ts'
import { queryNumber, repeated, route } from './route.ts'
import { RunId, Timestamp } from './run-states.ts'
import { Metadata, PageInfo, UserProfile } from './runs.ts'
import { RequestUsage } from './usage.ts'

/** Tasks of one batch that the contract bears; a team's own limit is `max_batch_tasks`. */
export const BATCH_TASKS_MAX = 10_000
export const BATCH_CONCURRENCY = 4
export const BATCH_RETRIES = 2

export const RetryOn = z.enum(['retryable', 'all'])
export type RetryOn = z.infer<typeof RetryOn>

/** What a task and a batch's defaults both may say; a task's own word goes first. */
const TaskSettings = z.object({
  harness: HarnessName.optional(),
  model_id: z.string().max(256).optional(),
  /** An environment by uid or name. */
  environment: z.string().max(128).optional(),
  worker_host: z.string().max(256).optional(),
  timeout_minutes: AgentConfig.shape.timeout_minutes,
  /** Tries after the first, with growing pauses between them. */
  max_retries: z.int().min(0).max(19).optional(),
  /** `retryable`: failures that trying again may mend, such as a busy provider. `all`: whatever it was. */
  retry: RetryOn.optional(),
  /** Everything else that a run may be given. */
  config: AgentConfig.optional(),
})

const TaskName = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[\p{L}\p{N}][\p{L}\p{N} ._/@:-]*$/u, "A task's name begins with a letter or digit and has no special signs.")

export const BatchTaskSpec = TaskSettings.extend({
  /** `task-N` where absent. */
  name: TaskName.optional(),
  prompt: z
    .string()
    .min(1)
    .max(1024 * 1024),
  title: z.string().max(512).optional(),
  /** Names of tasks that must have completed; their results are given to this one. */
  depends_on: z.array(z.string().max(128)).max(500).optional(),
})
export type BatchTaskSpec = z.infer<typeof BatchTaskSpec>

export const CreateBatch = z.object({
  title: z.string().max(512).optional(),
  tasks: z.array(BatchTaskSpec).min(1, 'A batch needs a task.').max(BATCH_TASKS_MAX),
  /** So many tasks are at work at a time. */
  concurrency: z.int().min(1).max(1000).default(BATCH_CONCURRENCY),
  /** Put before each prompt, with a blank line. */
  base_prompt: z.string().max(131_072).optional(),
  defaults: TaskSettings.optional(),
  /** The first task that fails for good keeps the others from starting; those at work go on. */
  stop_on_failure: z.boolean().default(false),
  /** Of the batch and of each task. */
  metadata: Metadata.optional(),
  /** False: seen by its maker alone, as are its tasks. */
  team: z.boolean().optional(),
  /** Only with the key of an agent that may: this person, by e-mail or id, counts as its creator. */
  on_behalf_of: z.string().min(1).max(320).optional(),
})
export type CreateBatch = z.infer<typeof CreateBatch>

export const BATCH_STATES = ['running', 'paused', 'completed', 'failed', 'cancelled'] as const
export const TASK_STATES = ['pending', 'running', 'completed', 'failed', 'cancelled'] as const
export const TaskState = z.enum(TASK_STATES)
export type TaskState = z.infer<typeof TaskState>

export const Batch = z.object({
  /** The batch is itself a run; this is its id. */
  batch_id: RunId,
  title: z.string(),
  /** `failed`: a task failed for good and none is left to do. */
  state: z.enum(BATCH_STATES),
  concurrency: z.int(),
  stop_on_failure: z.boolean(),
  /** How it ended, in a sentence; null before that, and where somebody cancelled it as a whole. */
  message: z.string().nullable(),
  /** Tasks by state; each state is there. */
  counts: z.record(TaskState, z.int()),
  tasks: z.int(),
  created_at: Timestamp,
  ended_at: Timestamp.nullable(),
  creator: UserProfile,
  usage: RequestUsage,
})
export type Batch = z.infer<typeof Batch>

export const BatchTask = z.object({
  run_id: RunId,
  /** 1, 2, 3… in the order of the list. */
  number: z.int(),
  name: z.string(),
  title: z.string(),
  /** `failed` with `next_try_at`: it is tried again then, or as soon as there is room. */
  state: TaskState,
  /** Executions that counted as tries, and how many there may be. */
  tries: z.int(),
  max_tries: z.int(),
  next_try_at: Timestamp.nullable(),
  depends_on: z.array(z.string()),
  harness: z.string(),
  /** Why it failed, failed last, or was not started. */
  error: z.string().nullable(),
  /** The end of what it said last, one line. */
  last_words: z.string().nullable(),
  started_at: Timestamp.nullable(),
  ended_at: Timestamp.nullable(),
})
export type BatchTask = z.infer<typeof BatchTask>

const BatchPath = z.object({ batch_id: RunId })
const TAG = 'Batches'

export const batchRoutes = {
  create: route({
    name: 'batches.create',
    method: 'POST',
    idempotent: true,
    path: '/agent/batches',
    tag: TAG,
    callers: ['user'],
    summary: 'Start a batch of tasks. An Idempotency-Key header makes repeating it safe for 24 hours.',
    body: CreateBatch,
    answer: Batch,
    body_bytes_max: 32 * 1024 * 1024,
  }),
  list: route({
    name: 'batches.list',
    method: 'GET',
    path: '/agent/batches',
    tag: TAG,
    callers: ['user'],
    summary: 'Batches, newest first, by opaque cursor.',
    query: z.object({
      limit: queryNumber(1, 200).default(20),
      cursor: z.string().max(2048).optional(),
    }),
    answer: z.object({ batches: z.array(Batch), page_info: PageInfo }),
  }),
  get: route({
    name: 'batches.get',
    method: 'GET',
    path: '/agent/batches/{batch_id}',
    tag: TAG,
    callers: ['user'],
    summary: 'One batch.',
    params: BatchPath,
    answer: Batch,
  }),
  tasks: route({
    name: 'batches.tasks',
    method: 'GET',
    path: '/agent/batches/{batch_id}/tasks',
    tag: TAG,
    callers: ['user'],
    summary: 'The tasks of a batch in the order of its list, after number `after`.',
    params: BatchPath,
    query: z.object({
      state: repeated(TaskState),
      after: queryNumber(0).default(0),
      limit: queryNumber(1, BATCH_TASKS_MAX).default(500),
    }),
    answer: z.object({ tasks: z.array(BatchTask), has_more: z.boolean() }),
  }),
  update: route({
    name: 'batches.update',
    method: 'PATCH',
    path: '/agent/batches/{batch_id}',
    tag: TAG,
    callers: ['user'],
    summary: 'Change how many tasks are at work at a time.',
    params: BatchPath,
    body: z.object({ concurrency: z.int().min(1).max(1000) }),
    answer: Batch,
  }),
  pause: route({
    name: 'batches.pause',
    method: 'POST',
    path: '/agent/batches/{batch_id}/pause',
    tag: TAG,
    callers: ['user'],
    summary: 'Start no further tasks until it is resumed; those at work go on. Repeating it changes nothing.',
    params: BatchPath,
    answer: Batch,
  }),
  resume: route({
    name: 'batches.resume',
    method: 'POST',
    path: '/agent/batches/{batch_id}/resume',
    tag: TAG,
    callers: ['user'],
    summary: 'Start tasks again. Repeating it changes nothing.',
    params: BatchPath,
    answer: Batch,
  }),
  retry: route({
    name: 'batches.retry',
    method: 'POST',
    path: '/agent/batches/{batch_id}/retry',
    tag: TAG,
    callers: ['user'],
    summary:
      'Try the tasks again that failed or were cancelled; with `tasks` those of these names, what they depend on and what waits for them.',
    params: BatchPath,
    body: z.object({ tasks: z.array(z.string().max(128)).min(1).max(BATCH_TASKS_MAX).optional() }),
    answer: Batch,
  }),
  cancel: route({
    name: 'batches.cancel',
    method: 'POST',
    path: '/agent/batches/{batch_id}/cancel',
    tag: TAG,
    callers: ['user'],
    summary: 'Cancel the batch, its tasks and whatever they started.',
    params: BatchPath,
    answer: Batch,
  }),
}
