/** Teams, their members and invitations (ours). A person may be in several teams; a key or a session acts for one. */
import { z } from 'zod'
import { NoNul } from './config.ts'
import { Role } from './roles.ts'
import { Nothing, route } from './route.ts'
import { Timestamp } from './run-states.ts'
import { UserProfile } from './runs.ts'

const Name = NoNul.trim().min(1, 'A name must not be empty.').max(128)
const Email = z.email('not an e-mail address').max(254)

/** How long an invitation stands, in seconds: where nothing is said, and at most. */
const INVITE_SECONDS = 7 * 24 * 3600
const INVITE_SECONDS_MAX = 90 * 24 * 3600

export const Membership = z.object({
  team_id: z.uuid(),
  name: z.string(),
  /** The caller's. */
  role: Role,
  /** The team that the key or session acts for. */
  is_current: z.boolean(),
  members: z.int(),
  created_at: Timestamp,
})
export type Membership = z.infer<typeof Membership>

export const Member = z.object({
  user_id: z.uuid(),
  display_name: z.string(),
  email: z.string().optional(),
  role: Role,
  joined_at: Timestamp,
  /** When a key or session of theirs was used last, exact to a minute. */
  last_used_at: Timestamp.nullable(),
})
export type Member = z.infer<typeof Member>

export const Invite = z.object({
  invite_id: z.uuid(),
  role: Role,
  email: z.string().optional(),
  created_at: Timestamp,
  expires_at: Timestamp,
  creator: UserProfile,
})
export type Invite = z.infer<typeof Invite>

export const CreateInvite = z.object({
  role: Role.default('member'),
  /** Who takes the invitation anew gets it as theirs; nothing is sent there. */
  email: Email.optional(),
  expires_in_seconds: z.int().min(60).max(INVITE_SECONDS_MAX).default(INVITE_SECONDS),
})
export type CreateInvite = z.infer<typeof CreateInvite>

export const AcceptInvite = z.object({
  code: z.string().min(1).max(256),
  /** Of somebody new; who shows a key or a session joins as who they are. */
  display_name: Name.optional(),
  /** What the answer opens the team with. */
  with: z.enum(['api_key', 'session']).default('api_key'),
})
export type AcceptInvite = z.infer<typeof AcceptInvite>

export const Joined = z.object({
  team: z.object({ team_id: z.uuid(), name: z.string() }),
  user: z.object({ user_id: z.uuid(), display_name: z.string() }),
  role: Role,
  /** A personal key for the team, shown this once. */
  api_key: z.string().optional(),
})
export type Joined = z.infer<typeof Joined>

const TeamPath = z.object({ team_id: z.uuid() })
const MemberPath = z.object({ user_id: z.uuid() })
const InvitePath = z.object({ invite_id: z.uuid() })
const tag = 'Team'

export const teamsRoutes = {
  list: route({
    name: 'teams.list',
    method: 'GET',
    path: '/teams',
    tag,
    callers: ['user'],
    summary: "The teams that the caller is in; with a team's or an agent's key that team alone (ours).",
    answer: z.object({ teams: z.array(Membership) }),
  }),
  create: route({
    name: 'teams.create',
    method: 'POST',
    path: '/teams',
    tag,
    callers: ['user'],
    role: 'admin',
    people: true,
    summary: 'Make a team; the caller is its owner, and the answer has a key for it, shown this once (ours).',
    body: z.object({ name: Name }),
    answer: Joined,
    status: 201,
  }),
  get: route({
    name: 'teams.get',
    method: 'GET',
    path: '/teams/{team_id}',
    tag,
    callers: ['user'],
    summary: 'One team that the caller is in (ours).',
    params: TeamPath,
    answer: Membership,
  }),
  update: route({
    name: 'teams.update',
    method: 'PATCH',
    path: '/teams/{team_id}',
    tag,
    callers: ['user'],
    role: 'admin',
    people: true,
    summary: 'Rename the team that the key or session acts for (ours).',
    params: TeamPath,
    body: z.object({ name: Name.optional() }),
    answer: Membership,
  }),
  members: route({
    name: 'teams.members',
    method: 'GET',
    path: '/team/members',
    tag,
    callers: ['user'],
    summary: 'The members of the team, by name (ours).',
    answer: z.object({ members: z.array(Member) }),
  }),
  changeRole: route({
    name: 'teams.change_role',
    method: 'PATCH',
    path: '/team/members/{user_id}',
    tag,
    callers: ['user'],
    role: 'admin',
    people: true,
    summary: "Change a member's role; to make or unmake an owner takes an owner. The last owner stays one (ours).",
    params: MemberPath,
    body: z.object({ role: Role.optional() }),
    answer: Member,
  }),
  invites: route({
    name: 'teams.invites',
    method: 'GET',
    path: '/team/invites',
    tag,
    callers: ['user'],
    role: 'admin',
    people: true,
    summary: 'Invitations that can still be taken, oldest first (ours).',
    answer: z.object({ invites: z.array(Invite) }),
  }),
  invite: route({
    name: 'teams.invite',
    method: 'POST',
    path: '/team/invites',
    tag,
    callers: ['user'],
    role: 'admin',
    people: true,
    summary:
      'Invite somebody. Nothing is sent: the answer has a code and a link, shown this once, for one person to take. ' +
      'To invite an owner takes an owner (ours).',
    body: CreateInvite,
    answer: Invite.extend({ code: z.string(), link: z.string() }),
    status: 201,
  }),
  revokeInvite: route({
    name: 'teams.revoke_invite',
    method: 'DELETE',
    path: '/team/invites/{invite_id}',
    tag,
    callers: ['user'],
    role: 'admin',
    people: true,
    summary: 'Take an invitation back (ours).',
    params: InvitePath,
    answer: Nothing,
    status: 204,
  }),
  join: route({
    name: 'teams.join',
    method: 'POST',
    path: '/invites/accept',
    tag,
    callers: [],
    summary:
      'Take an invitation, once. With a key or a session of a person, that person joins; without, somebody new, by ' +
      '`display_name` (ours).',
    body: AcceptInvite,
    answer: Joined,
  }),
}
