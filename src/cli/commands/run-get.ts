import type { Command } from 'commander'
import { API_PREFIX, Conversation, Run, runRoutes, transcriptRoutes } from '../../contract/index.ts'
import { fillPath } from '../../sdk/client.ts'
import { bodyOf, type Context, clientOf, type Given, webAddress } from '../context.ts'
import { conversationLines } from '../conversation.ts'
import { runLines } from '../states.ts'

export function declare(command: Command): void {
  command.argument('<run>', 'id of the run').option('--conversation', 'its conversation instead')
}

export async function run(context: Context, given: Given): Promise<void> {
  const run_id = given.args[0] ?? ''
  const client = clientOf(context)
  const route = given.options.conversation === true ? transcriptRoutes.conversation : runRoutes.get
  const body = await bodyOf(
    await client.raw('GET', API_PREFIX + fillPath(route.path, { run_id }), { signal: context.signal }),
  )
  await context.out.show(body, () =>
    route === runRoutes.get
      ? runLines(Run.parse(body), webAddress(context, run_id))
      : conversationLines(Conversation.parse(body)),
  )
}
