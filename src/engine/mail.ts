/**
 * A run's mail as its runner and its agent get it: undelivered messages and the news of its children, in the order
 * of the log, rendered as one text. Looking marks nothing; giving does, once: the runner by claiming what it puts into
 * a prompt, a tool's answer in two steps (`givings.ts`).
 *
 * News are the last lifecycle change of each child since the run's cursor; what a later change superseded is left out.
 * In a tree that is stopped nobody is given anything.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { type Kysely, type RawBuilder, sql } from 'kysely'
import { CHILD_EVENTS, Fault, type Inbox } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { arrayOf } from './array-of.ts'
import { batched } from './batch.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { givings, type Seen } from './givings.ts'
import { joinPieces, renderLetter, type Shown } from './letters.ts'
import type { Listeners } from './listeners.ts'
import { logged } from './log.ts'
import { markDelivered } from './messages.ts'
import { superseded } from './transitions.ts'

/** Messages of one text, and the characters that it may have; what is over waits for the next. */
const MESSAGES_MAX = 50
const TEXT_CHARACTERS_MAX = 200_000
/** Of one statement. */
const LOOKS_MAX = 100
const WAIT_MS_MAX = 7 * 24 * 3_600_000
/** For what a runner of a stopped tree waits at most before it looks again. */
const HALTED_MS = 24 * 3_600_000

type Piece = { sequence: number; text: string; message_id: string | null; urgent: boolean }

export type Waiting = {
  /** The same for a call that is repeated. */
  call_key: string
  hold_ms: number
  timeout_s: number
  signal: AbortSignal
  /** When the agent made it, by `performance.now()`; absent: now. */
  began?: number
  /** Aborted when the whole answer has been handed over; absent: it is with its return. */
  sent?: AbortSignal
}

/** Null: nothing came until the call had to end; the run waits until then. */
export type Held = { text: string } | { text: null; waiting_until: string | null }

type Given = { call_key: string; text: string; sent: boolean }

type Claim = {
  message_ids: string[]
  sequence: number
  since?: number | undefined
  /** The same for a claim that is asked for again. */
  claim_id?: string | undefined
}

type Look = {
  run_id: string
  seen: Seen
  given: Given | null
  /** How many messages the agent was given so far, by whomever. */
  taken: number
  inbox: Inbox
}

