/** Runs in the query cache: reading those that changed, and putting them in their place without moving others. */
import type { InfiniteData, QueryClient } from '@tanstack/react-query'
import { Fault, type Run } from '../../contract/index.ts'
import { type Client, Unreachable } from '../../sdk/client.ts'
import { isWanted, type RunFilter } from './filter.ts'
import { keys, type ListPage } from './queries.ts'

type ListData = InfiniteData<ListPage, unknown>

/** Above this many changed runs at once, what is shown is read again as a whole. */
const READ_ONE_BY_ONE_MAX = 12
/** Newcomers kept for the lists to show, newest first. */
const NEWCOMERS_MAX = 200

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

/**
 * Everywhere that the run is held. A list keeps it where it stands, also when its filter no longer wants it: rows
 * do not jump.
 */
export function putRun(queries: QueryClient, run: Run): void {
  const newer = (held: Run) => (held.run_id === run.run_id ? run : held)
  queries.setQueryData<Run>(keys.run(run.run_id), (held) => held && run)
  queries.setQueriesData<ListData>({ queryKey: keys.lists }, (list) => {
    if (!list?.pages.some((page) => page.runs.some((held) => held.run_id === run.run_id))) return list
    return { ...list, pages: list.pages.map((page) => ({ ...page, runs: page.runs.map(newer) })) }
  })
  queries.setQueryData<Run[]>(keys.newcomers, (runs) =>
    runs?.some((held) => held.run_id === run.run_id) ? runs.map(newer) : runs,
  )
}

function isShown(queries: QueryClient, run_id: string): boolean {
  if (queries.getQueryData(keys.run(run_id))) return true
  return queries
    .getQueriesData<ListData>({ queryKey: keys.lists })
    .some(([, list]) => list?.pages.some((page) => page.runs.some((run) => run.run_id === run_id)))
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
