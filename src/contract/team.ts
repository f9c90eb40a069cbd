/** The team: what all its runs together, and each tree of them, may use. */
import { z } from 'zod'
import { BATCH_TASKS_MAX } from './batches.ts'
import { route } from './route.ts'
import { TreeLimits } from './trees.ts'

const Count = z.int().max(2_000_000_000)

export const TeamLimits = TreeLimits.extend({
  /** Runs under way at once. */
  max_concurrent_runs: z.int(),
  /** Tasks of one batch. */
  max_batch_tasks: z.int(),
  /** Children whose mode has them propose a plan wait for a person, too; else it counts as approved. */
  children_ask: z.boolean(),
  /** Bytes of all uploaded files together: artifacts, attachments, snapshots. Null: no limit. */
  max_file_bytes: z.int().nullable(),
})
export type TeamLimits = z.infer<typeof TeamLimits>

export const ChangeTeamLimits = z
  .object({
    max_concurrent_runs: Count.min(1),
    max_depth: Count.min(0),
    max_children: Count.min(0),
    max_tree_runs: Count.min(1),
    max_tree_messages: Count.min(0),
    max_tree_wakes: Count.min(0),
    max_hops: Count.min(1),
    max_batch_tasks: z.int().min(0).max(BATCH_TASKS_MAX),
    children_ask: z.boolean(),
    /** Null: no limit. */
    max_tree_tokens: z.int().min(0).nullable(),
    max_file_bytes: z.int().min(0).nullable(),
  })
  .partial()
export type ChangeTeamLimits = z.infer<typeof ChangeTeamLimits>

export const teamRoutes = {
  limits: route({
    name: 'team.limits',
    method: 'GET',
    path: '/team/limits',
    tag: 'Team',
    callers: ['user'],
    summary: "The limits of the caller's team (ours).",
    answer: TeamLimits,
  }),
  changeLimits: route({
    name: 'team.change_limits',
    method: 'PATCH',
    path: '/team/limits',
    tag: 'Team',
    callers: ['user'],
    role: 'admin',
    summary: 'Change limits of the team; what is not named stays (ours). Only its admins may.',
    body: ChangeTeamLimits,
    answer: TeamLimits,
  }),
}
