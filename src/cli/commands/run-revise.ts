import type { Command } from 'commander'
import { type Context, clientOf, type Given, readAll } from '../context.ts'
import { readPlan, VERSION_OPTION, versionOf } from '../plans.ts'

const WORDS_BYTES_MAX = 64 * 1024

export function declare(command: Command): void {
  command
    .argument('<run>', 'the run whose plan is to be changed')
    .argument('<message>', 'what to change; - reads it from stdin')
    .option(...VERSION_OPTION)
}

export async function run(context: Context, given: Given): Promise<void> {
  const client = clientOf(context)
  const [run_id = '', text = ''] = given.args
  const message = text === '-' ? await readAll(context.stdin, WORDS_BYTES_MAX, 'The message on stdin') : text
  const { version } = await readPlan(context, client, run_id, versionOf(given.options.planVersion))
  const plan = await client.plans.revise({ params: { run_id, version }, body: { message }, signal: context.signal })
  await context.out.show(plan, () => [`The agent is asked to change version ${version} and to propose it again.`])
}
