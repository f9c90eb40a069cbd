/**
 * The worker: takes offers from a server and opens a sandbox for each.
 *
 *     offered ──no slot──▶ rejected
 *        │
 *     claimed ─▶ opening ─▶ running ─▶ ending ─▶ reported ─▶ forgotten (when the server has the report)
 *                   │          │ cancel: ask the runner, then end all within the grace
 *                   └──────────┴──▶ reported
 *
 * The runner owns the execution: it heartbeats and reports the outcome. The worker reports only that the place is gone;
 * the server ignores that where the outcome is known already. So a worker that closes leaves its sandboxes running, and
 * the next one on the same folder adopts them.
 */
import { setTimeout as wait } from 'node:timers/promises'
import type { Logger } from 'pino'
import {
  type FromWorker,
  harnessOf,
  MODEL_KEY_PROVIDERS,
  type TaskAssignment,
  type ToWorker,
} from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { type Broker, openBroker } from './broker.ts'
import { runnerEnvironment } from './environment.ts'
import { type Line, type LineLimits, openLine } from './line.ts'
import { askModels } from './model-lists.ts'
import { type Environment, type ModelUpstream, modelEnvironment } from './models.ts'
import { openReports, type Reports } from './reports.ts'
import { openProcessBackend } from './sandboxes/process.ts'
import { sha256 } from './sandboxes/record.ts'
import { type Sandbox, type SandboxBackend, type SandboxEnd, SandboxRefused } from './sandboxes/sandbox.ts'
import type { SandboxLimits } from './sandboxes/watch.ts'
import { holdState, type StateFolder } from './state.ts'

/** Between two questions for the models of providers, in milliseconds; the second after one that went badly. */
const MODELS_MS = 6 * 60 * 60_000
const MODELS_AGAIN_MS = 5 * 60_000
/** What the server is told where there is no limit: it offers as many as this leaves. */
const NO_LIMIT = 1000

export const WORKER_LIMITS = {
  /** From a cancellation to the end of everything. The runner itself has about 2 s of it to end its harness. */
  cancel_grace_ms: 5000,
  /** Wait for the server to confirm what was said, when closing. */
  flush_ms: 2000,
}
export type WorkerLimits = typeof WORKER_LIMITS

export type WorkerOptions = {
  /** Root of the server, without `/api/v1`. */
  server: string
  api_key: string
  worker_id: string
  version: string
  /** Sandboxes at a time; 0: no limit. */
  capacity: number
  state_dir: string
  backend: 'process'
  models: readonly ModelUpstream[]
  /** Names of the harnesses that can be started here. Empty: not known. */
  harnesses: string[]
  runner: RunnerStart
  /** The worker's own variables, of which a few reach runners. */
  environment: Environment
  allow_local_repositories: boolean
  keep_workspaces?: boolean
  cgroups?: boolean
  log: Logger
  signal: AbortSignal
  limits?: Partial<WorkerLimits & LineLimits & SandboxLimits>
}

/** How to start `baton`: program and first arguments; and variables that every runner gets. */
export type RunnerStart = {
  command: string[]
  /** The same, faster, for runs of the harness `command`, which are short; null where there is no such way. */
  quick?: () => string[] | null
  env?: Record<string, string>
}

export type RunningExecution = { task_id: string; execution_id: string }

export type Worker = {
  /** Resolves once the worker has closed. */
  closed: Promise<void>
  running(): RunningExecution[]
  /** Whether the line to the server is up. */
  connected(): boolean
  /** Sandboxes go on unless `end_runs` is set. */
  close(how?: { end_runs?: boolean }): Promise<void>
}

type Slot = {
  task_id: string
  execution_id: string
  /** Why it is being ended, when somebody asked for it. Silent: nobody waits for a report. */
  asked: 'cancel' | 'shutdown' | 'silent' | null
  /** Its agent waits for events with its turn ended: it costs nothing and is not counted. */
  waiting: boolean
  sandbox: Sandbox | null
  /** Resolves when nothing of it is left. */
  done: Promise<void>
}

type Desk = {
  options: WorkerOptions
  limits: WorkerLimits
  log: Logger
  slots: Map<string, Slot>
  backend: SandboxBackend
  broker: Broker
  reports: Reports
  line: Line
  /** Null: not asked yet. */
  known_models: FromWorker | null
  /** Sandboxes that are being opened, which a closing worker waits for. */
  opening: Set<Promise<unknown>>
  /** Aborts when no more offers are taken. */
  leaving: AbortController
  /** Aborts when slots are no longer followed. */
  closed: AbortController
}

