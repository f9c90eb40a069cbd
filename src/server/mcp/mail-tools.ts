import type { McpServer, ServerContext } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { BODY_BYTES_MAX, isBodySize, RECIPIENTS_MAX, SUBJECT_CHARACTERS_MAX } from '../../contract/index.ts'
import { answer, keyOf, resolveAgents, sayFaults, type ToolRoom } from './call.ts'
import { isLoose, listOf, pick, present, shown, truth, unpack } from './liberal.ts'

const SEND = `Send a message to one or more agents of your tree: agents that you started, your parent, or their \
other agents. Use it to give a correction, a next step or a question to an agent, or to report your result to your \
parent.

Addresses are agent_ids from run_agents or list_agents, an agent's name, or "parent". A busy agent gets the \
message in its turn or right after it; one that waits goes on at once; one that has ended wakes and goes on with \
what it knew, so write to it instead of starting a new agent. The reader does not see your conversation: put all \
that it needs in the message. All addresses get it, or none. Do not send thanks or receipts.

You get one message_id per address: the message is stored and will be delivered. If you need the answer, call \
wait_for_events next.`

const SendInput = z.object({
  addresses: z
    .array(z.string().min(1).max(256))
    .min(1)
    .max(RECIPIENTS_MAX)
    .describe('agent_ids, names of agents, or "parent".'),
  subject: z.string().max(SUBJECT_CHARACTERS_MAX).describe('What it is about, in one line.'),
  message: z
    .string()
    .min(1)
    .refine(isBodySize, `A message is at most ${BODY_BYTES_MAX} bytes. Say where the rest is, or send several.`)
    .describe(`The text, at most ${BODY_BYTES_MAX} bytes. Give paths and commits, not whole files.`),
  urgent: z
    .boolean()
    .default(false)
    .describe('May interrupt what the reader is doing. Only for "stop, this is wrong".'),
})

const WAIT = `Wait until something happens: a message to you, or an agent that you started has ended or needs a \
person. Call it when you have nothing left to do until somebody answers, and never sleep or ask in a loop instead.

It returns as soon as something is there, at once if it already is, with all that has come, in order, and each \
thing only once. Deal with all of it, then wait again if agents are still at work.

When the status is "nothing_yet", END YOUR TURN AT ONCE: no other tool, no second call, no closing report. Your \
session is kept, and what comes is your next prompt.`

const WaitInput = z.object({
  idle_timeout_seconds: z
    .number()
    .nonnegative()
    .default(0)
    .describe('After this long without anything you are woken all the same. 0: 30 minutes.'),
})

const SEND_SCHEMAS = {
  inputSchema: shown(z.preprocess(readSend, SendInput)),
  outputSchema: shown(z.object({ message_id: z.string(), message_ids: z.array(z.string()), advice: z.string() })),
}
const WAIT_SCHEMAS = {
  inputSchema: shown(z.preprocess(readWait, WaitInput)),
  outputSchema: shown(
    z.object({
      status: z.enum(['events', 'nothing_yet']),
      events: z.string().optional().describe('What happened, as text.'),
      waiting_until: z.string().optional(),
      advice: z.string().optional(),
    }),
  ),
}

const END_TURN =
  'End your turn now, without calling another tool and without a closing report. ' +
  'You are woken with what comes as your next prompt.'

/** Seconds that an agent waits where it says no time of its own. */
const TIMEOUT_S = 30 * 60
/** How often a waiting call shows that it lives, where its caller asked to be shown. */
const PROGRESS_MS = 10_000

export function addSend(server: McpServer, its: ToolRoom): void {
  server.registerTool(
    'send_message_to_agent',
    {
      title: 'Send a message',
      description: SEND,
      ...SEND_SCHEMAS,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
    },
    (asked, ctx) => sayFaults(its, () => send(its, asked, keyOf(its, ctx, 'send_message_to_agent', asked))),
  )
}

export function addWait(server: McpServer, its: ToolRoom): void {
  server.registerTool(
    'wait_for_events',
    {
      title: 'Wait for events',
      description: WAIT,
      ...WAIT_SCHEMAS,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
    },
    (asked, ctx) => sayFaults(its, () => wait(its, asked.idle_timeout_seconds || TIMEOUT_S, ctx)),
  )
}

