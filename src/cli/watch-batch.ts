/**
 * A batch on the terminal as it happens: below what scrolls stands how it is, with the tasks at work and those that
 * failed; above it each task has a line when it has ended. Elsewhere each event is a line.
 */
import type { Batch, BatchTask, Event } from '../contract/index.ts'
import type { Client } from '../sdk/client.ts'
import { batchEventLine, endLine, endsTogether, openingLines, runningLine } from './batch-lines.ts'
import {
  adviceOn,
  alignWithWords,
  countsOf,
  endOfBatch,
  exitOfBatch,
  isOver,
  nameIn,
  paintBatch,
  paintTask,
  tookBy,
  tookOn,
  wordsOn,
} from './batches.ts'
import type { Context } from './context.ts'
import { CommandFailure, EXIT } from './exits.ts'
import { type BatchLook, followBatch } from './follow-batch.ts'
import { paint } from './output.ts'
import { usageWords } from './states.ts'
import { oneLine, plural, widthOf } from './text.ts'

export type BatchWatch = {
  client: Client
  batch_id: string
  timeout_ms?: number | undefined
  fail_on_input?: boolean
  /** Tasks as they stood before it was set going: what has happened since is told. Absent: only what happens from now on. */
  before?: BatchTask[] | undefined
}

/** Tokens and last words grow without an event. */
const FRESH_MS = 2000

/** The exit code for how the batch ended. */
export async function watchBatch(context: Context, asked: BatchWatch): Promise<number> {
  const { out } = context
  const late = asked.timeout_ms === undefined ? null : AbortSignal.timeout(asked.timeout_ms)
  const signal = late ? AbortSignal.any([context.signal, late]) : context.signal
  const live = out.terminal && out.height > 0 && !out.machine
  const board = makeBoard(asked.before)
  const progress = out.progress(`batch ${asked.batch_id}`, 'status')
  let needs_input = false
  let down = false
  progress.say(() => board.lines({ height: out.height, width: out.width, down }).join('\n'))
  try {
    const batch = await followBatch({
      client: asked.client,
      batch_id: asked.batch_id,
      input: asked.fail_on_input === true,
      fresh_ms: out.height > 0 ? FRESH_MS : undefined,
      signal,
      async onLook(look) {
        needs_input = look.needs_input
        for (const record of board.take(look)) await out.record(record, () => [])
        if (!out.machine) for (const line of board.told(look, live ? out.width : undefined)) out.line(line)
        return !needs_input
      },
      async onLine(state) {
        down = state === 'down'
        const words = down ? [paint.yellow('! the server does not answer; trying again')] : []
        await out.record({ type: 'line', state }, () => words)
      },
    })
    progress.done()
    if (needs_input && !isOver(batch)) return EXIT.needs_input
    if (!out.machine) for (const line of endOfBatch(batch)) out.line(line)
    for (const line of out.machine ? [] : adviceOn(batch, board.failed())) out.note(line)
    return EXIT[exitOfBatch(batch)]
  } catch (error) {
    throw stopped(context, asked.batch_id, late, error)
  } finally {
    progress.done()
  }
}

/** Why watching stopped early, worded for who waits. */
export function stopped(context: Context, batch_id: string, late: AbortSignal | null, error: unknown): unknown {
  const again = `Watch it again with: baton batch watch ${batch_id}`
  if (context.signal.aborted)
    return new CommandFailure(
      'interrupted',
      `Stopped watching; batch ${batch_id} goes on.`,
      `${again}\nEnd it with: baton batch cancel ${batch_id}`,
    )
  if (late?.aborted)
    return new CommandFailure('timeout', `Batch ${batch_id} has not ended in the time given; it goes on.`, again)
  return error
}

