import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'
import { answerLines, openPlanLines, planLines, readPlan, versionOf } from '../plans.ts'

export function declare(command: Command): void {
  command
    .argument('[run]', 'the run whose plan is shown; without it, all plans that wait for an answer')
    .option('--plan-version <n>', 'this version; the newest where absent')
    .option('--all', 'all versions, newest first')
}

export async function run(context: Context, given: Given): Promise<void> {
  const { out, signal } = context
  const client = clientOf(context)
  const [run_id] = given.args
  if (run_id === undefined) {
    const body = await client.plans.list({ query: { state: 'proposed', limit: 500 }, signal })
    await out.show(
      body,
      () => (body.plans.length === 0 ? [] : openPlanLines(body.plans, Date.now(), out.width)),
      () => body.plans,
    )
    if (body.plans.length === 0) out.note('No plan waits for an answer.')
    return
  }
  if (given.options.all === true) {
    const body = await client.plans.ofRun({ params: { run_id }, signal })
    const shown = () =>
      body.plans.flatMap((plan, at) => [...(at === 0 ? [] : ['', '―――', '']), ...planLines(plan, out.width)])
    await out.show(body, shown, () => body.plans)
    if (body.plans.length === 0) out.note('This run has proposed no plan.')
    return
  }
  const plan = await readPlan(context, client, run_id, versionOf(given.options.planVersion))
  await out.show(plan, () => planLines(plan, out.width))
  if (!out.machine && plan.state === 'proposed') for (const line of answerLines(plan)) out.note(line)
}
