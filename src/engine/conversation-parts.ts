/**
 * What a conversation is made of: runs, in order. A fork begins with those that it was made from, each up to where it
 * stood then; after them, as in every conversation, come the runs that went on with it, in the order they were made.
 */
import { type Kysely, type RawBuilder, type SqlBool, sql } from 'kysely'
import { z } from 'zod'
import { CONVERSATION_CHILDREN_MAX, type CreateRun, Fault } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller } from './caller.ts'
import { visibleRuns } from './visible.ts'

/** `until`: the last entry that belongs to it, and when that was; null: all that the run has. */
export type Part = { run_id: string; until: Until | null }
type Until = Position & { at: Date; children: ForkedChild[] }
/** Of an entry: its execution's number in the run, and its own in the execution. */
export type Position = { execution_number: number; number: number }

/** A run below a part, as it stood when that was forked. Its number is 0 where it had no entries. */
const ForkedChild = z.object({
  run_id: z.string(),
  execution_number: z.int(),
  number: z.int(),
  state: z.string(),
})
type ForkedChild = z.infer<typeof ForkedChild>

type Row = {
  run_id: string
  execution_number: number | null
  entries: number | null
  forked_at: Date | null
  children: unknown
  visible: boolean
}

/** `visible` is a condition on the table `runs`; `hidden`: some parts are not visible, and left out. */
export async function partsOf(
  db: Kysely<Tables>,
  conversation_id: string,
  visible: RawBuilder<SqlBool>,
): Promise<{ parts: Part[]; hidden: boolean }> {
  const { rows } = await sql<Row>`
    select runs.run_id, p.execution_number, p.entries, p.forked_at, p.children, (${visible}) as visible, p.number,
        runs.created_at
      from conversation_parts p join runs on runs.run_id = p.run_id where p.conversation_id = ${conversation_id}
    union all
    select runs.run_id, null, null, null, null, (${visible}), null, runs.created_at
      from runs where runs.conversation_id = ${conversation_id}
    order by number nulls last, created_at, run_id`.execute(db)
  const seen = rows.filter((row) => row.visible)
  return { parts: seen.map(partOf), hidden: seen.length < rows.length }
}

/** What came before this run in its conversation, oldest first; for most, which begin their own, nothing. */
export async function partsBefore(
  db: Kysely<Tables>,
  { run_id, conversation_id, created_at }: { run_id: string; conversation_id: string; created_at: Date },
): Promise<Part[]> {
  // Named by the run that began it.
  if (run_id === conversation_id) return []
  const before = sql<SqlBool>`(runs.conversation_id <> ${conversation_id}
    or (runs.created_at, runs.run_id) < (${created_at}, ${run_id}))`
  return (await partsOf(db, conversation_id, before)).parts
}

/**
 * The conversation of a new run, and its title where one is said. A run is given all of the conversation that it goes
 * on with, so its maker must see all of it; else he forks what he sees.
 */
export async function continuedBy(
  db: Kysely<Tables>,
  caller: Caller,
  { conversation_id, title: said, prompt }: Pick<CreateRun, 'conversation_id' | 'title' | 'prompt'>,
): Promise<{ conversation_id: string | null; title?: string }> {
  const title = said?.trim() ? said : undefined
  if (conversation_id === undefined) return { conversation_id: null, ...(title === undefined ? {} : { title }) }
  const { parts, hidden } = await partsOf(db, conversation_id, visibleRuns(caller))
  const refuse = (why: string, detail: string) =>
    new Fault('invalid_request', why, { errors: [{ pointer: '/conversation_id', detail }] })
  if (parts.length === 0) throw refuse(`There is no conversation ${conversation_id}.`, 'no such conversation')
  if (hidden)
    throw refuse(
      'Runs that you may not see have gone on with this conversation. Fork it, and go on with the fork.',
      'not all of it is visible',
    )
  const named = title ?? (await titleOf(db, conversation_id, prompt?.trim() ? [] : parts.map(({ run_id }) => run_id)))
  return { conversation_id, ...(named === null ? {} : { title: named }) }
}

/** The title it was given, else that of the first of these runs. */
export async function titleOf(db: Kysely<Tables>, conversation_id: string, run_ids: string[]): Promise<string | null> {
  const { rows } = await sql<{ title: string | null }>`
    select coalesce((select title from conversations where conversation_id = ${conversation_id}),
      (select title from runs
        where run_id = any(${run_ids}::uuid[]) order by created_at, run_id limit 1)) as title`.execute(db)
  return rows[0]?.title ?? null
}

/** Where each of these runs stands now. */
export async function positionsOf(db: Kysely<Tables>, run_ids: string[]): Promise<Map<string, Position>> {
  const { rows } = await sql<{ run_id: string } & Position>`
    select distinct on (run_id) run_id, execution_number, number from entries where run_id = any(${run_ids}::uuid[])
    order by run_id, execution_number desc, number desc`.execute(db)
  return new Map(rows.map(({ run_id, ...position }) => [run_id, position]))
}

/** All runs below each of these, as they stand now: those that are nearest first, as many as are ever told. */
export async function childrenNow(db: Kysely<Tables>, run_ids: string[]): Promise<Map<string, ForkedChild[]>> {
  const { rows } = await sql<ForkedChild & { above: string }>`
    select above, run_id, state, coalesce(last.execution_number, 0) as execution_number,
      coalesce(last.number, 0) as number
    from unnest(${run_ids}::uuid[]) as above, lateral (
      select child.run_id, child.state, child.depth, child.created_at from runs child
      where child.root_run_id = (select own.root_run_id from runs own where own.run_id = above)
        and child.ancestors && array[above]
      order by child.depth, child.created_at, child.run_id limit ${CONVERSATION_CHILDREN_MAX + 1}
    ) as child left join lateral (
      select execution_number, number from entries where entries.run_id = child.run_id
      order by execution_number desc, number desc limit 1
    ) as last on true
    order by child.depth, child.created_at, child.run_id`.execute(db)
  const found = new Map<string, ForkedChild[]>()
  for (const { above, ...child } of rows) found.set(above, [...(found.get(above) ?? []), child])
  return found
}

const partOf = ({ run_id, execution_number, entries, forked_at, children }: Row): Part => ({
  run_id,
  until:
    execution_number === null || entries === null || forked_at === null
      ? null
      : { execution_number, number: entries, at: forked_at, children: z.array(ForkedChild).parse(children ?? []) },
})
