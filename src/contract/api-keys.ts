/** API keys: what acts for a team, and as whom (ours; Oz has only the commands). */
import { z } from 'zod'
import { NoNul } from './config.ts'
import { Uid } from './environments.ts'
import { Role } from './roles.ts'
import { Nothing, route } from './route.ts'
import { AskedTime, Timestamp } from './run-states.ts'
import { UserProfile } from './runs.ts'

/**
 * `personal`: as who made it, personal things among what it sees and makes. `team`: for the team alone. `agent`: as an
 * agent identity, which counts as the creator of its runs. `worker`: opens worker connections, nothing else.
 */
export const KEY_SCOPES = ['personal', 'team', 'agent', 'worker'] as const
export const KeyScope = z.enum(KEY_SCOPES)
export type KeyScope = z.infer<typeof KeyScope>

/** The longest that a key may stand, in seconds; longer is never. */
const KEY_SECONDS_MAX = 10 * 366 * 24 * 3600

export const ApiKey = z.object({
  uid: z.uuid(),
  name: z.string(),
  scope: KeyScope,
  /** Of its value, what may be shown: `wk-1.…` and the last four characters. */
  preview: z.string(),
  created_at: Timestamp,
  /** Exact to a minute. */
  last_used_at: Timestamp.nullable(),
  /** Null: never. */
  expires_at: Timestamp.nullable(),
  is_expired: z.boolean(),
  /** It may do no more than this role; null: what its maker may. */
  role: Role.nullable(),
  /** With whose membership of the team it ends. */
  creator: UserProfile,
  agent: z.object({ uid: Uid, name: z.string() }).optional(),
})
export type ApiKey = z.infer<typeof ApiKey>

/** One of `expires_at` and `expires_in_seconds`. */
export const CreateApiKey = z.object({
  name: NoNul.trim().min(1, 'A name must not be empty.').max(128),
  scope: KeyScope.default('personal'),
  /** The agent identity that it acts as; makes its scope `agent`. */
  agent_uid: Uid.optional(),
  role: Role.optional(),
  /** Null: never. */
  expires_at: AskedTime.nullable().optional(),
  expires_in_seconds: z.int().min(1).max(KEY_SECONDS_MAX).optional(),
})
export type CreateApiKey = z.infer<typeof CreateApiKey>

const KeyPath = z.object({ api_key_uid: z.uuid() })
const tag = 'API keys'

export const apiKeyRoutes = {
  list: route({
    name: 'apiKeys.list',
    method: 'GET',
    path: '/api-keys',
    tag,
    callers: ['user'],
    people: true,
    summary: "The caller's API keys in the team, oldest first; for its admins all keys of the team (ours).",
    answer: z.object({ api_keys: z.array(ApiKey) }),
  }),
  create: route({
    name: 'apiKeys.create',
    method: 'POST',
    path: '/api-keys',
    tag,
    callers: ['user'],
    people: true,
    // Of the kinds of keys some take more.
    role: 'viewer',
    summary:
      'Make an API key; `api_key` is its value, which is never shown again (ours). A key of an agent or ' +
      'a worker takes an admin, of the team a member.',
    body: CreateApiKey,
    answer: z.object({ api_key: z.string(), key: ApiKey }),
    status: 201,
  }),
  expire: route({
    name: 'apiKeys.expire',
    method: 'POST',
    path: '/api-keys/{api_key_uid}/expire',
    tag,
    callers: ['user'],
    people: true,
    role: 'viewer',
    summary: 'End an API key at once, and what it has opened within a second (ours).',
    params: KeyPath,
    answer: ApiKey,
  }),
  delete: route({
    name: 'apiKeys.delete',
    method: 'DELETE',
    path: '/api-keys/{api_key_uid}',
    tag,
    callers: ['user'],
    people: true,
    role: 'viewer',
    summary: 'The same as expire (ours).',
    params: KeyPath,
    answer: Nothing,
    status: 204,
  }),
}
