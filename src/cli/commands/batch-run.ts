import type { Command } from 'commander'
import { askedBatch, declareBatch, placedFault } from '../asking-batch.ts'
import { type Context, clientOf, type Given, webAddress } from '../context.ts'
import { declareIdempotency, idempotencyOf } from '../idempotency.ts'
import { plural } from '../text.ts'
import { declareWaiting } from '../waiting.ts'
import { waitForBatch } from '../waiting-batch.ts'

export function declare(command: Command): void {
  declareIdempotency(declareWaiting(declareBatch(command))).addHelpText(
    'after',
    `
A file has the fields of POST /agent/batches; see docs/batches.md. Options go before its "defaults", a task's own
words before both. Nothing is started if anything is wrong.

Examples:
  baton batch run tasks.yaml --follow
  baton batch run -t "Fix the lint errors" -t "Update the docs" --repo . --harness claude
  git ls-files '*.test.ts' | sed 's/^/npx vitest run /' | baton batch run --harness command --repo . --wait
  baton batch run --template review-swarm --set repo=. --set branches=feature/a --follow`,
  )
}

export async function run(context: Context, given: Given): Promise<number> {
  const { options, args } = given
  const client = clientOf(context)
  const read = await askedBatch(context, options, args[0])
  const batch = await client.batches
    .create({ body: read.batch, signal: context.signal, ...idempotencyOf(options) })
    .catch((error: unknown) => {
      throw placedFault(error, read)
    })
  const { batch_id, tasks, concurrency } = batch
  const said = [
    `Started batch ${batch_id}: ${plural(tasks, 'task')}, ${tasks <= concurrency ? 'all' : concurrency} at a time.`,
    `View batch: ${webAddress(context, batch_id)}`,
    ...(options.follow === true || options.wait === true ? [] : [`Watch it with: baton batch watch ${batch_id}`]),
  ]
  return waitForBatch(context, client, options, { batch, before: [], said })
}
