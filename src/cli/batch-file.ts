/**
 * Lists of tasks as people write them: YAML, JSON, or one task a line. What is wrong is named with its place in the
 * text and with its task, all of it at once.
 */
import type { z } from 'zod'
import { BATCH_TASKS_MAX, BatchTaskSpec, CreateBatch } from '../contract/index.ts'
import { whyOf } from '../contract/why.ts'
import { CommandFailure, type Wrong } from './exits.ts'
import { checkKeys } from './keys.ts'
import { nearest } from './text.ts'

/** A batch with the place of each part of it in what it was written in. */
export type ReadBatch = {
  /** The file, as errors name it. */
  name: string
  batch: CreateBatch
  /** `tasks.yaml:12:5` of a path such as `['tasks', 3, 'prompt']`, or of what encloses it. */
  placeOf(path: Path): string
}
type Path = (string | number)[]

/** As the contract has them, but a word that means nothing is refused: whoever writes a file by hand mistypes. */
const Task = BatchTaskSpec.strict()
const Batch = CreateBatch.extend({
  tasks: CreateBatch.shape.tasks.element.strict().array().min(1, 'A batch needs a task.').max(BATCH_TASKS_MAX),
  defaults: CreateBatch.shape.defaults.unwrap().strict().optional(),
}).strict()

const TOP_WORDS = Object.keys(CreateBatch.shape)

/** Whether a text is a document at all; otherwise each of its lines is a task. */
export function isDocument(text: string): boolean {
  if (/^\uFEFF?\s*(\{|\[\s*["{\]]|---|%YAML|- )/.test(text)) return true
  const words = [...text.matchAll(/^"?([a-z_]+)"?[ \t]*:(?=\s)/gm)].map((match) => match[1] ?? '')
  return words.some((word) => TOP_WORDS.includes(word))
}

export function readLines(text: string, name: string): ReadBatch {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
  const kept = lines.flatMap((line, at) => (line.trim() === '' ? [] : [{ prompt: line.trim(), number: at + 1 }]))
  if (kept.length === 0) throw new CommandFailure('usage', `There are no tasks in ${name}.`, 'Write one task a line.')
  const placeOf = ([of, at]: Path) => (of === 'tasks' ? `${name}:${kept[Number(at)]?.number ?? 1}` : name)
  return checked({ tasks: kept.map(({ prompt }) => ({ prompt })) }, { name, placeOf })
}

/** Prompts as they were given, one by one. */
export function readPrompts(prompts: string[]): ReadBatch {
  const placeOf = ([of, at]: Path) => (of === 'tasks' ? `--task ${Number(at) + 1}` : '--task')
  return checked({ tasks: prompts.map((prompt) => ({ prompt })) }, { name: '--task', placeOf })
}

/** YAML or JSON: a batch, or the list of its tasks alone; a task that is a text alone is its prompt. */
export async function readDocument(text: string, name: string): Promise<ReadBatch> {
  const { LineCounter, parseDocument, isNode } = await import('yaml')
  const counter = new LineCounter()
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false })
  const at = (offset: number) => {
    const { line, col } = counter.linePos(offset)
    return `${name}:${line}:${col}`
  }
  const broken = document.errors.map(({ pos, message }) => ({ pointer: '', where: at(pos[0]), detail: message }))
  if (broken.length > 0) throw refusal(name, broken)
  const value = toPlain(document, name)
  const is_list = Array.isArray(value)
  const placeOf = (path: Path): string => {
    const inside = is_list ? path.slice(1) : path
    for (let length = inside.length; length > 0; length--) {
      const node = document.getIn(inside.slice(0, length), true)
      if (isNode(node) && node.range) return at(node.range[0])
    }
    return at(document.contents?.range?.[0] ?? 0)
  }
  return checked(is_list ? { tasks: value } : value, { name, placeOf })
}

function toPlain(document: { toJS(options: { maxAliasCount: number }): unknown }, name: string): unknown {
  try {
    return checkKeys(document.toJS({ maxAliasCount: 100 }), name)
  } catch (error) {
    if (error instanceof CommandFailure) throw error
    throw new CommandFailure('usage', `${name}: ${whyOf(error)}`)
  }
}

type Source = Pick<ReadBatch, 'name' | 'placeOf'>

function checked(given: unknown, { name, placeOf }: Source): ReadBatch {
  if (typeof given !== 'object' || given === null || !('tasks' in given) || given.tasks == null)
    throw new CommandFailure(
      'usage',
      `${name} has no list of tasks.`,
      'Write "tasks:" with an entry "- prompt: …" for each. One task a line is read from stdin: baton batch run - < FILE',
    )
  const tasks = Array.isArray(given.tasks) ? given.tasks.map(withPrompt) : given.tasks
  const parsed = Batch.safeParse({ ...given, tasks })
  if (parsed.success) return { name, batch: parsed.data, placeOf }
  throw refusal(
    name,
    parsed.error.issues.flatMap((issue) => wrongOf(issue, tasks, placeOf)),
  )
}

const withPrompt = (task: unknown): unknown => (typeof task === 'string' ? { prompt: task } : task)

function wrongOf(issue: z.core.$ZodIssue, tasks: unknown, placeOf: Source['placeOf']): Wrong[] {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)))
  const wrong = (inside: Path, detail: string): Wrong => ({
    pointer: `/${inside.join('/')}`,
    where: [placeOf(inside), ...wordsOf(inside, tasks)].join(': '),
    detail,
  })
  if (issue.code !== 'unrecognized_keys') return [wrong(path, detailOf(issue))]
  return issue.keys.map((key) => {
    const meant = nearest(key, knownIn(path))
    return wrong([...path, key], `There is no such field.${meant === undefined ? '' : ` Did you mean "${meant}"?`}`)
  })
}

