/** What every part of the server works with. */
import type { Logger } from 'pino'
import type { Route } from '../contract/index.ts'
import type { Clock } from '../db/clock.ts'
import type { Database } from '../db/connect.ts'
import type { Engine } from '../engine/engine.ts'
import type { WrongKeys } from './callers.ts'
import type { Guard } from './guard.ts'
import type { Hub } from './hub.ts'
import type { KnownCallers } from './known.ts'
import type { ServerLimits } from './limits.ts'
import type { Streams } from './streams.ts'
import type { Watches } from './watches.ts'

/** Looks at each answer before it is sent, and throws where it is not as the contract says. */
export type CheckAnswer = (route: Route, answer: unknown) => void

export type ServerRoom = {
  engine: Engine
  database: Database
  clock: Clock
  log: Logger
  limits: ServerLimits
  server_id: string
  version: string
  /** The address that the server is bound to. */
  host: string
  /** Names besides loopback under which it is reached. */
  public_hosts: string[]
  /** Where others reach this server; null: where each was when it asked. */
  public_url: string | null
  hub: Hub
  watches: Watches
  streams: Streams
  wrong_keys: WrongKeys
  known: KnownCallers
  guard: Guard
  checkAnswer: CheckAnswer | null
}
