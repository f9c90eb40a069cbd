import { messageRoutes } from '../../contract/index.ts'
import { actingRun } from '../acting.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function messageAnswers({ engine }: ServerRoom): Answer[] {
  return [
    mount(messageRoutes.send, ({ caller, body, headers, idempotency_key: key }) => {
      const sender_run_id = body.sender_run_id ?? actingRun(caller, headers)
      return engine.messages.send(caller, { ...body, ...(sender_run_id && { sender_run_id }) }, { key })
    }),
    mount(messageRoutes.list, ({ caller, params, query }) => engine.messages.list(caller, params.run_id, query)),
    mount(messageRoutes.read, ({ caller, params }) => engine.messages.read(caller, params.message_id)),
    mount(messageRoutes.mailbox, ({ caller, params, query }) => engine.mailbox.list(caller, params.run_id, query)),
    mount(messageRoutes.look, ({ caller, params }) => engine.mailbox.look(caller, params)),
    mount(messageRoutes.delivered, ({ caller, params }) => engine.messages.delivered(caller, params.message_id)),
  ]
}
