/** What the page asks the server for, as queries. The keys are those that the stream patches. */
import { infiniteQueryOptions, MutationCache, QueryClient, queryOptions } from '@tanstack/react-query'
import { type Batch, type BatchTask, type Event, Fault, type Run } from '../../contract/index.ts'
import { type Client, connect } from '../../sdk/client.ts'
import { queryOfFilter, type RunFilter, statesWanted } from './filter.ts'
import { EVENTS_READ, type Happenings } from './happenings.ts'
import { type Letters, renewLetters } from './letters.ts'
import type { LiveText } from './live.ts'
import { FIRST_ENTRIES, renewEnd, type TranscriptWindow } from './transcript.ts'

/** Runs read at once for the list. */
export const LIST_RUNS = 50
/** Children of one run read at once. */
export const LIST_CHILDREN = 100
/** Messages that nobody has been given yet are looked at again after this long, in milliseconds. */
const UNDELIVERED_MS = 3000
/** Plans, and runs without one, that wait for a person: so many of each are read. */
const NEEDS_READ = 200
/** Batches read at once for their list. */
const LIST_BATCHES = 50
/** Tasks of a batch read at once. */
const TASKS_READ = 2500

export const keys = {
  whoami: ['whoami'],
  workers: ['workers'],
  lists: ['runs', 'list'],
  list: (filter: RunFilter) => ['runs', 'list', filter],
  run: (run_id: string) => ['runs', 'one', run_id],
  executions: (run_id: string) => ['runs', 'executions', run_id],
  children: (run_id: string) => ['runs', 'children', run_id],
  trees: ['trees'],
  tree: (run_id: string) => ['trees', run_id],
  happenings: (run_id: string) => ['happenings', run_id],
  letters: (run_id: string) => ['letters', run_id],
  letter: (message_id: string) => ['letter', message_id],
  transcript: (run_id: string) => ['transcript', run_id],
  live: (run_id: string) => ['live', run_id],
  entry: (run_id: string, position: string) => ['entry', run_id, position],
  newcomers: ['newcomers'],
  environments: ['environments'],
  plans: (run_id: string) => ['plans', run_id],
  /** What waits for a person. */
  needs: ['needs'],
  batches: ['batches', 'list'],
  batch: (batch_id: string) => ['batches', 'one', batch_id],
  tasks: (batch_id: string) => ['batches', 'tasks', batch_id],
} as const

export function makeClient(): Client {
  return connect({ server: '', headers: { 'x-oz-api-source': 'WEB_APP' } })
}

