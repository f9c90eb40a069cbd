/** Who is asking. The engine looks at nothing else of a request to decide what may be seen or done. */
import type { Role } from '../contract/index.ts'

export type Caller = UserCaller | WorkerCaller | ExecutionCaller

/**
 * Whose a thing is, and what a caller may use: `owner_user_id` null is the team's alone, else also what is that
 * person's in the team.
 */
export type Owned = { team_id: string; owner_user_id: string | null }

/** A person, or a program with a key that a person made. */
export type UserCaller = Owned & {
  kind: 'user'
  /** The person behind it: also of a key that acts for the team or as an agent. */
  user_id: string
  role: Role
  /** Set: it acts as this agent identity. */
  identity_uid: string | null
  /** The key that was shown, or that opened the session. */
  key_id: string | null
  by: 'api_key' | 'session'
}
/** A worker's key: opens worker connections, nothing else. `role`: of who made it. */
export type WorkerCaller = Owned & { kind: 'worker'; user_id: string; role: Role; key_id: string; by: 'api_key' }
/** A runner, or what runs in its sandbox: may touch its own run alone. A personal run's sees what is its owner's. */
export type ExecutionCaller = Owned & {
  kind: 'execution'
  run_id: string
  execution_id: string
  by: 'execution_token'
  /** An ended execution may only repeat what it said to its own runner routes. */
  ended: boolean
}
