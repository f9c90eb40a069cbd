import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'
import { plural } from '../text.ts'

export function declare(command: Command): void {
  command.argument('<batch>', 'id of the batch')
}

export async function run(context: Context, { args }: Given): Promise<void> {
  const [batch_id = ''] = args
  const batch = await clientOf(context).batches.pause({ params: { batch_id }, signal: context.signal })
  const { running, pending } = batch.counts
  await context.out.show(batch, () => [
    `Paused. ${running === 0 ? 'None is at work' : `${plural(running, 'task')} at work ${running === 1 ? 'goes' : 'go'} on`}; ${pending} ${pending === 1 ? 'waits' : 'wait'}.`,
    `Go on with: baton batch resume ${batch_id}`,
  ])
}
