/** Passes requests on with an execution's token, for a client that can send none; its own name becomes the server's. */
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'

export type TokenProxy = { url: string; close(): Promise<void> }

export async function openTokenProxy(target: string, token: string): Promise<TokenProxy> {
  const to = new URL(target)
  const proxy = createServer((incoming, outgoing) => {
    const own = incoming.headers.host === `127.0.0.1:${portOf()}` || incoming.headers.host === `localhost:${portOf()}`
    const origin = incoming.headers.origin?.endsWith(`:${portOf()}`) ? { origin: to.origin } : {}
    const passed = request(
      {
        host: to.hostname,
        port: to.port,
        method: incoming.method,
        path: incoming.url,
        headers: {
          ...incoming.headers,
          ...(own ? { host: to.host } : {}),
          ...origin,
          authorization: `Bearer ${token}`,
        },
      },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(outgoing)
      },
    )
    passed.on('error', () => outgoing.destroy())
    outgoing.on('close', () => passed.destroy())
    incoming.pipe(passed)
  })
  const portOf = () => (proxy.address() as AddressInfo).port
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://localhost:${portOf()}`,
    async close() {
      proxy.closeAllConnections()
      await new Promise((resolve) => proxy.close(resolve))
    },
  }
}
