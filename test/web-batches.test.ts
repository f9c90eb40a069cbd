/** The Orchestrator in the page: tasks written as rows, begun, watched, steered and looked back on. */
import { writeFile } from 'node:fs/promises'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { BatchTaskSpec } from '../src/contract/index.ts'
import { emptyPlace, startUp } from './house/baton.ts'
import { buildPage, findBarriers, LOOKS, openBrowser, overflow, shoot, visit, visitSignedIn } from './house/browser.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'
import type { Piece } from './house/worker.ts'

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
  house = await startHouse({ web_dir: built.web_dir, max_concurrent_runs: 50, engine_limits: { lease_ms: 600_000 } })
})
afterEach(() => house.close())

const create = (tasks: BatchTaskSpec[], more: object = {}) =>
  house.client.batches.create({
    body: { title: 'Tests for every package', tasks, concurrency: 4, stop_on_failure: false, ...more },
  })
const prompts = (count: number): BatchTaskSpec[] =>
  Array.from({ length: count }, (_, at) => ({ prompt: `Write tests for package ${at + 1}` }))
const rows = (page: Page) => page.getByTestId('batch-tasks').locator('li')
const status = (page: Page) => page.getByTestId('batch-status')
const prompt = (page: Page, number: number) => page.getByLabel(new RegExp(`^Task ${number}: (prompt|shell command)$`))

/** Tasks 1 to 4 in a worker's hands: one completed, one at work, one that is tried again, one that failed for good. */
async function underWay() {
  const worker = await house.worker({ capacity: 20 })
  const batch = await create(prompts(12), { base_prompt: 'Use the test runner that is there.', concurrency: 4 })
  const pieces: Piece[] = []
  for (let at = 0; at < 4; at++) {
    const piece = await worker.next()
    piece.claim()
    await piece.start()
    pieces.push(piece)
  }
  const [first, second, third, fourth] = pieces
  await second?.append({ kind: 'text', text: 'Reading the package; it has no tests so far.' })
  await house.client.batches.pause({ params: { batch_id: batch.batch_id } })
  await first?.append({ kind: 'text', text: 'Nine tests, all green. I left two slow ones out.' })
  await first?.finish()
  await third?.finish({
    outcome: 'ERROR',
    failure: { error_code: 'resource_unavailable', message: 'The model provider is busy.', retryable: true },
  })
  await fourth?.finish({
    outcome: 'FAILED',
    failure: { error_code: 'environment_setup_failed', message: 'npm: command not found', retryable: false },
  })
  return { batch, worker, pieces }
}

for (const look of LOOKS) {
  test(`batches are without barriers at ${look.width} px, ${look.theme}`, async () => {
    const { page, context, complaints } = await visitSignedIn(browser, house, look)
    const settle = async (name: string) => {
      await page.evaluate('document.fonts.ready')
      await shoot(page, name, look)
      expect(complaints, name).toEqual([])
      expect(await findBarriers(page), name).toEqual([])
      expect(await overflow(page), name).toBeLessThanOrEqual(0)
    }
    await page.goto('/batches')
    await page.getByText('No batches yet').waitFor()
    await settle('batches-none')
    await page.goto('/batches/new')
    await prompt(page, 1).fill('- Write tests for cart\n- Write tests for checkout\n- Write tests for taxes')
    await settle('batch-paste')
    await page.getByRole('button', { name: 'Make 3 tasks of these lines' }).click()
    await page.getByRole('button', { name: 'Options of task 2' }).click()
    await page.getByLabel('Waits for').fill('nobody')
    await page.getByRole('button', { name: 'Start 3 tasks' }).click()
    await page.getByText('There is no task named nobody.').waitFor()
    await settle('batch-new')
    const { batch } = await underWay()
    await page.goto(`/batches/${batch.batch_id}`)
    await page.getByText('npm: command not found').waitFor()
    await page.getByText('1 of 3 tries').waitFor()
    await settle('batch-paused')
    await page.getByRole('link', { name: /^Failed/ }).click()
    await until('only failed tasks are shown', async () => (await rows(page).count()) === 2)
    await settle('batch-failed-tasks')
    await page.getByRole('button', { name: 'Cancel', exact: true }).click()
    await page.getByText('do not begin').waitFor()
    await settle('batch-cancel')
    await page.getByRole('button', { name: /^Cancel \d+ tasks$/ }).click()
    await status(page)
      .getByText('Cancelled', { exact: true })
      .or(status(page).getByText('Failed', { exact: true }))
      .waitFor()
    await page.goto(`/batches/${batch.batch_id}`)
    await page.getByText('Nine tests, all green').waitFor()
    await settle('batch-ended')
    await page.goto(`/runs/${batch.batch_id}`)
    await page.getByRole('link', { name: 'Open the batch' }).waitFor()
    await settle('batch-run')
    await page.goto('/batches')
    await page.getByText('1 of 12 completed').waitFor()
    await settle('batches')
    await context.close()
  }, 180_000)
}