async function send(its: ToolRoom, asked: z.infer<typeof SendInput>, key: string) {
  const { room, caller } = its
  const to = await resolveAgents(its, asked.addresses)
  const { message_ids } = await room.engine.messages.send(
    caller,
    { to, subject: asked.subject, body: asked.message, ...(asked.urgent ? { urgent: true } : {}) },
    { key, heard: its.began },
  )
  const who = to.length === 1 ? 'the agent' : `${to.length} agents`
  const advice = 'If you need an answer before you go on, call wait_for_events.'
  return answer(
    { message_id: message_ids[0] ?? '', message_ids, advice },
    `Stored for ${who}; it will be delivered. ${advice}`,
  )
}

async function wait(its: ToolRoom, timeout_s: number, ctx: ServerContext) {
  const { room, caller, hold_ms, began, closing, lost, sent, read } = its
  const call_key = keyOf(its, ctx, 'wait_for_events', timeout_s)
  const progress = showProgress(ctx, hold_ms)
  const call = its.held.open(caller.execution_id, ctx.mcpReq.id)
  const gone = AbortSignal.any([call.given_up, lost])
  let answered: { read: AbortSignal } | undefined
  try {
    const signal = AbortSignal.any([gone, closing, ctx.mcpReq.signal])
    const held = await room.engine.mail.wait(caller, { call_key, hold_ms, timeout_s, signal, began, sent })
    if (held.text !== null) {
      answered = { read }
      onceAborted(gone, () => giveBack(its, call_key))
      return answer({ status: 'events', events: held.text }, held.text)
    }
    const until = held.waiting_until === null ? {} : { waiting_until: held.waiting_until }
    return answer({ status: 'nothing_yet', ...until, advice: END_TURN }, `Nothing has come yet. ${END_TURN}`)
  } finally {
    call.close(answered)
    clearInterval(progress)
  }
}

function onceAborted(signal: AbortSignal, work: () => void): void {
  if (signal.aborted) work()
  else signal.addEventListener('abort', work, { once: true })
}

/** If that fails, it is owed: the agent's next call gives it back first, and the next execution, or the same call, gets it. */
function giveBack({ room, caller, lostAnswers }: ToolRoom, call_key: string): void {
  room.log.info({ run_id: caller.run_id, execution_id: caller.execution_id }, 'mcp.answer_lost')
  lostAnswers
    .lose(caller.execution_id, call_key)
    .catch((error: unknown) => room.log.warn({ err: error, run_id: caller.run_id }, 'mcp.not_given_back'))
}

function showProgress(ctx: ServerContext, hold_ms: number): NodeJS.Timeout | undefined {
  const progressToken = ctx.mcpReq._meta?.progressToken
  if (progressToken === undefined) return undefined
  const began = performance.now()
  return setInterval(() => {
    const progress = Math.round((performance.now() - began) / 1000)
    const params = { progressToken, progress, total: Math.round(hold_ms / 1000), message: 'Nothing has come yet.' }
    // A caller that has gone is noticed by the call itself.
    ctx.mcpReq.notify({ method: 'notifications/progress', params }).catch(() => {})
  }, PROGRESS_MS)
}

function readSend(given: unknown): unknown {
  const asked = unpack(given)
  if (!isLoose(asked)) return asked
  const message = pick(asked, 'message', 'body', 'text')
  return present({
    addresses: listOf(pick(asked, 'addresses', 'to', 'address', 'agent_ids', 'agent_id')),
    subject: pick(asked, 'subject') ?? (typeof message === 'string' ? firstLine(message) : undefined),
    message: isLoose(message) || Array.isArray(message) ? JSON.stringify(message) : message,
    urgent: truth(pick(asked, 'urgent')),
  })
}

const firstLine = (text: string): string => (text.trim().split('\n', 1)[0] ?? '').slice(0, 120)

function readWait(given: unknown): unknown {
  const asked = unpack(given) ?? {}
  if (!isLoose(asked)) return asked
  const seconds = pick(asked, 'idle_timeout_seconds', 'timeout_seconds', 'timeout')
  return present({ idle_timeout_seconds: typeof seconds === 'string' ? Number(seconds) : seconds })
}
