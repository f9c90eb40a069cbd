/**
 * Births: a run that has a parent. The root's row is locked for each, so that the limits of a tree are exact
 * however many are asked for at once, and a cascade that holds the same lock leaves no gap for another child.
 */
import { type Kysely, type Selectable, sql } from 'kysely'
import {
  AgentConfig,
  type CreateRun,
  ENDED_STATES,
  Fault,
  isEnded,
  Metadata,
  type RunSource,
  RunState,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs, Teams } from '../db/tables.ts'
import type { Caller } from './caller.ts'
import { configureRun } from './configuration.ts'
import { continuedBy } from './conversation-parts.ts'
import type { Room } from './engine.ts'
import { inNameOf } from './makers.ts'
import { metadataOf } from './metadata.ts'
import { checkMode, hostOf, PLAIN, runNotFound, titleOf } from './runs.ts'
import { checkTokens, TreeStorm } from './storms.ts'
import { checkCurrent, enqueueIn } from './transitions.ts'
import { newTimedId } from './uid.ts'
import { visibleRuns } from './visible.ts'

export type Birth = {
  parent_run_id: string
  body: CreateRun
  source: RunSource
  /** Of the call that asks, and the child's place in it: the same again is the same child. */
  spawn_key: string | null
  /** A child of this name that has not ended is named, and none is born beside it. */
  name?: string
}

/** `already`: an earlier call started it, or another one at the same time. */
export type Born = { run_id: string; already: boolean; at_capacity?: boolean }

/** Inside a transaction; throws the fault that names the limit or the missing thing. */
export async function bear(room: Room, write: Kysely<Tables>, caller: Caller, birth: Birth): Promise<Born> {
  checkInherits(birth.body)
  const { parent, team } = await lockTree(write, caller, birth.parent_run_id)
  if (birth.spawn_key !== null) {
    const twin = await write
      .selectFrom('runs')
      .select('run_id')
      .where('parent_run_id', '=', parent.run_id)
      .where('spawn_key', '=', birth.spawn_key)
      .executeTakeFirst()
    if (twin) return { run_id: twin.run_id, already: false }
  }
  const namesake = birth.name === undefined ? null : await findChild(write, parent.run_id, birth.name)
  if (namesake) return { run_id: namesake.run_id, already: true }
  await checkLimits(write, parent, team)
  const storm = team.max_tree_tokens === null ? null : await checkTokens(write, parent.root_run_id)
  if (storm) throw new TreeStorm(storm)
  const inherited = { config: AgentConfig.parse(parent.config), identity_uid: parent.identity_uid }
  const { config, identity_uid } = await configureRun(write, parent, inNameOf(caller, birth.body), inherited)
  const now = room.clock.now()
  const run_id = newTimedId(now)
  const prompt = birth.body.prompt ?? ''
  const beside = (birth.body.placement ?? 'worker') === 'parent'
  const answer = await enqueueIn(write, {
    run_id,
    team_id: parent.team_id,
    owner_user_id: parent.owner_user_id,
    state: 'QUEUED',
    title: titleOf(prompt, config),
    ...(await continuedBy(write, caller, birth.body)),
    prompt,
    config,
    identity_uid,
    metadata: metadataOf(birth.body, Metadata.parse(parent.metadata)),
    source: birth.source,
    execution_location: beside ? (parent.execution_location === 'LOCAL' ? 'LOCAL' : 'REMOTE') : 'REMOTE',
    worker_host: hostOf(config.worker_host),
    creator_id: parent.creator_id,
    creator_identity_uid: parent.creator_identity_uid,
    // What runs in a sandbox that has gone cannot be tried again elsewhere.
    max_tries: beside ? 1 : (config.max_tries ?? room.limits.max_tries),
    parent_run_id: parent.run_id,
    root_run_id: parent.root_run_id,
    depth: parent.depth + 1,
    placement: beside ? 'parent' : 'worker',
    spawn_key: birth.spawn_key,
    ...PLAIN,
    trigger_url: birth.body.trigger_url ?? null,
    mode: checkMode(birth.body.mode, config),
    lane_run_id: parent.parallelism === null ? null : parent.run_id,
    execution_id: null,
    now,
  })
  return { run_id, already: false, ...answer }
}

const findChild = (read: Kysely<Tables>, parent_run_id: string, name: string) =>
  read
    .selectFrom('runs')
    .select('run_id')
    .where('parent_run_id', '=', parent_run_id)
    .where(sql<boolean>`lower(trim(config->>'name')) = ${plainName(name)}`)
    .where('state', 'not in', ENDED_STATES)
    .executeTakeFirst()

