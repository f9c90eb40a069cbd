/**
 * The bell: says that something may have changed, in this process at once and in the other servers within
 * `RING_MS`. It carries no truth; whoever hears it reads the database, and polls besides.
 *
 * NOTIFY takes a database-wide lock at commit, so rings are collected and sent as one, outside every transaction. A
 * server that is alone sends none: one that comes asks whether it is, and is heard by those that were there before.
 */
import { z } from 'zod'
import type { Database } from '../db/connect.ts'

export type Rings = {
  /** New events may be in the log. */
  log: Record<string, never>
  /** Something may be dispatchable. */
  queue: Record<string, never>
  /** A cancel was asked for, or the execution is no longer the current one. */
  control: { execution_id: string }
  /** Its agent may have mail. */
  mail: { execution_id: string }
  /** A transcript grew. */
  entries: { run_id: string }
  /** A task of a batch has ended. */
  batches: { run_id: string }
  /** Rings may have been missed: poll everything once. */
  reconnected: Record<string, never>
}
export type Topic = keyof Rings

/** How long rings are collected before they go to the other servers, in milliseconds. */
const RING_MS = 20
/** Below PostgreSQL's limit of 8,000 bytes a payload. */
const RINGS_A_PAYLOAD = 80

/** `asks`: the sender has just come, or missed something; whoever hears it shows that it is there. */
const Payload = z.object({
  from: z.string(),
  asks: z.boolean().optional(),
  rings: z.array(
    z.tuple([z.enum(['log', 'queue', 'control', 'mail', 'entries', 'batches']), z.record(z.string(), z.string())]),
  ),
})

type Ringing = z.infer<typeof Payload>['rings'][number]

export async function openBell(database: Database, server_id: string) {
  const listeners = new Map<Topic, Set<(ring: never) => void>>()
  const waiting = new Map<string, Ringing>()
  let timer: NodeJS.Timeout | null = null
  let alone = true

  const sound = <T extends Topic>(topic: T, ring: Rings[T]) => {
    for (const listener of listeners.get(topic) ?? []) (listener as (ring: Rings[T]) => void)(ring)
  }
  const notify = (said: Omit<z.infer<typeof Payload>, 'from'>) =>
    // A ring that is lost costs the others one poll interval, nothing more.
    database.pool.query('select pg_notify($1, $2)', ['baton', JSON.stringify({ from: server_id, ...said })]).then(
      () => {},
      () => {},
    )
  const send = async () => {
    timer = null
    const rings = [...waiting.values()]
    waiting.clear()
    for (let at = 0; at < rings.length; at += RINGS_A_PAYLOAD)
      await notify({ rings: rings.slice(at, at + RINGS_A_PAYLOAD) })
  }
  const heard = (payload: string | null) => {
    if (payload === null) {
      void notify({ asks: true, rings: [] })
      return sound('reconnected', {})
    }
    const parsed = Payload.safeParse(safeJson(payload))
    if (!parsed.success || parsed.data.from === server_id) return
    const { asks = false, rings } = parsed.data
    if (asks) void notify({ rings: [] })
    if (alone) {
      alone = false
      // What the other rang for until it knew of this one.
      sound('reconnected', {})
    }
    for (const [topic, ring] of rings) sound(topic, ring as never)
  }
  const stop = await database.listen('baton', heard)
  await notify({ asks: true, rings: [] })

  return {
    ring<T extends Exclude<Topic, 'reconnected'>>(topic: T, ring: Rings[T]): void {
      sound(topic, ring)
      if (alone) return
      waiting.set(topic + JSON.stringify(ring), [topic, ring])
      if (timer === null) timer = setTimeout(send, RING_MS)
    },
    hear<T extends Topic>(topic: T, listener: (ring: Rings[T]) => void): () => void {
      const set = listeners.get(topic) ?? new Set()
      listeners.set(topic, set)
      set.add(listener as (ring: never) => void)
      return () => void set.delete(listener as (ring: never) => void)
    },
    async close(): Promise<void> {
      if (timer) clearTimeout(timer)
      listeners.clear()
      await stop()
    },
  }
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
