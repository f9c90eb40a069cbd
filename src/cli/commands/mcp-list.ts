import type { McpServer } from '../../contract/index.ts'
import { type Context, clientOf } from '../context.ts'
import { paint } from '../output.ts'
import { alignColumns, oneLine } from '../text.ts'

export function declare(): void {}

type Listed = { name: string; of: { type: 'environment' | 'agent'; uid: string; name: string }; server: McpServer }

/** MCP servers are parts of environments and agent identities; Baton keeps none by themselves. */
export async function run(context: Context): Promise<void> {
  const client = clientOf(context)
  const { out, signal } = context
  const [{ environments }, { agents }] = await Promise.all([
    client.environments.list({ query: { sort_by: 'name' }, signal }),
    client.identities.list({ query: {}, signal }),
  ])
  const mcp_servers: Listed[] = [
    ...environments.flatMap(({ uid, config }) =>
      serversOf(config.mcp_servers, { type: 'environment', uid, name: config.name }),
    ),
    ...agents.flatMap(({ uid, name, mcp_servers }) => serversOf(mcp_servers, { type: 'agent', uid, name })),
  ]
  const rows = mcp_servers.map(({ name, of, server }) => [
    oneLine(name),
    `${of.type} ${oneLine(of.name)}`,
    oneLine('url' in server && server.url !== undefined ? withoutQuery(server.url) : commandOf(server)),
  ])
  await out.show(
    { mcp_servers },
    () => (rows.length === 0 ? [] : alignColumns([['NAME', 'OF', 'IS'].map(paint.dim), ...rows], out.width)),
    () => mcp_servers,
  )
  if (rows.length === 0 && !out.machine)
    out.note(
      'No environment or agent has an MCP server. A run is given one with --mcp; docs/environments.md has the rest.',
    )
}

const serversOf = (servers: Record<string, McpServer> | undefined, of: Listed['of']): Listed[] =>
  Object.entries(servers ?? {}).map(([name, server]) => ({ name, of, server }))

/** What is after the path may be a key. */
const withoutQuery = (url: string): string => url.replace(/[?#].*$/, '')

const commandOf = (server: McpServer): string => ('command' in server ? String(server.command) : '')
