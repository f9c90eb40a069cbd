/**
 * Open event streams: written to with backpressure, kept alive, ended when their time is up.
 *
 * What waits for one reader is bounded: a writer asks `hasRoom` first, and where there is none it waits for
 * `drained` and reads again from the database what it has skipped. So a slow reader costs `stream_bytes_max` and
 * one frame, no more.
 */
import type { ServerResponse } from 'node:http'
import { Fault } from '../contract/index.ts'
import type { ServerLimits } from './limits.ts'

export type EventStream = {
  /** Aborted when the reader has gone or the stream was ended. */
  closed: AbortSignal
  hasRoom(): boolean
  write(frame: string | Uint8Array): void
  /** Resolves when there is room again, or the stream has closed. */
  drained(): Promise<void>
  end(): void
}

/** Whose it is: a run's, or a person's or program's. */
export type Owner = { team_id: string; run: boolean }

type Open = EventStream & {
  owner: Owner
  written_at: number
  full_since: number | null
  ends_at: number
  outgoing: ServerResponse
}

const TICK_MS = 1_000
/** How long a closing server waits for a reader to take the last bytes. */
const GOODBYE_MS = 500
const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store, no-transform',
  'x-accel-buffering': 'no',
}
/** How long a reader waits before it connects again, in milliseconds. */
const RETRY = 'retry: 2000\n\n'
const KEEP_ALIVE = Buffer.from(': keep-alive\n\n')

export type Streams = ReturnType<typeof openStreams>

export function openStreams(limits: ServerLimits) {
  const streams = new Set<Open>()
  const ticker = setInterval(() => tick(streams, limits), Math.min(TICK_MS, limits.stream_keep_alive_ms))
  ticker.unref()

  return {
    open(outgoing: ServerResponse, owner: Owner, trace_id: string): EventStream {
      let alike = 0
      for (const { owner: other } of streams) if (other.team_id === owner.team_id && other.run === owner.run) alike++
      if (alike >= (owner.run ? limits.run_streams_per_team : limits.streams_per_team)) {
        throw new Fault(
          'resource_unavailable',
          `Your team${owner.run ? "'s runs have" : ' has'} ${alike} event streams open, which is the most that one server holds. Close some first.`,
          {
            status: 429,
            retry_after_s: 10,
          },
        )
      }
      outgoing.writeHead(200, { ...HEADERS, 'x-trace-id': trace_id })
      outgoing.socket?.setNoDelay(true)
      const stream = makeStream(outgoing, owner, limits)
      streams.add(stream)
      stream.closed.addEventListener('abort', () => streams.delete(stream), { once: true })
      stream.write(RETRY)
      return stream
    },
    count: () => streams.size,
    close(): void {
      clearInterval(ticker)
      for (const stream of streams) {
        stream.write(': the server is going away; connect again\nretry: 1000\n\n')
        stream.end()
        // A reader that takes nothing would hold up the others' goodbye.
        const late = setTimeout(() => stream.outgoing.destroy(), GOODBYE_MS)
        stream.outgoing.once('close', () => clearTimeout(late))
      }
    },
  }
}

function makeStream(outgoing: ServerResponse, owner: Owner, limits: ServerLimits): Open {
  const closing = new AbortController()
  const now = Date.now()
  const stream: Open = {
    owner,
    outgoing,
    written_at: now,
    full_since: null,
    ends_at: now + limits.stream_life_ms * (1 + Math.random() / 5),
    closed: closing.signal,
    hasRoom: () => outgoing.writableLength < limits.stream_bytes_max,
    write(frame) {
      if (closing.signal.aborted) return
      outgoing.write(frame)
      stream.written_at = Date.now()
      if (!stream.hasRoom()) stream.full_since ??= stream.written_at
    },
    drained() {
      if (closing.signal.aborted || stream.hasRoom()) return Promise.resolve()
      return new Promise((resolve) => {
        const settle = () => {
          outgoing.off('drain', settle)
          closing.signal.removeEventListener('abort', settle)
          resolve()
        }
        outgoing.on('drain', settle)
        closing.signal.addEventListener('abort', settle)
      })
    },
    end() {
      if (closing.signal.aborted) return
      outgoing.end()
      closing.abort()
    },
  }
  outgoing.on('drain', () => {
    stream.full_since = null
  })
  outgoing.on('close', () => closing.abort())
  return stream
}

function tick(streams: Set<Open>, limits: ServerLimits): void {
  const now = Date.now()
  for (const stream of streams) {
    if (stream.full_since !== null && now - stream.full_since >= limits.stream_stalled_ms) {
      // Its reader takes nothing; it resumes by its last id when it comes back.
      stream.outgoing.destroy()
    } else if (now >= stream.ends_at) {
      stream.end()
    } else if (now - stream.written_at >= limits.stream_keep_alive_ms && stream.hasRoom()) {
      stream.write(KEEP_ALIVE)
    }
  }
}
