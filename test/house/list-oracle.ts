/** Random runs, what lists of them should be, and the walk through a list. A seed makes the same again. */
import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import type { ListRuns, RunState } from '../../src/contract/index.ts'
import type { House } from './house.ts'

export type Random = {
  next(): number
  below(n: number): number
  of<T>(all: readonly T[]): T
  chance(p: number): boolean
}

/** Mulberry32. */
export function randomOf(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (n: number) => Math.floor(next() * n)
  return { next, below, of: (all) => all[below(all.length)] as never, chance: (p) => next() < p }
}

/** What a list can filter and sort by. Times are to the microsecond, as text that sorts as they do. */
export type Planted = {
  run_id: string
  created_at: string
  updated_at: string
  state: RunState
  title: string
  prompt: string
  skill: string | null
  name: string | null
  model: string | null
  environment: string | null
  source: string
  location: 'LOCAL' | 'REMOTE'
  creator: string
  identity: string | null
  schedule_id: string | null
  parent_run_id: string | null
  metadata: Record<string, string>
  artifacts: string[]
}

const STATES = ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'] as const
const ARTIFACTS = ['PULL_REQUEST', 'EXTERNAL_REFERENCE'] as const
const SOURCES = ['API', 'WEB_APP', 'SLACK', 'GITHUB_ACTION'] as const
const NAMES = ['Alpha', 'beta', null, null] as const
const MODELS = ['opus', 'mini', null] as const
const SKILLS = ['deploy', 'shop:review', 'acme/shop:.claude/skills/Audit/SKILL.md', null, null] as const
const AGENTS: Record<string, string> = {
  deploy: 'deploy',
  'shop:review': 'review',
  'acme/shop:.claude/skills/Audit/SKILL.md': 'audit',
}
/** No two are alike. */
const WORDS = ['quartz', 'bramble', 'fjord', 'pylon', 'vexing', 'mango', 'thistle', 'zephyr'] as const

export type Plot = { people: string[]; environments: string[]; identities: string[]; schedules: string[] }

/** A run that is over, at a time within a few seconds of the others: many begin together. */
export function randomRun(random: Random, plot: Plot, parents: Planted[]): Planted {
  const created = Date.parse('2026-01-01T00:00:00Z') + random.below(40) * 250
  const at = (ms: number) =>
    `${new Date(ms).toISOString().slice(0, -1)}${String(random.below(3) * 333).padStart(3, '0')}Z`
  const skill = random.of(SKILLS)
  const words = () => Array.from({ length: 1 + random.below(2) }, () => random.of(WORDS)).join(' ')
  const parent = parents.length > 0 && random.chance(0.3) ? random.of(parents) : null
  return {
    run_id: uuidOf(random),
    created_at: at(created),
    updated_at: at(created + random.below(20) * 500),
    state: random.of(STATES),
    title: random.chance(0.3) ? random.of(['Same title', 'same title', 'Ähnlich']) : words(),
    prompt: words(),
    skill,
    name: random.of(NAMES),
    model: random.of(MODELS),
    environment: random.chance(0.6) ? random.of(plot.environments) : null,
    source: random.of(SOURCES),
    location: random.chance(0.2) ? 'LOCAL' : 'REMOTE',
    creator: random.of(plot.people),
    identity: random.chance(0.3) ? random.of(plot.identities) : null,
    schedule_id: random.chance(0.2) ? random.of(plot.schedules) : null,
    parent_run_id: parent?.run_id ?? null,
    metadata: {
      ...(random.chance(0.5) ? { ticket_id: random.of(['VIS-1', 'VIS-2']) } : {}),
      ...(random.chance(0.5) ? { 'area.name': random.of(['north', 'ü&=']) } : {}),
    },
    artifacts: ARTIFACTS.filter(() => random.chance(0.2)),
  }
}

function uuidOf(random: Random): string {
  const hex = createHash('md5').update(`${random.next()} ${random.next()}`).digest('hex')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-4$3-8$4-$5').replace(/-4.(...)-8.(...)-/, '-4$1-8$2-')
}

/** Straight into the store. */
export async function plant({ database, owner }: House, run: Planted): Promise<void> {
  const config = {
    ...(run.name === null ? {} : { name: run.name }),
    ...(run.model === null ? {} : { harness: { type: 'claude', model_id: run.model } }),
    ...(run.environment === null ? {} : { environment_id: run.environment }),
    ...(run.skill === null ? {} : { skill_spec: run.skill, skills: [run.skill] }),
  }
  await sql`
    with made as (
      insert into runs (run_id, team_id, conversation_id, state, title, prompt, config, metadata, source,
        execution_location, creator_id, identity_uid, schedule_id, parent_run_id, root_run_id, created_at, updated_at,
        queued_at)
      values (${run.run_id}, ${owner.team_id}, ${run.run_id}, ${run.state}, ${run.title}, ${run.prompt},
        ${JSON.stringify(config)}::jsonb, ${JSON.stringify(run.metadata)}::jsonb, ${run.source}, ${run.location},
        ${run.creator}, ${run.identity}, ${run.schedule_id}, ${run.parent_run_id}, ${run.parent_run_id ?? run.run_id},
        ${run.created_at}::timestamptz, ${run.updated_at}::timestamptz, ${run.created_at}::timestamptz)
      returning *
    ), texts as (
      insert into run_texts (run_id, team_id, text) select run_id, team_id, run_text(title, prompt, config) from made
    )
    insert into artifacts (artifact_uid, team_id, run_id, artifact_type, data, created_at)
    select gen_random_uuid(), team_id, run_id, t, jsonb_build_object('url', 'https://example.com',
        case t when 'PULL_REQUEST' then 'branch' else 'reference_type' end, 'x'), created_at
    from made, unnest(${run.artifacts}::text[]) as t`.execute(database.kysely)
}

