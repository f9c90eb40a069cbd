import { type Run, RunSource, runRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import { rootOf } from '../downloads.ts'
import { singleHeader } from '../requests.ts'
import type { ServerRoom } from '../room.ts'
import { sessionPath } from '../session-links.ts'

export function runAnswers({ engine }: ServerRoom): Answer[] {
  return [
    mount(runRoutes.create, async ({ caller, body, headers, idempotency_key, setHeader }) => {
      const { answer, replayed } = await engine.runs.create(caller, body, {
        source: sourceOf(headers['x-oz-api-source']),
        idempotency_key,
      })
      if (replayed) setHeader('idempotency-replayed', 'true')
      return answer
    }),
    mount(runRoutes.list, async ({ caller, query, headers, is_secure }) => {
      const { runs, page_info } = await engine.runs.list(caller, query)
      const root = rootOf(headers, is_secure)
      return { runs: runs.map((run) => linked(run, root)), page_info }
    }),
    mount(runRoutes.get, async ({ caller, params, headers, is_secure }) =>
      linked(await engine.runs.get(caller, params.run_id), rootOf(headers, is_secure)),
    ),
    mount(runRoutes.cancel, ({ caller, params, body }) => engine.runs.cancel(caller, params.run_id, body)),
    mount(runRoutes.retry, ({ caller, params }) => engine.runs.retry(caller, params.run_id)),
  ]
}

const linked = (run: Run, root: string): Run =>
  run.session_id === undefined ? run : { ...run, session_link: root + sessionPath(run.run_id, run.session_id) }

/** What newer clients name is an ordinary API call to us. */
export function sourceOf(header: string | string[] | undefined): RunSource {
  return RunSource.catch('API').parse(singleHeader(header) ?? 'API')
}
