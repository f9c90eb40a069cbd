/** What a revision of the protocol requires of a server: all passes but what `expected-failures-*.yaml` lists. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type House, startHouse } from '../house/house.ts'
import { SUITE } from './fetch.ts'
import { openTokenProxy, type TokenProxy } from './token-proxy.ts'

let house: House
let proxy: TokenProxy
let results: string

beforeAll(async () => {
  house = await startHouse()
  const worker = await house.worker()
  await house.client.runs.create({ body: { prompt: 'conform' } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  proxy = await openTokenProxy(house.url, piece.assignment.env_vars.WARP_API_KEY ?? '')
  results = await mkdtemp(join(tmpdir(), 'baton-conformance-'))
})
afterAll(async () => {
  await proxy.close()
  await house.close()
  await rm(results, { recursive: true, force: true })
})

test.each(['2026-07-28', '2025-11-25'])('what revision %s requires', async (revision) => {
  const expected = join(import.meta.dirname, `expected-failures-${revision}.yaml`)
  const { code, output } = await runSuite([
    ...['server', '--url', `${proxy.url}/mcp`, '--requirements', revision],
    ...['--expected-failures', expected, '--output-dir', results],
  ])
  await writeFile(join(import.meta.dirname, `../../.cache/conformance/${revision}.log`), output)
  expect(code, output.slice(-6_000)).toBe(0)
})

function runSuite(args: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [SUITE, ...args], { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : error ? 1 : 0, output: stdout + stderr })
    })
  })
}
