/** The OpenAPI 3.1 document, rendered from the route values: what is mounted and what is described cannot differ. */
import { z } from 'zod'
import packageFile from '../../package.json' with { type: 'json' }
import * as contract from '../contract/index.ts'
import { API_PREFIX, FAULTS, IDEMPOTENCY_KEY_CHARACTERS_MAX, type Route } from '../contract/index.ts'

export type JsonSchema = { [key: string]: unknown }
export type Operation = {
  operationId: string
  summary: string
  tags: string[]
  security?: Record<string, string[]>[]
  parameters?: {
    name: string
    in: 'path' | 'query' | 'header'
    required: boolean
    schema: JsonSchema
    description?: string
    style?: 'deepObject'
    explode?: boolean
  }[]
  requestBody?: { required: boolean; content: Record<string, { schema: JsonSchema; example?: unknown }> }
  responses: Record<string, unknown>
  deprecated?: boolean
  'x-callers': readonly string[]
  'x-role'?: string
  'x-people'?: true
}
export type OpenApi = {
  openapi: '3.1.1'
  info: {
    title: string
    version: string
    summary: string
    description: string
    license: { name: string; identifier: string }
  }
  servers: { url: string; description: string }[]
  tags: { name: string }[]
  paths: Record<string, Record<string, Operation>>
  components: {
    schemas: Record<string, JsonSchema>
    responses: Record<string, unknown>
    securitySchemes: Record<string, unknown>
  }
}

const EXAMPLES: Record<string, unknown> = {
  'runs.create': {
    prompt: 'Fix the failing test in src/parse.test.ts.',
    config: {
      harness: { type: 'claude' },
      environment: { repositories: [{ url: 'https://github.com/example/shop.git' }], setup_commands: ['npm ci'] },
    },
  },
  'access.sign_in': { api_key: `wk-1.${'0'.repeat(64)}` },
}

export const allRoutes = (): Route[] =>
  Object.values(contract.routes).flatMap((group) => Object.values(group) as Route[])

/** The document as it is kept in the repository. */
export const openApiFile = (): string => `${JSON.stringify(renderOpenApi(), null, 2)}\n`

