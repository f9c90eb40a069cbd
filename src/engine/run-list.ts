/**
 * Lists of runs. A page is found first, as ids: by an index of the team's runs that carries all that a list filters and
 * sorts by, so that no run's row is read for it. Then the runs of that page are shown.
 *
 * A walk by `created_at`, `title` or `agent` shows every run that was there when it began, once, whatever happens
 * meanwhile. By `updated_at` it never shows a run twice, and misses one that changes before the walk comes to it.
 */
import { createHash } from 'node:crypto'
import { type Kysely, type RawBuilder, type SqlBool, sql } from 'kysely'
import { z } from 'zod'
import { Fault, type ListRuns, type Run, wordsOf } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Caller } from './caller.ts'
import { CursorTime, readCursorAs, renderCursor } from './cursor.ts'
import type { Room } from './engine.ts'
import { type Label, labelsOf, skillOf } from './run-labels.ts'
import { readRuns } from './run-view.ts'
import { runNotFound } from './runs.ts'
import { visibleRuns } from './visible.ts'

/** How much of a word must be alike (trigrams in common, of all), and how long it must be for that. */
const SIMILARITY_MIN = 0.55
const SIMILAR_CHARACTERS_MIN = 5
/** How many runs are looked at one by one, in the order of the list, before another table is searched. */
const HEADS_RUNS = [100, 300]
/** So much of a page must be in the first of them: at that rate the second fills it. */
const HEAD_SHARE_MIN = 1 / 3

/** `near`: of a search for what is nearly as written. */
const Place = { sort: z.string(), id: z.uuid(), near: z.boolean().optional() }
const ByTime = z.object({
  ...Place,
  at: CursorTime,
  /** Of a walk that goes with time: it ends where it began, or what changes meanwhile would come twice. */
  until: CursorTime.optional(),
})
const ByText = z.object({
  ...Place,
  at: z
    .string()
    .refine((text) => !text.includes('\0'))
    .nullable(),
})
type Cursor = {
  sort: string
  id: string
  at: string | null
  until?: string | undefined
  near?: boolean | undefined
}
const CURSORS: Record<ListRuns['sort_by'], z.ZodType<Cursor>> = {
  updated_at: ByTime,
  created_at: ByTime,
  title: ByText,
  agent: ByText,
}

type Condition = RawBuilder<SqlBool>
type Page = { runs: Run[]; page_info: { has_next_page: boolean; next_cursor?: string } }

