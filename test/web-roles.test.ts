/** What the page offers to whom: nothing that the server would refuse, and where nothing is offered, the reason. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Role } from '../src/contract/index.ts'
import { buildPage, findBarriers, LOOKS, openBrowser, overflow, shoot, visitSignedIn } from './house/browser.ts'
import { type House, type Person, startHouse } from './house/house.ts'
import { takeAgent } from './house/mcp-agent.ts'

let browser: Browser
let built: Awaited<ReturnType<typeof buildPage>>
let house: House
let people: Record<Role, Person>
let ids: Record<'working' | 'failed' | 'planning' | 'parent' | 'stopped' | 'batch', string>

beforeAll(async () => {
  built = await buildPage()
  browser = await openBrowser()
  house = await startHouse({ web_dir: built.web_dir, max_concurrent_runs: 50, engine_limits: { lease_ms: 600_000 } })
  people = {
    viewer: await house.addMember('Vic Viewer', 'viewer'),
    member: await house.addMember('Mel Member', 'member'),
    admin: await house.addMember('Ada Admin', 'admin'),
    owner: await house.addMember('Olga Owner', 'owner'),
  }
  ids = await fill()
}, 60_000)
afterAll(async () => {
  await browser.close()
  await house.close()
  await built.remove()
})

async function fill() {
  const worker = await house.worker({ capacity: 50 })
  const begin = async (title: string, more: object = {}) => {
    const { run_id } = await house.client.runs.create({ body: { prompt: title, title, ...more } })
    const piece = await worker.next()
    expect(piece.run_id).toBe(run_id)
    piece.claim()
    await piece.start()
    return piece
  }
  const working = await begin('Write the release notes')
  await working.append({ kind: 'text', text: 'Reading the log…' })
  const failed = await begin('Upgrade everything')
  await failed.finish({
    outcome: 'FAILED',
    failure: { error_code: 'environment_setup_failed', message: 'pnpm: not found.', retryable: false },
  })
  const config = { harness: { type: 'claude' } }
  await house.client.runs.create({ body: { prompt: 'Plan it.', title: 'Bring the shop over', mode: 'plan', config } })
  const planner = await takeAgent(house, worker)
  await planner.call('propose_plan', {
    plan: '# Two steps\n\nFirst this, then that.',
    agents: [{ name: 'cart', prompt: 'Change the cart.' }],
  })
  const parent = await begin('Lead the work')
  await begin('Help with the work', { parent_run_id: parent.run_id })
  const stopped = await begin('Go in circles')
  await begin('Circle', { parent_run_id: stopped.run_id })
  const why = { reason: 'messages', message: 'Its agents sent 5000 messages.', at: new Date().toISOString() }
  await house.database.kysely
    .updateTable('runs')
    .set({ stopped: JSON.stringify(why) })
    .where('run_id', '=', stopped.run_id)
    .execute()
  const tasks = ['One', 'Two'].map((prompt) => ({ prompt, config: { worker_host: 'never' } }))
  const { batch_id } = await house.client.batches.create({ body: { title: 'Ten migrations', tasks } })
  return {
    working: working.run_id,
    failed: failed.run_id,
    planning: planner.run_id,
    parent: parent.run_id,
    stopped: stopped.run_id,
    batch: batch_id,
  }
}

/** Each page: what shows that it is there, and what members find on it. */
const PAGES: { name: string; path: () => string; there: (page: Page) => Promise<void>; acts: string[] }[] = [
  {
    name: 'runs',
    path: () => '/runs',
    there: (page) => seen(page, 'Write the release notes'),
    acts: ['link New run', 'button New'],
  },
  {
    name: 'batches',
    path: () => '/batches',
    there: (page) => seen(page, 'Ten migrations'),
    acts: ['link Orchestrator'],
  },
  { name: 'needs-you', path: () => '/needs-you', there: (page) => seen(page, 'Two steps'), acts: [] },
  {
    name: 'run-working',
    path: () => `/runs/${ids.working}`,
    there: (page) => seen(page, 'Reading the log…'),
    acts: ['button Cancel', 'form Send a message'],
  },
  {
    name: 'run-failed',
    path: () => `/runs/${ids.failed}`,
    there: (page) => page.getByLabel('Why it failed').waitFor(),
    acts: ['button Retry', 'form Send a message'],
  },
  {
    name: 'run-messages',
    path: () => `/runs/${ids.working}?view=messages`,
    there: (page) => seen(page, 'No messages yet.'),
    acts: ['form Send a message'],
  },
  {
    name: 'run-plan',
    path: () => `/runs/${ids.planning}`,
    there: (page) => seen(page, 'First this, then that.'),
    acts: ['button Approve version 1', 'button Request changes', 'button Reject', 'button Edit text'],
  },
  {
    name: 'run-tree',
    path: () => `/runs/${ids.parent}?view=agents`,
    there: (page) => page.getByText('2 runs, still at work').waitFor(),
    acts: ['button Cancel the tree'],
  },
  {
    name: 'run-stopped',
    path: () => `/runs/${ids.stopped}`,
    there: (page) => page.getByText('Its agents sent 5000 messages.').waitFor(),
    acts: ['button Release'],
  },
  {
    name: 'batch',
    path: () => `/batches/${ids.batch}`,
    there: (page) => page.getByText('0 of 2 completed').first().waitFor(),
    acts: ['button Pause', 'button Cancel', 'textbox At a time'],
  },
  {
    name: 'new-run',
    path: () => '/runs/new',
    there: (page) => page.getByRole('heading', { name: 'New run' }).waitFor(),
    acts: ['button Start run', 'textbox Prompt'],
  },
  {
    name: 'new-batch',
    path: () => '/batches/new',
    there: (page) => page.getByRole('heading', { name: 'Orchestrator' }).waitFor(),
    acts: ['button Start', 'button Add a task'],
  },
]

