/** What a person has changed of a plan and typed about it, before it is answered. Kept for this tab, by version. */
import { z } from 'zod'
import { Approval, type Plan, type PlanChild, type PlanConfig } from '../../contract/index.ts'

/** A part that is absent stands as proposed. */
const PlanEdits = Approval.pick({ document: true, children: true, config: true })
export type PlanEdits = z.infer<typeof PlanEdits>

/** `words` go with any answer; `edits` are by version. */
export type PlanDraft = { words: string; edits: Record<string, PlanEdits> }

/** Laxer than the contract: what is half typed is kept too. */
const Stored = z.object({
  words: z.string(),
  edits: z.record(
    z.string(),
    z.object({
      document: z.string().optional(),
      children: z.array(z.looseObject({ name: z.string(), prompt: z.string() })).optional(),
      config: z.looseObject({ parallelism: z.number().optional() }).optional(),
    }),
  ),
})

export const EMPTY_PLAN_DRAFT: PlanDraft = { words: '', edits: {} }

export const editsOf = (draft: PlanDraft, version: number): PlanEdits => draft.edits[version] ?? {}

/** The plan as it would be approved. */
export const edited = (plan: Plan, edits: PlanEdits): Plan => ({
  ...plan,
  document: edits.document ?? plan.document,
  children: edits.children ?? plan.children,
  config: edits.config ?? plan.config,
})

/** Without what is as proposed after all. */
export function settleEdits(plan: Plan, edits: PlanEdits): PlanEdits {
  const { document, children, config } = edits
  return {
    ...(document === undefined || document === plan.document ? {} : { document }),
    ...(children === undefined || isSame(children, plan.children) ? {} : { children }),
    ...(config === undefined || isSame(config, plan.config) ? {} : { config }),
  }
}

export const isEdited = (edits: PlanEdits): boolean => Object.keys(edits).length > 0

const isSame = (a: object, b: object): boolean => JSON.stringify(inOrder(a)) === JSON.stringify(inOrder(b))
const inOrder = (value: object): unknown =>
  Array.isArray(value)
    ? value.map((one: object) => inOrder(one))
    : Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))

/** A field set to its value, or taken out where it is empty. */
export function withField<T extends object, K extends keyof T>(held: T, key: K, value: T[K] | undefined): T {
  const { [key]: _, ...rest } = held
  return { ...rest, ...(value === undefined || value === '' ? {} : { [key]: value }) } as T
}

/**
 * What was changed of one version, done to another: fields of the configuration one by one, children by their names. A
 * text that the agent has changed too stays the agent's.
 */
export function carryEdits(from: Plan, edits: PlanEdits, to: Plan): PlanEdits {
  const carried: PlanEdits = {}
  if (edits.document !== undefined && from.document === to.document) carried.document = edits.document
  if (edits.config) carried.config = carryFields(from.config, edits.config, to.config)
  if (edits.children) carried.children = carryChildren(from.children, edits.children, to.children)
  return settleEdits(to, carried)
}

function carryFields(from: PlanConfig, mine: PlanConfig, to: PlanConfig): PlanConfig {
  const names = [...new Set([...Object.keys(from), ...Object.keys(mine)])] as (keyof PlanConfig)[]
  return names
    .filter((name) => from[name] !== mine[name])
    .reduce<PlanConfig>((held, name) => withField(held, name, mine[name]), to)
}

function carryChildren(from: PlanChild[], mine: PlanChild[], to: PlanChild[]): PlanChild[] {
  return to.flatMap((child) => {
    const was = from.find((one) => one.name === child.name)
    const is = mine.find((one) => one.name === child.name)
    if (was && !is) return []
    return was && is && !isSame(was, is) && isSame(was, child) ? [is] : [child]
  })
}

/** What is wrong with it, by field: `children.0.name`, `config.parallelism`. */
export function checkEdits(edits: PlanEdits): Record<string, string> {
  const wrong: Record<string, string> = {}
  if (edits.document?.trim() === '') wrong.document = 'A plan needs a text.'
  const names = new Set<string>()
  for (const [at, child] of (edits.children ?? []).entries()) {
    const name = child.name.trim().toLowerCase()
    if (name === '') wrong[`children.${at}.name`] = 'A child needs a name.'
    else if (names.has(name)) wrong[`children.${at}.name`] = 'Another child has this name.'
    names.add(name)
    if (child.prompt.trim() === '') wrong[`children.${at}.prompt`] = 'Write what it is to do.'
  }
  const found = PlanEdits.safeParse(edits)
  for (const issue of found.error?.issues ?? []) {
    const field = issue.path.join('.')
    wrong[field] ??=
      field === 'config.parallelism'
        ? 'A whole number from 1 to 1000, or nothing.'
        : `${issue.message}.`.replace('..', '.')
  }
  return wrong
}

const storedAs = (run_id: string) => `baton.plan.${run_id}`

/** Storage may be forbidden or full; then the draft lives as long as the page does. */
export function readPlanDraft(run_id: string): PlanDraft {
  try {
    const kept: unknown = JSON.parse(sessionStorage.getItem(storedAs(run_id)) ?? 'null')
    return Stored.catch(EMPTY_PLAN_DRAFT).parse(kept)
  } catch {
    return EMPTY_PLAN_DRAFT
  }
}

export function writePlanDraft(run_id: string, draft: PlanDraft): void {
  try {
    if (draft.words === '' && !Object.values(draft.edits).some(isEdited)) sessionStorage.removeItem(storedAs(run_id))
    else sessionStorage.setItem(storedAs(run_id), JSON.stringify(draft))
  } catch {}
}
