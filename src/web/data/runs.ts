/** Runs in the query cache: reading those that changed, and putting them in their place without moving others. */
import type { InfiniteData, Query, QueryClient } from '@tanstack/react-query'
import { Fault, type Run, type Tree } from '../../contract/index.ts'
import { type Client, Unreachable } from '../../sdk/client.ts'
import { isWanted, type RunFilter } from './filter.ts'
import { keys, type ListPage } from './queries.ts'

/** Keys of what holds runs as rows. */
const LISTED = [keys.lists, ['runs', 'children']]

type ListData = InfiniteData<ListPage, unknown>

/** Above this many changed runs at once, what is shown is read again as a whole. */
const READ_ONE_BY_ONE_MAX = 12
/** Newcomers kept for the lists to show, newest first. */
const NEWCOMERS_MAX = 200

/** A tree is read again no sooner than this after the last time, and a millisecond later for each of its runs. */
const TREE_MS = 400

/** Resolves to false when something could not be read, so that what is shown is now behind. */
export async function readChanged(client: Client, queries: QueryClient, run_ids: string[]): Promise<boolean> {
  if (run_ids.length > READ_ONE_BY_ONE_MAX) {
    await queries.invalidateQueries({ queryKey: ['runs'] })
    return true
  }
  const listed = queries.getQueryCache().findAll({ queryKey: keys.lists, type: 'active' }).length > 0
  const read = await Promise.all(
    run_ids
      .filter((run_id) => listed || isShown(queries, run_id))
      .map(async (run_id) => {
        try {
          const run = await client.runs.get({ params: { run_id } })
          putRun(queries, run)
          if (listed) addNewcomer(queries, run)
          if (run.parent_run_id !== undefined) await readParent(client, queries, run, run_ids)
          await queries.invalidateQueries({ queryKey: keys.executions(run_id) })
          return true
        } catch (error) {
          // A run that is gone or not ours to see has no place. Anything else is the line, or a server in trouble.
          if (error instanceof Fault && error.status < 500) return true
          if (error instanceof Fault || error instanceof Unreachable) return false
          throw error
        }
      }),
  )
  return read.every(Boolean)
}

/** What a row says of its children is true as long as it is read when they change. */
async function readParent(client: Client, queries: QueryClient, run: Run, reading: string[]): Promise<void> {
  const run_id = run.parent_run_id
  if (run_id === undefined) return
  const children = queries.getQueryData<ListData>(keys.children(run_id))
  if (children && !children.pages.some((page) => page.runs.some((held) => held.run_id === run.run_id)))
    void queries.invalidateQueries({ queryKey: keys.children(run_id) })
  if (isShown(queries, run_id) && !reading.includes(run_id))
    putRun(queries, await client.runs.get({ params: { run_id } }))
}

/**
 * What is shown around a run: events and messages where the run or a child of it changed, and trees that hold one that
 * changed. A birth is an event of the parent, so that children born later join by themselves.
 */
export function renewAround(queries: QueryClient, run_ids: string[]): void {
  const changed = new Set(run_ids)
  for (const query of queries.getQueryCache().findAll({ type: 'active' })) {
    const [what, run_id] = query.queryKey
    if (typeof run_id !== 'string') continue
    if (what === 'trees') {
      const tree = queries.getQueryData<Tree>(query.queryKey)
      if (tree?.nodes.some((node) => changed.has(node.run_id))) void renewTree(queries, query, tree.nodes.length)
    }
    if (what !== 'happenings' && what !== 'letters') continue
    const children = queries.getQueryData<Run>(keys.run(run_id))?.children ?? []
    if (changed.has(run_id) || children.some((child) => changed.has(child)))
      void queries.invalidateQueries({ queryKey: query.queryKey, exact: true })
  }
}

async function renewTree(queries: QueryClient, query: Query, runs: number): Promise<void> {
  if (query.state.isInvalidated) return
  query.invalidate()
  const rest = query.state.dataUpdatedAt + TREE_MS + runs - Date.now()
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, rest)))
  await queries.refetchQueries({ queryKey: query.queryKey, exact: true, type: 'active' })
}

/**
 * Everywhere that the run is held. A list keeps it where it stands, also when its filter no longer wants it: rows
 * do not jump.
 */
export function putRun(queries: QueryClient, run: Run): void {
  const newer = (held: Run) => (held.run_id === run.run_id ? run : held)
  queries.setQueryData<Run>(keys.run(run.run_id), (held) => held && run)
  for (const queryKey of LISTED)
    queries.setQueriesData<ListData>({ queryKey }, (list) => {
      if (!list?.pages.some((page) => page.runs.some((held) => held.run_id === run.run_id))) return list
      return { ...list, pages: list.pages.map((page) => ({ ...page, runs: page.runs.map(newer) })) }
    })
  queries.setQueryData<Run[]>(keys.newcomers, (runs) =>
    runs?.some((held) => held.run_id === run.run_id) ? runs.map(newer) : runs,
  )
}

function isShown(queries: QueryClient, run_id: string): boolean {
  if (queries.getQueryData(keys.run(run_id))) return true
  return LISTED.some((queryKey) =>
    queries
      .getQueriesData<ListData>({ queryKey })
      .some(([, list]) => list?.pages.some((page) => page.runs.some((run) => run.run_id === run_id))),
  )
}

function addNewcomer(queries: QueryClient, run: Run): void {
  queries.setQueryData<Run[]>(keys.newcomers, (runs = []) =>
    [run, ...runs.filter((held) => held.run_id !== run.run_id)].slice(0, NEWCOMERS_MAX),
  )
}

/** Newcomers that belong into this list and are not in it. */
export function arrivalsFor(list: ListData, newcomers: Run[], filter: RunFilter): Run[] {
  const held = new Set(list.pages.flatMap((page) => page.runs.map((run) => run.run_id)))
  const last = list.pages.at(-1)
  const end = last?.page_info.has_next_page ? last.runs.at(-1)?.created_at : undefined
  return newcomers.filter(
    (run) => !held.has(run.run_id) && isWanted(filter, run) && (end === undefined || run.created_at > end),
  )
}

/** Puts arrivals into the list, newest first. */
export function admitArrivals(queries: QueryClient, filter: RunFilter, arrivals: Run[]): void {
  queries.setQueryData<ListData>(keys.list(filter), (list) => {
    const [first, ...rest] = list?.pages ?? []
    if (!list || !first) return list
    const held = new Set(list.pages.flatMap((page) => page.runs.map((run) => run.run_id)))
    const fresh = arrivals.filter((run) => !held.has(run.run_id))
    const runs = [...fresh, ...first.runs].sort((a, b) =>
      a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : 0,
    )
    return { ...list, pages: [{ ...first, runs }, ...rest] }
  })
}
