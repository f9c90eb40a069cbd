/** Why an execution is stopped before its harness ended by itself. The first reason counts; superseded beats all. */
import type { Outcome } from '../contract/index.ts'

export type Reason =
  | { why: 'cancelled' }
  | { why: 'superseded'; message: string }
  /** The harness has said that it stops, and its turn went on. */
  | { why: 'shutdown' }
  /** This process was told to end. */
  | { why: 'told' }
  | { why: 'limit'; outcome: Outcome }

export type Stop = {
  readonly reason: Reason | null
  /** Aborted with the first reason. */
  readonly signal: AbortSignal
  /** Aborted when the execution is superseded, at whatever time. */
  readonly superseded: AbortSignal
  because(reason: Reason): void
}

export function makeStop(): Stop {
  const any = new AbortController()
  const superseded = new AbortController()
  let reason: Reason | null = null
  return {
    get reason() {
      return reason
    },
    signal: any.signal,
    superseded: superseded.signal,
    because(next) {
      if (reason === null || next.why === 'superseded') reason = next
      if (next.why === 'superseded') superseded.abort()
      any.abort()
    },
  }
}
