/**
 * Following a batch: events say that there is something to see; the batch and the tasks that they were about are then
 * read anew, at most four times a second, however much happens in it.
 */
import { type Batch, type BatchTask, type Event, routes, type StreamFrame } from '../contract/index.ts'
import { type Client, pause } from '../sdk/client.ts'
import { follow } from '../sdk/stream.ts'
import { everyTask, isOver } from './batches.ts'
import { ignoreBreaks } from './follow-run.ts'

const REFRESH_MS = 250
const BROKEN_MS = 1000
/** A look that was slow to get is not asked for again at once. */
const REST_PER_LOOK = 3

export type BatchLook = {
  batch: Batch
  /** Those that were read now: all, or those that `events` are about. */
  tasks: BatchTask[]
  events: Event[]
  /** All tasks were read: it begins, some events may have been missed, or it has ended. */
  whole: boolean
  /** A task waits for a person; known where `input` was asked for. */
  needs_input: boolean
}

export type FollowBatch = {
  client: Client
  batch_id: string
  /** Last words grow without an event: tasks at work are read this often. */
  fresh_ms?: number | undefined
  input?: boolean
  /** False: no more is to be seen. */
  onLook(look: BatchLook): Promise<boolean>
  onLine(state: 'open' | 'down'): Promise<void>
  signal: AbortSignal
}

/** Until it has ended or `onLook` has seen enough; the last that was seen of it. */
export async function followBatch(asked: FollowBatch): Promise<Batch> {
  const { client, fresh_ms, signal } = asked
  const first = await client.batches.get({ params: { batch_id: asked.batch_id }, signal })
  const looker = makeLooker(asked, first.batch_id)
  if (isOver(first)) {
    const look = await looker.look()
    if (look) await asked.onLook(look)
    return look?.batch ?? first
  }
  const done = new AbortController()
  const stop = AbortSignal.any([signal, done.signal])
  const listening = listen(asked, looker, stop)
  try {
    for (;;) {
      await (fresh_ms === undefined ? looker.news() : Promise.race([looker.news(), pause(fresh_ms, stop)]))
      signal.throwIfAborted()
      const began = performance.now()
      const look = await looker.look()
      const more = look === null || (await asked.onLook(look))
      if (look !== null && (isOver(look.batch) || !more)) return look.batch
      const took = performance.now() - began
      await pause(look === null ? BROKEN_MS : Math.max(REFRESH_MS, REST_PER_LOOK * took), stop)
    }
  } finally {
    done.abort()
    await listening
  }
}

type Looker = ReturnType<typeof makeLooker>

async function listen({ client, onLine }: FollowBatch, looker: Looker, signal: AbortSignal): Promise<void> {
  let known = 'open'
  const onState = (state: 'open' | 'down') => {
    if (state !== known) void onLine(state)
    known = state
  }
  try {
    for await (const { frame } of follow(client, routes.events.follow, { signal, onState })) looker.hear(frame)
    looker.end()
  } catch (error) {
    looker.end(error)
  }
}

function makeLooker({ client, input, signal }: FollowBatch, batch_id: string) {
  const numbers = new Map<string, number>()
  const heard: Event[] = []
  let missed = true
  let news = Promise.withResolvers<void>()
  let broken: { error: unknown } | null = null

  const concerns = (event: Event) => event.run_id === batch_id || numbers.has(event.run_id)
  const read = async (events: Event[], whole: boolean): Promise<BatchLook> => {
    const batch = await client.batches.get({ params: { batch_id }, signal })
    // Read after the batch: where that has ended, its tasks are at their end too.
    const all = whole || isOver(batch)
    const tasks = all ? await everyTask(client, batch_id, { signal }) : await someTasks(events)
    for (const task of tasks) numbers.set(task.run_id, task.number)
    const ask = input === true && (all || events.some((event) => event.event_type === 'run_blocked'))
    const run = ask ? await client.runs.get({ params: { run_id: batch_id }, signal }) : null
    const needs_input = run !== null && (run.state === 'BLOCKED' || (run.child_states.BLOCKED ?? 0) > 0)
    return { batch, tasks, events: events.filter(concerns), whole: all, needs_input }
  }
  /** One stretch of the list has them all; with no event, what is at work. */
  const someTasks = (events: Event[]): Promise<BatchTask[]> => {
    const named = events.flatMap((event) => numbers.get(event.run_id) ?? [])
    if (events.length === 0) return everyTask(client, batch_id, { state: ['running'], signal })
    if (named.length === 0) return Promise.resolve([])
    const after = named.reduce((least, number) => Math.min(least, number)) - 1
    const last = named.reduce((most, number) => Math.max(most, number))
    return everyTask(client, batch_id, { after, last, signal })
  }

  return {
    news: () => news.promise,
    hear(frame: StreamFrame): void {
      if (frame.type === 'hello' || frame.type === 'reset') missed = true
      else if (frame.type === 'event' && (numbers.size === 0 || concerns(frame.event))) heard.push(frame.event)
      else return
      news.resolve()
    },
    end(error?: unknown): void {
      if (error !== undefined) broken = { error }
      news.resolve()
    },
    /** Null while the server is away. */
    async look(): Promise<BatchLook | null> {
      if (broken !== null) throw broken.error
      news = Promise.withResolvers()
      const events = heard.splice(0)
      const whole = missed
      missed = false
      const look = await read(events, whole).catch(ignoreBreaks)
      if (look === null) {
        heard.unshift(...events)
        missed = true
        news.resolve()
      }
      return look
    },
  }
}
