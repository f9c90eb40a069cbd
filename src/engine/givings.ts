/**
 * What a tool's answer gives an agent, in two steps, so that an answer which never arrived loses nothing. Given: a row
 * holds what was in the answer, its messages count as taken, and nobody else gives them. Confirmed, by the agent's
 * next call or the end of its turn: they are delivered. Given back, when the answer is known not to have arrived or the
 * execution ended otherwise: they wait in the inbox again. See `docs/decisions/0009-mail-in-two-steps.md`.
 */
import { type Kysely, type RawBuilder, sql } from 'kysely'
import type { EventType } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { arrayOf } from './array-of.ts'
import { hasNews } from './attention.ts'
import { batched } from './batch.ts'
import type { Room } from './engine.ts'

/** `seen`: the run's row as it was when the text was made. If anything of it has changed since, nothing is given. */
export type Giving = {
  execution_id: string
  run_id: string
  call_key: string
  message_ids: string[]
  sequence: number
  text: string
  seen: Seen
}

export type Seen = {
  messages: number
  undelivered: number
  last_event_sequence: number | null
  waiting_until: Date | null
  /** Its tree is: then nothing is given. */
  halted: boolean
}

/** `if_quiet`: only if nothing is there that the agent has yet to be told. `read`: the call whose answer it has read. */
type Parking = {
  execution_id: string
  waiting_until: Date
  call_key: string
  read: string | null
  if_quiet: boolean
}

/** Of one statement. */
const GIVINGS_MAX = 50
const UNIQUE_VIOLATION = '23505'
/** An answer that is not known to have left its server after this was lost with that; in milliseconds. */
const UNSENT_MS = 5_000

export function givings(room: Room) {
  const { clock, bell, answers } = room
  const db = room.database.kysely
  const giveOne = batched({
    most: GIVINGS_MAX,
    keyOf: (giving: Giving) => giving.run_id,
    run: (all) => giveAll(db, all, clock.now()),
  })
  const parkOne = batched({
    most: GIVINGS_MAX,
    keyOf: (parking: Parking) => parking.execution_id,
    run: (all) => parkAll(db, all, clock.now()),
  })

  return {
    /** False: somebody gave or sent something meanwhile; look again. */
    async give(giving: Giving): Promise<boolean> {
      const given = await giveOne(giving).catch((error: unknown) => {
        // Two calls at once with the same news: the other one gave them.
        if (error instanceof Error && 'code' in error && error.code === UNIQUE_VIOLATION) return false
        throw error
      })
      if (given && giving.seen.waiting_until !== null) bell.ring('log', {})
      return given
    },

    /**
     * Its turn may end now: the run keeps its session, costs nothing and takes up no slot. It has what the last answer
     * gave it, if the call that asks for this began after that was sent. Undefined: the execution is no longer the
     * current one.
     */
    async park({ began, ...asked }: Omit<Parking, 'read'> & { began: number }): Promise<Parked | undefined> {
      const read = answers.readBy(asked.execution_id, began)
      const parked = await parkOne({ ...asked, read })
      if (read !== null) answers.forget(asked.execution_id, read)
      if (parked?.anew) {
        bell.ring('log', {})
        if (parked.crowded) bell.ring('queue', {})
      }
      return parked
    },

    /** The agent has what the last answer of a tool gave it, for it went on after that was sent. */
    async confirm(execution_id: string, began: number): Promise<void> {
      const read = answers.readBy(execution_id, began)
      const was_read = sql`(givings.sent or givings.call_key = ${read}::text)`
      await confirmWhere(db, sql`givings.execution_id = ${execution_id} and ${was_read}`, clock.now())
      if (read !== null) answers.forget(execution_id, read)
    },

    /** The answer to this call did not arrive. */
    async giveBack(execution_id: string, call_key: string | null): Promise<void> {
      answers.forget(execution_id, call_key)
      const own = sql`givings.execution_id = ${execution_id} and (${call_key}::text is null or call_key = ${call_key})`
      if (await giveBackWhere(db, own)) bell.ring('mail', { execution_id })
    },

    /** What earlier executions of a run, or of all, left behind. */
    async settle(run_id: string | null): Promise<number> {
      const left = await db
        .selectFrom('givings')
        .innerJoin('executions', 'executions.execution_id', 'givings.execution_id')
        .select(['givings.execution_id', 'executions.outcome'])
        .where('executions.state', '=', 'ended')
        .$if(run_id !== null, (q) => q.where('givings.run_id', '=', run_id))
        .execute()
      for (const { execution_id, outcome } of left) {
        const own = sql`givings.execution_id = ${execution_id}`
        await (outcome === 'SUCCEEDED' ? confirmWhere(db, own, clock.now()) : giveBackWhere(db, own))
      }
      return left.length
    },

    /** What a server that is gone had given, and is not known to have sent. */
    async giveBackUnsent(): Promise<number> {
      const left = await db
        .selectFrom('givings')
        .select(['execution_id', 'call_key'])
        .where('sent', '=', false)
        .where('given_at', '<', new Date(clock.now().getTime() - UNSENT_MS))
        .execute()
      const lost = left.filter(
        ({ execution_id, call_key }) => answers.readBy(execution_id, performance.now()) !== call_key,
      )
      for (const { execution_id, call_key } of lost) {
        const own = sql`givings.execution_id = ${execution_id} and givings.call_key = ${call_key} and not givings.sent`
        if (await giveBackWhere(db, own)) bell.ring('mail', { execution_id })
      }
      return lost.length
    },
  }
}

