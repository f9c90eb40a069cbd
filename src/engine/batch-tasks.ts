/** A list of tasks as it is handed over, made into runs: names, settings and dependencies, checked as a whole. */
import type { Kysely } from 'kysely'
import {
  type AgentConfig,
  BATCH_RETRIES,
  type BatchTaskSpec,
  type CreateBatch,
  CreateRun,
  Fault,
  type RetryOn,
} from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import { plainName } from './births.ts'
import type { Owned } from './caller.ts'
import { configureRun } from './configuration.ts'
import { findEnvironment } from './environments.ts'
import { titleOf } from './runs.ts'
import { newTimedId } from './uid.ts'

export type PlannedTask = {
  run_id: string
  number: number
  name: string
  title: string
  prompt: string
  config: AgentConfig
  max_tries: number
  retry_on: RetryOn
  depends_on: string[]
}

type Problem = { pointer: string; detail: string }
type Settings = NonNullable<CreateBatch['defaults']>

/** Problems that one answer names. */
const PROBLEMS_MAX = 100

/** Throws one fault that names all that is wrong. */
export async function planTasks(
  read: Kysely<Tables>,
  { owned, now }: { owned: Owned; now: Date },
  batch: CreateBatch,
): Promise<PlannedTask[]> {
  const problems: Problem[] = []
  const names = batch.tasks.map((task, at) => task.name?.trim() ?? `task-${at + 1}`)
  const places = placesOf(names, problems)
  const needs = batch.tasks.map((task, at) => needsOf(task, at, places, problems))
  const cycle = problems.length === 0 ? cycleIn(needs) : null
  if (cycle) {
    const words = [...cycle, ...cycle.slice(0, 1)].map((at) => names[at]).join(' → ')
    problems.push({ pointer: `/tasks/${cycle[0]}/depends_on`, detail: `These tasks wait for each other: ${words}.` })
  }
  // In the order of the list also for the dispatcher, which goes by time and then by id.
  const run_ids = names.map(() => newTimedId(now)).sort()
  const configure = configurer(read, owned, problems)
  const defaults = await configure('/defaults', 'The defaults', { prompt: '-', config: settled(batch.defaults ?? {}) })
  const tasks: PlannedTask[] = []
  for (const [at, task] of batch.tasks.entries()) {
    const name = names[at] ?? ''
    const which = `Task ${JSON.stringify(name)}`
    const body = bodyOf(batch, task, name)
    const config = await configure(`/tasks/${at}`, which, body, defaults)
    tasks.push({
      run_id: run_ids[at] ?? '',
      number: at + 1,
      name,
      title: task.title ?? (task.name === undefined ? titleOf(task.prompt, config) : name),
      prompt: body.prompt,
      config,
      max_tries: triesOf(task, batch.defaults),
      retry_on: task.retry ?? batch.defaults?.retry ?? 'retryable',
      depends_on: (needs[at] ?? []).map((place) => run_ids[place] ?? ''),
    })
  }
  if (problems.length > 0) throw refusal(problems)
  return tasks
}

function refusal(problems: Problem[]): Fault {
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : ''
  return new Fault('invalid_request', `Nothing was started. ${problems[0]?.detail}${more}`, {
    errors: problems.slice(0, PROBLEMS_MAX),
  })
}

function placesOf(names: string[], problems: Problem[]): Map<string, number> {
  const places = new Map<string, number>()
  for (const [at, name] of names.entries()) {
    const first = places.get(plainName(name))
    if (first === undefined) places.set(plainName(name), at)
    else {
      const detail = `Tasks ${first + 1} and ${at + 1} are both named ${JSON.stringify(name)}; give each a name of its own.`
      problems.push({ pointer: `/tasks/${at}/name`, detail })
    }
  }
  return places
}

/** Places in the list of the tasks that this one depends on, each once. */
function needsOf(task: BatchTaskSpec, at: number, places: Map<string, number>, problems: Problem[]): number[] {
  const needs = new Set<number>()
  for (const [nth, name] of (task.depends_on ?? []).entries()) {
    const place = places.get(plainName(name))
    const pointer = `/tasks/${at}/depends_on/${nth}`
    if (place === undefined) {
      problems.push({ pointer, detail: `Task ${at + 1} depends on ${JSON.stringify(name)}, which is not in the list.` })
    } else if (place === at) {
      problems.push({ pointer, detail: `Task ${JSON.stringify(name)} depends on itself.` })
    } else needs.add(place)
  }
  return [...needs].sort((a, b) => a - b)
}

