/** Messages as a person reads them, and as they come in. */
import { setTimeout as wait } from 'node:timers/promises'
import { type Event, eventRoutes, Fault, type Message, type MessageHeader } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import type { Client } from '../sdk/client.ts'
import { openStream } from '../sdk/stream.ts'
import { paint } from './output.ts'
import { ago, alignColumns, oneLine } from './text.ts'

/** Delays between connections, in milliseconds; the last one repeats. */
export const RECONNECT_MS = [1000, 2000, 5000, 10_000]
/** A body is looked for again for this long where the server is busy or behind. */
const READ_MS = 5000
const READ_AGAIN_MS = 50

/** One line of `run message watch`. */
export type Incoming = {
  sequence: number
  message_id: string
  /** Empty: a person's. */
  sender_run_id: string
  subject: string
  body: string
  occurred_at: string
}

export type FollowMessages = {
  client: Client
  run_id: string
  /** Messages up to here in the log are left out. */
  since: number
  /** The line broke; it is opened again after `again_ms`. */
  onBreak(why: string, again_ms: number): void
  signal: AbortSignal
}

/** Every message to a run, whole and in order, for ever. A first connection that fails is thrown, later ones are not. */
export async function* followMessages(asked: FollowMessages): AsyncGenerator<Incoming> {
  const { client, run_id, signal } = asked
  let sequence = asked.since
  await client.runs.get({ params: { run_id }, signal })
  for (let tries = 0; ; tries++) {
    const opened = performance.now()
    let why = 'the server ended the stream'
    try {
      const query = () => ({ run_ids: [run_id], since: sequence })
      for await (const { frame } of openStream(client, eventRoutes.stream, { query, signal })) {
        tries = 0
        if (frame.sequence <= sequence) continue
        if (isFor(frame, run_id)) yield await readIncoming(client, frame, signal)
        sequence = frame.sequence
      }
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof Fault && !isPassing(error)) throw error
      why = whyOf(error)
    }
    signal.throwIfAborted()
    if (performance.now() - opened > (RECONNECT_MS.at(-1) ?? 0)) tries = 0
    const again_ms = RECONNECT_MS[Math.min(tries, RECONNECT_MS.length - 1)] ?? 1000
    asked.onBreak(why, again_ms)
    await wait(again_ms, undefined, { signal })
  }
}

const isFor = (event: Event, run_id: string): boolean =>
  event.event_type === 'new_message' && event.run_id === run_id.toLowerCase() && event.ref_id !== null

async function readIncoming(client: Client, event: Event, signal: AbortSignal): Promise<Incoming> {
  const message_id = event.ref_id ?? ''
  const until = performance.now() + READ_MS
  for (;;) {
    try {
      const { sender_run_id, subject, body } = await client.messages.read({ params: { message_id }, signal })
      return { sequence: event.sequence, message_id, sender_run_id, subject, body, occurred_at: event.occurred_at }
    } catch (error) {
      const late = error instanceof Fault && (error.status === 404 || isPassing(error))
      if (!late || performance.now() > until) throw error
      await wait(READ_AGAIN_MS, undefined, { signal })
    }
  }
}

const isPassing = (fault: Fault): boolean => fault.status === 408 || fault.status === 429 || fault.status >= 500

const stateOf = (message: MessageHeader): string => {
  if (message.delivered_at !== null) return paint.green('delivered')
  return message.read_at === null ? 'accepted' : paint.cyan('read')
}

const senderOf = (message: { sender_run_id: string }): string => message.sender_run_id || 'a person'

export function headerLines(headers: MessageHeader[], now: number, width: number | undefined): string[] {
  if (headers.length === 0) return []
  const rows = headers.map((one) => [
    one.message_id,
    stateOf(one),
    ago(one.sent_at, now),
    senderOf(one),
    oneLine(one.subject),
  ])
  return alignColumns([['MESSAGE', 'STATE', 'SENT', 'FROM', 'SUBJECT'].map(paint.dim), ...rows], width)
}

export function messageLines(message: Message): string[] {
  const rows: [string, string][] = [
    ['From', senderOf(message)],
    ['Sent', message.sent_at],
    ['State', stateOf(message)],
  ]
  return [
    paint.bold(oneLine(message.subject)),
    ...rows.map(([name, value]) => `${paint.dim(name.padEnd(6))} ${value}`),
    '',
    ...message.body.split('\n'),
  ]
}

export const incomingLines = (message: Incoming): string[] => [
  `${paint.bold(oneLine(message.subject))}${paint.dim(` from ${senderOf(message)}, ${message.occurred_at}`)}`,
  ...message.body.split('\n').map((line) => `  ${line}`),
]
