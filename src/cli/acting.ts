/** Inside a sandbox the command line acts for the run that it stands in, with that run's own token (`WARP_API_KEY`). */
import { ACTING_RUN_HEADER } from '../contract/index.ts'
import { type Client, connect } from '../sdk/client.ts'
import { type Context, clientOf } from './context.ts'

/** The run that this command line stands in; undefined outside of any. */
export const ownRun = (context: Context): string | undefined =>
  context.env.OZ_RUN_ID || context.env.WARP_RUN_ID || undefined

/** Speaks for `run_id` where one is given, as programs of Oz expect it. */
export function actingClient(context: Context, run_id = ownRun(context)): Client {
  const client = clientOf(context)
  if (run_id === undefined) return client
  const { options } = client
  return connect({ ...options, headers: { ...options.headers, [ACTING_RUN_HEADER]: run_id } })
}
