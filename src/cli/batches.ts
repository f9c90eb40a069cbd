/** Batches and their tasks as a person reads them. */
import type { Batch, BatchTask, TaskState } from '../contract/index.ts'
import type { Client } from '../sdk/client.ts'
import type { ExitName } from './exits.ts'
import { paint } from './output.ts'
import { usageWords } from './states.ts'
import { ago, alignColumns, duration, oneLine, plural, truncate, widthOf } from './text.ts'

export const isOver = (batch: Batch): boolean => batch.ended_at !== null

export function exitOfBatch(batch: Batch): ExitName {
  return batch.state === 'failed' || batch.state === 'cancelled' ? 'run_failed' : 'ok'
}

const PAGE = 1000

/** Its tasks in the order of the list, all of them. */
export async function everyTask(
  client: Client,
  batch_id: string,
  asked: { state?: TaskState[]; after?: number; last?: number; signal: AbortSignal },
): Promise<BatchTask[]> {
  const { state, last = Number.POSITIVE_INFINITY, signal } = asked
  const tasks: BatchTask[] = []
  for (let after = asked.after ?? 0; after < last; ) {
    const limit = Math.min(PAGE, last - after)
    const query = { after, limit, ...(state === undefined ? {} : { state }) }
    const page = await client.batches.tasks({ params: { batch_id }, query, signal })
    tasks.push(...page.tasks)
    after = page.tasks.at(-1)?.number ?? last
    if (!page.has_more) break
  }
  return tasks
}

export function paintBatch(state: Batch['state']): string {
  switch (state) {
    case 'completed':
      return paint.green(state)
    case 'failed':
      return paint.red(state)
    case 'paused':
    case 'cancelled':
      return paint.yellow(state)
    case 'running':
      return paint.cyan(state)
  }
}

export function paintTask(state: TaskState): string {
  switch (state) {
    case 'completed':
      return paint.green(state)
    case 'failed':
      return paint.red(state)
    case 'cancelled':
      return paint.yellow(state)
    case 'running':
      return paint.cyan(state)
    case 'pending':
      return paint.dim(state)
  }
}

/** `3 of 12 completed · 4 running · 1 failed · 4 pending` */
export function countsOf({ tasks, counts }: Batch): string {
  const others = (['running', 'failed', 'cancelled', 'pending'] as const).filter((state) => counts[state] > 0)
  return [
    `${counts.completed} of ${tasks} completed`,
    ...others.map((state) => (state === 'failed' ? paint.red : String)(`${counts[state]} ${state}`)),
  ].join(' · ')
}

export const tookBy = (batch: Pick<Batch, 'created_at' | 'ended_at'>, now: number): string =>
  duration((batch.ended_at === null ? now : Date.parse(batch.ended_at)) - Date.parse(batch.created_at))

/** What is to be known of one batch beside its tasks. */
export function batchLines(batch: Batch, web: string, now: number): string[] {
  const { creator } = batch
  const rows: [string, string | undefined | null][] = [
    ['Batch', batch.batch_id],
    ['State', `${paintBatch(batch.state)} · ${countsOf(batch)}`],
    ['Ended', batch.message],
    ['At a time', `${plural(batch.concurrency, 'task')}${batch.stop_on_failure ? '; stops on failure' : ''}`],
    ['Created', `${batch.created_at} by ${creator.display_name ?? creator.uid}`],
    ['Took', tookBy(batch, now)],
    ['Used', usageWords(batch.usage)],
    ['Page', web],
  ]
  return [
    paint.bold(oneLine(batch.title)),
    ...rows.flatMap(([name, value]) => (value ? [`${paint.dim(name.padEnd(11))}${oneLine(value)}`] : [])),
  ]
}

export function batchTable(batches: Batch[], now: number, width?: number): string[] {
  const rows = batches.map((batch) => [
    batch.batch_id,
    paintBatch(batch.state),
    ago(batch.created_at, now),
    `${batch.counts.completed}/${batch.tasks}`,
    batch.counts.failed > 0 ? paint.red(String(batch.counts.failed)) : '',
    oneLine(batch.title),
  ])
  return alignColumns([['BATCH', 'STATE', 'CREATED', 'DONE', 'FAILED', 'TITLE'].map(paint.dim), ...rows], width)
}

type Look = { now: number; width?: number | undefined; ids?: boolean }