/** For each whether it was given. One statement, guarded by what was seen. */
async function giveAll(db: Kysely<Tables>, all: Giving[], now: Date): Promise<boolean[]> {
  const asked = all.map(({ seen, ...giving }, place) => ({ ...giving, ...seen, place }))
  const { rows } = await sql<{ place: number }>`
    with asked as (
      select * from jsonb_to_recordset(${JSON.stringify(asked)}::jsonb) as a(place int, execution_id uuid, run_id uuid,
        call_key text, message_ids uuid[], sequence bigint, text text, messages int, undelivered int,
        last_event_sequence bigint, waiting_until timestamptz)
    ), ${inOrder(sql`(select run_id from asked)`)}, held as (
      update runs set undelivered = runs.undelivered - cardinality(a.message_ids),
        waiting_until = null,
        hop = greatest(runs.hop, (select max(m.hop) from messages m where m.message_id = any(a.message_ids))),
        cause_id = coalesce(a.message_ids[cardinality(a.message_ids)], runs.cause_id)
      from asked a join ordered using (run_id)
      where runs.run_id = a.run_id and runs.execution_id = a.execution_id and runs.messages = a.messages
        and runs.undelivered = a.undelivered and runs.last_event_sequence is not distinct from a.last_event_sequence
        and runs.waiting_until is not distinct from a.waiting_until and not runs.halted
      returning a.*, runs.team_id
    ), kept as (
      insert into givings (execution_id, run_id, call_key, message_ids, sequence, text, given_at)
      select execution_id, run_id, call_key, message_ids, sequence, text, ${now} from held
    ), resumed as (
      select * from held where waiting_until is not null
    ), ${says('run_resumed', sql`resumed`, now)}
    select place from held`.execute(db)
  const given = new Set(rows.map((row) => row.place))
  return all.map((_, place) => given.has(place))
}

/**
 * `anew`: it waits only now. `own_until`: until when, for this call; null: not by this call. A call that comes while
 * another is held takes that one's place: it moves the time by a millisecond, by which the other knows. `messages`: how
 * many it was ever sent, with the `undelivered`. `since`: the number up to which it has all news. `crowded`: a run of
 * its team is queued, perhaps for the place that it leaves.
 */
type Parked = {
  anew: boolean
  own_until: Date | null
  messages: number
  undelivered: number
  since: number | null
  crowded: boolean
}

