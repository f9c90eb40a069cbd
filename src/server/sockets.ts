/**
 * Worker sockets: the public self-hosted worker protocol, with our optional frames.
 *
 * One connection is one pool of slots. Frames about one run are dealt with in the order in which they came; frames
 * about different runs do not wait for each other.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type RawData, type WebSocket, WebSocketServer } from 'ws'
import { Fault, FromWorker, isAtLeast, type Role, type ToWorker, WORKER_SOCKET_PATH } from '../contract/index.ts'
import type { Shown } from '../engine/access.ts'
import type { UserCaller, WorkerCaller } from '../engine/caller.ts'
import type { Connection as Dispatchable, Offer } from '../engine/dispatch.ts'
import { identify, shownBy } from './callers.ts'
import { openDispatcher } from './dispatcher.ts'
import { checkHost, checkOrigin } from './hosts.ts'
import { endWith, pathOf } from './malformed.ts'
import { faultOf, traceOf } from './problems.ts'
import type { ServerRoom } from './room.ts'
import { openSlots, type Slots } from './slots.ts'

type Opener = UserCaller | WorkerCaller

type Connection = {
  connection_id: string
  team_id: string
  worker_host: string
  socket: WebSocket
  slots: Slots
  heard_at: number
  /** The last frame of each run that is still being dealt with. */
  chains: Map<string, Promise<void>>
  wrong_frames: number
  /** Providers for which the worker takes keys of single executions. */
  brokers: readonly string[]
  /** Whose personal runs it takes, where not everybody's. */
  only: Pick<Dispatchable, 'only_for'>
}

const TICK_MS = 1_000
/** How long a closing server waits for a worker to say goodbye, too. */
const GOODBYE_MS = 500
const SEEN_MS = 10_000
/** Bytes that wait for a worker that does not read; assignments carry prompts of up to a megabyte. */
const BUFFERED_BYTES_MAX = 16 * 1024 * 1024
/** Frames that may wait to be dealt with before the socket is read no further. */
const CHAINS_MAX = 200
const WRONG_FRAMES_MAX = 20

