/**
 * The Oz normalized conversation: entries of any harness as steps of messages with four kinds of block.
 *
 * An execution is a step; what a sub-agent of its harness did is a step within it, named by the call that started it.
 * Every action has one result: `running` while its execution runs, `failed` when that ended before the action did. A
 * plain command is an action, too. Long text is cut with a mark that says where the whole is.
 */
import {
  type Block,
  CONVERSATION_TEXT_LENGTH_MAX,
  type ConversationMessage,
  type ConversationStep,
  type Entry,
  type EntryBody,
  type ToolCategory,
} from '../contract/index.ts'

export type ShownExecution = {
  execution_id: string
  run_id: string
  number: number
  harness: string
  started_at: Date | null
  ended_at: Date | null
  outcome: string | null
}

type Role = ConversationMessage['role']
type Item = { role: Role; at: string; block: Block }
type Call = { category: ToolCategory; name: string; title: string; parent: string | null; at: string }
/** What the items of one agent are, and the calls by which it started others. */
type Lane = { items: Item[]; started: string[]; ended_at: string | null }

/** `entries` are this execution's, in order; `whole` is where all of one is, if not with the others of its run. */
export function renderExecution(
  execution: ShownExecution,
  entries: Entry[],
  title: string,
  whole?: string,
): ConversationStep {
  const { execution_id, number, started_at, ended_at, outcome } = execution
  const { lanes, calls } = readLanes(execution, entries, whole)
  return {
    id: execution_id,
    description: number === 1 ? title : `${title} (execution ${number})`,
    ...(outcome === null ? {} : { summary: outcome }),
    ...(started_at === null ? {} : { started_at: started_at.toISOString() }),
    ...(ended_at === null ? {} : { completed_at: ended_at.toISOString() }),
    messages: messagesOf(lanes.get(null)?.items ?? []),
    steps: (lanes.get(null)?.started ?? []).map((call_id) => renderSubAgent(call_id, lanes, calls)),
  }
}

function renderSubAgent(call_id: string, lanes: Map<string | null, Lane>, calls: Map<string, Call>): ConversationStep {
  const lane = lanes.get(call_id)
  const call = calls.get(call_id)
  return {
    id: call_id,
    ...(call === undefined ? {} : { description: call.title, started_at: call.at }),
    ...(lane?.ended_at ? { completed_at: lane.ended_at } : {}),
    messages: messagesOf(lane?.items ?? []),
    steps: (lane?.started ?? []).map((started) => renderSubAgent(started, lanes, calls)),
  }
}

function readLanes(execution: ShownExecution, entries: Entry[], whole: string | undefined) {
  const top: Lane = { items: [], started: [], ended_at: null }
  const lanes = new Map<string | null, Lane>([[null, top]])
  const calls = new Map<string, Call>()
  const open = new Map<string, Call>()
  const command = execution.harness === 'command' ? commandOf(execution) : null

  /** Of a sub-agent whose call is known; what names another is the agent's own. */
  function laneOf(parent: string | null): Lane {
    const lane = lanes.get(parent)
    if (lane !== undefined) return lane
    const call = parent === null ? undefined : calls.get(parent)
    if (call === undefined) return top
    const made: Lane = { items: [], started: [], ended_at: null }
    lanes.set(parent, made)
    laneOf(call.parent).started.push(parent ?? '')
    return made
  }

  function result(call_id: string, at: string, state: Result['state'], output: unknown): void {
    const call = calls.get(call_id)
    const { category, name } = call ?? { category: 'integration' as const, name: 'unknown' }
    const block: Block = { type: 'action_result', action_id: call_id, category, name, state, output }
    laneOf(call?.parent ?? null).items.push({ role: 'tool', at, block })
    const own = lanes.get(call_id)
    if (own !== undefined) own.ended_at = at
    open.delete(call_id)
  }

  for (const entry of entries) {
    const { body, at } = entry
    const fit = fitFor(whole ?? `/agent/runs/${entry.run_id}/entries/${entry.position}`)
    if (command?.take(entry, top) === true) continue
    if (body.kind === 'tool_result') {
      result(body.call_id, at, body.status, outputOf(body, fit))
      continue
    }
    const parent = 'parent_call_id' in body ? (body.parent_call_id ?? null) : null
    const lane = laneOf(parent)
    lane.items.push({ role: roleOf(body), at, block: blockOf(body, fit) })
    if (body.kind !== 'tool_call') continue
    const { category, name, title, call_id } = body
    const call = { category, name, title, parent: lane === top ? null : parent, at }
    // A harness that names two calls alike: the first keeps its sub-agents.
    if (!calls.has(call_id)) calls.set(call_id, call)
    open.set(call_id, call)
  }
  const runs = execution.ended_at === null
  const last = entries.at(-1)?.at ?? ''
  for (const call_id of [...open.keys()])
    if (runs) result(call_id, last, 'running', { text: '' })
    else result(call_id, last, 'failed', { text: 'There is no result: the execution ended first.' })
  command?.end(top, last)
  return { lanes, calls }
}

