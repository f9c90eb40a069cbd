/** The normalized conversation as lines for a person. */
import type { Block, Conversation } from '../contract/index.ts'
import { paint } from './output.ts'
import { oneLine } from './text.ts'

export function conversationLines(conversation: Conversation): string[] {
  const lines: string[] = []
  for (const step of conversation.steps) {
    for (const message of step.messages) {
      for (const block of message.content) lines.push(...blockLines(message.role, block))
    }
  }
  return lines
}

function blockLines(role: string, block: Block): string[] {
  switch (block.type) {
    case 'text':
      return block.text.split('\n').map((line) => (role === 'user' ? paint.bold(`> ${line}`) : line))
    case 'action':
      return [
        `${paint.cyan('●')} ${paint.bold(oneLine(block.name))} ${oneLine(JSON.stringify(block.input ?? null)).slice(0, 160)}`,
      ]
    case 'action_result':
      return [paint.dim(`  ${block.state}`)]
    case 'event':
      return [paint.dim(`· ${oneLine(block.name)}`)]
  }
}
