/** A plan before a person: its configuration, its text, its children, and the answer. */
import { useQuery } from '@tanstack/react-query'
import { Check, ClipboardList, Pencil, Undo2 } from 'lucide-react'
import { type KeyboardEvent, useEffect, useRef, useState } from 'react'
import type { Plan, Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { useMay } from '../data/may.ts'
import { carryEdits, checkEdits, edited, editsOf, isEdited, type PlanEdits, settleEdits } from '../data/plan-draft.ts'
import { Prose } from '../transcript/prose.tsx'
import { useAnnounce } from './announce.tsx'
import { Waiting } from './faces.tsx'
import type { PlanAnswer } from './plan-answer.ts'
import { PlanAnswerBar } from './plan-answer-bar.tsx'
import { PlanChildren } from './plan-children.tsx'
import { PlanConfigFacts, PlanConfigFields } from './plan-config.tsx'
import { NewerVersion } from './plan-newer.tsx'
import { PlanVersions } from './plan-versions.tsx'
import { ViewOnlyNote } from './view-only.tsx'

type Props = { run: Run; plans: Plan[]; open: number; answer: PlanAnswer }

export function OpenPlan({ run, plans, open, answer }: Props) {
  const { queries } = useAsking()
  const [version, setVersion] = useState(open)
  const reading = useQuery(queries.plans(run.run_id))
  useAnnouncedVersion(open)
  const known = plans.some((plan) => plan.version === open)
  useEffect(() => {
    if (!known) void reading.refetch()
  }, [known, reading.refetch])
  const plan = plans.find((one) => one.version === version)
  const waiting = plans.find((one) => one.version === open)
  if (!plan) return <Waiting>{`Loading version ${version} of the plan…`}</Waiting>
  return (
    <PlanOf
      key={version}
      run={run}
      plan={plan}
      plans={plans}
      waiting={version === open ? undefined : waiting}
      isOpen={version === open}
      answer={answer}
      onShow={(next) => {
        answer.forget()
        setVersion(next)
      }}
    />
  )
}

function useAnnouncedVersion(open: number): void {
  const announce = useAnnounce()
  const told = useRef(open)
  useEffect(() => {
    if (told.current === open) return
    told.current = open
    announce(`Version ${open} of the plan was proposed. What you see and have edited stays until you show it.`)
  }, [open, announce])
}

type OfProps = {
  run: Run
  plan: Plan
  plans: Plan[]
  /** The version that waits, where it is not the one shown and has been read. */
  waiting: Plan | undefined
  isOpen: boolean
  answer: PlanAnswer
  onShow: (version: number) => void
}

function PlanOf({ run, plan, plans, waiting, isOpen, answer, onShow }: OfProps) {
  const { draft, setDraft } = answer
  const edits = editsOf(draft, plan.version)
  const shown = edited(plan, edits)
  const [wrong, setWrong] = useState<Record<string, string>>({})
  const card = useRef<HTMLElement>(null)
  const may = useMay()
  const answerable = isOpen && !run.cancel_requested && may
  const edit = (part: PlanEdits) => {
    setWrong({})
    setDraft((now) => {
      const next = settleEdits(plan, { ...editsOf(now, plan.version), ...part })
      return { ...now, edits: { ...now.edits, [plan.version]: next } }
    })
  }
  const approve = () => {
    const found = checkEdits(edits)
    setWrong(found)
    const first = Object.keys(found)[0]
    if (first === undefined) answer.send({ kind: 'approve', plan })
    else requestAnimationFrame(() => card.current?.querySelector<HTMLElement>(`#${fieldId(first)}`)?.focus())
  }
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || !answerable) return
    if (event.target instanceof Element && event.target.closest('dialog')) return
    event.preventDefault()
    approve()
  }
  return (
    <section
      ref={card}
      aria-labelledby="plan-title"
      data-plan={plan.version}
      onKeyDown={onKey}
      className="mb-3 flex shrink-0 flex-col gap-4 rounded-xl border border-needs bg-page p-4"
    >
      <div className="flex min-w-0 flex-col gap-2">
        <div className="flex flex-wrap items-start justify-between gap-2">
          <h2 id="plan-title" className="flex min-w-0 items-start gap-2 text-lg font-semibold wrap-anywhere">
            <ClipboardList aria-hidden className="mt-1 size-5 shrink-0 text-needs" />
            {plan.title}
          </h2>
          {isOpen && (
            <span className="rounded-full bg-needs-wash px-2.5 py-0.5 text-sm font-medium text-needs">
              {may ? 'Waits for your answer' : 'Waits for an answer'}
            </span>
          )}
        </div>
        <PlanVersions plans={plans} shown={plan} onShow={onShow} />
        {isEdited(edits) && isOpen && (
          <p className="flex flex-wrap items-center gap-x-3 text-sm font-medium text-working">
            Edited: becomes version {(plans[0]?.version ?? plan.version) + 1} when you approve.
            <button
              type="button"
              className="link inline-flex min-h-7 items-center gap-1"
              onClick={() => {
                setWrong({})
                setDraft((now) => ({ ...now, edits: { ...now.edits, [plan.version]: {} } }))
              }}
            >
              <Undo2 aria-hidden className="size-4" />
              As proposed
            </button>
          </p>
        )}
      </div>
      {!isOpen && <NewerVersion plan={plan} waiting={waiting} answer={answer} onShow={onShow} />}
      {isOpen && <EarlierEdits plan={plan} plans={plans} answer={answer} />}
      {answerable ? (
        <PlanConfigFields run={run} config={shown.config} wrong={wrong} onChange={(config) => edit({ config })} />
      ) : (
        <PlanConfigFacts config={shown.config} />
      )}
      <PlanText text={shown.document} wrong={wrong.document} {...(answerable && { onChange: edit })} />
      <div>
        <h3 className="mb-2 font-semibold">
          {shown.children.length === 1 ? '1 child' : `${shown.children.length} children`}
        </h3>
        {answerable ? (
          <PlanChildren planned={shown.children} wrong={wrong} onChange={(children) => edit({ children })} />
        ) : (
          <PlanChildren planned={shown.children} />
        )}
      </div>
      {answerable && <PlanAnswerBar run={run} plan={plan} answer={answer} onApprove={approve} />}
      {!may && isOpen && !run.cancel_requested && (
        <ViewOnlyNote>A member of the team answers this plan; you may look at it.</ViewOnlyNote>
      )}
      {run.cancel_requested && <p className="text-soft">The run is being cancelled: its plan needs no answer.</p>}
    </section>
  )
}

