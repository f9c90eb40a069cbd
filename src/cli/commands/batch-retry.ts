import type { Command } from 'commander'
import { z } from 'zod'
import { countsOf, everyTask } from '../batches.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { collect } from '../named.ts'
import { declareWaiting } from '../waiting.ts'
import { waitForBatch } from '../waiting-batch.ts'

export function declare(command: Command): void {
  declareWaiting(
    command
      .argument('<batch>', 'id of the batch')
      .option(
        '-t, --task <name>',
        'this task, with what it depends on and what waits for it; may be repeated; where absent all that failed or were cancelled',
        collect,
      ),
  )
}

export async function run(context: Context, { args, options }: Given): Promise<number> {
  const [batch_id = ''] = args
  const client = clientOf(context)
  const tasks = z.array(z.string()).optional().parse(options.task)
  const body = tasks === undefined ? {} : { tasks }
  const before = options.follow === true ? await everyTask(client, batch_id, { signal: context.signal }) : []
  const batch = await client.batches.retry({ params: { batch_id }, body, signal: context.signal })
  const said = [`Batch ${batch_id} goes on: ${countsOf(batch)}`]
  return waitForBatch(context, client, options, { batch, before, said })
}
