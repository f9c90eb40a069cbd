/**
 * Followed transcripts: each run that somebody watches is read once, whoever many watch it.
 *
 * A watcher reads on its own until it has caught up with the watch, then joins it. One whose buffer is full leaves,
 * drains and reads on its own again. Live deltas go only to who has joined and has room: they are kept nowhere, and
 * each says by its offset whether one is missing.
 */
import type { Logger } from 'pino'
import type { Delta, Entry } from '../contract/index.ts'
import type { Caller } from '../engine/caller.ts'
import type { Engine } from '../engine/engine.ts'
import { frame } from './hub.ts'
import type { ServerLimits } from './limits.ts'
import { once } from './once.ts'
import { type PollLoop, pollLoop } from './poll.ts'
import type { EventStream } from './streams.ts'

type Watcher = { stream: EventStream; position: string; leave(): void }
type Watch = { run_id: string; position: string; joined: Set<Watcher>; users: number; loop: PollLoop }

/** Entries of one frame; with heads of 8 KB a frame stays below half a megabyte. */
const PAGE = 50
/** Sorts before every position. */
const START = ''

export type Watches = ReturnType<typeof openWatches>

export function openWatches({ engine, limits, log }: { engine: Engine; limits: ServerLimits; log: Logger }) {
  const watches = new Map<string, Watch>()
  const deaf = [
    engine.bell.hear('entries', ({ run_id }) => watches.get(run_id)?.loop.wake()),
    engine.bell.hear('reconnected', () => {
      for (const watch of watches.values()) watch.loop.wake()
    }),
  ]
  const read = (run_id: string, position: string) =>
    engine.transcripts.after(run_id, position === START ? null : position, PAGE)

  function watchOf(run_id: string, position: string): Watch {
    const known = watches.get(run_id)
    if (known) return known
    const watch: Watch = {
      run_id,
      position,
      joined: new Set(),
      users: 0,
      loop: pollLoop({
        name: 'entries',
        log,
        poll_ms: limits.poll_ms,
        gather_ms: limits.gather_ms,
        step: () => pump(watch),
      }),
    }
    watches.set(run_id, watch)
    return watch
  }

  async function pump(watch: Watch): Promise<void> {
    for (;;) {
      if (watch.joined.size === 0) return
      const before = watch.position
      const entries = await read(watch.run_id, before)
      const last = entries.at(-1)
      if (!last) return
      // A watcher that read on its own may have carried the watch further meanwhile.
      if (watch.position !== before) continue
      watch.position = last.position
      const shared = once(() => entriesFrame(watch.run_id, entries))
      for (const watcher of watch.joined) {
        if (!watcher.stream.hasRoom()) watcher.leave()
        else if (watcher.position === before) watcher.stream.write(shared())
        else sendNew(watch.run_id, watcher, entries)
        if (watch.joined.has(watcher) && watcher.position < last.position) watcher.position = last.position
      }
      if (entries.length < PAGE) return
    }
  }

  /** Reads on the watcher's own until it stands where the watch stands. */
  async function catchUp(watch: Watch, watcher: Watcher): Promise<void> {
    while (!watcher.stream.closed.aborted) {
      await watcher.stream.drained()
      const entries = await read(watch.run_id, watcher.position)
      if (watcher.stream.closed.aborted) return
      sendNew(watch.run_id, watcher, entries)
      watcher.position = entries.at(-1)?.position ?? watcher.position
      if (watch.joined.size === 0 && watch.position < watcher.position) watch.position = watcher.position
      if (entries.length < PAGE && watcher.position >= watch.position && watcher.stream.hasRoom()) return
    }
  }

  function stay(watch: Watch, watcher: Watcher): Promise<void> {
    return new Promise((resolve) => {
      watcher.leave = () => {
        watch.joined.delete(watcher)
        watcher.stream.closed.removeEventListener('abort', watcher.leave)
        resolve()
      }
      watch.joined.add(watcher)
      watcher.stream.closed.addEventListener('abort', watcher.leave)
    })
  }

  return {
    /** Sends the transcript of a run after `after` (undefined: from now) and as it grows, until the stream closes. */
    async follow(stream: EventStream, caller: Caller, run_id: string, after: string | undefined): Promise<void> {
      const position = after || (await endOf(engine, caller, run_id))
      const watch = watchOf(run_id, position)
      const watcher: Watcher = { stream, position, leave: () => {} }
      watch.users++
      try {
        while (!stream.closed.aborted) {
          await catchUp(watch, watcher)
          if (!stream.closed.aborted) await stay(watch, watcher)
        }
      } finally {
        watch.users--
        if (watch.users === 0) {
          watches.delete(run_id)
          await watch.loop.close()
        }
      }
    },
    /** Shows live text to whoever watches on this server; false when nobody does. */
    show(run_id: string, execution_id: string, deltas: Delta[]): boolean {
      const watch = watches.get(run_id)
      if (!watch || watch.users === 0) return false
      const shared = frame({ type: 'deltas', run_id, execution_id, deltas })
      for (const watcher of watch.joined) if (watcher.stream.hasRoom()) watcher.stream.write(shared)
      return true
    },
    async close(): Promise<void> {
      for (const stop of deaf) stop()
      await Promise.all([...watches.values()].map((watch) => watch.loop.close()))
    },
  }
}

async function endOf(engine: Engine, caller: Caller, run_id: string): Promise<string> {
  const { entries } = await engine.transcripts.list(caller, run_id, { limit: 1 })
  return entries.at(-1)?.position ?? START
}

function sendNew(run_id: string, watcher: Watcher, entries: Entry[]): void {
  const fresh = entries.filter((entry) => entry.position > watcher.position)
  if (fresh.length > 0) watcher.stream.write(entriesFrame(run_id, fresh))
}

const entriesFrame = (run_id: string, entries: Entry[]): Buffer => frame({ type: 'entries', run_id, entries })