const fieldId = (field: string): string => `plan-${field.replaceAll('.', '-')}`

type TextProps = { text: string; wrong: string | undefined; onChange?: (part: PlanEdits) => void }

function PlanText({ text, wrong, onChange }: TextProps) {
  const [open, setEditing] = useState(false)
  if (wrong !== undefined && !open) setEditing(true)
  return (
    <div>
      <div className="mb-1 flex items-center justify-between gap-2">
        <h3 className="font-semibold">Plan</h3>
        {onChange && (
          <button type="button" className="button" aria-expanded={open} onClick={() => setEditing(!open)}>
            {open ? <Check aria-hidden className="size-4" /> : <Pencil aria-hidden className="size-4" />}
            {open ? 'Show as text' : 'Edit text'}
          </button>
        )}
      </div>
      {open && onChange ? (
        <>
          <textarea
            id="plan-document"
            aria-label="Text of the plan, in Markdown"
            aria-invalid={wrong ? true : undefined}
            rows={14}
            className="field font-mono text-sm"
            value={text}
            onChange={(event) => onChange({ document: event.target.value })}
          />
          {wrong && (
            <p role="alert" className="text-sm text-failed">
              {wrong}
            </p>
          )}
        </>
      ) : (
        <Prose text={text} />
      )}
    </div>
  )
}

/** Edits of a version before this one that was not approved with them. */
function EarlierEdits({ plan, plans, answer }: { plan: Plan; plans: Plan[]; answer: PlanAnswer }) {
  const { draft, setDraft } = answer
  const from = plans.find((one) => one.version < plan.version && isEdited(editsOf(draft, one.version)))
  if (!from || isEdited(editsOf(draft, plan.version))) return null
  const carried = carryEdits(from, editsOf(draft, from.version), plan)
  const settle = (mine: PlanEdits) =>
    setDraft((now) => ({ ...now, edits: isEdited(mine) ? { [plan.version]: mine } : {} }))
  return (
    <p className="flex flex-wrap items-center gap-x-3 gap-y-1 rounded-lg bg-raised px-3 py-2 text-sm">
      You had edited version {from.version}.
      {isEdited(carried) ? (
        <button type="button" className="link min-h-7" onClick={() => settle(carried)}>
          Edit this version in the same way
        </button>
      ) : (
        ' None of that fits this version.'
      )}
      <button type="button" className="link min-h-7" onClick={() => settle({})}>
        Forget these edits
      </button>
    </p>
  )
}
