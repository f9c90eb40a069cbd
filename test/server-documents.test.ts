/** What describes the API: the committed document, its validity, the reference page. */
import { readFile } from 'node:fs/promises'
import { Validator } from '@seriousme/openapi-schema-validator'
import { expect, test } from 'vitest'
import { allRoutes, openApiFile, renderOpenApi } from '../src/server/openapi.ts'
import { startHouse } from './house/house.ts'

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
  }
})

test('the server hands out the document and a reference page that needs nothing from elsewhere', async () => {
  const house = await startHouse()
  try {
    const document = await fetch(`${house.url}/openapi.json`)
    expect(await document.json()).toEqual(JSON.parse(openApiFile()))
    const page = await fetch(`${house.url}/reference`)
    const html = await page.text()
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(html).not.toMatch(/<script|style=|src="http|href="http/)
    for (const route of allRoutes()) expect(html).toContain(route.path)
    expect((await fetch(`${house.url}/reference.css`)).headers.get('content-type')).toMatch(/^text\/css/)
  } finally {
    await house.close()
  }
})