/** Throws when the folder is taken or cannot be written; whether the server is there does not matter. */
export async function openWorker(options: WorkerOptions): Promise<Worker> {
  const state = await holdState(options.state_dir)
  try {
    return await openIn(state, options)
  } catch (error) {
    await state.release()
    throw error
  }
}

async function openIn(state: StateFolder, options: WorkerOptions): Promise<Worker> {
  const { log, limits } = options
  const backend = await openProcessBackend({
    state_dir: state.path,
    log,
    limits,
    keep_workspaces: options.keep_workspaces,
    cgroups: options.cgroups,
  })
  const desk: Desk = {
    options,
    log,
    backend,
    limits: { ...WORKER_LIMITS, ...limits },
    slots: new Map(),
    opening: new Set(),
    known_models: null,
    leaving: new AbortController(),
    closed: new AbortController(),
    broker: await openBroker({
      models: options.models,
      state_dir: state.path,
      environment: options.environment,
      log,
    }),
    reports: await openReports(state.path, log),
    line: openLine({
      server: options.server,
      api_key: options.api_key,
      worker_id: options.worker_id,
      version: options.version,
      log,
      limits,
      hello: () => hello(desk),
      onFrame: (frame) => hear(desk, frame),
    }),
  }
  for (const sandbox of await backend.adopt()) adopt(desk, sandbox)
  for (const { execution_id, frame } of await desk.reports.list()) {
    if (!desk.slots.has(execution_id)) desk.line.say(frame, () => void desk.reports.drop(execution_id))
  }
  // Not before everything is adopted: what the hello does not name, the server takes for lost.
  desk.line.open()
  void tellModels(desk)
  const closed = Promise.withResolvers<void>()
  let closing = false
  const close: Worker['close'] = (how = {}) => {
    if (!closing) void closeDesk(desk, state, how.end_runs ?? false).then(closed.resolve, closed.reject)
    closing = true
    return closed.promise
  }
  const stop = () => void close().catch((err: unknown) => log.error({ err }, 'The worker did not close cleanly.'))
  options.signal.addEventListener('abort', stop, { once: true })
  if (options.signal.aborted) stop()
  return { closed: closed.promise, running: () => running(desk), connected: () => desk.line.connected(), close }
}

const running = (desk: Desk): RunningExecution[] =>
  [...desk.slots.values()].map(({ task_id, execution_id }) => ({ task_id, execution_id }))

function hello(desk: Desk): FromWorker[] {
  const { capacity, version, harnesses } = desk.options
  const data = {
    capacity: capacity || NO_LIMIT,
    running: running(desk),
    version,
    backend: desk.backend.name,
    harnesses,
    brokers: [...MODEL_KEY_PROVIDERS],
  }
  return [{ type: 'worker_hello', data }, ...(desk.known_models === null ? [] : [desk.known_models])]
}

/** Tells the server which models can be chosen here, and again when that may have changed. */
async function tellModels(desk: Desk): Promise<void> {
  const { signal } = desk.leaving
  while (desk.options.models.length > 0 && !signal.aborted) {
    const providers = await askModels(desk.options.models, signal)
    if (signal.aborted) return
    desk.known_models = { type: 'worker_models', data: { providers } }
    desk.line.say(desk.known_models)
    const well = providers.every(({ status }) => status === 'ok')
    await wait(well ? MODELS_MS : MODELS_AGAIN_MS, undefined, { signal, ref: false }).catch(() => {})
  }
}

function hear(desk: Desk, frame: ToWorker): void {
  if (desk.closed.signal.aborted) return
  switch (frame.type) {
    case 'task_assignment':
      consider(desk, frame.data)
      break
    case 'task_cancellation':
      cancel(desk, frame.data)
      break
    case 'task_waiting':
      for (const slot of desk.slots.values()) {
        if (slot.task_id === frame.data.task_id) slot.waiting = frame.data.waiting
      }
      break
    case 'task_model_keys':
      desk.broker.give(frame.data.execution_id, frame.data.model_keys)
      break
  }
}

