/** What a runner asks the server: the routes of executions alone, so that it loads no others. */
import { executionRoutes } from '../contract/index.ts'
import { type CallsOf, type ClientOptions, callsOf } from '../sdk/calls.ts'

const ROUTES = { executions: executionRoutes }

export type Client = CallsOf<typeof ROUTES>

export const connect = (options: ClientOptions): Client => callsOf(ROUTES, options)