export function taskTable(tasks: BatchTask[], look: Look): string[] {
  const some_wait = tasks.some((task) => task.depends_on.length > 0)
  const heads = ['#', 'TASK', 'STATE', 'TRIES', 'HARNESS', 'TOOK', ...(some_wait ? ['AFTER'] : [])]
  const rows = tasks.map((task) => ({
    cells: [
      paint.dim(String(task.number)),
      nameIn(task, look.width),
      paintTask(task.state),
      task.tries === 0 ? '' : `${task.tries}/${task.max_tries}`,
      oneLine(task.harness),
      tookOn(task, look.now),
      ...(some_wait ? [paint.dim(truncate(task.depends_on.join(' '), 20))] : []),
      ...(look.ids === true ? [task.run_id] : []),
    ],
    words: (columns: number) => wordsOn(task, look.now, columns),
  }))
  const head = {
    cells: [...heads, ...(look.ids === true ? ['RUN'] : [])].map(paint.dim),
    words: () => paint.dim('LAST WORDS'),
  }
  return alignWithWords([head, ...rows], look.width)
}

const WORDS_COLUMNS = 120
const WORDS_COLUMNS_MIN = 16

/** Aligned columns, and after them words that are told how many columns are left. */
export function alignWithWords(
  rows: { cells: string[]; words(columns: number): string }[],
  width: number | undefined,
): string[] {
  const lines = alignColumns(rows.map(({ cells }) => [...cells, '|'])).map((line) => line.slice(0, -1))
  const left = width === undefined ? WORDS_COLUMNS : width - widthOf(lines[0] ?? '')
  return lines.map((line, at) => (line + (rows[at]?.words(Math.max(WORDS_COLUMNS_MIN, left)) ?? '')).trimEnd())
}

/** A long name leaves room for the rest. */
export const nameIn = (task: BatchTask, width: number | undefined): string =>
  truncate(oneLine(task.name), width === undefined ? 60 : Math.max(12, Math.floor(width / 4)))

export function tookOn({ started_at, ended_at }: BatchTask, now: number): string {
  if (started_at === null) return ''
  return duration((ended_at === null ? now : Date.parse(ended_at)) - Date.parse(started_at))
}

/** Why it failed and when it is tried again, else what it said last. */
export function wordsOn(task: BatchTask, now: number, columns: number): string {
  const next = task.next_try_at === null ? '' : `${paint.yellow(nextTry(task.next_try_at, now))}: `
  if (task.state === 'failed' || task.state === 'cancelled') return truncate(next + oneLine(task.error ?? ''), columns)
  return paint.dim(endOf(task.last_words, columns))
}

/** So many characters of last words the server gives. */
const WORDS_KEPT = 200

/** The end of what was said, since that says how it stands. */
export function endOf(words: string | null, columns: number): string {
  const line = oneLine(words ?? '')
  // White space at the cut is gone.
  const cut = line.length > WORDS_KEPT - 8
  if (!cut && widthOf(line) <= columns) return line
  let from = cut ? line.indexOf(' ') + 1 : 0
  while (widthOf(line.slice(from)) > columns - 2) {
    const next = line.indexOf(' ', from)
    from = next < 0 ? line.length - Math.floor(columns / 2) + 1 : next + 1
    if (next < 0) break
  }
  return `… ${line.slice(from)}`
}

export function nextTry(at: string, now: number): string {
  const ms = Date.parse(at) - now
  return ms < 500
    ? 'next try when there is room'
    : `next try in ${duration(Math.round(ms / 1000) * 1000).replace('.0s', 's')}`
}

/** How it ended. */
export function endOfBatch(batch: Batch): string[] {
  const used = usageWords(batch.usage)
  const how = `in ${tookBy(batch, Date.now())}${used === undefined ? '' : ` (${used})`}`
  const what = batch.message ?? `${countsOf(batch)}.`
  return [`${paintBatch(batch.state).toUpperCase()} ${how}`, `  ${what}`]
}

const NAMED = 5

/** What to do about tasks that did not succeed. */
export function adviceOn(batch: Batch, failed: BatchTask[]): string[] {
  const [first] = failed
  if (first === undefined) return []
  const names = failed.slice(0, NAMED).map((task) => oneLine(task.name))
  const more = failed.length - names.length
  return [
    `Failed: ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`,
    `See why: baton run logs ${first.run_id}`,
    `Try them again: baton batch retry ${batch.batch_id}`,
  ]
}
