import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { methods } from '@agentclientprotocol/sdk'
import { LLMock } from '@copilotkit/aimock'
import { expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { folder, refusalOf, repository, startAgent, toolTexts, usageOf } from './agent-client.ts'
import { passOn, serveOnLoopback } from './house/loopback.ts'
import { freePort } from './house/port.ts'

async function mock(): Promise<LLMock> {
  const model = new LLMock({ port: 0, logLevel: 'silent' })
  onTestFinished(() => model.stop())
  await model.start()
  return model
}

type Answer = { status: number; headers?: Record<string, string>; body: string }

/** A model that answers each request in turn; the last answer stays. */
async function serve(
  answer: (request: IncomingMessage, body: string, number: number) => Answer | undefined,
): Promise<string> {
  let number = 0
  return await serveOnLoopback((request, body, response) => {
    const said = answer(request, body, number++)
    if (said) response.writeHead(said.status, said.headers).end(said.body)
  })
}

const refuse =
  (status: number, message: string, headers: Record<string, string> = {}) =>
  (): Answer => ({
    status,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ error: { type: 'x', message } }),
  })

const PROVIDERS: [name: string, env: (url: string) => Record<string, string>, model: string][] = [
  ['anthropic', (url) => ({ ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: url }), 'claude-sonnet-5-5'],
  ['openai', (url) => ({ OPENAI_API_KEY: 'none', OPENAI_BASE_URL: `${url}/v1` }), 'gpt-5.5'],
  ['google', (url) => ({ GEMINI_API_KEY: 'none', GOOGLE_GEMINI_BASE_URL: url }), 'gemini-pro-latest'],
  ['custom', (url) => ({ BATON_MODEL_BASE_URL: `${url}/v1`, BATON_MODEL_ID: 'house-model' }), 'house-model'],
]

/** 30 in and 4 out, in each provider's words. */
const usage = {
  prompt_tokens: 30,
  completion_tokens: 4,
  total_tokens: 34,
  input_tokens: 30,
  output_tokens: 4,
  promptTokenCount: 30,
  candidatesTokenCount: 4,
  totalTokenCount: 34,
}

test.each(PROVIDERS)(
  'with %s the agent edits a file of a git repository through its own tools',
  async (name, env, id) => {
    const cwd = repository({ 'greeting.txt': 'hello\n' })
    const model = await mock()
    const edit = { path: 'greeting.txt', old_text: 'hello', new_text: 'good day' }
    model.addFixture({ match: { hasToolResult: true }, response: { content: 'The greeting is polite now.', usage } })
    model.onMessage(/polite/, { toolCalls: [{ name: 'edit', arguments: JSON.stringify(edit) }], usage })
    await using agent = await startAgent(env(model.url))
    const answer = await agent.prompt(await agent.start(cwd), 'Make the greeting polite.')
    expect(answer.stopReason).toBe('end_turn')
    expect(agent.text()).toBe('The greeting is polite now.')
    expect(execFileSync('git', ['diff', '--stat'], { cwd, encoding: 'utf8' })).toContain('greeting.txt | 2 +-')
    expect(readFileSync(join(cwd, 'greeting.txt'), 'utf8')).toBe('good day\n')
    const counted = { input_tokens: 60, output_tokens: 8, cache_read_tokens: 0, cache_write_tokens: 0 }
    expect(usageOf(answer)).toEqual({ ...counted, model: `${name}/${id}` })
  },
)

