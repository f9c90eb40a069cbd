/**
 * Transcripts that harnesses keep of their own, as their drivers of the public Oz protocol upload them, read as ours:
 * `claude_code_cli` is `{uuid, entries[], subagents{}}` with the lines of a Claude Code session (2), `codex_cli` is
 * `{session_id, entries[]}` with those of a Codex rollout. What is not said or done is left out. Pure.
 */
import { z } from 'zod'
import { categoryOf, type EntryBody } from '../contract/index.ts'

type ForeignEntry = { at: string; body: EntryBody }
type ForeignTranscript = { id: string; harness: string; entries: ForeignEntry[] }

/** Null: it is of no format that is known here. */
export function readForeign(text: string): ForeignTranscript | null {
  const json = Json.safeParse(text)
  if (!json.success) return null
  const claude = ClaudeEnvelope.safeParse(json.data)
  if (claude.success) return { id: claude.data.uuid, harness: 'claude', entries: readClaude(claude.data) }
  const codex = CodexEnvelope.safeParse(json.data)
  if (codex.success) return { id: codex.data.session_id, harness: 'codex', entries: readCodex(codex.data.entries) }
  return null
}

const Json = z.string().transform((text, ctx): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    ctx.addIssue('not JSON')
    return z.NEVER
  }
})

const At = z.iso.datetime({ offset: true })
const Part = z.looseObject({ type: z.string(), text: z.string().optional() })
type Part = z.infer<typeof Part>
const Words = z.union([z.string(), z.array(Part)])

const ClaudeLine = z.looseObject({
  type: z.string(),
  timestamp: At.optional().catch(undefined),
  isMeta: z.boolean().optional().catch(undefined),
  message: z.looseObject({ content: Words }).optional().catch(undefined),
  toolUseResult: z.looseObject({ agentId: z.string() }).optional().catch(undefined),
})
const ClaudeLines = z.array(z.unknown())
const ClaudeEnvelope = z.looseObject({
  uuid: z.string(),
  entries: ClaudeLines,
  subagents: z
    .record(z.string(), z.union([ClaudeLines, z.looseObject({ entries: ClaudeLines }).transform((o) => o.entries)]))
    .catch({}),
})
const ToolUse = z.looseObject({ type: z.literal('tool_use'), id: z.string(), name: z.string(), input: z.unknown() })
const ToolResult = z.looseObject({
  type: z.literal('tool_result'),
  tool_use_id: z.string(),
  content: Words.optional().catch(undefined),
  is_error: z.boolean().nullish().catch(undefined),
})
const Thinking = z.looseObject({ type: z.literal('thinking'), thinking: z.string() })

/** Sub-agents come after what they were called by; which call that was, its result says. */
function readClaude({ entries, subagents }: z.infer<typeof ClaudeEnvelope>): ForeignEntry[] {
  const called = new Map<string, string>()
  const own = claudeLines(entries, undefined, called)
  const theirs = Object.entries(subagents).flatMap(([id, lines]) =>
    claudeLines(lines, called.get(id) ?? called.get(id.replace(/^agent-/, '')), called),
  )
  return [...own, ...theirs]
}

function claudeLines(lines: unknown[], parent: string | undefined, called: Map<string, string>): ForeignEntry[] {
  let at = new Date(0).toISOString()
  return lines.flatMap((raw) => {
    const { data: line } = ClaudeLine.safeParse(raw)
    if (line === undefined || line.isMeta || line.message === undefined) return []
    at = line.timestamp ?? at
    const { content } = line.message
    const parts = typeof content === 'string' ? [{ type: 'text', text: content }] : content
    return parts.flatMap((part): ForeignEntry[] => {
      const body = claudePart(line.type, part, parent)
      if (body?.kind === 'tool_result' && line.toolUseResult) called.set(line.toolUseResult.agentId, body.call_id)
      return body === null ? [] : [{ at, body }]
    })
  })
}

function claudePart(role: string, part: Part, parent: string | undefined): EntryBody | null {
  const within = parent === undefined ? {} : { parent_call_id: parent }
  const use = ToolUse.safeParse(part)
  if (use.success) return toolCall(use.data.id, use.data.name, use.data.input, within)
  const result = ToolResult.safeParse(part)
  if (result.success) {
    const { tool_use_id: call_id, content = '', is_error } = result.data
    return { kind: 'tool_result', call_id, status: is_error ? 'failed' : 'completed', output: textOf(content) }
  }
  const thinking = Thinking.safeParse(part)
  if (thinking.success) return { kind: 'thought', text: thinking.data.thinking, ...within }
  if (part.type !== 'text' || !part.text) return null
  if (role === 'assistant') return { kind: 'text', text: part.text, ...within }
  return role === 'user' && parent === undefined ? { kind: 'prompt', text: part.text } : null
}

