/** How a person goes from a team, and how a team ends (ours). */
import { z } from 'zod'
import { Role } from './roles.ts'
import { QueryBoolean, route } from './route.ts'
import { Timestamp } from './run-states.ts'
import { Membership } from './teams.ts'

const EndedKey = z.object({ name: z.string(), scope: z.string(), preview: z.string() })

/** What ended with a membership. */
export const Departure = z.object({
  /** Programs that used one need another. */
  ended_keys: z.array(EndedKey),
  /** Personal runs. */
  cancelled_runs: z.int(),
  /** Schedules that the person made: they make no runs until somebody takes them over. */
  stopped_schedules: z.array(z.object({ id: z.uuid(), name: z.string(), is_personal: z.boolean() })),
})
export type Departure = z.infer<typeof Departure>

export const LeaveTeam = z.object({
  /** Only tell what would come of it. */
  dry_run: z.boolean().optional(),
})
export type LeaveTeam = z.infer<typeof LeaveTeam>

export const Left = Departure.extend({
  /** False: it was asked what would come of it. */
  left: z.boolean(),
  /** What is personal to who leaves: kept, seen by nobody, theirs again if they come back. */
  personal: z.object({ environments: z.int(), agents: z.int(), secrets: z.int() }),
})
export type Left = z.infer<typeof Left>

export const TransferTeam = z.object({
  /** The member who is to be its owner. */
  user_id: z.uuid(),
  /** What the caller is from then on. */
  own_role: Role.exclude(['owner']).default('admin'),
})
export type TransferTeam = z.infer<typeof TransferTeam>

/** How much there is in a team. */
export const TeamContents = z.object({
  name: z.string(),
  /** Runs that have not ended, those among them that are personal to somebody. */
  open_runs: z.int(),
  runs: z.int(),
  members: z.int(),
  schedules: z.int(),
  environments: z.int(),
  agents: z.int(),
  secrets: z.int(),
  /** Keys that stand. */
  api_keys: z.int(),
  /** Workers that are connected. */
  workers: z.int(),
})
export type TeamContents = z.infer<typeof TeamContents>

export const DeleteTeam = z.object({
  /** The team's name, so that no other one is deleted. */
  confirm: z.string().max(256).optional(),
  /** Cancel what is at work; otherwise a team that has such is not deleted. */
  cancel_runs: QueryBoolean.optional(),
})
export type DeleteTeam = z.infer<typeof DeleteTeam>

export const DeletedTeam = z.object({
  team: z.object({ team_id: z.uuid(), name: z.string() }),
  /** What was in it. */
  had: TeamContents,
  cancelled_runs: z.int(),
  /** That would have had a next time. */
  stopped_schedules: z.int(),
  /** With it the team can be restored, as it was; shown this once. */
  restore_code: z.string(),
  restore_until: Timestamp,
})
export type DeletedTeam = z.infer<typeof DeletedTeam>

export const RestoredTeam = z.object({
  team: z.object({ team_id: z.uuid(), name: z.string() }),
  resumed_schedules: z.int(),
})
export type RestoredTeam = z.infer<typeof RestoredTeam>

const TeamPath = z.object({ team_id: z.uuid() })
const tag = 'Team'

export const teamEndRoutes = {
  removeMember: route({
    name: 'teams.remove_member',
    method: 'DELETE',
    path: '/team/members/{user_id}',
    tag,
    callers: ['user'],
    role: 'admin',
    people: true,
    summary:
      'Remove a member. Every key that they made for the team ends with their sessions, their personal runs are ' +
      'cancelled, and their schedules make no runs until somebody takes them over. An owner takes an owner; the last ' +
      'one stays (ours).',
    params: z.object({ user_id: z.uuid() }),
    answer: Departure,
  }),
  leave: route({
    name: 'teams.leave',
    method: 'POST',
    path: '/teams/{team_id}/leave',
    tag,
    callers: ['user'],
    role: 'viewer',
    people: true,
    summary:
      "Leave the team that the key or session acts for: what ends with a member's removal ends. The last owner stays. " +
      '`dry_run` tells what would come of it (ours).',
    params: TeamPath,
    body: LeaveTeam,
    answer: Left,
  }),
  transfer: route({
    name: 'teams.transfer',
    method: 'POST',
    path: '/teams/{team_id}/transfer',
    tag,
    callers: ['user'],
    role: 'owner',
    people: true,
    summary: 'Make another member an owner and the caller an admin, or less, in one step (ours).',
    params: TeamPath,
    body: TransferTeam,
    answer: Membership,
  }),
  contents: route({
    name: 'teams.contents',
    method: 'GET',
    path: '/teams/{team_id}/contents',
    tag,
    callers: ['user'],
    role: 'owner',
    people: true,
    summary: 'How much there is in the team: what deleting it would end (ours).',
    params: TeamPath,
    answer: TeamContents,
  }),
  delete: route({
    name: 'teams.delete',
    method: 'DELETE',
    path: '/teams/{team_id}',
    tag,
    callers: ['user'],
    role: 'owner',
    people: true,
    summary:
      'Delete the team that the key or session acts for; `confirm` says its name. It is closed to everybody at once; ' +
      'for 30 days the code in the answer restores it, then its secrets are destroyed. While runs of it have not ' +
      'ended, that takes `cancel_runs` (ours).',
    params: TeamPath,
    query: DeleteTeam,
    answer: DeletedTeam,
  }),
  restore: route({
    name: 'teams.restore',
    method: 'POST',
    path: '/teams/restore',
    tag,
    callers: [],
    summary:
      'Open a deleted team again with the code that its deletion answered; its keys and members are as before (ours).',
    body: z.object({ code: z.string().min(1).max(256) }),
    answer: RestoredTeam,
  }),
}
