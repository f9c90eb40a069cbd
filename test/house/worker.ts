/** A worker that does what a test says, over the real socket; what it is assigned runs through the SDK. */
import { WebSocket } from 'ws'
import {
  type Assignment,
  type EntryBody,
  type FromWorker,
  type ModelKey,
  type Outcome,
  type TaskAssignment,
  ToWorker,
  WORKER_SOCKET_PATH,
} from '../../src/contract/index.ts'
import { type Client, connect } from '../../src/sdk/client.ts'

export type ScriptedWorkerOptions = {
  url: string
  api_key: string
  worker_host?: string
  /** Slots that it says it has; null: it says no hello, as a worker of the public protocol. */
  capacity?: number | null
  running?: { task_id: string; execution_id: string }[]
  /** Providers for which it says that it takes keys. */
  brokers?: string[]
}

/** A run in this worker's hands. */
export type Piece = {
  run_id: string
  execution_id: string
  assignment: TaskAssignment
  /** The SDK with the execution's token. */
  runner: Client
  claim(): void
  reject(): void
  start(): Promise<Assignment>
  /** Adds entries, numbered on from the last. */
  append(...bodies: EntryBody[]): Promise<number>
  finish(outcome?: Outcome): Promise<{ state: string }>
  /** The sandbox has ended. */
  complete(): void
  fail(message: string, failure_reason?: string): void
  /** All of it: claim, start, `entries` entries of text, finish, complete. */
  work(entries?: number, outcome?: Outcome): Promise<void>
}

export type ToldKeys = { task_id: string; execution_id: string; model_keys: ModelKey[] }

export type ScriptedWorker = {
  worker_host: string
  /** The next run that it is offered; rejects after `wait_ms`. */
  next(wait_ms?: number): Promise<Piece>
  /** The next cancellation; rejects after `wait_ms`. */
  cancelled(wait_ms?: number): Promise<{ task_id: string; execution_id?: string | undefined }>
  /** The next keys of a run that it said it still has; rejects after `wait_ms`. */
  toldKeys(wait_ms?: number): Promise<ToldKeys>
  /** Offers not taken by `next` yet. */
  waiting(): number
  say(frame: FromWorker): void
  socket: WebSocket
  /** Resolves with the close code when the connection ends. */
  closed: Promise<number>
  /** Goes without a word, as a machine that lost its power. */
  vanish(): void
  close(): Promise<void>
}

const WAIT_MS = 10_000

export async function openScriptedWorker(options: ScriptedWorkerOptions): Promise<ScriptedWorker> {
  const { worker_host = 'scripted', capacity = 4, running = [], brokers } = options
  const root = options.url.replace(/^http/, 'ws')
  const address = `${root}${WORKER_SOCKET_PATH}?worker_id=${encodeURIComponent(worker_host)}`
  const socket = new WebSocket(address, { headers: { authorization: `Bearer ${options.api_key}` } })
  const offers = mailbox<Piece>('an offer')
  const cancellations = mailbox<{ task_id: string; execution_id?: string | undefined }>('a cancellation')
  const model_keys = mailbox<ToldKeys>('model keys')
  const say = (frame: FromWorker) => socket.send(JSON.stringify(frame))
  const closed = new Promise<number>((resolve) => socket.on('close', resolve))
  socket.on('message', (frame) => {
    const said = ToWorker.parse(JSON.parse(String(frame)))
    if (said.type === 'task_assignment') offers.put(takeUp(options.url, worker_host, said.data, say))
    else if (said.type === 'task_model_keys') model_keys.put(said.data)
    else cancellations.put(said.data)
  })
  await new Promise<void>((resolve, reject) => {
    socket.on('open', () => resolve())
    socket.on('error', reject)
  })
  const hello = { version: '0.0.0', backend: 'scripted', harnesses: [], ...(brokers && { brokers }) }
  if (capacity !== null) say({ type: 'worker_hello', data: { capacity, running, ...hello } })
  return {
    worker_host,
    say,
    socket,
    closed,
    next: offers.take,
    cancelled: cancellations.take,
    toldKeys: model_keys.take,
    waiting: offers.size,
    vanish: () => socket.terminate(),
    async close() {
      socket.close(1000)
      await closed
    },
  }
}

function takeUp(url: string, worker_id: string, assignment: TaskAssignment, say: (frame: FromWorker) => void): Piece {
  const { task_id, execution_id } = assignment
  const runner = connect({ server: url, token: assignment.env_vars.WARP_API_KEY, retries: 0 })
  const params = { execution_id }
  let entries = 0
  const piece: Piece = {
    run_id: task_id,
    execution_id,
    assignment,
    runner,
    claim: () => say({ type: 'task_claimed', data: { task_id, worker_id, execution_id } }),
    reject: () =>
      say({ type: 'task_rejected', data: { task_id, reason: 'worker at maximum concurrency', execution_id } }),
    start: () => runner.executions.start({ params, body: {} }),
    async append(...bodies) {
      const fresh = bodies.map((body, at) => ({ number: entries + at + 1, at: new Date().toISOString(), body }))
      entries += fresh.length
      return (await runner.executions.append({ params, body: { entries: fresh } })).highest
    },
    finish: (outcome = { outcome: 'SUCCEEDED' }) => runner.executions.finish({ params, body: { outcome, entries } }),
    complete: () => say({ type: 'task_completed', data: { task_id, message: '', execution_id } }),
    fail: (message, failure_reason) =>
      say({ type: 'task_failed', data: { task_id, message, execution_id, ...(failure_reason && { failure_reason }) } }),
    async work(count = 1, outcome) {
      piece.claim()
      await piece.start()
      if (count > 0)
        await piece.append(
          ...Array.from({ length: count }, (_, at): EntryBody => ({ kind: 'text', text: `entry ${at + 1}` })),
        )
      await piece.finish(outcome)
      piece.complete()
    },
  }
  return piece
}

function mailbox<T>(what: string) {
  const kept: T[] = []
  const takers: ((one: T) => void)[] = []
  return {
    size: () => kept.length,
    put(one: T): void {
      const taker = takers.shift()
      if (taker) taker(one)
      else kept.push(one)
    },
    take(wait_ms = WAIT_MS): Promise<T> {
      const one = kept.shift()
      if (one !== undefined) return Promise.resolve(one)
      return new Promise((resolve, reject) => {
        const taker = (late: T) => {
          clearTimeout(timer)
          resolve(late)
        }
        const timer = setTimeout(() => {
          takers.splice(takers.indexOf(taker), 1)
          reject(new Error(`The scripted worker got no ${what.replace(/^an? /, '')} within ${wait_ms} ms.`))
        }, wait_ms)
        takers.push(taker)
      })
    },
  }
}