/** Places of tasks that wait for each other in a ring, or null. */
function cycleIn(needs: number[][]): number[] | null {
  const left = needs.map((own) => own.length)
  const waiting = needs.map((): number[] => [])
  for (const [at, own] of needs.entries()) for (const need of own) waiting[need]?.push(at)
  const free = left.flatMap((count, at) => (count === 0 ? [at] : []))
  for (const at of free) {
    for (const next of waiting[at] ?? []) {
      const count = (left[next] ?? 0) - 1
      left[next] = count
      if (count === 0) free.push(next)
    }
  }
  const stuck = left.findIndex((count) => count > 0)
  if (stuck < 0) return null
  // Each that is left needs another that is left: going on leads round.
  const path: number[] = []
  for (let at = stuck; ; ) {
    const before = path.indexOf(at)
    if (before >= 0) return path.slice(before)
    path.push(at)
    at = needs[at]?.find((need) => (left[need] ?? 0) > 0) ?? stuck
  }
}

type Body = { prompt: string; config: Settings['config'] & object }

function bodyOf(batch: CreateBatch, task: BatchTaskSpec, name: string): Body {
  const base = batch.base_prompt?.trim() && task.prompt.trim() !== '' ? `${batch.base_prompt}\n\n` : ''
  return { prompt: base + task.prompt, config: { ...settled(task), name } }
}

/**
 * Settles one task at a time, as a run is settled whose parent the defaults are, and notes what is wrong with it. Each
 * environment is looked up once.
 */
function configurer(read: Kysely<Tables>, owned: Owned, problems: Problem[]) {
  const environments = new Map<string, Promise<{ environment_uid: string }>>()
  const uidOf = async (named: string): Promise<string> => {
    const found = environments.get(named) ?? findEnvironment(read, owned, named)
    environments.set(named, found)
    return (await found).environment_uid
  }
  return async (pointer: string, which: string, body: Body, defaults: AgentConfig = {}): Promise<AgentConfig> => {
    const parsed = CreateRun.safeParse(body)
    if (!parsed.success) {
      for (const { path, message } of parsed.error.issues)
        problems.push({ pointer: `${pointer}/${path.join('/')}`, detail: `${which}: ${message}` })
      return {}
    }
    try {
      const { environment_id, ...config } = parsed.data.config ?? {}
      const environment = environment_id ? await uidOf(environment_id) : environment_id
      // What a child does not inherit, defaults give all the same.
      const { base_prompt, worker_host, skills } = defaults
      const asked = {
        ...(base_prompt === undefined ? {} : { base_prompt }),
        ...(worker_host === undefined ? {} : { worker_host }),
        ...(skills === undefined || config.skill_spec ? {} : { skills }),
        ...config,
        ...(environment === undefined ? {} : { environment_id: environment }),
      }
      const parent = { config: defaults, identity_uid: null }
      return (await configureRun(read, owned, { ...parsed.data, config: asked }, parent)).config
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown
      problems.push({
        pointer: pointer + (thrown.details.errors?.[0]?.pointer ?? ''),
        detail: `${which}: ${thrown.message}`,
      })
      return {}
    }
  }
}

function settled({ config = {}, harness, model_id, environment, worker_host, timeout_minutes }: Settings): AgentConfig {
  return {
    ...config,
    ...(harness === undefined ? {} : { harness: { type: harness, ...(model_id === undefined ? {} : { model_id }) } }),
    ...(model_id === undefined ? {} : { model_id }),
    ...(environment === undefined ? {} : { environment_id: environment }),
    ...(worker_host === undefined ? {} : { worker_host }),
    ...(timeout_minutes === undefined ? {} : { timeout_minutes }),
  }
}

function triesOf(task: Settings, defaults: Settings = {}): number {
  for (const { max_retries, config } of [task, defaults]) {
    if (max_retries !== undefined) return 1 + max_retries
    if (config?.max_tries !== undefined) return config.max_tries
  }
  return 1 + BATCH_RETRIES
}
