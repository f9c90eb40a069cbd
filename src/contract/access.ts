/** Who is asking: API keys, the page's session, one-time login codes. */
import { z } from 'zod'
import { KeyScope } from './api-keys.ts'
import { NoNul } from './config.ts'
import { Role } from './roles.ts'
import { Nothing, route } from './route.ts'
import { Timestamp } from './run-states.ts'

/** Bearer keys: `wk-1.` and 64 hex digits. Execution tokens: `bx-1.` and 64 hex digits. Kept only as SHA-256. */
export const API_KEY_PATTERN = /^wk-1\.[0-9a-f]{64}$/
export const EXECUTION_TOKEN_PATTERN = /^bx-1\.[0-9a-f]{64}$/
export const SESSION_COOKIE = 'baton_session'

export const Team = z.object({ team_id: z.string(), name: z.string(), max_concurrent_runs: z.int() })
export const WhoAmI = z.object({
  kind: z.enum(['user', 'execution', 'worker']),
  /** Of the key of a team or an agent: who made it. */
  user: z.object({ user_id: z.string(), display_name: z.string(), email: z.string().optional() }).optional(),
  /** What a person may do with what was shown. */
  role: Role.optional(),
  team: Team,
  /** The key that was shown, or that opened the session. */
  key: z.object({ uid: z.string(), name: z.string(), scope: KeyScope, expires_at: Timestamp.nullable() }).optional(),
  /** The agent identity that the key acts as. */
  agent: z.object({ uid: z.string(), name: z.string() }).optional(),
  run_id: z.string().optional(),
  /** How the caller showed who it is. */
  by: z.enum(['api_key', 'session', 'execution_token']),
})
export type WhoAmI = z.infer<typeof WhoAmI>

export const Health = z.object({
  status: z.enum(['ok', 'unavailable']),
  version: z.string(),
  server_id: z.string(),
  /** `ready` says that PostgreSQL answered just now. */
  database: z.enum(['ready', 'unavailable']),
})

export const accessRoutes = {
  health: route({
    name: 'access.health',
    method: 'GET',
    path: '/health',
    tag: 'Access',
    callers: [],
    summary: 'Is this server able to work?',
    answer: Health,
  }),
  whoami: route({
    name: 'access.whoami',
    method: 'GET',
    path: '/whoami',
    tag: 'Access',
    callers: ['user', 'execution', 'worker'],
    summary: 'Who the caller is.',
    answer: WhoAmI,
  }),
  rename: route({
    name: 'access.rename',
    method: 'PATCH',
    path: '/whoami',
    tag: 'Access',
    callers: ['user'],
    role: 'viewer',
    people: true,
    summary: 'Change what one is called (ours).',
    body: z.object({ display_name: NoNul.trim().min(1, 'A name must not be empty.').max(128).optional() }),
    answer: WhoAmI,
  }),
  signIn: route({
    name: 'access.sign_in',
    method: 'POST',
    path: '/session',
    tag: 'Access',
    callers: [],
    summary: 'Open a browser session with an API key or a one-time login code; the answer sets an HttpOnly cookie.',
    body: z.union([z.object({ api_key: z.string() }), z.object({ code: z.string() })]),
    answer: WhoAmI,
  }),
  signOut: route({
    name: 'access.sign_out',
    method: 'DELETE',
    path: '/session',
    tag: 'Access',
    callers: ['user'],
    role: 'viewer',
    summary: 'End the browser session.',
    answer: Nothing,
  }),
  createLoginCode: route({
    name: 'access.create_login_code',
    method: 'POST',
    path: '/login-codes',
    tag: 'Access',
    callers: ['user'],
    role: 'viewer',
    people: true,
    summary: 'A code that opens one browser session for the caller within five minutes.',
    answer: z.object({ code: z.string(), expires_at: Timestamp }),
  }),
}
