/**
 * `/mcp`: what an agent may do to the platform, whatever harness it is in. Streamable HTTP of protocols 2026-07-28
 * and 2025-11-25, both without a session: each request has a server object of its own, made for the caller that it
 * names, so that no answer can reach another. What must outlive a request is in the database.
 */
import { createMcpHandler, McpServer, type McpServerFactory } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { REQUEST_BYTES_MAX } from '../../contract/index.ts'
import type { ExecutionCaller, UserCaller } from '../../engine/caller.ts'
import type { ServerRoom } from '../room.ts'
import { addAgentTools } from './agent-tools.ts'
import { type AssistantRoom, addAssistantTools } from './assistant-tools.ts'
import type { ToolRoom } from './call.ts'
import { heldCalls } from './held-calls.ts'
import { lostAnswers } from './lost-answers.ts'
import { addSend, addWait } from './mail-tools.ts'
import { addMemoryTools } from './memory-tools.ts'
import { addOutcomeTools } from './outcome-tools.ts'
import { addPlanTools } from './plan-tools.ts'
import { addRunAgents } from './run-agents.ts'
import { readSkill, type Skill } from './skills.ts'

const KEEP_ALIVE_MS = 10_000

const INSTRUCTIONS = `Baton runs you and other agents. Use run_agents to work on separate parts at the same time, \
send_message_to_agent to talk with them or with the agent that started you, wait_for_events when you have nothing \
to do until somebody answers, and finish_task at the end. The prompt "orchestrating" and the resource \
skill://orchestrating/SKILL.md say how to lead other agents well; read it before you start your first.`

const ASSISTANT_INSTRUCTIONS = `Baton runs coding agents for this person. Use start_run to give one a piece of work, \
get_run and list_runs to look, follow_up to say more. Agents that were asked to plan wait for an answer: \
list_open_plans shows their plans. Show a plan to the person before you answer it in their name.`

export type McpAsk = Omit<ToolRoom, 'room' | 'closing' | 'held' | 'lostAnswers' | 'caller'> & {
  caller: ExecutionCaller | UserCaller
}

export type McpEndpoint = {
  answer(request: Request, ask: McpAsk): Promise<Response>
}

export async function openMcp(room: ServerRoom, closing: AbortSignal): Promise<McpEndpoint> {
  const skill = await readSkill('orchestrating')
  const held = heldCalls()
  const lost = lostAnswers(room.engine.mail.giveBack)
  return {
    async answer(given, ask) {
      const { caller } = ask
      const { request, parsed: read } = await readOnce(given, ask.lost)
      if (caller.kind === 'execution') await lost.settle(caller.execution_id)
      const redactor = caller.kind === 'execution' ? await room.engine.redactorOf(caller.execution_id) : null
      const parsed = redactor === null ? read : redactor.deep(read)
      const remembers = isListing(parsed) && (await room.engine.remembering.mayKeep(caller))
      const offers = { skill, tool: toolOf(parsed), remembers }
      const factory: McpServerFactory = () =>
        caller.kind === 'user'
          ? makeAssistantServer({ room, caller, trace_id: ask.trace_id })
          : makeServer({ ...ask, caller, room, closing, held, lostAnswers: lost }, offers)
      return createMcpHandler(factory, {
        keepAliveMs: KEEP_ALIVE_MS,
        onerror: (error) => room.log.debug({ err: error, trace_id: ask.trace_id }, 'mcp.refused'),
      }).fetch(request, parsed === undefined ? {} : { parsedBody: parsed })
    },
  }
}

/**
 * Reads a body once, which the handler would clone and read; what is no JSON is left to it. Of a request whose body it
 * is given the handler looks at the rest, for which a whole new one would be dear.
 */
async function readOnce(request: Request, signal: AbortSignal): Promise<{ request: Request; parsed?: unknown }> {
  const length = Number(request.headers.get('content-length') ?? Number.NaN)
  if (request.method !== 'POST' || !(length <= REQUEST_BYTES_MAX)) return { request }
  const text = await request.text()
  const { url, method, headers } = request
  try {
    const parsed: unknown = JSON.parse(text)
    return { request: { url, method, headers, signal } as Request, parsed }
  } catch {
    return { request: new Request(url, { method, headers, signal, body: text }) }
  }
}

const ToolCall = z.object({ method: z.literal('tools/call'), params: z.looseObject({ name: z.string() }) })

const ToolsList = z.object({ method: z.literal('tools/list') })

/** The tool that is called; undefined for any other request. */
function toolOf(parsed: unknown): string | undefined {
  const call = ToolCall.safeParse(parsed)
  return call.success ? call.data.params.name : undefined
}

const isListing = (parsed: unknown): boolean => ToolsList.safeParse(parsed).success

const TOOLS: { names: string[]; add(server: McpServer, its: ToolRoom): void }[] = [
  { names: ['run_agents'], add: addRunAgents },
  { names: ['send_message_to_agent'], add: addSend },
  { names: ['wait_for_events'], add: addWait },
  { names: ['list_agents', 'fetch_conversation', 'cancel_agent'], add: addAgentTools },
  { names: ['propose_plan'], add: addPlanTools },
  { names: ['report_artifact', 'finish_task'], add: addOutcomeTools },
]

/** Shown to those alone who have a memory store to write to. */
const MEMORY_TOOLS = { names: ['save_memory'], add: addMemoryTools }

/** `tool`: the one that is called. A server that answers one call needs no more than that tool. */
type Offers = { skill: Skill; tool: string | undefined; remembers: boolean }

function makeServer(its: ToolRoom, { skill, tool, remembers }: Offers): McpServer {
  const server = new McpServer(
    { name: 'baton', title: 'Baton', version: its.room.version },
    { instructions: INSTRUCTIONS, capabilities: { tools: {}, resources: {}, prompts: {} } },
  )
  server.server.setNotificationHandler('notifications/cancelled', ({ params }) => {
    if (params.requestId !== undefined) its.held.giveUp(its.caller.execution_id, params.requestId)
  })
  const called = [...TOOLS, MEMORY_TOOLS].filter(({ names }) => tool !== undefined && names.includes(tool))
  for (const { add } of called.length > 0 ? called : [...TOOLS, ...(remembers ? [MEMORY_TOOLS] : [])]) add(server, its)
  if (called.length > 0) return server
  const { name, description, uri, text } = skill
  server.registerResource(name, uri, { title: 'Orchestrating', description, mimeType: 'text/markdown' }, () => ({
    contents: [{ uri, mimeType: 'text/markdown', text }],
  }))
  server.registerPrompt(name, { title: 'Orchestrating', description }, () => ({
    messages: [{ role: 'user', content: { type: 'text', text } }],
  }))
  return server
}

function makeAssistantServer(its: AssistantRoom): McpServer {
  const server = new McpServer(
    { name: 'baton', title: 'Baton', version: its.room.version },
    { instructions: ASSISTANT_INSTRUCTIONS, capabilities: { tools: {} } },
  )
  addAssistantTools(server, its)
  return server
}
