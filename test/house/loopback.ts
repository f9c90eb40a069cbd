/** Small HTTP servers of a test on loopback, which end with it. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'
import { z } from 'zod'

type Answering = (request: IncomingMessage, body: string, response: ServerResponse) => void | Promise<void>

/**
 * Its address. A request whose body does not come whole, or whose answering fails, has its line broken: a client may
 * still be asking things when the test has seen enough.
 */
export async function serveOnLoopback(answer: Answering): Promise<string> {
  const server = createServer((request, response) => {
    text(request)
      .then((body) => answer(request, body, response))
      .catch(() => response.destroy())
  })
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${z.object({ port: z.number() }).parse(server.address()).port}`
}

/** The address of a server that passes requests on to `target`, and the bodies of them all so far. */
export async function passOn(target: string): Promise<{ url: string; bodies: string[] }> {
  const bodies: string[] = []
  const url = await serveOnLoopback(async (request, body, response) => {
    bodies.push(body)
    const answer = await fetch(`${target}${request.url}`, {
      method: request.method ?? 'GET',
      headers: { 'content-type': 'application/json' },
      ...(body === '' ? {} : { body }),
    })
    response
      .writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'application/json' })
      .end(await answer.text())
  })
  return { url, bodies }
}
