/**
 * The line between a running execution and the server: heartbeats renew the lease and carry usage, the control stream
 * brings a cancel, news of the inbox, of children and of the tree at once. The heartbeat's answer repeats them; the
 * server alone decides that a lease has lapsed, so a line that is down stops nothing here, with two exceptions: no
 * server has answered for `ALONE_MS`, or none answers and the execution's own folder is gone, as when somebody removed
 * all that `baton up` had. Then nobody is left to work for, and the runner ends by itself.
 */
import { existsSync } from 'node:fs'
import { type Answered, executionRoutes, Fault, type Usage } from '../contract/index.ts'
import { pause } from '../sdk/calls.ts'
import { follow } from '../sdk/stream.ts'
import type { Client } from './client.ts'
import { duration } from './failures.ts'
import { isSuperseded } from './upload.ts'

/** A heartbeat that is not answered for this long is given up; the next one follows, in milliseconds. */
const BEAT_ANSWER_MS = 10_000
/** Without a server for this long an execution is given up, in milliseconds: longer than any sensible repair of it. */
export const ALONE_MS = 6 * 60 * 60_000

export type LifelineOptions = {
  client: Client
  execution_id: string
  heartbeat_ms: number
  /** Of the execution; what it journals is in it. */
  folder: string
  /** Default: `ALONE_MS`. */
  alone_ms?: number
  usage: () => Usage
  session_id: () => string | null
  onCancel: () => void
  /** Something waits in the inbox. */
  onInbox: () => void
  /** The run's tree is stopped, or is not; said again with each heartbeat. */
  onTree: (halted: boolean) => void
  /** The harness has said that it stops. May be said again. */
  onShutdown: () => void
  /** Children wait to be started beside this run. */
  onChildren: () => void
  /** The run was given files that are not here yet. */
  onAttachments: () => void
  onSuperseded: (message: string) => void
  /** There is no server any more. Said once. */
  onAlone: (message: string) => void
}

export type Lifeline = {
  /** Says that we live, and hears whether a cancel was asked for; null when the server does not answer in time. */
  ask(within_ms: number): Promise<{ cancel_requested: boolean } | null>
  close(): void
}

type Beat = Answered<typeof executionRoutes.heartbeat>

export function openLifeline(options: LifelineOptions): Lifeline {
  const closing = new AbortController()
  const signal = closing.signal
  const { folder, alone_ms = ALONE_MS } = options
  let heard_at = performance.now()
  let alone = false

  async function beat(within_ms: number): Promise<Beat | null> {
    const session_id = options.session_id()
    const body = { usage: options.usage(), ...(session_id === null ? {} : { session_id }) }
    const limit = AbortSignal.any([signal, AbortSignal.timeout(within_ms)])
    try {
      const answer = await options.client.executions.heartbeat({
        params: { execution_id: options.execution_id },
        body,
        signal: limit,
      })
      heard_at = performance.now()
      return answer
    } catch (error) {
      if (error instanceof Fault) heard_at = performance.now()
      else if (!signal.aborted) judgeSilence()
      if (!signal.aborted && isSuperseded(error)) options.onSuperseded(error.message)
      return null
    }
  }

  function judgeSilence(): void {
    const silent = performance.now() - heard_at >= alone_ms
    if (alone || (!silent && existsSync(folder))) return
    alone = true
    const why = silent ? `for ${duration(alone_ms)}` : 'and the folder of the execution is gone'
    options.onAlone(`No server answers ${why}. The execution was given up.`)
  }

  async function beatAlways(): Promise<void> {
    for (;;) {
      await pause(options.heartbeat_ms, signal)
      const answer = await beat(BEAT_ANSWER_MS)
      if (answer?.cancel_requested) options.onCancel()
      if (answer?.attachments) options.onAttachments()
      if (answer) options.onTree(answer.halted ?? false)
      if (answer?.shut_down) options.onShutdown()
      if (answer?.inbox) options.onInbox()
      if (answer?.children) options.onChildren()
    }
  }

  async function listen(): Promise<void> {
    try {
      for await (const { frame } of follow(options.client, executionRoutes.control, {
        params: { execution_id: options.execution_id },
        signal,
      })) {
        if (frame.type === 'cancel') options.onCancel()
        if (frame.type === 'attachments') options.onAttachments()
        if (frame.type === 'tree') options.onTree(frame.halted)
        if (frame.type === 'shutdown') options.onShutdown()
        if (frame.type === 'inbox') options.onInbox()
        if (frame.type === 'children') options.onChildren()
        if (frame.type === 'superseded') options.onSuperseded('This execution is no longer the current one of its run.')
      }
    } catch (error) {
      if (!signal.aborted && isSuperseded(error)) options.onSuperseded(error.message)
    }
  }

  beatAlways().catch(() => {})
  listen().catch(() => {})
  return { ask: beat, close: () => closing.abort() }
}
