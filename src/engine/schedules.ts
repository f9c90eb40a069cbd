/** Schedules: made, changed, paused, deleted, looked at. What comes of their times is in `schedule-firing.ts`. */
import { randomUUID } from 'node:crypto'
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  AgentConfig,
  CATCH_UP_WINDOW_MINUTES,
  type CreateSchedule,
  type EnvironmentConfig,
  Fault,
  Firing,
  type ListFirings,
  type NextTimes,
  type ReplaceSchedule,
  Schedule,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Schedules } from '../db/tables.ts'
import type { Caller, Owned } from './caller.ts'
import { configureRun, ownSettings, settle } from './configuration.ts'
import { readCursor, renderCursor } from './cursor.ts'
import type { Room } from './engine.ts'
import { environmentConfigOf } from './environments.ts'
import { creatorOf, editorOf, inNameOf } from './makers.ts'
import { checkMode, type runsEngine } from './runs.ts'
import { asScheduleSays, scheduleFiring, scheduleNotFound } from './schedule-firing.ts'
import { timesOf } from './schedule-times.ts'
import { ownedBy, scopeOf, visibleTo } from './visible.ts'

type Reach = { runs: ReturnType<typeof runsEngine> }
type Row = Selectable<Schedules>

export function schedulesEngine(room: Room, { runs }: Reach) {
  const { clock } = room
  const db = room.database.kysely
  const firing = scheduleFiring(room, { runs })

  async function create(caller: Caller, body: CreateSchedule): Promise<Schedule> {
    const maker = editorOf(caller)
    const owned = ownedBy(caller, body.team)
    const now = clock.now()
    const columns = await columnsOf(caller, owned, body)
    const { time_zone, overlap_policy, catch_up, catch_up_window_minutes } = body
    const own = {
      time_zone: time_zone ?? 'UTC',
      overlap_policy: overlap_policy ?? 'skip',
      catch_up: catch_up ?? 'latest',
      catch_up_window_minutes: catch_up_window_minutes ?? CATCH_UP_WINDOW_MINUTES,
    }
    const first = firstTime({ ...columns, ...own }, now)
    const schedule_id = randomUUID()
    await db
      .insertInto('schedules')
      .values({
        schedule_id,
        ...owned,
        ...columns,
        ...own,
        enabled: body.enabled,
        due_at: body.enabled ? first : null,
        creator_id: maker.editor_id,
        creator_identity_uid: maker.editor_identity_uid,
        ...maker,
        created_at: now,
        updated_at: now,
      })
      .execute()
    return get(caller, schedule_id)
  }

  async function replace(caller: Caller, schedule_id: string, body: ReplaceSchedule): Promise<Schedule> {
    const editor = editorOf(caller)
    const columns = await columnsOf(caller, await read(db, caller, schedule_id), body)
    await db.transaction().execute(async (write) => {
      const row = await lock(write, caller, schedule_id)
      const now = clock.now()
      const own = {
        time_zone: body.time_zone ?? row.time_zone,
        overlap_policy: body.overlap_policy ?? row.overlap_policy,
        catch_up: body.catch_up ?? row.catch_up,
        catch_up_window_minutes: body.catch_up_window_minutes ?? row.catch_up_window_minutes,
      }
      const next = { ...columns, ...own, enabled: body.enabled }
      const is_same_plan = row.cron_schedule === next.cron_schedule && row.time_zone === next.time_zone
      const first = firstTime(next, now)
      // A time that has come, and that no server has seen yet, is not lost by a change of something else.
      const due_at = !next.enabled ? null : is_same_plan && row.due_at !== null ? row.due_at : first
      await change(write, schedule_id, { ...next, due_at, ...editor, updated_at: now })
      if (!next.enabled) await firing.giveUp(write, schedule_id, 'The schedule was paused.')
    })
    return get(caller, schedule_id)
  }

  async function pause(caller: Caller, schedule_id: string): Promise<Schedule> {
    const editor = editorOf(caller)
    await db.transaction().execute(async (write) => {
      const row = await lock(write, caller, schedule_id)
      if (!row.enabled) return
      await change(write, schedule_id, { enabled: false, due_at: null, ...editor, updated_at: clock.now() })
      await firing.giveUp(write, schedule_id, 'The schedule was paused.')
    })
    return get(caller, schedule_id)
  }

  async function resume(caller: Caller, schedule_id: string): Promise<Schedule> {
    const editor = editorOf(caller)
    await db.transaction().execute(async (write) => {
      const row = await lock(write, caller, schedule_id)
      // One that stands still without a pause tries again.
      if (row.enabled && row.due_at !== null) return
      const now = clock.now()
      await change(write, schedule_id, { enabled: true, due_at: firstTime(row, now), ...editor, updated_at: now })
    })
    return get(caller, schedule_id)
  }

  async function takeOver(caller: Caller, schedule_id: string): Promise<Schedule> {
    const editor = editorOf(caller)
    await db.transaction().execute(async (write) => {
      const row = await lock(write, caller, schedule_id)
      const now = clock.now()
      const due_at = row.enabled ? (row.due_at ?? firstTime(row, now)) : null
      const maker = { creator_id: editor.editor_id, creator_identity_uid: editor.editor_identity_uid }
      await change(write, schedule_id, { ...maker, ...editor, due_at, last_spawn_error: null, updated_at: now })
    })
    return get(caller, schedule_id)
  }

  /** The row stays, for the runs that name it. */
  async function remove(caller: Caller, schedule_id: string): Promise<{ success: boolean }> {
    const editor = editorOf(caller)
    await db.transaction().execute(async (write) => {
      await lock(write, caller, schedule_id)
      const now = clock.now()
      await change(write, schedule_id, { deleted_at: now, due_at: null, ...editor, updated_at: now })
      await firing.giveUp(write, schedule_id, 'The schedule was deleted.')
    })
    return { success: true }
  }

  async function get(caller: Caller, schedule_id: string): Promise<Schedule> {
    const [schedule] = await rendered(await select(caller).where('s.schedule_id', '=', schedule_id).execute())
    if (!schedule) throw scheduleNotFound(schedule_id)
    return schedule
  }

  async function list(caller: Caller): Promise<{ schedules: Schedule[] }> {
    return {
      schedules: await rendered(await select(caller).orderBy(sql`lower(s.name)`).orderBy('s.schedule_id').execute()),
    }
  }

  async function next(caller: Caller, schedule_id: string, count: number): Promise<NextTimes> {
    const row = await read(db, caller, schedule_id)
    const times = timesOf(row).next(clock.now(), count)
    return { time_zone: row.time_zone, times: times.map((time) => time.toISOString()) }
  }

  async function history(caller: Caller, schedule_id: string, { limit, cursor }: ListFirings) {
    await read(db, caller, schedule_id)
    let rows = db
      .selectFrom('firings as f')
      .leftJoin('runs', 'runs.run_id', 'f.run_id')
      .selectAll('f')
      .select('runs.state as run_state')
      .where('f.schedule_id', '=', schedule_id)
    if (cursor !== undefined) {
      const { at, id } = readCursor(cursor, FIRINGS_SORT)
      rows = rows.where(sql<boolean>`(f.due_at, f.firing_id) < (${new Date(at)}, ${id}::uuid)`)
    }
    const found = await rows
      .orderBy('f.due_at', 'desc')
      .orderBy('f.firing_id', 'desc')
      .limit(limit + 1)
      .execute()
    const page = found.slice(0, limit)
    const last = page.at(-1)
    const has_next_page = found.length > limit
    const next_cursor =
      has_next_page && last
        ? renderCursor({ sort: FIRINGS_SORT, at: last.due_at.toISOString(), id: last.firing_id })
        : undefined
    return {
      firings: page.map((row) =>
        Firing.parse({
          ...row,
          due_at: row.due_at.toISOString(),
          settled_at: row.settled_at?.toISOString() ?? null,
        }),
      ),
      page_info: { has_next_page, ...(next_cursor === undefined ? {} : { next_cursor }) },
    }
  }

  /** What was asked for, checked as a run of it would be, and as it is stored: whole. */
  async function columnsOf(caller: Caller, owned: Owned, body: CreateSchedule | ReplaceSchedule) {
    const { prompt = '', agent_config, agent_uid, mode, metadata = {} } = body
    const asked = inNameOf(caller, {
      prompt,
      ...(agent_config === undefined ? {} : { config: agent_config }),
      ...(agent_uid ? { agent_identity_uid: agent_uid } : {}),
    })
    try {
      const { config, identity_uid } = await configureRun(db, owned, asked)
      return {
        name: body.name,
        cron_schedule: body.cron_schedule,
        prompt,
        // What an agent identity adds is asked for anew by each run.
        config: JSON.stringify(await ownSettings(db, owned, asked)),
        identity_uid,
        mode: checkMode(mode, config),
        metadata: JSON.stringify(metadata),
      }
    } catch (error) {
      throw error instanceof Fault ? asScheduleSays(error) : error
    }
  }

  const living = (read: Kysely<Tables>, caller: Caller, schedule_id: string) =>
    read
      .selectFrom('schedules as s')
      .selectAll('s')
      .where('s.schedule_id', '=', schedule_id)
      .where('s.deleted_at', 'is', null)
      .where(visibleTo(caller, 's'))

  async function read(from: Kysely<Tables>, caller: Caller, schedule_id: string): Promise<Row> {
    const row = await living(from, caller, schedule_id).executeTakeFirst()
    if (!row) throw scheduleNotFound(schedule_id)
    return row
  }

  /** Whoever changes a schedule or deals with a time of it holds its row. */
  async function lock(write: Kysely<Tables>, caller: Caller, schedule_id: string): Promise<Row> {
    const row = await living(write, caller, schedule_id).forUpdate().executeTakeFirst()
    if (!row) throw scheduleNotFound(schedule_id)
    return row
  }

  const change = (write: Kysely<Tables>, schedule_id: string, set: Partial<Row> & object) =>
    write
      .updateTable('schedules')
      .set(set as never)
      .where('schedule_id', '=', schedule_id)
      .execute()

  const select = (caller: Caller) =>
    db
      .selectFrom('schedules as s')
      .innerJoin('users as creator', 'creator.user_id', 's.creator_id')
      .innerJoin('users as editor', 'editor.user_id', 's.editor_id')
      .leftJoin('identities as maker', 'maker.identity_uid', 's.creator_identity_uid')
      .leftJoin('identities as changer', 'changer.identity_uid', 's.editor_identity_uid')
      .selectAll('s')
      .select(['creator.display_name as creator_name', 'creator.email as creator_email'])
      .select(['editor.display_name as editor_name', 'editor.email as editor_email'])
      .select(['maker.name as creator_agent', 'changer.name as editor_agent'])
      .where('s.deleted_at', 'is', null)
      .where(visibleTo(caller, 's'))

  /** With the environments that they name and that are there still. */
  async function rendered(rows: Selected[]): Promise<Schedule[]> {
    const configs = rows.map((row) => AgentConfig.parse(row.config))
    const uids = configs.flatMap(({ environment_id }) => environment_id ?? [])
    const environments =
      uids.length === 0
        ? []
        : await db
            .selectFrom('environments')
            .selectAll()
            .where('environment_uid', 'in', uids)
            .where('deleted_at', 'is', null)
            .execute()
    const known = new Map(environments.map((row) => [row.environment_uid, environmentConfigOf(row)]))
    return rows.map((row, at) => {
      const config = configs[at] ?? {}
      return render(row, config, known.get(config.environment_id ?? ''))
    })
  }

  return {
    create,
    replace,
    pause,
    resume,
    takeOver,
    delete: remove,
    get,
    list,
    next,
    history,
    fire: firing.fire,
    runNow: firing.runNow,
  }
}

