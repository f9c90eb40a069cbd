/** Trees in the page: children under their parents, pills, the table of a tree, messages; all of it live. */
import { readFile } from 'node:fs/promises'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { buildPage, findBarriers, LOOKS, openBrowser, overflow, shoot, visitSignedIn } from './house/browser.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let browser: Browser
let built: Awaited<ReturnType<typeof buildPage>>
let house: House
let worker: ScriptedWorker

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
  await limit({ max_depth: 5 })
  worker = await house.worker({ capacity: 50 })
})
afterEach(() => house.close())

const limit = (limits: object) => house.database.kysely.updateTable('teams').set(limits).execute()

type Asked = { parent?: Piece; harness?: string; title?: string }

/** A run at work in the scripted worker's hands. */
async function begun(name: string, { parent, harness = 'claude', title = `The ${name}` }: Asked = {}): Promise<Piece> {
  await asked(name, { ...(parent && { parent }), harness, title })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  return piece
}

async function asked(name: string, { parent, harness = 'claude', title = `The ${name}` }: Asked): Promise<string> {
  const config = { name, harness: { type: harness } }
  const from = parent === undefined ? {} : { parent_run_id: parent.run_id }
  const { run_id } = await house.client.runs.create({ body: { prompt: `Do the ${name}.`, title, config, ...from } })
  return run_id
}

/** As the engine leaves a run whose agent waits for events. */
async function wait(piece: Piece): Promise<void> {
  const waiting_until = new Date(Date.now() + 3_600_000)
  await house.database.kysely.updateTable('runs').set({ waiting_until }).where('run_id', '=', piece.run_id).execute()
}

async function block(piece: Piece): Promise<void> {
  await house.database.kysely.updateTable('runs').set({ state: 'BLOCKED' }).where('run_id', '=', piece.run_id).execute()
}

const pills = (page: Page) => page.getByRole('tablist', { name: 'Agents of this tree' }).getByRole('tab')
const status = (page: Page, word: string) => page.getByTestId('run-status').getByText(word, { exact: true })

const keepReport = ({ runner }: Piece) =>
  runner.harnessSupport.reportArtifact({
    body: { artifact_type: 'FILE', data: { filepath: 'out/report.md', content: '# What came out\n' } },
  })

/** An orchestrator and seven children in every state, one of which has a child of its own. */
async function orchestra() {
  const lead = await begun('lead', { title: 'Bring the shop to the new price service' })
  await lead.append(
    { kind: 'prompt', text: 'Bring the shop to the new price service. Split the work.' },
    { kind: 'text', text: 'I split this into **seven** pieces and start an agent for each.' },
  )
  await keepReport(lead)
  const branch = { url: 'https://git.example/shop/pull/7', branch: 'new-prices' }
  await lead.runner.harnessSupport.reportArtifact({ body: { artifact_type: 'PULL_REQUEST', data: branch } })
  const survey = await begun('survey', { parent: lead, harness: 'gemini' })
  await survey.append({ kind: 'text', text: 'Eleven places call the old service; four of them are tests.' })
  await survey.runner.messages.send({
    body: {
      to: [lead.run_id],
      subject: 'Eleven places call it',
      body: `See \`src/prices\`.\n\n${'- cart\n- checkout\n'.repeat(20)}`,
    },
  })
  const tokens = { input_tokens: 18_250, output_tokens: 640, cache_read_tokens: 4_000, cache_write_tokens: 0 }
  await survey.runner.executions.finish({
    params: { execution_id: survey.execution_id },
    body: { outcome: { outcome: 'SUCCEEDED' }, entries: 1, usage: { ...tokens, cost_usd: 0.0412 } },
  })
  const checkout = await begun('checkout-page', { parent: lead, harness: 'codex' })
  await checkout.append({ kind: 'text', text: 'Rounding differs in two places; I am writing a test for both.' })
  const taxes = await begun('taxes', { parent: checkout, harness: 'opencode' })
  await taxes.append({ kind: 'text', text: 'Looking up how taxes are rounded in each country.' })
  const broken = await begun('migrations', { parent: lead, harness: 'command' })
  await broken.finish({
    outcome: 'FAILED',
    failure: { error_code: 'environment_setup_failed', message: 'psql: not found', retryable: false },
  })
  const asking = await begun('design-question', { parent: lead })
  await asking.append({ kind: 'text', text: 'Should old prices stay visible to administrators?' })
  await block(asking)
  const docs = await begun('docs', { parent: lead })
  await wait(docs)
  const told = ['Half of the pages are done.', 'Two pages **contradict** each other; see `prices.md`.']
  for (const [at, message] of told.entries())
    await house.database.kysely
      .insertInto('notices')
      .values({
        notice_id: crypto.randomUUID(),
        team_id: house.owner.team_id,
        run_id: docs.run_id,
        message,
        created_at: new Date(Date.now() + at),
      })
      .execute()
  const gone = await begun('old-client', { parent: lead })
  await house.client.runs.cancel({ params: { run_id: gone.run_id } })
  await gone.finish({ outcome: 'CANCELLED' })
  await asked('a-rather-long-name-for-the-last-of-them', { parent: lead })
  return { lead, survey, checkout, taxes, broken, asking, docs, gone }
}

