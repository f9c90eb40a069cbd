import { identityRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function identityAnswers({ engine: { identities } }: ServerRoom): Answer[] {
  return [
    mount(identityRoutes.create, ({ caller, body }) => identities.create(caller, body)),
    mount(identityRoutes.list, ({ caller, query }) => identities.list(caller, query.factory_uid)),
    mount(identityRoutes.get, ({ caller, params }) => identities.get(caller, params.identity_uid)),
    mount(identityRoutes.update, ({ caller, params, body }) => identities.update(caller, params.identity_uid, body)),
    mount(identityRoutes.delete, ({ caller, params }) => identities.delete(caller, params.identity_uid)),
  ]
}
