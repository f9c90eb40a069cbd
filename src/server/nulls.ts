/**
 * Null for what may be absent: clients of Oz are used to a server that takes the one for the other. Where null says
 * something of its own, its schema knows it; in a list, and as a value under a key that anybody may choose, it is
 * something, and nothing that can be left out.
 */
import { z } from 'zod'

export function withoutNulls(schema: z.ZodType, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const plain = unwrapped(schema)
  if (Array.isArray(value))
    return plain instanceof z.ZodArray ? value.map((item) => withoutNulls(plain.element as z.ZodType, item)) : value
  // Of several forms, the one that it has without its nulls.
  if (plain instanceof z.ZodUnion)
    return (
      plain.options
        .map((form) => withoutNulls(form as z.ZodType, value))
        .find((filled, at) => (plain.options[at] as z.ZodType).safeParse(filled).success) ?? value
    )
  const members = Object.entries(value)
  if (plain instanceof z.ZodRecord)
    return Object.fromEntries(members.map(([key, one]) => [key, withoutNulls(plain.valueType as z.ZodType, one)]))
  if (!(plain instanceof z.ZodObject)) return value
  const shape = plain.shape as Record<string, z.ZodType>
  return Object.fromEntries(
    members.flatMap(([name, member]): [string, unknown][] => {
      const field = Object.hasOwn(shape, name) ? shape[name] : undefined
      if (field === undefined) return [[name, member]]
      return member === null && isAbsentOnly(field) ? [] : [[name, withoutNulls(field, member)]]
    }),
  )
}

const isAbsentOnly = (field: z.ZodType): boolean => field.safeParse(undefined).success && !field.safeParse(null).success

/** What it takes where it takes something. */
function unwrapped(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault)
    return unwrapped(schema.unwrap() as z.ZodType)
  if (schema instanceof z.ZodPipe)
    return unwrapped((schema.in instanceof z.ZodTransform ? schema.out : schema.in) as z.ZodType)
  return schema
}
