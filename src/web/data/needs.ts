/** What waits for a person: plans and blocked runs, read again when the log tells of one. */
import type { QueryClient } from '@tanstack/react-query'
import type { Event, Plan, Run } from '../../contract/index.ts'
import { keys } from './queries.ts'

/** Open plans, and tops of trees that have none and are blocked, or whose tree was stopped. */
export type Needs = { plans: (Plan & { run_title: string })[]; blocked: Run[] }

const ABOUT_PLANS: ReadonlySet<string> = new Set(['plan_proposed', 'plan_decided'])
const NEEDY: ReadonlySet<string> = new Set(['run_blocked', 'tree_stopped'])

export function renewNeeds(queries: QueryClient, events: Event[]): void {
  const needs = queries.getQueryData<Needs>(keys.needs)
  const waiting = new Set([...(needs?.plans ?? []), ...(needs?.blocked ?? [])].map((one) => one.run_id))
  const concerns = (event: Event) =>
    ABOUT_PLANS.has(event.event_type) || NEEDY.has(event.event_type) || waiting.has(event.run_id)
  if (events.some(concerns)) void queries.invalidateQueries({ queryKey: keys.needs })
  for (const event of events) {
    const ofPlan = ABOUT_PLANS.has(event.event_type) || event.event_type === 'run_cancelled'
    if (ofPlan) void queries.invalidateQueries({ queryKey: keys.plans(event.run_id) })
  }
}
