import type { Command } from 'commander'
import { conversationRoutes } from '../../contract/index.ts'
import type { Context, Given } from '../context.ts'
import { showConversation } from '../conversation.ts'

export function declare(command: Command): void {
  command.argument('<conversation>', 'id of the conversation')
}

export const run = (context: Context, given: Given): Promise<void> =>
  showConversation(context, conversationRoutes.get, { conversation_id: given.args[0] ?? '' })