function consider(desk: Desk, assignment: TaskAssignment): void {
  const { task_id, execution_id } = assignment
  const { log, line, slots, options } = desk
  if (slots.has(execution_id)) return void log.info({ task_id, execution_id }, 'offer.repeated')
  const older = [...slots.values()].filter((slot) => slot.task_id === task_id)
  const busy = [...slots.values()].filter((slot) => !slot.waiting && !older.includes(slot)).length
  const full = options.capacity > 0 && busy >= options.capacity
  if (full || desk.leaving.signal.aborted) {
    const reason = full ? 'worker at maximum concurrency' : 'worker is shutting down'
    log.info({ task_id, execution_id, reason }, 'offer.rejected')
    line.say({ type: 'task_rejected', data: { task_id, execution_id, reason } })
    return
  }
  for (const slot of older) void endSlot(desk, slot, 'silent', 0)
  const slot: Slot = { task_id, execution_id, asked: null, waiting: false, sandbox: null, done: Promise.resolve() }
  slots.set(execution_id, slot)
  line.say({ type: 'task_claimed', data: { task_id, execution_id, worker_id: options.worker_id } })
  log.info({ task_id, execution_id }, 'offer.claimed')
  slot.done = Promise.all(older.map(({ done }) => done)).then(() => work(desk, slot, assignment))
}

/** From a claim to the report. Never rejects. */
async function work(desk: Desk, slot: Slot, assignment: TaskAssignment): Promise<void> {
  const { task_id, execution_id } = slot
  try {
    if (slot.asked) return await report(desk, slot, askedFrame(slot, slot.asked))
    const opening = openSandbox(desk, assignment)
    desk.opening.add(opening)
    slot.sandbox = await opening.finally(() => desk.opening.delete(opening))
  } catch (error) {
    const reason = error instanceof SandboxRefused ? error.reason : 'unknown'
    const message = whyOf(error)
    desk.log.error({ task_id, execution_id, reason, err: error }, 'sandbox.refused')
    const frame = slot.asked ? askedFrame(slot, slot.asked) : failedFrame(slot, { message, failure_reason: reason })
    return await report(desk, slot, frame)
  }
  desk.log.info(
    { task_id, execution_id, backend: desk.backend.name, isolated: desk.backend.isolated },
    'sandbox.opened',
  )
  if (slot.asked) void stopSandbox(desk, slot.sandbox, desk.limits.cancel_grace_ms)
  await follow(desk, slot, slot.sandbox)
}

function openSandbox(desk: Desk, assignment: TaskAssignment): Promise<Sandbox> {
  const { options, broker } = desk
  const { task_id, execution_id, additional_oz_args } = assignment
  const token = assignment.env_vars.WARP_API_KEY ?? ''
  const token_hash = sha256(token)
  const model_keys = assignment.model_keys ?? []
  if (token !== '') {
    broker.admit(execution_id, token_hash)
    broker.give(execution_id, model_keys)
  }
  const server = options.server.replace(/\/+$/, '')
  return desk.backend.open({
    execution_id,
    task_id,
    token_hash,
    own_models: model_keys.map(({ provider }) => provider),
    command: [
      ...commandFor(options.runner, assignment),
      'agent',
      'run',
      '--task-id',
      task_id,
      '--sandboxed',
      '--server-root-url',
      server,
      ...additional_oz_args,
    ],
    env: runnerEnvironment({
      worker: options.environment,
      runner: options.runner.env ?? {},
      models: token === '' ? {} : modelEnvironment(token, { url: broker.url, models: broker.modelsOf(execution_id) }),
      assignment,
      server,
      allow_local_repositories: options.allow_local_repositories,
    }),
  })
}

function commandFor({ command, quick }: RunnerStart, { task }: TaskAssignment): string[] {
  return (harnessOf(task.agent_config_snapshot ?? {}) === 'command' ? quick?.() : null) ?? command
}

function adopt(desk: Desk, sandbox: Sandbox): void {
  const { task_id, execution_id } = sandbox
  desk.broker.admit(execution_id, sandbox.token_hash, sandbox.own_models)
  const slot: Slot = { task_id, execution_id, asked: null, waiting: false, sandbox, done: Promise.resolve() }
  desk.slots.set(execution_id, slot)
  desk.log.info({ task_id, execution_id }, 'sandbox.adopted')
  slot.done = follow(desk, slot, sandbox)
}

/** From a living sandbox to its report. Never rejects. Left behind when the worker closes. */
async function follow(desk: Desk, slot: Slot, sandbox: Sandbox): Promise<void> {
  const left = new Promise<null>((resolve) =>
    desk.closed.signal.addEventListener('abort', () => resolve(null), { once: true }),
  )
  const end = await Promise.race([sandbox.ended, left])
  if (end === null) return
  await sandbox.end()
  await report(desk, slot, endFrame(slot, end), sandbox)
}

