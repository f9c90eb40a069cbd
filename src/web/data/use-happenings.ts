/** What happened around a run, back to where the window of its transcript begins. */
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useEffect, useMemo, useRef } from 'react'
import { useAsking } from './context.tsx'
import { EVENTS_READ, type Happening, type Happenings, happeningsOf } from './happenings.ts'
import type { Letters } from './letters.ts'
import { keys } from './queries.ts'

/** `since`: when the oldest entry shown was written; undefined where all are. */
export function useHappenings(run_id: string, since: string | undefined): Happening[] {
  const { client, queries } = useAsking()
  const held = useQueryClient()
  const happenings = useQuery(queries.happenings(run_id))
  const children = useQuery(queries.run(run_id)).data?.children
  const events = happenings.data?.events
  const hasMail = events?.some((event) => event.event_type === 'new_message') ?? false
  const letters = useQuery({ ...queries.letters(run_id), enabled: hasMail })
  const reading = useRef(false)
  const first = events?.[0]
  const wanted =
    happenings.data?.has_earlier === true &&
    first !== undefined &&
    (since === undefined || Date.parse(first.occurred_at) > Date.parse(since))
  useEffect(() => {
    if (!wanted || reading.current || !first) return
    reading.current = true
    const query = { ancestor_run_id: run_id, include_self: true, limit: EVENTS_READ, before: first.sequence }
    client.events
      .list({ query })
      .then((earlier) =>
        held.setQueryData<Happenings>(
          keys.happenings(run_id),
          (now) =>
            now && {
              events: [...earlier.filter((event) => event.sequence < (now.events[0]?.sequence ?? 0)), ...now.events],
              has_earlier: earlier.length === EVENTS_READ,
            },
        ),
      )
      // The transcript stands without them; the next change of what is held asks again.
      .catch(() => undefined)
      .finally(() => {
        reading.current = false
      })
  }, [wanted, first, run_id, client, held])

  const oldest = letters.data?.messages[0]
  const lacking =
    letters.data?.has_earlier === true &&
    first !== undefined &&
    oldest !== undefined &&
    Date.parse(oldest.sent_at) > Date.parse(since ?? first.occurred_at)
  useEffect(() => {
    if (!lacking || !oldest) return
    const stop = new AbortController()
    client.messages
      .mailbox({ params: { run_id }, query: { before: oldest.message_id }, signal: stop.signal })
      .then((page) =>
        held.setQueryData<Letters>(keys.letters(run_id), (now) =>
          now?.messages[0]?.message_id === oldest.message_id
            ? { messages: [...page.messages, ...now.messages], has_earlier: page.has_earlier }
            : now,
        ),
      )
      .catch(() => undefined)
    return () => stop.abort()
  }, [lacking, oldest, run_id, client, held])

  return useMemo(
    () => happeningsOf(run_id, new Set(children), { events: events ?? [], letters: letters.data?.messages ?? [] }),
    [run_id, children, events, letters.data],
  )
}
