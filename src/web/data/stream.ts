/**
 * The one event stream of this tab. It patches what Query holds, so that pages only ever read queries.
 *
 * An event names a run that changed: the run is read once, soon, and put in its place wherever it is shown. Entries and
 * deltas of the followed run grow its transcript. What lay between a break and the next `hello` is replayed by the
 * server from our cursors; where it cannot be (another store, or we were too slow), everything shown is read again.
 */
import type { QueryClient } from '@tanstack/react-query'
import { type Delta, type Entry, type Event, Fault, routes, type StreamFrame } from '../../contract/index.ts'
import type { Client } from '../../sdk/client.ts'
import { follow } from '../../sdk/stream.ts'
import { renewBatches } from './batches.ts'
import { applyDeltas, type LiveText, settleLive } from './live.ts'
import { renewNeeds } from './needs.ts'
import { keys } from './queries.ts'
import { readChanged, renewAround } from './runs.ts'
import { appendEntries, follows, type TranscriptWindow } from './transcript.ts'

/** `refused`: the session is over or the server will not have us; only signing in again or a reload helps. */
export type Connection = 'connecting' | 'open' | 'down' | 'refused'

/** Frames are gathered for this long before they are drawn, in milliseconds. */
const GATHER_MS = 80
/** Changed runs are gathered for this long before they are read, in milliseconds. */
const CHANGED_MS = 150

export type TabStream = {
  connection(): Connection
  subscribe(listener: () => void): () => void
  /** Follows a transcript whose window has been read, until the returned function is called. One at a time. */
  followRun(run_id: string): () => void
  close(): void
}

type Line = { run_id: string | undefined; stop: AbortController }

export function openTabStream(client: Client, queries: QueryClient): TabStream {
  const listeners = new Set<() => void>()
  let happened: Event[] = []
  const gathered: (() => void)[] = []
  let connection: Connection = 'connecting'
  let epoch: string | undefined
  let sequence: number | undefined
  /** The last position heard of the followed run, also when the window has let go of its end. */
  let heard = ''
  let line: Line | undefined
  let drawing: ReturnType<typeof setTimeout> | undefined
  let reading: ReturnType<typeof setTimeout> | undefined

  function become(next: Connection): void {
    if (connection === next) return
    connection = next
    for (const listener of listeners) listener()
  }

  /** Later in the same turn of the event loop, so that leaving one run for another opens one connection, not two. */
  function reopen(run_id: string | undefined): void {
    line?.stop.abort()
    const next: Line = { run_id, stop: new AbortController() }
    line = next
    heard = run_id === undefined ? '' : lastPosition(queries, run_id)
    queueMicrotask(() => {
      if (!next.stop.signal.aborted) void run(next)
    })
  }

  async function run(mine: Line): Promise<void> {
    const query = () => ({
      ...(sequence === undefined ? {} : { since: sequence }),
      ...(mine.run_id === undefined ? {} : { run_ids: [mine.run_id], entries_after: [heard] }),
    })
    const signal = mine.stop.signal
    const onState = (state: 'open' | 'down') => {
      if (!signal.aborted) become(state)
    }
    try {
      for await (const { id, frame } of follow(client, routes.events.follow, { query, signal, onState })) {
        if (signal.aborted) return
        if (id !== undefined) sequence = Number(id)
        take(mine, frame)
      }
    } catch (error) {
      if (signal.aborted) return
      become('refused')
      if (error instanceof Fault && error.code === 'authentication_required')
        void queries.invalidateQueries({ queryKey: keys.whoami })
    }
  }

  function take(mine: Line, frame: StreamFrame): void {
    switch (frame.type) {
      case 'hello':
        greet(mine, frame)
        break
      case 'event':
        takeEvent(frame.event)
        break
      case 'entries':
        takeEntries(frame.run_id, frame.entries)
        break
      case 'deltas':
        takeDeltas(frame.run_id, frame.execution_id, frame.deltas)
        break
      case 'reset':
        readAllAgain()
        break
    }
  }

  function greet(mine: Line, hello: { epoch: string; sequence: number }): void {
    const first = epoch === undefined
    const other = !first && epoch !== hello.epoch
    epoch = hello.epoch
    if (first || other) {
      // What was read before the stream stood may have missed a change.
      sequence = hello.sequence
      readAllAgain(other)
      if (other) heard = ''
    } else if (mine.run_id !== undefined && heard === '') {
      void queries.invalidateQueries({ queryKey: keys.transcript(mine.run_id) })
    }
    void queries.refetchQueries({
      type: 'active',
      predicate: (query) => query.state.isInvalidated || query.state.status === 'error',
    })
  }

  function readAllAgain(forget = false): void {
    gathered.length = 0
    queries.removeQueries({ queryKey: ['live'] })
    if (forget) queries.removeQueries({ queryKey: keys.newcomers })
    if (forget) void queries.resetQueries({ queryKey: ['transcript'] })
    else void queries.invalidateQueries({ queryKey: ['transcript'] })
    for (const around of [['happenings'], ['letters'], ['plans'], ['batches'], keys.needs, keys.trees]) {
      if (forget) void queries.resetQueries({ queryKey: around })
      else void queries.invalidateQueries({ queryKey: around })
    }
    void queries.invalidateQueries({ queryKey: ['runs'] })
    void queries.invalidateQueries({ queryKey: keys.workers })
  }

  function takeEvent(event: Event): void {
    happened.push(event)
    reading ??= setTimeout(() => {
      reading = undefined
      const events = happened
      happened = []
      const run_ids = [...new Set(events.map((one) => one.run_id))]
      renewNeeds(queries, events)
      renewBatches(client, queries, run_ids)
      void readChanged(client, queries, run_ids).then((all) => {
        renewAround(queries, run_ids)
        if (!all) void queries.invalidateQueries({ queryKey: ['runs'], refetchType: 'none' })
      })
    }, CHANGED_MS)
  }

  function takeEntries(run_id: string, entries: Entry[]): void {
    const last = entries.at(-1)?.position
    if (last !== undefined && last > heard && run_id === line?.run_id) heard = last
    draw(() => {
      const window = queries.getQueryData<TranscriptWindow>(keys.transcript(run_id))
      if (window && !window.has_later && !follows(window, entries))
        void queries.invalidateQueries({ queryKey: keys.transcript(run_id) })
      else if (window && !window.has_later)
        queries.setQueryData<TranscriptWindow>(keys.transcript(run_id), appendEntries(window, entries))
      queries.setQueryData<LiveText[]>(keys.live(run_id), (live) => live && settleLive(live, entries))
    })
  }

  function takeDeltas(run_id: string, execution_id: string, deltas: Delta[]): void {
    draw(() =>
      queries.setQueryData<LiveText[]>(keys.live(run_id), (live) => applyDeltas(live ?? [], execution_id, deltas)),
    )
  }

  function draw(change: () => void): void {
    gathered.push(change)
    drawing ??= setTimeout(() => {
      drawing = undefined
      for (const one of gathered.splice(0)) one()
    }, GATHER_MS)
  }

  reopen(undefined)
  return {
    connection: () => connection,
    subscribe(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    followRun(run_id) {
      reopen(run_id)
      return () => {
        if (line?.run_id === run_id) reopen(undefined)
      }
    },
    close() {
      line?.stop.abort()
      clearTimeout(drawing)
      clearTimeout(reading)
    },
  }
}

function lastPosition(queries: QueryClient, run_id: string): string {
  return queries.getQueryData<TranscriptWindow>(keys.transcript(run_id))?.entries.at(-1)?.position ?? ''
}
