/** One model call, streamed to the client. */
import {
  type AssistantModelMessage,
  type FinishReason,
  jsonSchema,
  type ModelMessage,
  streamText,
  type ToolSet,
  tool,
} from 'ai'
import type { OpenModel } from './models.ts'
import type { Listener } from './session.ts'
import type { Settings } from './settings.ts'
import type { Tool } from './tools/tool.ts'
import { NO_TOKENS, parseTokens, type Tokens } from './usage.ts'

export type ToolCall = { id: string; name: string; input: unknown }

export type ModelStep = {
  /** What to add to the history. */
  messages: AssistantModelMessage[]
  calls: ToolCall[]
  finish: FinishReason
  tokens: Tokens
  cancelled: boolean
}

type Call = {
  model: OpenModel
  instructions: string
  messages: ModelMessage[]
  tools: Tool[]
  listener: Listener
  retries: number
  reasoning: Settings['BATON_REASONING']
  signal: AbortSignal
}

/** Marks where Anthropic may cache the prompt; other providers do so by themselves. */
const CACHE = { anthropic: { cacheControl: { type: 'ephemeral' } } }

export async function callModel({
  model,
  instructions,
  messages,
  tools,
  listener,
  retries,
  reasoning,
  signal,
}: Call): Promise<ModelStep> {
  const last = messages.at(-1)
  const result = streamText({
    model: model.model,
    instructions: { role: 'system', content: instructions, providerOptions: CACHE },
    messages: last ? [...messages.slice(0, -1), { ...last, providerOptions: CACHE }] : messages,
    tools: offered(tools),
    abortSignal: signal,
    maxRetries: retries,
    ...(reasoning && { reasoning }),
    // The error also comes as a part of the stream; by default the SDK prints it.
    onError: () => undefined,
  })
  const calls: ToolCall[] = []
  let said = ''
  try {
    for await (const part of result.stream) {
      if (part.type === 'text-delta') {
        said += part.text
        await say(listener, 'agent_message_chunk', part.text)
      } else if (part.type === 'reasoning-delta') {
        await say(listener, 'agent_thought_chunk', part.text)
      } else if (part.type === 'tool-call' && !part.providerExecuted) {
        calls.push({ id: part.toolCallId, name: part.toolName, input: part.input })
      } else if (part.type === 'error') {
        throw part.error
      } else if (part.type === 'abort') {
        return cancelledStep(said)
      }
    }
    const answered = await result.responseMessages
    return {
      messages: answered.flatMap((message) => (message.role === 'assistant' ? [withObjectInputs(message)] : [])),
      calls,
      finish: await result.finishReason,
      tokens: parseTokens(await result.usage),
      cancelled: false,
    }
  } catch (error) {
    if (signal.aborted) return cancelledStep(said)
    throw error
  }
}

/** Without `execute`: the turn runs the calls itself, in order, and asks first. */
function offered(tools: Tool[]): ToolSet {
  return Object.fromEntries(
    tools.map(({ name, description, schema }) => [
      name,
      tool({ description, inputSchema: jsonSchema<unknown>(schema) }),
    ]),
  )
}

async function say(
  listener: Listener,
  sessionUpdate: 'agent_message_chunk' | 'agent_thought_chunk',
  text: string,
): Promise<void> {
  if (text !== '') await listener.update({ sessionUpdate, content: { type: 'text', text } })
}

function cancelledStep(said: string): ModelStep {
  const messages: AssistantModelMessage[] =
    said.trim() === '' ? [] : [{ role: 'assistant', content: `${said}\n[cancelled here]` }]
  return { messages, calls: [], finish: 'other', tokens: NO_TOKENS, cancelled: true }
}

/** The input of a call that could not be parsed is its raw text, which providers refuse to take back. */
function withObjectInputs(message: AssistantModelMessage): AssistantModelMessage {
  if (typeof message.content === 'string') return message
  const content = message.content.map((part) => {
    const whole = part.type !== 'tool-call' || (typeof part.input === 'object' && part.input !== null)
    return whole ? part : { ...part, input: {} }
  })
  return { ...message, content }
}
