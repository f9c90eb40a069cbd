/** Requests that are not HTTP as it should be: Node ends them before the application sees them, and says nothing. */
import type { Server as HttpServer, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { Fault } from '../contract/index.ts'
import { renderFault, traceOf } from './problems.ts'

/** Answers them as everything else that is refused is answered. */
export function refuseMalformed(http: HttpServer, request_ms: number): void {
  const answers = new WeakMap<Duplex, ServerResponse>()
  http.on('request', ({ socket }, outgoing) => answers.set(socket, outgoing))
  http.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const answer = answers.get(socket)
    const is_answering = answer?.headersSent && !answer.writableFinished
    if (!socket.writable || is_answering || error.code === 'ECONNRESET') socket.destroy()
    else endWith(socket, faultOf(error.code, request_ms), { trace_id: traceOf(undefined) })
  })
  http.on('checkExpectation', ({ headers: { expect }, url }, outgoing) => {
    const said = `An answer cannot be what ${JSON.stringify(`Expect: ${expect}`)} asks for: leave it out.`
    const fault = new Fault('invalid_request', said, { status: 417 })
    const { status, headers, body } = renderFault(fault, traceOf(undefined), pathOf(url))
    const length = { 'content-length': Buffer.byteLength(body) }
    outgoing.writeHead(status, { ...headers, ...length, connection: 'close' }).end(body)
  })
  http.on('connect', (_, socket) => {
    socket.on('error', () => {})
    const fault = new Fault('invalid_request', 'This server leads nowhere else: it is no proxy.', { status: 405 })
    endWith(socket, fault, { trace_id: traceOf(undefined) })
  })
}

/** Without the query, which may hold what nobody else is to see. */
export const pathOf = (url = '/'): string => url.split('?', 1)[0] ?? url

/** What of a request is no URL, or names no host: Node's parser takes it, and `getRequestListener` throws. */
export function answerMalformed(thrown: unknown): Response {
  const what = thrown instanceof Error ? thrown.message : 'it cannot be read'
  const fault = new Fault('invalid_request', `The request is not HTTP as it should be: ${what}.`)
  const { status, headers, body } = renderFault(fault, traceOf(undefined))
  return new Response(body, { status, headers: { ...headers, connection: 'close' } })
}

/** Says it by hand, and ends the connection. `instance` is the path, where it is known. */
export function endWith(socket: Duplex, fault: Fault, of: { trace_id: string; instance?: string }): void {
  const { status, headers, body } = renderFault(fault, of.trace_id, of.instance)
  const lines = Object.entries({
    ...headers,
    connection: 'close',
    'content-length': String(Buffer.byteLength(body)),
  }).map(([name, value]) => `${name}: ${value}`)
  socket.end(`HTTP/1.1 ${status} ${fault.code}\r\n${lines.join('\r\n')}\r\n\r\n${body}`)
}

/** By the codes of Node's parser (24). */
function faultOf(code: string | undefined, request_ms: number): Fault {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new Fault('invalid_request', 'The address and the headers are longer than 16 KiB together.', {
        status: 431,
      })
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Fault('invalid_request', `The request did not come whole within ${request_ms / 1000} seconds.`, {
        status: 408,
        retryable: true,
      })
  }
  return new Fault('invalid_request', `The request is not HTTP as it should be${code ? ` (${code})` : ''}.`)
}