export function runListEngine(room: Room) {
  const db = room.database.kysely
  let searching: Promise<boolean> | undefined

  /** Whether words are also found nearly as written: where PostgreSQL may have `pg_trgm`. */
  function isFuzzy(): Promise<boolean> {
    searching ??= sql<{ there: boolean }>`select to_regclass('run_texts_search') is not null as there`
      .execute(db)
      .then(({ rows }) => rows[0]?.there ?? false)
    searching.catch(() => {
      searching = undefined
    })
    return searching
  }

  async function list(caller: Caller, query: ListRuns): Promise<Page> {
    const sort = fingerprint(query)
    const cursor = query.cursor ? readCursorAs(CURSORS[query.sort_by], query.cursor, sort) : null
    const began = cursor?.until ?? room.clock.now().toISOString()
    const conditions = await conditionsOf(caller, query, cursor)
    const { found, near } =
      conditions === null ? { found: [], near: false } : await search({ caller, query, cursor, conditions })
    const page = found.slice(0, query.limit)
    const last = page.at(-1)
    const has_next_page = found.length > query.limit
    const run_ids = page.map(({ run_id }) => run_id)
    const runs = new Map((await readRuns(room, caller, run_ids)).map((run) => [run.run_id, run]))
    const until = endsWhereItBegan(query) ? { until: began } : {}
    const next = { sort, id: last?.run_id, at: last?.at, ...until, ...(near ? { near } : {}) }
    return {
      runs: run_ids.flatMap((run_id) => runs.get(run_id) ?? []),
      page_info: { has_next_page, ...(has_next_page ? { next_cursor: renderCursor(next) } : {}) },
    }
  }

  /** What the index of the team's runs knows. Null: no run can have all that is asked for. */
  async function conditionsOf(caller: Caller, query: ListRuns, cursor: Cursor | null): Promise<Condition[] | null> {
    if (query.ancestor_run_id !== undefined) await checkAncestor(caller, query.ancestor_run_id)
    const groups = await labelsOf(room, caller, query)
    if (groups === null) return null
    return [
      visibleRuns(caller),
      ...labelled(groups),
      ...filtered(query),
      ...(cursor === null ? [] : [after(query, cursor)]),
    ]
  }

  /** What is in other tables is looked up for the first runs of the list; where too few have it, it is searched. */
  async function search({ caller, query, cursor, conditions }: Search): Promise<{ found: Found[]; near: boolean }> {
    const words = wordsOf(query.q ?? '')
    const elsewhere = (near: boolean): Elsewhere[] => [
      ...(query.artifact_type === undefined ? [] : [withArtifact(caller, query.artifact_type)]),
      ...(words.length === 0 ? [] : [written(caller, words, near)]),
    ]
    if (cursor?.near && (await isFuzzy()))
      return { found: await findNear(query, [...conditions, ...gathered(elsewhere(true))]), near: true }
    const head = elsewhere(false).length === 0 ? null : await findInHeads(query, conditions, elsewhere(false))
    if (head !== null) return { found: head, near: false }
    const found = await find(db, query, [...conditions, ...gathered(elsewhere(false))])
    const is_near = found.length === 0 && cursor === null && words.some(isLong) && (await isFuzzy())
    if (!is_near) return { found, near: false }
    return { found: await findNear(query, [...conditions, ...gathered(elsewhere(true))]), near: true }
  }

  /** A full page and one more; null: too few have it. */
  async function findInHeads(
    query: ListRuns,
    conditions: Condition[],
    elsewhere: Elsewhere[],
  ): Promise<Found[] | null> {
    for (const runs of HEADS_RUNS.filter((runs) => runs > query.limit)) {
      const found = await findInHead(query, runs, { conditions, elsewhere })
      if (found.length > query.limit) return found
      if (found.length < HEAD_SHARE_MIN * query.limit) return null
    }
    return null
  }

  /** `offset 0` has PostgreSQL ask for one run after the other, in their order, and stop at a full page. */
  async function findInHead(
    query: ListRuns,
    runs: number,
    { conditions, elsewhere }: { conditions: Condition[]; elsewhere: Elsewhere[] },
  ): Promise<Found[]> {
    const { rows } = await sql<Found>`
      select runs.run_id, ${keyOf(query)} as at from (
        select runs.run_id, ${SORTED[query.sort_by]} from runs
        where ${sql.join(conditions, sql` and `)} order by ${orderOf(query)} limit ${runs}
      ) as runs
      where ${sql.join(
        elsewhere.map(({ rows, run_id }) => sql<SqlBool>`exists (select ${rows} and ${run_id} = runs.run_id offset 0)`),
        sql` and `,
      )}
      order by ${orderOf(query)} limit ${query.limit + 1}`.execute(db)
    return rows
  }

  async function findNear(query: ListRuns, conditions: Condition[]): Promise<Found[]> {
    return db.transaction().execute(async (read) => {
      await sql`select set_config('pg_trgm.word_similarity_threshold', ${String(SIMILARITY_MIN)}, true)`.execute(read)
      return find(read, query, conditions)
    })
  }

  async function checkAncestor(caller: Caller, run_id: string): Promise<void> {
    const run = await db
      .selectFrom('runs')
      .select('run_id')
      .where('run_id', '=', run_id)
      .where(visibleRuns(caller))
      .executeTakeFirst()
    if (run) return
    throw new Fault('invalid_request', `ancestor_run_id: ${runNotFound(run_id).message}`, {
      errors: [{ pointer: '/ancestor_run_id', detail: 'no such run' }],
    })
  }

  return { list }
}

type Found = { run_id: string; at: string | null }
type Search = { caller: Caller; query: ListRuns; cursor: Cursor | null; conditions: Condition[] }
/** Rows of another table, from its `from` to conditions that `and` may follow, and its column that names their run. */
type Elsewhere = { rows: RawBuilder<unknown>; run_id: RawBuilder<unknown> }

/** One more than the page has, so that it is known whether there is another. */
async function find(read: Kysely<Tables>, query: ListRuns, conditions: Condition[]): Promise<Found[]> {
  const { rows } = await sql<Found>`select runs.run_id, ${keyOf(query)} as at from runs
    where ${sql.join(conditions, sql` and `)} order by ${orderOf(query)} limit ${query.limit + 1}`.execute(read)
  return rows
}

/** All of them at once: `offset 0` keeps PostgreSQL from asking for each run of the team, of which most have none. */
const gathered = (elsewhere: Elsewhere[]): Condition[] =>
  elsewhere.map(({ rows, run_id }) => sql`runs.run_id in (select ${run_id} ${rows} offset 0)`)

/** The list that a cursor belongs to: all that is asked for but how much at a time. */
function fingerprint(query: ListRuns): string {
  const { limit: _limit, cursor: _cursor, skill: _skill, state, metadata, ...rest } = query
  const asked = {
    ...rest,
    skill_spec: skillOf(query),
    state: state && [...new Set(state)].sort(),
    metadata: metadata && Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)),
  }
  const text = JSON.stringify(Object.entries(asked).sort(([a], [b]) => (a < b ? -1 : 1)))
  return createHash('sha256').update(text).digest('base64url').slice(0, 16)
}

