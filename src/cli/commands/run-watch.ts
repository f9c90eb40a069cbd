import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'
import { limitOf } from '../waiting.ts'
import { watch } from '../watch.ts'

export function declare(command: Command): void {
  command
    .argument('<run>', 'id of the run')
    .option('--no-entries', 'states only')
    .option('--timeout <duration>', 'give up watching after this long (exit code 8); the run goes on')
    .option('--fail-on-input', 'stop with exit code 7 when the run waits for a person')
}

export function run(context: Context, given: Given): Promise<number> {
  return watch(context, {
    client: clientOf(context),
    run_id: given.args[0] ?? '',
    entries: given.options.entries !== false,
    timeout_ms: limitOf(given.options.timeout),
    fail_on_input: given.options.failOnInput === true,
  })
}
