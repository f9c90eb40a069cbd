/** Runs: create, list, get, cancel, ask again. */
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  type AgentConfig,
  type CreatedRun,
  type CreateRun,
  Fault,
  harnessOf,
  isAtLeast,
  isEnded,
  type Run,
  type RunMode,
  type RunSource,
  RunState,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs } from '../db/tables.ts'
import type { attachmentsEngine } from './attachments.ts'
import { retryTasks } from './batch-retry.ts'
import { bear } from './births.ts'
import type { Caller } from './caller.ts'
import { configureRun } from './configuration.ts'
import { continuedBy } from './conversation-parts.ts'
import type { Room } from './engine.ts'
import type { handoffEngine } from './handoff.ts'
import { once } from './idempotency.ts'
import { logged } from './log.ts'
import { inNameOf, makerOf } from './makers.ts'
import { metadataOf } from './metadata.ts'
import { hasGivens, keepGivens, referredFiles } from './run-givens.ts'
import { runListEngine } from './run-list.ts'
import { readRun, readRuns } from './run-view.ts'
import { stopping } from './storms.ts'
import { afresh, announce, enqueueIn, followAll, type NewRun, type Step, tellParent } from './transitions.ts'
import { newTimedId } from './uid.ts'
import { visibleRuns } from './visible.ts'

const TITLE_CHARACTERS = 80
/** A run moves between two looks at it seldom enough. */
const CANCEL_TRIES = 5

type Reach = { attachments: ReturnType<typeof attachmentsEngine>; handoff: ReturnType<typeof handoffEngine> }

/** A run that is nobody's task, bounds nobody and came of no trigger. */
export const PLAIN = {
  mode: 'normal',
  lane_run_id: null,
  held: false,
  parallelism: null,
  retry_on: 'retryable',
  schedule_id: null,
  trigger_url: null,
} as const

export type CreateOptions = { source: RunSource; idempotency_key?: string | undefined }

/** What comes with a run besides its row. */
type Bringing = (write: Kysely<Tables>, run: { team_id: string; run_id: string }) => Promise<void>

