/** Trees: what is below a run, starting children from an agent's call, letting a stopped tree go on. */
import { type Kysely, type RawBuilder, sql } from 'kysely'
import {
  type AgentConfig,
  CreateRun,
  Fault,
  type SpawnChild,
  type Tree,
  TreeLimits,
  type TreeNode,
  TreeStop,
  totalTokens,
  type Usage,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { bear, isOver } from './births.ts'
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
    const tree = treeOf(caller, run_id)
    const below = sql<boolean>`runs.root_run_id = ${tree}
      and (runs.run_id = ${run_id} or ${run_id} = runs.root_run_id or ${run_id} = any(runs.ancestors))`
    const [root, nodes, artifacts] = await Promise.all([
      db
        .selectFrom('runs')
        .innerJoin('teams', 'teams.team_id', 'runs.team_id')
        .selectAll('teams')
        .select(['runs.stopped', 'runs.tree_messages', 'runs.tree_wakes'])
        .where('runs.run_id', '=', tree)
        .executeTakeFirst(),
      readNodes(below),
      readArtifacts(below),
    ])
    if (!root) throw runNotFound(run_id)
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

  /**
   * One statement, so that the state of a run and what its execution said last are of one moment. Executions are summed
   * up here, not there: a tree has hardly more of them than runs, and to group them costs more than to send them.
   */
  async function readNodes(below: RawBuilder<boolean>): Promise<Node[]> {
    const { rows } = await sql<Row>`
      select runs.run_id, runs.parent_run_id, runs.depth, coalesce(runs.config->>'name', runs.title) as name,
        runs.title, runs.state, runs.waiting_until is not null as waiting,
        coalesce(x.harness, runs.config->'harness'->>'type', 'oz') as harness, ${utc('runs.created_at')} as created_at,
        ${utc('runs.started_at')} as started_at, ${utc('runs.ended_at')} as ended_at, x.worker_host,
        runs.undelivered, x.usage, x.last_words
      from runs left join executions x on x.run_id = runs.run_id where ${below}
      order by runs.created_at, runs.run_id, x.number desc`.execute(db)
    const nodes: Node[] = []
    for (const row of rows) {
      const newest = nodes.at(-1)
      const node = newest?.run_id === row.run_id ? newest : Object.assign(row, { used: { ...UNUSED } })
      if (node !== newest) nodes.push(node)
      node.last_words ??= row.last_words
      for (const key of USED) node.used[key] += row.usage?.[key] ?? 0
    }
    return nodes
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

  /** In the order of the request; one child's fault is no other's. */
  async function spawn(
    caller: Caller,
    asked: { base_prompt?: string | undefined; children: SpawnChild[]; key: string },
  ): Promise<Spawned[]> {
    if (caller.kind !== 'execution')
      throw new Fault('not_authorized', 'Only a running agent starts children this way; use parent_run_id.')
    const ruling = await readRuling(db, caller.run_id)
    const results: Spawned[] = []
    const base_prompt = ruling === null ? asked.base_prompt : undefined
    for (const [at, child] of asked.children.entries())
      results.push(await spawnOne(caller, child, { ruling, base_prompt, spawn_key: `${asked.key}#${at}` }))
    announce(room)
    if (asked.children.some((child) => child.where === 'sandbox'))
      bell.ring('control', { execution_id: caller.execution_id })
    return results
  }

  async function spawnOne(
    caller: ExecutionCaller,
    wanted: SpawnChild,
    { ruling, base_prompt, spawn_key }: { ruling: Ruling; base_prompt: string | undefined; spawn_key: string },
  ): Promise<Spawned> {
    const { name } = wanted
    try {
      const child = asApproved(ruling, wanted)
      const born = await stopping(room, () =>
        db.transaction().execute((write) =>
          bear(room, write, caller, {
            parent_run_id: caller.run_id,
            body: bodyOf(child, base_prompt),
            source: 'ORCHESTRATION',
            spawn_key,
            name,
          }),
        ),
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
    events.push({ team_id: caller.team_id, event_type: 'tree_released', run_id: root_run_id })
    return runs
  }

  return { get, spawn, release }
}

const RELEASED = {
  subject: 'The tree of agents is released',
  body: `The tree of agents that you belong to was stopped by a limit, and a person has let it go on. If that \
interrupted you, go on where you were. If you were waiting for events, wait again.`,
}

/** The root of the tree that a run belongs to; none where the caller may not see it. An execution sees its own tree. */
function treeOf(caller: Caller, run_id: string): RawBuilder<string> {
  const tree = sql`select top.root_run_id from runs as top where top.run_id = ${run_id} and ${visibleTo(caller, 'top')}`
  if (caller.kind !== 'execution') return sql`(${tree})`
  const own = sql`select own.root_run_id from runs as own where own.run_id = ${caller.run_id}`
  return sql`(${tree} and top.root_run_id = (${own}))`
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

const renderNode = (node: Node): TreeNode => ({
  run_id: node.run_id,
  parent_run_id: node.parent_run_id,
  depth: node.depth,
  name: node.name,
  title: node.title,
  state: node.state,
  waiting: node.waiting,
  harness: node.harness,
  created_at: isoOf(node.created_at),
  started_at: node.started_at && isoOf(node.started_at),
  ended_at: node.ended_at && isoOf(node.ended_at),
  ...(node.worker_host === null ? {} : { worker_host: node.worker_host }),
  ...(node.last_words === null ? {} : { last_words: oneLine(node.last_words) }),
  undelivered: node.undelivered,
  total_tokens: totalTokens(node.used),
})

/** As PostgreSQL writes it: to make a `Date` of it, only to write that, costs more than all else of a row. */
const utc = (column: string): RawBuilder<string | null> => sql`(${sql.ref(column)} at time zone 'UTC')::text`

/** As the API writes it, in whole milliseconds. */
const isoOf = (text: string) => `${text.slice(0, 10)}T${text.slice(11, 19)}.${text.slice(20, 23).padEnd(3, '0')}Z`

/** Single spaces, which most are, are left alone. */
const oneLine = (text: string): string => text.replace(/[^\S ]\s*| \s+/g, ' ').trim()

function countStates(nodes: Node[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { state } of nodes) counts[state] = (counts[state] ?? 0) + 1
  return counts
}

function usageOf(nodes: Node[]): Tree['usage'] {
  const used = { ...UNUSED }
  for (const node of nodes) for (const key of USED) used[key] += node.used[key]
  const { cost_usd, cpu_seconds, ...tokens } = used
  return { total_tokens: totalTokens(tokens), ...tokens, inference_cost_usd: cost_usd, cpu_seconds }
}

const UNUSED = {
  input_tokens: 0,
  output_tokens: 0,
  cache_read_tokens: 0,
  cache_write_tokens: 0,
  cost_usd: 0,
  cpu_seconds: 0,
} satisfies Usage
const USED = Object.keys(UNUSED) as (keyof typeof UNUSED)[]

/** A run and one of its executions, if it has any. */
type Row = Omit<TreeNode, 'worker_host' | 'last_words' | 'total_tokens'> & {
  worker_host: string | null
  usage: Usage | null
  last_words: string | null
}

type Node = Row & { used: typeof UNUSED }

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
