/** What the list of runs shows: the search parameters of its address, and which runs they mean. */
import { z } from 'zod'
import type { ListRuns, Run, RunState } from '../../contract/index.ts'
import { STATUSES, type Status, statesOf } from '../words.ts'

export const TABS = ['all', 'active', 'failed'] as const
export type Tab = (typeof TABS)[number]

export const RunFilter = z.object({
  tab: z.enum(TABS).optional().catch(undefined),
  /** Status words with commas between. */
  status: z.string().optional().catch(undefined),
  q: z.coerce.string().max(512).optional().catch(undefined),
})
export type RunFilter = z.infer<typeof RunFilter>

const TAB_STATUSES: Record<Tab, Status[]> = {
  all: [],
  active: ['queued', 'starting', 'working', 'needs_you'],
  failed: ['failed'],
}

export function chosenStatuses(filter: RunFilter): Status[] {
  return STATUSES.filter((status) => (filter.status ?? '').split(',').includes(status))
}

/** The states that a filter lets through; undefined: all. An empty list: none can be. */
export function statesWanted(filter: RunFilter): RunState[] | undefined {
  const of_tab = TAB_STATUSES[filter.tab ?? 'all']
  const chosen = chosenStatuses(filter)
  if (of_tab.length === 0 && chosen.length === 0) return undefined
  const both =
    of_tab.length === 0 ? chosen : chosen.length === 0 ? of_tab : of_tab.filter((status) => chosen.includes(status))
  return both.flatMap(statesOf)
}

export function queryOfFilter(filter: RunFilter): Partial<ListRuns> {
  const state = statesWanted(filter)
  const q = filter.q?.trim()
  // Children stand under their parents, unless they are looked for.
  if (!isFiltered(filter)) return { top: true }
  return { ...(state === undefined ? {} : { state }), ...(q ? { q } : {}) }
}

/** The same question that the server answers for a list, asked of one run. */
export function isWanted(filter: RunFilter, run: Run): boolean {
  if (!isFiltered(filter)) return run.parent_run_id === undefined
  const states = statesWanted(filter)
  if (states !== undefined && !states.includes(run.state)) return false
  const q = filter.q?.trim().toLowerCase()
  return !q || run.title.toLowerCase().includes(q) || run.prompt.toLowerCase().includes(q)
}

export const isFiltered = (filter: RunFilter): boolean =>
  (filter.tab ?? 'all') !== 'all' || chosenStatuses(filter).length > 0 || Boolean(filter.q?.trim())
