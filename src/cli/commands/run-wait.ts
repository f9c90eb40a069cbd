import type { Command } from 'commander'
import { type Context, clientOf, type Given } from '../context.ts'
import { EXIT } from '../exits.ts'
import { limitOf, waitForEnd } from '../waiting.ts'

export function declare(command: Command): void {
  command
    .argument('<run...>', 'ids of the runs')
    .option('--timeout <duration>', 'stop waiting after this long (exit code 8); the runs go on')
    .option('--fail-on-input', 'stop with exit code 7 when a run waits for a person')
}

/** The exit code is that of the first run that did not succeed. */
export async function run(context: Context, given: Given): Promise<number> {
  const client = clientOf(context)
  const timeout_ms = limitOf(given.options.timeout)
  const until = timeout_ms === undefined ? undefined : performance.now() + timeout_ms
  let code: number = EXIT.ok
  for (const run_id of given.args) {
    const left = until === undefined ? undefined : Math.max(1, Math.ceil(until - performance.now()))
    const ended = await waitForEnd(context, client, {
      run_id,
      timeout_ms: left,
      fail_on_input: given.options.failOnInput === true,
    })
    if (code === EXIT.ok) code = ended
  }
  return code
}
