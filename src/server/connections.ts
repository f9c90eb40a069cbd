/**
 * The connections of an HTTP server, so that its closing waits for what was asked and for nothing else. Node's own
 * `closeIdleConnections` leaves those open on which nothing was asked yet, such as the ones that browsers open ahead.
 */
import type { Server as HttpServer } from 'node:http'
import type { Socket } from 'node:net'

export function trackConnections(http: HttpServer) {
  /** How many answers each still owes; an upgraded one is somebody else's to end. */
  const open = new Map<Socket, number>()
  let leaving = false
  http.on('connection', (socket) => {
    open.set(socket, 0)
    socket.once('close', () => open.delete(socket))
  })
  http.on('request', ({ socket }, outgoing) => {
    open.set(socket, (open.get(socket) ?? 0) + 1)
    outgoing.once('close', () => {
      const owed = (open.get(socket) ?? 1) - 1
      if (open.has(socket)) open.set(socket, owed)
      if (leaving && owed === 0) socket.destroySoon()
    })
  })
  http.on('upgrade', ({ socket }) => open.set(socket, Number.POSITIVE_INFINITY))
  return {
    /** Ends each connection as soon as it owes no answer. */
    leave(): void {
      leaving = true
      for (const [socket, owed] of open) if (owed === 0) socket.destroy()
    },
    /** Ends them all. */
    cut(): void {
      for (const socket of open.keys()) socket.destroy()
    },
  }
}
