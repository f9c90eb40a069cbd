/**
 * The line from a worker to its server: one WebSocket, opened again for ever.
 *
 * What is said while the line is down waits, up to a limit, and so does what was said but may not have arrived: after
 * each batch a ping goes out, and only its pong, which the server can give no sooner than it read what came before,
 * takes frames off the list. A frame can therefore arrive twice, which the server is used to.
 */
import { setTimeout as wait } from 'node:timers/promises'
import type { Logger } from 'pino'
import WebSocket from 'ws'
import { type FromWorker, ToWorker, WORKER_SOCKET_PATH } from '../contract/index.ts'

export const LINE_LIMITS = {
  ping_ms: 30_000,
  /** No pong for this long: the line is dead. */
  silence_ms: 60_000,
  handshake_ms: 10_000,
  reconnect_min_ms: 1000,
  reconnect_max_ms: 60_000,
  /** Waiting frames; beyond them the oldest is dropped. */
  outbox_max: 256,
  frame_bytes_max: 16 * 1024 * 1024,
}
export type LineLimits = typeof LINE_LIMITS

export type LineOptions = {
  server: string
  api_key: string
  worker_id: string
  version: string
  log: Logger
  limits?: Partial<LineLimits> | undefined
  /** Said first after each connect, before what waited. */
  hello: () => FromWorker[]
  onFrame: (frame: ToWorker) => void
}

export type Line = {
  /** Connects, and stays connected until `close`. */
  open(): void
  /** `onDelivered` is called once the server has the frame; perhaps never. */
  say(frame: FromWorker, onDelivered?: () => void): void
  connected(): boolean
  /** Resolves when all that was said has arrived, or after `ms`. */
  flush(ms: number): Promise<void>
  /** Says goodbye (1000) and stays closed. */
  close(): Promise<void>
}

type Waiting = { number: number; text: string; onDelivered: (() => void) | undefined }

type State = {
  options: LineOptions
  limits: LineLimits
  outbox: Waiting[]
  number: number
  socket: WebSocket | null
  closing: AbortController
}

export function openLine(options: LineOptions): Line {
  const line: State = {
    options,
    limits: { ...LINE_LIMITS, ...options.limits },
    outbox: [],
    number: 0,
    socket: null,
    closing: new AbortController(),
  }
  let running: Promise<void> | null = null
  return {
    open: () => {
      running ??= keepOpen(line, line.closing.signal)
    },
    say: (frame, onDelivered) => say(line, frame, onDelivered),
    connected: () => line.socket !== null,
    flush: async (ms) => {
      const until = performance.now() + ms
      while (line.outbox.length > 0 && performance.now() < until) await wait(10)
    },
    close: async () => {
      line.closing.abort()
      await running
    },
  }
}

function say(line: State, frame: FromWorker, onDelivered?: () => void): void {
  line.outbox.push({ number: ++line.number, text: JSON.stringify(frame), onDelivered })
  if (line.outbox.length > line.limits.outbox_max) {
    line.outbox.shift()
    line.options.log.warn(
      { limit: line.limits.outbox_max },
      'Too much waits for the server; the oldest message was dropped.',
    )
  }
  const last = line.outbox.at(-1)
  if (line.socket && last) send(line.socket, [last], line.number)
}

function send(socket: WebSocket, frames: Waiting[], number: number): void {
  for (const { text } of frames) socket.send(text)
  socket.ping(String(number))
}

function arrived(line: State, number: number): void {
  while (line.outbox[0] && line.outbox[0].number <= number) line.outbox.shift()?.onDelivered?.()
}

async function keepOpen(line: State, signal: AbortSignal): Promise<void> {
  const { reconnect_min_ms, reconnect_max_ms } = line.limits
  for (let tries = 0; !signal.aborted; tries++) {
    const end = await connectOnce(line, signal)
    if (signal.aborted) return
    if (end.opened) tries = 0
    const delay_ms = end.refused ? reconnect_max_ms : Math.min(reconnect_min_ms * 2 ** tries, reconnect_max_ms)
    line.options.log[end.refused ? 'error' : 'warn']({ server: line.options.server, again_ms: delay_ms }, end.message)
    await wait(delay_ms * (0.75 + Math.random() / 4), undefined, { signal }).catch(() => {})
  }
}

/** `refused`: trying again soon is no use. */
type ConnectionEnd = { opened: boolean; refused: boolean; message: string }

