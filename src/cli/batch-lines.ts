/** What happens in a batch, a line each. The key of a line tells whether it says something new of its task. */
import type { Batch, BatchTask, Event } from '../contract/index.ts'
import { endOf, nextTry, paintTask, tookOn } from './batches.ts'
import { paint } from './output.ts'
import { oneLine, plural, truncate, widthOf } from './text.ts'

export type TaskLine = { key: string; text: string }

const WORDS_COLUMNS = 120
const nameOf = (task: BatchTask): string => paint.bold(oneLine(task.name))
const colon = (words: string | null, columns = WORDS_COLUMNS): string =>
  !words ? '' : `: ${truncate(oneLine(words), columns)}`
const shout = (task: BatchTask, state: BatchTask['state']): string =>
  `${paintTask(state).toUpperCase()} ${nameOf(task)}`

/** How it ended, on one line of a terminal where its width is given; null while it has not. */
export function endLine(task: BatchTask, now: number, width?: number): TaskLine | null {
  const { state, tries } = task
  if (state === 'pending' || state === 'running' || task.next_try_at !== null) return null
  const took = tookOn(task, now)
  const how = [tries > 1 ? `after ${tries} tries` : '', took === '' ? '' : `in ${took}`].filter((part) => part !== '')
  const head = shout(task, state) + paint.dim(how.map((part) => ` ${part}`).join(''))
  const columns = width === undefined ? WORDS_COLUMNS : Math.max(0, width - widthOf(head) - 2)
  const words = state === 'completed' ? endOf(task.last_words, columns) : task.error
  return { key: state, text: head + paint.dim(colon(words, columns)) }
}

const ENDS: Record<string, BatchTask['state']> = {
  run_succeeded: 'completed',
  run_failed: 'failed',
  run_errored: 'failed',
  run_cancelled: 'cancelled',
}

/** Null for what says nothing to a person. The task may have gone on since. */
export function batchEventLine({ event_type }: Event, task: BatchTask, now: number): TaskLine | null {
  const { run_id } = task
  const end = ENDS[event_type]
  if (end !== undefined) return ended(task, end, now)
  if (event_type === 'run_in_progress') return runningLine(task)
  if (event_type === 'run_blocked') {
    const what = `waits for a person: baton run get ${run_id}`
    return { key: 'blocked', text: `${paint.yellow('BLOCKED')} ${nameOf(task)} ${what}` }
  }
  return event_type === 'run_queued' ? queued(task, now) : null
}

export function runningLine(task: BatchTask): TaskLine {
  const what = paint.dim(` (${oneLine(task.harness)}) ${task.run_id}`)
  return { key: `running ${task.tries}`, text: `${shout(task, 'running')}${what}` }
}

/** It is tried again after a failure, or somebody asked for it again. */
function queued(task: BatchTask, now: number): TaskLine {
  const { tries, max_tries, next_try_at } = task
  if (task.state !== 'failed' || next_try_at === null)
    return { key: `queued ${tries}`, text: `${shout(task, 'pending')} ${paint.dim('again')}` }
  const what = `try ${tries} of ${max_tries}, ${nextTry(next_try_at, now)}${paint.dim(colon(task.error))}`
  return { key: `failed ${tries}`, text: `${shout(task, 'failed')} ${what}` }
}

function ended(task: BatchTask, state: BatchTask['state'], now: number): TaskLine {
  const line = task.state === state ? endLine(task, now) : null
  return line ?? { key: state, text: shout(task, state) }
}

/** What happens to the batch itself, but for its end. */
export function openingLines({ event_type }: Event, batch: Batch): string[] {
  if (event_type === 'batch_paused')
    return [`${paint.yellow('PAUSED')} ${plural(batch.counts.running, 'task')} at work go on`]
  if (event_type === 'batch_resumed') return [paint.cyan('RESUMED')]
  if (event_type === 'run_blocked')
    return [`${paint.yellow('STOPPED')} by a limit of its tree. Let it go on with: baton run release ${batch.batch_id}`]
  return []
}

const TOGETHER_MIN = 6

/** Tasks that ended unbegun for the same reason, as a batch that stops leaves them: one line says it of all. */
export function endsTogether(tasks: BatchTask[]): { among(task: BatchTask): boolean; lines: string[] } {
  const groups = Map.groupBy(
    tasks.filter((task) => task.started_at === null),
    (task) => `${task.state} ${task.error}`,
  )
  const large = [...groups.values()].filter((group) => group.length >= TOGETHER_MIN)
  const among = new Set(large.flat())
  const lines = large.flatMap((group) => {
    const [first] = group
    if (first === undefined) return []
    return [`${paintTask(first.state).toUpperCase()} ${plural(group.length, 'task')}${paint.dim(colon(first.error))}`]
  })
  return { among: (task) => among.has(task), lines }
}
