import { messageRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import { singleHeader } from '../requests.ts'
import type { ServerRoom } from '../room.ts'

export function messageAnswers({ engine }: ServerRoom): Answer[] {
  return [
    mount(messageRoutes.send, ({ caller, body, headers }) =>
      engine.messages.send(caller, body, { key: singleHeader(headers['idempotency-key']) }),
    ),
    mount(messageRoutes.list, ({ caller, params, query }) => engine.messages.list(caller, params.run_id, query)),
    mount(messageRoutes.read, ({ caller, params }) => engine.messages.read(caller, params.message_id)),
    mount(messageRoutes.mailbox, ({ caller, params, query }) => engine.mailbox.list(caller, params.run_id, query)),
    mount(messageRoutes.look, ({ caller, params }) => engine.mailbox.look(caller, params)),
    mount(messageRoutes.delivered, ({ caller, params }) => engine.messages.delivered(caller, params.message_id)),
  ]
}