for (const look of LOOKS) {
  test(`trees are without barriers at ${look.width} px, ${look.theme}`, async () => {
    const { lead, checkout, taxes, docs, broken } = await orchestra()
    await house.client.messages.send({
      body: { to: [lead.run_id], subject: 'Leave the API as it is.', body: 'Others use it.', urgent: true },
    })
    const { page, context, complaints } = await visitSignedIn(browser, house, look)
    const settle = async (name: string) => {
      await page.evaluate('document.fonts.ready')
      await shoot(page, name, look)
      expect(complaints, name).toEqual([])
      expect(await findBarriers(page), name).toEqual([])
      expect(await overflow(page), name).toBeLessThanOrEqual(0)
    }
    await page.getByRole('button', { name: /7 children of/ }).click()
    await page.getByText('The checkout-page').waitFor()
    await page.getByRole('button', { name: /1 child of/ }).click()
    await page.getByText('The taxes').waitFor()
    await settle('tree-list')
    await page.goto(`/runs/${lead.run_id}`)
    await page.getByText('Leave the API as it is.').first().waitFor()
    await pills(page).first().waitFor()
    await settle('tree-parent')
    if ((await page.getByRole('button', { name: /more agents/ }).count()) > 0) {
      await page.getByRole('button', { name: /more agents/ }).click()
      await page.getByRole('menuitem').first().waitFor()
      await settle('tree-menu')
    }
    await page.goto(`/runs/${lead.run_id}?view=agents`)
    await page.getByRole('treegrid').getByRole('link', { name: 'taxes' }).waitFor()
    await settle('tree-agents')
    await page.goto(`/runs/${lead.run_id}?view=messages`)
    await page.getByRole('button', { name: 'Eleven places call it' }).click()
    await page.getByText('checkout', { exact: true }).first().waitFor()
    await settle('tree-messages')
    await page.goto(`/runs/${taxes.run_id}`)
    await page.getByLabel('Above this run').waitFor()
    await settle('tree-grandchild')
    await page.goto(`/runs/${docs.run_id}`)
    await page.getByText('Waiting for its agents').waitFor()
    await page.getByLabel('Notices').getByText('1 earlier notice').waitFor()
    await settle('tree-waiting')
    await page.goto(`/runs/${broken.run_id}?view=messages`)
    await page.getByText('A message to it would be refused').waitFor()
    await settle('tree-not-woken')
    await limit({ max_tree_messages: 1 })
    await checkout.runner.messages
      .send({ body: { to: [lead.run_id], subject: 'one too many', body: '' } })
      .catch(() => undefined)
    await page.goto(`/runs/${lead.run_id}`)
    await page.getByText('This tree was stopped').waitFor()
    await settle('tree-stopped')
    expect(complaints).toEqual([])
    await context.close()
  }, 180_000)
}

