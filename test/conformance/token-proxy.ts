/** Passes requests on with an execution's token, for a client that can send none; its own name becomes the server's. */
import { createServer, request } from 'node:http'
import { listenOnLoopback } from '../house/port.ts'

export type TokenProxy = { url: string; close(): Promise<void> }

export async function openTokenProxy(target: string, token: string): Promise<TokenProxy> {
  const to = new URL(target)
  const proxy = createServer((incoming, outgoing) => {
    const own = incoming.headers.host === `127.0.0.1:${port}` || incoming.headers.host === `localhost:${port}`
    const origin = incoming.headers.origin?.endsWith(`:${port}`) ? { origin: to.origin } : {}
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
  const { port, close } = await listenOnLoopback(proxy)
  return { url: `http://localhost:${port}`, close }
}
