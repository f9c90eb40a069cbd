import type { IncomingHttpHeaders } from 'node:http'
import { attachmentRoutes, Fault, handoffRoutes } from '../../contract/index.ts'
import { actingExecution } from '../acting.ts'
import { type Answer, mount } from '../answers.ts'
import { ATTACHMENT_PATH, rootOf } from '../downloads.ts'
import type { ServerRoom } from '../room.ts'

type Asked = { headers: IncomingHttpHeaders; is_secure: boolean }

/** Of addresses to send to, and of those that serve. */
const roots = ({ headers, is_secure }: Asked) => {
  const root = rootOf(headers, is_secure)
  return { root, served: root + ATTACHMENT_PATH }
}

export function attachmentAnswers({ engine: { attachments, handoff } }: ServerRoom): Answer[] {
  return [
    mount(attachmentRoutes.prepare, ({ caller, params, body, ...asked }) =>
      attachments.prepare(caller, params.run_id, { files: body.files, root: roots(asked).root }),
    ),
    mount(attachmentRoutes.download, ({ caller, params, body, ...asked }) =>
      attachments.download(caller, params.run_id, { ...body, root: roots(asked).served }),
    ),
    mount(attachmentRoutes.take, ({ caller, params, ...asked }) =>
      attachments.take(caller, params.execution_id, roots(asked).served),
    ),
    mount(handoffRoutes.attachments, ({ caller, params, ...asked }) =>
      handoff.list(caller, params.run_id, roots(asked).served),
    ),
    mount(handoffRoutes.upload, ({ caller, body, ...asked }) => {
      if (caller.kind !== 'user') throw new Fault('not_authorized', "This takes a person's key.")
      return handoff.upload(caller, { files: body.files, root: roots(asked).root })
    }),
    mount(handoffRoutes.uploadSnapshot, ({ caller, body, ...asked }) =>
      handoff.prepare(actingExecution(caller, asked.headers), { ...body, root: roots(asked).root }),
    ),
    mount(handoffRoutes.commitSnapshot, ({ caller, body, headers }) =>
      handoff.commit(actingExecution(caller, headers), body),
    ),
  ]
}
