/** One run: where it stands in its tree, what it is and how it goes, what can be done with it, and what it says. */
import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { ArrowLeft, ListChecks } from 'lucide-react'
import { type ReactNode, useEffect, useMemo, useRef, useState } from 'react'
import { Fault, isEnded, type Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { useAnnounce } from '../parts/announce.tsx'
import { RunArtifacts } from '../parts/artifacts.tsx'
import { Composer } from '../parts/composer.tsx'
import { Executions } from '../parts/executions.tsx'
import { Empty, Refused, Waiting } from '../parts/faces.tsx'
import { Messages } from '../parts/messages.tsx'
import { Notices } from '../parts/notices.tsx'
import { hasOpenPlan, PlanCard } from '../parts/plan-card.tsx'
import { RunActions } from '../parts/run-actions.tsx'
import { RunFacts } from '../parts/run-facts.tsx'
import { FailureBanner, ListeningBanner, WaitingBanner } from '../parts/run-notes.tsx'
import { RunStatus } from '../parts/status.tsx'
import { SubAgents } from '../parts/sub-agents.tsx'
import { useTitle } from '../parts/title.ts'
import { TreeBar } from '../parts/tree-bar.tsx'
import { TreeStopped } from '../parts/tree-stopped.tsx'
import { Relatives } from '../transcript/happening.tsx'
import { Transcript } from '../transcript/transcript.tsx'
import { statusWord } from '../words.ts'

const route = getRouteApi('/shell/runs/$runId')

export function RunPage() {
  const { runId } = route.useParams()
  const { queries } = useAsking()
  const run = useQuery(queries.run(runId))
  const around = useTreeAround(run.data)
  useTitle(run.data ? `${statusWord(run.data)}: ${run.data.title}` : 'Run')
  return (
    <div className="flex min-h-[calc(100dvh-3.5rem)] flex-col pt-3 pb-4 lg:h-[calc(100dvh-3.5rem)]">
      <Link to="/runs" className="inline-flex min-h-8 items-center gap-1 self-start text-sm text-soft hover:text-ink">
        <ArrowLeft aria-hidden className="size-4" />
        Runs
      </Link>
      {around !== undefined && <TreeBar key={`around ${around}`} root_run_id={around} run_id={runId} />}
      {run.data ? (
        <RunView key={runId} run={run.data} />
      ) : run.isPending ? (
        <Waiting>Loading the run…</Waiting>
      ) : (
        <NoRun error={run.error} onRetry={() => void run.refetch()} />
      )}
    </div>
  )
}

/** The top of the tree that is being looked at; while the next run of it is read, the one before tells. */
function useTreeAround(run: Run | undefined): string | undefined {
  const [root, setRoot] = useState<string>()
  const own = run && isRelated(run) ? run.root_run_id : undefined
  if (run && own !== root) setRoot(own)
  return run ? own : root
}

const isRelated = (run: Run): boolean => run.children.length > 0 || run.parent_run_id !== undefined

function NoRun({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const missing = error instanceof Fault && (error.code === 'resource_not_found' || error.code === 'invalid_request')
  if (!missing) return <Refused title="The run could not be read" error={error} onRetry={onRetry} />
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

function RunView({ run }: { run: Run }) {
  useAnnouncedStatus(run)
  const { view } = route.useSearch()
  const shown = view === 'agents' && run.children.length === 0 ? undefined : view
  // A plan is read as a whole: then all of the column scrolls.
  const deciding = hasOpenPlan(run)
  return (
    <div className="flex min-h-0 flex-1 flex-col">
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
          {shown !== 'agents' && <RunArtifacts run={run} />}
          <Executions run_id={run.run_id} />
        </aside>
        <div className={`flex min-w-0 flex-1 flex-col ${deciding ? 'lg:scroll-pb-36 lg:overflow-y-auto lg:pr-3' : ''}`}>
          {(isRelated(run) || run.state === 'BLOCKED') && <TreeStopped root_run_id={run.root_run_id} />}
          <WaitingBanner run={run} />
          <ListeningBanner run={run} />
          <FailureBanner run={run} />
          <Notices run={run} />
          <PlanCard run={run} />
          {run.is_batch && <BatchLink run={run} />}
          <Views run={run} shown={shown} />
          <div className={`flex flex-1 flex-col ${deciding ? 'shrink-0 lg:min-h-[75dvh]' : 'min-h-0'}`}>
            {shown === 'agents' ? (
              <SubAgents run={run} />
            ) : shown === 'messages' ? (
              <Messages run={run} />
            ) : (
              <Named run={run}>
                <Transcript run_id={run.run_id} prompt={run.prompt} ended={isEnded(run.state)} />
              </Named>
            )}
          </div>
          {shown !== 'agents' && !run.is_batch && <Composer run={run} whole={shown === 'messages'} />}
        </div>
      </div>
    </div>
  )
}

function BatchLink({ run }: { run: Run }) {
  return (
    <p className="mb-2 flex shrink-0 flex-wrap items-center gap-x-3 gap-y-1 rounded-xl border border-line bg-raised px-4 py-3">
      <ListChecks aria-hidden className="size-4 shrink-0 text-working" />
      This run is a batch: its children are its tasks.
      <Link to="/batches/$batchId" params={{ batchId: run.run_id }} className="link min-h-6">
        Open the batch
      </Link>
    </p>
  )
}

function Views({ run, shown }: { run: Run; shown: 'agents' | 'messages' | undefined }) {
  const views = [
    { view: undefined, word: 'Transcript' },
    ...(run.children.length > 0 ? [{ view: 'agents' as const, word: `Sub-agents (${run.children.length})` }] : []),
    { view: 'messages' as const, word: 'Messages' },
  ]
  return (
    <nav aria-label="Views of this run" className="my-2 flex shrink-0 gap-4 border-b border-line">
      {views.map(({ view, word }) => (
        <Link
          key={word.split(' ')[0]}
          to="/runs/$runId"
          params={{ runId: run.run_id }}
          search={view === undefined ? {} : { view }}
          replace
          activeOptions={{ exact: true, includeSearch: true }}
          aria-current={shown === view ? 'page' : undefined}
          className="-mb-px inline-flex min-h-9 items-center border-b-2 border-transparent text-soft whitespace-nowrap pointer-coarse:min-h-11 hover:text-ink aria-[current]:border-working aria-[current]:font-medium aria-[current]:text-ink"
        >
          {word}
        </Link>
      ))}
    </nav>
  )
}

/** Rows of a transcript name other runs of the tree. */
function Named({ run, children }: { run: Run; children: ReactNode }) {
  const { queries } = useAsking()
  const tree = useQuery({ ...queries.tree(run.root_run_id), enabled: isRelated(run) })
  const names = useMemo(() => new Map(tree.data?.nodes.map((node) => [node.run_id, node])), [tree.data])
  return <Relatives value={names}>{children}</Relatives>
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
