/**
 * Every route of the contract as a row of a table, with what it takes to ask it: a path that names something, and a
 * body that it accepts. Both are made from the contract where they can be, so that a new route is in the table by
 * itself; where they cannot, the table says what to add, and the test fails until it is there.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { z } from 'zod'
import { API_PREFIX, type Route, routes } from '../../src/contract/index.ts'
import { openKeyring } from '../../src/engine/keyring.ts'
import { sendFile } from './files.ts'
import type { House } from './house.ts'
import type { Piece } from './worker.ts'

export const table: Route[] = Object.values(routes).flatMap((group) => Object.values(group) as Route[])
export const guarded = table.filter((route) => route.callers.length > 0)
export const withBody = table.filter((route) => route.method !== 'GET' && route.method !== 'DELETE')
export const named = (rows: Route[]) => rows.map((route) => [route.name, route] as const)

/** Routes that take no credentials, each with the reason. */
export const OPEN: Record<string, string> = {
  'access.health': 'tells whether the server works, and nothing else',
  'access.sign_in': 'its body is the credential',
  'teams.join': 'its body is the credential of who is new',
  'teams.restore': 'its body is the credential: the team and its keys are closed',
  'conversations.session': 'tells who follows a link where it leads, and nothing else',
  'conversations.ofSession': 'tells who follows a link where it leads, and nothing else',
}

/** What one team has: what the paths name. */
export type Stage = {
  house: House
  client: House['client']
  /** At work, with an entry and a message. */
  piece: Piece
  message_id: string
  /** Whose everything is. */
  scope: { team?: false }
}

type Fixture = {
  /** One that the team has. Absent: a part of something else, which is nothing by itself. */
  make?: (stage: Stage) => Promise<string> | string
  /** Another one of the same form, which nobody has. */
  unknown: () => string
  /** It is of the team, and never one person's alone. */
  is_shared?: true
}

const uid = () => randomUUID().replaceAll('-', '').slice(0, 22)

/** By the name of a path's parameter, or by route and name where one name means different things. */
export const FIXTURES: Record<string, Fixture> = {
  run_id: { make: ({ piece }) => piece.run_id, unknown: randomUUID },
  execution_id: { make: ({ piece }) => piece.execution_id, unknown: randomUUID },
  message_id: { make: ({ message_id }) => message_id, unknown: randomUUID },
  environment_uid: {
    make: async ({ client, scope }) => (await client.environments.create({ body: { name: 'routes', ...scope } })).uid,
    unknown: uid,
  },
  identity_uid: {
    make: async ({ client, scope }) => (await client.identities.create({ body: { name: 'routes', ...scope } })).uid,
    unknown: uid,
  },
  batch_id: {
    make: async ({ client, scope }) => {
      const tasks = [{ prompt: 'routes', config: { worker_host: 'nobody' } }]
      return (await client.batches.create({ body: { tasks, ...scope } })).batch_id
    },
    unknown: randomUUID,
  },
  store_uid: {
    make: async ({ client, scope }) => (await client.memory.createStore({ body: { ...scope } })).uid,
    unknown: uid,
  },
  // A part of its store, as a version is of a plan.
  memory_id: { unknown: randomUUID },
  secret_uid: {
    make: async ({ client, scope }) =>
      (await client.secrets.create({ body: { name: 'ROUTES', value: 'routes', ...scope } })).uid,
    unknown: uid,
  },
  schedule_id: {
    make: async ({ client, scope }) => {
      const body = { name: 'routes', cron_schedule: '0 3 * * *', prompt: 'routes', enabled: false, ...scope }
      return (await client.schedules.create({ body })).id
    },
    unknown: randomUUID,
  },
  artifact_uid: {
    make: async ({ client, piece }) =>
      (await sendFile(client, { run_id: piece.run_id, filepath: 'x' }, 'x')).artifact_uid,
    unknown: randomUUID,
  },
  upload_id: {
    make: async ({ client, piece }) =>
      (await client.artifacts.upload({ body: { run_id: piece.run_id, filepath: 'x' } })).upload_id,
    unknown: randomUUID,
  },
  team_id: { make: ({ house }) => house.owner.team_id, unknown: randomUUID, is_shared: true },
  user_id: {
    make: async ({ house }) => (await house.addMember('routes', 'member')).caller.user_id,
    unknown: randomUUID,
    is_shared: true,
  },
  invite_id: {
    make: async ({ client }) => (await client.teams.invite({ body: {} })).invite_id,
    unknown: randomUUID,
    is_shared: true,
  },
  api_key_uid: {
    make: async ({ client }) => (await client.apiKeys.create({ body: { name: 'routes', expires_at: null } })).key.uid,
    unknown: randomUUID,
    is_shared: true,
  },
  // That of a run that began it has the run's id.
  conversation_id: { make: ({ piece }) => piece.run_id, unknown: randomUUID },
  session_id: { unknown: randomUUID },
  position: { unknown: () => '000001.000000001' },
  version: { unknown: () => '1' },
}

