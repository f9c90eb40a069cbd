import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'
import { limitOf } from '../waiting.ts'
import { watchBatch } from '../watch-batch.ts'

export function declare(command: Command): void {
  command
    .argument('<batch>', 'id of the batch')
    .option('--timeout <duration>', 'give up watching after this long (exit code 8); the batch goes on')
    .option('--fail-on-input', 'stop with exit code 7 when a task waits for a person')
}

export function run(context: Context, { args, options }: Given): Promise<number> {
  return watchBatch(context, {
    client: clientOf(context),
    batch_id: args[0] ?? '',
    timeout_ms: limitOf(options.timeout),
    fail_on_input: options.failOnInput === true,
  })
}
