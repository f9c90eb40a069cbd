/** The draft of a batch: its tasks as rows, what is wrong with it, and the request it becomes. */
import { z } from 'zod'
import { BATCH_CONCURRENCY, CreateBatch, Fault } from '../../contract/index.ts'

const TaskDraft = z.object({
  /** Tells rows apart while they come and go. */
  key: z.string(),
  prompt: z.string(),
  name: z.string(),
  harness: z.string(),
  model: z.string(),
  environment: z.string(),
  retries: z.string(),
  retry: z.enum(['', 'retryable', 'all']),
  depends_on: z.string(),
})
export type TaskDraft = z.infer<typeof TaskDraft>
export type TaskField = Exclude<keyof TaskDraft, 'key'>

const BatchDraft = z.object({
  title: z.string(),
  base_prompt: z.string(),
  concurrency: z.string(),
  stop_on_failure: z.boolean(),
  harness: z.string(),
  model: z.string(),
  environment: z.string(),
  retries: z.string(),
  tasks: z.array(TaskDraft).min(1),
})
export type BatchDraft = z.infer<typeof BatchDraft>

const EMPTY_TASK: Omit<TaskDraft, 'key'> = {
  prompt: '',
  name: '',
  harness: '',
  model: '',
  environment: '',
  retries: '',
  retry: '',
  depends_on: '',
}

export const newTask = (part: Partial<TaskDraft> = {}): TaskDraft => ({
  ...EMPTY_TASK,
  ...part,
  key: crypto.randomUUID(),
})

export const emptyBatch = (): BatchDraft => ({
  title: '',
  base_prompt: '',
  concurrency: String(BATCH_CONCURRENCY),
  stop_on_failure: false,
  harness: 'baton',
  model: '',
  environment: '',
  retries: '',
  tasks: [newTask()],
})

/** Lines of a pasted list: what stands before each as a mark of a list is left out. */
export const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.replace(/^\s*(?:[-*•]|\d+[.)])\s+/, '').trim())
    .filter((line) => line !== '')

/** A row for each line of this row's prompt; all else is as in this row, but for its name. */
export function splitTask(task: TaskDraft): TaskDraft[] {
  return linesOf(task.prompt).map((prompt) => newTask({ ...task, prompt, name: '' }))
}

/** A row in which nothing is written is none. */
export const isBlank = (task: TaskDraft): boolean => task.prompt.trim() === '' && task.name.trim() === ''
const written = (draft: BatchDraft): TaskDraft[] => draft.tasks.filter((task) => !isBlank(task))

/** What is wrong, by field: `concurrency`, `retries`, or a task's `KEY.prompt`. */
export type Wrong = Record<string, string>

export function checkBatch(draft: BatchDraft): Wrong {
  const wrong: Wrong = {}
  const tasks = written(draft)
  const names = new Map<string, number>()
  if (tasks.length === 0) wrong[`${draft.tasks[0]?.key}.prompt`] = 'Write what the first task is to do.'
  for (const [at, task] of tasks.entries()) {
    if (task.prompt.trim() === '') wrong[`${task.key}.prompt`] = 'Write what this task is to do.'
    if (!isCount(task.retries, 0, 19)) wrong[`${task.key}.retries`] = RETRIES_SAY
    const name = (task.name.trim() === '' ? `task-${at + 1}` : task.name.trim()).toLowerCase()
    const other = names.get(name)
    if (other !== undefined) wrong[`${task.key}.name`] = `Task ${other + 1} has this name too.`
    else names.set(name, at)
  }
  for (const task of tasks) {
    const unknown = needsOf(task).find((name) => !names.has(name.toLowerCase()))
    if (unknown !== undefined) wrong[`${task.key}.depends_on`] = `There is no task named ${unknown}.`
  }
  if (!isCount(draft.retries, 0, 19)) wrong.retries = RETRIES_SAY
  if (!isCount(draft.concurrency, 1, 1000) || draft.concurrency.trim() === '')
    wrong.concurrency = 'A whole number from 1 to 1000.'
  if (Object.keys(wrong).length > 0) return wrong
  const found = CreateBatch.safeParse(requestOfBatch(draft))
  for (const issue of found.error?.issues ?? []) wrong[fieldOf(draft, issue.path)] ??= issue.message
  return wrong
}

const RETRIES_SAY = 'A whole number from 0 to 19.'

const isCount = (text: string, least: number, most: number): boolean =>
  text.trim() === '' || (/^\d+$/.test(text.trim()) && Number(text) >= least && Number(text) <= most)

const needsOf = (task: TaskDraft): string[] =>
  task.depends_on
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')

const FIELDS: Record<string, string> = { model_id: 'model', max_retries: 'retries', environment_id: 'environment' }

/** Where a path of the request is on the page; what has no field of its own is told for the whole, as `batch`. */
function fieldOf(draft: BatchDraft, path: readonly PropertyKey[]): string {
  const [first, second, third] = path.map(String)
  if (first === 'defaults') return FIELDS[second ?? ''] ?? second ?? 'batch'
  if (first !== 'tasks') return first !== undefined && first in draft ? first : 'batch'
  const task = written(draft)[Number(second)]
  return task === undefined ? 'batch' : `${task.key}.${FIELDS[third ?? ''] ?? third ?? 'prompt'}`
}

/** What the server found wrong, by field. */
export function wrongOf(draft: BatchDraft, error: unknown): Wrong {
  const wrong: Wrong = {}
  if (!(error instanceof Fault)) return wrong
  for (const { pointer, detail } of error.details.errors ?? []) {
    const path = pointer.split('/').slice(1)
    // Settings may be told as parts of the configuration that they become.
    const at = path.filter((part) => part !== 'config')
    wrong[fieldOf(draft, at)] ??= detail
  }
  return wrong
}

export function requestOfBatch(draft: BatchDraft): CreateBatch {
  const defaults = settingsOf(draft)
  return {
    ...said('title', draft.title),
    ...said('base_prompt', draft.base_prompt),
    concurrency: Number(draft.concurrency),
    stop_on_failure: draft.stop_on_failure,
    ...(Object.keys(defaults).length === 0 ? {} : { defaults }),
    tasks: written(draft).map((task) => ({
      prompt: task.prompt,
      ...said('name', task.name),
      ...settingsOf(task),
      ...(task.retry === '' ? {} : { retry: task.retry }),
      ...(needsOf(task).length === 0 ? {} : { depends_on: needsOf(task) }),
    })),
  }
}

function settingsOf(part: Pick<TaskDraft, 'harness' | 'model' | 'environment' | 'retries'>) {
  return {
    ...said('harness', part.harness),
    ...said('model_id', part.model),
    ...said('environment', part.environment),
    ...(part.retries.trim() === '' ? {} : { max_retries: Number(part.retries) }),
  }
}

const said = <K extends string>(key: K, text: string): Partial<Record<K, string>> =>
  text.trim() === '' ? {} : ({ [key]: text.trim() } as Record<K, string>)

const STORED_AS = 'baton.batch'

/** Storage may be forbidden or full; then the draft lives as long as the page does. */
export function readBatchDraft(): BatchDraft {
  try {
    const kept = BatchDraft.safeParse(JSON.parse(sessionStorage.getItem(STORED_AS) ?? 'null'))
    return kept.data ?? emptyBatch()
  } catch {
    return emptyBatch()
  }
}

export function writeBatchDraft(draft: BatchDraft): void {
  try {
    sessionStorage.setItem(STORED_AS, JSON.stringify(draft))
  } catch {}
}

export function clearBatchDraft(): void {
  try {
    sessionStorage.removeItem(STORED_AS)
  } catch {}
}
