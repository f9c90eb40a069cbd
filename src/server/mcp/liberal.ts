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

export function listOf(value: unknown): unknown {
  return value === undefined || Array.isArray(value) ? value : [value]
}

/** Without what is not there, so that defaults apply. */
export function present(from: Loose): Loose {
  return Object.fromEntries(Object.entries(from).filter(([, value]) => value !== undefined))
}

/** A schema that parses as `taken` does and is described to models as `shown`. */
export function shownAs<T>(shown: z.ZodType, taken: z.ZodType<T>): StandardSchemaWithJSON<unknown, T> {
  const { validate } = taken['~standard']
  return { '~standard': { version: 1, vendor: 'zod', validate, jsonSchema: shown['~standard'].jsonSchema } }
}
