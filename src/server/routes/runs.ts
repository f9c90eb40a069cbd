import { RunSource, runRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import { singleHeader } from '../requests.ts'
import type { ServerRoom } from '../room.ts'

export function runAnswers({ engine }: ServerRoom): Answer[] {
  return [
    mount(runRoutes.create, async ({ caller, body, headers, setHeader }) => {
      const { answer, replayed } = await engine.runs.create(caller, body, {
        source: sourceOf(headers['x-oz-api-source']),
        idempotency_key: singleHeader(headers['idempotency-key']),
      })
      if (replayed) setHeader('idempotency-replayed', 'true')
      return answer
    }),
    mount(runRoutes.list, ({ caller, query }) => engine.runs.list(caller, query)),
    mount(runRoutes.get, ({ caller, params }) => engine.runs.get(caller, params.run_id)),
    mount(runRoutes.cancel, ({ caller, params, body }) => engine.runs.cancel(caller, params.run_id, body)),
    mount(runRoutes.retry, ({ caller, params }) => engine.runs.retry(caller, params.run_id)),
  ]
}

/** What newer clients name is an ordinary API call to us. */
export function sourceOf(header: string | string[] | undefined): RunSource {
  return RunSource.catch('API').parse(singleHeader(header) ?? 'API')
}