export function runsEngine(room: Room, { attachments, handoff }: Reach) {
  const { clock, bell } = room
  const db = room.database.kysely
  const lists = runListEngine(room)

  async function create(
    caller: Caller,
    body: CreateRun,
    options: CreateOptions,
  ): Promise<{ answer: CreatedRun; replayed: boolean }> {
    // What an agent starts is its child, also where it does not say so.
    const parent_run_id = body.parent_run_id ?? (caller.kind === 'execution' ? caller.run_id : undefined)
    if (parent_run_id !== undefined) return createChild(caller, body, parent_run_id, options)
    personOf(caller)
    if (body.placement === 'parent')
      throw new Fault('invalid_request', 'Only a child can run beside its parent: name it in `parent_run_id`.', {
        errors: [{ pointer: '/placement', detail: 'has no parent' }],
      })
    const now = clock.now()
    const use = {
      caller,
      route: 'runs.create',
      key: options.idempotency_key,
      body: { body, source: options.source },
      now,
    }
    const bring = await bringing(body)
    const createIn = async (write: Kysely<Tables> | null): Promise<CreatedRun> => {
      const row = await newRun(write ?? db, caller, { body, source: options.source, now })
      const { run_id } = row
      const answer = write === null ? await room.enqueue(row) : await enqueueIn(write, row)
      if (write !== null) await bring?.(write, row)
      return { run_id, task_id: run_id, state: 'QUEUED', ...answer }
    }
    const result = await once(db, use, (write) =>
      write === null && bring !== null ? db.transaction().execute(createIn) : createIn(write),
    )
    if (!result.replayed) announce(room)
    return result
  }

  /** Null: nothing. Its bytes are in the store when this resolves. */
  async function bringing(body: CreateRun): Promise<Bringing | null> {
    const { attachments: given = [], initial_snapshot_token, snapshot_disabled } = body
    const files = [...given, ...referredFiles(body)]
    if (files.length === 0 && !hasGivens(body) && initial_snapshot_token == null && snapshot_disabled !== true)
      return null
    const kept = await attachments.keep(files)
    return async (write, { team_id, run_id }) => {
      await attachments.attach(write, { team_id, run_id }, kept)
      await keepGivens(write, run_id, body)
      if (initial_snapshot_token != null) await handoff.begin(write, { team_id, run_id }, initial_snapshot_token)
      if (snapshot_disabled === true)
        await write.updateTable('runs').set({ snapshot_disabled }).where('run_id', '=', run_id).execute()
    }
  }

  async function newRun(
    read: Kysely<Tables>,
    caller: Caller,
    { body, source, schedule_id, now }: { body: CreateRun; source: RunSource; schedule_id?: string; now: Date },
  ): Promise<NewRun> {
    const maker = await makerOf(read, caller, body)
    const { config, identity_uid } = await configureRun(read, maker, inNameOf(caller, body))
    const run_id = newTimedId(now)
    return {
      run_id,
      ...maker,
      state: 'QUEUED',
      title: titleOf(body.prompt, config),
      ...(await continuedBy(read, caller, body)),
      prompt: body.prompt ?? '',
      config,
      identity_uid,
      metadata: metadataOf(body),
      source,
      execution_location: 'REMOTE',
      worker_host: hostOf(config.worker_host),
      max_tries: config.max_tries ?? room.limits.max_tries,
      parent_run_id: null,
      root_run_id: run_id,
      depth: 0,
      placement: 'worker',
      spawn_key: null,
      ...PLAIN,
      schedule_id: schedule_id ?? null,
      trigger_url: body.trigger_url ?? null,
      mode: checkMode(body.mode, config),
      execution_id: null,
      now,
    }
  }

  /** An execution makes children of its own run alone. */
  async function createChild(caller: Caller, body: CreateRun, parent_run_id: string, options: CreateOptions) {
    if (caller.kind === 'execution' ? caller.run_id !== parent_run_id.toLowerCase() : caller.kind !== 'user') {
      throw new Fault('not_authorized', 'A run may be the parent of its own children alone.')
    }
    const now = clock.now()
    const use = {
      caller,
      route: 'runs.create',
      key: options.idempotency_key,
      body: { body, source: options.source },
      now,
    }
    const bring = await bringing(body)
    const bearIn = async (write: Kysely<Tables>): Promise<CreatedRun> => {
      const born = await bear(room, write, caller, { parent_run_id, body, source: 'ORCHESTRATION', spawn_key: null })
      await bring?.(write, { team_id: caller.team_id, run_id: born.run_id })
      return {
        run_id: born.run_id,
        task_id: born.run_id,
        state: 'QUEUED',
        ...(born.at_capacity ? { at_capacity: true } : {}),
      }
    }
    const result = await stopping(room, () =>
      once(db, use, (write) => (write === null ? db.transaction().execute(bearIn) : bearIn(write))),
    )
    if (!result.replayed) announce(room)
    const parent = body.placement === 'parent' ? await readRow(caller, parent_run_id) : null
    if (parent?.execution_id) bell.ring('control', { execution_id: parent.execution_id })
    return result
  }

  /** Who may cancel: people of the team, and an execution the runs below its own. */
  async function checkCancel(caller: Caller, run_id: string): Promise<string> {
    await readRow(caller, run_id)
    if (caller.kind !== 'execution') return personOf(caller)
    if (!(await isBelow(run_id, caller.run_id))) throw runNotFound(run_id)
    return caller.run_id
  }

  async function isBatch(run_id: string): Promise<boolean> {
    const batch = await db.selectFrom('batches').select('run_id').where('run_id', '=', run_id).executeTakeFirst()
    return batch !== undefined
  }

  async function batchOf(run_id: string): Promise<string | null> {
    const task = await db
      .selectFrom('batch_tasks')
      .select('batch_run_id')
      .where('run_id', '=', run_id)
      .executeTakeFirst()
    return task?.batch_run_id ?? null
  }

  async function isBelow(run_id: string, ancestor: string): Promise<boolean> {
    const { rows } = await sql<{ found: boolean }>`
      with recursive above as (
        select parent_run_id from runs where run_id = ${run_id}
        union all select r.parent_run_id from runs r join above on r.run_id = above.parent_run_id
      ) select exists (select from above where parent_run_id = ${ancestor}) as found`.execute(db)
    return rows[0]?.found ?? false
  }

  async function cancel(
    caller: Caller,
    run_id: string,
    options: { cascade?: boolean | undefined } = {},
  ): Promise<string> {
    const by = await checkCancel(caller, run_id)
    if (options.cascade) return cancelTree(run_id, by)
    if (await isBatch(run_id)) return cancelTree(run_id, by)
    for (let tries = 0; tries < CANCEL_TRIES; tries++) if (await cancelOne(caller, run_id, by)) return run_id
    throw new Fault('conflict', `Run ${run_id} is changing too fast to be cancelled. Ask again.`, { retryable: true })
  }

  /** False: it went back to the queue between two of the statements, none of which met it; the intent is in no row yet. */
  async function cancelOne(caller: Caller, run_id: string, by: string): Promise<boolean> {
    const now = clock.now()
    const intent = { cancel_requested_at: now, cancel_requested_by: by }
    const ended =
      (await room.follow('cancel', cancelUnbegun(run_id, now, intent))) ??
      (await room.follow('cancel', cancelIdle(run_id, now, intent)))
    const touched = ended ?? (await askToCancel(run_id, intent, now))
    const run = touched ?? (await readRow(caller, run_id))
    if (!touched && isEnded(RunState.parse(run.state))) {
      throw new Fault('invalid_request', `Run ${run_id} has already ended (${run.state}); there is nothing to cancel.`)
    }
    if (!touched && run.cancel_requested_at === null) return false
    announce(room)
    if (ended) await tellParent(room, ended)
    if (run.execution_id) bell.ring('control', { execution_id: run.execution_id })
    return true
  }

  /**
   * The whole subtree at once, under the lock of its root, which every birth in the tree takes too: nothing is born
   * meanwhile, and what is cancelled has no further children.
   */
  async function cancelTree(run_id: string, by: string): Promise<string> {
    const now = clock.now()
    const touched = await logged(room, async (write, events) => {
      const { root_run_id } = await write
        .selectFrom('runs')
        .select('root_run_id')
        .where('run_id', '=', run_id)
        .executeTakeFirstOrThrow()
      await write.selectFrom('runs').select('run_id').where('run_id', '=', root_run_id).forNoKeyUpdate().execute()
      const { rows } = await sql<{ run_id: string }>`
        with recursive below as (
          select run_id from runs where run_id = ${run_id}
          union all select r.run_id from runs r join below on r.parent_run_id = below.run_id
        ) select run_id from below order by run_id`.execute(write)
      const run_ids = rows.map((row) => row.run_id)
      const { rows: alive } = await sql<Selectable<Runs>>`
        select * from runs where run_id = any(${run_ids}::uuid[]) order by run_id for no key update`.execute(write)
      const asked = alive.filter((run) => run.cancel_requested_at === null && !isEnded(RunState.parse(run.state)))
      const intent = { cancel_requested_at: now, cancel_requested_by: by }
      const steps = asked.map(({ run_id, state }) => {
        const atWork = state === 'INPROGRESS' || state === 'BLOCKED'
        return { ...(atWork ? cancelIdle : cancelUnbegun)(run_id, now, intent), name: 'cancel' as const }
      })
      const ended = await followAll(write, steps)
      const atWork = asked.filter((_, at) => ended[at] === undefined)
      await sql`update runs set cancel_requested_at = ${now}, cancel_requested_by = ${by}, updated_at = ${now}
        where run_id = any(${atWork.map((run) => run.run_id)}::uuid[])`.execute(write)
      for (const { run_id, team_id, execution_id } of atWork)
        events.push({ team_id, event_type: 'run_cancel_requested', run_id, execution_id })
      return { asked, top: ended.find((run) => run?.run_id === run_id) }
    })
    announce(room)
    if (touched.top) await tellParent(room, touched.top)
    for (const { execution_id } of touched.asked) if (execution_id) bell.ring('control', { execution_id })
    return run_id
  }

  /** A runner is at work: the intent is a row, and the runner, the worker and the sweep all act on it. */
  function askToCancel(run_id: string, intent: { cancel_requested_at: Date; cancel_requested_by: string }, now: Date) {
    return logged(room, async (write, events) => {
      const asked = await write
        .updateTable('runs')
        .set({ ...intent, updated_at: now })
        .where('run_id', '=', run_id)
        .where('state', 'in', ['INPROGRESS', 'BLOCKED'])
        .where('cancel_requested_at', 'is', null)
        .returningAll()
        .executeTakeFirst()
      const { team_id, execution_id } = asked ?? {}
      if (team_id)
        events.push({ team_id, event_type: 'run_cancel_requested', run_id, execution_id: execution_id ?? null })
      return asked
    })
  }

  async function retry(caller: Caller, run_id: string): Promise<CreatedRun> {
    personOf(caller)
    const current = await readRow(caller, run_id)
    if (current.execution_location === 'LOCAL') {
      throw new Fault(
        'operation_not_supported',
        'This run was started by hand where it ran; start it there again with `baton agent run`.',
      )
    }
    if (current.halted) {
      throw new Fault('conflict', `The tree of run ${run_id} was stopped; release it before the run is tried again.`, {
        retryable: false,
      })
    }
    const batch = (await isBatch(run_id)) ? run_id : await batchOf(run_id)
    if (batch !== null) {
      await retryTasks(room, batch, batch === run_id ? {} : { run_id })
      const { state } = await readRow(caller, run_id)
      return { run_id, task_id: run_id, state: RunState.parse(state) }
    }
    const now = clock.now()
    const run = await room.follow('again', {
      run_id,
      now,
      set: afresh(now),
    })
    if (!run)
      throw new Fault(
        'conflict',
        `Run ${run_id} has not ended (${current.state}); only an ended run can be tried again.`,
        { retryable: false },
      )
    announce(room)
    return { run_id, task_id: run_id, state: 'QUEUED' }
  }

  async function readRow(caller: Caller, run_id: string) {
    const run = await db
      .selectFrom('runs')
      .selectAll()
      .where('run_id', '=', run_id)
      .where(visibleRuns(caller))
      .executeTakeFirst()
    if (!run) throw runNotFound(run_id)
    return run
  }

  return {
    create,
    /** The row of a run without a parent, for whoever enqueues it in a transaction of his own. */
    newRun,
    cancel,
    retry,
    list: lists.list,
    get: (caller: Caller, run_id: string): Promise<Run> => readRun(room, caller, run_id),
    /** Several at once, for whoever shows a list; unknown ones are left out. */
    getMany: (caller: Caller, run_ids: string[]): Promise<Run[]> => readRuns(room, caller, run_ids),
  }
}