/** What is known of the batch, and what of it was told already. */
function makeBoard(before: BatchTask[] | undefined) {
  const tasks = new Map<string, BatchTask>()
  const told = new Map<string, string>()
  const sent = new Map<string, string>()
  let batch: Batch | null = null
  let begun = false

  /** What had come about before the watching began. */
  const passOver = (look: BatchLook): void => {
    const ends = new Map((before ?? look.tasks).map((task) => [task.run_id, task.ended_at]))
    for (const task of look.tasks)
      if (ends.get(task.run_id) === task.ended_at) told.set(task.run_id, endLine(task, 0)?.key ?? task.state)
  }
  const isNew = (id: string, value: unknown): boolean => {
    const text = JSON.stringify(value)
    if (sent.get(id) === text) return false
    sent.set(id, text)
    return true
  }
  const say = (task: BatchTask, line: { key: string; text: string } | null): string[] => {
    if (line === null || told.get(task.run_id) === line.key) return []
    told.set(task.run_id, line.key)
    return [line.text]
  }
  const eventLines = (events: Event[], now: number): string[] =>
    events.flatMap((event) => {
      const task = tasks.get(event.run_id)
      if (task !== undefined) return say(task, batchEventLine(event, task, now))
      return batch?.batch_id === event.run_id ? openingLines(event, batch) : []
    })
  /** Tasks that began before there were events to tell of it. */
  const starts = (): string[] =>
    inOrder(tasks)
      .filter((task) => task.state === 'running' && told.get(task.run_id) !== 'running')
      .flatMap((task) => say(task, runningLine(task)))
  /** Ends that no event has told yet. */
  const ends = (now: number, width?: number): string[] => {
    const untold = inOrder(tasks).flatMap((task) => {
      const line = endLine(task, now, width)
      return line === null || told.get(task.run_id) === line.key ? [] : [{ task, line }]
    })
    const together = endsTogether(untold.map(({ task }) => task))
    const one_by_one = untold.flatMap(({ task, line }) => {
      const lines = say(task, line)
      return together.among(task) ? [] : lines
    })
    return [...one_by_one, ...together.lines]
  }

  return {
    /** Records for machines: the batch and tasks that have changed, and what happened. */
    take(look: BatchLook): unknown[] {
      if (batch === null) passOver(look)
      batch = look.batch
      const changed = look.tasks.filter((task) => isNew(task.run_id, task))
      for (const task of look.tasks) tasks.set(task.run_id, task)
      return [
        ...(isNew('batch', batch) ? [{ type: 'batch', batch }] : []),
        ...look.events.map((event) => ({ type: 'event', event })),
        ...changed.map((task) => ({ type: 'task', task })),
      ]
    },
    /** Lines for people; on a terminal of that width the ends alone. */
    told(look: BatchLook, width: number | undefined): string[] {
      const now = Date.now()
      const first = begun || isOver(look.batch) ? [] : [standing(look.batch)]
      begun = true
      if (width !== undefined) return [...first, ...ends(now, width)]
      const lines = [...first, ...eventLines(look.events, now)]
      return look.whole ? [...lines, ...starts(), ...ends(now)] : lines
    },
    failed: (): BatchTask[] => inOrder(tasks).filter((task) => task.state === 'failed'),
    lines: (room: Room): string[] => (batch === null ? [''] : boardLines(batch, inOrder(tasks), room)),
  }
}

const standing = (batch: Batch): string =>
  `${paintBatch(batch.state).toUpperCase()} ${paint.bold(oneLine(batch.title))}: ${countsOf(batch)}`

const inOrder = (tasks: Map<string, BatchTask>): BatchTask[] => [...tasks.values()].sort((a, b) => a.number - b.number)

type Room = { height: number; width: number | undefined; down: boolean }

/** Lines of a terminal that are left to what scrolls. */
const LEFT_FREE = 4

function boardLines(batch: Batch, tasks: BatchTask[], { height, width, down }: Room): string[] {
  const now = Date.now()
  const running = tasks.filter((task) => task.state === 'running')
  const failed = tasks.filter((task) => task.state === 'failed')
  const [waiting, ended] = [true, false].map((waits) => failed.filter((task) => (task.next_try_at !== null) === waits))
  const room = Math.max(3, height - LEFT_FREE)
  // Neither kind crowds out the other, and those that failed for good have had their line.
  const shown_failed = [...(waiting ?? []), ...(ended ?? [])].slice(0, Math.max(2, Math.floor(room / 3)))
  const shown_running = running.slice(0, room - shown_failed.length)
  const rows = [...shown_running, ...shown_failed].map((task) => ({
    cells: [
      `  ${paintTask(task.state)}`,
      nameIn(task, width),
      task.state === 'running' ? tookOn(task, now) : '',
      task.tries > 1 || task.state === 'failed' ? `try ${task.tries} of ${task.max_tries}` : '',
    ],
    words: (columns: number) => wordsOn(task, now, columns),
  }))
  const left_out = running.length + failed.length - rows.length
  return [
    headLine(batch, { width, down, now }),
    ...alignWithWords(rows, width === undefined ? undefined : width - 1),
    ...(left_out > 0 ? [paint.dim(`  … and ${plural(left_out, 'task')} more`)] : []),
  ]
}

/** Columns of what stands before it on its line. */
const SPINNER_COLUMNS = 3

function headLine(batch: Batch, { width, down, now }: Pick<Room, 'width' | 'down'> & { now: number }): string {
  const needed = [paintBatch(batch.state), countsOf(batch), ...(down ? [paint.yellow('server away')] : [])].join(' · ')
  const used = usageWords(batch.usage)
  // What has no room is left out, not cut.
  return [tookBy(batch, now), ...(used === undefined ? [] : [used])].reduce((line, part) => {
    const longer = `${line} · ${part}`
    return width === undefined || widthOf(longer) <= width - SPINNER_COLUMNS ? longer : line
  }, needed)
}
