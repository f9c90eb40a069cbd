/** Small HTTP servers of tests on loopback. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'
import { type Loopback, listenOnLoopback } from './port.ts'

type Answering = (request: IncomingMessage, body: string, response: ServerResponse) => void | Promise<void>

/**
 * Answers requests that came whole. One whose body does not come, or whose answering fails, has its line broken: a
 * client may still be asking things when the test has seen enough.
 */
export function openOnLoopback(answer: Answering): Promise<Loopback> {
  return listenOnLoopback(
    createServer((request, response) => {
      text(request)
        .then((body) => answer(request, body, response))
        .catch(() => response.destroy())
    }),
  )
}

/** The address of such a server, which ends with the test. */
export async function serveOnLoopback(answer: Answering): Promise<string> {
  const { url, close } = await openOnLoopback(answer)
  onTestFinished(close)
  return url
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
