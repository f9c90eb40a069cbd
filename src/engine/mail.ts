/**
 * A run's mail as its runner and its agent get it: undelivered messages and the news of its children, in the order
 * of the log, rendered as one text. Taking marks nothing; saying that it was delivered does, once.
 *
 * News are the last lifecycle change of each child since the run's cursor; what a later change superseded is left out.
 */
import { type Kysely, sql } from 'kysely'
import { CHILD_EVENTS, Fault, type Inbox, RunMode } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { logged } from './log.ts'
import { markDelivered } from './messages.ts'
import { modeWords } from './mode-words.ts'
import { superseded } from './transitions.ts'

/** Messages of one text, and the characters that it may have; what is over waits for the next. */
const MESSAGES_MAX = 50
const TEXT_CHARACTERS_MAX = 200_000
const WAIT_MS_MAX = 7 * 24 * 3_600_000

type Piece = { sequence: number; text: string; message_id: string | null; urgent: boolean }

export type Held = { text: string | null; inbox: Inbox }

export function mailEngine(room: Room) {
  const { clock, bell } = room
  const db = room.database.kysely

  async function readRow(execution_id: string) {
    const row = await db
      .selectFrom('runs')
      .innerJoin('executions', 'executions.execution_id', 'runs.execution_id')
      .selectAll('runs')
      .where('runs.execution_id', '=', execution_id)
      .where('executions.state', '=', 'running')
      .executeTakeFirst()
    if (!row) throw superseded()
    return row
  }

  async function pieces(run_id: string, since: number): Promise<Piece[]> {
    const messages = await db
      .selectFrom('messages as m')
      .innerJoin('events as e', (on) =>
        on.onRef('e.run_id', '=', 'm.recipient_run_id').on('e.ref_id', '=', sql<string>`m.message_id::text`),
      )
      .leftJoin('runs as s', 's.run_id', 'm.sender_run_id')
      .selectAll('m')
      .select(['e.sequence', sql<string | null>`coalesce(s.config->>'name', s.title)`.as('sender_name')])
      .where('m.recipient_run_id', '=', run_id)
      .where('m.delivered_at', 'is', null)
      .where('e.event_type', '=', 'new_message')
      .orderBy('m.number')
      .limit(MESSAGES_MAX)
      .execute()
    const { rows: news } = await sql<{
      sequence: number
      event_type: string
      run_id: string
      name: string
      words: string | null
    }>`
      select distinct on (e.run_id) e.sequence, e.event_type, e.run_id::text,
        coalesce(c.config->>'name', c.title) as name,
        coalesce(c.failure->>'message', c.status_message) as words
      from events e join runs c using (run_id)
      where c.parent_run_id = ${run_id} and e.sequence > ${since} and e.event_type = any(${[...CHILD_EVENTS]}::text[])
      order by e.run_id, e.sequence desc`.execute(db)
    const letters = messages.map(
      (m): Piece => ({
        sequence: m.sequence,
        message_id: m.message_id,
        urgent: m.urgent,
        text:
          `${m.urgent ? 'Urgent message' : 'Message'} from ${m.sender_run_id === null ? 'a person' : `agent "${m.sender_name}" (run ${m.sender_run_id})`}\n` +
          [`Subject: ${m.subject}`, m.body, m.mode === null ? null : modeWords(RunMode.parse(m.mode))]
            .filter((part) => part !== null)
            .join('\n\n'),
      }),
    )
    const changes = news
      .filter((n) => n.event_type !== 'run_in_progress')
      .map(
        (n): Piece => ({
          sequence: n.sequence,
          message_id: null,
          urgent: false,
          text: `Your agent "${n.name}" (run ${n.run_id}) ${CHANGES[n.event_type] ?? n.event_type}.${n.words ? ` It says: ${n.words}` : ''}`,
        }),
      )
    return [...letters, ...changes].sort((a, b) => a.sequence - b.sequence)
  }

  /** `timed_out`: the time for which the agent waited is over; that too is something to be told. */
  async function take(execution_id: string): Promise<Inbox & { run_id: string; timed_out: boolean }> {
    const row = await readRow(execution_id)
    const since = row.last_event_sequence ?? 0
    const found: Piece[] = []
    let characters = 0
    // While a plan is before a person its agent is told nothing else.
    for (const piece of row.open_plan === null ? await pieces(row.run_id, since) : []) {
      if (found.length > 0 && characters + piece.text.length > TEXT_CHARACTERS_MAX) break
      found.push(piece)
      characters += piece.text.length
    }
    const timed_out = found.length === 0 && row.waiting_until !== null && row.waiting_until <= clock.now()
    return {
      run_id: row.run_id,
      timed_out,
      text: found.length > 0 ? render(found) : timed_out ? TIMED_OUT : null,
      message_ids: found.flatMap((piece) => (piece.message_id === null ? [] : [piece.message_id])),
      sequence: Math.max(since, ...found.map((piece) => piece.sequence)),
      urgent: found.some((piece) => piece.urgent),
      waiting_until: row.waiting_until?.toISOString() ?? null,
    }
  }

  /**
   * Marks what a text held, once: of the runner and a tool that would both give it, the first gets true. All or
   * nothing: when a part of it was given meanwhile, nothing is marked, and who gets false looks again.
   */
  async function mark(
    run_id: string,
    execution_id: string,
    given: { message_ids: string[]; sequence: number },
  ): Promise<boolean> {
    return logged(room, async (write, events) => {
      const before = await write
        .selectFrom('runs')
        .select(['team_id', 'waiting_until', 'stopped', 'last_event_sequence'])
        .where('run_id', '=', run_id)
        .where('execution_id', '=', execution_id)
        .forNoKeyUpdate()
        .executeTakeFirst()
      if (!before) throw superseded()
      const news = given.sequence > (before.last_event_sequence ?? 0) || before.waiting_until !== null
      const fresh = given.message_ids.length > 0 ? await areUndelivered(write, given.message_ids) : news
      if (!fresh) return false
      await markDelivered(write, run_id, given.message_ids, clock.now())
      await write
        .updateTable('runs')
        .set({ last_event_sequence: sql<number>`greatest(coalesce(last_event_sequence, 0), ${given.sequence})` })
        .$if(before.stopped === null, (u) => u.set({ waiting_until: null }))
        .where('run_id', '=', run_id)
        .execute()
      if (before.waiting_until !== null && before.stopped === null)
        events.push({ team_id: before.team_id, event_type: 'run_resumed', run_id, execution_id })
      return true
    })
  }

  /** Its turn may end now: the run keeps its session, costs nothing and takes up no slot. */
  async function park(execution_id: string, waiting_until: Date): Promise<void> {
    await logged(room, async (write, events) => {
      const parked = await write
        .updateTable('runs')
        .set({ waiting_until })
        .where('execution_id', '=', execution_id)
        .where('state', '=', 'INPROGRESS')
        .where('stopped', 'is', null)
        .where('waiting_until', 'is', null)
        .returning(['team_id', 'run_id'])
        .executeTakeFirst()
      if (parked) events.push({ ...parked, event_type: 'run_waiting', execution_id })
    })
    bell.ring('queue', {})
  }

  return {
    async inbox(caller: Caller, execution_id: string): Promise<Inbox> {
      own(caller, execution_id)
      const { run_id: _run, timed_out: _late, ...inbox } = await take(execution_id)
      return inbox
    },

    async delivered(
      caller: Caller,
      execution_id: string,
      given: { message_ids: string[]; sequence: number },
    ): Promise<{ already?: boolean }> {
      own(caller, execution_id)
      return (await mark(caller.run_id, execution_id, given)) ? {} : { already: true }
    },

    /**
     * What an agent's `wait_for_events` answers. Text: it was marked as delivered, for the answer surfaces it.
     * Null: the run now waits until `timeout_s` are over, and its agent is to end its turn.
     */
    async wait(caller: Caller, options: { hold_ms: number; timeout_s: number; signal: AbortSignal }): Promise<Held> {
      if (caller.kind !== 'execution') throw new Fault('not_authorized', 'Only a running agent can wait for events.')
      const { execution_id } = caller
      const until = performance.now() + options.hold_ms
      const waiting_until = new Date(clock.now().getTime() + Math.min(options.timeout_s * 1000, WAIT_MS_MAX))
      const ringing = rings(execution_id)
      try {
        for (let parked = false; ; ) {
          const { run_id, timed_out: _late, ...inbox } = await take(execution_id)
          if (options.signal.aborted) return { text: null, inbox }
          if (inbox.text !== null) {
            if (await mark(run_id, execution_id, inbox)) return { text: inbox.text, inbox }
            // The runner gave it first, and the run no longer waits.
            parked = false
          } else if (!parked) {
            // Waiting is a row before the last look, so that whatever comes after the look finds it.
            await park(execution_id, waiting_until)
            parked = true
          } else if (performance.now() >= until) {
            return { text: null, inbox }
          } else {
            await ringing.next(Math.min(POLL_MS, until - performance.now()), options.signal)
          }
        }
      } finally {
        ringing.close()
      }
    },
  }

  /** Resolves when the bell rings for this execution; rings while nobody listens are kept. */
  function rings(execution_id: string) {
    let rung = false
    let wake: (() => void) | null = null
    const stop = bell.hear('control', (ring) => {
      if (ring.execution_id !== execution_id) return
      rung = true
      wake?.()
    })
    return {
      async next(ms: number, signal: AbortSignal): Promise<void> {
        if (!rung) {
          await new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, Math.max(0, ms))
            wake = () => {
              clearTimeout(timer)
              resolve()
            }
            signal.addEventListener('abort', wake, { once: true })
          })
          wake = null
        }
        rung = false
      },
      close: stop,
    }
  }
}

const POLL_MS = 2_000

const CHANGES: Record<string, string> = {
  run_succeeded: 'has succeeded',
  run_failed: 'has failed',
  run_errored: 'has ended with an error',
  run_blocked: 'needs a person',
  run_cancelled: 'was cancelled',
}

const TIMED_OUT =
  'Nothing came in the time that you waited for. Wait again with wait_for_events, or finish your work without it.'

const render = (found: Piece[]): string => `${found.map((piece) => piece.text).join('\n\n---\n\n')}\n`

async function areUndelivered(write: Kysely<Tables>, message_ids: string[]): Promise<boolean> {
  const { count } = await write
    .selectFrom('messages')
    .select((m) => m.fn.countAll<number>().as('count'))
    .where('message_id', 'in', message_ids)
    .where('delivered_at', 'is', null)
    .executeTakeFirstOrThrow()
  return Number(count) === new Set(message_ids).size
}

function own(caller: Caller, execution_id: string): asserts caller is ExecutionCaller {
  if (caller.kind !== 'execution' || caller.execution_id !== execution_id) {
    throw new Fault('resource_not_found', `There is no execution ${execution_id}.`)
  }
}
