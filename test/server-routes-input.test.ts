/** What every route of the contract says to what is malformed or too large: a new one is in these tables by itself. */
import { request } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { API_PREFIX, Problem, REQUEST_BYTES_MAX, type Route, routes } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'
import {
  ask as askAt,
  bodyOf,
  fill,
  type JsonSchema,
  named,
  newKeyring,
  openStage,
  type Parts,
  propertyOf,
  table,
  valuesFor,
  withBody,
} from './house/route-table.ts'

let house: House
let values: Record<string, string>
let execution_token: string

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 10_000, keyring: await newKeyring() })
  const stage = await openStage(house, house)
  values = await fill(stage)
  execution_token = stage.piece.assignment.env_vars.WARP_API_KEY ?? ''
  // What is sent here to a run may cancel it; the run whose token is used stays at work.
  const spare = await house.client.runs.create({ body: { prompt: 'spare', config: { worker_host: 'nobody' } } })
  values.run_id = spare.run_id
})
afterAll(() => house.close())

const keyFor = ({ callers }: Route) =>
  callers.length === 0 ? null : callers.includes('user') ? house.api_key : execution_token

const ask = (route: Route, parts: Partial<Parts> = {}) =>
  askAt(house.url, route, { key: keyFor(route), values: valuesFor(route, values), ...parts })

async function problemOf(response: Response): Promise<Problem> {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  const problem = Problem.parse(await response.json())
  expect(problem.status).toBe(response.status)
  return problem
}

const schemaOf = (schema: z.ZodType): JsonSchema => z.toJSONSchema(schema, { io: 'output', unrepresentable: 'any' })

/** Something that is of no type that the schema takes; undefined where anything is taken. */
function misfit(schema: JsonSchema): unknown {
  const forms = [schema, ...((schema.anyOf ?? schema.oneOf ?? []) as JsonSchema[])]
  const types = forms.flatMap(
    ({ type, enum: all, const: one }) => type ?? (all ? typeof all[0] : one === undefined ? [] : typeof one),
  )
  if (types.length === 0) return undefined
  return [
    { type: 'boolean', value: true },
    { type: 'object', value: { odd: { odd: 1 } } },
  ].find(({ type }) => !types.includes(type as never))?.value
}

/** Text that a query's field does not understand; undefined where it takes any. */
function nonsense(schema: JsonSchema): string | undefined {
  const { type, format, items } = schema
  if (type === 'array') return typeof items === 'object' ? nonsense(items as JsonSchema) : undefined
  const is_free = type === undefined || (type === 'string' && format === undefined && schema.enum === undefined)
  return is_free ? undefined : 'no such thing'
}

const fieldsOf = (schema: z.ZodType): [string, JsonSchema][] => {
  const rendered = schemaOf(schema)
  return Object.keys(rendered.properties ?? {}).map((name) => [name, propertyOf(rendered, name) ?? {}])
}

/** Only its length is said; what refuses it for that never reads it. */
function announce(route: Route, bytes: number): Promise<{ status: number | undefined; text: string }> {
  const path = route.path.replace(/\{(\w+)\}/g, (_, name: string) => valuesFor(route, values)[name] ?? name)
  const key = keyFor(route)
  const headers = {
    'content-type': 'application/json',
    'content-length': bytes,
    ...(key === null ? {} : { authorization: `Bearer ${key}` }),
  }
  return new Promise((resolve, reject) => {
    const asked = request(house.url + API_PREFIX + path, { method: route.method, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      response.on('end', () => {
        asked.destroy()
        resolve({ status: response.statusCode, text })
      })
    })
    asked.on('error', reject)
    asked.write('{')
  })
}

