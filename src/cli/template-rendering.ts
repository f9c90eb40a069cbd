/**
 * From a template and values to what is asked of the server. Nothing here reads a file or a clock.
 *
 * `{{name}}` stands for a parameter. A field that is one place and nothing else takes the value as it is, a number or
 * a list too, and is left out where there is none. An entry of a list with `for_each: NAME` stands for one entry for
 * each item of that parameter, with `{{item}}` and `{{number}}` in it. In `depends_on` a `*` stands for any part of
 * a task's name.
 */
import { z } from 'zod'
import { AgentConfig, CreateBatch as Batch, type CreateBatch, PROMPT_BYTES_MAX, RunMode } from '../contract/index.ts'

const ParameterName = z.string().regex(/^[a-z][a-z0-9_]{0,63}$/, 'A parameter is named by small letters, digits and _.')

export const TemplateParameter = z.strictObject({
  description: z.string().min(1),
  /** `repository`: OWNER/REPO, a URL or a path, which becomes a URL or an absolute path. */
  type: z.enum(['text', 'number', 'repository']).default('text'),
  list: z.boolean().default(false),
  default: z.union([z.string(), z.number(), z.array(z.string())]).optional(),
  /** Where nobody says: so long as there is no default. */
  required: z.boolean().optional(),
})
export type TemplateParameter = z.infer<typeof TemplateParameter>

export const Template = z
  .strictObject({
    name: z.string().regex(/^[a-z][a-z0-9-]{0,63}$/),
    title: z.string().min(1),
    description: z.string().min(1),
    kind: z.enum(['batch', 'run']),
    parameters: z.record(ParameterName, TemplateParameter).default({}),
    batch: z.record(z.string(), z.unknown()).optional(),
    run: z.record(z.string(), z.unknown()).optional(),
  })
  .refine((one) => (one.kind === 'batch' ? one.batch : one.run) !== undefined, 'A template has what its kind names.')
export type Template = z.infer<typeof Template>

const TemplateRun = z.strictObject({
  prompt: z.string().trim().min(1).max(PROMPT_BYTES_MAX),
  title: z.string().max(512).optional(),
  mode: RunMode.optional(),
  config: AgentConfig.optional(),
})
export type TemplateRun = z.infer<typeof TemplateRun>

export type Rendered = { kind: 'batch'; batch: CreateBatch } | { kind: 'run'; run: TemplateRun }

type Value = string | number | string[] | undefined
export type Values = Record<string, Value>

/** Something about the template or its values, in a sentence. */
export class TemplateTrouble extends Error {
  override name = 'TemplateTrouble'
}

export const isRequired = ({ required, default: value }: TemplateParameter): boolean => required ?? value === undefined

/** Values by parameter from `NAME=VALUE`; a list takes each `--set` of its name, and each line of a value. */
export function readValues(template: Template, sets: string[], repositoryAt: (given: string) => string): Values {
  const given = new Map<string, string[]>()
  for (const pair of sets) {
    const at = pair.indexOf('=')
    if (at <= 0) throw new TemplateTrouble(`--set "${pair}" is not NAME=VALUE.`)
    const name = pair.slice(0, at).trim()
    given.set(name, [...(given.get(name) ?? []), pair.slice(at + 1)])
  }
  const names = Object.keys(template.parameters)
  const unknown = [...given.keys()].filter((name) => !names.includes(name))
  if (unknown.length > 0)
    throw new TemplateTrouble(
      `Template ${template.name} has no parameter ${unknown.join(', ')}. It has ${names.join(', ') || 'none'}.`,
    )
  const missing = names.filter((name) => {
    const parameter = template.parameters[name]
    return parameter !== undefined && isRequired(parameter) && (given.get(name) ?? []).every((one) => one.trim() === '')
  })
  if (missing.length > 0)
    throw new TemplateTrouble(
      `Template ${template.name} needs ${missing.join(', ')}. Give it with ${missing.map((name) => `--set ${name}=…`).join(' ')}.`,
    )
  return Object.fromEntries(
    Object.entries(template.parameters).map(([name, parameter]) => {
      return [name, readValue(name, parameter, given.get(name), repositoryAt)]
    }),
  )
}

