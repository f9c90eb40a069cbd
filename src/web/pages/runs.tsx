/**
 * The runs, newest first. Rows change where they stand; new ones wait behind a button unless the reader is at the
 * top.
 */
import { useInfiniteQuery, useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { ArrowUp, Plus, Search } from 'lucide-react'
import { useEffect, useState } from 'react'
import type { Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { chosenStatuses, isFiltered, type RunFilter, TABS, type Tab } from '../data/filter.ts'
import { useMay } from '../data/may.ts'
import { admitArrivals, arrivalsFor } from '../data/runs.ts'
import { useAnnounce } from '../parts/announce.tsx'
import { Empty, Refused, sentenceOf, Waiting } from '../parts/faces.tsx'
import { RunRow } from '../parts/run-row.tsx'
import { StatusIcon } from '../parts/status.tsx'
import { useTitle } from '../parts/title.ts'
import { STATUS_WORDS, STATUSES, type Status } from '../words.ts'

const TAB_WORDS: Record<Tab, string> = { all: 'All', active: 'Active', failed: 'Failed' }
/** Typing settles for this long before it becomes the address, in milliseconds. */
const TYPING_MS = 250
/** Nearer to the top than this, in pixels, new rows come in by themselves. */
const AT_TOP_PX = 24

const route = getRouteApi('/shell/runs')

export function RunsPage() {
  useTitle('Runs')
  const filter = route.useSearch()
  const { queries } = useAsking()
  const list = useInfiniteQuery(queries.list(filter))
  const may = useMay()
  const bare = !isFiltered(filter) && list.data?.pages.every((page) => page.runs.length === 0)
  return (
    <>
      <div className="flex flex-wrap items-center gap-3 pt-6 pb-4">
        <h1 className="text-xl font-semibold">Runs</h1>
        {may && <NewRun className="ml-auto" />}
      </div>
      {!bare && <Filters filter={filter} />}
      <RunList key={JSON.stringify(filter)} filter={filter} />
    </>
  )
}

function Filters({ filter }: { filter: RunFilter }) {
  const navigate = useNavigate()
  const chosen = chosenStatuses(filter)
  const toggled = (status: Status) => {
    const next = chosen.includes(status) ? chosen.filter((one) => one !== status) : [...chosen, status]
    return { ...filter, status: next.length === 0 ? undefined : next.join(',') }
  }
  return (
    <div className="flex flex-col gap-3 border-b border-line pb-4">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-3">
        <nav aria-label="Which runs" className="flex rounded-lg bg-raised p-0.5">
          {TABS.map((tab) => (
            <Link
              key={tab}
              to="/runs"
              search={{ ...filter, tab: tab === 'all' ? undefined : tab }}
              replace
              activeOptions={{ exact: true, includeSearch: true }}
              aria-current={(filter.tab ?? 'all') === tab ? 'page' : undefined}
              className="inline-flex min-h-8 items-center rounded-md px-3 font-medium text-soft pointer-coarse:min-h-10 aria-[current]:bg-page aria-[current]:text-ink aria-[current]:shadow-sm"
            >
              {TAB_WORDS[tab]}
            </Link>
          ))}
        </nav>
        <TextFilter filter={filter} />
      </div>
      <fieldset
        aria-label="Status"
        className="-mx-4 flex min-w-0 gap-1.5 overflow-x-auto px-4 py-1 [scrollbar-width:none] sm:mx-0 sm:flex-wrap sm:px-0 sm:py-0"
      >
        {STATUSES.map((status) => (
          <button
            key={status}
            type="button"
            aria-pressed={chosen.includes(status)}
            onClick={() => void navigate({ to: '/runs', search: toggled(status), replace: true })}
            className="inline-flex min-h-7 shrink-0 items-center gap-1.5 rounded-full border pointer-coarse:min-h-9 border-line px-2.5 text-sm text-soft hover:bg-raised aria-pressed:border-working aria-pressed:bg-raised aria-pressed:font-medium aria-pressed:text-ink"
          >
            <StatusIcon status={status} className="size-3.5 animate-none!" />
            {STATUS_WORDS[status]}
          </button>
        ))}
      </fieldset>
    </div>
  )
}

function TextFilter({ filter }: { filter: RunFilter }) {
  const navigate = useNavigate()
  const [text, setText] = useState(filter.q ?? '')
  const [sent, setSent] = useState(filter.q ?? '')
  // The address was changed by something other than typing: back, or a link.
  if ((filter.q ?? '') !== sent) {
    setSent(filter.q ?? '')
    setText(filter.q ?? '')
  }
  useEffect(() => {
    const q = text.trim()
    if (q === (filter.q ?? '')) return
    const timer = setTimeout(() => {
      setSent(q)
      void navigate({ to: '/runs', search: { ...filter, q: q === '' ? undefined : q }, replace: true })
    }, TYPING_MS)
    return () => clearTimeout(timer)
  }, [text, filter, navigate])
  return (
    <div className="relative min-w-48 flex-1 sm:max-w-xs">
      <Search aria-hidden className="pointer-events-none absolute inset-y-0 left-2.5 my-auto size-4 text-soft" />
      <input
        type="search"
        aria-label="Find runs by title or prompt"
        placeholder="Title or prompt"
        className="field pl-8"
        maxLength={512}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
    </div>
  )
}

function RunList({ filter }: { filter: RunFilter }) {
  const { queries } = useAsking()
  const list = useInfiniteQuery(queries.list(filter))
  if (list.isPending) return <Waiting>Loading runs…</Waiting>
  if (list.isError && !list.data)
    return <Refused title="The runs could not be read" error={list.error} onRetry={() => void list.refetch()} />
  const runs = list.data.pages.flatMap((page) => page.runs)
  return (
    <>
      {list.isRefetchError && (
        <p role="alert" className="py-3 text-failed">
          The list could not be renewed. {sentenceOf(list.error)}
        </p>
      )}
      <Arrivals filter={filter} />
      {runs.length === 0 ? <NoRuns filter={filter} /> : <Rows runs={runs} />}
      {list.hasNextPage && (
        <div className="flex flex-col items-center gap-2 py-6">
          <button
            type="button"
            className="button"
            disabled={list.isFetchingNextPage}
            onClick={() => void list.fetchNextPage()}
          >
            {list.isFetchingNextPage ? 'Loading…' : 'Load older runs'}
          </button>
          {list.isFetchNextPageError && (
            <p role="alert" className="text-failed">
              {sentenceOf(list.error)}
            </p>
          )}
        </div>
      )}
    </>
  )
}

function Rows({ runs }: { runs: Run[] }) {
  return (
    <ul aria-label="Runs" className="divide-y divide-line">
      {runs.map((run) => (
        <RunRow key={run.run_id} run={run} />
      ))}
    </ul>
  )
}

const NewRun = ({ className = '' }: { className?: string }) => (
  <Link to="/runs/new" className={`button button-first ${className}`}>
    <Plus aria-hidden className="size-4" />
    New run
  </Link>
)

function NoRuns({ filter }: { filter: RunFilter }) {
  const may = useMay()
  if (isFiltered(filter)) {
    return (
      <Empty
        title="No run matches"
        action={
          <Link to="/runs" className="button">
            Show all runs
          </Link>
        }
      >
        {filter.tab === 'active' && !filter.q && !filter.status
          ? 'Nothing is running.'
          : 'Change the filters, or show all runs.'}
      </Empty>
    )
  }
  return (
    <Empty title="No runs yet" action={may && <NewRun />}>
      A run is one piece of work given to an agent. It shows up here, live, wherever it was started: on this page, or in
      a terminal with <code className="font-mono text-sm whitespace-nowrap text-ink">baton agent run-cloud "…"</code>
    </Empty>
  )
}

function Arrivals({ filter }: { filter: RunFilter }) {
  const { queries } = useAsking()
  const held = useQueryClient()
  const announce = useAnnounce()
  const newcomers = useQuery(queries.newcomers())
  const list = useInfiniteQuery(queries.list(filter))
  const arrivals = list.data ? arrivalsFor(list.data, newcomers.data, filter) : []
  const empty = list.data?.pages.every((page) => page.runs.length === 0)
  const words = arrivals.length === 1 ? '1 new run' : `${arrivals.length} new runs`
  useEffect(() => {
    if (arrivals.length === 0) return
    if (scrollY <= AT_TOP_PX && (empty || !isFiltered(filter))) admitArrivals(held, filter, arrivals)
    else announce(words)
  })
  if (arrivals.length === 0) return null
  const show = () => {
    admitArrivals(held, filter, arrivals)
    scrollTo({ top: 0 })
  }
  return (
    <div className="sticky top-2 z-10 flex h-0 justify-center">
      <button type="button" className="button button-first mt-2 h-9 rounded-full shadow-md" onClick={show}>
        <ArrowUp aria-hidden className="size-4" />
        {words}
      </button>
    </div>
  )
}