type Intent = { cancel_requested_at: Date; cancel_requested_by: string }

/** Nothing has begun yet: it ends here. The worker, if one was offered the run, is told, and its token is worthless. */
export const cancelUnbegun = (run_id: string, now: Date, intent?: Intent): Step => ({
  run_id,
  from: ['QUEUED', 'PENDING', 'CLAIMED'],
  now,
  set: { ...intent, ended_at: now, not_before: null },
  execution: {
    from: ['offered', 'claimed'],
    set: { state: 'ended', outcome: 'CANCELLED', ended_at: now, expires_at: null },
  },
})

/** There is no runner to ask: a batch, or a run that waits for a person and whose execution has gone. */
const cancelIdle = (run_id: string, now: Date, intent?: Intent): Step => ({
  run_id,
  from: ['INPROGRESS', 'BLOCKED'],
  idle: true,
  now,
  set: { ...intent, ended_at: now, not_before: null },
})

export const runNotFound = (run_id: string): Fault => new Fault('resource_not_found', `There is no run ${run_id}.`)

/** The person in whose name a run is made or changed. */
export function personOf(caller: Caller): string {
  if (caller.kind !== 'user') throw new Fault('not_authorized', 'This key may not create or change runs.')
  if (!isAtLeast(caller.role, 'member'))
    throw new Fault('not_authorized', 'With this key you may look at all of the team and change nothing of it.')
  return caller.user_id
}

/** A plain command proposes nothing. */
export function checkMode(mode: RunMode | undefined, config: AgentConfig): RunMode {
  if (mode !== undefined && mode !== 'normal' && harnessOf(config) === 'command') {
    throw new Fault('invalid_request', 'A plain command proposes no plan; choose another harness, or mode normal.', {
      errors: [{ pointer: '/mode', detail: 'needs an agent' }],
    })
  }
  return mode ?? 'normal'
}

/** The prompt's first line, or what the run is called by its skill. */
export function titleOf(prompt: string | undefined, { name }: AgentConfig): string {
  const line = (prompt?.trim() || name || '').split('\n', 1)[0]?.trim() ?? ''
  return line.length <= TITLE_CHARACTERS ? line : `${line.slice(0, TITLE_CHARACTERS - 1)}…`
}

/** `warp` is how Oz clients say "no worker in particular". */
export const hostOf = (worker_host: string | undefined): string | null =>
  !worker_host || worker_host === 'warp' ? null : worker_host
