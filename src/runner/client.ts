/** What a runner asks the server: the routes that it needs alone, so that it loads no others. */
import { attachmentRoutes, executionRoutes, federationRoutes, handoffRoutes } from '../contract/index.ts'
import { type CallsOf, type ClientOptions, callsOf } from '../sdk/calls.ts'

const ROUTES = {
  attachments: attachmentRoutes,
  executions: executionRoutes,
  federation: federationRoutes,
  handoff: handoffRoutes,
}

export type Client = CallsOf<typeof ROUTES>

export const connect = (options: ClientOptions): Client => callsOf(ROUTES, options)
