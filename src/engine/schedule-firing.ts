/**
 * Firing: what becomes of the planned times of schedules.
 *
 *     a time comes ─┬─▶ fired: it has a run
 *                   ├─▶ waiting ─▶ fired      a run of the schedule is going on (queue, cancel_previous)
 *                   ├─▶ skipped               the same (skip), or it is too late, or a later time took its place
 *                   └─▶ failed                its run could not be made
 *
 * Any number of servers look for what is due. Who finds a schedule holds its row, and writes in one transaction what
 * its time came to, its next time, and the run: a server that dies leaves all of it or nothing. A time has one row
 * however often it comes, also where a clock was put back.
 */
import { randomUUID } from 'node:crypto'
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  AgentConfig,
  type CreatedRun,
  type CreateRun,
  Fault,
  isAtLeast,
  Metadata,
  OverlapPolicy,
  RunMode,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Schedules } from '../db/tables.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { once } from './idempotency.ts'
import { personOf, type runsEngine } from './runs.ts'
import { giveUpWaiting, LEFT } from './schedule-stops.ts'
import { timesOf } from './schedule-times.ts'
import { announce, enqueueIn, type NewRun } from './transitions.ts'
import { actingFor, visibleTo } from './visible.ts'

/** Who comes to a time this much later has not missed it: the clock of cron counts minutes. */
const ON_TIME_MS = 60_000
/** Missed times that fire after all where all of them are asked for; the older ones are passed over. */
const CATCH_UP_MOST = 100
/** Schedules that one server deals with at a time, each over a connection of its own. */
const AT_ONCE = 4

type Schedule = Selectable<Schedules>
type Write = Kysely<Tables>
type Going = { run_id: string; state: string; cancel_requested_at: Date | null }
/** What one look found; `cancel`: runs that are to make room. */
type Look = { schedule_id: string; cancel: string[]; acting: UserCaller | null }
/** Deals with one schedule but those passed over; false: there is none. */
type Settle = (write: Write, look: Look, passed: string[]) => Promise<boolean>

