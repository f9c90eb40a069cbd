/** What waits for a person: plans to be answered, and runs that are held for another reason. */
import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { ClipboardList, Hand } from 'lucide-react'
import type { ReactNode } from 'react'
import type { Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { useMay } from '../data/may.ts'
import { When } from '../parts/clock.tsx'
import { Empty, Refused, sentenceOf, Waiting } from '../parts/faces.tsx'
import { useTitle } from '../parts/title.ts'
import { ViewOnlyNote } from '../parts/view-only.tsx'

export function NeedsYouPage() {
  const { queries } = useAsking()
  const needs = useQuery(queries.needs())
  const may = useMay()
  const waits = (needs.data?.plans.length ?? 0) + (needs.data?.blocked.length ?? 0)
  useTitle('Needs you')
  return (
    <div className="pb-8">
      <h1 className="pt-6 pb-4 text-xl font-semibold">Needs you</h1>
      {!may && waits > 0 && (
        <div className="pb-3">
          <ViewOnlyNote>Members of the team answer what waits here; you may look at it.</ViewOnlyNote>
        </div>
      )}
      {needs.isPending ? (
        <Waiting>Loading…</Waiting>
      ) : !needs.data ? (
        <Refused title="This could not be read" error={needs.error} onRetry={() => void needs.refetch()} />
      ) : (
        <>
          {needs.isRefetchError && (
            <p role="alert" className="pb-3 text-failed">
              The list could not be renewed. {sentenceOf(needs.error)}
            </p>
          )}
          {waits === 0 ? (
            <Empty title="Nothing needs you">
              A plan that waits for {may ? 'your' : 'an'} approval shows up here, and so does a run that is held until a
              person answers.
            </Empty>
          ) : (
            <ul aria-label="Waits for a person" className="divide-y divide-line">
              {needs.data.plans.map((plan) => (
                <Need
                  key={plan.plan_id}
                  run_id={plan.run_id}
                  Icon={ClipboardList}
                  title={plan.title}
                  since={plan.created_at}
                >
                  Plan, version {plan.version}, with {agentsWords(plan.children.length)}
                  {plan.run_title !== plan.title && <> · {plan.run_title}</>}
                </Need>
              ))}
              {needs.data.blocked.map((run) => (
                <Need key={run.run_id} run_id={run.run_id} Icon={Hand} title={run.title} since={run.updated_at}>
                  {needWords(run)}
                </Need>
              ))}
            </ul>
          )}
        </>
      )}
    </div>
  )
}

function needWords({ tree_stopped, status_message }: Run): string {
  if (tree_stopped) return `Its tree was stopped: ${tree_stopped.message}`
  return status_message?.message ?? 'The run is held until a person answers it.'
}

const agentsWords = (count: number): string => (count === 0 ? 'no agents' : count === 1 ? '1 agent' : `${count} agents`)

type NeedProps = { run_id: string; Icon: typeof Hand; title: string; since: string; children: ReactNode }

function Need({ run_id, Icon, title, since, children }: NeedProps) {
  return (
    <li>
      <Link
        to="/runs/$runId"
        params={{ runId: run_id }}
        className="-mx-3 flex items-start gap-3 rounded-lg px-3 py-2.5 hover:bg-raised"
      >
        <Icon aria-hidden className="mt-1 size-4 shrink-0 text-needs" />
        <span className="min-w-0 flex-1">
          <span className="block font-medium wrap-anywhere">{title}</span>
          <span className="block text-sm text-soft wrap-anywhere">{children}</span>
        </span>
        <span className="shrink-0 text-sm text-soft">
          <span className="sr-only">since </span>
          <When at={since} />
        </span>
      </Link>
    </li>
  )
}