const CodexEnvelope = z.looseObject({ session_id: z.string(), entries: z.array(z.unknown()) })
const CodexLine = z.looseObject({ timestamp: At, type: z.literal('response_item'), payload: z.unknown() })
const CodexItem = z.union([
  z.looseObject({ type: z.literal('message'), role: z.string(), content: Words }),
  z.looseObject({ type: z.literal('reasoning'), summary: Words }),
  z.looseObject({ type: z.literal('local_shell_call'), call_id: z.string(), action: z.unknown() }),
  z.looseObject({ type: z.literal('function_call'), call_id: z.string(), name: z.string(), arguments: z.string() }),
  z.looseObject({ type: z.literal('custom_tool_call'), call_id: z.string(), name: z.string(), input: z.string() }),
  z.looseObject({
    type: z.enum(['function_call_output', 'custom_tool_call_output']),
    call_id: z.string(),
    output: z.unknown(),
  }),
])
/** What Codex tells its model in the user's name. */
const CODEX_OWN = /^\s*<(environment_context|user_instructions|permissions instructions)\b|^# AGENTS\.md instructions/

function readCodex(lines: unknown[]): ForeignEntry[] {
  return lines.flatMap((raw): ForeignEntry[] => {
    const { data: line } = CodexLine.safeParse(raw)
    const { data: item } = CodexItem.safeParse(line?.payload)
    if (line === undefined || item === undefined) return []
    const body = codexBody(item)
    return body === null ? [] : [{ at: line.timestamp, body }]
  })
}

function codexBody(item: z.infer<typeof CodexItem>): EntryBody | null {
  switch (item.type) {
    case 'message': {
      const text = textOf(item.content)
      if (text === '' || (item.role === 'user' && CODEX_OWN.test(text))) return null
      if (item.role === 'user') return { kind: 'prompt', text }
      return item.role === 'assistant' ? { kind: 'text', text } : null
    }
    case 'reasoning': {
      const text = textOf(item.summary)
      return text === '' ? null : { kind: 'thought', text }
    }
    case 'local_shell_call':
      return toolCall(item.call_id, 'local_shell', item.action, {})
    case 'function_call':
      return toolCall(item.call_id, item.name, inputOf(item.arguments), {})
    case 'custom_tool_call':
      return toolCall(item.call_id, item.name, inputOf(item.input), {})
    case 'function_call_output':
    case 'custom_tool_call_output': {
      const { text, exit_code } = codexOutput(item.output)
      const status = exit_code === undefined || exit_code === 0 ? 'completed' : 'failed'
      const code = exit_code === undefined ? {} : { exit_code }
      return { kind: 'tool_result', call_id: item.call_id, status, output: text, ...code }
    }
  }
}

/** Text that may be JSON: `{output, metadata: {exit_code}}`. */
function codexOutput(output: unknown): { text: string; exit_code?: number } {
  const told = CodexOutput.safeParse(typeof output === 'string' ? inputOf(output) : output)
  if (told.success) return { text: told.data.output, exit_code: told.data.metadata.exit_code }
  const words = Words.safeParse(output)
  return { text: words.success ? textOf(words.data) : (JSON.stringify(output) ?? '') }
}
const CodexOutput = z.looseObject({ output: z.string(), metadata: z.looseObject({ exit_code: z.int() }) })

function toolCall(call_id: string, name: string, input: unknown, within: { parent_call_id?: string }): EntryBody {
  const { data: titled } = Titled.safeParse(input)
  const title = titled?.description ?? titled?.command ?? name
  return { kind: 'tool_call', call_id, name, category: categoryOf(null, name), title, input, ...within }
}
const Titled = z.looseObject({
  description: z.string().optional().catch(undefined),
  command: z.string().optional().catch(undefined),
})

/** Arguments are JSON, or else what they are. */
function inputOf(text: string): unknown {
  const json = Json.safeParse(text)
  return json.success ? json.data : { text }
}

const textOf = (words: string | Part[]): string =>
  typeof words === 'string' ? words : words.flatMap(({ text }) => text ?? []).join('\n')