const THINKS: Record<string, RegExp> = {
  anthropic: /"effort":"low"/,
  openai: /"reasoning":\{"effort":"low"/,
  google: /"thinkingLevel":"low"/,
  custom: /"reasoning_effort":"low"/,
}
test.each(PROVIDERS)('with %s the model is asked to think as hard as was said', async (name, env) => {
  const bodies: string[] = []
  const url = await serve((_, body) => {
    bodies.push(body)
    return refuse(400, 'no')()
  })
  for (const level of ['low', 'boundless']) {
    await using agent = await startAgent({ ...env(url), BATON_REASONING: level })
    await refusalOf(agent.prompt(await agent.start(folder('cwd')), 'Think.'))
  }
  const [low, other] = bodies
  expect(low).toMatch(THINKS[name] ?? /none/)
  expect(other).not.toMatch(/effort|thinking/i)
})

test('cancel during a model call ends the turn at once', async () => {
  let asked = () => {}
  const waiting = new Promise<void>((resolve) => {
    asked = resolve
  })
  const url = await serve(() => {
    asked()
    return undefined
  })
  await using agent = await startAgent({ ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: url })
  const sessionId = await agent.start(folder('cwd'))
  const turn = agent.prompt(sessionId, 'Think long.')
  await waiting
  const cancelled = Date.now()
  await agent.acp.notify(methods.agent.session.cancel, { sessionId })
  expect((await turn).stopReason).toBe('cancelled')
  expect(Date.now() - cancelled).toBeLessThan(2000)
})

test('a refused key ends the prompt with what to check, and without the key in it', async () => {
  const url = await serve(refuse(401, 'invalid x-api-key: sk-wrong-key'))
  await using agent = await startAgent({ ANTHROPIC_API_KEY: 'sk-wrong-key', ANTHROPIC_BASE_URL: url })
  const { message, data } = await refusalOf(agent.prompt(await agent.start(folder('cwd')), 'Hello.'))
  expect(data).toEqual({
    error_code: 'external_authentication_required',
    retryable: false,
    reason: 'model_key_refused',
  })
  expect(message).toMatch(/refused the key \(401\).*Check the API key/)
  expect(message).not.toContain('sk-wrong-key')
})

test('a rate limit is waited for, and is retryable when it does not end', async () => {
  let requests = 0
  const url = await serve(() => {
    requests += 1
    return refuse(429, 'slow down', { 'retry-after-ms': '20' })()
  })
  await using agent = await startAgent({ ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: url, BATON_MODEL_RETRIES: '2' })
  const { data } = await refusalOf(agent.prompt(await agent.start(folder('cwd')), 'Hello.'))
  expect(data).toEqual({
    error_code: 'resource_unavailable',
    retryable: true,
    reason: 'model_rate_limited',
    retry_after_s: 0.02,
  })
  expect(requests).toBe(3)
})

test.each([
  ['90', 90, 90],
  [new Date(Date.now() + 600_000).toUTCString(), 500, 600],
  [new Date(Date.now() - 600_000).toUTCString(), undefined, undefined],
  ['soon', undefined, undefined],
])('how long a busy provider asks to be left alone is told: %s', async (said, least, most) => {
  const url = await serve(refuse(529, 'Overloaded', { 'retry-after': said }))
  await using agent = await startAgent({ ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: url, BATON_MODEL_RETRIES: '0' })
  const { data } = await refusalOf(agent.prompt(await agent.start(folder('cwd')), 'Hello.'))
  const after = data.retry_after_s
  if (least === undefined || most === undefined) expect(after).toBeUndefined()
  else expect(after).toBeGreaterThanOrEqual(least)
  if (most !== undefined) expect(after).toBeLessThanOrEqual(most)
})

test('a model that cannot be reached, is not known or refuses the request is told apart', async () => {
  const cwd = folder('cwd')
  const ask = async (url: string) => {
    await using agent = await startAgent({
      ANTHROPIC_API_KEY: 'none',
      ANTHROPIC_BASE_URL: url,
      BATON_MODEL_RETRIES: '0',
    })
    return await refusalOf(agent.prompt(await agent.start(cwd), 'Hello.'))
  }
  expect((await ask(`http://127.0.0.1:${await freePort()}`)).data).toMatchObject({
    reason: 'model_unreachable',
    retryable: true,
  })
  expect((await ask(await serve(refuse(404, 'model: nothing')))).data).toMatchObject({
    reason: 'model_not_found',
    retryable: false,
  })
  const long = await ask(await serve(refuse(400, 'prompt is too long: 300000 tokens')))
  expect(long.data).toMatchObject({ error_code: 'invalid_request', retryable: false })
  expect(long.message).toContain('prompt is too long')
  expect((await ask(await serve(refuse(529, 'Overloaded')))).data).toMatchObject({
    reason: 'model_unavailable',
    retryable: true,
  })
})

test('cached tokens are counted in their own buckets only', async () => {
  const events = [
    {
      type: 'message_start',
      message: {
        id: 'm',
        type: 'message',
        role: 'assistant',
        model: 'c',
        content: [],
        stop_reason: null,
        usage: { input_tokens: 11, cache_read_input_tokens: 500, cache_creation_input_tokens: 70, output_tokens: 1 },
      },
    },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hi.' } },
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: 9 } },
    { type: 'message_stop' },
  ]
  const bodies: string[] = []
  const url = await serve((_, body) => {
    bodies.push(body)
    const stream = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('')
    return { status: 200, headers: { 'content-type': 'text/event-stream' }, body: stream }
  })
  await using agent = await startAgent({ ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: url })
  const answer = await agent.prompt(await agent.start(folder('cwd')), 'Hello.')
  expect(usageOf(answer)).toEqual({
    input_tokens: 11,
    output_tokens: 9,
    cache_read_tokens: 500,
    cache_write_tokens: 70,
    model: 'anthropic/claude-sonnet-5-5',
  })
  expect(agent.updates).toContainEqual(expect.objectContaining({ sessionUpdate: 'usage_update', used: 590 }))
  expect(bodies[0]).toContain('"cache_control":{"type":"ephemeral"}')
})