export function mailEngine(room: Room, listeners: Listeners) {
  const { clock, bell } = room
  const db = room.database.kysely
  const mail = givings(room)
  /** Executions for which a call is held here, with the number of calls. */
  const held = new Map<string, number>()
  const read = batched({
    most: LOOKS_MAX,
    keyOf: (execution_id: string) => execution_id,
    run: (all) => readMail(db, all),
  })

  async function look(execution_id: string): Promise<Look> {
    for (;;) {
      const row = await read(execution_id)
      if (!row) throw superseded()
      if (!row.stale) return lookOf(row, clock.now())
      await mail.settle(row.run_id)
    }
  }

  /**
   * Marks what a text held as delivered, all or nothing: false when anything of it was given meanwhile, but to this
   * very claim, whose answer was lost. The runner's way of giving; what it has claimed is in its journal.
   */
  async function claim(run_id: string, execution_id: string, given: Claim): Promise<boolean> {
    const claimed = await logged(room, async (write, events) => {
      const before = await write
        .selectFrom('runs')
        .select(['team_id', 'waiting_until', 'halted', 'last_event_sequence', 'claim_id'])
        .where('run_id', '=', run_id)
        .where('execution_id', '=', execution_id)
        .forNoKeyUpdate()
        .executeTakeFirst()
      if (!before) throw superseded()
      const { message_ids, claim_id = null } = given
      if (claim_id !== null && claim_id === before.claim_id) return true
      const held = await write.selectFrom('givings').selectAll().where('run_id', '=', run_id).execute()
      const cursor = Math.max(before.last_event_sequence ?? 0, ...held.map((giving) => giving.sequence))
      const is_as_seen = !before.halted && (given.since === undefined || given.since === cursor)
      const of_tool = held.some((giving) => giving.message_ids.some((id) => message_ids.includes(id)))
      const news = given.sequence > cursor || before.waiting_until !== null
      const fresh =
        is_as_seen && !of_tool && (message_ids.length > 0 ? await areAll(write, message_ids, UNDELIVERED) : news)
      // By the same runner, which asks again. Of a claim of nothing nobody can tell.
      if (!fresh)
        return message_ids.length > 0 && areAll(write, message_ids, sql<boolean>`claimed_by = ${execution_id}`)
      await markDelivered(write, { run_id, message_ids, now: clock.now(), claimed_by: execution_id })
      await write
        .updateTable('runs')
        .set({ last_event_sequence: sql<number>`greatest(coalesce(last_event_sequence, 0), ${given.sequence})` })
        .set({ waiting_until: null, claim_id })
        .where('run_id', '=', run_id)
        .execute()
      if (before.waiting_until !== null)
        events.push({ team_id: before.team_id, event_type: 'run_resumed', run_id, execution_id })
      return true
    })
    // A claim of nothing ends the waiting of a call that is held.
    if (claimed && given.message_ids.length === 0) bell.ring('mail', { execution_id })
    return claimed
  }

  return {
    /** `turn_over`: the agent's turn has ended, and with it whatever its tools had answered has arrived. */
    async inbox(caller: Caller, execution_id: string, { turn_over = false } = {}): Promise<Inbox> {
      own(caller, execution_id)
      if (turn_over) await mail.confirm(execution_id, performance.now())
      const seen = await look(execution_id)
      return (turn_over && seen.given !== null ? await settleTurn(execution_id) : seen).inbox
    },

    async delivered(caller: Caller, execution_id: string, given: Claim): Promise<{ already?: boolean }> {
      own(caller, execution_id)
      return (await claim(caller.run_id, execution_id, given)) ? {} : { already: true }
    },

    /** The agent called a tool then, by `performance.now()`: what had been sent until then it has read. */
    heard: (caller: ExecutionCaller, began: number): Promise<void> => mail.confirm(caller.execution_id, began),

    /** The answer to this call did not arrive. */
    giveBack: (execution_id: string, call_key: string): Promise<void> => mail.giveBack(execution_id, call_key),

    /**
     * What an agent's `wait_for_events` answers. Text: it is given, and delivered when the agent goes on. Null: the run
     * now waits until `timeout_s` are over, and its agent is to end its turn. The same call again gets the same text.
     */
    async wait(caller: Caller, { began = performance.now(), ...options }: Waiting): Promise<Held> {
      if (caller.kind !== 'execution') throw new Fault('not_authorized', 'Only a running agent can wait for events.')
      const { execution_id } = caller
      const { call_key } = options
      const until = performance.now() + options.hold_ms
      const waiting_until = new Date(clock.now().getTime() + Math.min(options.timeout_s * 1000, WAIT_MS_MAX))
      const ringing = rings(execution_id)
      const listener = listeners.open(caller.run_id, { call_key, wake: ringing.ring })
      let taken: number | null = null
      let parked = false
      let own_until: Date | null = null
      let yields_until: number | null = null
      const yields = ({ waiting_until: until_now }: Seen): boolean =>
        own_until !== null &&
        until_now !== null &&
        own_until.getTime() !== until_now.getTime() &&
        (yields_until === null || performance.now() < yields_until)
      const answer = (text: string): Held => {
        room.answers.follow(execution_id, call_key, options.sent)
        return { text }
      }
      const park = async (if_quiet: boolean): Promise<void> => {
        const row = await mail.park({ execution_id, waiting_until, call_key, began, if_quiet })
        own_until = row?.own_until ?? null
        const quiet = if_quiet ? own_until !== null : row?.undelivered === 0
        if (if_quiet && row !== undefined && own_until !== null) {
          const { messages, since: last_event_sequence } = row
          taken = messages
          listener.listen({ execution_id, waiting_until: own_until, messages, last_event_sequence })
        }
        parked = quiet === true || !if_quiet
        // What was rung for since it began to listen is heard; a call that is not held must look for itself.
        if (quiet && performance.now() < until) await ringing.next(until, options.signal)
      }
      try {
        // Most who wait have nothing to be told: to wait at once saves them a look.
        if (!options.signal.aborted) await park(true)
        for (;;) {
          const told = await listener.told()
          if (told !== null) return answer(told)
          const { inbox, run_id, seen, given, taken: taken_now } = await look(execution_id)
          // What it was told, the look may have seen as well.
          if (listener.hasWord()) continue
          if (options.signal.aborted) {
            // The ring that it heard was for whoever listens next.
            if (inbox.text !== null) ringing.ring()
            return { text: null, waiting_until: inbox.waiting_until }
          }
          if (given?.call_key === call_key) return answer(given.text)
          if (given !== null) {
            // Another call of this agent was given it beside this one, and it may not arrive there.
            if (isSent(execution_id, given) || performance.now() >= until) return { text: GIVEN_ELSEWHERE }
            await ringing.next(Math.min(until, performance.now() + UNSENT_POLL_MS), options.signal)
            continue
          }
          taken ??= taken_now
          // Also when the runner says that what it joined to the turn before this call is what the agent waits for.
          const ended = parked && seen.waiting_until === null && !seen.halted
          if (taken_now > taken || ended) return { text: GIVEN_ELSEWHERE }
          if (inbox.text !== null && yields(seen)) {
            // A caller whose connection has died unseen asks again: the newer call is the likelier to be heard.
            yields_until ??= Math.min(until, performance.now() + YIELD_MS)
            await ringing.next(yields_until, options.signal)
          } else if (inbox.text !== null) {
            const { message_ids, sequence, text } = inbox
            if (await mail.give({ execution_id, run_id, call_key, message_ids, sequence, text, seen }))
              return answer(text)
          } else if (!parked) {
            // Waiting is a row before the last look, so that whatever comes after the look finds it.
            await park(false)
          } else if (performance.now() >= until) {
            return { text: null, waiting_until: inbox.waiting_until }
          } else {
            await ringing.next(until, options.signal)
          }
        }
      } finally {
        ringing.close()
        // What failed on its way to the agent is in its inbox again.
        if (listener.close()) await mail.giveBack(execution_id, call_key)
      }
    },

    /** Whether a call is held here that looks as soon as the bell rings for this execution's mail. */
    holds: (execution_id: string): boolean => held.has(execution_id),
  }

  function isSent(execution_id: string, given: Given): boolean {
    return given.sent || room.answers.readBy(execution_id, performance.now()) === given.call_key
  }

  /** What was not sent when the turn was over, nobody has read; another server writes a little later that it was. */
  async function settleTurn(execution_id: string): Promise<Look> {
    const until = performance.now() + WRITTEN_MS_MAX
    for (;;) {
      const seen = await look(execution_id)
      if (seen.given === null) return seen
      if (performance.now() >= until) await mail.giveBack(execution_id, seen.given.call_key)
      else if (isSent(execution_id, seen.given)) await mail.confirm(execution_id, performance.now())
      else await pause(UNSENT_POLL_MS / 5)
    }
  }

  /** Resolves when the bell rings for this execution; rings while nobody listens are kept. */
  function rings(execution_id: string) {
    let rung = false
    let wake: (() => void) | null = null
    const ring = () => {
      rung = true
      wake?.()
    }
    held.set(execution_id, (held.get(execution_id) ?? 0) + 1)
    const deaf = [
      bell.hear('control', (rung) => rung.execution_id === execution_id && ring()),
      bell.hear('mail', (rung) => rung.execution_id === execution_id && ring()),
      bell.hear('reconnected', ring),
    ]
    return {
      ring,
      async next(until: number, signal: AbortSignal): Promise<void> {
        if (!rung && !signal.aborted) {
          await new Promise<void>((resolve) => {
            const stop = () => {
              clearTimeout(timer)
              signal.removeEventListener('abort', stop)
              resolve()
            }
            const timer = setTimeout(stop, Math.max(0, Math.min(POLL_MS, until - performance.now())))
            wake = stop
            signal.addEventListener('abort', stop)
          })
          wake = null
        }
        rung = false
      },
      close: () => {
        for (const stop of deaf) stop()
        const others = (held.get(execution_id) ?? 1) - 1
        if (others > 0) held.set(execution_id, others)
        else held.delete(execution_id)
        // What nobody has looked at since is for whoever listens next; what this call was told ends the others.
        if (rung || others > 0) bell.ring('mail', { execution_id })
      },
    }
  }
}

