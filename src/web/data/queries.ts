/** What the page asks the server for, as queries. The keys are those that the stream patches. */
import { infiniteQueryOptions, QueryClient, queryOptions } from '@tanstack/react-query'
import { Fault, type Run } from '../../contract/index.ts'
import { type Client, connect } from '../../sdk/client.ts'
import { queryOfFilter, type RunFilter, statesWanted } from './filter.ts'
import type { LiveText } from './live.ts'
import { FIRST_ENTRIES, renewEnd, type TranscriptWindow } from './transcript.ts'

/** Runs read at once for the list. */
export const LIST_RUNS = 50

export const keys = {
  whoami: ['whoami'],
  workers: ['workers'],
  lists: ['runs', 'list'],
  list: (filter: RunFilter) => ['runs', 'list', filter],
  run: (run_id: string) => ['runs', 'one', run_id],
  executions: (run_id: string) => ['runs', 'executions', run_id],
  transcript: (run_id: string) => ['transcript', run_id],
  live: (run_id: string) => ['live', run_id],
  entry: (run_id: string, position: string) => ['entry', run_id, position],
  newcomers: ['newcomers'],
} as const

export function makeClient(): Client {
  return connect({ server: '', headers: { 'x-oz-api-source': 'WEB_APP' } })
}

export function makeQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // The stream says when something changed; what it has not spoken of is as it was.
        staleTime: Number.POSITIVE_INFINITY,
        gcTime: 5 * 60_000,
        refetchOnWindowFocus: false,
        refetchOnReconnect: false,
        networkMode: 'always',
        // The client has already tried a passing refusal again.
        retry: false,
      },
      mutations: { networkMode: 'always', retry: false },
    },
  })
}

export type ListPage = { runs: Run[]; page_info: { has_next_page: boolean; next_cursor?: string | undefined } }

export const queries = (client: Client) => ({
  whoami: () => queryOptions({ queryKey: keys.whoami, queryFn: ({ signal }) => client.access.whoami({ signal }) }),

  workers: () =>
    queryOptions({
      queryKey: keys.workers,
      queryFn: async ({ signal }) => (await client.workers.list({ signal })).workers,
      staleTime: 15_000,
    }),

  list: (filter: RunFilter) =>
    infiniteQueryOptions({
      queryKey: keys.list(filter),
      initialPageParam: undefined as string | undefined,
      queryFn: async ({ pageParam, signal }): Promise<ListPage> => {
        if (statesWanted(filter)?.length === 0) return { runs: [], page_info: { has_next_page: false } }
        const cursor = pageParam === undefined ? {} : { cursor: pageParam }
        return client.runs.list({
          query: { limit: LIST_RUNS, sort_by: 'created_at', ...queryOfFilter(filter), ...cursor },
          signal,
        })
      },
      // Arrivals are gathered only while a list is open.
      staleTime: 0,
      getNextPageParam: (page: ListPage) => (page.page_info.has_next_page ? page.page_info.next_cursor : undefined),
    }),

  run: (run_id: string) =>
    queryOptions({
      queryKey: keys.run(run_id),
      queryFn: ({ signal }) => client.runs.get({ params: { run_id }, signal }),
    }),

  executions: (run_id: string) =>
    queryOptions({
      queryKey: keys.executions(run_id),
      queryFn: async ({ signal }) => (await client.executions.list({ params: { run_id }, signal })).executions,
    }),

  transcript: (run_id: string) =>
    queryOptions({
      queryKey: keys.transcript(run_id),
      queryFn: async ({ client: held, signal }): Promise<TranscriptWindow> => {
        const page = await client.transcripts.list({ params: { run_id }, query: { limit: FIRST_ENTRIES }, signal })
        return renewEnd(held.getQueryData<TranscriptWindow>(keys.transcript(run_id)), page)
      },
      structuralSharing: false,
      gcTime: 60_000,
    }),

  /** Filled by the stream alone. */
  live: (run_id: string) =>
    queryOptions({
      queryKey: keys.live(run_id),
      queryFn: (): LiveText[] => [],
      initialData: [],
      structuralSharing: false,
      gcTime: 60_000,
    }),

  /** Runs that began while the page was open and are in no list yet. Filled by the stream alone. */
  newcomers: () =>
    queryOptions({
      queryKey: keys.newcomers,
      queryFn: (): Run[] => [],
      initialData: [],
      gcTime: Number.POSITIVE_INFINITY,
    }),

  entry: (run_id: string, position: string) =>
    queryOptions({
      queryKey: keys.entry(run_id, position),
      queryFn: ({ signal }) => client.transcripts.get({ params: { run_id, position }, signal }),
      gcTime: 60_000,
    }),
})

export type Queries = ReturnType<typeof queries>

export const isSignedOut = (error: unknown): boolean =>
  error instanceof Fault && error.code === 'authentication_required'
