import { secretRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function secretAnswers({ engine: { secrets } }: ServerRoom): Answer[] {
  return [
    mount(secretRoutes.list, ({ caller, query }) => secrets.list(caller, query.environment_id)),
    mount(secretRoutes.create, ({ caller, body }) => secrets.create(caller, body)),
    mount(secretRoutes.get, ({ caller, params }) => secrets.get(caller, params.secret_uid)),
    mount(secretRoutes.replace, ({ caller, params, body }) => secrets.replace(caller, params.secret_uid, body)),
    mount(secretRoutes.update, ({ caller, params, body }) => secrets.update(caller, params.secret_uid, body)),
    mount(secretRoutes.delete, ({ caller, params }) => secrets.delete(caller, params.secret_uid)),
    mount(secretRoutes.rotate, ({ caller, body }) => secrets.rotate(caller, body.make)),
  ]
}
