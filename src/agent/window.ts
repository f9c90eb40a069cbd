/**
 * What a model sees of a history that has grown too long: all of it, but the oldest large tool outputs are replaced by
 * a mark. The place up to which they are replaced only moves when the limit is passed again, and then by a half of the
 * limit, so that a provider's prompt cache stays good between.
 */
import type { ModelMessage, ToolModelMessage } from 'ai'

type ToolPart = ToolModelMessage['content'][number]

/** Outputs below this are kept: the mark would not be shorter by much. */
const small_chars = 400
const MARK = '[This old tool output was left out to save room. Call the tool again if you need it.]'

/** `cut`: how many of the first messages are shortened already. Answers the new `cut`, and the view. */
export function windowOf(
  messages: ModelMessage[],
  cut: number,
  chars_max: number,
): { cut: number; messages: ModelMessage[] } {
  let view = shorten(messages, cut)
  const sizes = view.map(sizeOf)
  let total = sizes.reduce((sum, size) => sum + size, 0)
  if (total <= chars_max) return { cut, messages: view }
  let at = cut
  // The last two messages are the work in hand.
  while (total > chars_max / 2 && at < messages.length - 2) {
    const message = messages[at]
    if (message) total -= (sizes[at] ?? 0) - sizeOf(shortenMessage(message))
    at += 1
  }
  view = shorten(messages, at)
  return { cut: at, messages: view }
}

const sizeOf = (message: ModelMessage): number => JSON.stringify(message.content).length

const shorten = (messages: ModelMessage[], cut: number): ModelMessage[] =>
  messages.map((message, at) => (at < cut ? shortenMessage(message) : message))

function shortenMessage(message: ModelMessage): ModelMessage {
  return message.role === 'tool' ? { ...message, content: message.content.map(shortenPart) } : message
}

function shortenPart(part: ToolPart): ToolPart {
  if (part.type !== 'tool-result' || JSON.stringify(part.output).length < small_chars) return part
  return { ...part, output: { type: 'text', value: MARK } }
}
