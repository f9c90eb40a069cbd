/**
 * The server: carries a question in and an answer out, over HTTP, event streams and worker sockets. It keeps
 * nothing that another server on the same database would miss.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import type { Logger } from 'pino'
import packageFile from '../../package.json' with { type: 'json' }
import type { Clock } from '../db/clock.ts'
import type { Database } from '../db/connect.ts'
import type { BlobStore } from '../engine/blobs.ts'
import { type Engine, type EngineLimits, openEngine } from '../engine/engine.ts'
import type { Keyring } from '../engine/keyring.ts'
import type { ReadSkills } from '../engine/skill-reader.ts'
import { makeApp } from './app.ts'
import { openBatches } from './batches.ts'
import { wrongKeys } from './callers.ts'
import { trackConnections } from './connections.ts'
import { openGuard } from './guard.ts'
import { openHub } from './hub.ts'
import { knownCallers } from './known.ts'
import { SERVER_LIMITS, type ServerLimits } from './limits.ts'
import { answerMalformed, refuseMalformed } from './malformed.ts'
import { pollLoop } from './poll.ts'
import type { CheckAnswer, ServerRoom } from './room.ts'
import { openSchedules } from './schedules.ts'
import { openWorkerSockets } from './sockets.ts'
import { openStreams } from './streams.ts'
import { openWatches } from './watches.ts'

export type ServerOptions = {
  database: Database
  clock: Clock
  blobs: BlobStore
  log: Logger
  host?: string
  /** 0: any free one. */
  port: number
  /** Names besides loopback under which the server is reached, such as the one that a proxy serves. */
  public_hosts?: string[]
  /** Reads the skills of repositories; absent: none is read. */
  skills?: ReadSkills
  /** Master keys; absent: there are none, and no secrets can be kept. */
  keyring?: Keyring
  /** Where others reach this server, such as `https://baton.example`; absent: where each was when it asked. */
  public_url?: string
  /** The built web page; null: there is none. */
  web_dir: string | null
  limits?: Partial<ServerLimits>
  engine_limits?: Partial<EngineLimits>
  /** Absent: nobody looks. */
  checkAnswer?: CheckAnswer
}

export type Server = {
  url: string
  port: number
  server_id: string
  engine: Engine
  /** Ends streams and sockets with a hint to come back, answers what was asked, and lets go of the port. */
  close(): Promise<void>
}

const SWEEP_MS = 1_000
const MERGE_SEARCH_MS = 1_000
const KEEP_ALIVE_MS = 65_000
const HEADERS_MS = 15_000
/** How often connections are looked at that have taken too long. */
const CHECK_MS = 5_000

/** Rejects when the port is taken (EADDRINUSE) or the database does not answer. */
export async function openServer(options: ServerOptions): Promise<Server> {
  const { database, clock, blobs, log, host = '127.0.0.1', public_url } = options
  const public_hosts = [...(options.public_hosts ?? []), ...(public_url ? [new URL(public_url).hostname] : [])]
  const limits = { ...SERVER_LIMITS, ...options.limits }
  const server_id = randomUUID()
  const engine = await openEngine({
    database,
    clock,
    blobs,
    log,
    server_id,
    ...(options.skills && { skills: options.skills }),
    ...(options.keyring && { keyring: options.keyring }),
    ...(options.engine_limits && { limits: options.engine_limits }),
  })
  try {
    const hub = await openHub({ engine, limits, log })
    const known = knownCallers(engine, limits.identify_kept_ms)
    const room: ServerRoom = {
      engine,
      database,
      clock,
      log,
      limits,
      server_id,
      host,
      public_hosts,
      public_url: options.public_url ?? null,
      hub,
      version: packageFile.version,
      watches: openWatches({ engine, limits, log }),
      streams: openStreams(limits),
      known,
      guard: openGuard({ engine, known, limits, log }),
      wrong_keys: wrongKeys(limits.wrong_keys_a_minute, () => clock.now()),
      checkAnswer: options.checkAnswer ?? null,
    }
    return await open(room, options)
  } catch (error) {
    await engine.close()
    throw error
  }
}

async function open(room: ServerRoom, options: ServerOptions): Promise<Server> {
  const { engine, hub, limits, log, server_id, host } = room
  const sockets = openWorkerSockets(room)
  const closing = new AbortController()
  const app = makeApp(room, options.web_dir, closing.signal)
  const http = createServer(
    {
      requestTimeout: limits.request_ms,
      headersTimeout: Math.min(HEADERS_MS, limits.request_ms),
      connectionsCheckingInterval: Math.min(CHECK_MS, limits.request_ms),
      keepAliveTimeout: KEEP_ALIVE_MS,
      requireHostHeader: false,
      // Java's client offers HTTP/2 with its first request, and goes on as it is when that is passed over.
      shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
    },
    getRequestListener(app.fetch, {
      overrideGlobalObjects: false,
      errorHandler: answerMalformed,
    }),
  )
  const connections = trackConnections(http)
  refuseMalformed(http, limits.request_ms)
  http.on('upgrade', (incoming, socket, head) => void sockets.upgrade(incoming, socket, head))
  try {
    await listen(http, host, options.port)
  } catch (error) {
    await Promise.all([sockets.close(), hub.close(), room.watches.close(), room.guard.close()])
    room.streams.close()
    throw error
  }
  const port = (http.address() as AddressInfo).port
  const sweep = pollLoop({
    name: 'sweep',
    log,
    poll_ms: SWEEP_MS,
    gather_ms: SWEEP_MS,
    step: async () => void (await engine.sweep.run()),
  })
  const search = pollLoop({
    name: 'search',
    log,
    poll_ms: MERGE_SEARCH_MS,
    gather_ms: MERGE_SEARCH_MS,
    step: () => engine.mergeSearchIndex(),
  })
  const batches = openBatches(room)
  const schedules = openSchedules(room)
  log.info({ server_id, host, port }, 'server.ready')
  void sayMissingKeys(room)
  let closed: Promise<void> | null = null
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host === '0.0.0.0' ? '127.0.0.1' : host}:${port}`,
    port,
    server_id,
    engine,
    close: () => (closed ??= close()),
  }

  async function close(): Promise<void> {
    closing.abort()
    const stopped = new Promise<void>((resolve) => http.close(() => resolve()))
    const late = setTimeout(connections.cut, limits.close_ms)
    room.streams.close()
    connections.leave()
    await Promise.all([
      sweep.close(),
      search.close(),
      batches.close(),
      schedules.close(),
      sockets.close(),
      hub.close(),
      room.watches.close(),
      room.guard.close(),
    ])
    await stopped
    clearTimeout(late)
    room.known.close()
    await engine.close()
    log.info({ server_id }, 'server.closed')
  }
}

/** Everything but the secrets goes on without. */
async function sayMissingKeys({ engine, log }: ServerRoom): Promise<void> {
  try {
    const { key_ids } = await engine.missingKeys()
    if (key_ids.length > 0)
      log.error(
        { key_ids },
        'Secrets are locked with master keys that this server does not have. Give them back to it.',
      )
  } catch (err) {
    log.warn({ err }, 'It could not be seen whether all master keys are there.')
  }
}

function listen(http: HttpServer, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    http.once('error', reject)
    http.listen(port, host, () => {
      http.off('error', reject)
      resolve()
    })
  })
}