test('children stand under their parent in the list, live, and are found with its name', async () => {
  const lead = await begun('lead')
  const { page, context, complaints } = await visitSignedIn(browser, house)
  const rows = page.getByRole('list', { name: 'Runs', exact: true })
  await rows.getByText('The lead').waitFor()
  expect(await page.getByRole('button', { name: /children? of/ }).count()).toBe(0)
  const survey = await begun('survey', { parent: lead })
  await page.getByRole('button', { name: '1 child of The lead: 1 working' }).click()
  const below = page.getByRole('list', { name: 'Children of The lead' })
  await below.getByText('The survey').waitFor()
  await asked('docs', { parent: lead })
  await below.getByText('The docs').waitFor()
  await page.getByRole('button', { name: /^2 children of The lead/ }).waitFor()
  await survey.finish({
    outcome: 'FAILED',
    failure: { error_code: 'internal_error', message: 'It fell over.', retryable: false },
  })
  await page.getByRole('button', { name: /^2 children of The lead: 1 failed/ }).waitFor()
  await below.getByText('Failed', { exact: true }).waitFor()
  expect(await rows.locator('> li').count()).toBe(1)
  await page.getByLabel('Find runs by title or prompt').fill('survey')
  await page.getByText('child of lead').waitFor({ state: 'attached' })
  expect(await rows.locator('> li').count()).toBe(1)
  expect(await rows.getByText('The lead').count()).toBe(0)
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('a file that a run made is fetched from its page, by its own name', async () => {
  const lead = await begun('lead')
  await keepReport(lead)
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${lead.run_id}`)
  const began = page.waitForEvent('download')
  await page.getByRole('list', { name: 'Artifacts' }).getByRole('link', { name: 'report.md' }).click()
  const download = await began
  expect(download.suggestedFilename()).toBe('report.md')
  expect(await readFile(await download.path(), 'utf8')).toBe('# What came out\n')
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('pills are ordered by who needs somebody, are moved among by keys, and switch in place to any depth', async () => {
  const lead = await begun('lead')
  const first = await begun('first', { parent: lead })
  const second = await begun('second', { parent: lead })
  const third = await begun('third', { parent: lead })
  const deep = await begun('deep', { parent: first })
  await second.finish()
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${lead.run_id}`)
  const names = async () => (await pills(page).allTextContents()).map((words) => words.replace(/^[A-Z]/, ''))
  await until(
    'the pills stand in order',
    async () =>
      String(await names()) ===
      String(['lead, orchestrator, Working', 'first, Working', 'third, Working', 'second, Succeeded']),
  )
  await third.finish({
    outcome: 'FAILED',
    failure: { error_code: 'internal_error', message: 'It fell over.', retryable: false },
  })
  await until('what failed goes first', async () => (await names())[1] === 'third, Failed')
  expect(await page.getByTestId('announcer').textContent()).toContain('third: failed')
  const fourth = await begun('fourth', { parent: lead })
  await until('a child born later joins', async () => (await names()).includes('fourth, Working'))
  await pills(page).first().focus()
  await page.keyboard.press('End')
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('ArrowRight')
  expect(await page.evaluate('document.activeElement.dataset.pill')).toBe(first.run_id)
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'The first' }).waitFor()
  await until('its own child has a pill', async () => (await names()).includes('deep, Working'))
  await pills(page).getByText('deep').click()
  await page.getByRole('heading', { name: 'The deep' }).waitFor()
  expect(page.url()).toContain(deep.run_id)
  await page.getByLabel('Above this run').getByRole('link', { name: 'lead' }).click()
  await page.getByRole('heading', { name: 'The lead' }).waitFor()
  expect(fourth.run_id).not.toBe(first.run_id)
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('the parent tells births, changes and messages in order between what it says', async () => {
  const lead = await begun('lead')
  await lead.append({ kind: 'text', text: 'I start one.' })
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${lead.run_id}`)
  await page.getByText('I start one.').waitFor()
  const survey = await begun('survey', { parent: lead })
  await survey.runner.messages.send({ body: { to: [lead.run_id], subject: 'What I found', body: 'Eleven.' } })
  await survey.finish()
  const told = page.getByTestId('transcript')
  await told.getByText('succeeded').waitFor()
  await lead.append({ kind: 'text', text: 'Thank you, all.' })
  await told.getByText('Thank you, all.').waitFor()
  const words = (await told.textContent()) ?? ''
  const places = ['I start one.', 'Started', 'began to work', 'What I found', 'succeeded', 'Thank you, all.'].map(
    (part) => words.indexOf(part),
  )
  expect(places).toEqual([...places].sort((a, b) => a - b))
  expect(places).not.toContain(-1)
  await told.getByRole('button', { name: 'What I found' }).click()
  await told.getByText('Eleven.').waitFor()
  // Looking is not reading: the sender still sees that its recipient has not read it.
  const { messages } = await house.client.messages.mailbox({ params: { run_id: lead.run_id } })
  expect(messages).toMatchObject([{ sender_name: 'survey', recipient_name: 'lead', read_at: null }])
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('a message is sent, seen as delivered and read, and one that is refused keeps its text', async () => {
  const lead = await begun('lead')
  const { page, context } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${lead.run_id}?view=messages`)
  const text = page.getByLabel('Message to this run')
  await page.getByRole('button', { name: 'Send' }).click()
  await page.getByText('Write the message.').waitFor()
  await text.fill('Stop at noon.\nThe rest can wait.')
  await page.getByLabel('Urgent').check()
  await page.getByRole('button', { name: 'Send' }).click()
  await page.getByRole('button', { name: 'Stop at noon.' }).waitFor()
  const row = page.locator('[data-letter]').first()
  await row.getByText('Accepted').waitFor()
  expect(await text.inputValue()).toBe('')
  const message_id = (await row.getAttribute('data-letter')) ?? ''
  await lead.runner.messages.delivered({ params: { message_id } })
  await row.getByText('Delivered').waitFor()
  await lead.runner.messages.read({ params: { message_id } })
  await page.reload()
  await row.getByText('Read', { exact: true }).waitFor()
  expect((await house.client.messages.list({ params: { run_id: lead.run_id } }))[0]).toMatchObject({
    subject: 'Stop at noon.',
  })
  await text.fill('This one does not arrive.')
  await page.route('**/followups', (request) => request.abort())
  await page.getByRole('button', { name: 'Send' }).click()
  await page.getByText('It was not sent.').waitFor({ timeout: 30_000 })
  expect(await text.inputValue()).toBe('This one does not arrive.')
  await page.unroute('**/followups')
  await page.reload()
  expect(await text.inputValue()).toBe('This one does not arrive.')
  await lead.finish()
  await house.client.messages.list({ params: { run_id: lead.run_id } })
  await page.getByText('It has ended: the message wakes it.').waitFor()
  await page.getByRole('button', { name: 'Send' }).click()
  await status(page, 'Starting').waitFor()
  await context.close()
}, 90_000)