/** A held call looks for itself this often; the bell comes sooner. */
const POLL_MS = 10_000
/** And this often whether an answer beside it has been sent. */
const UNSENT_POLL_MS = 250
/** In which a server writes down that an answer was sent, or it was not. */
const WRITTEN_MS_MAX = 1_000
/** How long an older call leaves to the newer one what has come. */
const YIELD_MS = 1_000

const CHANGES: Record<string, string> = {
  run_succeeded: 'has succeeded',
  run_failed: 'has failed',
  run_errored: 'has ended with an error',
  run_blocked: 'needs a person',
  run_cancelled: 'was cancelled',
}

const TIMED_OUT =
  'Nothing came in the time that you waited for. Wait again with wait_for_events, or finish your work without it.'

const GIVEN_ELSEWHERE =
  'What came while you waited was given to you directly, beside this call. Deal with it, then wait again if ' +
  'agents are still at work.'

/**
 * Everything that a look needs, in one statement, so that it is of one moment. While a plan is before a person its
 * agent is told nothing else.
 */
async function readMail(db: Kysely<Tables>, execution_ids: string[]): Promise<(Row | undefined)[]> {
  const { rows } = await sql<Row>`
    select x.execution_id, r.run_id, r.messages, r.undelivered, r.last_event_sequence, r.waiting_until,
      r.halted, g.call_key, g.text, g.sent,
      greatest(coalesce(r.last_event_sequence, 0), coalesce(g.sequence, 0)) as since,
      exists (select from givings old where old.run_id = r.run_id and old.execution_id <> x.execution_id) as stale,
      letters.all as letters, news.all as news
    from executions x join runs r on r.run_id = x.run_id and r.execution_id = x.execution_id
      left join givings g on g.execution_id = x.execution_id
      cross join lateral (
        select coalesce(jsonb_agg(l order by l.number), '[]') as all from (
          select m.number, e.sequence, m.message_id, m.urgent, m.subject, m.body, m.mode, m.sender_run_id,
            coalesce(s.config->>'name', s.title, i.name) as sender_name
          from messages m join events e on e.ref_id = m.message_id::text and e.event_type = 'new_message'
            left join runs s on s.run_id = m.sender_run_id
            left join identities i on i.identity_uid = m.sender_identity_uid
          where m.recipient_run_id = r.run_id and m.delivered_at is null and r.open_plan is null and not r.halted
            and m.message_id <> all(coalesce(g.message_ids, '{}'))
          order by m.number limit ${MESSAGES_MAX}
        ) as l
      ) as letters
      cross join lateral (
        select coalesce(jsonb_agg(n order by n.sequence), '[]') as all from (
          select e.sequence, e.event_type, c.run_id, coalesce(c.config->>'name', c.title) as name,
            coalesce(c.failure->>'message', c.status_message) as words
          from runs c cross join lateral (
            select sequence, event_type from events
            where run_id = c.run_id and sequence > greatest(coalesce(r.last_event_sequence, 0), coalesce(g.sequence, 0))
              and event_type in (${sql.join(CHILD_EVENTS.map((type) => sql.lit(type)))})
            order by sequence desc limit 1
          ) as e
          where c.parent_run_id = r.run_id and r.open_plan is null and not r.halted
        ) as n
      ) as news
    where x.execution_id = any(${arrayOf('uuid', execution_ids, (id) => id)}::uuid[]) and x.state = 'running'`.execute(
    db,
  )
  const found = new Map(rows.map((row) => [row.execution_id, row]))
  return execution_ids.map((execution_id) => found.get(execution_id))
}

