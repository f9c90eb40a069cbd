import type { Command } from 'commander'
import { API_PREFIX, conversationRoutes, Run, runRoutes } from '../../contract/index.ts'
import { fillPath } from '../../sdk/client.ts'
import { bodyOf, type Context, clientOf, type Given, webAddress } from '../context.ts'
import { showConversation } from '../conversation.ts'
import { runLines } from '../states.ts'

export function declare(command: Command): void {
  command.argument('<run>', 'id of the run').option('--conversation', 'its conversation instead')
}

export async function run(context: Context, given: Given): Promise<void> {
  const run_id = given.args[0] ?? ''
  if (given.options.conversation === true) return showConversation(context, conversationRoutes.ofRun, { run_id })
  const path = API_PREFIX + fillPath(runRoutes.get.path, { run_id })
  const body = await bodyOf(await clientOf(context).raw('GET', path, { signal: context.signal }))
  await context.out.show(body, () => runLines(Run.parse(body), webAddress(context, run_id)))
}
