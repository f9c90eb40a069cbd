/**
 * The plan of a run. While a version waits for a person it is a card with everything to decide by; answered, it is one
 * line. An answer is for the version that is shown: nothing is changed under the reader's eyes.
 */
import { useQuery } from '@tanstack/react-query'
import { ClipboardList } from 'lucide-react'
import { useState } from 'react'
import { z } from 'zod'
import { isEnded, type Plan, type Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { isEdited } from '../data/plan-draft.ts'
import { Disclosure } from '../transcript/blocks.tsx'
import { Prose } from '../transcript/prose.tsx'
import { planStateWords } from '../words.ts'
import { When } from './clock.tsx'
import { sentenceOf, Waiting } from './faces.tsx'
import { type PlanAnswer, usePlanAnswer } from './plan-answer.ts'
import { PlanChildren } from './plan-children.tsx'
import { PlanConfigFacts } from './plan-config.tsx'
import { OpenPlan } from './plan-open.tsx'
import { PlanVersions } from './plan-versions.tsx'

const PlanArtifact = z.object({ artifact_type: z.literal('PLAN') })

/** Whether a version of its plan waits for a person. */
export const hasOpenPlan = (run: Run): boolean => run.open_plan !== undefined && !isEnded(run.state)

const hasPlan = (run: Run): boolean =>
  run.open_plan !== undefined || run.artifacts.some((artifact) => PlanArtifact.safeParse(artifact).success)

export function PlanCard({ run }: { run: Run }) {
  return hasPlan(run) ? <Planned run={run} /> : null
}

function Planned({ run }: { run: Run }) {
  const { queries } = useAsking()
  const plans = useQuery(queries.plans(run.run_id))
  const answer = usePlanAnswer(run)
  if (plans.isPending) return <Waiting>Loading the plan…</Waiting>
  const newest = plans.data?.[0]
  if (!plans.data || !newest)
    return (
      <p role="alert" className="mb-2 shrink-0 rounded-xl border border-failed bg-failed-wash px-4 py-3">
        The plan could not be read. {plans.error ? sentenceOf(plans.error) : ''}{' '}
        <button type="button" className="link min-h-6" onClick={() => void plans.refetch()}>
          Try again
        </button>
      </p>
    )
  if (run.open_plan !== undefined && hasOpenPlan(run))
    return <OpenPlan run={run} plans={plans.data} open={run.open_plan} answer={answer} />
  return <AnsweredPlan plans={plans.data} newest={newest} answer={answer} />
}

function AnsweredPlan({ plans, newest, answer }: { plans: Plan[]; newest: Plan; answer: PlanAnswer }) {
  const [open, setOpen] = useState(false)
  const [version, setVersion] = useState<number>()
  const plan = plans.find((one) => one.version === version) ?? newest
  // A version that nobody has answered and that does not wait any more: its run was cancelled.
  const words = newest.state === 'proposed' ? 'Not answered: the run has ended' : planStateWords(newest)
  return (
    <section aria-label="Plan" className="mb-2 shrink-0 rounded-xl border border-line bg-raised px-4 py-2">
      <Disclosure
        open={open}
        onToggle={() => setOpen(!open)}
        summary={
          <span className="flex min-w-0 flex-wrap items-center gap-x-2">
            <ClipboardList aria-hidden className="size-4 shrink-0 text-soft" />
            <span className="font-medium wrap-anywhere">
              Plan, version {newest.version}: {words}
            </span>
            {newest.decided_at !== null && (
              <span className="text-sm text-soft">
                <When at={newest.decided_at} />
              </span>
            )}
          </span>
        }
      >
        <div className="flex max-h-[60dvh] flex-col gap-4 overflow-y-auto pb-1">
          <PlanVersions plans={plans} shown={plan} onShow={setVersion} />
          <PlanConfigFacts config={plan.config} />
          <Prose text={plan.document} />
          <PlanChildren planned={plan.children} />
        </div>
      </Disclosure>
      <Unsent answer={answer} newest={newest} />
    </section>
  )
}

/** What was typed for an answer that somebody else gave first. */
function Unsent({ answer, newest }: { answer: PlanAnswer; newest: Plan }) {
  const { draft, setDraft, sending, refusal, forget } = answer
  const edits = Object.values(draft.edits).some(isEdited) && newest.state !== 'changes_requested'
  if (sending || (draft.words === '' && !edits)) return null
  return (
    <div role="status" className="mt-1 border-t border-line pt-2 text-sm">
      <p>
        {refusal ? `${sentenceOf(refusal)} ` : ''}
        {edits ? 'Your edits were not sent. ' : ''}
        {draft.words !== '' && 'What you had typed was not sent:'}
      </p>
      {draft.words !== '' && <p className="my-1 border-l-2 border-line pl-3 whitespace-pre-wrap">{draft.words}</p>}
      <button
        type="button"
        className="link min-h-6"
        onClick={() => {
          setDraft({ words: '', edits: {} })
          forget()
        }}
      >
        Discard
      </button>
    </div>
  )
}
