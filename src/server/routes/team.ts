import { teamRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function teamAnswers({ engine }: ServerRoom): Answer[] {
  return [
    mount(teamRoutes.limits, ({ caller }) => engine.team.limits(caller)),
    mount(teamRoutes.changeLimits, ({ caller, body }) => engine.team.changeLimits(caller, body)),
  ]
}
