import type { Command } from 'commander'
import { countsOf, isOver, paintBatch } from '../batches.ts'
import { type Context, clientOf, type Given } from '../context.ts'

export function declare(command: Command): void {
  command.argument('<batch>', 'id of the batch')
}

export async function run(context: Context, { args }: Given): Promise<void> {
  const [batch_id = ''] = args
  const batch = await clientOf(context).batches.resume({ params: { batch_id }, signal: context.signal })
  const how = isOver(batch) ? 'It has ended already' : 'It goes on'
  await context.out.show(batch, () => [`${how}: ${paintBatch(batch.state)} · ${countsOf(batch)}`])
}
