import type { Command } from 'commander'
import { countsOf } from '../batches.ts'
import { type Context, clientOf, type Given } from '../context.ts'

export function declare(command: Command): void {
  command.argument('<batch>', 'id of the batch')
}

export async function run(context: Context, { args }: Given): Promise<void> {
  const [batch_id = ''] = args
  const batch = await clientOf(context).batches.cancel({ params: { batch_id }, signal: context.signal })
  await context.out.show(batch, () => [`Cancelled, with all that its tasks started: ${countsOf(batch)}`])
}
