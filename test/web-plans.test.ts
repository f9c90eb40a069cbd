/** Plans in the page: read, edited and answered, against a real server with agents that propose over MCP. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { buildPage, findBarriers, LOOKS, openBrowser, overflow, shoot, visitSignedIn } from './house/browser.ts'
import { type House, startHouse } from './house/house.ts'
import { type Agent, takeAgent } from './house/mcp-agent.ts'
import { until } from './house/processes.ts'
import type { ScriptedWorker } from './house/worker.ts'

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
  worker = await house.worker({ capacity: 50 })
})
afterEach(() => house.close())

const PLAN = `# Bring the shop to the new price service

Eleven places call the old service. Two agents share them, so that neither waits for the other.

- **cart** owns \`src/cart\` and its tests
- **checkout** owns \`src/checkout\`

| who | files |
| --- | --- |
| cart | 6 |
| checkout | 5 |

<img src="https://elsewhere.example/x.png" onerror="document.title='broken'">`
const AGENTS = [
  { name: 'cart', prompt: 'Change all calls below src/cart to the new service.', expected_return: 'the list of files' },
  { name: 'checkout', prompt: 'Change all calls below src/checkout.', harness: 'codex', model_id: 'small' },
]

async function planner(title = 'Bring the shop over'): Promise<Agent> {
  const config = { harness: { type: 'claude' } }
  const { run_id } = await house.client.runs.create({ body: { prompt: 'Do it.', title, mode: 'orchestrate', config } })
  const agent = await takeAgent(house, worker)
  expect(agent.run_id).toBe(run_id)
  await agent.append({ kind: 'text', text: 'I looked around and propose a plan.' })
  return agent
}

const propose = (agent: Agent, more: Record<string, unknown> = {}) =>
  agent.call('propose_plan', { plan: PLAN, agents: AGENTS, config: { parallelism: 2 }, ...more })
const plansOf = async (agent: Agent) => (await house.client.plans.ofRun({ params: { run_id: agent.run_id } })).plans
const card = (page: Page) => page.locator('section[data-plan]')
const words = (page: Page) => page.getByLabel('Words to the agent')
const announced = (page: Page) => page.getByTestId('announcer')
const addEnvironment = () => house.client.environments.create({ body: { name: 'web-shop', docker_image: 'node:24' } })

for (const look of LOOKS) {
  test(`plans are without barriers at ${look.width} px, ${look.theme}`, async () => {
    await addEnvironment()
    const agent = await planner()
    await propose(agent)
    const { page, context, complaints } = await visitSignedIn(browser, house, look)
    const settle = async (name: string) => {
      await page.evaluate('document.fonts.ready')
      await shoot(page, name, look)
      expect(complaints, name).toEqual([])
      expect(await findBarriers(page), name).toEqual([])
      expect(await overflow(page), name).toBeLessThanOrEqual(0)
    }
    await page.goto(`/runs/${agent.run_id}`)
    await card(page).getByText('owns').first().waitFor()
    await settle('plan-open')
    await page.getByRole('button', { name: 'Edit checkout' }).click()
    await page.getByLabel('Prompt', { exact: true }).fill('Change less.')
    await page.getByText('becomes version 2').waitFor()
    await page.getByRole('button', { name: 'Request changes' }).scrollIntoViewIfNeeded()
    await settle('plan-edited')
    await propose(agent, { plan: PLAN.replace('Two agents', 'Two agents and a reviewer'), config: { parallelism: 3 } })
    await page.getByRole('button', { name: 'Show version 2' }).scrollIntoViewIfNeeded()
    await page.getByRole('button', { name: 'Compare the texts' }).click()
    await settle('plan-newer')
    await page.goto('/needs-you')
    await page.getByText('with 2 agents').waitFor()
    await settle('needs-you')
    await house.client.plans.approve({ params: { run_id: agent.run_id, version: 2 }, body: { message: 'Go ahead.' } })
    await page.getByText('Nothing needs you').waitFor()
    await settle('needs-nothing')
    await page.goto(`/runs/${agent.run_id}`)
    await page.getByRole('button', { name: /Plan, version 2: approved/ }).click()
    await page.getByText('Go ahead.').waitFor()
    await settle('plan-answered')
    await page.goto('/runs/new')
    await page.getByLabel('Prompt').fill('/plan Make it faster')
    await page.getByText('was understood').waitFor()
    await settle('new-run-mode')
    await page.getByRole('button', { name: 'New', exact: true }).click()
    await page.getByRole('menuitem', { name: /Orchestrator/ }).waitFor()
    await settle('new-menu')
    await context.close()
  }, 180_000)
}

test('a plan is read, edited and approved by keys, and the agent is bound to what was approved', async () => {
  await addEnvironment()
  const agent = await planner()
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${agent.run_id}`)
  await page.getByText('I looked around').waitFor()
  expect(await card(page).count()).toBe(0)
  await propose(agent)
  await page.getByRole('heading', { name: 'Bring the shop to the new price service' }).first().waitFor()
  await page.getByRole('link', { name: /^Needs you\s*1$/ }).waitFor()
  // What an agent writes is text: nothing of it runs, and nothing is fetched for it.
  expect(await page.title()).not.toBe('broken')
  expect(await card(page).locator('img').count()).toBe(0)
  await page.getByLabel('Environment').first().selectOption('web-shop')
  await page.getByLabel('Parallelism').fill('1')
  await page.getByRole('button', { name: 'Remove checkout' }).click()
  await page.getByText('becomes version 2').waitFor()
  await page.getByRole('button', { name: 'Edit cart' }).click()
  await page.getByLabel('Prompt', { exact: true }).fill('')
  await words(page).fill('Only the cart for now.')
  await page.reload()
  expect(await words(page).inputValue()).toBe('Only the cart for now.')
  await page.keyboard.press('Control+Enter')
  expect((await plansOf(agent))[0]).toMatchObject({ state: 'proposed' })
  await words(page).focus()
  await page.keyboard.press('Control+Enter')
  await page.getByText('Write what it is to do.').waitFor()
  await until('the wrong field has the focus', () =>
    page.evaluate('document.activeElement.id === "plan-children-0-prompt"'),
  )
  await page.keyboard.type('Only the cart.')
  await page.keyboard.press('Control+Enter')
  await page.getByRole('button', { name: /Plan, version 2: approved/ }).waitFor()
  expect(await plansOf(agent)).toMatchObject([
    {
      version: 2,
      author: 'person',
      state: 'approved',
      words: 'Only the cart for now.',
      children: [{ name: 'cart', prompt: 'Only the cart.' }],
      config: { parallelism: 1, environment: 'web-shop' },
    },
    { version: 1, state: 'superseded' },
  ])
  await page.getByRole('link', { name: 'Needs you', exact: true }).waitFor()
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('changes are asked for in words, and the next version shows up with all versions to choose from', async () => {
  const agent = await planner()
  await propose(agent)
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${agent.run_id}`)
  await page.getByRole('button', { name: 'Request changes' }).click()
  await page.getByText('Say what to change.').waitFor()
  await words(page).fill('Name the risks.')
  await page.getByRole('button', { name: 'Request changes' }).click()
  await page.getByRole('button', { name: /Plan, version 1: changes asked for/ }).waitFor()
  expect(await page.getByText('not sent').count()).toBe(0)
  await propose(agent, { plan: '# Again\n\nThe risks are three.', agents: [] })
  await card(page).getByText('The risks are three.').waitFor()
  await page.getByText('the agent goes on alone').waitFor()
  await page.getByLabel('Version of the plan').selectOption('1')
  await card(page).getByText('Name the risks.').waitFor()
  await card(page).getByText('Eleven places').waitFor()
  expect(await page.getByRole('button', { name: 'Reject' }).count()).toBe(0)
  await page.getByRole('button', { name: 'Show version 2' }).click()
  // The composer's words to a run whose plan waits ask for changes too.
  await page.getByLabel('Message to this run').fill('And name who reviews.')
  await page.getByRole('button', { name: 'Ask for changes' }).click()
  await page.getByRole('button', { name: /Plan, version 2: changes asked for/ }).waitFor()
  expect((await plansOf(agent))[0]).toMatchObject({ state: 'changes_requested', words: 'And name who reviews.' })
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('a rejection names the run that it cancels', async () => {
  const agent = await planner('The run to be stopped')
  await propose(agent)
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${agent.run_id}`)
  await words(page).fill('Not this year.')
  await page.getByRole('button', { name: 'Reject' }).click()
  await page.getByText('The run “The run to be stopped” is cancelled.').waitFor()
  await page.getByRole('button', { name: 'Keep it open' }).click()
  expect((await plansOf(agent))[0]?.state).toBe('proposed')
  await page.getByRole('button', { name: 'Reject' }).click()
  await page.getByRole('button', { name: 'Reject and cancel the run' }).click()
  await page.getByRole('button', { name: /Plan, version 1: rejected/ }).waitFor()
  expect((await plansOf(agent))[0]).toMatchObject({ state: 'rejected', words: 'Not this year.' })
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('a version that comes while another is edited is announced and takes nothing away', async () => {
  const agent = await planner()
  await propose(agent)
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.goto(`/runs/${agent.run_id}`)
  await page.getByLabel('Model (optional)').fill('big')
  await words(page).fill('Half typed')
  await propose(agent, { plan: '# Second\n\nAnother text.', config: { parallelism: 5 } })
  await page.getByText('Version 2 waits for an answer now').waitFor()
  expect(await announced(page).textContent()).toContain('Version 2 of the plan was proposed')
  await card(page).getByText('Eleven places').waitFor()
  await page.getByRole('button', { name: 'Show it with my edits' }).click()
  await card(page).getByText('Another text.').waitFor()
  expect(await page.getByLabel('Model (optional)').inputValue()).toBe('big')
  expect(await page.getByLabel('Parallelism').inputValue()).toBe('5')
  expect(await words(page).inputValue()).toBe('Half typed')
  await page.getByRole('button', { name: 'Approve version 2' }).click()
  await page.getByRole('button', { name: /Plan, version 3: approved/ }).waitFor()
  expect((await plansOf(agent))[0]).toMatchObject({ config: { model_id: 'big', parallelism: 5 }, words: 'Half typed' })
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)

test('an answer to an outdated version is refused with what differs, and what was typed stays', async () => {
  const agent = await planner()
  await propose(agent)
  const { page, context } = await visitSignedIn(browser, house)
  // A page that hears nothing of what happens.
  await page.route('**/api/v1/stream*', (request) => request.abort())
  await page.goto(`/runs/${agent.run_id}`)
  await words(page).fill('Go ahead with this.')
  await propose(agent, { config: { parallelism: 9 } })
  await page.getByRole('button', { name: 'Approve version 1' }).click()
  await page.getByText('Your answer was not taken.').waitFor()
  await page.getByText('was 2, is 9').waitFor()
  expect((await plansOf(agent)).map((plan) => plan.state)).toEqual(['proposed', 'superseded'])
  await page.getByRole('button', { name: 'Show version 2' }).click()
  expect(await words(page).inputValue()).toBe('Go ahead with this.')
  // Somebody else is quicker.
  await house.client.plans.approve({ params: { run_id: agent.run_id, version: 2 }, body: {} })
  await page.getByRole('button', { name: 'Approve version 2' }).click()
  await page.getByText('What you had typed was not sent').waitFor()
  await page.getByText('was already approved').waitFor()
  await page.getByText('Go ahead with this.').waitFor()
  await page.getByRole('button', { name: 'Discard' }).click()
  expect(await page.getByText('Go ahead with this.').count()).toBe(0)
  await context.close()
}, 60_000)