export type Asked = Partial<Omit<ListRuns, 'limit' | 'cursor'>>

/** One to three filters, with values that some runs have. */
export function randomFilters(random: Random, plot: Plot, runs: Planted[]): Asked {
  const some = () => random.of(runs)
  const makers: (() => Asked)[] = [
    () => ({ state: [random.of(STATES), random.of(STATES)] }),
    () => ({ source: random.of(SOURCES) }),
    () => ({ execution_location: random.of(['LOCAL', 'REMOTE'] as const) }),
    () => ({ creator: random.of(plot.people) }),
    () => ({ executor: random.chance(0.5) ? random.of(plot.identities) : random.of(plot.people) }),
    () => ({ name: random.of(['Alpha', 'beta', 'gamma']) }),
    () => ({ model_id: random.of(['opus', 'mini', 'none']) }),
    () => ({ environment_id: random.of([...plot.environments, 'empty-environment']) }),
    () => ({ skill: random.of(SKILLS.filter((skill) => skill !== null)) }),
    () => ({ skill_spec: 'deploy' }),
    () => ({ schedule_id: random.of(plot.schedules) }),
    () => ({
      ancestor_run_id: (runs.find((run) => run.parent_run_id !== null) ?? some()).parent_run_id ?? some().run_id,
    }),
    () => ({ artifact_type: random.of([...ARTIFACTS, 'PLAN'] as const) }),
    () => ({ created_after: some().created_at }),
    () => ({ created_before: some().created_at }),
    () => ({ updated_after: some().updated_at }),
    () => ({ q: random.of(WORDS) }),
    () => ({ q: `${random.of(WORDS).toUpperCase()} ${random.of(WORDS).slice(1, 4)}` }),
    () => ({ metadata: { ticket_id: random.of(['VIS-1', 'VIS-2', 'vis-1']) } }),
    () => ({ metadata: { ticket_id: 'VIS-1', 'area.name': random.of(['north', 'ü&=']) } }),
    () => ({ top: true }),
    () => ({ automation_id: 'nightly' }),
  ]
  const count = random.of([0, 1, 1, 1, 2, 2, 3])
  return Object.assign({}, ...Array.from({ length: count }, () => random.of(makers)()))
}

/** Whether a list that asks for this shows the run. */
export function isWanted(asked: Asked, run: Planted): boolean {
  const text = `${run.title} ${run.skill ?? ''} ${run.prompt}`.toLowerCase()
  const is: boolean[] = [
    !asked.state || asked.state.includes(run.state),
    !asked.source || asked.source === run.source,
    !asked.execution_location || asked.execution_location === run.location,
    !asked.creator || asked.creator === run.creator,
    !asked.executor || asked.executor === (run.identity ?? run.creator),
    !asked.name || asked.name === run.name,
    !asked.model_id || asked.model_id === run.model,
    !asked.environment_id || asked.environment_id === (run.environment ?? 'empty-environment'),
    !asked.skill || asked.skill === run.skill,
    !asked.skill_spec || asked.skill_spec === run.skill,
    !asked.schedule_id || asked.schedule_id === run.schedule_id,
    !asked.ancestor_run_id || asked.ancestor_run_id === run.parent_run_id,
    !asked.artifact_type || run.artifacts.includes(asked.artifact_type),
    !asked.created_after || run.created_at > asked.created_after,
    !asked.created_before || run.created_at < asked.created_before,
    !asked.updated_after || run.updated_at > asked.updated_after,
    !asked.q || asked.q.split(' ').every((word) => text.includes(word.toLowerCase())),
    Object.entries(asked.metadata ?? {}).every(([key, value]) => run.metadata[key] === value),
    !asked.top || run.parent_run_id === null,
    !asked.automation_id,
  ]
  return is.every(Boolean)
}

/** Negative where `a` comes first. */
export function compareBy(asked: Asked): (a: Planted, b: Planted) => number {
  const way = asked.sort_order === 'asc' ? 1 : -1
  const keyOf = (run: Planted): string | null => {
    switch (asked.sort_by ?? 'updated_at') {
      case 'updated_at':
        return run.updated_at
      case 'created_at':
        return run.created_at
      case 'title':
        return run.title.toLowerCase()
      case 'agent':
        return run.skill === null ? null : (AGENTS[run.skill] ?? null)
    }
  }
  return (a, b) => {
    const [left, right] = [keyOf(a), keyOf(b)]
    if (left === null || right === null) {
      if (left !== right) return left === null ? 1 : -1
      return way * bytewise(a.run_id, b.run_id)
    }
    return way * (bytewise(left, right) || bytewise(a.run_id, b.run_id))
  }
}

const bytewise = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))