/** The report is on disk before the sandbox's record goes, so that a worker killed between them reports again. */
async function report(desk: Desk, slot: Slot, frame: FromWorker | null, sandbox?: Sandbox): Promise<void> {
  const { task_id, execution_id } = slot
  desk.broker.expel(execution_id)
  if (frame) await desk.reports.keep(execution_id, frame)
  await sandbox?.remove()
  desk.slots.delete(execution_id)
  if (frame) desk.line.say(frame, () => void desk.reports.drop(execution_id))
  desk.log.info({ task_id, execution_id, report: frame?.type }, 'sandbox.ended')
}

function endFrame(slot: Slot, end: SandboxEnd): FromWorker | null {
  if (slot.asked) return askedFrame(slot, slot.asked)
  if (end.how === 'limit')
    return failedFrame(slot, { message: withLines(end.message, end.last_lines), failure_reason: end.reason })
  const { task_id, execution_id } = slot
  const { exit_code } = end
  if (exit_code === 0)
    return { type: 'task_completed', data: { task_id, execution_id, message: 'The runner has ended.' } }
  const how = exit_code === null ? 'ended while no worker was watching' : `exited with ${exit_code}`
  return failedFrame(slot, {
    message: withLines(`The runner ${how} and may not have reported the outcome.`, end.last_lines),
    failure_reason: 'container_exit',
    ...(exit_code === null ? {} : { exit_code }),
  })
}

function askedFrame({ task_id, execution_id }: Slot, asked: NonNullable<Slot['asked']>): FromWorker | null {
  switch (asked) {
    case 'cancel':
      return { type: 'task_completed', data: { task_id, execution_id, message: 'Cancelled.', task_state: 'CANCELLED' } }
    case 'shutdown':
      return failedFrame(
        { task_id, execution_id },
        { message: 'The worker was shut down.', failure_reason: 'graceful_shutdown' },
      )
    case 'silent':
      return null
  }
}

function failedFrame(
  { task_id, execution_id }: RunningExecution,
  why: { message: string; failure_reason: string; exit_code?: number },
): FromWorker {
  return { type: 'task_failed', data: { task_id, execution_id, ...why } }
}

const withLines = (message: string, last_lines: string): string =>
  last_lines === '' ? message : `${message}\n${last_lines}`

function cancel(desk: Desk, { task_id, execution_id }: { task_id: string; execution_id?: string | undefined }): void {
  const slots = [...desk.slots.values()].filter(
    (slot) => slot.task_id === task_id && (execution_id === undefined || slot.execution_id === execution_id),
  )
  if (slots.length === 0)
    return void desk.log.info({ task_id, execution_id }, 'A run was cancelled that this worker does not have.')
  for (const slot of slots) void endSlot(desk, slot, 'cancel', desk.limits.cancel_grace_ms)
}

async function endSlot(desk: Desk, slot: Slot, asked: NonNullable<Slot['asked']>, grace_ms: number): Promise<void> {
  if (slot.asked !== null && asked !== 'silent') return slot.done
  slot.asked = asked
  desk.log.info({ task_id: slot.task_id, execution_id: slot.execution_id, asked }, 'sandbox.stopping')
  if (slot.sandbox) await stopSandbox(desk, slot.sandbox, grace_ms)
  await slot.done
}

/** Asks the runner, and when it does not end within the grace, ends everything. */
async function stopSandbox(desk: Desk, sandbox: Sandbox, grace_ms: number): Promise<void> {
  const over = new AbortController()
  try {
    if (grace_ms > 0) {
      sandbox.stop()
      const grace = wait(grace_ms, undefined, { signal: AbortSignal.any([over.signal, desk.closed.signal]) }).catch(
        () => {},
      )
      await Promise.race([sandbox.ended, grace])
    }
    await sandbox.end()
  } finally {
    over.abort()
  }
}

async function closeDesk(desk: Desk, state: StateFolder, end_runs: boolean): Promise<void> {
  desk.leaving.abort()
  if (end_runs)
    await Promise.all(
      [...desk.slots.values()].map((slot) => endSlot(desk, slot, 'shutdown', desk.limits.cancel_grace_ms)),
    )
  await Promise.allSettled(desk.opening)
  await desk.line.flush(desk.line.connected() ? desk.limits.flush_ms : 0)
  desk.closed.abort()
  await desk.backend.close()
  await desk.line.close()
  await desk.broker.close()
  await state.release()
  const left = desk.slots.size
  desk.log.info({ left_running: left }, 'worker.closed')
}
