/** A harness whose connection to Baton's tools is slow, as on a machine that starts many agents at once. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findHarness } from '../../src/runner/harnesses/registry.ts'
import { type House, startHouse } from '../house/house.ts'
import { takeAgent } from '../house/mcp-agent.ts'
import { type Line, openProxy } from '../house/proxy.ts'
import { KEY, SURROUNDINGS } from './cases.ts'
import { makePlace, type Place } from './place.ts'
import { patientPrompt, startTreeScript, type TreeScript } from './tree-script.ts'

/** Each request to `/mcp` takes this long; opening needs three. In milliseconds. */
const SLOW_MS = 12_000

let house: House
let proxy: Line
let script: TreeScript
let place: Place
beforeAll(async () => {
  house = await startHouse({})
  proxy = await openProxy(Number(new URL(house.url).port))
  script = await startTreeScript()
  place = makePlace()
})
afterAll(async () => {
  place?.remove()
  await script?.stop()
  await proxy?.close()
  await house?.close()
})

test('Codex waits for tools that are slow to come before it asks its model', { timeout: 180_000 }, async () => {
  const worker = await house.worker()
  await house.client.runs.create({ body: { prompt: 'wait' } })
  const { token } = await takeAgent(house, worker)
  proxy.cut(async (_method, path) => {
    if (path.startsWith('/mcp')) await new Promise((resolve) => setTimeout(resolve, SLOW_MS))
    return null
  })
  const env = { OPENAI_BASE_URL: `${script.codex_url}/v1`, OPENAI_API_KEY: KEY }
  const start = place.start({ harness: 'codex', env, model_id: 'mock' })
  const url = `${proxy.url}/mcp?hold_ms=100`
  const mcp = [{ name: 'baton', url, headers: { Authorization: `Bearer ${token}` } }]
  const open = await findHarness('codex', SURROUNDINGS).open({ ...start, mcp })
  try {
    expect(await open.prompt(patientPrompt(1))).toEqual({ end: 'completed', summary: 'I wait.' })
    expect(script.toolsOf(patientPrompt(1))).toContain('mcp__baton.wait_for_events')
  } finally {
    await open.close()
  }
})
