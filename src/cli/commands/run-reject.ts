import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'
import { readPlan, VERSION_OPTION, versionOf } from '../plans.ts'

export function declare(command: Command): void {
  command
    .argument('<run>', 'the run whose plan is rejected; it is cancelled')
    .argument('[message]', 'why')
    .option(...VERSION_OPTION)
}

export async function run(context: Context, given: Given): Promise<void> {
  const client = clientOf(context)
  const [run_id = '', message] = given.args
  const { version } = await readPlan(context, client, run_id, versionOf(given.options.planVersion))
  const plan = await client.plans.reject({
    params: { run_id, version },
    body: message === undefined ? {} : { message },
    signal: context.signal,
  })
  await context.out.show(plan, () => [`Version ${version} is rejected and its run cancelled.`])
}
