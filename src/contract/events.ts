/**
 * The log: what happened, in one global order. `sequence` grows over all runs, and a reader never sees N+1 before N.
 * Unknown event types only move a reader's cursor.
 */
import { z } from 'zod'
import { QueryBoolean, queryNumber, repeated, route } from './route.ts'
import { AskedTime, RunId, Timestamp } from './run-states.ts'
import { Delta, Entry } from './transcripts.ts'

/** The public Oz types (the `ref_id` of `run_errored` is the reason, that of `run_session_linked` the session that an
 * execution begins), and ours: `run_queued` when a run is created, tried again or asked for again; `run_waiting` and
 * `run_resumed` when an agent waits for events with its turn ended, and goes on; `user_notified` when it told the person
 * behind it something, which is a notice of its run; `plan_proposed` and `plan_decided` (their `ref_id` is the plan's)
 * when a plan is put before a person and answered; `batch_paused` and `batch_resumed`; `tree_stopped` and
 * `tree_released`, of the top of a tree, whatever its state, when the storm guard stops the tree (the `ref_id` is the
 * reason) and when a person lets it go on. */
export const EVENT_TYPES = [
  'run_queued',
  'run_in_progress',
  'run_succeeded',
  'run_failed',
  'run_errored',
  'run_blocked',
  'run_cancelled',
  'run_cancel_requested',
  'new_message',
  'child_agent_started',
  'run_session_linked',
  'run_waiting',
  'run_resumed',
  'plan_proposed',
  'plan_decided',
  'batch_paused',
  'batch_resumed',
  'user_notified',
  'tree_stopped',
  'tree_released',
] as const
export type EventType = (typeof EVENT_TYPES)[number]

export const Event = z.object({
  sequence: z.int(),
  event_type: z.string(),
  run_id: z.string(),
  ref_id: z.string().nullable(),
  execution_id: z.string().nullable(),
  occurred_at: Timestamp,
})
export type Event = z.infer<typeof Event>

const RunIds = repeated(RunId).refine((ids) => ids === undefined || ids.length <= 500, 'at most 500 run ids')

/**
 * Frames of our own stream, one connection per reader. `hello` carries the store's epoch: when it differs from the
 * one a reader knows, its cursors are worthless and it starts afresh. `reset`: the reader was too slow; it must
 * read again what it shows. Frames with an `id` can be resumed after.
 */
export const StreamFrame = z.discriminatedUnion('type', [
  z.object({ type: z.literal('hello'), epoch: z.string(), sequence: z.int() }),
  z.object({ type: z.literal('event'), event: Event }),
  z.object({ type: z.literal('entries'), run_id: z.string(), entries: z.array(Entry) }),
  z.object({ type: z.literal('deltas'), run_id: z.string(), execution_id: z.string(), deltas: z.array(Delta) }),
  z.object({ type: z.literal('reset') }),
])
export type StreamFrame = z.infer<typeof StreamFrame>

/** Lifecycle changes of a child that its parent is told, and what a client may report of a run. */
export const CHILD_EVENTS = [
  'run_in_progress',
  'run_succeeded',
  'run_failed',
  'run_errored',
  'run_blocked',
  'run_cancelled',
] as const

/** What a client or worker measured of a run's start and work, in the public Oz form. */
export const ClientEvent = z.object({
  event_uuid: z.string().min(1).max(128),
  event_name: z.string().min(1).max(128),
  timestamp: AskedTime,
  payload: z.record(z.string().max(128), z.unknown()).nullish(),
})
export type ClientEvent = z.infer<typeof ClientEvent>

const CLIENT_EVENT_BYTES_MAX = 64 * 1024

export const eventRoutes = {
  list: route({
    name: 'events.list',
    method: 'GET',
    path: '/agent/events',
    tag: 'Events',
    callers: ['user', 'execution'],
    summary:
      'Events after `since`, in order; with `before` (ours) the last ones before it. Of the named runs, or of the children of `ancestor_run_id` (ours), else of all runs that the caller may see.',
    query: z.object({
      run_ids: RunIds,
      ancestor_run_id: RunId.optional(),
      include_self: QueryBoolean.default(false),
      before: queryNumber(1).optional(),
      since: queryNumber(0).default(0),
      limit: queryNumber(1, 500).default(100),
    }),
    answer: z.array(Event),
  }),
  stream: route({
    name: 'events.stream',
    method: 'GET',
    path: '/agent/events/stream',
    tag: 'Events',
    callers: ['user', 'execution'],
    summary: 'The same as an event stream that replays from `since` (or Last-Event-ID) and goes on live.',
    query: z.object({
      run_ids: RunIds,
      ancestor_run_id: RunId.optional(),
      include_self: QueryBoolean.default(false),
      since: queryNumber(0).optional(),
    }),
    answer: Event,
    produces: 'event-stream',
  }),
  cursor: route({
    name: 'events.cursor',
    method: 'PATCH',
    path: '/agent/runs/{run_id}/event-sequence',
    tag: 'Events',
    callers: ['user', 'execution'],
    summary: "Moves a run's delivery cursor forward, at most to the end of the log; it never goes back.",
    params: z.object({ run_id: RunId }),
    body: z.object({ sequence: z.int().nonnegative() }),
    answer: z.object({}),
  }),
  report: route({
    name: 'events.report',
    method: 'POST',
    path: '/agent/events/{run_id}',
    tag: 'Events',
    callers: ['user', 'execution'],
    summary:
      'Report what has become of a run. Every change of a state is in the log already: the answer is its place there, and what is not so is refused.',
    params: z.object({ run_id: RunId }),
    body: z.object({
      event_type: z.enum(CHILD_EVENTS),
      execution_id: z.string().nullish(),
      ref_id: z.string().max(1024).nullish(),
    }),
    answer: z.object({ sequence: z.int() }),
  }),
  clientEvent: route({
    name: 'events.client_event',
    method: 'POST',
    path: '/agent/runs/{run_id}/client-events',
    tag: 'Events',
    callers: ['user', 'execution', 'worker'],
    summary: "A measurement of a run's start or work by a client or worker; it goes to the server's own log.",
    params: z.object({ run_id: RunId }),
    body: ClientEvent,
    body_bytes_max: CLIENT_EVENT_BYTES_MAX,
    answer: z.object({}),
  }),
  follow: route({
    name: 'events.follow',
    method: 'GET',
    path: '/stream',
    tag: 'Events',
    callers: ['user', 'execution'],
    summary:
      'One stream for a page or terminal (ours): all events of the team, and the transcripts of the named runs as they grow.',
    query: z.object({
      since: queryNumber(0).optional(),
      /** Runs whose transcript is followed, each from `entries_after` of the same index (empty: from now). */
      run_ids: RunIds,
      entries_after: repeated(z.string().max(64)),
    }),
    answer: StreamFrame,
    produces: 'event-stream',
  }),
}