export function openWorkerSockets(room: ServerRoom) {
  const { engine, limits, log } = room
  const connections = new Map<string, Connection>()
  const acceptor = new WebSocketServer({
    noServer: true,
    maxPayload: limits.worker_frame_bytes_max,
    perMessageDeflate: false,
  })
  // Or it would answer by itself, in other words than everything else.
  acceptor.on('wsClientError', ({ message }: Error, socket: Duplex, incoming: IncomingMessage) => {
    const said = `This is no WebSocket handshake as it should be: ${message}.`
    const fault = new Fault('invalid_request', said, {
      status: incoming.method === 'GET' ? 400 : 405,
      headers: incoming.method === 'GET' ? { 'sec-websocket-version': '13' } : { allow: 'GET' },
    })
    endWith(socket, fault, { trace_id: traceOf(undefined), instance: pathOf(incoming.url) })
  })
  // A worker of another version says so in its log.
  acceptor.on('headers', (lines) => lines.push(`x-baton-version: ${room.version}`))
  const dispatcher = openDispatcher(room, {
    connections: () =>
      [...connections.values()].map(({ connection_id, team_id, worker_host, brokers, only, slots }) => ({
        connection_id,
        team_id,
        worker_host,
        brokers,
        ...only,
        free: slots.free(),
      })),
    deliver,
  })
  const deaf = [
    engine.bell.hear('control', ({ execution_id }) => void checkExecution(execution_id)),
    engine.bell.hear('reconnected', () => {
      for (const connection of connections.values())
        for (const held of connection.slots.held()) void checkExecution(held.execution_id)
    }),
    room.hub.hear((events) => {
      for (const event of events) {
        if (event.event_type in WAITS) tellWaiting(event.run_id, event.event_type === 'run_waiting')
        if (!ENDS.has(event.event_type)) continue
        for (const connection of connections.values()) connection.slots.runEnded(event.run_id)
      }
    }),
  ]
  const ticker = setInterval(() => void tick(), TICK_MS).unref()
  let seen_at = Date.now()

  async function upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const trace_id = traceOf(String(incoming.headers.traceparent ?? ''))
    const ignore = () => {}
    socket.on('error', ignore)
    try {
      const { caller, shown, worker_host } = await admit(incoming)
      const connection_id = await engine.workers.open(caller, worker_host)
      if (socket.destroyed) return void (await engine.workers.close(connection_id))
      let is_open = false
      acceptor.handleUpgrade(incoming, socket, head, (accepted) => {
        is_open = true
        socket.off('error', ignore)
        serve(
          { shown, role: caller.role },
          {
            connection_id,
            team_id: caller.team_id,
            worker_host,
            socket: accepted,
            slots: openSlots(limits, dispatcher.wake),
            heard_at: Date.now(),
            chains: new Map(),
            wrong_frames: 0,
            brokers: [],
            only: onlyFor(caller),
          },
        )
      })
      // Handshakes are looked at before that returns.
      if (!is_open) await engine.workers.close(connection_id)
    } catch (thrown) {
      endWith(socket, faultOf(thrown, trace_id, log), { trace_id, instance: pathOf(incoming.url) })
    }
  }

  async function admit(incoming: IncomingMessage): Promise<{ caller: Opener; shown: Shown; worker_host: string }> {
    checkHost(incoming.headers, room.host, room.public_hosts)
    checkOrigin(incoming.headers, room.public_hosts)
    const url = URL.parse(incoming.url ?? '/', 'http://worker')
    if (url === null)
      throw new Fault('invalid_request', `${JSON.stringify(pathOf(incoming.url))} is no address of a socket.`)
    if (url.pathname !== WORKER_SOCKET_PATH)
      throw new Fault(
        'resource_not_found',
        `There is no socket at ${url.pathname}; workers connect to ${WORKER_SOCKET_PATH}.`,
      )
    const { cookie: _, ...headers } = incoming.headers
    const caller = await identify(room.known, room.wrong_keys, {
      headers,
      address: incoming.socket.remoteAddress ?? 'unknown',
      method: 'GET',
    })
    if (caller.kind === 'execution')
      throw new Fault(
        'not_authorized',
        "A run's own token opens no worker connection; use a worker's or a person's key.",
      )
    if (!isAtLeast(caller.role, 'member'))
      throw new Fault('not_authorized', 'A worker takes the role member; who made this key may only look.')
    const worker_host = url.searchParams.get('worker_id') ?? ''
    if (!/^[\x21-\x7e]{1,256}$/.test(worker_host))
      throw new Fault('invalid_request', 'Name the worker: ?worker_id= and 1 to 256 characters without spaces.')
    if (/^warp/i.test(worker_host))
      throw new Fault(
        'invalid_request',
        'A worker_id may not start with "warp": that stands for no worker in particular.',
      )
    const of_team = [...connections.values()].filter((connection) => connection.team_id === caller.team_id).length
    if (of_team >= limits.sockets_per_team)
      throw new Fault(
        'resource_unavailable',
        `Your team has ${of_team} workers connected to this server, which is the most that it holds.`,
      )
    return { caller, shown: shownBy(headers) ?? { token: '' }, worker_host }
  }

  function serve({ shown, role }: { shown: Shown; role: Role }, connection: Connection): void {
    const { socket, connection_id, worker_host, team_id } = connection
    const heard = () => {
      connection.heard_at = Date.now()
    }
    const unguard = room.guard.watch({
      shown,
      outlives_execution: false,
      role,
      // One that may still work connects again, as what it is now.
      end: (why) =>
        why === 'revoked'
          ? socket.close(1008, 'The key of this worker was revoked.')
          : socket.close(1012, "The role of this worker's key has changed; connect again."),
    })
    connections.set(connection_id, connection)
    log.info({ connection_id, worker_host, team_id }, 'worker.connected')
    socket.on('ping', heard)
    socket.on('pong', heard)
    socket.on('error', (error) =>
      log.warn({ connection_id, worker_host, reason: error.message }, 'worker.socket_error'),
    )
    socket.on('message', (frame, is_binary) => {
      heard()
      receive(connection, frame, is_binary)
    })
    socket.on('close', (code) => {
      unguard()
      connections.delete(connection_id)
      log.info({ connection_id, worker_host, code }, 'worker.disconnected')
      void leave(connection)
    })
    dispatcher.wake()
  }

  /** What it was offered and had not claimed goes to others at once; what it works on goes on without us. */
  async function leave(connection: Connection): Promise<void> {
    await Promise.all(connection.chains.values())
    const unclaimed = connection.slots.held().filter((held) => !held.claimed)
    connection.slots.close()
    try {
      for (const held of unclaimed) await engine.workers.release(held.task_id, held.execution_id)
      await engine.workers.close(connection.connection_id)
    } catch (error) {
      // Offers lapse and rows of connections age by themselves.
      log.warn({ err: error, connection_id: connection.connection_id }, 'worker.leave_failed')
    }
  }

  function receive(connection: Connection, frame: RawData, is_binary: boolean): void {
    const parsed = is_binary ? null : FromWorker.safeParse(safeJson(frame.toString()))
    if (!parsed?.success) {
      // Types that we do not know are passed over, as the protocol asks; a peer that says nothing else is none.
      connection.wrong_frames += 1
      log.debug(
        { connection_id: connection.connection_id, frame: frame.toString().slice(0, 200) },
        'worker.frame_ignored',
      )
      if (connection.wrong_frames > WRONG_FRAMES_MAX)
        connection.socket.close(1008, 'These frames are not those of a worker.')
      return
    }
    const said = parsed.data
    const key = 'task_id' in said.data ? said.data.task_id : ''
    const before = connection.chains.get(key) ?? Promise.resolve()
    const chain = before
      .then(() => take(connection, said))
      .catch((error: unknown) => {
        log.error({ err: error, connection_id: connection.connection_id, type: said.type }, 'worker.frame_failed')
      })
      .finally(() => {
        if (connection.chains.get(key) === chain) connection.chains.delete(key)
        if (connection.chains.size < CHAINS_MAX / 2) connection.socket.resume()
      })
    connection.chains.set(key, chain)
    if (connection.chains.size >= CHAINS_MAX) connection.socket.pause()
  }

  async function take(connection: Connection, said: FromWorker): Promise<void> {
    const { connection_id, slots } = connection
    switch (said.type) {
      case 'worker_hello': {
        slots.hello(said.data.capacity, said.data.running)
        connection.brokers = said.data.brokers ?? []
        const { cancel, waiting, model_keys } = await engine.workers.hello(
          connection_id,
          said.data,
          connection.only.only_for,
        )
        for (const one of model_keys) send(connection, { type: 'task_model_keys', data: one })
        for (const run_id of waiting) tellWaiting(run_id, true)
        for (const one of cancel) send(connection, { type: 'task_cancellation', data: one })
        return
      }
      case 'worker_models':
        return engine.models.said(connection_id, said.data.providers)
      case 'task_claimed': {
        slots.claimed(said.data.task_id)
        if (await engine.workers.claimed(connection_id, said.data)) return
        const { task_id, execution_id } = said.data
        send(connection, {
          type: 'task_cancellation',
          data: { task_id, ...(execution_id === undefined ? {} : { execution_id }) },
        })
        return slots.freeSoon(task_id)
      }
      case 'task_rejected':
        slots.rejected(said.data.task_id)
        return engine.workers.rejected(connection_id, said.data)
      case 'task_completed':
      case 'task_failed':
        slots.ended(said.data.task_id)
        return engine.workers.ended(connection_id, said)
    }
  }

  /** False when the worker has gone. */
  function deliver({ connection_id, assignment }: Offer): boolean {
    const connection = connections.get(connection_id)
    if (!connection || connection.socket.readyState !== connection.socket.OPEN) return false
    connection.slots.offered(assignment.task_id, assignment.execution_id)
    send(connection, { type: 'task_assignment', data: assignment })
    return true
  }

  /** Tells the worker of an execution that it is to end, when that is so. */
  async function checkExecution(execution_id: string): Promise<void> {
    for (const connection of connections.values()) {
      const held = connection.slots.held().find((one) => one.execution_id === execution_id)
      if (!held) continue
      const wanted = await engine.workers.wants(connection.team_id, execution_id).catch((thrown: unknown) => {
        log.warn({ err: thrown, execution_id }, 'worker.check_failed')
        return true
      })
      if (wanted) return
      send(connection, { type: 'task_cancellation', data: { task_id: held.task_id, execution_id } })
    }
  }

  /** A waiting run takes up no slot, here and in the worker's own count. */
  function tellWaiting(task_id: string, waiting: boolean): void {
    for (const connection of connections.values()) {
      if (connection.slots.waits(task_id, waiting))
        send(connection, { type: 'task_waiting', data: { task_id, waiting } })
    }
  }

  function send(connection: Connection, frame: ToWorker): void {
    if (connection.socket.bufferedAmount > BUFFERED_BYTES_MAX) connection.socket.terminate()
    else connection.socket.send(JSON.stringify(frame))
  }

  async function tick(): Promise<void> {
    const now = Date.now()
    for (const connection of connections.values()) {
      const silent_ms = now - connection.heard_at
      if (silent_ms >= limits.worker_silent_ms) connection.socket.terminate()
      else if (silent_ms >= limits.worker_ping_ms) connection.socket.ping()
    }
    if (now - seen_at < SEEN_MS) return
    seen_at = now
    await engine.workers
      .seen([...connections.keys()])
      .catch((error: unknown) => log.warn({ err: error }, 'worker.seen_failed'))
  }

  return {
    upgrade,
    count: () => connections.size,
    async close(): Promise<void> {
      clearInterval(ticker)
      for (const stop of deaf) stop()
      await dispatcher.close()
      const gone = [...connections.values()].map(
        (connection) =>
          new Promise<void>((resolve) => {
            connection.socket.on('close', () => resolve())
            connection.socket.close(1001, 'The server is going away; connect again.')
            setTimeout(() => connection.socket.terminate(), GOODBYE_MS).unref()
          }),
      )
      const leaving = [...connections.values()]
      await Promise.all(gone)
      await Promise.all(leaving.flatMap((connection) => [...connection.chains.values()]))
      acceptor.close()
    },
  }
}

const WAITS = { run_waiting: true, run_resumed: true }
const ENDS = new Set(['run_succeeded', 'run_failed', 'run_errored', 'run_cancelled'])

/** What is personal goes to the team's workers, which its admins answer for, and to its owner's own. */
function onlyFor(caller: Opener): Pick<Dispatchable, 'only_for'> {
  if (isAtLeast(caller.role, 'admin')) return {}
  return { only_for: caller.kind === 'worker' ? caller.user_id : caller.owner_user_id }
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
