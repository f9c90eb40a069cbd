/**
 * A turn: the model is called, its tool calls are run, their results are given back, until it has nothing more to call.
 *
 * Every message is kept before the next step, so that a killed turn can be continued. A failure leaves the history in
 * a state in which the session can be prompted again.
 */
import type { StopReason } from '@agentclientprotocol/sdk'
import type { AssistantModelMessage, ModelMessage, UserModelMessage } from 'ai'
import { AgentFailure } from './failure.ts'
import { answerOpenCalls } from './history.ts'
import { renderInstructions } from './instructions.ts'
import { chooseModel, type OpenModel, openModel } from './models.ts'
import type { Session } from './session.ts'
import type { Settings } from './settings.ts'
import { callModel, type ModelStep } from './step.ts'
import { runToolCall } from './toolcall.ts'
import { addTokens, contextTokens, NO_TOKENS, type Tokens } from './usage.ts'
import { windowOf } from './window.ts'

export type TurnEnd = { stop_reason: StopReason; tokens: Tokens; model: string }

/** Roughly; the providers count differently. */
const chars_per_token = 4

/** Rejects with an `AgentFailure` or the SDK's own error. Sets and clears `session.turn`. */
export async function runTurn(session: Session, prompt: UserModelMessage, settings: Settings): Promise<TurnEnd> {
  const abort = new AbortController()
  const ended = turn(session, prompt, settings, abort.signal).finally(() => {
    session.turn = undefined
  })
  session.turn = { abort, queue: [], ended }
  return ended
}

async function turn(
  session: Session,
  prompt: UserModelMessage,
  settings: Settings,
  signal: AbortSignal,
): Promise<TurnEnd> {
  const model = await openModel(settings, chooseModel(settings, session.model))
  const instructions = await renderInstructions(session.cwd, session.problems)
  const name = `${model.provider}/${model.model_id}`
  await session.history.append(prompt)
  let tokens = NO_TOKENS
  const end = (stop_reason: StopReason): TurnEnd => ({ stop_reason, tokens, model: name })
  for (let calls = 0; calls < settings.BATON_MODEL_CALLS_MAX; calls += 1) {
    await joinQueued(session)
    if (signal.aborted) return end('cancelled')
    const step = await stepOnce(session, { model, instructions, settings, signal })
    tokens = addTokens(tokens, step.tokens)
    await reportUsage(session, settings, { last: step.tokens, tokens, model: name })
    if (step.cancelled || !(await runCalls(session, step, signal))) return end('cancelled')
    if (step.calls.length > 0 || (session.turn?.queue.length ?? 0) > 0) continue
    return end(stopReason(step))
  }
  const text = `\n\nStopped: ${settings.BATON_MODEL_CALLS_MAX} model calls were made for this prompt, the limit.`
  await session.listener.update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } })
  return end('max_turn_requests')
}

async function joinQueued(session: Session): Promise<void> {
  for (const message of session.turn?.queue.splice(0) ?? []) await session.history.append(message)
}

type StepMeans = { model: OpenModel; instructions: string; settings: Settings; signal: AbortSignal }

async function stepOnce(session: Session, means: StepMeans): Promise<ModelStep> {
  const { settings, ...more } = means
  const view = windowOf(session.history.messages, session.cut, settings.BATON_HISTORY_CHARS_MAX)
  session.cut = view.cut
  const { tools, listener } = session
  const { BATON_MODEL_RETRIES: retries, BATON_REASONING: reasoning } = settings
  const step = await callModel({ ...more, messages: view.messages, tools, listener, retries, reasoning })
  for (const message of step.messages) await session.history.append(message)
  return step
}

/** False when the turn was cancelled meanwhile; then every call still has an answer in the history. */
async function runCalls(session: Session, step: ModelStep, signal: AbortSignal): Promise<boolean> {
  for (const call of step.calls) {
    if (signal.aborted) break
    await session.history.append({ role: 'tool', content: [await runToolCall(session, call, signal)] })
  }
  if (!signal.aborted) return true
  await answerOpenCalls(session.history, 'The turn was cancelled before this tool call ran.')
  return false
}

type Used = { last: Tokens; tokens: Tokens; model: string }

async function reportUsage(session: Session, settings: Settings, { last, tokens, model }: Used): Promise<void> {
  await session.listener.update({
    sessionUpdate: 'usage_update',
    used: contextTokens(last),
    size: Math.round(settings.BATON_HISTORY_CHARS_MAX / chars_per_token),
    _meta: { baton: { usage: { ...tokens, model } } },
  })
}

function stopReason({ finish }: ModelStep): StopReason {
  if (finish === 'length') return 'max_tokens'
  if (finish === 'content-filter') return 'refusal'
  if (finish === 'error' || finish === 'interrupted') {
    throw new AgentFailure(
      'resource_unavailable',
      'model_interrupted',
      'The model stopped in the midst of its answer. Try again.',
      { retryable: true },
    )
  }
  return 'end_turn'
}

/** The words of what was said, for replaying a session to a client. */
export function textOf(message: UserModelMessage | AssistantModelMessage | ModelMessage): string {
  if (typeof message.content === 'string') return message.content
  return message.content.flatMap((part) => (part.type === 'text' ? [part.text] : [])).join('')
}
