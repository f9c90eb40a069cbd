/** A line to a server that can be cut at a chosen moment: before a request arrives, or before its answer does. */
import { createServer, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { listenOnLoopback } from './port.ts'

/** `before`: the server never hears of it. `after`: it did what was asked, and its answer is lost. */
export type Cut = 'before' | 'after' | null

export type Line = {
  url: string
  /** Asked for every request; may end processes before it answers. */
  cut(judge: (method: string, path: string) => Cut | Promise<Cut>): void
  /** All connections break, as when the server or a machine between dies. */
  breakAll(): void
  close(): Promise<void>
}

export async function openProxy(port_of_server: number): Promise<Line> {
  let judge: (method: string, path: string) => Cut | Promise<Cut> = () => null
  const sockets = new Set<{ destroy(): void }>()

  async function bodyOf(incoming: IncomingMessage): Promise<Buffer> {
    const chunks: Buffer[] = []
    for await (const chunk of incoming) chunks.push(chunk)
    return Buffer.concat(chunks)
  }

  const server = createServer(async (incoming, outgoing) => {
    const { method = '', url = '', headers } = incoming
    const body = await bodyOf(incoming).catch(() => null)
    const cut = await judge(method, url)
    if (cut === 'before' || body === null) {
      incoming.socket.destroy()
      return
    }
    const onward = request({ port: port_of_server, host: '127.0.0.1', method, path: url, headers }, (answer) => {
      if (cut === 'after') {
        // The whole line breaks, so that the server can know that its answer went nowhere; a mere close would say that
        // all of it was read, where all of it has come already.
        answer.socket.resetAndDestroy()
        incoming.socket.destroy()
        return
      }
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
      // Of a stream, whose first words may come much later.
      outgoing.flushHeaders()
      answer.pipe(outgoing)
      answer.once('error', () => incoming.socket.destroy())
    })
    onward.once('error', () => incoming.socket.destroy())
    outgoing.once('close', () => onward.destroy())
    onward.end(body)
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('upgrade', (incoming, socket, head) => {
    const onward = connect(port_of_server, '127.0.0.1')
    const lines = [`${incoming.method} ${incoming.url} HTTP/1.1`]
    for (let at = 0; at < incoming.rawHeaders.length; at += 2)
      lines.push(`${incoming.rawHeaders[at]}: ${incoming.rawHeaders[at + 1]}`)
    onward.write(`${lines.join('\r\n')}\r\n\r\n`)
    onward.write(head)
    onward.pipe(socket).pipe(onward)
    for (const one of [onward, socket]) {
      sockets.add(one)
      one.on('error', () => {})
      one.once('close', () => {
        onward.destroy()
        socket.destroy()
      })
    }
  })
  const { url, close } = await listenOnLoopback(server)
  return {
    url,
    cut(next) {
      judge = next
    },
    breakAll() {
      for (const socket of sockets) socket.destroy()
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await close()
    },
  }
}
