/** The normalized conversation as lines for a person. */
import { API_PREFIX, type Block, Conversation, type ConversationStep, type Route } from '../contract/index.ts'
import { fillPath } from '../sdk/client.ts'
import { bodyOf, type Context, clientOf } from './context.ts'
import { paint } from './output.ts'
import { oneLine } from './text.ts'

/** Of an action's input and of what it came to, in characters. */
const INPUT_SHOWN = 160
const OUTPUT_LINES = 12

export async function showConversation(context: Context, route: Route, params: Record<string, string>): Promise<void> {
  const path = API_PREFIX + fillPath(route.path, params)
  const body = await bodyOf(await clientOf(context).raw('GET', path, { signal: context.signal }))
  await context.out.show(body, () => conversationLines(Conversation.parse(body)))
}

function conversationLines({ conversation_id, steps }: Conversation): string[] {
  const heading = paint.dim(`Conversation ${conversation_id}`)
  if (steps.length === 0) return [heading, 'Nothing has been said or done in it yet.']
  return [heading, ...steps.flatMap((step) => stepLines(step, ''))]
}

function stepLines(step: ConversationStep, indent: string): string[] {
  const title = oneLine(step.description ?? step.id)
  const end = step.summary === undefined ? '' : ` · ${step.summary}`
  const own = step.messages.flatMap(({ role, content }) => content.flatMap((block) => blockLines(role, block)))
  return [
    '',
    `${indent}${paint.bold(`── ${title}`)}${paint.dim(end)}`,
    ...own.map((line) => `${indent}${line}`),
    ...step.steps.flatMap((inner) => stepLines(inner, `${indent}  `)),
  ]
}

function blockLines(role: string, block: Block): string[] {
  switch (block.type) {
    case 'text':
      return block.text.split('\n').map((line) => (role === 'user' ? paint.bold(`> ${line}`) : line))
    case 'action':
      return [
        `${paint.cyan('●')} ${paint.bold(oneLine(block.name))} ${paint.dim(block.category)} ${inputOf(block.input)}`,
      ]
    case 'action_result':
      return [paint.dim(`  ${block.state}`), ...outputLines(block.output)]
    case 'event':
      return [paint.dim(`· ${oneLine(block.name)}${textOf(block.data)}`)]
  }
}

const inputOf = (input: unknown): string => oneLine(JSON.stringify(input ?? null)).slice(0, INPUT_SHOWN)

function outputLines(output: unknown): string[] {
  const text = textIn(output)
  if (text === null || text.trim() === '') return []
  const lines = text.trimEnd().split('\n')
  const shown = lines.slice(0, OUTPUT_LINES).map((line) => paint.dim(`    ${line}`))
  return lines.length <= OUTPUT_LINES ? shown : [...shown, paint.dim(`    … ${lines.length - OUTPUT_LINES} more lines`)]
}

function textOf(data: unknown): string {
  const text = textIn(data)
  return text === null ? '' : `: ${oneLine(text).slice(0, INPUT_SHOWN)}`
}

const textIn = (value: unknown): string | null =>
  typeof value === 'object' && value !== null && 'text' in value && typeof value.text === 'string' ? value.text : null
