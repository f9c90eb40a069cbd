/** Answering a plan: the draft of the answer, sending it, and what the server said to it. */
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useEffect, useState } from 'react'
import { Fault, type Plan, type Run } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { EMPTY_PLAN_DRAFT, editsOf, readPlanDraft, settleEdits, writePlanDraft } from '../data/plan-draft.ts'
import { keys } from '../data/queries.ts'
import { putRun } from '../data/runs.ts'
import { useAnnounce } from './announce.tsx'

export type Answer = { kind: 'approve' | 'revise' | 'reject'; plan: Plan }

const SAID: Record<Answer['kind'], string> = {
  approve: 'The plan was approved.',
  revise: 'The agent was asked for changes.',
  reject: 'The plan was rejected.',
}

export type PlanAnswer = ReturnType<typeof usePlanAnswer>

export function usePlanAnswer(run: Run) {
  const { client } = useAsking()
  const held = useQueryClient()
  const announce = useAnnounce()
  const { run_id } = run
  const [draft, setDraft] = useState(() => readPlanDraft(run_id))
  useEffect(() => writePlanDraft(run_id, draft), [run_id, draft])
  const send = useMutation({
    mutationFn: ({ kind, plan }: Answer): Promise<Plan> => {
      const params = { run_id, version: plan.version }
      const message = draft.words.trim()
      const said = message === '' ? {} : { message }
      if (kind === 'revise') return client.plans.revise({ params, body: { message } })
      if (kind === 'reject') return client.plans.reject({ params, body: said })
      return client.plans.approve({ params, body: { ...settleEdits(plan, editsOf(draft, plan.version)), ...said } })
    },
    onSuccess: (_, { kind }) => {
      // What was edited is not sent with a request for changes: it may be done to the next version again.
      setDraft((now) => (kind === 'revise' ? { ...now, words: '' } : EMPTY_PLAN_DRAFT))
      announce(SAID[kind])
    },
    onSettled: async () => {
      void held.invalidateQueries({ queryKey: keys.plans(run_id) })
      void held.invalidateQueries({ queryKey: keys.needs })
      putRun(held, await client.runs.get({ params: { run_id } }))
    },
  })
  return {
    draft,
    setDraft,
    send: (answer: Answer) => {
      if (!send.isPending) send.mutate(answer)
    },
    sending: send.isPending ? send.variables.kind : undefined,
    refusal: send.isError ? send.error : undefined,
    /** The version that was answered too late, and what the one that waits has otherwise. */
    outdated: send.isError ? outdatedBy(send.error, send.variables.plan.version) : undefined,
    forget: send.reset,
  }
}

function outdatedBy(error: unknown, version: number) {
  if (!(error instanceof Fault) || error.code !== 'conflict' || error.details.errors === undefined) return undefined
  return { version, message: error.message, differences: error.details.errors }
}