type Letter = Shown & { sequence: number; message_id: string }
type News = { sequence: number; event_type: string; run_id: string; name: string; words: string | null }
type Row = Seen & {
  execution_id: string
  run_id: string
  call_key: string | null
  text: string | null
  sent: boolean | null
  since: number
  stale: boolean
  letters: Letter[]
  news: News[]
}

/** That the time for which the agent waited is over is something to be told, too. */
function lookOf(row: Row, now: Date): Look {
  const { run_id, messages, undelivered, last_event_sequence, waiting_until, halted, since } = row
  const until = halted ? new Date(now.getTime() + HALTED_MS) : waiting_until
  const found: Piece[] = []
  let characters = 0
  for (const piece of piecesOf(row)) {
    if (found.length > 0 && characters + piece.text.length > TEXT_CHARACTERS_MAX) break
    found.push(piece)
    characters += piece.text.length
  }
  const timed_out = found.length === 0 && until !== null && until <= now
  return {
    run_id,
    seen: { messages, undelivered, last_event_sequence, waiting_until, halted },
    given:
      row.call_key === null || row.text === null
        ? null
        : { call_key: row.call_key, text: row.text, sent: row.sent === true },
    taken: messages - undelivered,
    inbox: {
      text: found.length > 0 ? joinPieces(found.map((piece) => piece.text)) : timed_out ? TIMED_OUT : null,
      message_ids: found.flatMap((piece) => (piece.message_id === null ? [] : [piece.message_id])),
      sequence: Math.max(since, ...found.map((piece) => piece.sequence)),
      since,
      urgent: found.some((piece) => piece.urgent),
      waiting_until: until?.toISOString() ?? null,
      ...(halted ? { halted } : {}),
    },
  }
}