type Result = Extract<Block, { type: 'action_result' }>

/** A plain command as the one action of its execution, its output as the result. */
function commandOf({ execution_id, run_id, ended_at, outcome }: ShownExecution) {
  const fit = fitFor(`/agent/runs/${run_id}/transcript`)
  let asked = ''
  let begun = false
  let output: string[] = []
  const named = { category: 'command' as const, name: 'shell' }

  function end(lane: Lane, at: string, state: Result['state']): void {
    if (!begun) return
    const text = fit.text(output.join(''))
    lane.items.push({
      role: 'tool',
      at,
      block: { type: 'action_result', action_id: execution_id, ...named, state, output: { text } },
    })
    begun = false
    output = []
  }

  return {
    /** True: the entry is told as part of the command. */
    take(entry: Entry, lane: Lane): boolean {
      const { body, at } = entry
      if (body.kind === 'prompt') asked = body.text
      if (body.kind === 'system' && body.name === 'harness_started') {
        end(lane, at, 'failed')
        const input = { command: fit.text(asked) }
        lane.items.push({ role: 'assistant', at, block: { type: 'action', id: execution_id, ...named, input } })
        begun = true
        return true
      }
      if (!begun || (body.kind !== 'output' && body.kind !== 'gap')) return false
      output.push(body.kind === 'output' ? body.text : `\n… [${body.bytes} bytes are missing: ${body.reason}]\n`)
      return true
    },
    end(lane: Lane, at: string): void {
      end(lane, at, ended_at === null ? 'running' : outcome === 'SUCCEEDED' ? 'completed' : 'failed')
    },
  }
}

/** Neighbouring items of one role are one message. */
function messagesOf(items: Item[]): ConversationMessage[] {
  const messages: ConversationMessage[] = []
  for (const { role, at, block } of items) {
    const last = messages.at(-1)
    if (last?.role === role) last.content.push(block)
    else messages.push({ role, timestamp: at, content: [block] })
  }
  return messages
}

function roleOf(body: EntryBody): Role {
  switch (body.kind) {
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

type Fit = ReturnType<typeof fitFor>

function blockOf(body: Exclude<EntryBody, { kind: 'tool_result' }>, fit: Fit): Block {
  switch (body.kind) {
    case 'prompt':
    case 'text':
      return { type: 'text', text: fit.text(body.text) }
    case 'thought':
      return { type: 'event', name: 'reasoning', data: { text: fit.text(body.text) } }
    case 'tool_call':
      return {
        type: 'action',
        id: body.call_id,
        category: body.category,
        name: body.name,
        input: fit.value(body.input ?? { title: body.title }),
      }
    case 'plan':
      return { type: 'event', name: 'plan', data: fit.value({ items: body.items }) }
    case 'output':
      return { type: 'event', name: body.stream, data: { text: fit.text(body.text) } }
    case 'system':
      return {
        type: 'event',
        name: body.name,
        data: fit.value({ level: body.level, text: body.text, ...body.details }),
      }
    case 'gap':
      return { type: 'event', name: 'gap', data: { bytes: body.bytes, reason: body.reason } }
    case 'unknown':
      return { type: 'event', name: 'unknown', data: fit.value(body.raw) }
  }
}

function outputOf({ output, exit_code, changes }: Extract<EntryBody, { kind: 'tool_result' }>, fit: Fit): unknown {
  return {
    text: fit.text(output),
    ...(exit_code === undefined ? {} : { exit_code }),
    ...(changes === undefined ? {} : { changes: fit.value(changes) }),
  }
}

/** Cuts what is too long, and says where the whole of it is. */
function fitFor(where: string) {
  const most = CONVERSATION_TEXT_LENGTH_MAX

  function text(whole: string): string {
    if (whole.length <= most) return whole
    const head = whole.slice(0, most).replace(/[\ud800-\udbff]$/, '')
    const missing = whole.length - head.length
    return `${head}\n… [${missing} of ${whole.length} characters are cut; all: ${where}]`
  }

  const deep = (value: unknown): unknown =>
    JSON.parse(JSON.stringify(value ?? null, (_, one) => (typeof one === 'string' ? text(one) : one)))

  /** Each text by itself; what is long as a whole becomes its beginning, as JSON text. */
  function value(whole: unknown): unknown {
    if ((JSON.stringify(whole)?.length ?? 0) <= most) return whole ?? null
    const cut: unknown = deep(whole)
    const json = JSON.stringify(cut)
    return json.length <= 2 * most ? cut : { text: text(json) }
  }

  return { text, value }
}