const seen = (page: Page, text: string) => page.getByText(text).first().waitFor()

/** What a second look has to see again, unless pictures are wanted. */
const AGAIN = ['runs', 'run-messages', 'run-plan', 'run-stopped', 'batch', 'new-batch']
const pagesFor = (again: boolean) =>
  again && !process.env.BATON_TEST_SHOTS ? PAGES.filter(({ name }) => AGAIN.includes(name)) : PAGES

/** `button Cancel` as a locator. */
function find(page: Page, act: string) {
  const [role = 'button', ...name] = act.split(' ')
  const exact = act !== 'button Cancel the tree'
  return page.getByRole(role as 'button', { name: name.join(' '), exact }).first()
}

for (const role of ['member', 'admin'] as const) {
  test(`${role}s find what they may do on every page`, async () => {
    const { page, context, complaints } = await visitSignedIn(browser, { ...house, client: people[role].client })
    for (const { name, path, there, acts } of pagesFor(role === 'admin')) {
      await page.goto(path())
      await there(page)
      for (const act of acts) await expect(find(page, act).waitFor(), `${name}: ${act}`).resolves.toBeUndefined()
    }
    expect(await page.getByText('View only').count()).toBe(0)
    expect(complaints).toEqual([])
    await context.close()
  }, 60_000)
}

/** All four where pictures are wanted; these two have what can go wrong. */
const looks = LOOKS.filter(({ theme, width }) => process.env.BATON_TEST_SHOTS || (theme === 'dark') === width < 600)

for (const look of looks) {
  test(`viewers find nothing that they may not do, and why, at ${look.width} px, ${look.theme}`, async () => {
    const { page, context, complaints } = await visitSignedIn(browser, { ...house, client: people.viewer.client }, look)
    const asked: string[] = []
    page.on('request', (request) => {
      if (request.method() !== 'GET') asked.push(`${request.method()} ${new URL(request.url()).pathname}`)
    })
    for (const { name, path, there, acts } of pagesFor(look.width < 600)) {
      await page.goto(path())
      await there(page)
      await page.getByText('View only').waitFor()
      for (const act of acts) expect(await find(page, act).count(), `${name}: ${act}`).toBe(0)
      expect(await page.locator('main form').count(), name).toBe(0)
      await page.evaluate('document.fonts.ready')
      await shoot(page, `viewer-${name}`, look)
      expect(await findBarriers(page), name).toEqual([])
      expect(await overflow(page), name).toBeLessThanOrEqual(0)
    }
    await page.getByText('To start a batch takes the role member').waitFor()
    await page.getByText('View only').click()
    await page.getByText('To start, answer and stop runs takes the role member').waitFor()
    await shoot(page, 'viewer-why', look)
    expect(await overflow(page)).toBeLessThanOrEqual(0)
    await page.goto(`/runs/${ids.planning}`)
    await page.getByText('A member of the team answers this plan; you may look at it.').waitFor()
    await seen(page, 'First this, then that.')
    // The keys that answer and send do nothing either.
    await page.keyboard.press('Control+Enter')
    expect(asked).toEqual([])
    expect(complaints).toEqual([])
    await context.close()
  }, 90_000)
}

test('who is made a viewer while the page is open is told at the first click, and is offered no second one', async () => {
  const sly = await house.addMember('Sly', 'member')
  const { page, context } = await visitSignedIn(browser, { ...house, client: sly.client })
  await page.goto(`/runs/${ids.failed}`)
  await page.getByRole('button', { name: 'Retry' }).waitFor()
  await house.client.teams.changeRole({ params: { user_id: sly.caller.user_id }, body: { role: 'viewer' } })
  await page.getByRole('button', { name: 'Retry' }).click()
  await page.getByRole('alert').getByText('takes the role member').waitFor()
  await page.getByText('View only').waitFor()
  expect(await page.getByRole('button', { name: 'Retry' }).count()).toBe(0)
  await context.close()
}, 60_000)