describe.each(named(withBody))('the body of %s', (_, route) => {
  test('that is no JSON is refused with the place', async () => {
    const response = await ask(route, { body: '{"prompt": "x",}' })
    expect(response.status).toBe(400)
    const problem = await problemOf(response)
    expect(problem.type).toMatch(/invalid_request$/)
    expect(problem.error).toMatch(/not valid JSON.*(position|ends too early)/)
  })

  test('of another type of content is refused', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
      const response = await ask(route, { body: '{}', headers: { 'content-type': type } })
      expect(response.status, type).toBe(415)
      await problemOf(response)
    }
  })

  test('that is compressed is refused', async () => {
    const response = await ask(route, { body: '{}', headers: { 'content-encoding': 'gzip' } })
    expect(response.status).toBe(415)
  })

  test('that is too large is refused before it is read', async () => {
    const most = route.body_bytes_max ?? REQUEST_BYTES_MAX
    const { status, text } = await announce(route, most + 1)
    expect(status).toBe(413)
    expect(Problem.parse(JSON.parse(text)).error).toContain(String(most))
  })

  test('that nests too deep is refused', async () => {
    const deep = Math.min(100_000, Math.floor((route.body_bytes_max ?? REQUEST_BYTES_MAX) / 2) - 10)
    const response = await ask(route, { body: `{"x":${'['.repeat(deep)}${']'.repeat(deep)}}` })
    expect(response.status).toBe(400)
    expect((await problemOf(response)).error).toMatch(/nested deeper/)
  })

  test('of a wrong shape never ends in a bug', async () => {
    for (const body of [
      'null',
      '[]',
      '"text"',
      '7',
      'true',
      '{"__proto__":{"x":1}}',
      '{"entries":{},"deltas":{},"prompt":[],"outcome":5,"api_key":5}',
    ]) {
      const response = await ask(route, { body })
      expect(response.status, `${body}: ${await response.clone().text()}`).toBeLessThan(500)
    }
  })

  const fields = fieldsOf(route.body).flatMap(([name, schema]) => {
    const value = misfit(schema)
    return value === undefined ? [] : [{ name, value }]
  })
  test.runIf(fields.length > 0)('with a field of a wrong type is refused with its pointer', async () => {
    const well = bodyOf(route) as object
    for (const { name, value } of fields) {
      const response = await ask(route, { body: JSON.stringify({ ...well, [name]: value }) })
      expect(response.status, `${name}: ${await response.clone().text()}`).toBe(400)
      const pointers = (await problemOf(response)).errors?.map(({ pointer }) => pointer) ?? []
      expect(
        pointers.some((pointer) => pointer === `/${name}` || pointer.startsWith(`/${name}/`)),
        name,
      ).toBe(true)
    }
  })
})

const asking = table.filter((route) => fieldsOf(route.query).length > 0)

describe.each(named(asking))('the query of %s', (_, route) => {
  test('with a value that is not understood is refused by name', async () => {
    for (const [name, schema] of fieldsOf(route.query)) {
      const given = nonsense(schema)
      if (given === undefined) continue
      const response = await ask(route, { query: `${name}=${encodeURIComponent(given)}` })
      expect(response.status, name).toBe(400)
      expect((await problemOf(response)).error).toContain(`\`${name}`)
    }
  })

  test('with a number that is not written in digits is refused by name', async () => {
    const numbers = fieldsOf(route.query).filter(([, { type }]) => type === 'integer')
    for (const [name] of numbers)
      for (const given of ['0x10', '1e1', '', '%205', '5.0', '%2B5', '9'.repeat(16)]) {
        const response = await ask(route, { query: `${name}=${given}` })
        expect(response.status, `${name}=${given}`).toBe(400)
        expect((await problemOf(response)).error).toContain(`\`${name}\``)
      }
  })

  test('with brackets that mean nothing is refused, not passed over', async () => {
    for (const [name] of fieldsOf(route.query))
      for (const odd of ['[a][b]', '[a', '[a]b', '[[a]]']) {
        const response = await ask(route, { query: `${name}${odd}=1` })
        expect(response.status, `${name}${odd}`).toBe(400)
        expect((await problemOf(response)).error).toContain(`\`${name}${odd}\` is not valid`)
      }
  })

  test('with a NUL character is refused by name', async () => {
    for (const [name] of fieldsOf(route.query)) {
      const response = await ask(route, { query: `${name}=a%00b` })
      expect(response.status, name).toBe(400)
      expect((await problemOf(response)).error).toContain(`\`${name}\``)
    }
  })
})

test('an address that is too long is refused, not a bug', async () => {
  const response = await fetch(`${house.url}${API_PREFIX}/agent/runs?q=${'x'.repeat(40_000)}`, {
    headers: { authorization: `Bearer ${house.api_key}` },
  })
  expect(response.status).toBe(431)
})

test('a wrong field is named with its pointer and a sentence', async () => {
  const response = await ask(routes.runs.create, {
    body: JSON.stringify({ prompt: 7, config: { environment: { repositories: [{ url: '' }] } } }),
  })
  expect(response.status).toBe(400)
  const problem = await problemOf(response)
  expect(problem.error).toMatch(/^`prompt` is not valid: .+ \(and 1 more\)\.$/)
  expect(problem.errors?.map((error) => error.pointer)).toEqual(['/prompt', '/config/environment/repositories/0/url'])
})
