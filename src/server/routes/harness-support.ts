import { harnessSupportRoutes } from '../../contract/index.ts'
import { actingExecution, actingRun } from '../acting.ts'
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
      const execution_id = await engine.executions.shutDown(caller, actingRun(caller, headers), body)
      if (execution_id !== null) known.forget(execution_id)
      return {}
    }),
  ]
}
