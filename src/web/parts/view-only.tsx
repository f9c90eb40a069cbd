/** Said to who may look and do nothing, in the place of what others may do there. */
import { Link } from '@tanstack/react-router'
import { Eye } from 'lucide-react'
import type { ReactNode } from 'react'
import { LOOKS_ONLY, TAKES_MEMBER, useMay } from '../data/may.ts'
import { Empty } from './faces.tsx'

/** In the bar at the top, where others begin something; pressed, it says why. */
export function ViewOnlyChip() {
  return (
    <details className="relative mx-2">
      <summary className="inline-flex min-h-7 cursor-pointer items-center gap-1.5 rounded-full border border-line px-2.5 text-sm whitespace-nowrap text-soft pointer-coarse:min-h-9">
        <Eye aria-hidden className="size-3.5 shrink-0" />
        View only
      </summary>
      <p className="absolute right-0 z-30 mt-1 w-64 max-sm:-right-20 max-w-[calc(100vw-2rem)] rounded-xl border border-line bg-page p-3 text-sm shadow-lg">
        {LOOKS_ONLY} To start, answer and stop runs {TAKES_MEMBER}
      </p>
    </details>
  )
}

/** One line: `what` would be done here. */
export function ViewOnlyNote({ children }: { children: ReactNode }) {
  return (
    <p className="mt-2 flex shrink-0 items-start gap-2 rounded-xl border border-line bg-raised px-4 py-3 text-sm">
      <Eye aria-hidden className="mt-0.5 size-4 shrink-0 text-soft" />
      <span>{children}</span>
    </p>
  )
}

type GuardedProps = { title: string; back: '/runs' | '/batches'; children: ReactNode }

/** A page that is for those alone who may change something. */
export function ForMembers({ title, back, children }: GuardedProps) {
  const may = useMay()
  if (may) return children
  return (
    <div className="py-6">
      <h1 className="text-xl font-semibold">{title}</h1>
      <Empty
        title="You may only look"
        action={
          <Link to={back} className="button">
            {back === '/runs' ? 'Go to the runs' : 'Go to the batches'}
          </Link>
        }
      >
        {LOOKS_ONLY} {back === '/runs' ? 'To start a run' : 'To start a batch'} {TAKES_MEMBER}
      </Empty>
    </div>
  )
}
