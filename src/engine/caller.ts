/** Who is asking. The engine looks at nothing else of a request to decide what may be seen or done. */
export type Caller = UserCaller | WorkerCaller | ExecutionCaller

export type UserCaller = { kind: 'user'; team_id: string; user_id: string; by: 'api_key' | 'session' }
/** A worker's key: opens worker connections, nothing else. */
export type WorkerCaller = { kind: 'worker'; team_id: string; user_id: string; by: 'api_key' }
/** A runner, or what runs in its sandbox: may touch its own run alone. */
export type ExecutionCaller = {
  kind: 'execution'
  team_id: string
  run_id: string
  execution_id: string
  by: 'execution_token'
  /** An ended execution may only repeat what it said to its own runner routes. */
  ended: boolean
}
