import type { Command } from 'commander'
import { API_PREFIX, Message, messageRoutes } from '../../contract/index.ts'
import { fillPath } from '../../sdk/client.ts'
import { actingClient } from '../acting.ts'
import { bodyOf, type Context, type Given } from '../context.ts'
import { messageLines } from '../messages.ts'

export function declare(command: Command): void {
  command.argument('<message>', 'id of the message').addHelpText('after', '\nReading marks it as read.')
}

export async function run(context: Context, given: Given): Promise<void> {
  const { method, path } = messageRoutes.read
  const filled = API_PREFIX + fillPath(path, { message_id: given.args[0] ?? '' })
  const body = await bodyOf(await actingClient(context).raw(method, filled, { signal: context.signal }))
  await context.out.show(body, () => messageLines(Message.parse(body)))
}
