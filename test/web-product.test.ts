/** The built product in a real Chromium: `baton up`, its own worker, real harnesses, a real repository. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { emptyPlace, type Place, startUp, type Up } from './house/baton.ts'
import { DESKTOP, openBrowser, shoot, type Visit, visit } from './house/browser.ts'
import { until } from './house/processes.ts'

let place: Place
let up: Up
let browser: Browser
let visited: Visit
let page: Page

beforeAll(async () => {
  place = await emptyPlace()
  up = await startUp(place, ['--port', '0'])
  browser = await openBrowser()
  visited = await visit(browser, up)
  page = visited.page
}, 90_000)

afterAll(async () => {
  await browser?.close()
  await up?.process.kill('SIGTERM')
  await place?.remove()
}, 60_000)

const status = (word: string) => page.getByTestId('run-status').getByText(word, { exact: true })

async function startRun(fields: { harness: string; prompt: string; model?: string; repository?: string }) {
  await page.goto(`${up.url}/runs/new`)
  await page.getByLabel('Harness').selectOption(fields.harness)
  await page.getByLabel(fields.harness === 'command' ? 'Shell command' : 'Prompt').fill(fields.prompt)
  if (fields.model) await page.getByLabel('Model').fill(fields.model)
  if (fields.repository) await page.getByLabel('Repository').fill(fields.repository)
  await page.getByRole('button', { name: 'Start run' }).click()
  await page.getByTestId('run-status').waitFor()
}

test('the link that baton up prints signs a person in, and a command is watched line by line to its end', async () => {
  const link = await until('the link is printed', async () => /http\S+#code=\S+/.exec(up.process.output())?.[0])
  await page.goto(link)
  await page.getByText('No runs yet').waitFor()
  expect(page.url()).not.toContain('code=')
  const gate = join(place.folder, 'gate')
  const lastLine = page.locator('pre').getByText('the end is here')
  await startRun({
    harness: 'command',
    // The words of the last line are put together, for the prompt itself is shown too.
    prompt: `for n in 1 2 3; do echo "line $n"; done; until [ -e ${gate} ]; do sleep 0.1; done; echo "the end is $(echo here)"`,
  })
  await status('Working').waitFor()
  await page.getByText('line 3').waitFor()
  await page.getByText('not isolated').waitFor()
  expect(await lastLine.count()).toBe(0)
  await shoot(page, 'product-working', DESKTOP)
  writeFileSync(gate, '')
  await lastLine.waitFor()
  await status('Succeeded').waitFor()
  await page.locator('[data-execution="1"]').getByText('Succeeded').waitFor()
  await shoot(page, 'product-succeeded', DESKTOP)
  expect(visited.complaints).toEqual([])
}, 60_000)

test('a command that works on is cancelled, and its process is gone', async () => {
  const mark = join(place.folder, 'ticks')
  await startRun({ harness: 'command', prompt: `echo started; while :; do date >> ${mark}; sleep 0.1; done` })
  await page.getByText('started', { exact: true }).waitFor()
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByRole('button', { name: 'Cancel the run' }).click()
  await status('Cancelled').waitFor()
  await page.getByRole('button', { name: 'Retry' }).waitFor()
  await shoot(page, 'product-cancelled', DESKTOP)
  expect(execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })).not.toContain(`date >> ${mark}`)
  expect(visited.complaints).toEqual([])
}, 60_000)

test('a command that exits with 3 has failed, and the page says with what', async () => {
  await startRun({ harness: 'command', prompt: 'echo about to fail; echo "no such flag" >&2; exit 3' })
  await status('Failed').waitFor()
  await page
    .getByLabel('Why it failed')
    .getByText(/exit(ed)?( with)?( code)? 3/)
    .waitFor()
  await page.locator('[data-execution="1"]').getByText(/3/).first().waitFor()
  await page.getByText('no such flag').first().waitFor()
  await shoot(page, 'product-failed', DESKTOP)
  expect(visited.complaints).toEqual([])
}, 60_000)

test('the built-in agent works on a real repository, and the page shows its plan, thoughts, tools and words', async () => {
  const repository = join(place.folder, 'teapot')
  const git = (...args: string[]) => execFileSync('git', ['-C', repository, ...args], { stdio: 'pipe' })
  execFileSync('git', ['init', '-q', '-b', 'main', repository])
  writeFileSync(join(repository, 'README.md'), '# Teapot\n\nA lid.\n')
  writeFileSync(join(repository, 'pot.ts'), 'export function pot() {}\n')
  git('add', '.')
  git('-c', 'user.name=T', '-c', 'user.email=t@example.com', 'commit', '-qm', 'first')
  await startRun({ harness: 'baton', model: 'scripted', prompt: 'Survey this repository.', repository })
  await status('Succeeded').waitFor({ timeout: 40_000 })
  await page.getByText('(Scripted words, real numbers.)').waitFor()
  await shoot(page, 'product-agent', DESKTOP)
  const box = page.getByTestId('transcript')
  await box.evaluate((element) => element.scrollTo(0, 0))
  await page.getByText('these words are scripted').waitFor()
  await page.getByText('Plan', { exact: true }).first().waitFor()
  await page
    .getByRole('button', { name: /Thought/ })
    .first()
    .waitFor()
  await until('the row that wrote the report shows', async () => {
    await box.evaluate((element) => element.scrollBy(0, 150))
    return (await page.getByRole('button', { name: /BATON-REPORT\.md/ }).count()) > 0
  })
  await page
    .getByRole('button', { name: /BATON-REPORT\.md/ })
    .first()
    .click()
  await page
    .getByLabel(/Change of .*BATON-REPORT\.md/)
    .getByText('It calls itself **Teapot**')
    .waitFor()
  await shoot(page, 'product-agent-diff', DESKTOP)
  expect(visited.complaints).toEqual([])
}, 90_000)