test('tasks are written, duplicated, taken out and kept over a reload, and a double click starts one batch', async () => {
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.getByRole('button', { name: 'New', exact: true }).click()
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Orchestrator' }).waitFor()
  await page.getByRole('button', { name: 'Start', exact: true }).click()
  await page.getByText('Write what the first task is to do.').waitFor()
  await prompt(page, 1).fill('First\nSecond\nThird')
  await page.getByRole('button', { name: 'Make 3 tasks of these lines' }).click()
  await page.getByRole('button', { name: 'Duplicate task 2' }).click()
  expect(await prompt(page, 3).inputValue()).toBe('Second')
  await page.getByRole('button', { name: 'Remove task 1' }).click()
  await page.getByRole('button', { name: 'Add a task' }).click()
  await page.keyboard.type('Fourth')
  await page.getByLabel('Task 4: name (optional)').fill('TASK-1')
  await page.getByLabel('At work at a time').fill('0')
  await page.reload()
  expect(await prompt(page, 4).inputValue()).toBe('Fourth')
  await page.getByRole('button', { name: 'Start 4 tasks' }).click()
  await page.getByText('Task 1 has this name too.').waitFor()
  await page.getByText('A whole number from 1 to 1000.').waitFor()
  await page.getByLabel('Task 4: name (optional)').fill('last')
  await page.getByLabel('At work at a time').fill('2')
  await page.getByLabel('Stop on failure').check()
  // A ring is found by the server, and told where it is.
  await page.getByRole('button', { name: 'Options of task 4' }).click()
  await page.getByLabel('Waits for').fill('last')
  await page.getByRole('button', { name: 'Start 4 tasks' }).click()
  await page.getByText('depends on itself').first().waitFor()
  expect(await page.getByLabel('Waits for').getAttribute('aria-invalid')).toBe('true')
  await page.getByLabel('Waits for').fill('task-1, task-2')
  await page.getByRole('button', { name: 'Start 4 tasks' }).dblclick()
  await status(page).getByText('0 of 4 completed').waitFor()
  const { batches } = await house.client.batches.list({ query: {} })
  expect(batches).toMatchObject([{ tasks: 4, concurrency: 2, stop_on_failure: true }])
  const batch_id = batches[0]?.batch_id ?? ''
  const { tasks } = await house.client.batches.tasks({ params: { batch_id }, query: {} })
  expect(tasks.map(({ title, depends_on }) => [title, depends_on.length])).toEqual([
    ['Second', 0],
    ['Second', 0],
    ['Third', 0],
    ['last', 2],
  ])
  await page.goto('/batches/new')
  expect(await prompt(page, 1).inputValue()).toBe('')
  expect(complaints.filter((words) => !words.includes('400'))).toEqual([])
  await context.close()
}, 60_000)

