import { federationRoutes } from '../../contract/index.ts'
import { actingExecution } from '../acting.ts'
import { type Answer, mount } from '../answers.ts'
import { issuerOf } from '../issuer.ts'
import type { ServerRoom } from '../room.ts'

export function federationAnswers(room: ServerRoom): Answer[] {
  const { federation } = room.engine
  return [
    mount(federationRoutes.issue, ({ caller, body, headers, is_secure }) =>
      federation.issue(actingExecution(caller, headers), body, issuerOf(room, headers, is_secure)),
    ),
    mount(federationRoutes.rotate, ({ caller }) => federation.rotate(caller)),
  ]
}