const FIRINGS_SORT = 'due_at desc'

function firstTime(plan: { cron_schedule: string; time_zone: string }, now: Date): Date {
  const first = timesOf(plan).after(now)
  if (first !== null) return first
  throw new Fault(
    'invalid_request',
    `${JSON.stringify(plan.cron_schedule)} never comes: no such month has such a day. Choose another day or month.`,
    { errors: [{ pointer: '/cron_schedule', detail: 'never comes' }] },
  )
}

type Selected = Row & {
  creator_name: string
  creator_email: string | null
  editor_name: string
  editor_email: string | null
  creator_agent: string | null
  editor_agent: string | null
}

function render(row: Selected, config: AgentConfig, environment: EnvironmentConfig | undefined): Schedule {
  return Schedule.parse({
    ...row,
    id: row.schedule_id,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    agent_config: settle(config),
    agent_uid: row.identity_uid ?? undefined,
    environment,
    created_by: creatorOf({
      creator_id: row.creator_id,
      display_name: row.creator_name,
      email: row.creator_email,
      creator_identity_uid: row.creator_identity_uid,
      creator_identity_name: row.creator_agent,
    }),
    updated_by: creatorOf({
      creator_id: row.editor_id,
      display_name: row.editor_name,
      email: row.editor_email,
      creator_identity_uid: row.editor_identity_uid,
      creator_identity_name: row.editor_agent,
    }),
    history: {
      last_ran: row.last_ran_at?.toISOString() ?? null,
      next_run: row.due_at?.toISOString() ?? null,
      last_run_id: row.last_run_id,
    },
    scope: scopeOf(row),
  })
}