export function scheduleFiring(room: Room, { runs }: { runs: ReturnType<typeof runsEngine> }) {
  const { clock, log } = room
  const db = room.database.kysely

  /** Deals with everything that is due, and with what need not wait any more; answers how much that was. */
  async function fire(): Promise<{ settled: number }> {
    if (!(await hasWork())) return { settled: 0 }
    const waited = await each(settleWaiting)
    const due = await each(settleDue)
    // What has just begun to wait may have a run to cancel.
    const begun = due > 0 ? await each(settleWaiting) : 0
    return { settled: waited + due + begun }
  }

  /** In one query, for it is asked each second. */
  async function hasWork(): Promise<boolean> {
    const { rows } = await sql<{ found: boolean }>`
      select exists (select from schedules where due_at <= ${clock.now()})
        or exists (select from firings where state = 'waiting') as found`.execute(db)
    return rows[0]?.found ?? false
  }

  /** Several at a time once there is one. What goes wrong with one (a bug, the database) waits for the next look. */
  async function each(settle: Settle): Promise<number> {
    const passed: string[] = []
    if (!(await one(settle, passed))) return 0
    const all = async () => {
      let settled = 0
      while (await one(settle, passed)) settled += 1
      return settled
    }
    const settled = await Promise.all(Array.from({ length: AT_ONCE }, all))
    return settled.reduce((sum, count) => sum + count, 1)
  }

  async function one(settle: Settle, passed: string[]): Promise<boolean> {
    const look: Look = { schedule_id: '', cancel: [], acting: null }
    try {
      if (!(await db.transaction().execute((write) => settle(write, look, passed)))) return false
      announce(room)
      for (const run_id of look.cancel) await cancelPrevious(look, run_id)
      if (look.cancel.length > 0) passed.push(look.schedule_id)
    } catch (error) {
      if (look.schedule_id === '') throw error
      log.error({ err: error, schedule_id: look.schedule_id }, 'schedule.settle_failed')
      passed.push(look.schedule_id)
    }
    return true
  }

  async function cancelPrevious({ acting, schedule_id }: Look, run_id: string): Promise<void> {
    if (acting === null) return
    try {
      await runs.cancel(acting, run_id, { cascade: true })
      log.info({ schedule_id, run_id }, 'schedule.previous_cancelled')
    } catch (error) {
      // It has ended by itself meanwhile.
      if (!(error instanceof Fault)) throw error
    }
  }

  /** One schedule whose time has come. */
  async function settleDue(write: Write, look: Look, passed: string[]): Promise<boolean> {
    const now = clock.now()
    const schedule = await write
      .selectFrom('schedules')
      .selectAll()
      .where('due_at', '<=', now)
      .where(sql<boolean>`schedule_id <> all(${passed}::uuid[])`)
      .orderBy('due_at')
      .limit(1)
      .forUpdate()
      .skipLocked()
      .executeTakeFirst()
    if (!schedule?.due_at) return false
    look.schedule_id = schedule.schedule_id
    const times = timesOf(schedule)
    const window_ms = Math.max(ON_TIME_MS, schedule.catch_up_window_minutes * 60_000)
    const earliest = now.getTime() - window_ms
    const due = schedule.due_at.getTime()
    const most = schedule.catch_up === 'all' ? CATCH_UP_MOST : 1
    const later = times.latest(new Date(Math.max(due + 1, earliest)), now, most)
    const [time] = [...(due >= earliest ? [schedule.due_at] : []), ...later].slice(-most)
    await write
      .updateTable('schedules')
      .set({ due_at: times.after(time ?? now) })
      .where('schedule_id', '=', schedule.schedule_id)
      .execute()
    if (time === undefined || time.getTime() > due) {
      const reason = passedOver(schedule, now, time)
      await keep(write, schedule, { due_at: schedule.due_at, state: 'skipped', reason })
    }
    if (time !== undefined) await settleTime(write, schedule, time)
    return true
  }

  /** A time that is to fire, unless a run of the schedule is going on. */
  async function settleTime(write: Write, schedule: Schedule, due_at: Date): Promise<void> {
    const { schedule_id } = schedule
    const acting = await actorOf(write, schedule)
    if (acting instanceof Fault) return fail(write, schedule, { due_at, reason: acting.message })
    const waiting = await write
      .selectFrom('firings')
      .select(['firing_id', 'due_at'])
      .where('schedule_id', '=', schedule_id)
      .where('state', '=', 'waiting')
      .executeTakeFirst()
    const [going] = await goingOn(write, schedule_id)
    if (!waiting && !going) return spawn(write, schedule, due_at)
    const busy = going ? `Run ${going.run_id} is still going on (${going.state})` : 'An earlier time waits'
    switch (OverlapPolicy.parse(schedule.overlap_policy)) {
      case 'skip':
        await keep(write, schedule, { due_at, state: 'skipped', reason: `${busy}.` })
        return
      case 'queue':
        if (waiting) await keep(write, schedule, { due_at, state: 'skipped', reason: `${busy}, and one time waits.` })
        else await keep(write, schedule, { due_at, state: 'waiting', reason: `${busy}.` })
        return
      case 'cancel_previous':
        if (waiting) await giveUp(write, schedule_id, 'A later time came before the run before it had ended.')
        await keep(write, schedule, { due_at, state: 'waiting', reason: `${busy}; it is being cancelled.` })
        return
    }
  }

  /** A time that waits and need not any more, or has a run to cancel. */
  async function settleWaiting(write: Write, look: Look, passed: string[]): Promise<boolean> {
    const schedule = await write
      .selectFrom('schedules as s')
      .innerJoin('firings as f', 'f.schedule_id', 's.schedule_id')
      .selectAll('s')
      .where('f.state', '=', 'waiting')
      .where(sql<boolean>`s.schedule_id <> all(${passed}::uuid[])`)
      .where(
        sql<boolean>`not exists (select from runs r where r.schedule_id = s.schedule_id and ${IS_GOING_ON}
          and (s.overlap_policy <> 'cancel_previous' or r.cancel_requested_at is not null))`,
      )
      .orderBy('f.created_at')
      .limit(1)
      .forUpdate('s')
      .skipLocked()
      .executeTakeFirst()
    if (!schedule) return false
    const { schedule_id } = schedule
    look.schedule_id = schedule_id
    // Read after the lock: another server may have been here.
    const waiting = await write
      .selectFrom('firings')
      .selectAll()
      .where('schedule_id', '=', schedule_id)
      .where('state', '=', 'waiting')
      .executeTakeFirst()
    const going = await goingOn(write, schedule_id)
    if (!waiting) return true
    if (going.length === 0) {
      await spawn(write, schedule, waiting.due_at, waiting.firing_id)
      return true
    }
    const acting = await actorOf(write, schedule)
    if (acting instanceof Fault) {
      await fail(write, schedule, { due_at: waiting.due_at, firing_id: waiting.firing_id, reason: acting.message })
      return true
    }
    look.acting = acting
    look.cancel = going.flatMap(({ run_id, cancel_requested_at }) => (cancel_requested_at === null ? [run_id] : []))
    return true
  }

  /** Makes the run of a time, or says why it cannot be made; of one that waited, `firing_id`. */
  async function spawn(write: Write, schedule: Schedule, due_at: Date, firing_id?: string): Promise<void> {
    const { schedule_id } = schedule
    const row = await newRun(write, schedule)
    if (row instanceof Fault) return fail(write, schedule, { firing_id, due_at, reason: row.message })
    const { run_id } = row
    // It has its row where a clock was put back, and a run of it was made before.
    if (!(await keep(write, schedule, { firing_id, due_at, state: 'fired', reason: null, run_id }))) return
    await note(write, schedule_id, { last_ran_at: row.now, last_run_id: run_id, last_spawn_error: null })
    await enqueueIn(write, row)
    log.info({ schedule_id, run_id, due_at }, 'schedule.fired')
  }

  type Failed = { firing_id?: string | undefined; due_at: Date; reason: string }
  async function fail(write: Write, schedule: Schedule, failed: Failed): Promise<void> {
    const { schedule_id } = schedule
    const { reason } = failed
    log.warn({ schedule_id, reason }, 'schedule.refused')
    await keep(write, schedule, { ...failed, state: 'failed' })
    // Nobody is left to make a run of its next time either.
    await note(write, schedule_id, { last_spawn_error: reason, ...(reason === LEFT ? { due_at: null } : {}) })
  }

  /** Its creator, where that is still somebody who may make and cancel runs; an agent, where its key made it. */
  async function actorOf(write: Write, schedule: Schedule): Promise<UserCaller | Fault> {
    const { creator_id, creator_identity_uid, identity_uid } = schedule
    const acting = await actingFor(write, { ...schedule, user_id: creator_id })
    if (acting === null) return new Fault('not_authorized', LEFT)
    if (!isAtLeast(acting.role, 'member')) return new Fault('not_authorized', LOOKS_ONLY)
    // Somebody may have given it to another agent since.
    const is_agents = creator_identity_uid !== null && creator_identity_uid === identity_uid
    return is_agents ? { ...acting, role: 'member', identity_uid } : acting
  }

  /** A fault where nothing can be made of what the schedule says now. */
  async function newRun(write: Write, schedule: Schedule): Promise<NewRun | Fault> {
    const acting = await actorOf(write, schedule)
    if (acting instanceof Fault) return acting
    return bodyRow(write, acting, schedule).catch((error: unknown) => {
      if (error instanceof Fault && !error.retryable) return error
      throw error
    })
  }

  function bodyRow(write: Write, caller: Caller, schedule: Schedule): Promise<NewRun> {
    const { schedule_id } = schedule
    return runs.newRun(write, caller, {
      body: bodyOf(schedule),
      source: 'SCHEDULED_AGENT',
      schedule_id,
      now: clock.now(),
    })
  }

  type Kept = {
    firing_id?: string | undefined
    due_at: Date
    state: 'fired' | 'waiting' | 'skipped' | 'failed'
    reason: string | null
    run_id?: string
  }

  /** False: this time has a row already. */
  async function keep(write: Write, schedule: Schedule, { firing_id, due_at, ...kept }: Kept): Promise<boolean> {
    const now = clock.now()
    const set = { ...kept, settled_at: kept.state === 'waiting' ? null : now }
    if (firing_id !== undefined) {
      await write.updateTable('firings').set(set).where('firing_id', '=', firing_id).execute()
      return true
    }
    const { schedule_id, team_id } = schedule
    const row = { firing_id: randomUUID(), team_id, schedule_id, cause: 'time', due_at, ...set, created_at: now }
    const made = await write
      .insertInto('firings')
      .values(row)
      // A literal: what is prepared with a parameter would not match the index.
      .onConflict((at) => at.columns(['schedule_id', 'due_at']).where(sql<boolean>`cause = 'time'`).doNothing())
      .returning('firing_id')
      .executeTakeFirst()
    return made !== undefined
  }

  type Note = { last_spawn_error: string | null; last_ran_at?: Date; last_run_id?: string; due_at?: null }
  async function note(write: Write, schedule_id: string, set: Note): Promise<void> {
    await write.updateTable('schedules').set(set).where('schedule_id', '=', schedule_id).execute()
  }

  /** What waits will have no run. */
  const giveUp = (write: Write, schedule_id: string, reason: string): Promise<void> =>
    giveUpWaiting(write, { ids: [schedule_id], reason, now: clock.now() })

  /** At once, whatever is going on: a person wants it. The run is that person's. */
  async function runNow(
    caller: Caller,
    schedule_id: string,
    idempotency_key: string | undefined,
  ): Promise<{ answer: CreatedRun; replayed: boolean }> {
    personOf(caller)
    const use = { caller, route: 'schedules.run_now', key: idempotency_key, body: { schedule_id }, now: clock.now() }
    const make = async (write: Write): Promise<CreatedRun> => {
      const schedule = await write
        .selectFrom('schedules')
        .selectAll()
        .where('schedule_id', '=', schedule_id)
        .where('deleted_at', 'is', null)
        .where(visibleTo(caller, 'schedules'))
        .forUpdate()
        .executeTakeFirst()
      if (!schedule) throw scheduleNotFound(schedule_id)
      const row = await bodyRow(write, caller, schedule).catch((error: unknown) => {
        throw error instanceof Fault ? asScheduleSays(error) : error
      })
      const { run_id, now } = row
      const { team_id } = schedule
      const firing = { firing_id: randomUUID(), team_id, schedule_id, cause: 'run_now', state: 'fired', run_id }
      await write
        .insertInto('firings')
        .values({ ...firing, due_at: now, created_at: now, settled_at: now })
        .execute()
      await note(write, schedule_id, { last_ran_at: now, last_run_id: run_id, last_spawn_error: null })
      return { run_id, task_id: run_id, state: 'QUEUED', ...(await enqueueIn(write, row)) }
    }
    const made = await once(db, use, (write) => (write === null ? db.transaction().execute(make) : make(write)))
    if (!made.replayed) announce(room)
    return made
  }

  return { fire, runNow, giveUp }
}