const Rpc = z.object({
  id: z.union([z.number(), z.string()]).optional(),
  method: z.string(),
  params: z.record(z.string(), z.unknown()).optional(),
})

test('an MCP tool is called over HTTP with the headers of the session, and a dead server is named', async () => {
  const seen: string[] = []
  const url = await serve((request, body) => {
    if (request.method !== 'POST') return { status: 405, body: '' }
    const { id, method, params } = Rpc.parse(JSON.parse(body))
    seen.push(`${method} ${request.headers.authorization}`)
    if (id === undefined) return { status: 202, body: '' }
    const results: Record<string, unknown> = {
      initialize: {
        protocolVersion: '2025-06-18',
        capabilities: { tools: {} },
        serverInfo: { name: 'house', version: '1' },
      },
      'tools/list': {
        tools: [
          {
            name: 'double',
            description: 'Doubles.',
            inputSchema: { type: 'object', properties: { n: { type: 'number' } } },
          },
        ],
      },
      'tools/call': { content: [{ type: 'text', text: `doubled ${JSON.stringify(params?.arguments)}` }] },
    }
    const answer = results[method]
      ? { result: results[method] }
      : { error: { code: -32601, message: 'no such method' } }
    return {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id, ...answer }),
    }
  })
  const model = await mock()
  model.addFixture({ match: { hasToolResult: true }, response: { content: 'Doubled.' } })
  model.onMessage(/.*/, { toolCalls: [{ name: 'mcp__house__double', arguments: '{"n":21}' }] })
  await using agent = await startAgent({ ANTHROPIC_API_KEY: 'none', ANTHROPIC_BASE_URL: model.url })
  const mcp = [
    { type: 'http' as const, name: 'house', url, headers: [{ name: 'Authorization', value: 'Bearer t0ken' }] },
    { type: 'http' as const, name: 'dead', url: 'http://127.0.0.1:9/mcp', headers: [] },
  ]
  await agent.prompt(await agent.start(folder('cwd'), { mcp }), 'Double 21.')
  expect(toolTexts(agent.updates)).toEqual(['doubled {"n":21}'])
  expect(seen).toContain('tools/call Bearer t0ken')
  expect(seen.every((line) => line.endsWith('Bearer t0ken'))).toBe(true)
  expect(agent.updates).toContainEqual(
    expect.objectContaining({ sessionUpdate: 'notice', title: expect.stringContaining('MCP server dead') }),
  )
})

test('an old tool output is left out when the history grows too long, and the file keeps it', async () => {
  const state = folder('state')
  const cwd = repository({ 'big.txt': `begin ${'x'.repeat(900)}\n`.repeat(30) })
  const model = await mock()
  model.onTurn(0, /.*/, { toolCalls: [{ name: 'read', arguments: '{"path":"big.txt"}' }] })
  model.onTurn(1, /.*/, { toolCalls: [{ name: 'list', arguments: '{}' }] })
  model.onTurn(2, /.*/, { content: 'Done.' })
  const { url, bodies } = await passOn(model.url)
  const env = {
    ANTHROPIC_API_KEY: 'none',
    ANTHROPIC_BASE_URL: url,
    BATON_AGENT_STATE_DIR: state,
    BATON_HISTORY_CHARS_MAX: '20000',
  }
  await using agent = await startAgent(env)
  const sessionId = await agent.start(cwd)
  await agent.prompt(sessionId, 'Read.')
  expect(bodies).toHaveLength(3)
  expect(bodies[1]).toContain('begin xxx')
  expect(bodies[2]).not.toContain('begin xxx')
  expect(bodies[2]).toContain('old tool output was left out')
  expect(readFileSync(join(state, `${sessionId}.jsonl`), 'utf8')).toContain('begin xxx')
})
