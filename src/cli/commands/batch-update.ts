import type { Command } from 'commander'
import { batchRoutes } from '../../contract/index.ts'
import { countsOf } from '../batches.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { plural } from '../text.ts'

export function declare(command: Command): void {
  command
    .argument('<batch>', 'id of the batch')
    .requiredOption('-c, --concurrency <n>', 'so many tasks are at work at a time; those at work go on')
}

export async function run(context: Context, { args, options }: Given): Promise<void> {
  const [batch_id = ''] = args
  const body = batchRoutes.update.body.safeParse({ concurrency: Number(options.concurrency) })
  if (!body.success) throw new CommandFailure('usage', '--concurrency is a whole number from 1 to 1000.')
  const batch = await clientOf(context).batches.update({
    params: { batch_id },
    body: body.data,
    signal: context.signal,
  })
  await context.out.show(batch, () => [
    `${plural(batch.concurrency, 'task')} at a time from now on: ${countsOf(batch)}`,
  ])
}
