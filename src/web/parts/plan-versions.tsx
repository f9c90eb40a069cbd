/** All versions of a plan: whose each is, what became of it, and what was said. */
import type { Plan } from '../../contract/index.ts'
import { planStateWords } from '../words.ts'
import { When } from './clock.tsx'

type Props = { plans: Plan[]; shown: Plan; onShow: (version: number) => void }

export function PlanVersions({ plans, shown, onShow }: Props) {
  return (
    <div className="flex min-w-0 flex-col gap-1 text-sm">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <select
          aria-label="Version of the plan"
          className="field w-auto! max-w-full font-medium"
          value={shown.version}
          onChange={(event) => onShow(Number(event.target.value))}
        >
          {plans.map((plan) => (
            <option key={plan.version} value={plan.version}>
              v{plan.version} · {planStateWords(plan)}
            </option>
          ))}
        </select>
        <span className="text-soft">
          {shown.author === 'agent' ? 'Proposed by the agent' : `Edited by ${personOf(shown)}`}{' '}
          <When at={shown.created_at} />
          {shown.decided_at !== null && (
            <>
              {', answered '}
              <When at={shown.decided_at} />
            </>
          )}
        </span>
      </div>
      {shown.words && (
        <p className="border-l-2 border-line pl-3 whitespace-pre-wrap wrap-anywhere">
          <span className="text-soft">{personOf(shown)}: </span>
          {shown.words}
        </p>
      )}
    </div>
  )
}

const personOf = (plan: Plan): string => plan.decided_by?.display_name ?? 'a person'
