/** Executions: what the runner that owns one says of it, and the list for people. */
import { type Kysely, sql } from 'kysely'
import {
  type Assignment,
  type CreateRun,
  type Execution,
  Execution as ExecutionShape,
  Fault,
  harnessOf,
  type NewEntry,
  type Outcome,
  type ReportShutdown,
  type Usage,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { appender } from './append.ts'
import { arrayOf } from './array-of.ts'
import { renderAssignment } from './assignment.ts'
import { hasChildrenBeside, hasMail, hasNewFiles, hasUrgentMail } from './attention.ts'
import { batched } from './batch.ts'
import type { Caller, ExecutionCaller } from './caller.ts'
import { configureRun } from './configuration.ts'
import { continuedBy } from './conversation-parts.ts'
import { offerBeside } from './dispatch.ts'
import type { Room } from './engine.ts'
import { freezeEnvironments } from './environments.ts'
import { givings } from './givings.ts'
import { heartbeats } from './heartbeats.ts'
import { logged } from './log.ts'
import { inNameOf, makerOf } from './makers.ts'
import { metadataOf } from './metadata.ts'
import { checkMode, PLAIN, titleOf } from './runs.ts'
import { settle } from './settle.ts'
import { shutDown } from './shutdown.ts'
import { hashOf, newExecutionToken } from './tokens.ts'
import { announce, enqueueIn, superseded } from './transitions.ts'
import { newTimedId } from './uid.ts'
import { checkVisible } from './visible.ts'

type Finish = {
  outcome: Outcome
  entries: number
  usage?: Usage | undefined
  session_id?: string | undefined
  leave_inbox?: boolean | undefined
}

type Attention = {
  cancel_requested: boolean
  /** Its tree is stopped. */
  halted: boolean
  /** Its harness has said that it stops. */
  shut_down: boolean
  inbox: boolean
  urgent: boolean
  children: boolean
  attachments: boolean
}

/** Of a summary, as it is kept. */
const SUMMARY_CHARACTERS_MAX = 16_384

/** Executions looked after by one statement. */
const CHECKS_MAX = 200

export function executionsEngine(room: Room) {
  const { clock, bell, limits } = room
  const db = room.database.kysely
  const beat = heartbeats(room)
  const mail = givings(room)
  const append = appender(room)
  const readAttention = batched({
    most: CHECKS_MAX,
    keyOf: (execution_id: string) => execution_id,
    run: async (execution_ids) => {
      const rows = await db
        .selectFrom('executions')
        .innerJoin('runs', (on) =>
          on.onRef('runs.run_id', '=', 'executions.run_id').onRef('runs.execution_id', '=', 'executions.execution_id'),
        )
        .select(['executions.execution_id', 'runs.cancel_requested_at', 'executions.state', 'runs.halted'])
        .select(sql<boolean>`executions.shut_down_at is not null`.as('shut_down'))
        .select([hasMail(clock.now()).as('inbox'), hasUrgentMail.as('urgent'), hasChildrenBeside.as('children')])
        .select(hasNewFiles.as('attachments'))
        .where(sql<boolean>`executions.execution_id = any(${arrayOf('uuid', execution_ids, (id) => id)}::uuid[])`)
        .execute()
      const found = new Map(rows.map((row) => [row.execution_id, row]))
      return execution_ids.map((execution_id) => found.get(execution_id))
    },
  })

  async function createLocal(caller: Caller, body: CreateRun) {
    const maker = await makerOf(db, caller, body)
    const { config, identity_uid } = await configureRun(db, maker, { ...inNameOf(caller, body), local: true })
    const now = clock.now()
    const run_id = newTimedId(now)
    const execution_id = newTimedId(now)
    const token = newExecutionToken()
    await db.transaction().execute(async (write) => {
      const [environment] = (await freezeEnvironments(write, [config])).values()
      await enqueueIn(write, {
        run_id,
        ...maker,
        state: 'CLAIMED',
        title: titleOf(body.prompt, config),
        ...(await continuedBy(write, caller, body)),
        prompt: body.prompt ?? '',
        config,
        identity_uid,
        metadata: metadataOf(body),
        source: 'LOCAL',
        execution_location: 'LOCAL',
        worker_host: null,
        max_tries: 1,
        parent_run_id: null,
        root_run_id: run_id,
        depth: 0,
        placement: 'worker',
        spawn_key: null,
        ...PLAIN,
        trigger_url: body.trigger_url ?? null,
        mode: checkMode(body.mode, config),
        execution_id,
        now,
      })
      await write
        .insertInto('executions')
        .values({
          execution_id,
          run_id,
          team_id: caller.team_id,
          number: 1,
          state: 'claimed',
          cause: 'local',
          token_hash: hashOf(token),
          offered_at: now,
          claimed_at: now,
          expires_at: new Date(now.getTime() + limits.begin_ms),
          harness: harnessOf(config),
          environment: environment === undefined ? null : JSON.stringify(environment),
        })
        .execute()
    })
    announce(room)
    return { run_id, execution_id, token }
  }

  async function start(caller: Caller, execution_id: string): Promise<Assignment> {
    own(caller, execution_id)
    const now = clock.now()
    const lease = new Date(now.getTime() + limits.lease_ms)
    const begun = await room.follow('begin', {
      run_id: caller.run_id,
      execution_id,
      now,
      set: { started_at: now, tries_more: 1, not_before: null },
      execution: {
        from: ['offered', 'claimed'],
        set: { state: 'running', started_at: now, expires_at: lease, claimed_at: now },
      },
    })
    if (begun) bell.ring('log', {})
    if (begun) return renderAssignment(room, begun, execution_id, 0)
    // A runner that was restarted, or whose answer was lost, asks again: the same execution goes on. What a tool of
    // the harness before had answered may have died with it.
    await mail.giveBack(execution_id, null)
    return readAssignment(execution_id)
  }

  async function readAssignment(execution_id: string): Promise<Assignment> {
    const row = await db
      .selectFrom('executions')
      .innerJoin('runs', 'runs.execution_id', 'executions.execution_id')
      .selectAll('runs')
      .select('executions.entries')
      .where('executions.execution_id', '=', execution_id)
      .where('executions.state', '=', 'running')
      .executeTakeFirst()
    if (!row) throw superseded()
    return renderAssignment(room, row, execution_id, row.entries)
  }

  async function finish(
    caller: Caller,
    execution_id: string,
    body: Finish,
  ): Promise<{ state: string; inbox?: boolean }> {
    own(caller, execution_id)
    const run = await settle(room, caller.run_id, execution_id, body)
    if (run === 'inbox') return { state: 'INPROGRESS', inbox: true }
    if (run) return { state: run.state }
    const known = await db
      .selectFrom('executions')
      .innerJoin('runs', 'runs.run_id', 'executions.run_id')
      .select(['executions.outcome', 'runs.state'])
      .where('executions.execution_id', '=', execution_id)
      .executeTakeFirst()
    // The answer to the first finish was lost: saying the same again is no second ending.
    if (known?.outcome === body.outcome.outcome || known?.outcome === 'CANCELLED') return { state: known.state }
    throw superseded()
  }

  /** What the control stream must say now. */
  async function check(caller: Caller, execution_id: string): Promise<Attention> {
    own(caller, execution_id)
    const row = await readAttention(execution_id)
    if (!row || row.state === 'ended') throw superseded()
    const { halted, shut_down, inbox, urgent, children, attachments } = row
    const cancel_requested = row.cancel_requested_at !== null
    return { cancel_requested, halted, shut_down, inbox, urgent, children, attachments }
  }

  async function list(caller: Caller, run_id: string): Promise<{ executions: Execution[] }> {
    await checkVisible(room, caller, [run_id])
    const rows = await db.selectFrom('executions').selectAll().where('run_id', '=', run_id).orderBy('number').execute()
    return {
      executions: rows.map((row) =>
        ExecutionShape.parse({
          execution_id: row.execution_id,
          run_id,
          number: row.number,
          state: row.state,
          cause: row.cause,
          outcome: row.outcome ?? undefined,
          failure: row.failure ?? undefined,
          worker_host: row.worker_host ?? undefined,
          environment: row.environment ?? undefined,
          session_id: row.session_id ?? undefined,
          offered_at: row.offered_at.toISOString(),
          claimed_at: row.claimed_at?.toISOString() ?? null,
          started_at: row.started_at?.toISOString() ?? null,
          ended_at: row.ended_at?.toISOString() ?? null,
          entries: row.entries,
          usage: row.usage ?? undefined,
        }),
      ),
    }
  }

  /** What the agent says of its own work; the end of its turn makes it true. */
  async function note(caller: Caller, said: { success: boolean; summary: string }): Promise<Record<string, never>> {
    if (caller.kind !== 'execution') throw new Fault('not_authorized', 'Only a running agent can finish its task.')
    const summary = await withPullRequests(db, caller.run_id, said.summary)
    const noted = await db
      .updateTable('executions')
      .set({ note: JSON.stringify({ ...said, summary }) })
      .where('execution_id', '=', caller.execution_id)
      .where('state', '=', 'running')
      .executeTakeFirst()
    if (noted.numUpdatedRows === 0n) throw superseded()
    await endWaiting(caller)
    return {}
  }

  /** Who finishes waits for nothing, also where its last call of `wait_for_events` was told that nothing had come. */
  function endWaiting({ run_id, execution_id }: ExecutionCaller): Promise<void> {
    return logged(room, async (write, events) => {
      const waited = await write
        .updateTable('runs')
        .set({ waiting_until: null })
        .where('run_id', '=', run_id)
        .where('execution_id', '=', execution_id)
        .where('state', '=', 'INPROGRESS')
        .where('waiting_until', 'is not', null)
        .returning('team_id')
        .executeTakeFirst()
      if (waited) events.push({ team_id: waited.team_id, event_type: 'run_resumed', run_id, execution_id })
    })
  }

  return {
    note,
    shutDown: (caller: Caller, run_id: string | undefined, said: ReportShutdown) =>
      shutDown(room, caller, run_id, said),
    /** The children that are to run beside this run, offered to its runner. */
    async children(caller: Caller, execution_id: string) {
      own(caller, execution_id)
      const { cancel_requested } = await check(caller, execution_id)
      return { assignments: cancel_requested ? [] : await offerBeside(room, caller.run_id) }
    },
    createLocal,
    start,
    finish,
    check,
    list,
    heartbeat(
      caller: Caller,
      execution_id: string,
      body: { session_id?: string | undefined; usage?: Usage | undefined },
    ) {
      own(caller, execution_id)
      return beat({ execution_id, session_id: body.session_id ?? null, usage: body.usage ?? null })
    },
    append(caller: Caller, execution_id: string, entries: NewEntry[]) {
      own(caller, execution_id)
      return append(execution_id, entries)
    },
  }
}

/** Who reads the summary alone finds what the run has asked to be merged. */
async function withPullRequests(read: Kysely<Tables>, run_id: string, summary: string): Promise<string> {
  const rows = await read
    .selectFrom('artifacts')
    .select(sql<string>`data->>'url'`.as('url'))
    .where('run_id', '=', run_id)
    .where('artifact_type', '=', 'PULL_REQUEST')
    .orderBy('created_at')
    .execute()
  const missing = [...new Set(rows.map(({ url }) => url))].filter((url) => !summary.includes(url))
  const more = missing.map((url) => `- ${url}`).join('\n')
  const whole = `${summary}\n\nPull requests:\n${more}`
  return more === '' || whole.length > SUMMARY_CHARACTERS_MAX ? summary : whole
}

/** A runner may speak of its own execution alone. */
function own(caller: Caller, execution_id: string): asserts caller is ExecutionCaller {
  if (caller.kind !== 'execution' || caller.execution_id !== execution_id) {
    throw new Fault('resource_not_found', `There is no execution ${execution_id}.`)
  }
}
