import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'

export function declare(command: Command): void {
  command.argument('<run...>', 'ids of the runs')
}

export async function run(context: Context, given: Given): Promise<void> {
  const client = clientOf(context)
  for (const run_id of given.args) {
    const answer = await client.runs.cancel({ params: { run_id }, signal: context.signal })
    await context.out.show(answer, () => [`Cancelling ${run_id}. See how it ends: baton run wait ${run_id}`])
  }
}