export function renderOpenApi(): OpenApi {
  const routes = allRoutes()
  const schemas = schemaRenderer()
  const paths: OpenApi['paths'] = {}
  for (const route of routes) {
    for (const [at, path] of [route.path, ...(route.aliases ?? [])].entries()) {
      const operations = paths[API_PREFIX + path] ?? {}
      paths[API_PREFIX + path] = operations
      operations[route.method.toLowerCase()] = renderOperation(
        route,
        schemas,
        at === 0 ? '' : `_alias${at > 1 ? at : ''}`,
      )
    }
  }
  const problem = schemas.output(contract.Problem)
  return {
    openapi: '3.1.1',
    info: {
      title: 'Baton',
      version: packageFile.version,
      summary: 'A control plane for coding agents.',
      license: { name: 'MIT', identifier: 'MIT' },
      description:
        'Runs, their executions, transcripts and events. Paths and fields are those of the public Oz v1 API where it has them.',
    },
    servers: [{ url: '/', description: 'This server' }],
    tags: [...new Set(routes.map((route) => route.tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(schemas.components).sort(([a], [b]) => a.localeCompare(b))),
      responses: {
        Problem: {
          description: `What was wrong: \`type\` ends in one of ${Object.keys(FAULTS).join(', ')}.`,
          content: { 'application/problem+json': { schema: problem } },
        },
      },
      securitySchemes: {
        key: {
          type: 'http',
          scheme: 'bearer',
          description: 'An API key (`wk-1.…`), or the token that an execution was given (`bx-1.…`).',
        },
        session: {
          type: 'apiKey',
          in: 'cookie',
          name: contract.SESSION_COOKIE,
          description: "A browser session, for the server's own page.",
        },
      },
    },
  }
}

const ANY_OTHER_STATUS = 'default'
const REFUSED = { [ANY_OTHER_STATUS]: { $ref: '#/components/responses/Problem' } }

function renderOperation(route: Route, schemas: SchemaRenderer, suffix: string): Operation {
  const body = schemas.input(route.body)
  const has_body = route.method !== 'GET' && route.method !== 'DELETE' && !isEmpty(route.body)
  const parameters = [
    ...parametersOf(schemas, route.params, 'path'),
    ...parametersOf(schemas, route.query, 'query'),
    ...headersOf(route),
  ]
  const example = EXAMPLES[route.name]
  return {
    operationId: route.name.replaceAll('.', '_') + suffix,
    summary: route.summary,
    tags: [route.tag],
    ...(suffix === '' ? {} : { deprecated: true }),
    security: securityOf(route),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(has_body
      ? {
          requestBody: {
            required: !route.body.safeParse({}).success,
            content: { 'application/json': { schema: body, ...(example === undefined ? {} : { example }) } },
          },
        }
      : {}),
    responses: { [route.status]: renderAnswer(route, schemas), ...REFUSED },
    'x-callers': route.callers,
    ...(route.callers.includes('user') ? { 'x-role': route.role } : {}),
    ...(route.people ? { 'x-people': true as const } : {}),
  }
}

function renderAnswer(route: Route, schemas: SchemaRenderer): JsonSchema {
  if (route.status === 204) return { description: 'Done; there is no body.' }
  const schema = schemas.output(route.answer)
  if (route.produces === 'event-stream') {
    const description = "Server-sent events; the schema is that of one frame's data."
    return { description, content: { 'text/event-stream': { schema } } }
  }
  const content = { 'application/json': { schema } }
  if (route.status !== 302) return { description: 'Done.', content }
  const headers = { Location: { description: 'The same address.', schema: { type: 'string', format: 'uri' } } }
  return { description: 'Leads to the address that the body names, too.', headers, content }
}

function securityOf({ callers, anonymous }: Route): Record<string, never[]>[] {
  if (callers.length === 0) return []
  return [{ key: [] }, ...(callers.includes('user') ? [{ session: [] }] : []), ...(anonymous ? [{}] : [])]
}

function headersOf(route: Route): NonNullable<Operation['parameters']> {
  const said = (name: string, schema: JsonSchema, description: string) => ({
    name,
    in: 'header' as const,
    required: false,
    schema: { type: 'string', ...schema },
    description,
  })
  const headers: NonNullable<Operation['parameters']> = []
  if (route.idempotent) {
    const length = { minLength: 1, maxLength: IDEMPOTENCY_KEY_CHARACTERS_MAX }
    headers.push(said('Idempotency-Key', length, 'The same key and body answer the same for 24 hours.'))
  }
  if (route.name === 'runs.create') headers.push(said('X-Oz-Api-Source', {}, 'What the run is said to come from.'))
  if (route.produces === 'event-stream' && 'since' in shapeOf(route.query))
    headers.push(said('Last-Event-ID', {}, 'Resume after this id; counts more than `since`.'))
  return headers
}

function parametersOf(
  schemas: SchemaRenderer,
  schema: z.ZodType,
  place: 'path' | 'query',
): NonNullable<Operation['parameters']> {
  return Object.entries(shapeOf(schema)).map(([name, field]) => ({
    name,
    in: place,
    required: place === 'path' || !field.safeParse(undefined).success,
    // `metadata[key]=value`
    ...(unwrapped(field) instanceof z.ZodRecord ? { style: 'deepObject' as const, explode: true } : {}),
    schema: schemas.output(field),
  }))
}

const unwrapped = (schema: z.ZodType): unknown => (schema instanceof z.ZodOptional ? schema.unwrap() : schema)
const shapeOf = (schema: z.ZodType): Record<string, z.ZodType> =>
  schema instanceof z.ZodObject ? (schema.shape as Record<string, z.ZodType>) : {}
const isEmpty = (schema: z.ZodType): boolean => schema instanceof z.ZodObject && Object.keys(schema.shape).length === 0

type SchemaRenderer = ReturnType<typeof schemaRenderer>

/**
 * Renders schemas with the contract's exports as components. A schema whose input differs from its output (defaults,
 * other spellings) appears twice, as `Name` and `NameInput`.
 */
function schemaRenderer() {
  const names = new Map<z.ZodType, string>()
  for (const [name, value] of Object.entries(contract))
    if (value instanceof z.ZodType && name !== 'Nothing') names.set(value, name)
  const registry = z.registry<{ id: string }>()
  for (const [schema, id] of names) registry.add(schema, { id })
  const components: Record<string, JsonSchema> = {}

  function render(schema: z.ZodType, io: 'input' | 'output'): JsonSchema {
    const rendered = z.toJSONSchema(schema, {
      io,
      metadata: registry,
      unrepresentable: 'any',
      target: 'draft-2020-12',
    }) as JsonSchema
    const {
      $schema: _,
      $defs,
      id,
      ...rest
    } = rendered as { $schema?: string; $defs?: Record<string, JsonSchema>; id?: string } & JsonSchema
    const defs = { ...$defs, ...(id === undefined ? {} : { [id]: rest }) }
    const renamed = new Map(Object.keys(defs).map((name) => [name, nameFor(name, io)]))
    for (const [name, definition] of Object.entries(defs)) {
      const { id: _id, ...bare } = definition
      components[renamed.get(name) ?? name] = point(bare, renamed) as JsonSchema
    }
    return (id === undefined ? point(rest, renamed) : { $ref: `#/components/schemas/${renamed.get(id)}` }) as JsonSchema
  }

  function nameFor(name: string, io: 'input' | 'output'): string {
    if (io === 'output') return name
    const schema = [...names].find(([, known]) => known === name)?.[0]
    if (!schema) return name
    const same = (['input', 'output'] as const).map((way) =>
      JSON.stringify(z.toJSONSchema(schema, { io: way, unrepresentable: 'any' }), stripDirection),
    )
    return same[0] === same[1] ? name : `${name}Input`
  }

  return {
    components,
    input: (schema: z.ZodType) => render(schema, 'input'),
    output: (schema: z.ZodType) => render(schema, 'output'),
  }
}

/** Objects of an answer say `additionalProperties: false`, which newer servers do not keep to. */
const stripDirection = (key: string, value: unknown): unknown =>
  key === 'additionalProperties' && value === false ? undefined : value

function point(value: unknown, renamed: Map<string, string>): unknown {
  if (Array.isArray(value)) return value.map((one) => point(one, renamed))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).flatMap(([key, one]): [string, unknown][] => {
    if (key === 'additionalProperties' && one === false) return []
    if (key === '$ref' && typeof one === 'string') {
      const name = one.replace('#/$defs/', '')
      return [[key, `#/components/schemas/${renamed.get(name) ?? name}`]]
    }
    return [[key, point(one, renamed)]]
  })
  return Object.fromEntries(entries)
}
