/**
 * The storm guard: what a tree of runs may use before a person looks at it. It is judged where messages are accepted
 * and children are born, under the root's lock, and tokens also where their use is reported; a tree that went over
 * stops: its agents can neither send nor start anything and are told nothing, its root is BLOCKED, what is at work is
 * BLOCKED too and its turn interrupted, what has not begun does not begin. See `docs/decisions/0017-halted-trees.md`.
 */
import type { Kysely, Selectable } from 'kysely'
import { sql } from 'kysely'
import { AgentConfig, type Fault, harnessOf, type STOPS } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Runs, Teams } from '../db/tables.ts'
import { isOver, stoppedTree } from './births.ts'
import type { Room } from './engine.ts'
import { logged } from './log.ts'
import { announce, followAll, type NamedStep } from './transitions.ts'

type Reason = (typeof STOPS)[number]
export type Storm = { root_run_id: string; reason: Reason; message: string }

/** What is BLOCKED waits for a person, however long it takes. */
const STOPPED_MS = 3650 * 24 * 3_600_000

/** A run with what its team allows a tree. */
export type Guarded = Pick<Selectable<Runs>, (typeof GUARDED)[number]> &
  Pick<Selectable<Teams>, 'max_hops' | 'max_tree_messages' | 'max_tree_wakes' | 'max_tree_tokens'>

/** Of a run's row what its messages are judged by. */
export const GUARDED = [
  'run_id',
  'team_id',
  'owner_user_id',
  'root_run_id',
  'execution_id',
  'execution_location',
  'placement',
  'state',
  'config',
  'messages',
  'hop',
  'cause_id',
  'stopped',
  'released',
  'tree_messages',
  'tree_wakes',
] as const satisfies (keyof Selectable<Runs>)[]

/**
 * Null: all is within limits. Messages of people are not counted against an agent's hops. The roots of the recipients
 * are locked, and as they are now.
 */
export async function checkStorm(
  write: Kysely<Tables>,
  asked: { roots: Guarded[]; recipients: Guarded[]; sender: Guarded | null },
): Promise<Storm | null> {
  const { roots, recipients, sender } = asked
  for (const root of roots) {
    if (root.stopped !== null && sender !== null) throw stoppedTree(root.stopped)
    const own = recipients.filter((run) => run.root_run_id === root.run_id)
    const grants = root.released + 1
    const hop = sender === null ? 0 : sender.hop + 1
    const wakes = own.filter((run) => isOver(run.state)).length
    const over = (reason: Reason, limit: Limit, what: string): Storm => ({
      root_run_id: root.run_id,
      reason,
      message: `${what}, which is more than ${allowed(limit, root[limit], root.released)}.`,
    })
    if (sender === null) continue
    if (hop > root.max_hops * grants)
      return over('hops', 'max_hops', `A chain of messages, each caused by the one before, reached ${hop}`)
    if (root.tree_messages + own.length > root.max_tree_messages * grants)
      return over('messages', 'max_tree_messages', `Its runs sent ${root.tree_messages + own.length} messages`)
    if (root.tree_wakes + wakes > root.max_tree_wakes * grants)
      return over('wakes', 'max_tree_wakes', `Its runs woke each other ${root.tree_wakes + wakes} times`)
    if (root.max_tree_tokens !== null) {
      const storm = await checkTokens(write, root.run_id)
      if (storm) return storm
    }
  }
  return null
}

type Limit = 'max_hops' | 'max_tree_messages' | 'max_tree_wakes'

/** By its name in the team's limits. A tree has it once more for each time that it was released. */
const allowed = (name: Limit | 'max_tree_tokens', limit: number, released: number): string =>
  released === 0
    ? `the team's limit of ${limit} (${name})`
    : `its limit of ${limit * (released + 1)} (${name} is ${limit}, and ${limit * released} more by releases)`

async function tokensOf(write: Kysely<Tables>, root_run_id: string): Promise<number> {
  const { rows } = await sql<{ tokens: number }>`
    select coalesce(sum((e.usage->>'input_tokens')::float8 + (e.usage->>'output_tokens')::float8
      + (e.usage->>'cache_read_tokens')::float8 + (e.usage->>'cache_write_tokens')::float8), 0) as tokens
    from executions e join runs using (run_id) where runs.root_run_id = ${root_run_id}`.execute(write)
  return rows[0]?.tokens ?? 0
}

