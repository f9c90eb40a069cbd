/** What a command that set a batch going does next: nothing, wait for its end, or show it as it happens. */
import { API_PREFIX, type Batch, type BatchTask, batchRoutes } from '../contract/index.ts'
import { type Client, fillPath } from '../sdk/client.ts'
import { countsOf, endOfBatch, exitOfBatch, isOver, paintBatch } from './batches.ts'
import { bodyOf, type Context } from './context.ts'
import { EXIT } from './exits.ts'
import { followBatch } from './follow-batch.ts'
import { limitOf } from './waiting.ts'
import { stopped, watchBatch } from './watch-batch.ts'

export async function waitForBatch(
  context: Context,
  client: Client,
  options: Record<string, unknown>,
  { batch, before, said }: { batch: Batch; before: BatchTask[]; said: string[] },
): Promise<number> {
  const { out } = context
  const { batch_id } = batch
  const timeout_ms = limitOf(options.timeout)
  const fail_on_input = options.failOnInput === true
  if (options.follow === true) {
    await out.record(batch, () => said)
    return watchBatch(context, { client, batch_id, timeout_ms, fail_on_input, before })
  }
  if (options.wait !== true) {
    await out.show(batch, () => said)
    return EXIT.ok
  }
  if (!out.machine) for (const line of said) out.line(line)
  return waitForEnd(context, client, { batch_id, timeout_ms, fail_on_input })
}

type Wait = { batch_id: string; timeout_ms: number | undefined; fail_on_input: boolean }

/** Shows the batch as it stands in the end; answers the exit code for it. */
async function waitForEnd(context: Context, client: Client, asked: Wait): Promise<number> {
  const { out } = context
  const { batch_id, timeout_ms, fail_on_input } = asked
  const late = timeout_ms === undefined ? null : AbortSignal.timeout(timeout_ms)
  const signal = late ? AbortSignal.any([context.signal, late]) : context.signal
  const progress = out.progress(`Waiting for batch ${batch_id}`)
  let needs_input = false
  try {
    const batch = await followBatch({
      client,
      batch_id,
      input: fail_on_input,
      signal,
      async onLook(look) {
        needs_input = look.needs_input
        progress.say(`Waiting for batch ${batch_id}: ${paintBatch(look.batch.state)} · ${countsOf(look.batch)}`)
        return !needs_input
      },
      onLine: async () => {},
    })
    progress.done()
    const body = await bodyOf(await client.raw('GET', API_PREFIX + fillPath(batchRoutes.get.path, { batch_id })))
    await out.show(body, () => endOfBatch(batch))
    return needs_input && !isOver(batch) ? EXIT.needs_input : EXIT[exitOfBatch(batch)]
  } catch (error) {
    throw stopped(context, batch_id, late, error)
  } finally {
    progress.done()
  }
}