test('a plan that cannot be read says so, and one whose run is cancelled needs no answer', async () => {
  const agent = await planner()
  await propose(agent)
  const { page, context } = await visitSignedIn(browser, house)
  await page.route('**/agent/runs/*/plans', (request) => request.fulfill({ status: 400, body: '{}' }))
  await page.goto(`/runs/${agent.run_id}`)
  await page.getByText('The plan could not be read.').waitFor()
  await page.unroute('**/agent/runs/*/plans')
  // News of the run may have it read again before anybody presses the button.
  const again = page.getByRole('button', { name: 'Try again' }).click({ timeout: 5_000 })
  await Promise.all([card(page).waitFor(), again.catch(() => {})])
  await house.client.runs.cancel({ params: { run_id: agent.run_id } })
  await page.getByText(/needs no answer|Plan, version 1: Not answered/).waitFor()
  expect(await page.getByRole('button', { name: 'Approve version 1' }).count()).toBe(0)
  await context.close()
}, 60_000)

test('a mode at the start of what is typed is understood, and may be taken back', async () => {
  const { page, context, complaints } = await visitSignedIn(browser, house)
  await page.getByRole('button', { name: 'New', exact: true }).click()
  await page.keyboard.press('Enter')
  await page.getByLabel('Harness').selectOption('claude')
  await page.getByLabel('Prompt').fill('/orchestrate Tidy up')
  await page.getByText('was understood').waitFor()
  expect(await page.getByLabel('Mode', { exact: true }).inputValue()).toBe('orchestrate')
  await page.getByLabel('Harness').selectOption('command')
  expect(await page.getByLabel('Mode', { exact: true }).count()).toBe(0)
  expect(await page.getByText('was understood').count()).toBe(0)
  await page.getByLabel('Harness').selectOption('claude')
  await page.getByRole('button', { name: 'Start run' }).click()
  const agent = await takeAgent(house, worker)
  const get = () => house.client.runs.get({ params: { run_id: agent.run_id } })
  expect(await get()).toMatchObject({ mode: 'orchestrate', prompt: 'Tidy up' })
  const text = page.getByLabel('Message to this run')
  await text.fill('/plan the rest')
  await page.getByText('was understood').waitFor()
  await page.getByRole('button', { name: 'Send', exact: true }).click()
  await until(
    'the follow-up has arrived',
    async () => (await text.inputValue()) === '' && (await get()).mode === 'plan',
  )
  const sent = await house.client.messages.mailbox({ params: { run_id: agent.run_id } })
  expect(sent.messages).toMatchObject([{ subject: 'the rest', urgent: false }])
  await text.fill('/plan is a path here')
  await page.getByRole('button', { name: 'Not a mode' }).click()
  await page.getByRole('button', { name: 'Send', exact: true }).click()
  await until('it has been sent', async () => (await text.inputValue()) === '')
  expect((await house.client.messages.mailbox({ params: { run_id: agent.run_id } })).messages[1]?.subject).toBe(
    '/plan is a path here',
  )
  expect(complaints).toEqual([])
  await context.close()
}, 60_000)
