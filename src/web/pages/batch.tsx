/** One batch: how far it is, what can be done with it, and each of its tasks. */
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { ArrowLeft } from 'lucide-react'
import { useEffect, useRef } from 'react'
import { type Batch, Fault, TASK_STATES, type TaskState } from '../../contract/index.ts'
import { renewTasks } from '../data/batches.ts'
import { useAsking, useConnection } from '../data/context.tsx'
import { useAnnounce } from '../parts/announce.tsx'
import { BatchActions } from '../parts/batch-actions.tsx'
import { BatchBar, BatchStatus, batchWord, countsWords, TASK_STATUS, TASK_WORDS } from '../parts/batch-state.tsx'
import { BatchTasks } from '../parts/batch-tasks.tsx'
import { Length, When } from '../parts/clock.tsx'
import { Empty, Refused, sentenceOf, Waiting } from '../parts/faces.tsx'
import { StatusIcon } from '../parts/status.tsx'
import { useTitle } from '../parts/title.ts'
import { dollarWords } from '../words.ts'

/** What tasks at work say is looked at again after this long, in milliseconds: no event tells of it. */
const WORDS_MS = 4000

const route = getRouteApi('/shell/batches/$batchId')

export function BatchPage() {
  const { batchId } = route.useParams()
  const { queries } = useAsking()
  const batch = useQuery(queries.batch(batchId))
  useTitle(batch.data ? `${batchWord(batch.data)}: ${batch.data.title}` : 'Batch')
  return (
    <div className="flex min-h-[calc(100dvh-3.5rem)] flex-col pt-3 pb-4 lg:h-[calc(100dvh-3.5rem)]">
      <Link
        to="/batches"
        className="inline-flex min-h-8 items-center gap-1 self-start text-sm text-soft hover:text-ink"
      >
        <ArrowLeft aria-hidden className="size-4" />
        Batches
      </Link>
      {batch.data ? (
        <BatchView key={batchId} batch={batch.data} />
      ) : batch.isPending ? (
        <Waiting>Loading the batch…</Waiting>
      ) : (
        <NoBatch error={batch.error} onRetry={() => void batch.refetch()} />
      )}
    </div>
  )
}

