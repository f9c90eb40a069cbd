/**
 * Secrets in the configuration of MCP servers: `{{NAME}}` in an argument, a variable, a header or the address of one
 * stands for the secret of that name. What is kept and shown has the reference; the value is put in its place where
 * the harness is given its servers, and nowhere before.
 */
import type { McpServer } from './config.ts'

export type McpServers = Record<string, McpServer>

const REFERENCE = /\{\{ *([A-Za-z_][A-Za-z0-9_]{0,127}) *\}\}/g

export const hasReference = (text: string): boolean => text.search(REFERENCE) !== -1

/** Each name once for a server, with the server that names it. */
export function secretsNamedBy(servers: McpServers): { server: string; name: string }[] {
  return Object.entries(servers).flatMap(([server, its]) => {
    const names = new Set<string>()
    replaced(its, (name) => {
      names.add(name)
      return ''
    })
    return [...names].map((name) => ({ server, name }))
  })
}

/** The servers with values for all that they name; `lookUp` throws for a name that it does not know. */
export function withSecrets(
  servers: McpServers,
  lookUp: (named: { server: string; name: string }) => string,
): McpServers {
  return Object.fromEntries(
    Object.entries(servers).map(([server, its]) => [server, replaced(its, (name) => lookUp({ server, name }))]),
  )
}

function replaced(server: McpServer, lookUp: (name: string) => string): McpServer {
  const fill = (text: string) => text.replaceAll(REFERENCE, (_, name: string) => lookUp(name))
  const filled = (record: Record<string, string>) =>
    Object.fromEntries(Object.entries(record).map(([name, text]) => [name, fill(text)]))
  if ('command' in server) return { ...server, args: server.args.map(fill), env: filled(server.env) }
  if (!('url' in server)) return server
  const url = server.url.replaceAll(REFERENCE, (_, name: string) => encodeURIComponent(lookUp(name)))
  return { url, headers: filled(server.headers) }
}