function readValue(
  name: string,
  parameter: TemplateParameter,
  given: string[] | undefined,
  repositoryAt: (given: string) => string,
): Value {
  const read = (text: string): string => (parameter.type === 'repository' ? repositoryAt(text.trim()) : text)
  if (parameter.list) {
    const texts = given ?? [parameter.default ?? []].flat().map(String)
    const items = texts.flatMap((text) => text.split('\n')).filter((item) => item.trim() !== '')
    return items.map((item) => read(item.trim()))
  }
  if (given !== undefined && given.length > 1)
    throw new TemplateTrouble(`${name} is set ${given.length} times, and is no list.`)
  const text = given?.[0] ?? (parameter.default === undefined ? undefined : String(parameter.default))
  if (text === undefined || text === '') return undefined
  if (parameter.type !== 'number') return read(text)
  const number = Number(text)
  if (text.trim() === '' || !Number.isFinite(number))
    throw new TemplateTrouble(`${name} is a number, and "${text}" is none.`)
  return number
}

/** What the template says with these values. A parameter that it never uses is refused, as is a place without one. */
export function renderWith(template: Template, values: Values): Rendered {
  const used = new Set<string>()
  const body = fill(template.kind === 'batch' ? template.batch : template.run, {
    values,
    used,
    known: Object.keys(template.parameters),
  })
  const unused = Object.keys(template.parameters).filter((name) => !used.has(name))
  if (unused.length > 0)
    throw new TemplateTrouble(`Template ${template.name} never uses its parameter ${unused.join(', ')}.`)
  if (template.kind === 'run') return { kind: 'run', run: checked(template, TemplateRun, body) }
  return { kind: 'batch', batch: checked(template, Batch, withDependencies(template, body)) }
}

type Scope = { values: Values; used: Set<string>; known: string[] }

const PLACE = /\{\{\s*([a-z][a-z0-9_]*)\s*\}\}/g
const ONE_PLACE = /^\{\{\s*([a-z][a-z0-9_]*)\s*\}\}$/

function fill(part: unknown, scope: Scope): unknown {
  if (typeof part === 'string') return fillText(part, scope)
  if (Array.isArray(part)) {
    const filled = part.flatMap((one: unknown) => each(one, scope))
    return filled.filter((one) => one !== undefined)
  }
  if (!isRecord(part)) return part
  const fields = Object.entries(part).map(([name, value]) => [name, fill(value, scope)] as const)
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined))
}

function each(part: unknown, scope: Scope): unknown[] {
  if (!isRecord(part) || part.for_each === undefined) {
    const filled = fill(part, scope)
    // One place that is a list, in a list: its items.
    return Array.isArray(filled) && typeof part === 'string' ? filled : [filled]
  }
  const { for_each, ...entry } = part
  const name = String(for_each)
  const items = look(name, scope)
  if (!Array.isArray(items)) throw new TemplateTrouble(`for_each names ${name}, which is no list.`)
  return items.map((item, at) => {
    const values = { ...scope.values, item, number: at + 1 }
    return fill(entry, { ...scope, values, known: [...scope.known, 'item', 'number'] })
  })
}

function fillText(text: string, scope: Scope): Value {
  const whole = ONE_PLACE.exec(text)?.[1]
  if (whole !== undefined) return look(whole, scope)
  return text.replace(PLACE, (_, name: string) => {
    const value = look(name, scope)
    return Array.isArray(value) ? value.join('\n') : String(value ?? '')
  })
}

function look(name: string, { values, used, known }: Scope): Value {
  if (!known.includes(name)) throw new TemplateTrouble(`{{${name}}} is no parameter of the template.`)
  used.add(name)
  return values[name]
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** `shard *` in `depends_on` becomes the names of all tasks that fit. */
function withDependencies(template: Template, body: unknown): unknown {
  if (!isRecord(body) || !Array.isArray(body.tasks)) return body
  const tasks: unknown[] = body.tasks
  const names = tasks.map((task, at) =>
    isRecord(task) && typeof task.name === 'string' ? task.name : `task-${at + 1}`,
  )
  return {
    ...body,
    tasks: tasks.map((task, at) => {
      if (!isRecord(task) || !Array.isArray(task.depends_on)) return task
      const depends_on = task.depends_on.flatMap((name: unknown) => {
        if (typeof name !== 'string' || !name.includes('*')) return [name]
        const shape = new RegExp(`^${name.split('*').map(plain).join('.*')}$`, 'u')
        const found = names.filter((other, index) => index !== at && shape.test(other))
        if (found.length === 0) throw new TemplateTrouble(`Template ${template.name}: no task is named like "${name}".`)
        return found
      })
      return { ...task, depends_on }
    }),
  }
}

const plain = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')

function checked<T extends z.ZodType>(template: Template, shape: T, body: unknown): z.output<T> {
  const parsed = shape.safeParse(body)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new TemplateTrouble(
    `Template ${template.name} with these values: ${issue?.path.join('.')}: ${issue?.message ?? 'not as it should be'}.`,
  )
}
