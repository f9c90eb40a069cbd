import { agentRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function agentAnswers({ engine: { agents } }: ServerRoom): Answer[] {
  return [mount(agentRoutes.list, ({ caller, query }) => agents.list(caller, query))]
}
