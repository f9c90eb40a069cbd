/** Trees: what is below a run, starting children from an agent's call, letting a stopped tree go on. */
import { type Kysely, type RawBuilder, sql } from 'kysely'
import {
  type AgentConfig,
  CreateRun,
  Fault,
  type RunState,
  type SpawnChild,
  type Tree,
  TreeLimits,
  type TreeNode,
  TreeStop,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { bear, isOver, plainName } from './births.ts'
import type { Caller, ExecutionCaller, UserCaller } from './caller.ts'
import type { Room } from './engine.ts'
import { logged, type NewEvent } from './log.ts'
import { sendIn } from './messages.ts'
import { asApproved, type Ruling, readRuling } from './rulings.ts'
import { personOf, runNotFound } from './runs.ts'
import { isAgent, lockTree, stopping, tellTree } from './storms.ts'
import { announce, followAll, type NamedStep } from './transitions.ts'
import { visibleTo } from './visible.ts'

export type Spawned = { name: string } & ({ run_id: string; already: boolean } | { fault: Fault })

export function treesEngine(room: Room) {
  const { clock, bell } = room
  const db = room.database.kysely

  async function get(caller: Caller, run_id: string): Promise<Tree> {
    const top = await db
      .selectFrom('runs')
      .selectAll()
      .where('run_id', '=', run_id)
      .where(visibleTo(caller, 'runs'))
      .executeTakeFirst()
    if (!top) throw runNotFound(run_id)
    if (caller.kind === 'execution') await checkOwnTree(caller, top.root_run_id, run_id)
    const { root_run_id } = top
    const below = sql<boolean>`root_run_id = ${root_run_id}
      and (run_id = ${run_id} or ${run_id} = root_run_id or ${run_id} = any(ancestors))`
    const [nodes, artifacts, root] = await Promise.all([
      readNodes(below),
      readArtifacts(below),
      db
        .selectFrom('runs')
        .innerJoin('teams', 'teams.team_id', 'runs.team_id')
        .selectAll('teams')
        .select(['runs.stopped', 'runs.tree_messages', 'runs.tree_wakes'])
        .where('runs.run_id', '=', root_run_id)
        .executeTakeFirstOrThrow(),
    ])
    return {
      root_run_id: run_id,
      nodes: parentsFirst(run_id, nodes).map(renderNode),
      counts: countStates(nodes),
      done: nodes.every((node) => isOver(node.state)),
      usage: usageOf(nodes),
      artifacts,
      limits: TreeLimits.parse(root),
      messages: root.tree_messages,
      wakes: root.tree_wakes,
      stopped: TreeStop.nullable().parse(root.stopped ?? null),
    }
  }

  async function readNodes(below: RawBuilder<boolean>): Promise<Node[]> {
    const { rows } = await sql<Node>`
      with below as materialized (
        select run_id, parent_run_id, depth, config->>'name' as name, title, state, waiting_until,
          config->'harness'->>'type' as harness, created_at, started_at, ended_at, execution_id, undelivered
        from runs where ${below}
      ), used as materialized (
        select run_id, sum((usage->>'input_tokens')::float8) as input, sum((usage->>'output_tokens')::float8) as output,
          sum((usage->>'cache_read_tokens')::float8) as cache_read,
          sum((usage->>'cache_write_tokens')::float8) as cache_write,
          sum((usage->>'cost_usd')::float8) as cost, sum((usage->>'cpu_seconds')::float8) as cpu,
          (array_agg(last_words order by number desc) filter (where last_words is not null))[1] as last_words
        from executions where run_id = any(array(select run_id from below)) group by run_id
      )
      select r.run_id, r.parent_run_id, r.depth, coalesce(r.name, r.title) as name, r.title, r.state,
        r.waiting_until is not null as waiting, coalesce(x.harness, r.harness, 'oz') as harness,
        r.created_at, r.started_at, r.ended_at, x.worker_host, r.undelivered,
        u.input, u.output, u.cache_read, u.cache_write, u.cost, u.cpu, u.last_words
      from below r left join executions x on x.execution_id = r.execution_id left join used u on u.run_id = r.run_id
      order by r.created_at, r.run_id`.execute(db)
    return rows
  }

  async function readArtifacts(below: RawBuilder<boolean>): Promise<Tree['artifacts']> {
    const rows = await db
      .selectFrom('artifacts')
      .select(['run_id', 'artifact_uid', 'artifact_type', 'created_at', 'data'])
      .where('run_id', 'in', (from) => from.selectFrom('runs').select('run_id').where(below))
      .orderBy('created_at')
      .execute()
    return rows.map((row) => ({ ...row, created_at: row.created_at.toISOString() }))
  }

  async function checkOwnTree(caller: ExecutionCaller, root_run_id: string, run_id: string): Promise<void> {
    const own = await db.selectFrom('runs').select('root_run_id').where('run_id', '=', caller.run_id).executeTakeFirst()
    if (own?.root_run_id !== root_run_id) throw runNotFound(run_id)
  }

  /** In the order of the request; one child's fault is no other's. */
  async function spawn(
    caller: Caller,
    asked: { base_prompt?: string | undefined; children: SpawnChild[]; key: string },
  ): Promise<Spawned[]> {
    if (caller.kind !== 'execution')
      throw new Fault('not_authorized', 'Only a running agent starts children this way; use parent_run_id.')
    const ruling = await readRuling(db, caller.run_id)
    const results: Spawned[] = []
    for (const [at, child] of asked.children.entries()) results.push(await spawnOne(caller, child, asked, ruling, at))
    announce(room)
    if (asked.children.some((child) => child.where === 'sandbox'))
      bell.ring('control', { execution_id: caller.execution_id })
    return results
  }

  async function spawnOne(
    caller: ExecutionCaller,
    wanted: SpawnChild,
    asked: { base_prompt?: string | undefined; key: string },
    ruling: Ruling,
    at: number,
  ): Promise<Spawned> {
    const { name } = wanted
    try {
      const child = asApproved(ruling, wanted)
      const born = await stopping(room, () =>
        db.transaction().execute(async (write) => {
          const spawn_key = `${asked.key}#${at}`
          const twin = await write
            .selectFrom('runs')
            .select(['run_id', 'spawn_key', 'state'])
            .where('parent_run_id', '=', caller.run_id)
            .where(sql<boolean>`lower(trim(config->>'name')) = ${plainName(name)}`)
            .where('state', 'not in', ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'])
            .executeTakeFirst()
          if (twin && twin.spawn_key !== spawn_key) return { run_id: twin.run_id, already: true }
          return bear(room, write, caller, {
            parent_run_id: caller.run_id,
            body: bodyOf(child, ruling === null ? asked.base_prompt : undefined),
            source: 'ORCHESTRATION',
            spawn_key,
          })
        }),
      )
      return { name, ...born }
    } catch (thrown) {
      if (thrown instanceof Fault) return { name, fault: thrown }
      throw thrown
    }
  }

  /** Each agent that was at work goes on: with its execution, or with another where that has gone. */
  async function release(caller: Caller, run_id: string): Promise<Tree> {
    personOf(caller)
    if (caller.kind !== 'user') throw runNotFound(run_id)
    const run = await db
      .selectFrom('runs')
      .select('root_run_id')
      .where('run_id', '=', run_id)
      .where(visibleTo(caller, 'runs'))
      .executeTakeFirst()
    if (!run) throw runNotFound(run_id)
    const { root_run_id } = run
    const runs = await logged(room, (write, events) => releaseIn(write, events, caller, root_run_id))
    announce(room)
    tellTree(room, runs)
    return get(caller, run_id)
  }

  async function releaseIn(write: Kysely<Tables>, events: NewEvent[], caller: UserCaller, root_run_id: string) {
    const now = clock.now()
    const runs = await lockTree(write, root_run_id)
    if (runs.every((run) => run.run_id !== root_run_id || run.stopped === null))
      throw new Fault('conflict', 'This tree was not stopped; there is nothing to release.', { retryable: false })
    const held = runs.filter((run) => run.state === 'BLOCKED' && run.open_plan === null)
    const to = held.filter((run) => run.execution_id !== null && isAgent(run)).map((run) => run.run_id)
    if (to.length > 0) await sendIn(room, write, events, { caller, to, ...RELEASED })
    await write.updateTable('runs').set({ halted: false }).where('root_run_id', '=', root_run_id).execute()
    await write
      .updateTable('runs')
      .set({ stopped: null, released: sql<number>`released + 1`, updated_at: now })
      // These words are nobody's of the tree.
      .set({ tree_messages: sql<number>`tree_messages - ${to.length}` })
      .where('run_id', '=', root_run_id)
      .execute()
    const gone = await endedOf(
      write,
      held.flatMap(({ execution_id }) => execution_id ?? []),
    )
    await followAll(
      write,
      held.map(({ run_id, execution_id }): NamedStep => {
        if (execution_id === null || !gone.has(execution_id))
          return { name: 'unblock', run_id, now, set: { waiting_until: now, status_message: null } }
        const set = { queued_at: now, not_before: null, tries: 0, failure: null, status_message: null }
        return { name: 'rouse', run_id, now, set }
      }),
    )
    return runs
  }

  return { get, spawn, release }
}

const RELEASED = {
  subject: 'The tree of agents is released',
  body: `The tree of agents that you belong to was stopped by a limit, and a person has let it go on. If that \
interrupted you, go on where you were. If you were waiting for events, wait again.`,
}

/** Those of these executions that have ended. */
async function endedOf(write: Kysely<Tables>, execution_ids: string[]): Promise<Set<string>> {
  if (execution_ids.length === 0) return new Set()
  const rows = await write
    .selectFrom('executions')
    .select('execution_id')
    .where('execution_id', 'in', execution_ids)
    .where('state', '=', 'ended')
    .execute()
  return new Set(rows.map((row) => row.execution_id))
}

/** Each run right before what is below it; siblings stay in their order. */
function parentsFirst(top: string, rows: Node[]): Node[] {
  const children = Map.groupBy(rows, (row) => row.parent_run_id)
  const ordered: Node[] = []
  const open = rows.filter((row) => row.run_id === top)
  for (let row = open.pop(); row !== undefined; row = open.pop()) {
    ordered.push(row)
    open.push(...(children.get(row.run_id) ?? []).toReversed())
  }
  return ordered
}

const tokensOf = (node: Node): number =>
  (node.input ?? 0) + (node.output ?? 0) + (node.cache_read ?? 0) + (node.cache_write ?? 0)

const renderNode = (node: Node): TreeNode => ({
  run_id: node.run_id,
  parent_run_id: node.parent_run_id,
  depth: node.depth,
  name: node.name,
  title: node.title,
  state: node.state,
  waiting: node.waiting,
  harness: node.harness,
  created_at: node.created_at.toISOString(),
  started_at: node.started_at?.toISOString() ?? null,
  ended_at: node.ended_at?.toISOString() ?? null,
  ...(node.worker_host === null ? {} : { worker_host: node.worker_host }),
  ...(node.last_words === null ? {} : { last_words: node.last_words.replace(/\s+/g, ' ').trim() }),
  undelivered: node.undelivered,
  total_tokens: tokensOf(node),
})

function countStates(nodes: Node[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { state } of nodes) counts[state] = (counts[state] ?? 0) + 1
  return counts
}

function usageOf(nodes: Node[]): Tree['usage'] {
  const sum = (pick: (node: Node) => number | null) => nodes.reduce((total, node) => total + (pick(node) ?? 0), 0)
  return {
    total_tokens: sum(tokensOf),
    input_tokens: sum((node) => node.input),
    output_tokens: sum((node) => node.output),
    cache_read_tokens: sum((node) => node.cache_read),
    cache_write_tokens: sum((node) => node.cache_write),
    inference_cost_usd: sum((node) => node.cost),
    cpu_seconds: sum((node) => node.cpu),
  }
}

type Node = {
  run_id: string
  parent_run_id: string | null
  depth: number
  name: string
  title: string
  state: RunState
  waiting: boolean
  harness: string
  created_at: Date
  started_at: Date | null
  ended_at: Date | null
  worker_host: string | null
  undelivered: number
  input: number | null
  output: number | null
  cache_read: number | null
  cache_write: number | null
  cost: number | null
  cpu: number | null
  last_words: string | null
}

function bodyOf(child: SpawnChild, base_prompt: string | undefined): CreateRun {
  const harness =
    child.harness === undefined
      ? undefined
      : { type: child.harness, ...(child.model_id === undefined ? {} : { model_id: child.model_id }) }
  const config: Record<string, unknown> = { name: child.name, ...(harness === undefined ? {} : { harness }) }
  if (child.model_id !== undefined) config.model_id = child.model_id
  if (child.environment_id !== undefined) config.environment_id = child.environment_id
  if (child.skills !== undefined) config.skills = child.skills
  if (child.where !== undefined && child.where !== 'worker' && child.where !== 'sandbox')
    config.worker_host = child.where
  const body = CreateRun.safeParse({
    prompt: [base_prompt, child.prompt].filter((text) => text?.trim()).join('\n\n'),
    agent_identity_uid: child.agent_identity_uid,
    title: child.title ?? child.name,
    config: config satisfies Partial<AgentConfig> | Record<string, unknown>,
    placement: child.where === 'sandbox' ? 'parent' : 'worker',
  })
  if (body.success) return body.data
  const [issue] = body.error.issues
  throw new Fault('invalid_request', `\`${issue?.path.join('.')}\` is not valid: ${issue?.message}`)
}
