/**
 * A route as a value: the server mounts it, the SDK calls it, the OpenAPI document is rendered from it.
 *
 * `path` is below `/api/v1`; `{name}` stands for a parameter of `params`. `callers` is who may ask at all:
 * an empty list means that no credentials are needed.
 */
import { z } from 'zod'
import type { Role } from './roles.ts'

export const CALLERS = ['user', 'execution', 'worker'] as const
export type CallerKind = (typeof CALLERS)[number]

export const API_PREFIX = '/api/v1'

export type Route<
  Params extends z.ZodType = z.ZodType,
  Query extends z.ZodType = z.ZodType,
  Body extends z.ZodType = z.ZodType,
  Answer extends z.ZodType = z.ZodType,
> = {
  name: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  path: string
  /** Older or shorter spellings that answer the same. */
  aliases?: string[]
  summary: string
  tag: string
  callers: readonly CallerKind[]
  /** May also be asked without credentials, of what is for all. */
  anonymous: boolean
  /** The least role that a person needs. Where a route does not say it: to read, viewer; else member. */
  role: Role
  /** Only people ask this, or their programs: the key of an agent is refused. */
  people: boolean
  /** An execution may ask it also when it has ended. */
  after_end: boolean
  /** With a header `Idempotency-Key` the same answers the same for 24 hours, with one effect. */
  idempotent: boolean
  params: Params
  query: Query
  body: Body
  answer: Answer
  /** With 302 the answer's address is in `Location`, too. */
  status: 200 | 201 | 204 | 302
  /** What the answer is sent as; `event-stream` answers are described by the schema of one frame. */
  produces: 'json' | 'event-stream'
  /** Largest accepted body, in bytes, where it differs from `REQUEST_BYTES_MAX`. */
  body_bytes_max?: number
}

/** Longest `Idempotency-Key`, in characters. */
export const IDEMPOTENCY_KEY_CHARACTERS_MAX = 255

/** Largest accepted request body, in bytes. */
export const REQUEST_BYTES_MAX = 4 * 1024 * 1024

export const Nothing = z.object({})

type Parts<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, A extends z.ZodType> = {
  name: string
  method: Route['method']
  path: string
  aliases?: string[]
  summary: string
  tag: string
  callers: readonly CallerKind[]
  anonymous?: boolean
  role?: Role
  people?: boolean
  after_end?: boolean
  idempotent?: boolean
  params?: P
  query?: Q
  body?: B
  answer: A
  status?: Route['status']
  produces?: Route['produces']
  body_bytes_max?: number
}

export function route<
  P extends z.ZodType = typeof Nothing,
  Q extends z.ZodType = typeof Nothing,
  B extends z.ZodType = typeof Nothing,
  A extends z.ZodType = typeof Nothing,
>(parts: Parts<P, Q, B, A>): Route<P, Q, B, A> {
  return {
    ...parts,
    anonymous: parts.anonymous ?? false,
    role: parts.role ?? (parts.method === 'GET' ? 'viewer' : 'member'),
    people: parts.people ?? false,
    after_end: parts.after_end ?? parts.tag === 'Runner',
    idempotent: parts.idempotent ?? false,
    params: parts.params ?? (Nothing as unknown as P),
    query: parts.query ?? (Nothing as unknown as Q),
    body: parts.body ?? (Nothing as unknown as B),
    status: parts.status ?? 200,
    produces: parts.produces ?? 'json',
  }
}

/** What a caller passes: the schema's input side, so that defaults may be left out. */
export type Asked<R extends Route> = {
  params: z.input<R['params']>
  query: z.input<R['query']>
  body: z.input<R['body']>
}
export type Answered<R extends Route> = z.output<R['answer']>

/** A query value that clients repeat (`state=A&state=B`), spell with brackets (`run_ids[]=a`) or give once. */
export function repeated<T extends z.ZodType>(item: T) {
  return z.preprocess(
    (value) => (value === undefined || Array.isArray(value) ? value : [value]),
    z.array(item).optional(),
  )
}

/** `true` and `false` as a query spells them. */
export const QueryBoolean = z.preprocess(
  (v) => (v === 'true' || v === '1' ? true : v === 'false' || v === '0' ? false : v),
  z.boolean(),
)

/** What is said of anything else, too large or too small. */
const wholeFrom = (least: number, most: number): string =>
  `A whole number ${most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`}, in digits.`

/** A number as a query or a path spells it: in digits. What else JavaScript would take for one is refused. */
export function queryNumber(least: number, most: number = Number.MAX_SAFE_INTEGER) {
  return z.preprocess(
    (text) => (typeof text === 'string' && /^-?\d{1,16}$/.test(text) ? Number(text) : text),
    z.number(wholeFrom(least, most)).int().min(least).max(most),
  )
}
