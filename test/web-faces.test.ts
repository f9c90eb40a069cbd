/** Each page in each of its faces: both themes, wide and narrow, without barriers, overflow or complaints. */
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { EntryBody } from '../src/contract/index.ts'
import { buildPage, findBarriers, LOOKS, openBrowser, overflow, shoot, visit, visitSignedIn } from './house/browser.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'

let browser: Browser
let built: Awaited<ReturnType<typeof buildPage>>
let empty: House
let full: House
let ids: Record<'done' | 'failed' | 'cancelled' | 'working' | 'queued', string>

beforeAll(async () => {
  built = await buildPage()
  browser = await openBrowser()
  empty = await startHouse({ web_dir: built.web_dir })
  full = await startHouse({ web_dir: built.web_dir, max_concurrent_runs: 3, engine_limits: { lease_ms: 600_000 } })
  ids = await fill(full)
}, 60_000)

afterAll(async () => {
  await browser.close()
  await full.close()
  await empty.close()
  await built.remove()
})

const LONG =
  'https://example.com/a/very/long/address/that/does/not/break/anywhere/by/itself/and/goes/on/for/a/while/until/it/is/too/wide'

const WORK: EntryBody[] = [
  { kind: 'system', level: 'info', name: 'clone', text: 'Cloned https://example.com/shop.git at main (4f1c2ab).' },
  { kind: 'prompt', text: 'Fix the failing checkout test.\nKeep the change small.' },
  { kind: 'thought', text: 'The test expects a rounded total. Let me look at how totals are made.' },
  {
    kind: 'plan',
    items: [
      { content: 'Reproduce the failure', status: 'completed' },
      { content: 'Round half up', status: 'in_progress' },
      { content: 'Run all tests', status: 'pending' },
    ],
  },
  {
    kind: 'tool_call',
    call_id: 'a',
    name: 'bash',
    category: 'command',
    title: 'npm test -- checkout',
    input: { command: 'npm test -- checkout' },
  },
  {
    kind: 'tool_result',
    call_id: 'a',
    status: 'failed',
    output: '\u001b[31m✗ rounds the total\u001b[0m\n  expected 10.01, got 10.00\n',
    exit_code: 1,
  },
  {
    kind: 'tool_call',
    call_id: 'b',
    name: 'edit',
    category: 'files',
    title: 'src/total.ts',
    paths: ['src/total.ts'],
    input: { path: 'src/total.ts' },
  },
  {
    kind: 'tool_result',
    call_id: 'b',
    status: 'completed',
    output: '',
    changes: [
      {
        path: 'src/total.ts',
        old_text: 'const a = 1\nreturn Math.floor(x)\n',
        new_text: 'const a = 1\nreturn Math.round(x)\n',
      },
    ],
  },
  {
    kind: 'tool_call',
    call_id: 'c',
    name: 'bash',
    category: 'command',
    title: 'curl https://example.com',
    input: { command: 'curl https://example.com' },
  },
  { kind: 'tool_result', call_id: 'c', status: 'denied', output: 'Denied by the permission policy.' },
  {
    kind: 'text',
    text: `## Done\n\nThe total is **rounded half up** now.\n\n- \`src/total.ts\` changed\n- [x] tests pass\n\n| test | result |\n| --- | --- |\n| checkout | passes |\n\n\`\`\`ts\nreturn Math.round(x)\n\`\`\`\n\n![tracker](https://example.com/t.png) <b>raw</b> ${LONG}`,
  },
  { kind: 'output', stream: 'stdout', text: '\u001b[32mok\u001b[0m 12 tests\n' },
  { kind: 'output', stream: 'stderr', text: 'warning: something old is used\n' },
  { kind: 'gap', bytes: 12_345, reason: 'the disk was full' },
  { kind: 'unknown', raw: { sessionUpdate: 'from_the_future' } },
  {
    kind: 'system',
    level: 'warning',
    name: 'usage',
    text: 'The harness gave no cost.',
    details: { harness: 'command' },
  },
]

