/**
 * Models call tools nearly right: an object as JSON text, one where a list is meant, another name of the same
 * thing. What is meant beyond doubt is taken; what a tool's schema says is still only the one right way.
 */
import type { StandardSchemaWithJSON } from '@modelcontextprotocol/server'
import type { z } from 'zod'

export type Loose = Record<string, unknown>

export const isLoose = (value: unknown): value is Loose =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** JSON text of an object or list as what it says; null as nothing. */
export function unpack(value: unknown): unknown {
  if (value === null) return undefined
  if (typeof value !== 'string' || !/^\s*[[{]/.test(value)) return value
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}

/** The first of these names under which something was said. */
export function pick(from: Loose, ...names: string[]): unknown {
  for (const name of names) {
    const value = unpack(from[name])
    if (value !== undefined && value !== '') return value
  }
  return undefined
}

/** Yes and no as JSON has them, also where they came as text. */
export function truth(value: unknown): unknown {
  if (typeof value !== 'string') return value
  const said = value.trim().toLowerCase()
  return said === 'true' ? true : said === 'false' ? false : value
}

export function listOf(value: unknown): unknown {
  return value === undefined || Array.isArray(value) ? value : [value]
}

/** Without what is not there, so that defaults apply. */
export function present(from: Loose): Loose {
  return Object.fromEntries(Object.entries(from).filter(([, value]) => value !== undefined))
}

/** What a tool's schema is to whoever speaks MCP. */
export type ToolSchema<S extends z.ZodType> = StandardSchemaWithJSON<z.input<S>, z.output<S>>

/**
 * A schema that parses as `taken` does and is described to models as `shown`. Made once for all requests: its
 * description is rendered when it is first asked for, which takes longer than most calls.
 */
export function shownAs<S extends z.ZodType>(shown: z.ZodType, taken: S): ToolSchema<S> {
  const { validate } = taken['~standard']
  const { input, output } = shown['~standard'].jsonSchema
  return {
    '~standard': { version: 1, vendor: 'zod', validate, jsonSchema: { input: kept(input), output: kept(output) } },
  }
}

export const shown = <S extends z.ZodType>(schema: S): ToolSchema<S> => shownAs(schema, schema)

type Render = StandardSchemaWithJSON['~standard']['jsonSchema']['input']

function kept(render: Render): Render {
  const rendered = new Map<string, ReturnType<Render>>()
  return (options) => {
    const known = rendered.get(options.target) ?? render(options)
    rendered.set(options.target, known)
    return known
  }
}
