/** What describes the API: the committed document, its validity, its truth, the reference page. */
import { readFile } from 'node:fs/promises'
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { API_PREFIX, type Route } from '../src/contract/index.ts'
import { allRoutes, openApiFile, renderOpenApi } from '../src/server/openapi.ts'
import { describedBy } from './house/described.ts'
import { type House, startHouse } from './house/house.ts'
import {
  ask,
  bodyOf,
  fill,
  named,
  newKeyring,
  openStage,
  type Stage,
  table,
  valuesFor,
  withBody,
} from './house/route-table.ts'

let house: House
beforeAll(async () => {
  house = await startHouse({ keyring: await newKeyring(), max_concurrent_runs: 10_000 })
})
afterAll(() => house.close())

test('openapi.json is what the contract says; `node scripts/generate-openapi.ts` writes it', async () => {
  const committed = await readFile(new URL('../openapi.json', import.meta.url), 'utf8')
  expect(committed === openApiFile(), 'openapi.json is out of date').toBe(true)
})

test('the document is valid OpenAPI 3.1, and every reference in it leads somewhere', async () => {
  const document = renderOpenApi()
  const checked = await new Validator().validate(JSON.parse(JSON.stringify(document)))
  expect(checked.errors ?? []).toEqual([])
  expect(checked.valid).toBe(true)
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map((match) => match[1] ?? '')
  expect(references.length).toBeGreaterThan(50)
  for (const reference of references) {
    const found = reference
      .split('/')
      .reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], document)
    expect(found, reference).toBeDefined()
  }
})

test('every route is described once under a name of its own, with who may call it', () => {
  const operations = Object.values(renderOpenApi().paths).flatMap((methods) => Object.values(methods))
  const ids = operations.map((operation) => operation.operationId)
  expect(new Set(ids).size).toBe(ids.length)
  for (const route of allRoutes()) {
    const operation = operations.find((one) => one.operationId === route.name.replaceAll('.', '_'))
    expect(operation?.summary, route.name).toBe(route.summary)
    expect(operation?.['x-callers']).toEqual(route.callers)
    expect(operation?.['x-role']).toBe(route.callers.includes('user') ? route.role : undefined)
    expect(operation?.['x-people'] ?? false).toBe(route.people)
    const takes_key = operation?.parameters?.some(({ name }) => name === 'Idempotency-Key') ?? false
    expect(takes_key, route.name).toBe(route.idempotent)
  }
})

test('the server hands out the document and a reference page that needs nothing from elsewhere', async () => {
  const document = await fetch(`${house.url}/openapi.json`)
  expect(await document.json()).toEqual(JSON.parse(openApiFile()))
  const page = await fetch(`${house.url}/reference`)
  const html = await page.text()
  expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
  expect(html).not.toMatch(/<script|style=|src="http|href="http/)
  for (const route of allRoutes()) expect(html).toContain(route.path)
  expect((await fetch(`${house.url}/reference.css`)).headers.get('content-type')).toMatch(/^text\/css/)
})

/** What is not there on the stage. */
const ABSENT = ['executions.session', 'conversations.block_snapshot', 'harness_support.transcript']

/** Where what the table sends is refused. */
const BODIES: Record<string, unknown> = {
  'runs.create': { prompt: 'x', config: { worker_host: 'nobody' } },
  'executions.create': { prompt: 'x' },
  'apiKeys.create': { name: 'x', expires_at: null },
  'secrets.create': { name: 'DESCRIBED', value: 'described' },
}

/** What ends something comes after what reads it, and what ends the execution that is at work last. */
const STEPS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
const ENDS = ['harness_support.finish_task', 'runs.cancel', 'executions.finish', 'harness_support.report_shutdown']
const stepOf = ({ name, method }: Route) => STEPS.indexOf(method) + 10 * (ENDS.indexOf(name) + 1)
const steps = table.toSorted((a, b) => stepOf(a) - stepOf(b))

describe('an answer is as described, and nothing beside', () => {
  let stage: Stage
  let values: Record<string, string>
  let described: ReturnType<typeof describedBy>

  beforeAll(async () => {
    stage = await openStage(house, house)
    values = await fill(stage)
    // A part of its store, for which the table has no way to make it.
    const params = { store_uid: values.store_uid ?? '' }
    const body = { content: 'x', source: 'MANUAL', reason: 'x' } as const
    values['memory.versions memory_id'] = (await house.client.memory.create({ params, body })).memory_id
    described = describedBy(JSON.parse(openApiFile()))
  })

  test.each(named(steps))('of %s', async (name, route) => {
    const user = route.callers.includes('user') ? house.api_key : stage.piece.assignment.env_vars.WARP_API_KEY
    const key = route.callers.length === 0 ? null : (user ?? null)
    const body = withBody.includes(route) ? { body: JSON.stringify(BODIES[name] ?? bodyOf(route)) } : {}
    if (route.idempotent) {
      const parts = { key, values: valuesFor(route, values), ...body }
      const refused = await ask(house.url, route, { ...parts, headers: { 'idempotency-key': 'k'.repeat(256) } })
      expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining('1 to 255 characters')])
    }
    for (const path of [route.path, ...(route.aliases ?? [])]) {
      const filled = path.replace(/\{(\w+)\}/g, (_, param: string) => valuesFor(route, values)[param] ?? param)
      const response = await ask(house.url, route, { key, path: filled, ...body })
      const { status, headers } = response
      const is_stream = headers.get('content-type')?.startsWith('text/event-stream')
      const text = is_stream ? '' : await response.text()
      await response.body?.cancel().catch(() => undefined)
      expect(status, text).toBeLessThan(route.method === 'GET' && !ABSENT.includes(name) ? 400 : 500)
      described.check({ method: route.method, path: API_PREFIX + filled, status, headers, text })
    }
  })
})