const FILES = { files: [{ filename: 'x', mime_type: 'text/plain' }] }

/** Bodies that the schema alone does not tell. */
const BODIES: Record<string, unknown> = {
  'executions.finish': { outcome: { outcome: 'CANCELLED' }, entries: 0 },
  'artifacts.upload': { run_id: randomUUID(), filepath: 'x' },
  'batches.update': { concurrency: 1 },
  'followUps.create': { message: 'x' },
  // Else whoever asks is gone.
  'teams.leave': { dry_run: true },
  'schedules.create': { name: 'x', cron_schedule: '0 3 * * *', prompt: 'x', enabled: false },
  'schedules.replace': { name: 'x', cron_schedule: '0 3 * * *', prompt: 'x', enabled: false },
  'attachments.prepare': FILES,
  'handoff.upload_snapshot': FILES,
  'harness_support.upload_snapshot': FILES,
}

export const paramsOf = ({ path }: Route): string[] => [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '')

/** Parameters of a route's path that name what may be one person's alone. */
export const personalOf = (route: Route): string[] =>
  paramsOf(route).filter((name) => {
    const { make, is_shared } = FIXTURES[`${route.name} ${name}`] ?? FIXTURES[name] ?? {}
    return make !== undefined && !is_shared
  })

export function fixtureOf(route: Route, name: string): Fixture {
  const fixture = FIXTURES[`${route.name} ${name}`] ?? FIXTURES[name]
  if (fixture) return fixture
  throw new Error(
    `Route ${route.name} has {${name}} in its path, which the tests of all routes cannot fill. Add ${name} to FIXTURES ` +
      'in test/house/route-table.ts: how a team gets one, and what one looks like that nobody has.',
  )
}

/** A body that the route accepts, if what it names is there. */
export function bodyOf(route: Route): unknown {
  const body = BODIES[route.name] ?? sampleOf(z.toJSONSchema(route.body, { io: 'input', unrepresentable: 'any' }))
  const parsed = route.body.safeParse(body)
  if (parsed.success) return body
  throw new Error(
    `The body that is made from the schema of ${route.name}, ${JSON.stringify(body)}, is not accepted (` +
      `${parsed.error.issues[0]?.message}). Add one to BODIES in test/house/route-table.ts.`,
  )
}

export type JsonSchema = z.core.JSONSchema.BaseSchema

/** What is in the schema's way is left to `BODIES`. */
export function sampleOf(schema: JsonSchema): unknown {
  const option = schema.oneOf?.[0] ?? schema.anyOf?.[0]
  if (option !== undefined) return sampleOf(option)
  if (schema.const !== undefined) return schema.const
  if (schema.enum) return schema.enum[0]
  switch (schema.type) {
    case 'object':
      return Object.fromEntries(
        (schema.required ?? []).map((name) => [name, sampleOf(propertyOf(schema, name) ?? {})] as const),
      )
    case 'array':
      return Array.from({ length: schema.minItems ?? 0 }, () => sampleOf(itemsOf(schema)))
    case 'integer':
    case 'number':
      return Math.max(schema.minimum ?? 1, 1)
    case 'boolean':
      return true
    case 'null':
      return null
    default:
      return sampleText(schema)
  }
}

