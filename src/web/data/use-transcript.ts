/** The transcript of one run as a page reads it: its window, ways to move the window, and the live text after it. */
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback, useEffect, useRef, useState } from 'react'
import { useAsking, useStream } from './context.tsx'
import { keys } from './queries.ts'
import { appendLater, FIRST_ENTRIES, MORE_ENTRIES, prependEarlier, type TranscriptWindow } from './transcript.ts'

export type Moving = 'earlier' | 'later' | 'end'

export function useTranscript(run_id: string) {
  const { client, queries } = useAsking()
  const stream = useStream()
  const held = useQueryClient()
  const window = useQuery(queries.transcript(run_id))
  const live = useQuery(queries.live(run_id))
  const [moving, setMoving] = useState<Moving>()
  const [refusal, setRefusal] = useState<unknown>()
  const busy = useRef(false)

  const loaded = window.isSuccess
  useEffect(() => (loaded ? stream.followRun(run_id) : undefined), [stream, run_id, loaded])

  const move = useCallback(
    async (where: Moving) => {
      const now = held.getQueryData<TranscriptWindow>(keys.transcript(run_id))
      if (busy.current || !now) return
      busy.current = true
      setMoving(where)
      setRefusal(undefined)
      try {
        const query = moveQuery(where, now)
        const page = await client.transcripts.list({ params: { run_id }, query })
        held.setQueryData<TranscriptWindow>(keys.transcript(run_id), (at) => (at ? moved(where, at, page) : at))
      } catch (error) {
        setRefusal(error)
      } finally {
        busy.current = false
        setMoving(undefined)
      }
    },
    [client, held, run_id],
  )

  return { window, live: live.data, move, moving, refusal }
}

function moveQuery(where: Moving, window: TranscriptWindow) {
  const first = window.entries[0]?.position
  const last = window.entries.at(-1)?.position
  switch (where) {
    case 'earlier':
      return { limit: MORE_ENTRIES, ...(first === undefined ? {} : { before: first }) }
    case 'later':
      return { limit: MORE_ENTRIES, ...(last === undefined ? {} : { after: last }) }
    case 'end':
      return { limit: FIRST_ENTRIES }
  }
}

function moved(where: Moving, window: TranscriptWindow, page: TranscriptWindow): TranscriptWindow {
  switch (where) {
    case 'earlier':
      return prependEarlier(window, page)
    case 'later':
      return appendLater(window, page)
    case 'end':
      return page
  }
}
