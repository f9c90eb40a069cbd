import { Check, CircleAlert, MessageSquareMore, X } from 'lucide-react'
import { useRef, useState } from 'react'
import type { Plan, Run } from '../../contract/index.ts'
import { Confirm } from './confirm.tsx'
import { sentenceOf } from './faces.tsx'
import type { PlanAnswer } from './plan-answer.ts'

type Props = { run: Run; plan: Plan; answer: PlanAnswer; onApprove: () => void }

/** One field for what is said with any answer, and the three answers. */
export function PlanAnswerBar({ run, plan, answer, onApprove }: Props) {
  const { draft, setDraft, sending, refusal } = answer
  const [missing, setMissing] = useState(false)
  const [rejecting, setRejecting] = useState(false)
  const words = useRef<HTMLTextAreaElement>(null)
  const busy = sending !== undefined
  const revise = () => {
    setMissing(draft.words.trim() === '')
    if (draft.words.trim() === '') words.current?.focus()
    else answer.send({ kind: 'revise', plan })
  }
  return (
    <div className="-mx-4 -mb-4 flex flex-col gap-2 rounded-b-xl border-t border-line bg-raised px-4 py-3 lg:sticky lg:bottom-0">
      <label htmlFor="plan-words" className="sr-only">
        Words to the agent
      </label>
      <textarea
        ref={words}
        id="plan-words"
        rows={1}
        placeholder="Words to the agent"
        className="field max-h-40 field-sizing-content"
        value={draft.words}
        aria-invalid={missing ? true : undefined}
        aria-describedby="plan-words-hint plan-words-wrong"
        onChange={(event) => {
          setMissing(false)
          const said = event.target.value
          setDraft((now) => ({ ...now, words: said }))
        }}
      />
      <p id="plan-words-wrong" role="alert" className="text-sm text-failed empty:hidden">
        {(missing || refusal !== undefined) && (
          <span className="flex items-start gap-1.5">
            <CircleAlert aria-hidden className="mt-0.5 size-4 shrink-0" />
            {missing ? 'Say what to change.' : `The answer was not taken. ${sentenceOf(refusal)}`}
          </span>
        )}
      </p>
      <div className="flex flex-wrap items-center gap-2">
        <button type="button" className="button button-first" disabled={busy} onClick={onApprove}>
          <Check aria-hidden className="size-4" />
          {sending === 'approve' ? 'Approving…' : `Approve version ${plan.version}`}
        </button>
        <button type="button" className="button" disabled={busy} onClick={revise}>
          <MessageSquareMore aria-hidden className="size-4" />
          {sending === 'revise' ? 'Asking…' : 'Request changes'}
        </button>
        <button type="button" className="button button-danger" disabled={busy} onClick={() => setRejecting(true)}>
          <X aria-hidden className="size-4" />
          {sending === 'reject' ? 'Rejecting…' : 'Reject'}
        </button>
        <p id="plan-words-hint" className="text-sm text-soft sm:ml-auto">
          Changes need words. Ctrl+Enter approves.
        </p>
      </div>
      <Confirm
        open={rejecting}
        title="Reject this plan?"
        yes="Reject and cancel the run"
        no="Keep it open"
        onClose={() => setRejecting(false)}
        onYes={() => {
          setRejecting(false)
          answer.send({ kind: 'reject', plan })
        }}
      >
        The run “{run.title}” is cancelled. What you typed is kept with it as the reason.
      </Confirm>
    </div>
  )
}
