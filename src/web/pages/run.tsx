/** One run: what it is and how it stands, what can be done with it, and its transcript as it grows. */
import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { ArrowLeft } from 'lucide-react'
import { useEffect, useRef } from 'react'
import { Fault, isEnded, type Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { useAnnounce } from '../parts/announce.tsx'
import { Executions } from '../parts/executions.tsx'
import { Empty, Refused, Waiting } from '../parts/faces.tsx'
import { RunActions } from '../parts/run-actions.tsx'
import { RunFacts } from '../parts/run-facts.tsx'
import { FailureBanner, WaitingBanner } from '../parts/run-notes.tsx'
import { RunStatus } from '../parts/status.tsx'
import { useTitle } from '../parts/title.ts'
import { Transcript } from '../transcript/transcript.tsx'
import { statusWord } from '../words.ts'

const route = getRouteApi('/shell/runs/$runId')

export function RunPage() {
  const { runId } = route.useParams()
  const { queries } = useAsking()
  const run = useQuery(queries.run(runId))
  useTitle(run.data ? `${statusWord(run.data)}: ${run.data.title}` : 'Run')
  if (run.isPending) return <Waiting>Loading the run…</Waiting>
  if (run.data === undefined) {
    const missing =
      run.error instanceof Fault && (run.error.code === 'resource_not_found' || run.error.code === 'invalid_request')
    if (!missing)
      return <Refused title="The run could not be read" error={run.error} onRetry={() => void run.refetch()} />
    return (
      <Empty
        title="There is no such run"
        action={
          <Link to="/runs" className="button">
            Go to the runs
          </Link>
        }
      >
        The address may be mistyped, or the run belongs to another team.
      </Empty>
    )
  }
  return <RunView key={runId} run={run.data} />
}

function RunView({ run }: { run: Run }) {
  useAnnouncedStatus(run)
  return (
    <div className="flex min-h-[calc(100dvh-3.5rem)] flex-col pt-3 pb-4 lg:h-[calc(100dvh-3.5rem)]">
      <Link to="/runs" className="inline-flex min-h-8 items-center gap-1 self-start text-sm text-soft hover:text-ink">
        <ArrowLeft aria-hidden className="size-4" />
        Runs
      </Link>
      <div className="flex flex-wrap items-start gap-x-4 gap-y-2">
        <div className="min-w-0 flex-1 basis-64">
          <h1 className="text-xl font-semibold wrap-anywhere line-clamp-3" title={run.title}>
            {run.title}
          </h1>
          <div className="mt-0.5" data-testid="run-status">
            <RunStatus run={run} />
          </div>
        </div>
        <RunActions run={run} />
      </div>
      <div className="mt-3 flex min-h-0 flex-1 flex-col gap-3 lg:flex-row-reverse lg:gap-6">
        <aside
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          tabIndex={0}
          aria-label="Facts"
          className="min-w-0 lg:w-72 lg:shrink-0 lg:overflow-y-auto xl:w-80"
        >
          <RunFacts run={run} />
          <Executions run_id={run.run_id} />
        </aside>
        <div className="flex min-w-0 flex-1 flex-col">
          <WaitingBanner run={run} />
          <FailureBanner run={run} />
          <Transcript run_id={run.run_id} prompt={run.prompt} ended={isEnded(run.state)} />
        </div>
      </div>
    </div>
  )
}

function useAnnouncedStatus(run: Run): void {
  const announce = useAnnounce()
  const word = statusWord(run)
  const said = useRef(word)
  useEffect(() => {
    if (said.current === word) return
    said.current = word
    announce(`The run is now: ${word}.`)
  }, [word, announce])
}
