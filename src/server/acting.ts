/**
 * The run in whose name a program in a sandbox speaks. An execution's token alone says it; the header of the public
 * protocol may only repeat it, and one that says otherwise is a program in the wrong sandbox. A person's key acts for
 * the run that the header names, as far as the person may.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { z } from 'zod'
import { ACTING_RUN_HEADER, Fault, type Route, WORKLOAD_TOKEN_HEADER } from '../contract/index.ts'
import type { Caller, ExecutionCaller } from '../engine/caller.ts'
import type { Workload } from '../engine/workload.ts'
import { singleHeader } from './requests.ts'

export function actingExecution(caller: Caller, headers: IncomingHttpHeaders): ExecutionCaller {
  if (caller.kind !== 'execution') throw new Fault('not_authorized', "Only a run's own token may do this.")
  actingRun(caller, headers)
  return caller
}

/** Undefined: in nobody's name but the caller's own. */
export function actingRun(caller: Caller, headers: IncomingHttpHeaders): string | undefined {
  const named = singleHeader(headers[ACTING_RUN_HEADER])?.toLowerCase()
  if (caller.kind !== 'execution') {
    if (named === undefined || named === '' || z.uuid().safeParse(named).success) return named || undefined
    throw new Fault('invalid_request', `The header ${ACTING_RUN_HEADER} does not name a run.`)
  }
  if (named !== undefined && named !== caller.run_id)
    throw new Fault('not_authorized', `This token is that of run ${caller.run_id}, not of ${named}.`)
  return caller.run_id
}

/**
 * Who asks, where a workload token is shown beside the key. It may not contradict an execution's own token. With the
 * key of somebody in its team, it speaks for its run where only runs may.
 */
export async function actingCaller(
  workload: Workload,
  route: Pick<Route, 'callers'>,
  caller: Caller,
  headers: IncomingHttpHeaders,
): Promise<Caller> {
  const token = singleHeader(headers[WORKLOAD_TOKEN_HEADER])
  if (token === undefined || token === '') return caller
  if (caller.kind === 'execution' && caller.ended) return caller
  const named = await workload.read(token)
  if (named === null) {
    throw new Fault(
      'authentication_required',
      `The header ${WORKLOAD_TOKEN_HEADER} holds no token of an execution that is at work here.`,
    )
  }
  if (caller.kind === 'execution' && caller.execution_id !== named.execution_id)
    throw new Fault('not_authorized', `This key is that of run ${caller.run_id}, not of ${named.run_id}.`)
  if (caller.kind !== 'user' || route.callers.includes('user')) return caller
  if (caller.team_id !== named.team_id || (named.owner_user_id ?? caller.owner_user_id) !== caller.owner_user_id)
    throw new Fault('not_authorized', 'This key has nothing to do with the run that the workload token names.')
  return named
}
