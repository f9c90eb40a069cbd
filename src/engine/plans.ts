/**
 * Plans: proposals that wait for a person, and what an approved one rules.
 *
 * The run's row is locked by every step, so that the first answer wins and an answer to a version that is no longer
 * open is refused with what differs. An answer reaches the agent as a message, like anything else it is told: it
 * survives whatever is killed meanwhile, and where the execution has gone it begins another.
 */
import { randomUUID } from 'node:crypto'
import type { Kysely, Selectable } from 'kysely'
import { z } from 'zod'
import { type Approval, Fault, type Plan, PlanChild, PlanConfig, PlanState, type Proposal } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Plans, Runs } from '../db/tables.ts'
import type { Caller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { logged, loggedIn, type NewEvent } from './log.ts'
import { sendIn } from './messages.ts'
import { APPROVED, approvedWords, revisionWords } from './mode-words.ts'
import { checkProposal, differences } from './plan-changes.ts'
import { personOf, runNotFound } from './runs.ts'
import { announce, followIn, superseded } from './transitions.ts'
import { checkVisible, visibleTo } from './visible.ts'

/** A BLOCKED run waits for a person, however long it takes. */
const OPEN_MS = 3650 * 24 * 3_600_000

export type Proposed = { plan: Plan; waits: boolean }

type Write = Kysely<Tables>

export function plansEngine(room: Room) {
  const { clock, bell } = room
  const db = room.database.kysely

  /** A new version, which waits for a person unless the team lets this run go on by itself. */
  async function propose(caller: Caller, proposal: Proposal, options: { key: string }): Promise<Proposed> {
    if (caller.kind !== 'execution') throw new Fault('not_authorized', 'Only a running agent proposes a plan.')
    const proposed = await logged(room, async (write, events) => {
      const run = await lockRun(write, caller, caller.run_id)
      if (run.execution_id !== caller.execution_id) throw superseded()
      const again = await write
        .selectFrom('plans')
        .selectAll()
        .where('run_id', '=', run.run_id)
        .where('propose_key', '=', options.key)
        .executeTakeFirst()
      if (again) return { plan: again, waits: run.open_plan === again.version }
      if (run.cancel_requested_at !== null) throw cancelled(run.run_id)
      await checkProposal(write, run.team_id, proposal)
      const waits = await asks(write, run)
      const plan = await insertVersion(write, run, proposal, {
        author: 'agent',
        state: waits ? 'proposed' : 'approved',
        now: clock.now(),
        key: options.key,
      })
      await (waits ? hold(write, run, plan) : rule(write, run, plan))
      events.push({ team_id: run.team_id, event_type: 'plan_proposed', run_id: run.run_id, ref_id: plan.plan_id })
      return { plan, waits }
    })
    announce(room)
    return { plan: await render(db, proposed.plan), waits: proposed.waits }
  }

  /** BLOCKED with this version open; what was open before has been replaced. */
  async function hold(write: Write, run: Selectable<Runs>, plan: Selectable<Plans>): Promise<void> {
    const now = clock.now()
    await followIn(write, 'block', {
      run_id: run.run_id,
      now,
      set: { waiting_until: new Date(now.getTime() + OPEN_MS) },
    })
    await write
      .updateTable('runs')
      .set({ open_plan: plan.version, approved_plan: null })
      .where('run_id', '=', run.run_id)
      .execute()
  }

  type Answering = (write: Write, events: NewEvent[], open: Opened) => Promise<Selectable<Plans>>

  async function decide(caller: Caller, run_id: string, version: number, answer: Answering): Promise<Plan> {
    const decided = await db
      .transaction()
      .execute((write) => decideIn(write, { caller, run_id, version, now: clock.now() }, answer))
    announce(room)
    if (decided.execution_id) bell.ring('control', { execution_id: decided.execution_id })
    return render(db, decided.plan)
  }

  async function decideIn(write: Write, { caller, run_id, version, now }: Deciding, answer: Answering) {
    if (caller.kind !== 'user') throw new Fault('not_authorized', 'Only a person answers a plan.')
    personOf(caller)
    const { result } = await loggedIn(write, now, async (_, events) => {
      const run = await lockRun(write, caller, run_id)
      const plan = await readVersion(write, run_id, version)
      await checkOpen(write, run, plan)
      const answered = await answer(write, events, { run, plan, caller, now })
      events.push({ team_id: run.team_id, event_type: 'plan_decided', run_id, ref_id: answered.plan_id })
      return { plan: answered, execution_id: run.execution_id }
    })
    return result
  }

  const revising =
    (message: string): Answering =>
    async (write, events, open) => {
      const { now, caller } = open
      const closed = await close(write, open.plan, 'changes_requested', {
        now,
        user_id: caller.user_id,
        words: message,
      })
      const subject = `Changes to version ${closed.version} of your plan`
      await goOn(write, events, open, { subject, body: revisionWords(message) })
      return closed
    }

  /** The words reach the agent, and its run goes on: with its own execution, or where that has gone with another. */
  async function goOn(write: Write, events: NewEvent[], { run, caller, now }: Opened, words: Words): Promise<void> {
    await write.updateTable('runs').set({ open_plan: null }).where('run_id', '=', run.run_id).execute()
    await sendIn(room, write, events, { caller, to: [run.run_id], ...words })
    // In a stopped tree it goes on when that is released.
    if (run.halted) return
    const alive = await isAtWork(write, run.execution_id)
    if (alive) await followIn(write, 'unblock', { run_id: run.run_id, now, set: { waiting_until: now } })
    else {
      const set = { queued_at: now, not_before: null, tries: 0, failure: null, status_message: null }
      await followIn(write, 'rouse', { run_id: run.run_id, now, set })
    }
  }

  return {
    propose,

    async list(caller: Caller, query: { state?: PlanState | undefined; limit: number }) {
      const rows = await db
        .selectFrom('plans')
        .innerJoin('runs', 'runs.run_id', 'plans.run_id')
        .selectAll('plans')
        .select('runs.title as run_title')
        .where('plans.team_id', '=', caller.team_id)
        .where(visibleTo(caller, 'runs'))
        .where((w) => (query.state === undefined ? w.lit(true) : w('plans.state', '=', query.state)))
        .where((w) =>
          w.not(
            w.exists(
              w
                .selectFrom('plans as newer')
                .select('newer.plan_id')
                .whereRef('newer.run_id', '=', 'plans.run_id')
                .whereRef('newer.version', '>', 'plans.version'),
            ),
          ),
        )
        .orderBy('plans.created_at', 'desc')
        .orderBy('plans.run_id')
        .limit(query.limit)
        .execute()
      const plans = await renderAll(db, rows)
      return { plans: plans.map((plan, at) => ({ ...plan, run_title: rows[at]?.run_title ?? '' })) }
    },

    async ofRun(caller: Caller, run_id: string): Promise<{ plans: Plan[] }> {
      await checkVisible(room, caller, [run_id])
      const rows = await db
        .selectFrom('plans')
        .selectAll()
        .where('run_id', '=', run_id)
        .orderBy('version', 'desc')
        .execute()
      return { plans: await renderAll(db, rows) }
    },

    approve(caller: Caller, run_id: string, version: number, given: Approval): Promise<Plan> {
      return decide(caller, run_id, version, async (write, events, open) => {
        const edited = edit(open.plan, given)
        if (edited !== null) await checkProposal(write, open.run.team_id, edited)
        const answer = { now: open.now, user_id: open.caller.user_id, words: given.message ?? null }
        const approved =
          edited === null
            ? await close(write, open.plan, 'approved', answer)
            : await replace(write, open, edited, answer)
        await rule(write, open.run, approved)
        await goOn(write, events, open, { subject: APPROVED, body: approvedWords(approved, edited !== null) })
        return approved
      })
    },

    revise(caller: Caller, run_id: string, version: number, message: string): Promise<Plan> {
      return decide(caller, run_id, version, revising(message))
    },

    /** The same in a transaction that is another's, who announces it when it has been committed. */
    async reviseIn(write: Write, deciding: Deciding, message: string): Promise<void> {
      await decideIn(write, deciding, revising(message))
    },

    /** Its run is cancelled; the caller of this sees to that once the answer stands. */
    reject(caller: Caller, run_id: string, version: number, message: string | undefined): Promise<Plan> {
      return decide(caller, run_id, version, async (write, _events, open) => {
        const { user_id } = open.caller
        const { now } = open
        await write
          .updateTable('runs')
          .set({
            open_plan: null,
            cancel_requested_at: now,
            cancel_requested_by: user_id,
            status_message: message ? `The plan was rejected: ${message}` : 'The plan was rejected.',
          })
          .where('run_id', '=', run_id)
          .execute()
        if (!(await isAtWork(write, open.run.execution_id))) {
          await followIn(write, 'cancel', { run_id, now, set: { ended_at: now, not_before: null } })
        }
        return close(write, open.plan, 'rejected', { now, user_id, words: message ?? null })
      })
    },
  }
}

type Deciding = { caller: Caller; run_id: string; version: number; now: Date }
type Words = { subject: string; body: string }
type Opened = { run: Selectable<Runs>; plan: Selectable<Plans>; caller: UserCaller; now: Date }
type Answer = { now: Date; user_id: UserCaller['user_id']; words: string | null }

/** With the root of its tree, in the order of their ids, as whoever writes messages locks them. */
async function lockRun(write: Write, caller: Caller, run_id: string): Promise<Selectable<Runs>> {
  const named = await write
    .selectFrom('runs')
    .select('root_run_id')
    .where('run_id', '=', run_id)
    .where(visibleTo(caller, 'runs'))
    .executeTakeFirst()
  if (!named) throw runNotFound(run_id)
  const locked = await write
    .selectFrom('runs')
    .selectAll()
    .where('run_id', 'in', [run_id, named.root_run_id])
    .orderBy('run_id')
    .forNoKeyUpdate()
    .execute()
  const run = locked.find((one) => one.run_id === run_id.toLowerCase())
  if (!run) throw runNotFound(run_id)
  return run
}

async function readVersion(write: Write, run_id: string, version: number): Promise<Selectable<Plans>> {
  const plan = await write
    .selectFrom('plans')
    .selectAll()
    .where('run_id', '=', run_id)
    .where('version', '=', version)
    .executeTakeFirst()
  if (!plan) throw new Fault('resource_not_found', `Run ${run_id} has no version ${version} of a plan.`)
  return plan
}

/** The first answer wins; one to an older version is told what differs. */
async function checkOpen(write: Write, run: Selectable<Runs>, plan: Selectable<Plans>): Promise<void> {
  if (run.open_plan === plan.version && run.cancel_requested_at === null) return
  if (run.open_plan === plan.version) throw cancelled(run.run_id)
  if (run.open_plan === null) {
    const how = { approved: 'approved', changes_requested: 'sent back for changes', rejected: 'rejected' } as const
    const state = PlanState.parse(plan.state)
    const what = state === 'proposed' || state === 'superseded' ? 'replaced' : how[state]
    throw new Fault(
      'conflict',
      `Version ${plan.version} was already ${what}; no version of this plan waits for an answer.`,
      {
        retryable: false,
      },
    )
  }
  const open = await readVersion(write, run.run_id, run.open_plan)
  throw new Fault(
    'conflict',
    `Version ${plan.version} is outdated: version ${open.version} is the one that waits for an answer.`,
    { retryable: false, errors: differences(plan, open) },
  )
}

/** Whether this run's plans wait for a person: a child's only where its team says so. */
async function asks(write: Write, run: Selectable<Runs>): Promise<boolean> {
  if (run.parent_run_id === null) return true
  const { children_ask } = await write
    .selectFrom('teams')
    .select('children_ask')
    .where('team_id', '=', run.team_id)
    .executeTakeFirstOrThrow()
  return children_ask
}

async function insertVersion(
  write: Write,
  run: Pick<Selectable<Runs>, 'run_id' | 'team_id' | 'title'>,
  proposal: Proposal,
  made: { author: 'agent' | 'person'; state: PlanState; now: Date; key: string | null },
): Promise<Selectable<Plans>> {
  const newest = await write
    .selectFrom('plans')
    .select((p) => p.fn.max('version').as('version'))
    .where('run_id', '=', run.run_id)
    .executeTakeFirst()
  await write
    .updateTable('plans')
    .set({ state: 'superseded' })
    .where('run_id', '=', run.run_id)
    .where('state', '=', 'proposed')
    .execute()
  const version = (newest?.version ?? 0) + 1
  const plan_id = randomUUID()
  const artifact_uid = randomUUID()
  const title = proposal.title ?? titleOf(proposal.document) ?? run.title
  const base = { team_id: run.team_id, run_id: run.run_id, created_at: made.now }
  await write
    .insertInto('artifacts')
    .values({
      ...base,
      artifact_uid,
      artifact_type: 'PLAN',
      data: JSON.stringify({ document_uid: plan_id, title, version }),
    })
    .execute()
  return write
    .insertInto('plans')
    .values({
      ...base,
      plan_id,
      version,
      state: made.state,
      author: made.author,
      title,
      document: proposal.document,
      children: JSON.stringify(proposal.children),
      config: JSON.stringify(proposal.config),
      artifact_uid,
      propose_key: made.key,
      decided_at: made.state === 'approved' ? made.now : null,
    })
    .returningAll()
    .executeTakeFirstOrThrow()
}

/** The first heading, else nothing. */
const titleOf = (document: string): string | undefined => /^#{1,6}\s+(.{1,200})/m.exec(document)?.[1]?.trim()

async function close(write: Write, plan: Selectable<Plans>, state: PlanState, answer: Answer) {
  return write
    .updateTable('plans')
    .set({ state, decided_at: answer.now, decided_by: answer.user_id, words: answer.words })
    .where('plan_id', '=', plan.plan_id)
    .returningAll()
    .executeTakeFirstOrThrow()
}

/** What a person edited is a version of its own. */
async function replace(write: Write, { run, now }: Opened, edited: Proposal, answer: Answer) {
  const version = await insertVersion(write, run, edited, { author: 'person', state: 'approved', now, key: null })
  return close(write, version, 'approved', answer)
}

/** Null: nothing differs from what was proposed. */
function edit(plan: Selectable<Plans>, given: Approval): Proposal | null {
  const was = proposalOf(plan)
  const edited: Proposal = {
    title: was.title,
    document: given.document ?? was.document,
    children: given.children ?? was.children,
    config: given.config ?? was.config,
  }
  return JSON.stringify(edited) === JSON.stringify(was) ? null : edited
}

/** From now on this version says what the run may start, and how many at a time. */
async function rule(write: Write, run: Selectable<Runs>, plan: Selectable<Plans>): Promise<void> {
  const { parallelism } = PlanConfig.parse(plan.config)
  await write
    .updateTable('runs')
    .set({ approved_plan: plan.version, ...(parallelism === undefined ? {} : { parallelism }) })
    .where('run_id', '=', run.run_id)
    .execute()
}

async function isAtWork(write: Write, execution_id: string | null): Promise<boolean> {
  if (execution_id === null) return false
  const { state } = await write
    .selectFrom('executions')
    .select('state')
    .where('execution_id', '=', execution_id)
    .executeTakeFirstOrThrow()
  return state !== 'ended'
}

const cancelled = (run_id: string) =>
  new Fault('conflict', `Run ${run_id} is being cancelled; its plan needs no answer any more.`, { retryable: false })

const Children = z.array(PlanChild)

/** A stored version as it was proposed. */
export function proposalOf(plan: Pick<Selectable<Plans>, 'title' | 'document' | 'children' | 'config'>) {
  return {
    title: plan.title,
    document: plan.document,
    children: Children.parse(plan.children),
    config: PlanConfig.parse(plan.config),
  }
}

async function render(db: Kysely<Tables>, plan: Selectable<Plans>): Promise<Plan> {
  const [rendered] = await renderAll(db, [plan])
  if (rendered === undefined) throw new Error('a plan was not rendered')
  return rendered
}

async function renderAll(db: Kysely<Tables>, plans: Selectable<Plans>[]): Promise<Plan[]> {
  const ids = [...new Set(plans.flatMap((plan) => (plan.decided_by === null ? [] : [plan.decided_by])))]
  const users = ids.length === 0 ? [] : await db.selectFrom('users').selectAll().where('user_id', 'in', ids).execute()
  return plans.map((plan) => {
    const user = users.find((one) => one.user_id === plan.decided_by)
    return {
      plan_id: plan.plan_id,
      run_id: plan.run_id,
      version: plan.version,
      state: PlanState.parse(plan.state),
      author: plan.author === 'person' ? 'person' : 'agent',
      ...proposalOf(plan),
      created_at: plan.created_at.toISOString(),
      decided_at: plan.decided_at?.toISOString() ?? null,
      decided_by: user ? { type: 'user', uid: user.user_id, display_name: user.display_name } : null,
      words: plan.words,
      artifact_uid: plan.artifact_uid,
    }
  })
}
