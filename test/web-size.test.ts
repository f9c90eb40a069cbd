import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildPage } from './house/browser.ts'

/** The most that the first page may load as scripts, in gzipped bytes. */
const FIRST_SCRIPT_BYTES_MAX = 250_000

let built: Awaited<ReturnType<typeof buildPage>>
beforeAll(async () => {
  built = await buildPage()
}, 60_000)
afterAll(() => built.remove())

test('the first page loads at most 250 kB of scripts, and nothing is inlined that its policy forbids', async () => {
  const html = await readFile(join(built.web_dir, 'index.html'), 'utf8')
  const scripts = [...html.matchAll(/(?:src|href)="\/([\w./-]+\.js)"/g)].map((match) => match[1] ?? '')
  expect(scripts.length).toBeGreaterThan(1)
  const sizes = await Promise.all(
    scripts.map(async (name) => gzipSync(await readFile(join(built.web_dir, name))).length),
  )
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(FIRST_SCRIPT_BYTES_MAX)
  expect(html).not.toMatch(/<style|<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=/)
  for (const name of await readdir(join(built.web_dir, 'assets'))) expect(name).toMatch(/-[\w-]{8,}\.(js|css)$/)
})