async function fill(house: House) {
  const worker = await house.worker({ worker_host: 'build-machine-7' })
  const make = async (title: string, prompt = `${title}, please`) =>
    (
      await house.client.runs.create({
        body: { prompt, title, config: { harness: { type: 'claude' }, model_id: 'claude-opus-5' } },
      })
    ).run_id
  const begin = async () => {
    const piece = await worker.next()
    piece.claim()
    await piece.start()
    return piece
  }
  const done = await make('Fix the failing checkout test')
  const first = await begin()
  await first.append(...WORK)
  await first.finish()
  first.complete()
  const failed = await make(`Upgrade everything at ${LONG}`)
  const second = await begin()
  await second.append({ kind: 'system', level: 'error', name: 'setup', text: 'Setup command 2 of 3 exited with 127.' })
  await second.finish({
    outcome: 'FAILED',
    failure: {
      error_code: 'environment_setup_failed',
      message: `Setup command 2 of 3 exited with 127: pnpm: not found.${`\n  at ${LONG}`.repeat(8)}`,
      retryable: false,
    },
  })
  second.complete()
  const cancelled = await make('Rewrite it all in another language')
  const stopped = await begin()
  await stopped.append({ kind: 'prompt', text: 'Rewrite it all in another language' })
  await house.client.runs.cancel({ params: { run_id: cancelled } })
  await stopped.finish({ outcome: 'CANCELLED' })
  stopped.complete()
  const working = await make('Write the release notes')
  const third = await begin()
  await third.append(
    { kind: 'prompt', text: 'Write the release notes' },
    { kind: 'text', text: 'Reading the log…' },
    {
      kind: 'tool_call',
      call_id: 'z',
      name: 'bash',
      category: 'command',
      title: 'git log --oneline v1.0.0..HEAD',
      input: { command: 'git log' },
    },
  )
  const blocked = await make('Choose the colour of the button')
  await begin()
  await house.database.kysely.updateTable('runs').set({ state: 'BLOCKED' }).where('run_id', '=', blocked).execute()
  await make('Translate the manual')
  ;(await worker.next()).claim()
  await until('a run is claimed', async () => {
    const { runs } = await house.client.runs.list({ query: { state: ['CLAIMED'] } })
    return runs.length === 1
  })
  const queued = await make('Wait for a turn', 'Wait for a turn.\n'.repeat(60))
  return { done, failed, cancelled, working, queued }
}

for (const look of LOOKS) {
  const name = `at ${look.width} px, ${look.theme}`

  test(`the page of a stranger is without barriers ${name}`, async () => {
    const { page, context, complaints } = await visit(browser, empty, look)
    await page.goto('/login')
    await page.getByLabel('API key').waitFor()
    await settle(page, 'login')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByText('Paste an API key first.').waitFor()
    await settle(page, 'login-wrong')
    await page.goto('/nowhere/at/all')
    await page.getByRole('heading', { name: 'There is no page here' }).waitFor()
    await settle(page, 'not-found')
    expect(complaints).toEqual([])
    await context.close()
  })

  test(`pages with nothing in them are without barriers ${name}`, async () => {
    const { page, context, complaints } = await visitSignedIn(browser, empty, look)
    await page.getByText('No runs yet').waitFor()
    await settle(page, 'runs-empty')
    await page.goto('/runs?q=nothing')
    await page.getByText('No run matches').waitFor()
    await settle(page, 'runs-none-match')
    await page.goto('/runs/new')
    await page.getByLabel('Prompt').waitFor()
    await page.getByText('No worker is connected').waitFor()
    await settle(page, 'new-run')
    await page.getByRole('button', { name: 'Start run' }).click()
    await page.getByText('Write what the agent is to do.').waitFor()
    await settle(page, 'new-run-wrong')
    expect(complaints).toEqual([])
    await context.close()
  })

  test(`full pages are without barriers ${name}`, async () => {
    const { page, context, complaints } = await visitSignedIn(browser, full, look)
    await page.getByText('Write the release notes').waitFor()
    await settle(page, 'runs')
    await page.goto(`/runs/${ids.done}`)
    await page.getByRole('heading', { name: 'Done' }).waitFor()
    await settle(page, 'run-done-end')
    await page.evaluate('document.querySelector("[data-testid=transcript]").scrollTo(0, 0)')
    await page.getByRole('button', { name: /npm test -- checkout/ }).click()
    await page.getByText('expected 10.01, got 10.00').waitFor()
    await page.getByRole('button', { name: /src\/total.ts/ }).click()
    await page.getByText('return Math.round(x)').first().waitFor()
    await settle(page, 'run-done-open')
    await page.goto(`/runs/${ids.failed}`)
    await page.getByLabel('Why it failed').getByText('pnpm: not found').waitFor()
    await page.locator('[data-execution="1"]').getByText('pnpm: not found').waitFor({ state: 'attached' })
    await settle(page, 'run-failed')
    await page.goto(`/runs/${ids.cancelled}`)
    await page.getByTestId('run-status').getByText('Cancelled').waitFor()
    await page.locator('[data-execution="1"]').getByText('Cancelled').waitFor({ state: 'attached' })
    await settle(page, 'run-cancelled')
    await page.goto(`/runs/${ids.queued}`)
    await page.getByText('Waiting for its turn').waitFor()
    await settle(page, 'run-queued')
    await page.goto(`/runs/${ids.working}`)
    await page.getByText('git log --oneline').waitFor()
    await settle(page, 'run-working')
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByRole('button', { name: 'Keep it running' }).waitFor()
    await settle(page, 'run-cancel')
    expect(complaints).toEqual([])
    await context.close()
  }, 60_000)

  async function settle(page: Awaited<ReturnType<typeof visit>>['page'], shot: string) {
    await page.evaluate('document.fonts.ready')
    await page.evaluate('Promise.all([...document.images].map((image) => image.decode().catch(() => {})))')
    await shoot(page, shot, look)
    expect(await findBarriers(page), shot).toEqual([])
    expect(await overflow(page), shot).toBeLessThanOrEqual(0)
  }
}
