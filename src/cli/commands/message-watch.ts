import type { Command } from 'commander'
import { actingClient } from '../acting.ts'
import type { Context, Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'
import { followMessages, incomingLines } from '../messages.ts'
import { duration } from '../text.ts'

export function declare(command: Command): void {
  command
    .argument('<run>', 'id of the run')
    .option('--since-sequence <n>', 'only what came after this place in the log', '0')
    .addHelpText(
      'after',
      `
It goes on until it is stopped, also across restarts of the server. Programs read it with -o ndjson: one line a message,
with sequence, message_id, sender_run_id, subject, body and occurred_at. Nothing is marked as delivered.`,
    )
}

export async function run(context: Context, given: Given): Promise<void> {
  const since = Number(given.options.sinceSequence)
  if (!Number.isSafeInteger(since) || since < 0)
    throw new CommandFailure(
      'usage',
      `--since-sequence "${String(given.options.sinceSequence)}" is no place in the log.`,
    )
  const messages = followMessages({
    client: actingClient(context),
    run_id: given.args[0] ?? '',
    since,
    onBreak: (why, again_ms) =>
      context.out.note(`The line broke (${why.replace(/\.$/, '')}); trying again in ${duration(again_ms)}.`),
    signal: context.signal,
  })
  for await (const message of messages) await context.out.record(message, () => incomingLines(message))
}