function connectOnce(line: State, signal: AbortSignal): Promise<ConnectionEnd> {
  const { options, limits } = line
  const { promise, resolve } = Promise.withResolvers<ConnectionEnd>()
  const end: ConnectionEnd = {
    opened: false,
    refused: false,
    message: 'The server cannot be reached. The worker tries again.',
  }
  const socket = new WebSocket(socketUrl(options), {
    headers: { authorization: `Bearer ${options.api_key}`, 'user-agent': `baton-worker/${options.version}` },
    handshakeTimeout: limits.handshake_ms,
    maxPayload: limits.frame_bytes_max,
    perMessageDeflate: false,
  })
  let pong_at = performance.now()
  const ping = setInterval(() => {
    if (performance.now() - pong_at > limits.silence_ms) {
      end.message = 'The server is silent. The worker connects again.'
      socket.terminate()
    } else if (socket.readyState === WebSocket.OPEN) socket.ping(String(line.number))
  }, limits.ping_ms)
  const leave = () => (socket.readyState === WebSocket.OPEN ? socket.close(1000) : socket.terminate())
  signal.addEventListener('abort', leave, { once: true })
  const late = () => setTimeout(() => socket.terminate(), 1000).unref()
  signal.addEventListener('abort', late, { once: true })
  socket.on('unexpected-response', (request, response) => {
    Object.assign(end, refusalOf(response.statusCode ?? 0, options))
    response.destroy()
    request.destroy()
    socket.terminate()
  })
  socket.on('upgrade', ({ headers }) => {
    const theirs = headers['x-baton-version']
    if (typeof theirs === 'string' && theirs !== options.version) {
      options.log.warn(
        { server_version: theirs, version: options.version },
        'Server and worker are of different versions. Update the older one.',
      )
    }
  })
  socket.on('open', () => {
    Object.assign(end, {
      opened: true,
      message: 'The line to the server broke. The worker connects again; runs go on.',
    })
    pong_at = performance.now()
    line.socket = socket
    for (const frame of options.hello()) socket.send(JSON.stringify(frame))
    send(socket, line.outbox, line.number)
    options.log.info({ server: options.server, worker_id: options.worker_id }, 'worker.connected')
  })
  socket.on('pong', (bytes) => {
    pong_at = performance.now()
    arrived(line, Number(bytes.toString()) || 0)
  })
  socket.on('message', (bytes, binary) => hear(line, binary ? null : bytes.toString()))
  socket.on('error', (error) => {
    if (!end.opened && !end.refused)
      end.message = `The server at ${options.server} cannot be reached (${wordOf(error)}). The worker tries again.`
  })
  socket.on('close', (code, reason) => {
    clearInterval(ping)
    signal.removeEventListener('abort', leave)
    signal.removeEventListener('abort', late)
    line.socket = null
    if (code === 1008 || (code >= 4000 && code < 4100)) {
      Object.assign(end, {
        refused: true,
        message: `The server sent the worker away: ${reason.toString() || `code ${code}`}`,
      })
    }
    resolve(end)
  })
  return promise
}

function socketUrl({ server, worker_id }: LineOptions): string {
  const url = new URL(server.replace(/\/+$/, '') + WORKER_SOCKET_PATH)
  url.protocol = url.protocol.replace('http', 'ws')
  url.searchParams.set('worker_id', worker_id)
  return url.href
}

function refusalOf(status: number, { server, worker_id }: LineOptions): Partial<ConnectionEnd> {
  switch (status) {
    case 401:
      return {
        refused: true,
        message: `The server at ${server} does not accept the worker's API key. Give a valid --api-key.`,
      }
    case 403:
      return {
        refused: true,
        message: `The server at ${server} does not let this API key run a worker named "${worker_id}".`,
      }
    case 400:
      return {
        refused: true,
        message: `The server at ${server} refused the worker's name "${worker_id}". Start it with another --worker-id.`,
      }
    case 404:
      return {
        refused: true,
        message: `There is no worker endpoint at ${server}. Is this the address of a Baton server?`,
      }
    case 426:
      return {
        refused: true,
        message: `The server at ${server} speaks another version of the worker protocol. Update the older one.`,
      }
  }
  return { message: `The server at ${server} answered ${status} to the worker. The worker tries again.` }
}

function hear(line: State, text: string | null): void {
  const { log } = line.options
  if (text === null) return void log.warn('The server sent a binary frame, which means nothing here.')
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    return void log.warn({ bytes: text.length }, 'The server sent a frame that is not JSON.')
  }
  const frame = ToWorker.safeParse(raw)
  if (frame.success) {
    line.options.onFrame(frame.data)
    return
  }
  const type = raw !== null && typeof raw === 'object' && 'type' in raw ? String(raw.type).slice(0, 64) : undefined
  if (type === 'heartbeat') return
  const issue = frame.error.issues[0]
  log.warn(
    { type, at: issue?.path.join('.'), issue: issue?.message },
    'The server sent a frame that this worker does not understand. Are both of the same version?',
  )
}

const wordOf = (error: Error): string =>
  'code' in error && typeof error.code === 'string' ? error.code : error.message
