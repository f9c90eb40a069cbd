import type { Command } from 'commander'
import type { Client } from '../../sdk/client.ts'
import { type Context, clientOf, type Given } from '../context.ts'
import { oneLine, plural } from '../text.ts'
import { livingNodes } from '../tree.ts'

export function declare(command: Command): void {
  command
    .argument('<run...>', 'ids of the runs')
    .option('--tree', 'each with all that descends from it, at once: none of them can start another meanwhile')
}

export async function run(context: Context, given: Given): Promise<void> {
  const client = clientOf(context)
  const cascade = given.options.tree === true
  for (const run_id of given.args) {
    const blast = cascade ? await blastLine(context, client, run_id) : null
    const answer = await client.runs.cancel({
      params: { run_id },
      ...(cascade ? { body: { cascade } } : {}),
      signal: context.signal,
    })
    await context.out.show(answer, () => {
      if (!cascade) return [`Cancelling ${run_id}. See how it ends: baton run wait ${run_id}`]
      if (blast === null) return [`There is nothing to cancel: ${run_id} and all below it have ended.`]
      return [blast, `See how they end: baton run tree ${run_id}`]
    })
  }
}

const NAMED = 5

/** How many runs end by it, and which; asked before, since what has ended is no longer counted. Null: none. */
async function blastLine(context: Context, client: Client, run_id: string): Promise<string | null> {
  const living = livingNodes(await client.trees.get({ params: { run_id }, signal: context.signal }))
  if (living.length === 0) return null
  const names = living.slice(0, NAMED).map((node) => oneLine(node.name || node.title || node.run_id))
  const more = living.length - names.length
  return `Cancelling ${plural(living.length, 'run')}: ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}