const endsWhereItBegan = ({ sort_by, sort_order }: ListRuns): boolean =>
  sort_by === 'updated_at' && sort_order === 'asc'

const SORTED = {
  updated_at: sql.ref('runs.updated_at'),
  created_at: sql.ref('runs.created_at'),
  title: sql.ref('runs.sort_title'),
  agent: sql.ref('runs.sort_agent'),
} as const

/** What a page ends at, whole: to the microsecond. */
function keyOf({ sort_by }: ListRuns): RawBuilder<string | null> {
  const column = SORTED[sort_by]
  if (sort_by === 'title' || sort_by === 'agent') return sql`${column}`
  return sql`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
}

function orderOf({ sort_by, sort_order }: ListRuns): RawBuilder<unknown> {
  const column = SORTED[sort_by]
  const way = sql.raw(sort_order)
  return sort_by === 'agent'
    ? sql`${column} ${way} nulls last, runs.run_id ${way}`
    : sql`${column} ${way}, runs.run_id ${way}`
}

function after(query: ListRuns, { id, at, until }: Cursor): Condition {
  const column = SORTED[query.sort_by]
  const beyond = sql.raw(query.sort_order === 'asc' ? '>' : '<')
  switch (query.sort_by) {
    case 'updated_at':
    case 'created_at': {
      const next = sql<SqlBool>`(${column}, runs.run_id) ${beyond} (${at}::timestamptz, ${id}::uuid)`
      return until === undefined ? next : sql`${next} and ${column} <= ${until}::timestamptz`
    }
    case 'title':
      return sql`(${column}, runs.run_id) ${beyond} (${at}::text, ${id}::uuid)`
    case 'agent':
      if (at === null) return sql`${column} is null and runs.run_id ${beyond} ${id}::uuid`
      return sql`(${column} is null or (${column}, runs.run_id) ${beyond} (${at}::text, ${id}::uuid))`
  }
}

function labelled(groups: Label[][]): Condition[] {
  const all = groups.filter((group) => group.length === 1).flat()
  const choices = groups.filter((group) => group.length > 1)
  return [
    ...(all.length === 0 ? [] : [sql<SqlBool>`runs.labels @> ${hashes(all)}`]),
    ...choices.map((group) => sql<SqlBool>`runs.labels && ${hashes(group)}`),
  ]
}

const hashes = (labels: Label[]): RawBuilder<unknown> =>
  sql`array[${sql.join(labels.map(({ kind, value }) => sql`run_label(${kind}, ${value})`))}]`

function filtered(query: ListRuns): Condition[] {
  const { state = [], created_after, created_before, updated_after, ancestor_run_id } = query
  const conditions: Condition[] = []
  if (state.length > 0) conditions.push(sql`runs.state in (${sql.join([...new Set(state)])})`)
  if (created_after) conditions.push(sql`runs.created_at > ${created_after}::timestamptz`)
  if (created_before) conditions.push(sql`runs.created_at < ${created_before}::timestamptz`)
  if (updated_after) conditions.push(sql`runs.updated_at > ${updated_after}::timestamptz`)
  if (query.tree_stopped) conditions.push(sql`runs.stopped is not null`)
  if (ancestor_run_id) conditions.push(sql`runs.parent_run_id = ${ancestor_run_id}`)
  return conditions
}

const withArtifact = ({ team_id }: Caller, artifact_type: string): Elsewhere => ({
  rows: sql`from artifacts a where a.team_id = ${team_id} and a.artifact_type = ${artifact_type}`,
  run_id: sql.ref('a.run_id'),
})

const isLong = (word: string): boolean => word.length >= SIMILAR_CHARACTERS_MIN

/**
 * Every word stands in the run's text or, where `near` will do, something very like it. That is asked where no run has
 * them all, so a word by itself is not looked for as it is written once more.
 */
function written({ team_id }: Caller, words: string[], near: boolean): Elsewhere {
  const found = words.map((word) => {
    const within = sql<SqlBool>`t.text ilike ${`%${word.replace(/[\\%_]/g, '\\$&')}%`}`
    if (!near || !isLong(word)) return within
    const alike = sql<SqlBool>`${word} <% t.text`
    return words.length === 1 ? alike : sql<SqlBool>`(${within} or ${alike})`
  })
  return {
    rows: sql`from run_texts t where t.team_id = ${team_id} and ${sql.join(found, sql` and `)}`,
    run_id: sql.ref('t.run_id'),
  }
}
