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
/** When what could not be sent is sent again, in milliseconds: nobody else would tell the others. */
const AGAIN_MS = 1_000
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
  let closed = false
  /** A word that the others have yet to hear besides the rings. */
  let word: 'none' | 'shows' | 'asks' = 'none'

  const sound = <T extends Topic>(topic: T, ring: Rings[T]) => {
    for (const listener of listeners.get(topic) ?? []) (listener as (ring: Rings[T]) => void)(ring)
  }
  const later = (ms: number) => {
    if (timer === null && !closed) timer = setTimeout(send, ms)
  }
  const notify = (said: Omit<z.infer<typeof Payload>, 'from'>) =>
    database.pool.query('select pg_notify($1, $2)', ['baton', JSON.stringify({ from: server_id, ...said })])
  async function send(): Promise<void> {
    if (timer) clearTimeout(timer)
    timer = null
    while (word !== 'none' || waiting.size > 0) {
      const rings = [...waiting].slice(0, RINGS_A_PAYLOAD)
      const said = word
      word = 'none'
      for (const [key] of rings) waiting.delete(key)
      try {
        await notify({ ...(said === 'asks' ? { asks: true } : {}), rings: rings.map(([, ring]) => ring) })
      } catch {
        if (said !== 'none') say(said)
        for (const [key, ring] of rings) waiting.set(key, ring)
        return later(AGAIN_MS)
      }
    }
  }
  function say(what: 'shows' | 'asks'): void {
    word = word === 'asks' ? 'asks' : what
  }
  const heard = (payload: string | null) => {
    if (payload === null) {
      say('asks')
      void send()
      return sound('reconnected', {})
    }
    const parsed = Payload.safeParse(safeJson(payload))
    if (!parsed.success || parsed.data.from === server_id) return
    const { asks = false, rings } = parsed.data
    if (asks) {
      say('shows')
      void send()
    }
    if (alone) {
      alone = false
      // What the other rang for until it knew of this one.
      sound('reconnected', {})
    }
    for (const [topic, ring] of rings) sound(topic, ring as never)
  }
  const stop = await database.listen('baton', heard)
  say('asks')
  await send()

  return {
    ring<T extends Exclude<Topic, 'reconnected'>>(topic: T, ring: Rings[T]): void {
      sound(topic, ring)
      if (alone) return
      waiting.set(topic + JSON.stringify(ring), [topic, ring])
      later(RING_MS)
    },
    hear<T extends Topic>(topic: T, listener: (ring: Rings[T]) => void): () => void {
      const set = listeners.get(topic) ?? new Set()
      listeners.set(topic, set)
      set.add(listener as (ring: never) => void)
      return () => void set.delete(listener as (ring: never) => void)
    },
    async close(): Promise<void> {
      closed = true
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
