/** A client of everything that the contract has. */
import { routes } from '../contract/index.ts'
import { type CallsOf, type ClientOptions, callsOf } from './calls.ts'

export * from './calls.ts'

export type Client = CallsOf<typeof routes>

export const connect = (options: ClientOptions): Client => callsOf(routes, options)
