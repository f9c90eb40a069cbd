/** MCP servers of a session, their tools offered to the model as `mcp__SERVER__TOOL`. */
import type { McpServer } from '@agentclientprotocol/sdk'
import type { CallToolResult, Client, Tool as McpTool } from '@modelcontextprotocol/client'
import { z } from 'zod'
import { whyOf } from '../../contract/why.ts'
import { type Outcome, type Tool, ToolError } from './tool.ts'

const connect_ms = 20_000
/** Longer than any wait of Baton's own tools; a call that says nothing for this long has failed. */
const call_ms = 10 * 60_000
const text_chars_max = 100_000
const name_chars_max = 64

export type McpSession = {
  tools: Tool[]
  /** What could not be reached, worded for a person. */
  problems: string[]
  close(): Promise<void>
}

export async function openMcp(
  servers: McpServer[],
  cwd: string,
  env: Record<string, string>,
  signal: AbortSignal,
): Promise<McpSession> {
  const clients: Client[] = []
  const tools: Tool[] = []
  const problems: string[] = []
  await Promise.all(
    servers.map(async (server) => {
      try {
        const client = await connect(server, cwd, env)
        clients.push(client)
        const offered = await listTools(client, signal)
        tools.push(...offered.map((tool) => render(server.name, tool, client)))
      } catch (error) {
        problems.push(`MCP server ${server.name} cannot be used: ${whyOf(error)}`)
      }
    }),
  )
  tools.sort((a, b) => (a.name < b.name ? -1 : 1))
  return {
    tools,
    problems,
    close: async () => void (await Promise.allSettled(clients.map((client) => client.close()))),
  }
}

async function connect(server: McpServer, cwd: string, env: Record<string, string>): Promise<Client> {
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client')
  const client = new Client({ name: 'baton', version: '1' })
  if (!('type' in server)) {
    const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio')
    const own = Object.fromEntries(server.env.map(({ name, value }) => [name, value]))
    const start = {
      command: server.command,
      args: server.args,
      env: { ...env, ...own },
      cwd,
      stderr: 'ignore' as const,
    }
    await client.connect(new StdioClientTransport(start), { timeout: connect_ms })
    return client
  }
  if (server.type !== 'http') throw new Error(`its transport ${server.type} is not supported; use http or stdio.`)
  const headers = Object.fromEntries(server.headers.map(({ name, value }) => [name, value]))
  await client.connect(new StreamableHTTPClientTransport(new URL(server.url), { requestInit: { headers } }), {
    timeout: connect_ms,
  })
  return client
}

async function listTools(client: Client, signal: AbortSignal): Promise<McpTool[]> {
  const tools: McpTool[] = []
  let cursor: string | undefined
  do {
    const page = await client.listTools(cursor === undefined ? {} : { cursor }, { signal, timeout: connect_ms })
    tools.push(...page.tools)
    cursor = page.nextCursor
  } while (cursor !== undefined)
  return tools
}

function render(server: string, tool: McpTool, client: Client): Tool {
  const name = `mcp__${server}__${tool.name}`.replace(/[^a-zA-Z0-9_-]/g, '_').slice(0, name_chars_max)
  return {
    name,
    description: tool.description ?? tool.title ?? tool.name,
    kind: 'other',
    asks: tool.annotations?.readOnlyHint !== true,
    schema: { ...tool.inputSchema },
    prepare(input) {
      const given = z.record(z.string(), z.unknown()).safeParse(input ?? {})
      if (!given.success) throw new ToolError(`The input of ${name} must be an object.`)
      return {
        title: `${server}: ${tool.title ?? tool.name}`,
        paths: [],
        async run({ signal }) {
          const options = { signal, timeout: call_ms, resetTimeoutOnProgress: true }
          const answer = await client
            .callTool({ name: tool.name, arguments: given.data }, options)
            .catch((error: unknown) => {
              throw new ToolError(`${name} failed: ${whyOf(error)}`)
            })
          return outcomeOf(answer)
        },
      }
    },
  }
}

function outcomeOf(answer: CallToolResult): Outcome {
  const parts = answer.content.map((part) => {
    if (part.type === 'text') return part.text
    if (part.type === 'resource' && 'text' in part.resource) return part.resource.text
    return `[${part.type} left out]`
  })
  const whole = parts.length > 0 ? parts.join('\n') : JSON.stringify(answer.structuredContent ?? {})
  const missing = whole.length - text_chars_max
  const text = missing > 0 ? `${whole.slice(0, text_chars_max)}\n[… ${missing} characters left out …]` : whole
  return { text, failed: answer.isError === true }
}
