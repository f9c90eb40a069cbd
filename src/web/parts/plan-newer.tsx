/** A version that is no longer the one that waits: what the newer one has otherwise, and the way to it. */
import { CircleAlert } from 'lucide-react'
import { useState } from 'react'
import type { Plan } from '../../contract/index.ts'
import { carryEdits, editsOf, isEdited } from '../data/plan-draft.ts'
import { Diff, Disclosure } from '../transcript/blocks.tsx'
import type { PlanAnswer } from './plan-answer.ts'

type Props = { plan: Plan; waiting: Plan | undefined; answer: PlanAnswer; onShow: (version: number) => void }

export function NewerVersion({ plan, waiting, answer, onShow }: Props) {
  const [comparing, setComparing] = useState(false)
  const { draft, setDraft, outdated } = answer
  if (!waiting) return null
  const edits = editsOf(draft, plan.version)
  const carried = carryEdits(plan, edits, waiting)
  const take = () => {
    setDraft((now) => ({ ...now, edits: { [waiting.version]: carried } }))
    onShow(waiting.version)
  }
  return (
    <div role="status" className="flex flex-col gap-2 rounded-xl border border-needs bg-needs-wash px-4 py-3">
      <p className="flex items-start gap-2">
        <CircleAlert aria-hidden className="mt-1 size-4 shrink-0 text-needs" />
        <span>
          {outdated === undefined ? '' : 'Your answer was not taken. '}
          <strong className="font-semibold">Version {waiting.version} waits for an answer now;</strong>
          {` this is version ${plan.version}.`}
          {(isEdited(edits) || draft.words !== '') && ' What you edited and typed is kept.'}
        </span>
      </p>
      {outdated?.version === plan.version && outdated.differences.length > 0 && (
        <div className="text-sm">
          <p>What differs:</p>
          <ul className="ml-4 list-disc">
            {outdated.differences.map(({ pointer, detail }) => (
              <li key={pointer} className="wrap-anywhere">
                <span className="font-medium">{placeWords(pointer, plan)}</span> {detail}
              </li>
            ))}
          </ul>
        </div>
      )}
      {plan.document !== waiting.document && (
        <Disclosure open={comparing} onToggle={() => setComparing(!comparing)} summary="Compare the texts">
          <Diff change={{ path: 'plan.md', old_text: plan.document, new_text: waiting.document }} />
        </Disclosure>
      )}
      <div className="flex flex-wrap gap-2">
        <button type="button" className="button button-first" onClick={() => onShow(waiting.version)}>
          Show version {waiting.version}
        </button>
        {isEdited(carried) && (
          <button type="button" className="button" onClick={take}>
            Show it with my edits
          </button>
        )}
      </div>
    </div>
  )
}

const PLACES: Record<string, string> = {
  title: 'Title',
  document: 'Text',
  children: 'Children',
  config: 'For all children',
  model_id: 'model',
  where: 'host',
  auth: 'access to models',
  expected_return: 'expected return',
}

/** `/children/0/prompt` as `Children, one, prompt:`. */
function placeWords(pointer: string, plan: Plan): string {
  const parts = pointer.split('/').slice(1)
  const words = parts.map((part, at) =>
    parts[at - 1] === 'children'
      ? (plan.children[Number(part)]?.name ?? `number ${Number(part) + 1}`)
      : (PLACES[part] ?? part),
  )
  return `${words.join(', ')}:`
}
