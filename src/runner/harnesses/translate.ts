/**
 * ACP session updates → transcript entries.
 *
 * Text and thoughts are coalesced: an entry ends when another kind of update arrives or the turn ends. A tool call is
 * one `tool_call` entry, written once its input is known, and one `tool_result` when it is over. What cannot be read is
 * kept as `unknown`; what speaks of the harness's own settings alone is left out.
 */

import { z } from 'zod'
import { categoryOf, type EntryBody } from '../../contract/index.ts'
import { TEXT_LENGTH_MAX } from '../fit.ts'
import type { Sink } from './harness.ts'
import { changesOf, exitCodeOf, mcpCallOf, outputOf, pathsOf, ToolUpdate } from './tool-calls.ts'

/**
 * Some harnesses stream a call's input in pieces: it counts as known after this long without a change, in
 * milliseconds.
 */
const INPUT_SETTLED_MS = 200

const Chunk = z.looseObject({
  content: z.union([z.looseObject({ type: z.literal('text'), text: z.string() }), z.looseObject({ type: z.string() })]),
  messageId: z.string().nullish(),
  _meta: ToolUpdate.shape._meta,
})
const PlanStatus = z.enum(['pending', 'in_progress', 'completed']).catch('pending')
const Plan = z.looseObject({ entries: z.array(z.looseObject({ content: z.string(), status: PlanStatus })) })
const Notice = z.looseObject({
  message: z.string().optional(),
  title: z.string().optional(),
  description: z.string().nullish(),
  severity: z.string().optional(),
})
const Update = z.looseObject({ sessionUpdate: z.string() })

/** Updates that say nothing of the work: menus, modes, titles. `usage_update` is read by the driver. */
const QUIET = new Set([
  'available_commands_update',
  'current_mode_update',
  'config_option_update',
  'session_info_update',
  'user_message_chunk',
  'usage_update',
])

type Growing = { kind: 'text' | 'thought'; text: string; message_id: string | null; parent: string | null }
type ToolCall = { seen: ToolUpdate; announced: boolean; denied: boolean; settling: NodeJS.Timeout | undefined }

export type Translator = {
  update(raw: unknown): void
  /** A permission was asked for this call: it is announced now, and a denial becomes its result. */
  permission(raw: unknown, denied: boolean): void
  /** Ends what is growing; the turn is over. */
  flush(): void
  /** What was last said in this turn. */
  lastText(): string
  begin(): void
  /** A tool call is under way. */
  calling(): boolean
}

