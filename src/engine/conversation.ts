/** The Oz normalized conversation: entries of any harness as steps of messages with four kinds of block. */
import type { Block, Conversation, Entry, ToolCategory } from '../contract/index.ts'

type ShownExecution = {
  execution_id: string
  number: number
  started_at: Date | null
  ended_at: Date | null
  outcome: string | null
}
type Message = Conversation['steps'][number]['messages'][number]

/** One step per execution; neighbouring entries of one role are one message. */
export function renderConversation(
  conversation_id: string,
  executions: ShownExecution[],
  entries: Entry[],
): Conversation {
  const steps = executions.map((execution) => ({
    id: execution.execution_id,
    description: `Execution ${execution.number}`,
    ...(execution.outcome === null ? {} : { summary: execution.outcome }),
    ...(execution.started_at === null ? {} : { started_at: execution.started_at.toISOString() }),
    ...(execution.ended_at === null ? {} : { completed_at: execution.ended_at.toISOString() }),
    messages: renderMessages(entries.filter((entry) => entry.execution_id === execution.execution_id)),
    steps: [],
  }))
  return { conversation_id, steps }
}

function renderMessages(entries: Entry[]): Message[] {
  const messages: Message[] = []
  const calls = new Map<string, { category: ToolCategory; name: string }>()
  for (const entry of entries) {
    const { body } = entry
    if (body.kind === 'tool_call') calls.set(body.call_id, { category: body.category, name: body.name })
    const role = roleOf(entry)
    const last = messages.at(-1)
    const block = renderBlock(entry, calls)
    if (last?.role === role) last.content.push(block)
    else messages.push({ role, timestamp: entry.at, content: [block] })
  }
  return messages
}

function roleOf(entry: Entry): Message['role'] {
  switch (entry.body.kind) {
    case 'prompt':
      return 'user'
    case 'text':
    case 'thought':
    case 'tool_call':
    case 'plan':
      return 'assistant'
    case 'tool_result':
    case 'output':
      return 'tool'
    case 'system':
    case 'gap':
    case 'unknown':
      return 'system'
  }
}

function renderBlock({ body }: Entry, calls: Map<string, { category: ToolCategory; name: string }>): Block {
  switch (body.kind) {
    case 'prompt':
    case 'text':
      return { type: 'text', text: body.text }
    case 'thought':
      return { type: 'event', name: 'reasoning', data: { text: body.text } }
    case 'tool_call':
      return {
        type: 'action',
        id: body.call_id,
        category: body.category,
        name: body.name,
        input: body.input ?? { title: body.title },
      }
    case 'tool_result': {
      const call = calls.get(body.call_id) ?? { category: 'command' as const, name: 'unknown' }
      return {
        type: 'action_result',
        action_id: body.call_id,
        ...call,
        state: body.status,
        output: {
          text: body.output,
          ...(body.exit_code === undefined ? {} : { exit_code: body.exit_code }),
          ...(body.changes === undefined ? {} : { changes: body.changes }),
        },
      }
    }
    case 'plan':
      return { type: 'event', name: 'plan', data: { items: body.items } }
    case 'output':
      return { type: 'event', name: body.stream, data: { text: body.text } }
    case 'system':
      return { type: 'event', name: body.name, data: { level: body.level, text: body.text, ...body.details } }
    case 'gap':
      return { type: 'event', name: 'gap', data: { bytes: body.bytes, reason: body.reason } }
    case 'unknown':
      return { type: 'event', name: 'unknown', data: body.raw }
  }
}