/** What somebody gave while this waited for the run's row it does not see, but that the row has changed. */
async function parkAll(db: Kysely<Tables>, all: Parking[], now: Date): Promise<(Parked | undefined)[]> {
  const { rows } = await sql<Parked & { execution_id: string }>`
    with asked as (
      select x.run_id, a.* from unnest(
        ${arrayOf('uuid', all, (one) => one.execution_id)}, ${arrayOf('timestamptz', all, (one) => one.waiting_until)},
        ${arrayOf('text', all, (one) => one.call_key)}, ${arrayOf('text', all, (one) => one.read)},
        ${arrayOf('bool', all, (one) => one.if_quiet)}
      ) as a(execution_id, waiting_until, call_key, read, if_quiet) join executions x using (execution_id)
    ), ${inOrder(sql`(select run_id from asked)`)}, gone as (
      delete from givings using asked a join ordered using (run_id)
      where givings.execution_id = a.execution_id and givings.call_key <> a.call_key
        and (givings.sent or givings.call_key = a.read)
      returning givings.*
    ), marked as (
      update messages set delivered_at = ${now} from gone
      where messages.message_id = any(gone.message_ids) and delivered_at is null
    ), judged as materialized (
      select a.*, nullif(greatest(coalesce(o.seen, -1), coalesce(gone.sequence, -1)), -1) as seen,
        o.waited, o.works and (o.waited > ${now}) is not false and not exists (select from givings g
            where g.run_id = a.run_id and not exists (select from gone where gone.execution_id = g.execution_id))
          and not (a.if_quiet and (o.undelivered > 0
            or not exists (select from runs r where r.run_id = a.run_id and r.messages = o.messages
              and r.undelivered = o.undelivered and r.waiting_until is not distinct from o.waited)
            or ${hasNews(sql`a.run_id`, sql`greatest(coalesce(o.seen, 0), coalesce(gone.sequence, 0))`)})) as parks
      from asked a join ordered o using (run_id) left join gone on gone.execution_id = a.execution_id
    ), held as (
      update runs set last_event_sequence = judged.seen, waiting_until = case
          when not judged.parks then runs.waiting_until
          when judged.waited is null then judged.waiting_until
          else judged.waited + interval '1 millisecond' end
      from judged where runs.run_id = judged.run_id and runs.execution_id = judged.execution_id
      returning runs.team_id, runs.run_id, runs.execution_id, runs.messages, runs.undelivered, judged.seen as since,
        case when judged.parks then runs.waiting_until end as own_until, judged.parks and judged.waited is null as anew
    ), parked as (
      select * from held where anew
    ), ${says('run_waiting', sql`parked`, now)}
    select execution_id, messages, undelivered, since, anew, own_until,
      exists (select from runs queued where queued.team_id = held.team_id and queued.state = 'QUEUED') as crowded
    from held`.execute(db)
  const parked = new Map(rows.map((row) => [row.execution_id, row]))
  return all.map((one) => parked.get(one.execution_id))
}

/** A part of a statement, which locks several runs as every writer does: in the order of their ids. */
const inOrder = (run_ids: RawBuilder<unknown>): RawBuilder<unknown> => sql`
    ordered as materialized (
      select run_id, messages, undelivered, last_event_sequence as seen, waiting_until as waited,
        state = 'INPROGRESS' and not halted as works
      from runs where run_id in ${run_ids} order by run_id for no key update
    )`

/** Two further parts of a statement, which log an event for each row of another. The counter comes last. */
const says = (event_type: EventType, rows: RawBuilder<unknown>, now: Date): RawBuilder<unknown> => sql`
    bump as (
      update event_counter set value = value + logged.count from (select count(*)::int as count from ${rows}) as logged
      where logged.count > 0 returning event_counter.value - logged.count as before
    ), said as (
      insert into events (sequence, team_id, event_type, run_id, execution_id, occurred_at)
      select bump.before + row_number() over (order by r.run_id), r.team_id, ${event_type}, r.run_id, r.execution_id,
        ${now}
      from bump, ${rows} r
    )`

/**
 * The run's row is locked first, as by every writer. Nobody waits for the disk: what a crash of PostgreSQL undoes here
 * is given once more.
 */
const gone = (own: RawBuilder<unknown>): RawBuilder<unknown> => sql`
    hasty as (select set_config('synchronous_commit', 'off', true)),
    mine as (select * from givings where ${own}),
    held as (
      select run_id from runs where run_id in (select run_id from mine) order by run_id for no key update
    ), gone as (
      delete from givings using held, hasty where givings.run_id = held.run_id
        and givings.execution_id in (select execution_id from mine) and (${own})
      returning givings.*
    )`

async function confirmWhere(db: Kysely<Tables>, own: RawBuilder<unknown>, now: Date): Promise<boolean> {
  const { rows } = await sql`
    with ${gone(own)}, marked as (
      update messages set delivered_at = ${now} from gone
      where messages.message_id = any(gone.message_ids) and delivered_at is null
    )
    update runs set last_event_sequence = greatest(coalesce(last_event_sequence, 0), gone.sequence)
    from gone where runs.run_id = gone.run_id returning runs.run_id`.execute(db)
  return rows.length > 0
}

async function giveBackWhere(db: Kysely<Tables>, own: RawBuilder<unknown>): Promise<boolean> {
  const { rows } = await sql`
    with ${gone(own)}
    update runs set undelivered = undelivered + (select count(*)::int from messages
      where message_id = any(gone.message_ids) and delivered_at is null)
    from gone where runs.run_id = gone.run_id returning runs.run_id`.execute(db)
  return rows.length > 0
}
