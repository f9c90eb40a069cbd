/** Ports of loopback. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { z } from 'zod'

/** Those of HTTP keep connections beyond their requests. */
type Listener = Server & { closeAllConnections?(): void }

export type Loopback = { url: string; port: number; close(): Promise<void> }

/** Has `server` listen there, on a free port where none is named; `close` resolves when nobody is connected. */
export async function listenOnLoopback(server: Listener, port = 0): Promise<Loopback> {
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const taken = z.object({ port: z.number() }).parse(server.address()).port
  return {
    url: `http://127.0.0.1:${taken}`,
    port: taken,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections?.()
      await closed
    },
  }
}

/** A port that is free now: nobody listens there. */
export async function freePort(): Promise<number> {
  const { port, close } = await listenOnLoopback(createServer())
  await close()
  return port
}
