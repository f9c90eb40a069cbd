/**
 * How a runner reaches the server: Node's own http, in the shape of `fetch`. `fetch` takes 50 ms of processor time to
 * load; so does `import 'node:http'`, because a module's exports are all made for an import, and one of them is the
 * WebSocket that comes with `fetch`. A runner that lives for a second notices.
 */
import type { IncomingMessage } from 'node:http'
import type { Carried, Carry } from '../sdk/calls.ts'

export const requester = (url: URL) =>
  process.getBuiltinModule(url.protocol === 'https:' ? 'node:https' : 'node:http').request

export const carry: Carry = (address, { method, headers, body, signal }) =>
  new Promise((resolve, reject) => {
    const url = new URL(address)
    const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
    const sent = requester(url)(url, { method, headers: { ...headers, ...length }, ...(signal && { signal }) })
    sent.once('response', (response) => resolve(carried(address, response, signal)))
    sent.on('error', reject)
    sent.end(body)
  })

function carried(url: string, response: IncomingMessage, signal: AbortSignal | undefined): Carried {
  const status = response.statusCode ?? 0
  const text = async () => {
    let whole = ''
    for await (const piece of chunks(response.setEncoding('utf8'), signal)) whole += piece
    return whole
  }
  return {
    ok: status >= 200 && status < 300,
    status,
    url,
    headers: {
      get(name) {
        const value = response.headers[name.toLowerCase()]
        return value === undefined ? null : String(value)
      },
    },
    body: chunks(response, signal),
    text,
    json: async () => JSON.parse(await text()),
  }
}

/** What breaks off says so as `fetch` does. Leaving the loop ends the connection. */
async function* chunks(response: IncomingMessage, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  try {
    yield* response
  } catch (cause) {
    signal?.throwIfAborted()
    throw new TypeError('The connection broke off.', { cause })
  }
}