export function translator(sink: Sink): Translator {
  const calls = new Map<string, ToolCall>()
  let growing: Growing | null = null
  let last = ''

  function endText(): void {
    if (growing === null) return
    const { kind, text, parent } = growing
    growing = null
    if (text === '') return
    if (kind === 'text' && parent === null) last = text
    sink.entry({ kind, text, ...(parent === null ? {} : { parent_call_id: parent }) })
  }

  function chunk(kind: 'text' | 'thought', raw: unknown): void {
    const parsed = Chunk.safeParse(raw)
    if (!parsed.success) return unknown(raw)
    const { content, messageId, _meta } = parsed.data
    if (content.type !== 'text' || typeof content.text !== 'string') return unknown(raw)
    const message_id = messageId ?? null
    const parent = parentOf(_meta)
    const goes_on =
      growing !== null && growing.kind === kind && growing.message_id === message_id && growing.parent === parent
    announceAll()
    if (!goes_on || (growing?.text.length ?? 0) > TEXT_LENGTH_MAX) endText()
    growing ??= { kind, text: '', message_id, parent }
    growing.text += content.text
    sink.delta(kind, content.text)
  }

  function unknown(raw: unknown): void {
    endText()
    sink.entry({ kind: 'unknown', raw })
  }

  function tool(raw: unknown): ToolCall | null {
    const parsed = ToolUpdate.safeParse(raw)
    if (!parsed.success) return null
    const { toolCallId } = parsed.data
    const call = calls.get(toolCallId) ?? { seen: { toolCallId }, announced: false, denied: false, settling: undefined }
    calls.set(toolCallId, call)
    // OpenCode names the tool in the first title alone.
    const title = call.seen.title === undefined && call.seen.name === undefined ? parsed.data.title : undefined
    if (title && /^[a-z][\w.-]*$/i.test(title)) call.seen.name = title
    const fresh = call.seen.title === undefined
    for (const [key, value] of Object.entries(parsed.data)) {
      if (value !== undefined && value !== null) Object.assign(call.seen, { [key]: value })
    }
    const mcp = fresh ? mcpCallOf(call.seen) : null
    if (mcp !== null) Object.assign(call.seen, { name: mcp.name, rawInput: mcp.input, content: undefined })
    return call
  }

  function announce(call: ToolCall): void {
    clearTimeout(call.settling)
    if (call.announced) return
    call.announced = true
    endText()
    sink.entry(toolCallEntry(call.seen))
  }

  /** Before anything else is said, what is known of the calls before it. */
  function announceAll(): void {
    for (const call of calls.values()) if (!call.announced && hasInput(call.seen)) announce(call)
  }

  function end(call: ToolCall, status: 'completed' | 'failed' | 'denied'): void {
    announce(call)
    endText()
    sink.entry(toolResultEntry(call.seen, status))
    calls.delete(call.seen.toolCallId)
  }

  function toolUpdate(raw: unknown): void {
    const call = tool(raw)
    if (call === null) return unknown(raw)
    const { status } = call.seen
    if (hasInput(call.seen) && !call.announced) {
      clearTimeout(call.settling)
      call.settling = setTimeout(announce, INPUT_SETTLED_MS, call)
    }
    if (status === 'completed') end(call, 'completed')
    else if (status === 'failed') end(call, call.denied ? 'denied' : 'failed')
  }

  return {
    update(raw) {
      const parsed = Update.safeParse(raw)
      if (!parsed.success) return unknown(raw)
      const kind = parsed.data.sessionUpdate
      if (QUIET.has(kind)) return
      if (kind === 'agent_message_chunk') return chunk('text', raw)
      if (kind === 'agent_thought_chunk') return chunk('thought', raw)
      if (kind === 'tool_call' || kind === 'tool_call_update') return toolUpdate(raw)
      if (kind === 'plan') {
        const plan = Plan.safeParse(raw)
        if (!plan.success) return unknown(raw)
        endText()
        return sink.entry({
          kind: 'plan',
          items: plan.data.entries.map(({ content, status }) => ({ content, status })),
        })
      }
      if (kind === 'notice') {
        const entry = noticeEntry(raw)
        endText()
        return sink.entry(entry)
      }
      unknown(raw)
    },
    permission(raw, denied) {
      const call = tool(raw)
      if (call === null) return
      announce(call)
      call.denied ||= denied
    },
    flush() {
      endText()
      for (const call of calls.values()) {
        if (call.denied) end(call, 'denied')
        else announce(call)
      }
      calls.clear()
    },
    lastText: () => last,
    begin() {
      last = ''
    },
    calling: () => calls.size > 0,
  }
}

/** The call that started the sub-agent which this is of, as Claude's adapter (0.100) says it. */
const parentOf = (meta: ToolUpdate['_meta']): string | null => meta?.claudeCode?.parentToolUseId ?? null

const hasInput = ({ rawInput }: ToolUpdate): boolean =>
  typeof rawInput === 'object' && rawInput !== null
    ? Object.keys(rawInput).length > 0
    : rawInput !== undefined && rawInput !== ''

function toolCallEntry(seen: ToolUpdate): EntryBody {
  const name = seen.name ?? seen._meta?.claudeCode?.toolName ?? seen._meta?.toolName ?? seen.kind ?? 'tool'
  const paths = pathsOf(seen)
  const parent_call_id = parentOf(seen._meta)
  return {
    kind: 'tool_call',
    call_id: seen.toolCallId,
    name,
    category: categoryOf(seen.kind ?? 'other', name === seen.kind ? (seen.title ?? name) : name),
    title: (seen.title ?? name).split('\n', 1)[0] || name,
    ...(hasInput(seen) ? { input: seen.rawInput } : {}),
    ...(paths.length === 0 ? {} : { paths }),
    ...(parent_call_id === null ? {} : { parent_call_id }),
  }
}

function toolResultEntry(seen: ToolUpdate, status: 'completed' | 'failed' | 'denied'): EntryBody {
  const changes = changesOf(seen)
  const exit_code = exitCodeOf(seen)
  return {
    kind: 'tool_result',
    call_id: seen.toolCallId,
    status,
    output: outputOf(seen),
    ...(changes.length === 0 ? {} : { changes }),
    ...(exit_code === null ? {} : { exit_code }),
  }
}

function noticeEntry(raw: unknown): EntryBody {
  const notice = Notice.safeParse(raw)
  const text = [notice.data?.title, notice.data?.message, notice.data?.description].filter(Boolean).join(': ')
  if (text === '') return { kind: 'unknown', raw }
  const severity = notice.data?.severity
  return {
    kind: 'system',
    level: severity === 'error' || severity === 'warning' ? severity : 'info',
    name: 'harness_notice',
    text,
  }
}