/** Null: the tree is within its tokens, or was stopped already. */
export async function checkTokens(read: Kysely<Tables>, root_run_id: string): Promise<Storm | null> {
  const root = await read
    .selectFrom('runs')
    .innerJoin('teams', 'teams.team_id', 'runs.team_id')
    .select(['teams.max_tree_tokens', 'runs.released', 'runs.stopped'])
    .where('runs.run_id', '=', root_run_id)
    .executeTakeFirst()
  if (!root || root.max_tree_tokens === null || root.stopped !== null) return null
  const tokens = await tokensOf(read, root_run_id)
  if (tokens <= root.max_tree_tokens * (root.released + 1)) return null
  const most = allowed('max_tree_tokens', root.max_tree_tokens, root.released)
  const message = `Its runs used ${tokens} tokens, which is more than ${most}.`
  return { root_run_id, reason: 'tokens', message }
}

/** Thrown out of a transaction that a storm forbids; `stopping` stops the tree after it. */
export class TreeStorm extends Error {
  override readonly name = 'TreeStorm'
  readonly storm: Storm
  constructor(storm: Storm) {
    super(storm.message)
    this.storm = storm
  }
}

export async function stopping<T>(room: Room, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (thrown) {
    if (!(thrown instanceof TreeStorm)) throw thrown
    throw await stopTree(room, thrown.storm)
  }
}

/** After usage was reported: a tree that sends no messages is stopped as well. */
export async function stopIfOverTokens(room: Room, root_run_id: string): Promise<void> {
  const storm = await checkTokens(room.database.kysely, root_run_id)
  if (storm) await stopTree(room, storm)
}

/** Stops the tree in a transaction of its own: the message that was one too many is not accepted. Answers the fault. */
export async function stopTree(room: Room, { root_run_id, reason, message }: Storm): Promise<Fault> {
  const now = room.clock.now()
  const stopped = { reason, message, at: now.toISOString() }
  const { runs, before } = await logged(room, async (write, events) => {
    const runs = await lockTree(write, root_run_id)
    const root = runs.find((run) => run.run_id === root_run_id)
    if (root === undefined || root.stopped !== null) return { runs: [], before: root?.stopped }
    await write.updateTable('runs').set({ halted: true }).where('root_run_id', '=', root_run_id).execute()
    await write
      .updateTable('runs')
      .set({ stopped: JSON.stringify(stopped), updated_at: now })
      .where('run_id', '=', root_run_id)
      .execute()
    await followAll(
      write,
      runs.flatMap((run) => haltOf(run, now, message) ?? []),
    )
    // Of the top, whatever its state: one that has ended stays so, and is never BLOCKED.
    events.push({ team_id: root.team_id, event_type: 'tree_stopped', run_id: root_run_id, ref_id: reason })
    return { runs, before: null }
  })
  announce(room)
  tellTree(room, runs)
  return stoppedTree(before ?? stopped)
}

/**
 * All runs of a tree, locked in the order of their ids as by whoever writes messages; nothing is born in it meanwhile.
 * What was born while its root was waited for is seen only by a second look.
 */
export async function lockTree(write: Kysely<Tables>, root_run_id: string): Promise<Selectable<Runs>[]> {
  const look = () =>
    write
      .selectFrom('runs')
      .selectAll()
      .where('root_run_id', '=', root_run_id)
      .orderBy('run_id')
      .forNoKeyUpdate()
      .execute()
  await look()
  return look()
}

/** Runners, workers and held calls look what has become of their runs. */
export function tellTree(room: Pick<Room, 'bell'>, runs: Selectable<Runs>[]): void {
  for (const { execution_id, state } of runs)
    if (execution_id !== null && !isOver(state)) room.bell.ring('control', { execution_id })
}

/** Who waits for events, or is a plain command, uses no tokens: that is left as it is. So is an open plan. */
function haltOf(run: Selectable<Runs>, now: Date, why: string): NamedStep | null {
  const { run_id, state } = run
  const is_root = run_id === run.root_run_id
  const works = run.waiting_until === null && run.execution_id !== null && isAgent(run)
  if (state === 'INPROGRESS' && (is_root || works)) {
    const waiting_until = new Date(now.getTime() + STOPPED_MS)
    return { name: 'block', run_id, now, set: { waiting_until, status_message: `Its tree was stopped: ${why}` } }
  }
  if (state !== 'PENDING' && state !== 'CLAIMED') return null
  // Nothing has begun: it is offered again when the tree is released.
  const set = { state: 'ended', outcome: 'LAPSED', ended_at: now, expires_at: null } as const
  return { name: 'release', run_id, now, execution: { from: ['offered', 'claimed'], set } }
}

export const isAgent = (run: Pick<Selectable<Runs>, 'config'>): boolean =>
  harnessOf(AgentConfig.parse(run.config)) !== 'command'
