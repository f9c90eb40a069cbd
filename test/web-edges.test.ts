/** The page where things are not as usual: refused answers, cut entries, a broken page, another store, small screens. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { EntryBody } from '../src/contract/index.ts'
import { buildPage, DESKTOP, findBarriers, openBrowser, overflow, shoot, visitSignedIn } from './house/browser.ts'
import { type House, startHouse } from './house/house.ts'

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

async function begin(title: string, ...bodies: EntryBody[]) {
  const worker = await house.worker()
  await house.client.runs.create({ body: { prompt: title, title, config: { harness: { type: 'command' } } } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  if (bodies.length > 0) await piece.append(...bodies)
  return piece
}

/** As a proxy answers whose server is away. */
async function refuse(page: Page, path: RegExp): Promise<() => Promise<void>> {
  await page.route(path, (route) => route.fulfill({ status: 503, contentType: 'text/html', body: '<h1>503</h1>' }))
  return () => page.unroute(path)
}

test('what is refused says so with a way to try again, which works once the answers are back', async () => {
  const { run_id } = await begin('count', { kind: 'text', text: 'one' })
  const { page, context } = await visitSignedIn(browser, house)
  const places = [
    { path: /agent\/runs\?/, at: '/runs', refused: 'The runs could not be read', shown: 'count' },
    {
      path: new RegExp(`agent/runs/${run_id}$`),
      at: `/runs/${run_id}`,
      refused: 'The run could not be read',
      shown: 'one',
    },
    { path: /entries/, at: `/runs/${run_id}`, refused: 'The transcript could not be read', shown: 'one' },
  ]
  for (const { path, at, refused, shown } of places) {
    const restore = await refuse(page, path)
    await page.goto(at)
    await page.getByRole('heading', { name: refused }).waitFor({ timeout: 20_000 })
    await page.getByText('The server answered 503. It may be starting').waitFor()
    await shoot(page, `refused-${refused.split(' ')[1]}`, DESKTOP)
    expect(await findBarriers(page)).toEqual([])
    await restore()
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.getByText(shown, { exact: true }).first().waitFor()
  }
  await context.close()
}, 90_000)

test('a long entry shows its head, and the whole of it when asked', async () => {
  const lines = (word: string) => Array.from({ length: 3000 }, (_, n) => `${word} ${n + 1}`).join('\n')
  const { run_id } = await begin(
    'write a lot',
    { kind: 'output', stream: 'stdout', text: lines('row') },
    {
      kind: 'tool_call',
      call_id: 'a',
      name: 'bash',
      category: 'command',
      title: 'seq 3000',
      input: { command: 'seq' },
    },
    { kind: 'tool_result', call_id: 'a', status: 'completed', output: lines('number') },
  )
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${run_id}`)
  await page.getByRole('button', { name: /seq 3000/ }).click()
  await page.getByLabel('Output').getByText('number 3000').waitFor()
  await page.getByTestId('transcript').evaluate((box) => box.scrollTo(0, 0))
  const whole = page.locator('pre').getByText('row 3000')
  expect(await whole.count()).toBe(0)
  const show = page.getByRole('button', { name: /^Show all \d+ kB$/ })
  await show.scrollIntoViewIfNeeded()
  await show.click()
  await whole.waitFor()
  await page.getByRole('button', { name: 'Show less' }).click()
  await whole.waitFor({ state: 'detached' })
  expect(complaints).toEqual([])
  await context.close()
})

test('a page that breaks says so and offers to load again', async () => {
  await begin('count')
  const { page, context } = await visitSignedIn(browser, house)
  await page.addInitScript('Date.prototype.toLocaleString = () => { throw new Error("There is no such calendar.") }')
  await page.goto('/runs')
  await page.getByRole('heading', { name: 'The page broke' }).waitFor()
  await page.getByText('There is no such calendar.').waitFor()
  await page.getByRole('button', { name: 'Reload' }).waitFor()
  await shoot(page, 'broken', DESKTOP)
  expect(await findBarriers(page)).toEqual([])
  await context.close()
})

test('a server with another store, as after a restore, is read afresh', async () => {
  const { run_id } = await begin('before the restore', { kind: 'text', text: 'one' })
  const { page, context } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${run_id}`)
  await page.getByText('one', { exact: true }).waitFor()
  await page.locator('[data-connection=open]').waitFor({ state: 'attached' })
  await house.server.close()
  await house.database.kysely.updateTable('store').set({ epoch: crypto.randomUUID() }).execute()
  await house.database.kysely.updateTable('runs').set({ title: 'after the restore' }).execute()
  await house.restart()
  await page.getByRole('heading', { name: 'after the restore' }).waitFor()
  await page.getByText('one', { exact: true }).waitFor()
  expect(await page.locator('[data-key] .prose').allTextContents()).toEqual(['one'])
  await context.close()
})

test('nothing overflows at 320 pixels', async () => {
  const wide = 'x'.repeat(300)
  const { run_id } = await begin(
    `A title with ${wide}`,
    { kind: 'text', text: wide },
    { kind: 'output', stream: 'stdout', text: wide },
  )
  const look = { theme: 'light', width: 320 } as const
  const { page, context, complaints } = await visitSignedIn(browser, house, look)
  for (const [name, at] of Object.entries({ list: '/runs', form: '/runs/new', run: `/runs/${run_id}` })) {
    await page.goto(at)
    await page
      .getByText(name === 'form' ? 'Setup commands' : 'A title with')
      .first()
      .waitFor()
    await shoot(page, `small-${name}`, look)
    expect(await overflow(page), name).toBeLessThanOrEqual(0)
    expect(await findBarriers(page), name).toEqual([])
  }
  expect(complaints).toEqual([])
  await context.close()
})

/** Whether the first letter of the first title of the list lies within the box that the title is cut by. */
const BEGINS_IN_SIGHT = `(() => {
  const box = document.querySelector('[data-run] .truncate')
  const letter = document.createRange()
  letter.setStart(box.firstChild, 0)
  letter.setEnd(box.firstChild, 1)
  const { left, right } = letter.getBoundingClientRect()
  const edges = box.getBoundingClientRect()
  return left >= edges.left - 1 && right <= edges.right + 1
})()`

test('what is written from right to left begins at the right, and is cut at its end', async () => {
  const words = 'أصلح اختبار الدفع الفاشل في المتجر وأضف اختبارًا جديدًا لكل صفحة من صفحاته'
  const { run_id } = await begin(words, { kind: 'text', text: `${words}\n\n- ${words}` })
  const { page, context } = await visitSignedIn(browser, house, { theme: 'light', width: 360 })
  await page.locator('[data-run] .truncate').first().waitFor()
  expect(await page.evaluate(BEGINS_IN_SIGHT)).toBe(true)
  await page.goto(`/runs/${run_id}`)
  await page.locator('.prose ul').waitFor()
  expect(await page.evaluate('getComputedStyle(document.querySelector(".prose ul")).direction')).toBe('rtl')
  await shoot(page, 'right-to-left', { theme: 'light', width: 360 })
  expect(await overflow(page)).toBeLessThanOrEqual(0)
  await context.close()
})

test('nothing moves for a person who asked for that', async () => {
  await begin('turn')
  const { page, context } = await visitSignedIn(browser, house)
  await page.locator('[data-run]').getByText('Working').waitFor()
  const animation = () => page.evaluate('getComputedStyle(document.querySelector("[data-run] svg")).animationName')
  expect(await animation()).toBe('spin')
  await page.emulateMedia({ reducedMotion: 'reduce' })
  expect(await animation()).toBe('none')
  await context.close()
})
