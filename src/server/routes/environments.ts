import { environmentRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function environmentAnswers({ engine: { environments } }: ServerRoom): Answer[] {
  return [
    mount(environmentRoutes.list, ({ caller, query }) => environments.list(caller, query.sort_by)),
    mount(environmentRoutes.create, ({ caller, body }) => environments.create(caller, body)),
    mount(environmentRoutes.get, ({ caller, params }) => environments.get(caller, params.environment_uid)),
    mount(environmentRoutes.replace, ({ caller, params, body }) =>
      environments.replace(caller, params.environment_uid, body),
    ),
    mount(environmentRoutes.update, ({ caller, params, body }) =>
      environments.update(caller, params.environment_uid, body),
    ),
    mount(environmentRoutes.delete, ({ caller, params, query }) =>
      environments.delete(caller, params.environment_uid, query.force),
    ),
  ]
}