/** Whose a child is, and who counts as its creator, is as its parent says. */
function checkInherits({ on_behalf_of }: CreateRun): void {
  if (on_behalf_of === undefined) return
  throw new Fault('invalid_request', 'A child has the creator of its parent: leave out on_behalf_of.', {
    errors: [{ pointer: '/on_behalf_of', detail: 'not of a child' }],
  })
}

type Family = { parent: Selectable<Runs>; team: Selectable<Teams> }

async function lockTree(write: Kysely<Tables>, caller: Caller, parent_run_id: string): Promise<Family> {
  const found = await write
    .selectFrom('runs')
    .select('root_run_id')
    .where('run_id', '=', parent_run_id)
    .where(visibleRuns(caller))
    .executeTakeFirst()
  if (!found) throw parentNotFound(parent_run_id)
  const root = await write
    .selectFrom('runs')
    .select(['stopped', 'cancel_requested_at'])
    .where('run_id', '=', found.root_run_id)
    .forNoKeyUpdate()
    .executeTakeFirstOrThrow()
  // Read after the lock, or a cascade that came first would not be seen.
  const parent = await write
    .selectFrom('runs')
    .selectAll()
    .where('run_id', '=', parent_run_id)
    .executeTakeFirstOrThrow()
  await checkNoBatch(write, parent)
  checkCurrent(caller, parent)
  if (root.stopped !== null) throw stoppedTree(root.stopped)
  if (parent.cancel_requested_at !== null) {
    throw new Fault('conflict', `Run ${parent_run_id} is cancelled; it can have no further children.`, {
      retryable: false,
    })
  }
  const team = await write
    .selectFrom('teams')
    .selectAll()
    .where('team_id', '=', parent.team_id)
    .executeTakeFirstOrThrow()
  return { parent, team }
}

/** A batch's children are its tasks. What never had an execution, yet bounds its children, may be one. */
async function checkNoBatch(write: Kysely<Tables>, parent: Selectable<Runs>): Promise<void> {
  if (parent.execution_id !== null || parent.parallelism === null) return
  const { run_id } = parent
  const batch = await write.selectFrom('batches').select('run_id').where('run_id', '=', run_id).executeTakeFirst()
  if (!batch) return
  throw new Fault(
    'invalid_request',
    `Run ${run_id} is a batch; its tasks are its only children. Start another batch.`,
    {
      errors: [{ pointer: '/parent_run_id', detail: 'is a batch' }],
    },
  )
}

async function checkLimits(write: Kysely<Tables>, parent: Selectable<Runs>, team: Selectable<Teams>): Promise<void> {
  if (parent.depth + 1 > team.max_depth) {
    throw overLimit('max_depth', team.max_depth, `A child of this run would be at depth ${parent.depth + 1}`)
  }
  const counts = await write
    .selectFrom('runs')
    .select((r) => [
      r.fn.countAll<number>().as('tree'),
      r.fn.countAll<number>().filterWhere('parent_run_id', '=', parent.run_id).as('children'),
    ])
    .where('root_run_id', '=', parent.root_run_id)
    // Tasks have a limit of their own.
    .where((r) => r.not(r.exists(r.selectFrom('batch_tasks').whereRef('batch_tasks.run_id', '=', 'runs.run_id'))))
    .executeTakeFirstOrThrow()
  if (counts.children >= team.max_children) {
    throw overLimit('max_children', team.max_children, `This run has ${counts.children} children`)
  }
  const most = team.max_tree_runs
  if (counts.tree >= most) throw overLimit('max_tree_runs', most, `This tree has ${counts.tree} runs`)
}

function overLimit(name: string, limit: number, what: string): Fault {
  return new Fault('invalid_request', `${what}; the team's limit ${name} is ${limit}. An admin can raise it.`, {
    errors: [{ pointer: '/parent_run_id', detail: `${name} is ${limit}` }],
  })
}

export function stoppedTree(stopped: unknown): Fault {
  const why = typeof stopped === 'object' && stopped !== null && 'message' in stopped ? String(stopped.message) : ''
  return new Fault('budget_exceeded', `This tree of runs was stopped: ${why} A person can release it.`)
}

function parentNotFound(run_id: string): Fault {
  return new Fault('invalid_request', `parent_run_id: ${runNotFound(run_id).message}`, {
    errors: [{ pointer: '/parent_run_id', detail: 'no such run' }],
  })
}

/** What is left of a name for telling two apart. */
export const plainName = (name: string): string => name.trim().toLowerCase()

export const isOver = (state: string): boolean => isEnded(RunState.parse(state))
