/** Inside a sandbox the command line acts for the run that it stands in, with that run's own token (`WARP_API_KEY`). */
import { ACTING_RUN_HEADER } from '../contract/index.ts'
import type { Client } from '../sdk/client.ts'
import { type Context, clientOf } from './context.ts'

/** The run that this command line stands in; undefined outside of any. */
export const ownRun = (context: Context): string | undefined =>
  context.env.OZ_RUN_ID || context.env.WARP_RUN_ID || undefined

/** Speaks for `run_id` where one is given, as programs of Oz expect it. */
export const actingClient = (context: Context, run_id = ownRun(context)): Client =>
  clientOf(context, run_id === undefined ? {} : { [ACTING_RUN_HEADER]: run_id })
