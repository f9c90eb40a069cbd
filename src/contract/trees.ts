/**
 * Trees: a run and all that descends from it. A parent's own state speaks of its own work alone; the state of the
 * tree is computed here, never stored.
 */
import { z } from 'zod'
import { route } from './route.ts'
import { RunId, RunState, Timestamp } from './run-states.ts'
import { RequestUsage } from './usage.ts'

/** Why the storm guard stopped a tree. */
export const STOPS = ['hops', 'messages', 'wakes', 'tokens'] as const

export const TreeStop = z.object({ reason: z.enum(STOPS), message: z.string(), at: Timestamp })

export const TreeLimits = z.object({
  max_depth: z.int(),
  max_children: z.int(),
  max_tree_runs: z.int(),
  max_tree_messages: z.int(),
  max_tree_wakes: z.int(),
  max_hops: z.int(),
  max_tree_tokens: z.int().nullable(),
})
export type TreeLimits = z.infer<typeof TreeLimits>

export const TreeNode = z.object({
  run_id: RunId,
  parent_run_id: RunId.nullable(),
  depth: z.int(),
  /** The name that its parent gave it, else its title. */
  name: z.string(),
  title: z.string(),
  state: RunState,
  /** Its turn has ended and it waits for events. */
  waiting: z.boolean(),
  harness: z.string(),
  created_at: Timestamp,
  started_at: Timestamp.nullable(),
  ended_at: Timestamp.nullable(),
  worker_host: z.string().optional(),
  /** The end of what it said last, one line. */
  last_words: z.string().optional(),
  /** Messages accepted and not delivered yet. */
  undelivered: z.int(),
  total_tokens: z.number(),
})
export type TreeNode = z.infer<typeof TreeNode>

export const Tree = z.object({
  root_run_id: RunId,
  /** Parents before children, siblings in the order of their birth. */
  nodes: z.array(TreeNode),
  counts: z.partialRecord(z.string(), z.int()),
  /** Nothing of the tree is at work, queued or waiting. */
  done: z.boolean(),
  usage: RequestUsage,
  artifacts: z.array(
    z.object({
      run_id: RunId,
      artifact_uid: z.string(),
      artifact_type: z.string(),
      created_at: Timestamp,
      data: z.unknown(),
    }),
  ),
  limits: TreeLimits,
  messages: z.int(),
  wakes: z.int(),
  /** Set while the storm guard holds the tree; a person releases it. */
  stopped: TreeStop.nullable(),
})
export type Tree = z.infer<typeof Tree>

const RunPath = z.object({ run_id: RunId })

export const treeRoutes = {
  get: route({
    name: 'trees.get',
    method: 'GET',
    path: '/agent/runs/{run_id}/tree',
    tag: 'Trees',
    callers: ['user', 'execution'],
    summary: 'The tree below a run, its state and what it used (ours).',
    params: RunPath,
    answer: Tree,
  }),
  release: route({
    name: 'trees.release',
    method: 'POST',
    path: '/agent/runs/{run_id}/release',
    tag: 'Trees',
    callers: ['user'],
    summary: 'Let a tree that the storm guard stopped go on, with fresh limits (ours).',
    params: RunPath,
    answer: Tree,
  }),
}

/** One child that an agent asks for. */
export const SpawnChild = z.object({
  name: z.string().min(1).max(128),
  /** May be absent where skills are named. */
  prompt: z.string().optional(),
  title: z.string().max(512).optional(),
  harness: z.string().max(64).optional(),
  model_id: z.string().max(256).optional(),
  /** Uid or name of an environment or an agent identity; null: none; absent: the parent's. */
  environment_id: z.string().max(128).nullish(),
  agent_identity_uid: z.string().max(128).nullish(),
  skills: z.array(z.string()).optional(),
  /** `worker`: on any worker; `sandbox`: beside its parent, same files; otherwise a worker's name. */
  where: z.string().max(256).optional(),
})
export type SpawnChild = z.infer<typeof SpawnChild>
