import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'
import { declareWaiting, waitAsAsked } from '../waiting.ts'

export function declare(command: Command): void {
  declareWaiting(command.argument('<run>', 'id of a run that has ended'))
}

export async function run(context: Context, given: Given): Promise<number> {
  const client = clientOf(context)
  const created = await client.runs.retry({ params: { run_id: given.args[0] ?? '' }, signal: context.signal })
  const said = [`Run ${created.run_id} starts again (${created.state}).`]
  return waitAsAsked(context, client, given.options, { created, said })
}