function knownIn([first, second]: Path): string[] {
  if (first === undefined) return TOP_WORDS
  const words = Object.keys(Task.shape)
  return first === 'tasks' && second !== undefined ? words : words.filter((word) => word !== 'prompt')
}

/** `tasks[3] "docs"` and the field in it. */
export function wordsOf(path: Path, tasks: unknown): string[] {
  const [first, at, ...rest] = path
  if (first !== 'tasks' || typeof at !== 'number') return path.length === 0 ? [] : [dotted(path)]
  const task: unknown = Array.isArray(tasks) ? tasks[at] : undefined
  const named = typeof task === 'object' && task !== null && 'name' in task && typeof task.name === 'string'
  const which = `tasks[${at}]${named ? ` ${JSON.stringify(task.name)}` : ''}`
  return rest.length === 0 ? [which] : [which, dotted(rest)]
}

const dotted = (path: Path): string =>
  path.map((part, at) => (typeof part === 'number' ? `[${part}]` : `${at === 0 ? '' : '.'}${part}`)).join('')

const KINDS: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
}
const UNITS: Record<string, string> = { string: ' characters', array: ' entries' }

/** Issues that the contract words itself keep its words. */
function detailOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type')
    return issue.message.endsWith('received undefined')
      ? 'It is missing.'
      : `It must be ${KINDS[issue.expected] ?? issue.expected}.`
  if (issue.code === 'invalid_value') return `It must be ${issue.values.map(String).join(' or ')}.`
  if (issue.code === 'too_big' && issue.message.startsWith('Too big'))
    return `At most ${issue.maximum}${UNITS[issue.origin] ?? ''}.`
  if (issue.code === 'too_small' && issue.message.startsWith('Too small'))
    return issue.origin === 'string' ? 'It is empty.' : `At least ${issue.minimum}${UNITS[issue.origin] ?? ''}.`
  return issue.message
}

const SHOWN_MAX = 20

export function refusal(name: string, wrongs: Wrong[]): CommandFailure {
  const [only] = wrongs
  const hint = wrongs.length > SHOWN_MAX ? `… and ${wrongs.length - SHOWN_MAX} more.` : undefined
  const sorted = wrongs.toSorted((a, b) => taskOf(a) - taskOf(b))
  const what = wrongs.length === 1 && only ? 'One thing is wrong' : `${wrongs.length} things are wrong`
  return new CommandFailure('usage', `Nothing was started. ${what} in ${name}:`, hint, sorted.slice(0, SHOWN_MAX))
}

/** What is wrong with the batch itself comes first. */
const taskOf = ({ pointer }: Wrong): number => Number(/^\/tasks\/(\d+)/.exec(pointer)?.[1] ?? -1)