test('a batch of 2,000 tasks is shown without mounting them, and is steered', async () => {
  await house.database.kysely.updateTable('teams').set({ max_batch_tasks: 5000 }).execute()
  const { batch_id } = await create(prompts(2000), { concurrency: 1 })
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/batches/${batch_id}`)
  await page.getByText('Write tests for package 1', { exact: true }).waitFor()
  expect(await rows(page).count()).toBeLessThan(40)
  await page.getByTestId('batch-tasks').press('End')
  await page.getByText('Write tests for package 2000').waitFor()
  expect(await rows(page).count()).toBeLessThan(40)
  await page.getByRole('button', { name: 'Pause' }).click()
  await status(page).getByText('Paused').waitFor()
  await page.getByLabel('At a time').fill('7')
  await page.getByRole('button', { name: 'Set', exact: true }).click()
  await until(
    'seven at a time',
    async () => (await house.client.batches.get({ params: { batch_id } })).concurrency === 7,
  )
  await house.client.batches.resume({ params: { batch_id } })
  await status(page).getByText('Running').waitFor()
  await page.getByRole('link', { name: /^Completed/ }).click()
  await page.getByText('No task is completed.').waitFor()
  await page.getByRole('button', { name: 'Cancel', exact: true }).click()
  await page.getByRole('button', { name: 'Cancel 2,000 tasks' }).click()
  await status(page).getByText('Cancelled', { exact: true }).waitFor()
  await page.getByRole('link', { name: /^Cancelled 2,000/ }).click()
  await until('rows are shown as cancelled', async () => (await rows(page).getByText('Cancelled').count()) > 5)
  expect(complaints).toEqual([])
  await context.close()
}, 120_000)

test('tasks change where they stand as they happen, and what failed is tried again', async () => {
  const { batch, worker, pieces } = await underWay()
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/batches/${batch.batch_id}`)
  const row = (number: number) => page.locator(`[data-task="${number}"]`)
  await row(1).getByText('Completed').waitFor()
  await row(2).getByText('Running').waitFor()
  await row(3).getByText('1 of 3 tries').waitFor()
  await row(5).getByText('The batch is paused.').waitFor()
  await pieces[1]?.append({ kind: 'text', text: 'Now I write the third test.' })
  await row(2).getByText('Now I write the third test.').waitFor()
  await pieces[1]?.finish()
  await row(2).getByText('Completed').waitFor()
  await page.getByRole('button', { name: /^Retry/ }).click()
  await row(4).getByText('Pending').waitFor()
  await page.getByRole('button', { name: 'Resume' }).click()
  for (let at = 0; at < 10; at++) await (await worker.next()).work()
  await status(page).getByText('12 of 12 completed').waitFor()
  await status(page).getByText('Completed', { exact: true }).waitFor()
  await row(4).getByRole('link').click()
  await page.getByRole('heading', { name: 'Write tests for package 4' }).waitFor()
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('a batch that is not there, that cannot be read, and a line that is down are told', async () => {
  const { batch_id } = await create(prompts(2))
  const { page, context } = await visitSignedIn(browser, house)
  await page.goto(`/batches/${crypto.randomUUID()}`)
  await page.getByText('There is no such batch').waitFor()
  await page.route(`**/agent/batches/${batch_id}/tasks*`, (request) => request.fulfill({ status: 400, body: '{}' }))
  await page.goto(`/batches/${batch_id}`)
  await page.getByText('The tasks could not be read').waitFor()
  await page.unroute(`**/agent/batches/${batch_id}/tasks*`)
  await page.getByRole('button', { name: 'Try again' }).click()
  await rows(page).first().waitFor()
  await context.setOffline(true)
  await house.server.close()
  await page.getByText('Reconnecting…').waitFor()
  await page.getByRole('button', { name: 'Pause' }).click()
  await page.getByText('The server does not answer.').waitFor({ timeout: 20_000 })
  await context.setOffline(false)
  await house.restart()
  await house.client.batches.pause({ params: { batch_id } })
  await status(page).getByText('Paused').waitFor({ timeout: 20_000 })
  await context.close()
}, 90_000)

test('shell commands written as tasks are carried out by baton up, tried again, and reviewed', async () => {
  const place = await emptyPlace()
  const up = await startUp(place)
  try {
    const { page, context, complaints } = await visit(browser, up)
    const { code } = await up.client.access.createLoginCode()
    await page.goto(`/login#code=${code}`)
    await page.getByRole('heading', { name: 'Runs', exact: true }).waitFor()
    await page.goto('/batches/new')
    await page.getByLabel('Harness').selectOption('command')
    await prompt(page, 1).fill(
      `echo one is done\ntest -e ${place.folder}/there && echo found it\necho three is done\ncat "$BATON_RESULTS" | tr -d '\\n'`,
    )
    await page.getByRole('button', { name: 'Make 4 tasks of these lines' }).click()
    await page.getByRole('button', { name: 'Options of task 4' }).click()
    await page.getByLabel('Waits for').fill('task-1')
    await page.getByLabel('Title').fill('Four commands')
    await page.getByRole('button', { name: 'Start 4 tasks' }).click()
    const row = (number: number) => page.locator(`[data-task="${number}"]`)
    await row(1).getByText('one is done', { exact: true }).waitFor({ timeout: 40_000 })
    await row(2).getByText('Failed').waitFor({ timeout: 40_000 })
    await row(4).getByText('Completed').waitFor({ timeout: 40_000 })
    await status(page).getByText('Failed', { exact: true }).waitFor({ timeout: 20_000 })
    await page.getByTestId('batch-message').waitFor()
    await writeFile(`${place.folder}/there`, '')
    await page.getByRole('button', { name: 'Retry 1 failed' }).click()
    await status(page).getByText('4 of 4 completed').waitFor({ timeout: 40_000 })
    await row(2).getByText('found it', { exact: true }).waitFor()
    await row(2).getByRole('link').click()
    await page.getByTestId('transcript').getByText('found it', { exact: true }).first().waitFor()
    expect(complaints).toEqual([])
    await context.close()
  } finally {
    await up.process.kill()
    await place.remove()
  }
}, 150_000)