/** The fields of a schedule have other names than those of its runs. */
export function asScheduleSays({ code, message, details }: Fault): Fault {
  const errors = details.errors?.map(({ pointer, detail }) => ({
    pointer: pointer.replace(/^\/config\b/, '/agent_config').replace(/^\/agent_identity_uid\b/, '/agent_uid'),
    detail,
  }))
  return new Fault(code, message, { ...details, ...(errors === undefined ? {} : { errors }) })
}

export const scheduleNotFound = (schedule_id: string): Fault =>
  new Fault('resource_not_found', `There is no schedule ${schedule_id}.`)

const LOOKS_ONLY =
  'Who made this schedule may only look at what the team does now, so that it makes no runs. ' +
  'An admin of the team can take it over; it then goes on in their name.'

/** Of each schedule so many firings stay, however old. */
const KEPT_OF_EACH = 20
/** Firings that one sweep forgets. */
const FORGET_MAX = 5_000

/** What the times of schedules came to long ago. The runs stay, and name their schedules. */
export async function forgetFirings({ clock, database, limits }: Room): Promise<void> {
  const before = new Date(clock.now().getTime() - limits.firings_kept_ms)
  await sql`
    delete from firings where firing_id in (
      select f.firing_id from firings f
      where f.settled_at < ${before} and exists (
        select from firings later
        where later.schedule_id = f.schedule_id and (later.due_at, later.firing_id) > (f.due_at, f.firing_id)
        offset ${KEPT_OF_EACH - 1})
      order by f.settled_at limit ${FORGET_MAX} for update skip locked)`.execute(database.kysely)
}