function piecesOf({ letters, news }: Row): Piece[] {
  const messages = letters.map((m): Piece => {
    const { sequence, message_id, urgent } = m
    return { sequence, message_id, urgent, text: renderLetter(m) }
  })
  // Behind the last letter of a full look there may be another, which the agent is to have before such news.
  const up_to = letters.length < MESSAGES_MAX ? Number.POSITIVE_INFINITY : (letters.at(-1)?.sequence ?? 0)
  const changes = news
    .filter((n) => n.event_type !== 'run_in_progress' && n.sequence < up_to)
    .map((n): Piece => {
      const words = n.words ? ` It says: ${n.words}` : ''
      const what = CHANGES[n.event_type] ?? n.event_type
      return {
        sequence: n.sequence,
        message_id: null,
        urgent: false,
        text: `Your agent "${n.name}" (run ${n.run_id}) ${what}.${words}`,
      }
    })
  return [...messages, ...changes].sort((a, b) => a.sequence - b.sequence)
}

const UNDELIVERED = sql<boolean>`delivered_at is null`

/** Whether it holds of each of these messages. */
async function areAll(write: Kysely<Tables>, message_ids: string[], it: RawBuilder<boolean>): Promise<boolean> {
  const { count } = await write
    .selectFrom('messages')
    .select((m) => m.fn.countAll<number>().as('count'))
    .where('message_id', 'in', message_ids)
    .where(it)
    .executeTakeFirstOrThrow()
  return Number(count) === new Set(message_ids).size
}

function own(caller: Caller, execution_id: string): asserts caller is ExecutionCaller {
  if (caller.kind !== 'execution' || caller.execution_id !== execution_id) {
    throw new Fault('resource_not_found', `There is no execution ${execution_id}.`)
  }
}
