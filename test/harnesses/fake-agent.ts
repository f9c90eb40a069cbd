/**
 * An ACP agent that behaves as FAKE says, for the conformance suite of the driver: it speaks plain JSON lines and not
 * the SDK, so that it can be wrong.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

const behaviour = process.env.FAKE ?? 'good'
const send = (message: unknown) =>
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...(message as object) })}\n`)
const update = (body: unknown) => send({ method: 'session/update', params: { sessionId: 's-1', update: body } })
const say = (text: string) => update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } })
const waiting = new Map<number, (answer: unknown) => void>()
let asked = 100
let prompt_id: unknown = null

const ask = (method: string, params: unknown) =>
  new Promise<unknown>((resolve) => {
    waiting.set(++asked, resolve)
    send({ id: asked, method, params })
  })
const end = (stopReason = 'end_turn', more: object = {}) => {
  if (prompt_id !== null) send({ id: prompt_id, result: { stopReason, ...more } })
  prompt_id = null
}

if (behaviour === 'ignores_signals') for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => {})
if (behaviour === 'dies_at_once') {
  process.stderr.write('cannot find my configuration\n')
  process.exit(7)
}

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line) as {
    id?: number
    method?: string
    params?: { sessionId?: string }
    result?: unknown
  }
  if (message.method === undefined) waiting.get(message.id ?? 0)?.(message.result)
  else if (message.method === 'initialize') {
    if (behaviour === 'mute') continue
    send({ id: message.id, result: { protocolVersion: 1, agentCapabilities: { loadSession: true } } })
  } else if (message.method === 'session/new') {
    if (behaviour === 'no_login') send({ id: message.id, error: { code: -32000, message: 'Authentication required' } })
    else send({ id: message.id, result: { sessionId: 's-1' } })
  } else if (message.method === 'session/load') {
    if (behaviour === 'forgot') {
      send({ id: message.id, error: { code: -32603, message: 'No such session' } })
      continue
    }
    say('said in an earlier turn')
    send({ id: message.id, result: {} })
  } else if (message.method === 'session/prompt') {
    prompt_id = message.id
    void turn()
  } else if (message.method === 'session/cancel') {
    if (behaviour !== 'ignores_signals' && behaviour !== 'deaf') end('cancelled')
  }
}

async function turn(): Promise<void> {
  switch (behaviour) {
    case 'good':
      update({ sessionUpdate: 'agent_thought_chunk', content: { type: 'text', text: 'Hm.' } })
      say('Hello ')
      say('there.')
      update({
        sessionUpdate: 'tool_call',
        toolCallId: 't1',
        title: 'ls',
        kind: 'execute',
        status: 'pending',
        rawInput: { command: 'l' },
      })
      update({ sessionUpdate: 'tool_call_update', toolCallId: 't1', rawInput: { command: 'ls -a' } })
      update({
        sessionUpdate: 'tool_call_update',
        toolCallId: 't1',
        status: 'completed',
        rawOutput: { output: 'a b', exit_code: 3 },
        content: [{ type: 'diff', path: '/w/a', oldText: null, newText: 'x' }],
      })
      update({ sessionUpdate: 'plan', entries: [{ content: 'One', status: 'in_progress', priority: 'high' }] })
      say('Done.')
      return end('end_turn', {
        usage: { inputTokens: 5, outputTokens: 2, cachedReadTokens: 3, cachedWriteTokens: 1, totalTokens: 11 },
      })
    case 'lies':
      process.stdout.write('Welcome to the agent!\n{"half":\n[1,2]\n"text"\n')
      send({
        method: 'session/update',
        params: { sessionId: 's-1', update: { sessionUpdate: 'from_the_future', x: 1 } },
      })
      send({ method: 'session/update', params: 'nonsense' })
      update({ sessionUpdate: 'tool_call_update', status: 'completed' })
      update({ sessionUpdate: 'plan', entries: 'all of it' })
      send({ id: 4711, result: 'nobody asked' })
      return end()
    case 'asks': {
      const toolCall = { toolCallId: 't9', title: 'rm -rf /', kind: 'execute', rawInput: { command: 'rm -rf /' } }
      const options = [
        { optionId: 'always', name: 'Always', kind: 'allow_always' },
        { optionId: 'once', name: 'Once', kind: 'allow_once' },
        { optionId: 'no', name: 'No', kind: 'reject_once' },
      ]
      const answer = await ask('session/request_permission', { sessionId: 's-1', toolCall, options })
      const denied = JSON.stringify(answer).includes('"no"')
      update({ sessionUpdate: 'tool_call_update', toolCallId: 't9', status: denied ? 'failed' : 'completed' })
      say(`answered ${JSON.stringify(answer)}`)
      return end()
    }
    case 'crashes':
      say('I will ')
      process.stderr.write(`boom: key ${process.env.SOME_API_KEY} was bad\n`)
      process.exit(3)
      return
    case 'killed':
      process.kill(process.pid, 'SIGKILL')
      return
    case 'floods':
      for (let at = 0; at < 20_000; at++) say('0123456789'.repeat(10))
      return end()
    case 'huge_line':
      process.stdout.write(`{"method":"session/update","params":"${'x'.repeat(40 * 1024 * 1024)}"}\n`)
      say('after')
      return end()
    case 'noisy':
      process.stderr.write('noise '.repeat(500_000))
      say('quiet')
      return end()
    case 'refuses':
      return end('refusal')
    case 'busy':
      send({ id: prompt_id, error: { code: -32603, message: 'Internal error', data: { details: '529 overloaded' } } })
      return
    case 'closes':
      process.stdout.end()
      return
    default: {
      // hangs, deaf, ignores_signals: with a child that has left the group.
      const child = spawn('sleep', ['86398'], { detached: true, stdio: 'ignore' })
      child.unref()
      say('working')
    }
  }
}
