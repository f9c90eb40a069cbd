/** What a person does with the page, from signing in to the end of a run, against a real server. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { z } from 'zod'
import type { EntryBody } from '../src/contract/index.ts'
import { buildPage, findBarriers, openBrowser, visit, visitSignedIn } from './house/browser.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let browser: Browser
let built: Awaited<ReturnType<typeof buildPage>>
let house: House

beforeAll(async () => {
  built = await buildPage()
  browser = await openBrowser()
}, 60_000)
afterAll(async () => {
  await browser.close()
  await built.remove()
})
beforeEach(async () => {
  house = await startHouse({ web_dir: built.web_dir, engine_limits: { lease_ms: 600_000 } })
})
afterEach(() => house.close())

const statusOf = (page: Page) => page.getByTestId('run-status')
const text = (words: string): EntryBody => ({ kind: 'text', text: words })

async function begin(worker: ScriptedWorker): Promise<Piece> {
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  return piece
}

async function makeRun(title: string): Promise<string> {
  const { run_id } = await house.client.runs.create({
    body: { prompt: title, title, config: { harness: { type: 'command' } } },
  })
  return run_id
}

test('a person signs in with a key and is told when the key is wrong', async () => {
  const { page, context, complaints } = await visit(browser, house)
  await page.goto('/runs?tab=active')
  await page.getByLabel('API key').fill(`wk-1.${'0'.repeat(64)}`)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('The server does not know this key').waitFor()
  await page.getByLabel('API key').fill(house.api_key)
  await page.keyboard.press('Enter')
  await page.getByText('Nothing is running.').waitFor()
  expect(new URL(page.url()).search).toBe('?tab=active')
  // The browser itself reports the refused requests: who is asking, and the wrong key.
  expect(complaints.filter((words) => !words.includes('401'))).toEqual([])
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByLabel('API key').waitFor()
  await page.goto('/runs')
  await page.getByLabel('API key').waitFor()
  await context.close()
})

test('a one-time code signs in once and leaves the address', async () => {
  const { code } = await house.client.access.createLoginCode()
  const first = await visit(browser, house)
  await first.page.goto(`/login#code=${code}`)
  await first.page.getByText('No runs yet').waitFor()
  expect(first.page.url()).toBe(`${house.url}/runs`)
  expect(first.complaints).toEqual([])
  const second = await visit(browser, house)
  await second.page.goto(`/login#code=${code}`)
  await second.page.getByText('This sign-in link has been used').waitFor()
  expect(second.page.url()).not.toContain(code)
  // Another link, in the tab where the page of the first still stands.
  const { code: fresh } = await house.client.access.createLoginCode()
  await second.page.goto(`/login#code=${fresh}`)
  await second.page.getByText('No runs yet').waitFor()
  expect(second.page.url()).toBe(`${house.url}/runs`)
  await first.context.close()
  await second.context.close()
})

test('an invitation is taken on the page, once, by who says their name', async () => {
  const { link, code } = await house.client.teams.invite({ body: { role: 'viewer' } })
  const { page, context, complaints } = await visit(browser, house)
  await page.goto(link)
  await page.getByRole('heading', { name: 'Join a team' }).waitFor()
  expect(page.url()).not.toContain(code)
  await page.getByRole('button', { name: 'Join' }).click()
  await page.getByText('Say what you are called.').waitFor()
  await page.getByLabel('What are you called?').fill('Ann')
  await page.keyboard.press('Enter')
  await page.getByText('No runs yet').waitFor()
  const { members } = await house.client.teams.members()
  expect(members.map(({ display_name, role }) => `${display_name}, ${role}`)).toContain('Ann, viewer')
  expect(complaints).toEqual([])
  await context.close()
  const late = await visit(browser, house)
  await late.page.goto(link)
  await late.page.getByLabel('What are you called?').fill('Eve')
  await late.page.keyboard.press('Enter')
  await late.page.getByText('This invitation was taken already').waitFor()
  await late.context.close()
})

test('a double click makes one run, which is watched from waiting to its end', async () => {
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.getByRole('link', { name: 'New run' }).first().click()
  await page.getByLabel('Harness').selectOption('command')
  await page.getByLabel('Shell command').fill('echo hello')
  await page.reload()
  expect(await page.getByLabel('Shell command').inputValue()).toBe('echo hello')
  await page.getByRole('button', { name: 'Start run' }).dblclick()
  await page.getByText('Waiting for a worker').waitFor()
  expect((await house.client.runs.list({ query: {} })).runs).toHaveLength(1)
  const piece = await begin(await house.worker())
  await statusOf(page).getByText('Working').waitFor()
  const { execution_id } = piece
  const line = page.getByText('hello from the shell')
  await until('the live text shows', async () => {
    await piece.runner.executions.deltas({
      params: { execution_id },
      body: { deltas: [{ kind: 'output', stream: 'stdout', text: 'hello from the', offset: 0, number: 1 }] },
    })
    return (await page.locator('[data-live]').count()) > 0
  })
  await piece.append({ kind: 'output', stream: 'stdout', text: 'hello from the shell\n' })
  await line.waitFor()
  expect(await page.getByText('hello from the').count()).toBe(1)
  await piece.finish()
  await statusOf(page).getByText('Succeeded').waitFor()
  expect(await page.getByTestId('announcer').textContent()).toContain('Succeeded')
  expect((await house.client.runs.get({ params: { run_id: piece.run_id } })).source).toBe('WEB_APP')
  expect(complaints).toEqual([])
  await context.close()
})

test('a refused run keeps what was typed and says why', async () => {
  const { page, context } = await visitSignedIn(browser, house)
  await page.goto('/runs/new')
  await page.getByLabel('Prompt').fill('do it')
  await page.getByLabel('Repository').fill('ftp://example.com/x.git')
  await page.getByLabel('Time limit in minutes').fill('soon')
  await page.getByRole('button', { name: 'Start run' }).click()
  await page.getByText('A number of minutes above 0').waitFor()
  await page.getByLabel('Time limit in minutes').fill('')
  await house.server.close()
  await page.getByRole('button', { name: 'Start run' }).click()
  await page.getByText('The server does not answer').waitFor()
  expect(await page.getByLabel('Prompt').inputValue()).toBe('do it')
  await context.close()
})

test('a run is cancelled after a question, by keyboard alone', async () => {
  const worker = await house.worker()
  const run_id = await makeRun('sleep 1000')
  const piece = await begin(worker)
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${run_id}`)
  await page.getByRole('button', { name: 'Cancel' }).focus()
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Cancel this run?' }).waitFor()
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await statusOf(page).getByText('Cancelling').waitFor()
  await worker.cancelled()
  await piece.finish({ outcome: 'CANCELLED' })
  await statusOf(page).getByText('Cancelled').waitFor()
  expect(complaints).toEqual([])
  await context.close()
})

test('a failed run says why and is tried again', async () => {
  const worker = await house.worker()
  const run_id = await makeRun('exit 3')
  const piece = await begin(worker)
  await piece.append(text('about to fail'))
  await piece.finish({
    outcome: 'FAILED',
    failure: {
      error_code: 'environment_setup_failed',
      message: 'Setup command 1 of 1 exited with 3.',
      retryable: false,
    },
  })
  piece.complete()
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${run_id}`)
  await page.getByLabel('Why it failed').getByText('Setup command 1 of 1 exited with 3.').waitFor()
  await page.getByRole('button', { name: 'Retry' }).click()
  const again = await begin(worker)
  await again.append(text('this time it works'))
  await again.finish()
  await statusOf(page).getByText('Succeeded').waitFor()
  await page.getByText('this time it works').waitFor()
  await page.getByText('Execution 2', { exact: true }).waitFor()
  await page.locator('[data-execution="2"]').getByText('Retried on request').waitFor()
  await page.locator('[data-execution="2"]').getByText('Succeeded').waitFor()
  await page.locator('[data-execution="1"]').getByText('Setup command 1 of 1 exited with 3.').waitFor()
  expect(complaints).toEqual([])
  await context.close()
})

test('the list changes where it stands, and new runs wait behind a button while a person reads further down', async () => {
  for (let n = 1; n <= 20; n++) await makeRun(`run number ${n}`)
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.getByText('run number 1', { exact: true }).waitFor()
  await makeRun('comes in at the top')
  await page.getByText('comes in at the top').waitFor()
  await page.evaluate('scrollTo(0, 400)')
  await makeRun('waits behind the button')
  await page.getByRole('button', { name: '1 new run' }).waitFor()
  expect(await page.getByText('waits behind the button').count()).toBe(0)
  const before = await titles(page)
  const worker = await house.worker({ capacity: 1 })
  await begin(worker)
  await page.locator('[data-run]').getByText('Working').waitFor()
  expect(await titles(page)).toEqual(before)
  await page.getByRole('button', { name: '1 new run' }).click()
  expect((await titles(page))[0]).toContain('waits behind the button')
  await page.getByRole('link', { name: 'Active' }).click()
  await page.getByLabel('Find runs by title or prompt').fill('number 19')
  await until('the filter holds', async () => (await titles(page)).length === 1)
  expect(new URL(page.url()).search).toBe('?tab=active&q=number+19')
  expect(complaints).toEqual([])
  await context.close()
})

const titles = (page: Page) => page.locator('[data-run] .font-medium.truncate').allTextContents()

test('a transcript of two thousand entries scrolls to its start, keeps the row that is read, and mounts few rows', async () => {
  const worker = await house.worker()
  const run_id = await makeRun('write a lot')
  const piece = await begin(worker)
  for (let at = 0; at < 2000; at += 200) {
    await piece.append(
      ...Array.from({ length: 200 }, (_, n) => text(`entry ${at + n + 1}${'\n\nmore of it'.repeat(n % 4)}`)),
    )
  }
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${run_id}`)
  await page.getByText('entry 2000', { exact: true }).waitFor()
  const held = await holdEarlier(page)
  await page.getByTestId('transcript').hover()
  await page.mouse.wheel(0, -3900)
  await until('earlier entries are asked for', () => held.isAsked())
  await stillness(page)
  const read = await firstShown(page)
  const stood = await topOf(page, read)
  await piece.append(text('entry 2001'))
  await page.getByRole('button', { name: '1 new' }).waitFor()
  expect(Math.abs((await topOf(page, read)) - stood)).toBeLessThan(3)
  const height = await page.evaluate(`${BOX}.scrollHeight`)
  held.release()
  await until('earlier entries have come', async () => (await page.evaluate(`${BOX}.scrollHeight`)) !== height)
  await stillness(page)
  expect(Math.abs((await topOf(page, read)) - stood)).toBeLessThan(3)
  await until(
    'the first entry shows',
    async () => {
      await page.evaluate(`${BOX}.scrollTo(0, 0)`)
      return (await page.getByText('entry 1', { exact: true }).count()) > 0
    },
    60_000,
  )
  expect(await page.locator('[data-index]').count()).toBeLessThan(80)
  await page.getByRole('button', { name: 'To the end' }).click()
  await page.getByText('entry 2001', { exact: true }).waitFor()
  await piece.append(text('entry 2002'))
  await page.getByText('entry 2002', { exact: true }).waitFor()
  expect(complaints).toEqual([])
  await context.close()
}, 120_000)

const BOX = 'document.querySelector("[data-testid=transcript]")'

/** Requests for earlier entries wait until they are let go. */
async function holdEarlier(page: Page): Promise<{ isAsked(): boolean; release(): void }> {
  let asked = false
  const released = Promise.withResolvers<void>()
  await page.route(/entries\?.*before=/, async (route) => {
    asked = true
    await released.promise
    await route.continue()
  })
  return { isAsked: () => asked, release: released.resolve }
}

