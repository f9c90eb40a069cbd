import type { IncomingHttpHeaders } from 'node:http'
import { ACTING_RUN_HEADER, Fault, harnessSupportRoutes } from '../../contract/index.ts'
import type { Caller, ExecutionCaller } from '../../engine/caller.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function harnessSupportAnswers({ engine, known }: ServerRoom): Answer[] {
  return [
    mount(harnessSupportRoutes.reportArtifact, ({ caller, body, headers }) =>
      engine.artifacts.report(actingExecution(caller, headers), body),
    ),
    mount(harnessSupportRoutes.notifyUser, async ({ caller, body, headers }) => {
      await engine.notices.tell(actingExecution(caller, headers), body.message)
      return {}
    }),
    mount(harnessSupportRoutes.finishTask, async ({ caller, body, headers }) => {
      await engine.executions.note(actingExecution(caller, headers), body)
      return {}
    }),
    mount(harnessSupportRoutes.reportShutdown, async ({ caller, body, headers }) => {
      const execution = actingExecution(caller, headers)
      if (body.error) {
        await engine.executions.shutDown(execution, body.error)
        known.forget(execution.execution_id)
      }
      return {}
    }),
  ]
}

/** The token alone says who acts; a header that says otherwise is a program in the wrong sandbox. */
function actingExecution(caller: Caller, headers: IncomingHttpHeaders): ExecutionCaller {
  if (caller.kind !== 'execution') throw new Fault('not_authorized', "Only a run's own token may do this.")
  const named = headers[ACTING_RUN_HEADER]
  if (named !== undefined && String(named).toLowerCase() !== caller.run_id) {
    throw new Fault('not_authorized', `This token is that of run ${caller.run_id}, not of ${String(named)}.`)
  }
  return caller
}
