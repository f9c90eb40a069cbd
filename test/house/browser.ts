/**
 * A real Chromium before the real page, as the server sends it. Whatever a page complains of in its console is
 * kept.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { build } from 'vite'
import { z } from 'zod'
import type { House } from './house.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const CHROMIUM = process.env.BATON_TEST_CHROMIUM ?? '/usr/bin/chromium'
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
/** Rules of axe-core that a page must pass. */
const AXE_TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']

export type Look = { theme: 'light' | 'dark'; width: number }
export const DESKTOP: Look = { theme: 'light', width: 1280 }
export const LOOKS: Look[] = [
  DESKTOP,
  { theme: 'dark', width: 1280 },
  { theme: 'light', width: 360 },
  { theme: 'dark', width: 360 },
]

/** Builds the page into a folder of its own. */
export async function buildPage(): Promise<{ web_dir: string; remove(): Promise<void> }> {
  const web_dir = await mkdtemp(join(tmpdir(), 'baton-web-'))
  await build({ configFile: join(ROOT, 'vite.config.ts'), logLevel: 'error', build: { outDir: web_dir } })
  return { web_dir, remove: () => rm(web_dir, { recursive: true, force: true }) }
}

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS })
}

export type Visit = { page: Page; context: BrowserContext; complaints: string[] }

/** A tab of a person who has not been here before. */
export async function visit(
  browser: Browser,
  server: { url: string },
  { theme, width }: Look = DESKTOP,
): Promise<Visit> {
  const context = await browser.newContext({
    baseURL: server.url,
    colorScheme: theme,
    viewport: { width, height: width < 600 ? 740 : 800 },
    // A narrow page is a telephone: fingers, not a pointer.
    hasTouch: width < 600,
    isMobile: width < 600,
    permissions: ['clipboard-read', 'clipboard-write'],
  })
  context.setDefaultTimeout(10_000)
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(String(error)))
  return { page, context, complaints }
}

/** A tab of a person who is signed in. */
export async function visitSignedIn(browser: Browser, house: House, look: Look = DESKTOP): Promise<Visit> {
  const visited = await visit(browser, house, look)
  const { code } = await house.client.access.createLoginCode()
  await visited.page.goto(`/login#code=${code}`)
  await visited.page.getByRole('heading', { name: 'Runs', exact: true }).waitFor()
  return visited
}

const AxeResult = z.object({
  violations: z.array(
    z.object({ id: z.string(), nodes: z.array(z.object({ html: z.string(), failureSummary: z.string().optional() })) }),
  ),
})

/** What axe-core finds wrong: rule and element. */
export async function findBarriers(page: Page): Promise<string[]> {
  await page.evaluate(await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8'))
  const result = AxeResult.parse(
    await page.evaluate(`axe.run(document, { runOnly: ${JSON.stringify(AXE_TAGS)}, resultTypes: ['violations'] })`),
  )
  return result.violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html.slice(0, 200)} ${node.failureSummary ?? ''}`),
  )
}

/** Pixels that the page is wider than its window. */
export async function overflow(page: Page): Promise<number> {
  return z.number().parse(await page.evaluate('document.documentElement.scrollWidth - innerWidth'))
}

/** A picture of the page, where `BATON_TEST_SHOTS` names a folder for them. */
export async function shoot(page: Page, name: string, look: Look): Promise<void> {
  const folder = process.env.BATON_TEST_SHOTS
  if (folder) await page.screenshot({ path: join(folder, `${name}-${look.width}-${look.theme}.png`) })
}
