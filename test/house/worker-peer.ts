/** The server's side of the worker protocol, as documented: hears every frame, offers and cancels as it is told. */
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { type WebSocket, WebSocketServer } from 'ws'
import { FromWorker, type TaskAssignment, WORKER_SOCKET_PATH } from '../../src/contract/index.ts'
import { type Loopback, listenOnLoopback } from './port.ts'

export type Peer = {
  url: string
  /** Every frame so far, over all connections. */
  frames: FromWorker[]
  /** How each connection asked to be let in. */
  asked: { authorization: string | undefined; worker_id: string | null }[]
  /** The status that upgrades are refused with; 0: let in. */
  refuse: number
  /** New and old connections no longer answer pings. */
  deaf: boolean
  /** Resolves with the first frame, from the beginning or from `after` on, that the check accepts. */
  heard<T extends FromWorker['type']>(
    type: T,
    check?: (frame: Extract<FromWorker, { type: T }>) => boolean,
    after?: number,
  ): Promise<Extract<FromWorker, { type: T }>>
  offer(script: string, more?: Partial<TaskAssignment>): TaskAssignment
  send(frame: unknown): void
  /** Breaks the line without a goodbye. */
  cut(): void
  connections(): number
  /** Stops listening, so that nobody is let in; `open` listens on the same port again. */
  away(): Promise<void>
  open(): Promise<void>
  close(): Promise<void>
}

export const TOKEN = 'execution-token-0123456789abcdef'

export async function openPeer(): Promise<Peer> {
  const sockets = new Set<WebSocket>()
  const waiting = new Set<() => void>()
  let listening: Loopback | undefined
  const accept = new WebSocketServer({ noServer: true, autoPong: false })
  const peer: Peer = {
    url: '',
    frames: [],
    asked: [],
    refuse: 0,
    deaf: false,
    heard: (type, check = () => true, after = 0) =>
      new Promise((resolve) => {
        const look = () => {
          for (const frame of peer.frames.slice(after)) {
            if (!isOf(frame, type) || !check(frame)) continue
            waiting.delete(look)
            return resolve(frame)
          }
        }
        waiting.add(look)
        look()
      }),
    offer: (script, more = {}) => {
      const task_id = more.task_id ?? randomUUID()
      const now = new Date().toISOString()
      const assignment: TaskAssignment = {
        task_id,
        execution_id: randomUUID(),
        task: { id: task_id, title: 'A run', task_definition: { prompt: 'Go.' }, created_at: now, updated_at: now },
        additional_oz_args: [],
        ...more,
        env_vars: { WARP_API_KEY: TOKEN, SCRIPT: script, ...more.env_vars },
      }
      peer.send({ type: 'task_assignment', data: assignment })
      return assignment
    },
    send: (frame) => {
      for (const socket of sockets) socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame))
    },
    cut: () => {
      for (const socket of sockets) socket.terminate()
    },
    connections: () => sockets.size,
    away: async () => {
      peer.cut()
      await listening?.close()
    },
    open: async () => {
      const server = createServer((_request, response) => response.writeHead(404).end())
      server.on('upgrade', (request, socket, head) => {
        const url = new URL(request.url ?? '/', 'http://peer')
        peer.asked.push({ authorization: request.headers.authorization, worker_id: url.searchParams.get('worker_id') })
        if (peer.refuse || url.pathname !== WORKER_SOCKET_PATH) {
          socket.end(`HTTP/1.1 ${peer.refuse || 404} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
          return
        }
        accept.handleUpgrade(request, socket, head, (socket) => {
          sockets.add(socket)
          socket.on('ping', (bytes) => {
            if (!peer.deaf) socket.pong(bytes)
          })
          socket.on('close', () => sockets.delete(socket))
          socket.on('message', (bytes) => {
            peer.frames.push(FromWorker.parse(JSON.parse(bytes.toString())))
            for (const look of [...waiting]) look()
          })
        })
      })
      listening = await listenOnLoopback(server, listening?.port)
      peer.url = listening.url
    },
    close: async () => {
      await peer.away()
      accept.close()
    },
  }
  await peer.open()
  return peer
}

function isOf<T extends FromWorker['type']>(frame: FromWorker, type: T): frame is Extract<FromWorker, { type: T }> {
  return frame.type === type
}
