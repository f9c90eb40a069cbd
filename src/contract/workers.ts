/**
 * Workers: daemons that open sandboxes. They speak the public Oz self-hosted worker protocol over a WebSocket at
 * `/api/v1/selfhosted/worker/ws?worker_id=…`; text frames of `{type, data}`. Frames marked ours are optional on
 * both sides: a worker that never says `worker_hello` is offered runs until it rejects one.
 */
import { z } from 'zod'
import { ProviderModels } from './models.ts'
import { route } from './route.ts'
import { Timestamp } from './run-states.ts'
import { ModelKey, TaskAssignment } from './task-assignments.ts'

export const WORKER_SOCKET_PATH = '/api/v1/selfhosted/worker/ws'

/** The public list of the protocol. */
export const WORKER_FAILURES = [
  'unknown',
  'task_timeout',
  'task_cancelled',
  'graceful_shutdown',
  'image_pull',
  'sidecar_prep',
  'container_create',
  'container_start',
  'container_wait',
  'container_exit',
  'container_oom',
  'workspace_setup',
  'setup_command',
  'agent_invocation',
  'teardown_command',
  'dispatch_command',
  'dispatch_timeout',
  'cancel_command',
  'job_create',
  'job_watch',
  'job_failed',
  'evicted',
  'pod_watch',
  'unschedulable',
  'volume_mount',
  'init_container',
  'invalid_image',
  'active_deadline',
  'cleanup',
] as const

const Running = z.object({ task_id: z.string(), execution_id: z.string() })

export const FromWorker = z.discriminatedUnion('type', [
  /** Ours: said after each connect. `running` lets a restarted worker keep what it adopted. */
  z.object({
    type: z.literal('worker_hello'),
    data: z.object({
      capacity: z.int().nonnegative(),
      running: z.array(Running),
      version: z.string(),
      backend: z.string(),
      /** Harness names that this worker can start. Empty: not known. */
      harnesses: z.array(z.string()).default([]),
      /** Providers for which it takes keys of single executions. */
      brokers: z.array(z.string().max(64)).max(16).optional(),
    }),
  }),
  /** Ours: what its providers answered when it asked for their models; said whenever that is known anew. */
  z.object({ type: z.literal('worker_models'), data: z.object({ providers: z.array(ProviderModels).max(16) }) }),
  z.object({
    type: z.literal('task_claimed'),
    data: z.object({ task_id: z.string(), worker_id: z.string(), execution_id: z.string().optional() }),
  }),
  z.object({
    type: z.literal('task_rejected'),
    data: z.object({ task_id: z.string(), reason: z.string(), execution_id: z.string().optional() }),
  }),
  z.object({
    type: z.literal('task_completed'),
    data: z.object({
      task_id: z.string(),
      message: z.string().default(''),
      task_state: z.string().optional(),
      execution_id: z.string().optional(),
    }),
  }),
  z.object({
    type: z.literal('task_failed'),
    data: z.object({
      task_id: z.string(),
      message: z.string().default(''),
      task_state: z.string().optional(),
      failure_reason: z.string().optional(),
      exit_code: z.int().optional(),
      execution_id: z.string().optional(),
    }),
  }),
])
export type FromWorker = z.infer<typeof FromWorker>

export const ToWorker = z.discriminatedUnion('type', [
  /** Ours: the run waits for events and takes up no slot, or goes on. */
  z.object({
    type: z.literal('task_waiting'),
    data: z.object({ task_id: z.string(), execution_id: z.string().optional(), waiting: z.boolean() }),
  }),
  /** Ours: what the assignment of a run brought, again, for a worker that was started anew and still has the run. */
  z.object({
    type: z.literal('task_model_keys'),
    data: z.object({ task_id: z.string(), execution_id: z.string(), model_keys: z.array(ModelKey) }),
  }),
  z.object({ type: z.literal('task_assignment'), data: TaskAssignment }),
  z.object({
    type: z.literal('task_cancellation'),
    data: z.object({ task_id: z.string(), execution_id: z.string().optional() }),
  }),
])
export type ToWorker = z.infer<typeof ToWorker>

export const Worker = z.object({
  worker_host: z.string(),
  connection_count: z.int(),
  connected_at: Timestamp,
  last_seen_at: Timestamp,
  /** Ours. Absent where a worker did not say. */
  capacity: z.int().optional(),
  running: z.int(),
  backend: z.string().optional(),
  version: z.string().optional(),
  harnesses: z.array(z.string()).optional(),
})
export type Worker = z.infer<typeof Worker>

export const workerRoutes = {
  list: route({
    name: 'workers.list',
    method: 'GET',
    path: '/agent/connected-self-hosted-workers',
    tag: 'Workers',
    callers: ['user'],
    summary: 'Workers that are connected now, to any server.',
    answer: z.object({ workers: z.array(Worker) }),
  }),
}
