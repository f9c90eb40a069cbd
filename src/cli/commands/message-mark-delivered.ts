import type { Command } from 'commander'
import { actingClient } from '../acting.ts'
import type { Context, Given } from '../context.ts'

export function declare(command: Command): void {
  command
    .argument('<message>', 'id of the message')
    .addHelpText(
      'after',
      '\nSays that the agent was given it, so that it is not given it again. Repeating it changes nothing.',
    )
}

export async function run(context: Context, given: Given): Promise<void> {
  const message_id = given.args[0] ?? ''
  await actingClient(context).messages.delivered({ params: { message_id }, signal: context.signal })
  await context.out.show({ message_id, delivered: true }, () => [`Message ${message_id} is delivered.`])
}