/** Resolves when the transcript's position has not changed for a while. */
async function stillness(page: Page): Promise<void> {
  let last = -1
  let same = 0
  await until('the transcript stands still', async () => {
    const now = z.number().parse(await page.evaluate(`${BOX}.scrollTop`))
    same = now === last ? same + 1 : 0
    last = now
    return same >= 5
  })
}

/** The key of the first row whose top is in sight. */
async function firstShown(page: Page): Promise<string> {
  const sought = `[...${BOX}.querySelectorAll("[data-key]")].find((row) => row.getBoundingClientRect().top > ${BOX}.getBoundingClientRect().top + 40)`
  return z.string().parse(await page.evaluate(`${sought}.dataset.key`))
}

async function topOf(page: Page, key: string): Promise<number> {
  return z
    .number()
    .parse(await page.evaluate(`document.querySelector('[data-key="${key}"]').getBoundingClientRect().top`))
}

test('a page first wanted while the server is away says so, and comes by itself when it is back', async () => {
  const { page, context } = await visitSignedIn(browser, house)
  await page.locator('[data-connection=open]').waitFor({ state: 'attached' })
  await house.server.close()
  await page.getByRole('link', { name: 'Batches' }).click()
  await page.getByRole('heading', { name: 'This page could not be loaded' }).waitFor()
  await page.getByText('The server does not answer.').waitFor()
  expect(await findBarriers(page)).toEqual([])
  await house.restart()
  await page.getByText('No batches yet').waitFor({ timeout: 30_000 })
  await context.close()
})

test('a server that goes away and comes back leaves no entry out and none twice', async () => {
  const worker = await house.worker()
  const run_id = await makeRun('count')
  const piece = await begin(worker)
  await piece.append(text('one'), text('two'))
  const { page, context } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${run_id}`)
  await page.getByText('two', { exact: true }).waitFor()
  await house.server.close()
  await page.getByText('Reconnecting…').waitFor()
  await house.restart()
  await piece.append(text('three'))
  await page.getByText('three', { exact: true }).waitFor()
  await page.getByText('Reconnecting…').waitFor({ state: 'detached' })
  await piece.append(text('four'))
  await piece.finish()
  await statusOf(page).getByText('Succeeded').waitFor()
  await page.getByText('four', { exact: true }).waitFor()
  expect(await page.locator('[data-key] .prose').allTextContents()).toEqual(['one', 'two', 'three', 'four'])
  await context.close()
})
