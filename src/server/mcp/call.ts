/** One call of a tool: who calls, how it is told from others, and how what goes wrong is said to a model. */
import { createHash } from 'node:crypto'
import type { CallToolResult, ServerContext } from '@modelcontextprotocol/server'
import { Fault } from '../../contract/index.ts'
import type { ExecutionCaller } from '../../engine/caller.ts'
import { faultOf } from '../problems.ts'
import type { ServerRoom } from '../room.ts'
import type { HeldCalls } from './held-calls.ts'
import type { LostAnswers } from './lost-answers.ts'

export type ToolRoom = {
  room: ServerRoom
  caller: ExecutionCaller
  /** How long this harness bears a tool call, in milliseconds. */
  hold_ms: number
  trace_id: string
  /** When its request came, by `performance.now()`. */
  began: number
  /** Aborted when the server closes. */
  closing: AbortSignal
  /** Aborted when the connection ended before the whole answer was handed over. */
  lost: AbortSignal
  /** Aborted when the whole answer was handed over to its connection. */
  sent: AbortSignal
  /** Aborted when the whole answer has been read at the other end of its connection. */
  read: AbortSignal
  held: HeldCalls
  lostAnswers: LostAnswers
}

/** Where harnesses say which call of the model this is; it stays the same when the call is sent again. */
const CALL_ID_KEYS = ['baton/call_id', 'claudecode/toolUseId']

/** The same for a call that is repeated, and for no other call of the execution. */
export function keyOf({ caller }: ToolRoom, ctx: ServerContext, tool: string, args: unknown): string {
  const named = CALL_ID_KEYS.map((key) => ctx.mcpReq._meta?.[key]).find((id) => typeof id === 'string')
  const call = named ?? `${typeof ctx.mcpReq.id} ${ctx.mcpReq.id}`
  return createHash('sha256')
    .update(JSON.stringify([caller.execution_id, tool, call, args]))
    .digest('hex')
}

/**
 * Some harnesses show their model the structured answer alone, others only the text; so what the model is to do next
 * (`advice`) belongs into both.
 */
export function answer(structuredContent: Record<string, unknown>, text: string): CallToolResult {
  return { structuredContent, content: [{ type: 'text', text }] }
}

/** Whoever calls a tool has read what had been sent before. */
export function answerOrSay(its: ToolRoom, work: () => Promise<CallToolResult>): Promise<CallToolResult> {
  return sayFaults(its, async () => {
    const [result] = await Promise.all([work(), its.room.engine.mail.heard(its.caller, its.began)])
    return result
  })
}

/** A fault is the model's to read and act on; a bug is logged, and the model is told that it is not its own. */
export async function sayFaults(
  { room, trace_id }: Pick<ToolRoom, 'room' | 'trace_id'>,
  work: () => Promise<CallToolResult>,
): Promise<CallToolResult> {
  try {
    return await work()
  } catch (thrown) {
    return { content: [{ type: 'text', text: sentenceOf(faultOf(thrown, trace_id, room.log)) }], isError: true }
  }
}

export function sentenceOf(fault: Fault): string {
  const advice = fault.retryable ? ' Trying again later may help.' : ''
  return `${fault.message}${advice} (${fault.code})`
}

const RUN_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Runs by id, by `parent`, or by a name that is one agent's alone in the caller's tree. */
export async function resolveAgents({ room, caller }: ToolRoom, asked: string[]): Promise<string[]> {
  const named = asked.map((one) => one.trim())
  if (named.every((one) => RUN_ID.test(one))) return named.map((one) => one.toLowerCase())
  const own = await room.engine.runs.get(caller, caller.run_id)
  const { nodes } = await room.engine.trees.get(caller, own.root_run_id)
  return named.map((one) => {
    if (RUN_ID.test(one)) return one.toLowerCase()
    const name = one.toLowerCase()
    const known = nodes.filter((node) => node.name.trim().toLowerCase() === name)
    const children = known.filter((node) => node.parent_run_id === caller.run_id)
    const [found, ...others] = children.length > 0 ? children : known
    if (found && others.length === 0) return found.run_id
    if (found) {
      const ids = [found, ...others].map((node) => node.run_id).join(', ')
      throw new Fault('invalid_request', `Several agents are named ${JSON.stringify(one)}: ${ids}. Use the agent_id.`)
    }
    if (name !== 'parent') {
      throw new Fault(
        'resource_not_found',
        `There is no agent ${JSON.stringify(one)}. list_agents shows all there are.`,
      )
    }
    if (own.parent_run_id === undefined) {
      throw new Fault('resource_not_found', 'You have no parent: a person started you. Say it in your answer instead.')
    }
    return own.parent_run_id
  })
}
