/** An agent as the platform sees one: a run in a scripted worker's hands, with an MCP client that has its token. */
import { Client as McpClient, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import type { House } from './house.ts'
import type { Piece, ScriptedWorker } from './worker.ts'

export type Protocol = '2026-07-28' | '2025-11-25'

export type Answer = { text: string; is_error: boolean; said: Record<string, unknown> }

export type Agent = Piece & {
  token: string
  mcp: McpClient
  /** Calls a tool and takes its answer apart. */
  call(tool: string, args?: Record<string, unknown>, meta?: Record<string, unknown>): Promise<Answer>
}

export async function openMcpClient(
  url: string,
  token: string | undefined,
  options: { protocol?: Protocol; hold_ms?: number } = {},
): Promise<McpClient> {
  const { protocol = '2026-07-28', hold_ms = 100 } = options
  const mcp = new McpClient(
    { name: 'test', version: '1' },
    { versionNegotiation: { mode: protocol === '2025-11-25' ? 'legacy' : { pin: protocol } } },
  )
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  await mcp.connect(
    new StreamableHTTPClientTransport(new URL(`${url}/mcp?hold_ms=${hold_ms}`), { requestInit: { headers } }),
  )
  return mcp
}

export async function callTool(
  mcp: McpClient,
  name: string,
  args: Record<string, unknown> = {},
  meta?: Record<string, unknown>,
): Promise<Answer> {
  const result = await mcp.callTool({ name, arguments: args, ...(meta && { _meta: meta }) })
  const [first] = result.content
  return {
    text: first?.type === 'text' ? first.text : '',
    is_error: result.isError === true,
    said: (result.structuredContent ?? {}) as Record<string, unknown>,
  }
}

/** Takes the worker's next offer as an agent that is at work. */
export async function takeAgent(
  house: House,
  worker: ScriptedWorker,
  options: { protocol?: Protocol; hold_ms?: number } = {},
): Promise<Agent> {
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const token = piece.assignment.env_vars.WARP_API_KEY ?? ''
  const mcp = await openMcpClient(house.url, token, options)
  return { ...piece, token, mcp, call: (tool, args, meta) => callTool(mcp, tool, args, meta) }
}