export function makeQueryClient(): QueryClient {
  const made: QueryClient = new QueryClient({
    mutationCache: new MutationCache({
      onError(error) {
        // One's role may be another by now: then the page offers something else.
        if (error instanceof Fault && error.code === 'not_authorized')
          void made.invalidateQueries({ queryKey: keys.whoami })
      },
    }),
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
  return made
}

export type ListPage = { runs: Run[]; page_info: { has_next_page: boolean; next_cursor?: string | undefined } }

type BatchPage = { batches: Batch[]; page_info: ListPage['page_info'] }

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

  /** The children of a run, in the order of their birth. */
  children: (run_id: string) =>
    infiniteQueryOptions({
      queryKey: keys.children(run_id),
      initialPageParam: undefined as string | undefined,
      queryFn: ({ pageParam, signal }): Promise<ListPage> => {
        const cursor = pageParam === undefined ? {} : { cursor: pageParam }
        const order = { sort_by: 'created_at', sort_order: 'asc' } as const
        return client.runs.list({
          query: { ancestor_run_id: run_id, limit: LIST_CHILDREN, ...order, ...cursor },
          signal,
        })
      },
      getNextPageParam: (page: ListPage) => (page.page_info.has_next_page ? page.page_info.next_cursor : undefined),
    }),

  tree: (run_id: string) =>
    queryOptions({
      queryKey: keys.tree(run_id),
      queryFn: ({ signal }) => client.trees.get({ params: { run_id }, signal }),
    }),

  /** Reads on from where what is held ends. */
  happenings: (run_id: string) =>
    queryOptions({
      queryKey: keys.happenings(run_id),
      queryFn: async ({ client: held, signal }): Promise<Happenings> => {
        const query = { ancestor_run_id: run_id, include_self: true, limit: EVENTS_READ }
        const known = held.getQueryData<Happenings>(keys.happenings(run_id))
        const last = known?.events.at(-1)?.sequence
        if (!known || last === undefined) {
          const events = await client.events.list({ query: { ...query, before: Number.MAX_SAFE_INTEGER }, signal })
          return { events, has_earlier: events.length === EVENTS_READ }
        }
        const fresh: Event[] = []
        for (let since = last; ; ) {
          const page = await client.events.list({ query: { ...query, since }, signal })
          fresh.push(...page)
          since = page.at(-1)?.sequence ?? since
          if (page.length < EVENTS_READ) break
        }
        return fresh.length === 0 ? known : { ...known, events: [...known.events, ...fresh] }
      },
      structuralSharing: false,
      gcTime: 60_000,
    }),

  letters: (run_id: string) =>
    queryOptions({
      queryKey: keys.letters(run_id),
      queryFn: async ({ client: held, signal }): Promise<Letters> =>
        renewLetters(
          held.getQueryData<Letters>(keys.letters(run_id)),
          await client.messages.mailbox({ params: { run_id }, signal }),
        ),
      gcTime: 60_000,
      // No event tells of a delivery or of a reading.
      refetchInterval: ({ state }) =>
        state.data?.messages.some((letter) => letter.delivered_at === null) ? UNDELIVERED_MS : false,
    }),

  letter: (run_id: string, message_id: string) =>
    queryOptions({
      queryKey: keys.letter(message_id),
      queryFn: ({ signal }) => client.messages.look({ params: { run_id, message_id }, signal }),
      gcTime: 60_000,
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

  environments: () =>
    queryOptions({
      queryKey: keys.environments,
      queryFn: async ({ signal }) =>
        (await client.environments.list({ query: { sort_by: 'name' }, signal })).environments,
      staleTime: 15_000,
    }),

  /** All versions of a run's plan, newest first. */
  plans: (run_id: string) =>
    queryOptions({
      queryKey: keys.plans(run_id),
      queryFn: async ({ signal }) => (await client.plans.ofRun({ params: { run_id }, signal })).plans,
    }),

  /** Plans that wait for a person, and tops of trees that do so without a plan, or whose tree does. */
  needs: () =>
    queryOptions({
      queryKey: keys.needs,
      queryFn: async ({ signal }) => {
        const [{ plans }, stopped, blocked] = await Promise.all([
          client.plans.list({ query: { state: 'proposed', limit: NEEDS_READ }, signal }),
          client.runs.list({ query: { tree_stopped: true, limit: NEEDS_READ }, signal }),
          client.runs.list({ query: { state: ['BLOCKED'], top: true, limit: NEEDS_READ }, signal }),
        ])
        const planned = new Set(plans.map((plan) => plan.run_id))
        const tops = new Map([...stopped.runs, ...blocked.runs].map((run) => [run.run_id, run]))
        return { plans, blocked: [...tops.values()].filter((run) => !planned.has(run.run_id)) }
      },
    }),

  batches: () =>
    infiniteQueryOptions({
      queryKey: keys.batches,
      initialPageParam: undefined as string | undefined,
      queryFn: ({ pageParam, signal }): Promise<BatchPage> => {
        const cursor = pageParam === undefined ? {} : { cursor: pageParam }
        return client.batches.list({ query: { limit: LIST_BATCHES, ...cursor }, signal })
      },
      staleTime: 0,
      getNextPageParam: (page: BatchPage) => (page.page_info.has_next_page ? page.page_info.next_cursor : undefined),
    }),

  batch: (batch_id: string) =>
    queryOptions({
      queryKey: keys.batch(batch_id),
      queryFn: ({ signal }) => client.batches.get({ params: { batch_id }, signal }),
    }),

  /** All tasks of a batch, in the order of its list. */
  tasks: (batch_id: string) =>
    queryOptions({
      queryKey: keys.tasks(batch_id),
      queryFn: async ({ signal }) => {
        const tasks: BatchTask[] = []
        for (;;) {
          const query = { after: tasks.at(-1)?.number ?? 0, limit: TASKS_READ }
          const page = await client.batches.tasks({ params: { batch_id }, query, signal })
          tasks.push(...page.tasks)
          if (!page.has_more) return tasks
        }
      },
      structuralSharing: false,
      gcTime: 60_000,
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
