/** The batches, newest first. */
import { useInfiniteQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { ListChecks } from 'lucide-react'
import type { Batch } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { useMay } from '../data/may.ts'
import { BatchBar, BatchStatus, countsWords } from '../parts/batch-state.tsx'
import { When } from '../parts/clock.tsx'
import { Empty, Refused, sentenceOf, Waiting } from '../parts/faces.tsx'
import { useTitle } from '../parts/title.ts'

export function BatchesPage() {
  useTitle('Batches')
  const { queries } = useAsking()
  const list = useInfiniteQuery(queries.batches())
  const may = useMay()
  const batches = list.data?.pages.flatMap((page) => page.batches)
  return (
    <div className="pb-8">
      <div className="flex flex-wrap items-center gap-3 pt-6 pb-4">
        <h1 className="text-xl font-semibold">Batches</h1>
        {may && <NewBatch />}
      </div>
      {list.isPending ? (
        <Waiting>Loading batches…</Waiting>
      ) : !batches ? (
        <Refused title="The batches could not be read" error={list.error} onRetry={() => void list.refetch()} />
      ) : (
        <>
          {list.isError && (
            <p role="alert" className="pb-3 text-failed">
              The list could not be renewed. {sentenceOf(list.error)}
            </p>
          )}
          {batches.length === 0 ? (
            <Empty title="No batches yet">
              A batch is a list of tasks, each for an agent of its own. Write one with the Orchestrator, or run{' '}
              <code className="font-mono text-sm whitespace-nowrap text-ink">baton batch run tasks.yaml</code>
            </Empty>
          ) : (
            <ul aria-label="Batches" className="divide-y divide-line">
              {batches.map((batch) => (
                <BatchRow key={batch.batch_id} batch={batch} />
              ))}
            </ul>
          )}
          {list.hasNextPage && (
            <p className="py-6 text-center">
              <button
                type="button"
                className="button"
                disabled={list.isFetchingNextPage}
                onClick={() => void list.fetchNextPage()}
              >
                {list.isFetchingNextPage ? 'Loading…' : 'Load older batches'}
              </button>
            </p>
          )}
        </>
      )}
    </div>
  )
}

const NewBatch = () => (
  <Link to="/batches/new" className="button button-first ml-auto">
    <ListChecks aria-hidden className="size-4" />
    Orchestrator
  </Link>
)

function BatchRow({ batch }: { batch: Batch }) {
  return (
    <li>
      <Link
        to="/batches/$batchId"
        params={{ batchId: batch.batch_id }}
        className="-mx-3 grid items-center gap-x-4 gap-y-1 rounded-lg px-3 py-2.5 hover:bg-raised sm:grid-cols-[7.5rem_minmax(0,1fr)_10rem_6.5rem]"
      >
        <BatchStatus batch={batch} />
        <span className="min-w-0">
          <span className="block truncate font-medium" title={batch.title}>
            {batch.title}
          </span>
          <span className="block text-sm text-soft">{countsWords(batch)}</span>
        </span>
        <BatchBar batch={batch} />
        <span className="text-sm text-soft sm:text-right">
          <span className="sr-only">created </span>
          <When at={batch.created_at} />
        </span>
      </Link>
    </li>
  )
}
