/** One tool call: told to the client, asked for where the session asks, run, told again, answered to the model. */
import { resolve } from 'node:path'
import type { PermissionOption, ToolCallContent } from '@agentclientprotocol/sdk'
import type { ToolResultPart } from 'ai'
import { whyOf } from '../contract/why.ts'
import type { Session } from './session.ts'
import type { ToolCall } from './step.ts'
import { type Outcome, oneLine, type PreparedCall, type Tool, ToolError } from './tools/tool.ts'

/** Larger files are told as changed without their text. */
const diff_chars_max = 400_000

const OPTIONS: PermissionOption[] = [
  { optionId: 'allow', name: 'Allow', kind: 'allow_once' },
  { optionId: 'allow_always', name: 'Allow always in this session', kind: 'allow_always' },
  { optionId: 'reject', name: 'Reject', kind: 'reject_once' },
]

type Answer = 'allowed' | 'denied' | 'cancelled'

export async function runToolCall(session: Session, call: ToolCall, signal: AbortSignal): Promise<ToolResultPart> {
  const { listener } = session
  const toolCallId = call.id
  const tool = session.tools.find(({ name }) => name === call.name)
  const prepared = prepare(session, tool, call)
  const failedEarly = prepared instanceof ToolError
  await listener.update({
    sessionUpdate: 'tool_call',
    toolCallId,
    name: call.name,
    title: failedEarly ? oneLine(call.name) : prepared.title,
    kind: tool?.kind ?? 'other',
    status: 'pending',
    rawInput: call.input,
    locations: failedEarly ? [] : locations(session, prepared),
  })
  if (failedEarly || !tool)
    return finish(session, call, failed(failedEarly ? prepared.message : 'There is no such tool.'))
  const answer = await mayRun(session, { tool, prepared, call }, signal)
  if (answer === 'cancelled') return finish(session, call, failed('The turn was cancelled before this tool call ran.'))
  if (answer === 'denied') return deny(session, call)
  await listener.update({ sessionUpdate: 'tool_call_update', toolCallId, status: 'in_progress' })
  const { cwd, env, shells } = session
  const outcome = await prepared
    .run({ cwd, env, shells, signal })
    .catch((error: unknown) => failed(told(error, call.name)))
  if (outcome.plan) await listener.update({ sessionUpdate: 'plan', entries: outcome.plan })
  return finish(session, call, outcome)
}

function prepare(session: Session, tool: Tool | undefined, call: ToolCall): PreparedCall | ToolError {
  if (!tool)
    return new ToolError(
      `There is no tool ${call.name}. There are: ${session.tools.map(({ name }) => name).join(', ')}.`,
    )
  try {
    return tool.prepare(call.input)
  } catch (error) {
    return error instanceof ToolError ? error : new ToolError(told(error, call.name))
  }
}

type Wanted = { tool: Tool; prepared: PreparedCall; call: ToolCall }

async function mayRun(session: Session, { tool, prepared, call }: Wanted, signal: AbortSignal): Promise<Answer> {
  if (session.mode === 'unattended' || !tool.asks || session.allowed.has(tool.name)) return 'allowed'
  const toolCall = {
    toolCallId: call.id,
    name: call.name,
    title: prepared.title,
    kind: tool.kind,
    rawInput: call.input,
    locations: locations(session, prepared),
  }
  const { outcome } = await session.listener.ask({ toolCall, options: OPTIONS }, signal)
  if (signal.aborted || outcome.outcome === 'cancelled') return 'cancelled'
  if (outcome.optionId === 'allow_always') session.allowed.add(tool.name)
  return outcome.optionId.startsWith('allow') ? 'allowed' : 'denied'
}

async function finish(session: Session, call: ToolCall, outcome: Outcome): Promise<ToolResultPart> {
  const { exit_code } = outcome
  await session.listener.update({
    sessionUpdate: 'tool_call_update',
    toolCallId: call.id,
    status: outcome.failed ? 'failed' : 'completed',
    content: contentOf(outcome),
    rawOutput: exit_code === undefined ? {} : { exit_code },
  })
  // A command that ended with another code than 0 is an answer, not a broken tool.
  const broken = outcome.failed && exit_code === undefined
  return resultOf(call, { type: broken ? 'error-text' : 'text', value: outcome.text })
}

async function deny(session: Session, call: ToolCall): Promise<ToolResultPart> {
  const reason = 'This call was denied. Do without it, or say what you need it for and end your turn.'
  await session.listener.update({
    sessionUpdate: 'tool_call_update',
    toolCallId: call.id,
    status: 'failed',
    rawOutput: { denied: true },
    content: [{ type: 'content', content: { type: 'text', text: 'Denied.' } }],
  })
  return resultOf(call, { type: 'execution-denied', reason })
}

const resultOf = (call: ToolCall, output: ToolResultPart['output']): ToolResultPart => ({
  type: 'tool-result',
  toolCallId: call.id,
  toolName: call.name,
  output,
})

const failed = (text: string): Outcome => ({ text, failed: true })

function contentOf({ text, changes = [] }: Outcome): ToolCallContent[] {
  const diffs = changes
    .filter(({ old_text, new_text }) => (old_text?.length ?? 0) + new_text.length <= diff_chars_max)
    .map(({ path, old_text, new_text }) => ({ type: 'diff' as const, path, oldText: old_text, newText: new_text }))
  return [{ type: 'content', content: { type: 'text', text } }, ...diffs]
}

const locations = (session: Session, { paths }: PreparedCall) =>
  paths.map((path) => ({ path: resolve(session.cwd, path) }))

function told(error: unknown, name: string): string {
  if (error instanceof ToolError) return error.message
  return `${name} broke: ${whyOf(error)}`
}
