/**
 * Agents at work as the server sees them: runs in a scripted worker's hands, each with its runner's control stream and
 * heartbeats, and calls of tools over `/mcp`. Plain HTTP on kept connections, so that a thousand of them in one process
 * do not become what is measured.
 */
import { type ClientRequest, Agent as Connections, type IncomingMessage, request } from 'node:http'
import { z } from 'zod'
import { openScriptedWorker, type Piece, type ScriptedWorker } from '../test/house/worker.ts'
import { openPool, type Up } from './house.ts'

const HEARTBEAT_MS = 5_000
/** Children of one parent: what a team allows unless told otherwise. */
const CHILDREN_MAX = 200
/** Connections at a time. */
const AGENTS_MAX = 20_000
const HOLD_MS = 10 * 60_000

const PROTOCOL = '2026-07-28'
const META = {
  'io.modelcontextprotocol/protocolVersion': PROTOCOL,
  'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}

export type Agent = {
  run_id: string
  execution_id: string
  token: string
  /** Calls a tool; the answer's structured content. */
  call(tool: string, args?: object, options?: { hold_ms?: number }): Promise<Record<string, unknown>>
}

/** One parent, which waits for nobody, and its children. */
export type Family = { parent: Agent; children: Agent[] }

export type Crowd = {
  families: Family[]
  /** Opens the control streams and begins the heartbeats of these agents' runners. */
  accompany(agents: Agent[]): Promise<void>
  close(): Promise<void>
}

/** `count` children, by as many parents as that takes. */
export async function openCrowd(baton: Up, count: number): Promise<Crowd> {
  const worker = await openScriptedWorker({ url: baton.url, api_key: baton.api_key, capacity: 10_000 })
  // No connection is closed for want of room: that of an agent that has read its answer stays open.
  const connections = new Connections({ keepAlive: true, maxSockets: AGENTS_MAX, maxFreeSockets: AGENTS_MAX })
  const open = { base: new URL(baton.url), connections, closing: new AbortController() }
  const families: Family[] = []
  for (let left = count; left > 0; left -= CHILDREN_MAX)
    families.push(await beget(baton, worker, open, Math.min(left, CHILDREN_MAX)))
  const beats: NodeJS.Timeout[] = []
  return {
    families,
    async accompany(agents) {
      for (const agent of agents) {
        await openControl(open, agent)
        const beat = () =>
          void send(open, agent, `/api/v1/executions/${agent.execution_id}/heartbeat`, {}).catch(() => {})
        // Not all in one moment.
        setTimeout(() => beats.push(setInterval(beat, HEARTBEAT_MS)), Math.random() * HEARTBEAT_MS)
      }
    },
    async close() {
      open.closing.abort()
      for (const beat of beats) clearInterval(beat)
      connections.destroy()
      worker.vanish()
      await worker.closed
    },
  }
}

/** What a tree may use is set aside: the guard against storms is not what is measured. */
export async function liftLimits(baton: Up): Promise<void> {
  const pool = await openPool(baton)
  await pool.query('update teams set max_tree_messages = 1000000, max_tree_wakes = 1000000')
  await pool.end()
}

type Open = { base: URL; connections: Connections; closing: AbortController }

async function beget(baton: Up, worker: ScriptedWorker, open: Open, count: number): Promise<Family> {
  const config = { harness: { type: 'claude' } }
  await baton.client.runs.create({ body: { prompt: 'Lead them.', config } })
  const parent = agentOf(open, await begun(await worker.next()))
  const agent_run_configs = Array.from({ length: count }, (_, at) => ({ name: `child-${at}`, prompt: 'Work.' }))
  await parent.call('run_agents', { agent_run_configs })
  const children: Promise<Agent>[] = []
  for (let n = 0; n < count; n++) children.push(begun(await worker.next(60_000)).then((piece) => agentOf(open, piece)))
  return { parent, children: await Promise.all(children) }
}

async function begun(piece: Piece): Promise<Piece> {
  piece.claim()
  await piece.start()
  return piece
}

function agentOf(open: Open, piece: Piece): Agent {
  let calls = 0
  const agent: Agent = {
    run_id: piece.run_id,
    execution_id: piece.execution_id,
    token: piece.assignment.env_vars.WARP_API_KEY ?? '',
    async call(tool, args = {}, { hold_ms = HOLD_MS } = {}) {
      const id = ++calls
      const params = { name: tool, arguments: args, _meta: META }
      const body = { jsonrpc: '2.0', id, method: 'tools/call', params }
      const headers = {
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': PROTOCOL,
        'mcp-method': 'tools/call',
        'mcp-name': tool,
      }
      return resultOf(await send(open, agent, `/mcp?hold_ms=${hold_ms}`, body, headers))
    },
  }
  return agent
}

const Result = z.object({
  result: z.object({ structuredContent: z.record(z.string(), z.unknown()), isError: z.boolean().optional() }),
})

/** The last message of the answer, which is JSON or a stream of events. */
function resultOf(text: string): Record<string, unknown> {
  const last = text.trimStart().startsWith('{')
    ? text
    : (/^data: (.*)$/m.exec(text.slice(text.lastIndexOf('\ndata: ') + 1))?.[1] ?? '')
  const parsed = Result.safeParse(JSON.parse(last || 'null'))
  if (!parsed.success || parsed.data.result.isError)
    throw new Error(`A tool was not answered as it should be: ${text.slice(0, 500)}`)
  return parsed.data.result.structuredContent
}

async function send(open: Open, agent: Agent, path: string, body: unknown, headers: object = {}): Promise<string> {
  const asked = ask(open, agent, 'POST', path, headers)
  asked.end(JSON.stringify(body))
  const response = await answered(asked)
  let text = ''
  for await (const piece of response.setEncoding('utf8')) text += piece
  if (response.statusCode !== 200) throw new Error(`${path} was answered with ${response.statusCode}: ${text}`)
  return text
}

async function openControl(open: Open, agent: Agent): Promise<void> {
  const asked = ask(open, agent, 'GET', `/api/v1/executions/${agent.execution_id}/control`, {
    accept: 'text/event-stream',
  })
  asked.end()
  const response = await answered(asked)
  if (response.statusCode !== 200) throw new Error(`A control stream was refused with ${response.statusCode}.`)
  response.on('error', () => {}).resume()
}

function ask(
  { base, connections, closing }: Open,
  agent: Agent,
  method: string,
  path: string,
  headers: object,
): ClientRequest {
  return request({
    host: base.hostname,
    port: base.port,
    method,
    path,
    agent: connections,
    signal: closing.signal,
    headers: { authorization: `Bearer ${agent.token}`, 'content-type': 'application/json', ...headers },
  })
}

const answered = (asked: ClientRequest): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => asked.once('response', resolve).once('error', reject))