function sampleText({ format, minLength = 1 }: JsonSchema): string {
  if (format === 'uuid') return randomUUID()
  if (format === 'date-time') return new Date(0).toISOString()
  if (format === 'uri') return 'https://example.test/x'
  return 'x'.repeat(minLength)
}

export const propertyOf = ({ properties }: JsonSchema, name: string): JsonSchema | undefined => {
  const property = properties?.[name]
  return typeof property === 'object' ? property : undefined
}

const itemsOf = ({ items }: JsonSchema): JsonSchema =>
  typeof items === 'object' && !Array.isArray(items) ? (items as JsonSchema) : {}

/** Fields at the top of a query or body that name something by a UUID, and whether they take several. */
export function namesIn(schema: z.ZodType): { name: string; several: boolean }[] {
  const rendered = z.toJSONSchema(schema, { io: 'output', unrepresentable: 'any' })
  return Object.keys(rendered.properties ?? {}).flatMap((name): { name: string; several: boolean }[] => {
    const property = propertyOf(rendered, name) ?? {}
    const forms = [property, ...((property.anyOf ?? []) as JsonSchema[])]
    if (forms.some(({ format }) => format === 'uuid')) return [{ name, several: false }]
    return forms.some((form) => form.type === 'array' && itemsOf(form).format === 'uuid')
      ? [{ name, several: true }]
      : []
  })
}

export type Parts = {
  /** Null: none. */
  key: string | null
  values?: Record<string, string>
  path?: string
  query?: string
  body?: string
  headers?: Record<string, string>
}

export function ask(url: string, route: Route, parts: Parts): Promise<Response> {
  const { key, values = {}, body } = parts
  const path = parts.path ?? route.path.replace(/\{(\w+)\}/g, (_, name: string) => values[name] ?? name)
  return fetch(`${url}${API_PREFIX}${path}${parts.query === undefined ? '' : `?${parts.query}`}`, {
    method: route.method,
    redirect: 'manual',
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...parts.headers,
    },
    ...(body === undefined ? {} : { body }),
  })
}

/** A house with a stage needs one, for its secret. */
export const newKeyring = () => openKeyring({ given: [{ text: randomBytes(32).toString('base64'), from: 'the test' }] })

/** A run at work with whatever paths name, of the team that `client` speaks for; with a scope, this person's alone. */
export async function openStage(
  house: House,
  team: { api_key: string; client: House['client'] },
  scope: Stage['scope'] = {},
): Promise<Stage> {
  const { client, api_key } = team
  const worker_host = `stage-${randomUUID()}`
  const worker = await house.worker({ api_key, worker_host, capacity: 100 })
  const { run_id } = await client.runs.create({ body: { prompt: 'routes', config: { worker_host }, ...scope } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  await piece.append({ kind: 'text', text: 'hello' })
  const { message_ids } = await client.messages.send({ body: { to: [run_id], subject: 'routes', body: 'hello' } })
  return { house, client, piece, message_id: message_ids[0] ?? '', scope }
}

/** A value for every fixture, so that each is made once. */
export async function fill(stage: Stage): Promise<Record<string, string>> {
  const values: Record<string, string> = {}
  for (const [name, { make, unknown, is_shared }] of Object.entries(FIXTURES)) {
    const skips = is_shared && stage.scope.team === false
    values[name] = (skips ? undefined : await make?.(stage)) ?? unknown()
  }
  return values
}

/** The values of one route's path. */
export const valuesFor = (route: Route, values: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    paramsOf(route).map((name) => {
      fixtureOf(route, name)
      return [name, values[`${route.name} ${name}`] ?? values[name] ?? '']
    }),
  )

export const unknownFor = (route: Route): Record<string, string> =>
  Object.fromEntries(paramsOf(route).map((name) => [name, fixtureOf(route, name).unknown()]))
