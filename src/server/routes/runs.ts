import { Fault, RunSource, runRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function runAnswers({ engine }: ServerRoom): Answer[] {
  return [
    mount(runRoutes.create, async ({ caller, body, headers, setHeader }) => {
      const { answer, replayed } = await engine.runs.create(caller, body, {
        source: sourceOf(headers['x-oz-api-source']),
        idempotency_key: single(headers['idempotency-key']),
      })
      if (replayed) setHeader('idempotency-replayed', 'true')
      return answer
    }),
    mount(runRoutes.list, ({ caller, query }) => engine.runs.list(caller, query)),
    mount(runRoutes.get, ({ caller, params }) => engine.runs.get(caller, params.run_id)),
    mount(runRoutes.cancel, ({ caller, params }) => engine.runs.cancel(caller, params.run_id)),
    mount(runRoutes.retry, ({ caller, params }) => engine.runs.retry(caller, params.run_id)),
  ]
}

/** What newer clients name is an ordinary API call to us. */
function sourceOf(header: string | string[] | undefined): RunSource {
  return RunSource.catch('API').parse(single(header) ?? 'API')
}

function single(header: string | string[] | undefined): string | undefined {
  if (Array.isArray(header)) throw new Fault('invalid_request', 'A header was sent twice that may be sent once.')
  return header
}
