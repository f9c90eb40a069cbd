/**
 * Answers that gave an agent something, and that this process has handed over whole. Only a call which began after that
 * shows that the agent has read the answer: one that it made beside it may come while the answer is on its way.
 *
 * What no call has shown to be read for a while is written down (`givings.sent`), for the other servers and for whoever
 * comes after this one.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { type Kysely, sql } from 'kysely'
import type { Logger } from 'pino'
import type { Tables } from '../db/connect.ts'
import { arrayOf } from './array-of.ts'

/** A model thinks longer; a program that does not spares the database the writing. In milliseconds. */
const WRITTEN_MS = 250
/** Who closes while the database is away waits no longer: what is not written is heard twice. In milliseconds. */
const CLOSE_MS = 1_000

type Sent = { call_key: string; at: number }

export type Answers = ReturnType<typeof openAnswers>

export function openAnswers(db: Kysely<Tables>, log: Logger) {
  const all = new Map<string, Sent>()
  let timer: NodeJS.Timeout | null = null
  let closed = false

  async function write(due: [string, Sent][]): Promise<void> {
    const written = await markSent(db, due).catch((error: unknown) => {
      log.warn({ err: error }, 'answers.not_written')
      return new Set<string>()
    })
    for (const [execution_id, sent] of due)
      if (written.has(execution_id) && all.get(execution_id) === sent) all.delete(execution_id)
  }

  function later(): void {
    if (closed) return
    timer ??= setTimeout(async () => {
      const due = [...all].filter(([, { at }]) => performance.now() - at >= WRITTEN_MS)
      if (due.length > 0) await write(due)
      timer = null
      if (all.size > 0) later()
    }, WRITTEN_MS).unref()
  }

  return {
    /** `sent`: aborted when it has been handed over; undefined: it is. */
    follow(execution_id: string, call_key: string, sent: AbortSignal | undefined): void {
      const note = () => {
        all.set(execution_id, { call_key, at: performance.now() })
        later()
      }
      if (sent === undefined || sent.aborted) note()
      else sent.addEventListener('abort', note, { once: true })
    },

    /** What an agent has read whose call began then, by `performance.now()`; null: this process does not know. */
    readBy(execution_id: string, began: number): string | null {
      const sent = all.get(execution_id)
      return sent !== undefined && sent.at <= began ? sent.call_key : null
    },

    /** It was read, or lost. */
    forget(execution_id: string, call_key: string | null): void {
      if (call_key === null || all.get(execution_id)?.call_key === call_key) all.delete(execution_id)
    },

    async close(): Promise<void> {
      closed = true
      if (timer !== null) clearTimeout(timer)
      if (all.size > 0) await Promise.race([write([...all]), pause(CLOSE_MS, undefined, { ref: false })])
    },
  }
}

/**
 * Answers those that are written, or need not be, for they are gone. A row that somebody is about to take is left for
 * the next time: whoever takes several would wait for this, and this for them.
 */
async function markSent(db: Kysely<Tables>, due: [string, Sent][]): Promise<Set<string>> {
  const { rows } = await sql<{ execution_id: string }>`
    with hasty as (select set_config('synchronous_commit', 'off', true)),
    asked as (
      select * from unnest(${arrayOf('uuid', due, ([execution_id]) => execution_id)},
        ${arrayOf('text', due, ([, { call_key }]) => call_key)}) as a(execution_id, call_key)
    ), free as materialized (
      select g.execution_id from givings g join asked a using (execution_id, call_key)
      for no key update of g skip locked
    ), marked as (
      update givings set sent = true from free, hasty where givings.execution_id = free.execution_id
    )
    select execution_id from free
    union all
    select a.execution_id from asked a
    where not exists (select from givings g where g.execution_id = a.execution_id and g.call_key = a.call_key)`.execute(
    db,
  )
  return new Set(rows.map(({ execution_id }) => execution_id))
}
