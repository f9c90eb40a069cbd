/** Who may use `/mcp`, that nobody sees another's, and that nothing is lost when the server goes. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type House, startHouse } from './house/house.ts'
import { type Agent, callTool, openMcpClient, takeAgent } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 100, limits: { close_ms: 3_000 } })
  worker = await house.worker({ capacity: 100 })
})
afterAll(() => house.close())

const ping = { jsonrpc: '2.0', id: 1, method: 'ping' }

const post = (headers: Record<string, string>, body: unknown = ping) =>
  fetch(`${house.url}/mcp`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

async function startAgent(hold_ms?: number): Promise<Agent> {
  await house.client.runs.create({ body: { prompt: 'lead' } })
  return takeAgent(house, worker, hold_ms === undefined ? {} : { hold_ms })
}

test('without a token it is refused with a challenge, with a wrong one too', async () => {
  for (const headers of [{}, { authorization: 'Bearer bx-1.0' }, { cookie: 'baton_session=x' }]) {
    const response = await post(headers as Record<string, string>)
    expect(response.status).toBe(401)
    expect(response.headers.get('www-authenticate')).toBe('Bearer')
  }
})

test("a worker's key is refused, and a person's opens none of the tools of agents", async () => {
  const { engine } = house.server
  const { api_key } = await engine.access.createKey(house.owner, { name: 'w', scope: 'worker' })
  expect((await post({ authorization: `Bearer ${api_key}` })).status).toBe(403)
  const mcp = await openMcpClient(house.url, house.api_key)
  const names = (await mcp.listTools()).tools.map((tool) => tool.name)
  expect(names).toContain('approve_plan')
  for (const name of ['run_agents', 'send_message_to_agent', 'wait_for_events']) expect(names).not.toContain(name)
  await mcp.close()
})

test('the token of an execution that has ended is refused', async () => {
  const agent = await startAgent()
  await agent.finish()
  const response = await post({ authorization: `Bearer ${agent.token}` })
  expect(response.status).toBe(401)
})

test('a page of another origin and a foreign host are refused with a token', async () => {
  const agent = await startAgent()
  const authorization = `Bearer ${agent.token}`
  expect((await post({ authorization, origin: 'https://evil.example' })).status).toBe(403)
  expect((await post({ authorization, origin: house.url })).status).toBe(200)
})

test('what is no JSON, too large or for a session is refused as the protocol says', async () => {
  const { token } = await startAgent()
  const authorization = `Bearer ${token}`
  expect((await post({ authorization }, '{')).status).toBe(400)
  expect((await post({ authorization, 'content-type': 'text/plain' })).status).toBe(415)
  expect((await post({ authorization }, `"${'x'.repeat(5 * 1024 * 1024)}"`)).status).toBe(413)
  const opened = await fetch(`${house.url}/mcp`, { headers: { authorization, accept: 'text/event-stream' } })
  expect(opened.status).toBe(405)
  const wrong_hold = await fetch(`${house.url}/mcp?hold_ms=long`, { method: 'POST', headers: { authorization } })
  expect(wrong_hold.status).toBe(400)
})

test('an agent reaches nobody of another tree', async () => {
  const one = await startAgent()
  const other = await startAgent()
  for (const [tool, args] of [
    ['send_message_to_agent', { addresses: [other.run_id], message: 'x' }],
    ['fetch_conversation', { agent_id: other.run_id }],
    ['cancel_agent', { agent_id: other.run_id, subtree: true }],
  ] as const) {
    const { is_error, text } = await one.call(tool, args)
    expect([tool, is_error, text]).toEqual([tool, true, expect.stringMatching(/no run/)])
  }
  expect(JSON.stringify((await one.call('list_agents')).said)).not.toContain(other.run_id)
  expect(await house.client.runs.get({ params: { run_id: other.run_id } })).toMatchObject({ cancel_requested: false })
})

test('two teams at the same time, with the same request ids, are never mixed', async () => {
  const second = await house.addTeam('second')
  const their_worker = await house.worker({ api_key: second.api_key })
  const ours = await startAgent()
  await second.client.runs.create({ body: { prompt: 'lead' } })
  const theirs = await takeAgent(house, their_worker)
  const ask = async (agent: Agent, at: number) => {
    const said = JSON.stringify((await agent.call('list_agents')).said)
    return [at, said.includes(ours.run_id), said.includes(theirs.run_id)]
  }
  const answers = await Promise.all(Array.from({ length: 60 }, (_, at) => ask(at % 2 === 0 ? ours : theirs, at)))
  for (const [at, ourRun, theirRun] of answers) {
    expect([at, ourRun, theirRun]).toEqual([at, Number(at) % 2 === 0, Number(at) % 2 === 1])
  }
  const reached = await theirs.call('send_message_to_agent', { addresses: [ours.run_id], message: 'x' })
  expect(reached.is_error).toBe(true)
})

test('a caller that goes away while it waits loses no message', async () => {
  const agent = await startAgent(20_000)
  const gone = new AbortController()
  const waiting = fetch(`${house.url}/mcp?hold_ms=20000`, {
    method: 'POST',
    signal: gone.signal,
    headers: {
      authorization: `Bearer ${agent.token}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'wait_for_events' } }),
  })
    .then((response) => response.text())
    .catch(() => 'gone')
  await expect
    .poll(async () => (await house.client.runs.get({ params: { run_id: agent.run_id } })).waiting_until)
    .toBeDefined()
  gone.abort()
  expect(await waiting).toBe('gone')
  await house.client.messages.send({ body: { to: [agent.run_id], subject: 's', body: 'still here' } })
  const { text } = await agent.call('wait_for_events')
  expect(text).toMatch(/still here/)
})

test('a call that its client gave up takes no message', async () => {
  const agent = await startAgent()
  const authorization = `Bearer ${agent.token}`
  const params = { name: 'wait_for_events', arguments: {} }
  const waiting = post(
    { authorization, 'x-baton-hold-ms': '20000' },
    { ...ping, id: 'w1', method: 'tools/call', params },
  )
  await expect
    .poll(async () => (await house.client.runs.get({ params: { run_id: agent.run_id } })).waiting_until)
    .toBeDefined()
  const cancelled = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'w1' } }
  expect((await post({ authorization }, cancelled)).status).toBe(202)
  expect(await (await waiting).text()).toMatch(/nothing_yet/)
  await house.client.messages.send({ body: { to: [agent.run_id], subject: 's', body: 'not taken' } })
  expect((await agent.call('wait_for_events')).text).toMatch(/not taken/)
})

test('a wait survives the restart of the server', async () => {
  const agent = await startAgent(60_000)
  const began = performance.now()
  const waiting = agent.call('wait_for_events', { idle_timeout_seconds: 600 })
  await expect
    .poll(async () => (await house.client.runs.get({ params: { run_id: agent.run_id } })).waiting_until)
    .toBeDefined()
  await house.restart()
  expect((await waiting).said).toMatchObject({ status: 'nothing_yet' })
  expect(performance.now() - began).toBeLessThan(10_000)
  await house.client.messages.send({ body: { to: [agent.run_id], subject: 's', body: 'after the restart' } })
  const again = await openMcpClient(house.url, agent.token)
  expect((await callTool(again, 'wait_for_events')).text).toMatch(/after the restart/)
})
