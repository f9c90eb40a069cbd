import type { IncomingHttpHeaders } from 'node:http'
import { eventRoutes, Fault } from '../../contract/index.ts'
import { renderPosition } from '../../engine/transcripts.ts'
import { type Answer, mount, mountStream } from '../answers.ts'
import { frame } from '../hub.ts'
import type { ServerRoom } from '../room.ts'

/** Transcripts that one stream follows. */
const FOLLOWED_MAX = 50

export function eventAnswers({ engine, hub, watches }: ServerRoom): Answer[] {
  return [
    mount(eventRoutes.list, ({ caller, query }) => engine.events.list(caller, query)),
    mount(eventRoutes.cursor, ({ caller, params, body }) =>
      engine.events.advance(caller, params.run_id, body.sequence),
    ),
    mount(eventRoutes.report, ({ caller, params, body }) => engine.events.report(caller, params.run_id, body)),
    mount(eventRoutes.clientEvent, ({ caller, params, body }) => engine.events.measure(caller, params.run_id, body)),
    mountStream(
      eventRoutes.stream,
      ({ caller, query, headers }, stream) =>
        hub.follow({
          stream,
          form: 'bare',
          since: sinceOf(headers, query.since),
          ...engine.events.select(caller, query),
        }),
      async ({ caller, query }) => {
        if (query.run_ids && query.ancestor_run_id)
          throw new Fault('invalid_request', 'Give either run_ids or ancestor_run_id, not both.')
        await engine.events.visible(caller, [
          ...(query.run_ids ?? []),
          ...(query.ancestor_run_id ? [query.ancestor_run_id] : []),
        ])
      },
    ),
    mountStream(
      eventRoutes.follow,
      async ({ caller, query, headers }, stream) => {
        const epoch = await engine.events.epoch()
        const events = hub.follow({
          stream,
          form: 'framed',
          since: sinceOf(headers, query.since),
          ...engine.events.select(caller, {}),
          begins: (sequence) => stream.write(frame({ type: 'hello', epoch, sequence }, sequence)),
          skipsTo: (sequence) => stream.write(frame({ type: 'reset' }, sequence)),
        })
        const transcripts = (query.run_ids ?? []).map((run_id, at) =>
          watches.follow(stream, caller, run_id.toLowerCase(), positionOf(query.entries_after?.[at])),
        )
        await Promise.all([events, ...transcripts])
      },
      async ({ caller, query }) => {
        const run_ids = query.run_ids ?? []
        for (const position of query.entries_after ?? []) positionOf(position)
        if (run_ids.length > FOLLOWED_MAX)
          throw new Fault('invalid_request', `One stream follows at most ${FOLLOWED_MAX} transcripts.`)
        await engine.events.visible(caller, run_ids)
      },
    ),
  ]
}

/** A position as it is stored, so that it sorts as text; undefined for none. */
function positionOf(asked: string | undefined): string | undefined {
  if (asked === undefined || asked === '') return undefined
  const [, execution_number, number] = /^(\d{1,6})\.(\d{1,9})$/.exec(asked) ?? []
  if (execution_number !== undefined) return renderPosition(Number(execution_number), Number(number))
  throw new Fault(
    'invalid_request',
    `${JSON.stringify(asked)} is not a position of a transcript; take one from an entry.`,
  )
}

/** What a browser or client heard last counts more than the address that it asks again. */
function sinceOf(headers: IncomingHttpHeaders, since: number | undefined): number | null {
  const last = headers['last-event-id']
  if (typeof last === 'string' && /^\d{1,15}$/.test(last)) return Number(last)
  return since ?? null
}
