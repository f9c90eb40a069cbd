/** `session/load` tells the client again what was said, as ACP asks; results of tools come whole, without diffs. */
import type { Session } from './session.ts'
import { textOf } from './turn.ts'

export async function replay({ history, listener, tools }: Session): Promise<void> {
  for (const message of history.messages) {
    const text = textOf(message)
    if (message.role === 'user') {
      await listener.update({ sessionUpdate: 'user_message_chunk', content: { type: 'text', text } })
    } else if (message.role === 'assistant') {
      if (text !== '') await listener.update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } })
      for (const part of typeof message.content === 'string' ? [] : message.content) {
        if (part.type !== 'tool-call') continue
        const kind = tools.find(({ name }) => name === part.toolName)?.kind ?? 'other'
        const { toolCallId, toolName: name, input: rawInput } = part
        await listener.update({
          sessionUpdate: 'tool_call',
          toolCallId,
          name,
          title: name,
          kind,
          rawInput,
          status: 'pending',
        })
      }
    } else if (message.role === 'tool') {
      for (const part of message.content) {
        if (part.type !== 'tool-result') continue
        const output = part.output
        const said = output.type === 'text' || output.type === 'error-text' ? output.value : 'Denied.'
        await listener.update({
          sessionUpdate: 'tool_call_update',
          toolCallId: part.toolCallId,
          status: output.type === 'text' ? 'completed' : 'failed',
          content: [{ type: 'content', content: { type: 'text', text: said } }],
        })
      }
    }
  }
}
