import { apiKeyRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function apiKeyAnswers({ engine: { keys } }: ServerRoom): Answer[] {
  return [
    mount(apiKeyRoutes.list, ({ caller }) => keys.list(caller)),
    mount(apiKeyRoutes.create, ({ caller, body }) => keys.create(caller, body)),
    mount(apiKeyRoutes.expire, ({ caller, params }) => keys.expire(caller, params.api_key_uid)),
    mount(apiKeyRoutes.delete, async ({ caller, params }) => {
      await keys.expire(caller, params.api_key_uid)
      return {}
    }),
  ]
}