/** In the words of the index of such runs. */
const IS_GOING_ON = sql<boolean>`r.state not in ('SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED')`

/** The oldest first. */
async function goingOn(write: Write, schedule_id: string): Promise<Going[]> {
  const { rows } = await sql<Going>`
    select r.run_id, r.state, r.cancel_requested_at from runs r
    where r.schedule_id = ${schedule_id} and ${IS_GOING_ON} order by r.created_at`.execute(write)
  return rows
}

function bodyOf({ name, prompt, config, identity_uid, metadata, mode, owner_user_id }: Schedule): CreateRun {
  return {
    title: name,
    ...(prompt === '' ? {} : { prompt }),
    config: AgentConfig.parse(config),
    ...(identity_uid === null ? {} : { agent_identity_uid: identity_uid }),
    metadata: Metadata.parse(metadata),
    mode: RunMode.parse(mode),
    team: owner_user_id === null,
  }
}

/** Why a time that was missed does not fire, and those after it; `time` does. */
function passedOver(schedule: Schedule, now: Date, time: Date | undefined): string {
  const { due_at, catch_up_window_minutes: minutes } = schedule
  const late = `No server saw to it in time; it was ${lateness(due_at, now)} late`
  const all = time === undefined ? `, and so were those after it until ${now.toISOString()}` : ''
  return time === undefined || now.getTime() - (due_at?.getTime() ?? 0) > minutes * 60_000
    ? `${late}${all}. The catch-up window is ${minutes} minutes.`
    : `${late}. Of several times that were missed the latest fires.`
}

function lateness(due_at: Date | null, now: Date): string {
  const minutes = Math.round((now.getTime() - (due_at?.getTime() ?? 0)) / 60_000)
  if (minutes < 120) return `${minutes} minutes`
  return minutes < 48 * 60 ? `${Math.round(minutes / 60)} hours` : `${Math.round(minutes / 1440)} days`
}
