import { followUpRoutes, planRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function planAnswers({ engine }: ServerRoom): Answer[] {
  const { plans, followUps } = engine
  return [
    mount(planRoutes.list, ({ caller, query }) => plans.list(caller, query)),
    mount(planRoutes.ofRun, ({ caller, params }) => plans.ofRun(caller, params.run_id)),
    mount(planRoutes.approve, ({ caller, params, body }) => plans.approve(caller, params.run_id, params.version, body)),
    mount(planRoutes.revise, ({ caller, params, body }) =>
      plans.revise(caller, params.run_id, params.version, body.message),
    ),
    mount(planRoutes.reject, ({ caller, params, body }) =>
      plans.reject(caller, params.run_id, params.version, body.message),
    ),
    mount(followUpRoutes.create, ({ caller, params, body, idempotency_key: key }) =>
      followUps.create(caller, params.run_id, body, { key }),
    ),
  ]
}