function NoBatch({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const missing = error instanceof Fault && (error.code === 'resource_not_found' || error.code === 'invalid_request')
  if (!missing) return <Refused title="The batch could not be read" error={error} onRetry={onRetry} />
  return (
    <Empty
      title="There is no such batch"
      action={
        <Link to="/batches" className="button">
          Go to the batches
        </Link>
      }
    >
      The address may be mistyped, or the batch belongs to another team.
    </Empty>
  )
}

function BatchView({ batch }: { batch: Batch }) {
  const { queries } = useAsking()
  const { state } = route.useSearch()
  const tasks = useQuery(queries.tasks(batch.batch_id))
  useAnnouncedEnd(batch)
  useLastWords(batch)
  return (
    <div className="flex min-h-0 flex-1 flex-col gap-3">
      <div className="flex flex-wrap items-start gap-x-4 gap-y-2">
        <div className="min-w-0 flex-1 basis-64">
          <h1 className="text-xl font-semibold wrap-anywhere line-clamp-3">{batch.title}</h1>
          <div className="mt-0.5 flex flex-wrap gap-x-3" data-testid="batch-status">
            <BatchStatus batch={batch} />
            <span className="text-soft tabular-nums">{countsWords(batch)}</span>
          </div>
        </div>
        <BatchActions batch={batch} />
      </div>
      <BatchBar batch={batch} />
      <Review batch={batch} />
      <States batch={batch} shown={state} />
      {tasks.isPending ? (
        <Waiting>Loading the tasks…</Waiting>
      ) : tasks.data === undefined ? (
        <Refused title="The tasks could not be read" error={tasks.error} onRetry={() => void tasks.refetch()} />
      ) : (
        <>
          {tasks.isRefetchError && (
            <p role="alert" className="text-sm text-failed">
              The tasks could not be renewed. {sentenceOf(tasks.error)}
            </p>
          )}
          <BatchTasks batch={batch} tasks={tasks.data} state={state} />
        </>
      )}
    </div>
  )
}

/** What it is and was worth. When it has ended, also how. */
function Review({ batch }: { batch: Batch }) {
  const { usage } = batch
  const cost = usage.inference_cost_usd ?? 0
  return (
    <div className="flex flex-col gap-2 text-sm">
      {batch.message && (
        <p data-testid="batch-message" className="rounded-xl border border-line bg-raised px-4 py-2.5 wrap-anywhere">
          {batch.message}
        </p>
      )}
      <p className="flex flex-wrap gap-x-4 gap-y-1 text-soft">
        <span>
          Begun <When at={batch.created_at} />
          {batch.creator.display_name && ` by ${batch.creator.display_name}`}
        </span>
        <span>
          {batch.ended_at === null ? 'For ' : 'Took '}
          <Length from={batch.created_at} to={batch.ended_at} />
        </span>
        {Boolean(usage.total_tokens) && <span>{(usage.total_tokens ?? 0).toLocaleString()} tokens</span>}
        {cost > 0 && <span>{dollarWords(cost)}</span>}
        {batch.stop_on_failure && <span>Stops on failure</span>}
        <Link to="/runs/$runId" params={{ runId: batch.batch_id }} className="link min-h-6">
          The run of the batch
        </Link>
      </p>
    </div>
  )
}

function States({ batch, shown }: { batch: Batch; shown: TaskState | undefined }) {
  const all =
    'inline-flex min-h-8 shrink-0 items-center gap-1.5 rounded-full border border-line px-3 text-sm text-soft hover:bg-raised pointer-coarse:min-h-10 aria-[current]:border-working aria-[current]:bg-raised aria-[current]:font-medium aria-[current]:text-ink'
  const link = (state: TaskState | undefined) => ({
    to: '/batches/$batchId' as const,
    params: { batchId: batch.batch_id },
    search: state === undefined ? {} : { state },
    replace: true,
    activeOptions: { exact: true, includeSearch: true },
    'aria-current': shown === state ? ('page' as const) : undefined,
    className: all,
  })
  return (
    <nav
      aria-label="Tasks by state"
      className="-mx-4 flex shrink-0 gap-1.5 overflow-x-auto px-4 py-1 [scrollbar-width:none] sm:mx-0 sm:flex-wrap sm:px-0"
    >
      <Link {...link(undefined)}>
        All <span className="tabular-nums">{batch.tasks.toLocaleString()}</span>
      </Link>
      {TASK_STATES.map((state) => (
        <Link key={state} {...link(state)}>
          <StatusIcon status={TASK_STATUS[state]} className="size-3.5 animate-none!" />
          {TASK_WORDS[state]} <span className="tabular-nums">{batch.counts[state].toLocaleString()}</span>
        </Link>
      ))}
    </nav>
  )
}

function useAnnouncedEnd(batch: Batch): void {
  const announce = useAnnounce()
  const word = batchWord(batch)
  const said = useRef(word)
  useEffect(() => {
    if (said.current === word) return
    said.current = word
    announce(`The batch is now: ${word}. ${countsWords(batch)}.`)
  }, [word, batch, announce])
}

function useLastWords(batch: Batch): void {
  const { client, queries } = useAsking()
  const held = useQueryClient()
  const connection = useConnection()
  const tasks = useQuery(queries.tasks(batch.batch_id))
  const running = (tasks.data ?? []).filter((task) => task.state === 'running').map((task) => task.number)
  const numbers = useRef(running)
  numbers.current = running
  const wanted = running.length > 0 && connection === 'open'
  useEffect(() => {
    if (!wanted) return
    const timer = setInterval(() => {
      if (!document.hidden) void renewTasks(client, held, batch.batch_id, numbers.current)
    }, WORDS_MS)
    return () => clearInterval(timer)
  }, [wanted, client, held, batch.batch_id])
}
