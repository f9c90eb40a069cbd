/** The children of a run under its row in the list: closed at first, read when they are opened. */
import { useInfiniteQuery } from '@tanstack/react-query'
import { ChevronRight } from 'lucide-react'
import { useState } from 'react'
import type { Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { aggregateOf } from '../data/tree.ts'
import { countWords, runCounts, STATUS_WORDS } from '../words.ts'
import { sentenceOf } from './faces.tsx'
import { RunRow } from './run-row.tsx'
import { StatusIcon } from './status.tsx'

export function RunChildren({ run }: { run: Run }) {
  const [open, setOpen] = useState(false)
  const counts = runCounts(run)
  const first = aggregateOf(counts)
  const total = run.children.length
  const told = first === 'needs_you' || first === 'failed' || first === 'working' ? first : undefined
  const words = told === undefined ? '' : ` (${counts[told]} ${STATUS_WORDS[told].toLowerCase()})`
  return (
    <div className="pb-1.5">
      <button
        type="button"
        aria-expanded={open}
        aria-label={`${total === 1 ? '1 child' : `${total} children`} of ${run.title}: ${countWords(counts)}`}
        title={countWords(counts)}
        onClick={() => setOpen(!open)}
        className="-ml-1.5 inline-flex sm:ml-[8.125rem] min-h-7 items-center gap-1 rounded-md px-1.5 text-sm text-soft hover:bg-raised hover:text-ink pointer-coarse:min-h-10"
      >
        <ChevronRight aria-hidden className={`size-4 transition-transform ${open ? 'rotate-90' : ''}`} />
        <span className="tabular-nums">
          {total === 1 ? '1 child' : `${total} children`}
          <span className={told === 'needs_you' ? 'text-needs' : told === 'failed' ? 'text-failed' : ''}>{words}</span>
        </span>
        {first && <StatusIcon status={first} className="size-3.5" />}
      </button>
      {open && <Below run={run} />}
    </div>
  )
}

function Below({ run }: { run: Run }) {
  const { queries } = useAsking()
  const children = useInfiniteQuery(queries.children(run.run_id))
  if (children.isPending) return <p className="py-2 pl-4 text-sm text-soft">Loading…</p>
  if (!children.data)
    return (
      <p role="alert" className="py-2 pl-4 text-sm">
        <span className="text-failed">{sentenceOf(children.error)}</span>{' '}
        <button type="button" className="link min-h-6" onClick={() => void children.refetch()}>
          Try again
        </button>
      </p>
    )
  return (
    <>
      <ul aria-label={`Children of ${run.title}`} className="ml-1.5 border-l-2 border-line pl-5">
        {children.data.pages.flatMap((page) =>
          page.runs.map((child) => <RunRow key={child.run_id} run={child} nested />),
        )}
      </ul>
      {children.hasNextPage && (
        <button
          type="button"
          className="button mt-1 ml-4"
          disabled={children.isFetchingNextPage}
          onClick={() => void children.fetchNextPage()}
        >
          {children.isFetchingNextPage ? 'Loading…' : 'Load more children'}
        </button>
      )}
    </>
  )
}
