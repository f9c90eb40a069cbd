import { batchRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'
import { sourceOf } from './runs.ts'

export function batchAnswers({ engine }: ServerRoom): Answer[] {
  const { batches } = engine
  return [
    mount(batchRoutes.create, async ({ caller, body, headers, idempotency_key, setHeader }) => {
      const { answer, replayed } = await batches.create(caller, body, {
        source: sourceOf(headers['x-oz-api-source']),
        idempotency_key,
      })
      if (replayed) setHeader('idempotency-replayed', 'true')
      return answer
    }),
    mount(batchRoutes.list, ({ caller, query }) => batches.list(caller, query)),
    mount(batchRoutes.get, ({ caller, params }) => batches.get(caller, params.batch_id)),
    mount(batchRoutes.tasks, ({ caller, params, query }) => batches.tasks(caller, params.batch_id, query)),
    mount(batchRoutes.update, ({ caller, params, body }) => batches.update(caller, params.batch_id, body)),
    mount(batchRoutes.pause, ({ caller, params }) => batches.pause(caller, params.batch_id)),
    mount(batchRoutes.resume, ({ caller, params }) => batches.resume(caller, params.batch_id)),
    mount(batchRoutes.retry, ({ caller, params, body }) => batches.retry(caller, params.batch_id, body)),
    mount(batchRoutes.cancel, ({ caller, params }) => batches.cancel(caller, params.batch_id)),
  ]
}