test('a tree that was stopped says why and is released; the whole of it is cancelled by number', async () => {
  await limit({ max_tree_messages: 1 })
  const lead = await begun('lead')
  const survey = await begun('survey', { parent: lead })
  const send = () => survey.runner.messages.send({ body: { to: [lead.run_id], subject: 'again', body: '' } })
  await send()
  await expect(send()).rejects.toThrow()
  const { page, context } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${survey.run_id}`)
  await page.getByLabel('Why the tree was stopped').getByText('Its runs sent 2 messages').waitFor()
  await page.getByLabel('Above this run').getByRole('link', { name: 'lead' }).click()
  await status(page, 'Needs you').waitFor()
  await page.getByRole('button', { name: 'Release' }).click()
  await page.getByRole('button', { name: 'Release the tree' }).click()
  await page.getByLabel('Why the tree was stopped').waitFor({ state: 'detached' })
  await status(page, 'Needs you').waitFor({ state: 'detached' })
  await page.getByRole('link', { name: 'Sub-agents (1)' }).click()
  await page.getByRole('button', { name: 'Cancel the tree (2 runs)' }).click()
  await page.getByRole('button', { name: 'Cancel 2 runs' }).click()
  await until('all of it is told to stop', async () => {
    const { runs } = await house.client.runs.list({ query: {} })
    return runs.every((run) => run.cancel_requested || run.state === 'CANCELLED')
  })
  await context.close()
}, 60_000)

test('a stopped tree whose top has ended is among what needs somebody, live, and is released at its top', async () => {
  await limit({ max_tree_messages: 1 })
  const lead = await begun('lead')
  const survey = await begun('survey', { parent: lead })
  const docs = await begun('docs', { parent: lead })
  await lead.finish({ outcome: 'SUCCEEDED', summary: 'The rest is theirs.' })
  const { page, context } = await visitSignedIn(browser, house)
  await page.goto('/needs-you')
  await page.getByText('Nothing needs you').waitFor()
  const send = () => survey.runner.messages.send({ body: { to: [docs.run_id], subject: 'again', body: '' } })
  await send()
  await expect(send()).rejects.toThrow()
  await page.getByLabel('Waits for a person').getByText('Its tree was stopped: Its runs sent 2 messages').waitFor()
  await page.getByLabel('Waits for a person').getByRole('link', { name: 'The lead' }).click()
  await status(page, 'Succeeded').waitFor()
  await page.getByLabel('Why the tree was stopped').getByText('Its runs sent 2 messages').waitFor()
  await page.getByRole('button', { name: 'Release' }).click()
  await page.getByRole('button', { name: 'Release the tree' }).click()
  await page.getByLabel('Why the tree was stopped').waitFor({ state: 'detached' })
  await status(page, 'Succeeded').waitFor()
  await page.goto('/needs-you')
  await page.getByText('Nothing needs you').waitFor()
  await context.close()
}, 60_000)

test('a tree of a thousand runs is a table that opens, closes and scrolls by keys', async () => {
  const lead = await begun('lead')
  const {
    labels: _labels,
    sort_title: _title,
    sort_agent: _agent,
    ...top
  } = await house.database.kysely
    .selectFrom('runs')
    .selectAll()
    .where('run_id', '=', lead.run_id)
    .executeTakeFirstOrThrow()
  const ids = Array.from({ length: 999 }, () => crypto.randomUUID())
  const rows = ids.map((run_id, at) => ({
    ...top,
    run_id,
    conversation_id: crypto.randomUUID(),
    title: `Piece ${at + 1}`,
    config: JSON.stringify({ name: `piece-${at + 1}`, harness: { type: 'command' } }),
    metadata: '{}',
    parent_run_id: at < 9 ? lead.run_id : (ids[at % 9] ?? lead.run_id),
    depth: at < 9 ? 1 : 2,
    state: 'SUCCEEDED',
    execution_id: null,
    stopped: null,
    failure: null,
    created_at: new Date(top.created_at.getTime() + at + 1),
  }))
  for (let at = 0; at < rows.length; at += 200)
    await house.database.kysely
      .insertInto('runs')
      .values(rows.slice(at, at + 200))
      .execute()
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${lead.run_id}?view=agents`)
  const grid = page.getByRole('treegrid')
  await page.getByText('1000 runs, still at work').waitFor()
  expect(await grid.getAttribute('aria-rowcount')).toBe('1001')
  expect(await grid.getByRole('row').count()).toBeLessThan(60)
  await grid.getByRole('row', { name: /lead/ }).focus()
  await page.keyboard.press('End')
  const focused = () => page.evaluate('document.activeElement.getAttribute("aria-rowindex")')
  await until('the last row has the focus', async () => (await focused()) === '1001')
  await page.keyboard.press('ArrowLeft')
  await until('its parent has the focus', async () => (await focused()) !== '1001')
  await page.keyboard.press('ArrowLeft')
  await until('what is below it is closed', async () => (await grid.getAttribute('aria-rowcount')) === '891')
  await page.keyboard.press('ArrowRight')
  await until('and open again', async () => (await grid.getAttribute('aria-rowcount')) === '1001')
  await page.keyboard.press('Home')
  await until('the first row has the focus', async () => (await focused()) === '2')
  await page.keyboard.press('ArrowDown')
  await until('the second row has the focus', async () => (await focused()) === '3')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Piece 1', exact: true }).waitFor()
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)
