/** `baton run list` with the grammar of `oz run list`, by the real command line. */
import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { type Home, makeHome } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'

const CHILDREN = 13
const Page = z.object({
  runs: z.array(z.object({ run_id: z.string() })),
  page_info: z.object({ has_next_page: z.boolean(), next_cursor: z.string().optional() }),
})

let house: House
let home: Home
let lead: string
let children: string[]
const config = { name: 'Lister', worker_host: 'nobody', harness: { type: 'claude', model_id: 'opus' } }

beforeAll(async () => {
  house = await startHouse()
  home = await makeHome()
  lead = (await house.client.runs.create({ body: { prompt: 'Lead the others', config } })).run_id
  children = []
  for (let n = 0; n < CHILDREN; n++) {
    const body = { prompt: `Child ${n}`, title: `child ${n}`, parent_run_id: lead, config: { worker_host: 'nobody' } }
    children.push((await house.client.runs.create({ body })).run_id)
  }
})
afterAll(async () => {
  await home.remove()
  await house.close()
})

const oz = (...args: string[]) =>
  home.run(args, { env: { WARP_API_KEY: house.api_key, WARP_SERVER_ROOT_URL: house.url } })

async function idsOf(...flags: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await oz('run', 'list', '--jq', '.runs[].run_id', ...flags)
  expect(code, stderr).toBe(0)
  return stdout.split('\n').filter((line) => line !== '')
}

test('the recipe for the children of a run has all of them, and a plain list has ten', async () => {
  const recipe = await oz('--output-format', 'json', 'run', 'list', '--ancestor-run', lead)
  expect(recipe.code, recipe.stderr).toBe(0)
  const { runs, page_info } = Page.parse(JSON.parse(recipe.stdout))
  expect(runs.map((run) => run.run_id).sort()).toEqual([...children].sort())
  expect(page_info.has_next_page).toBe(false)
  expect(await idsOf()).toHaveLength(10)
  expect(await idsOf('-L', '12')).toHaveLength(12)
  const lines = (await oz('run', 'list', '--output-format', 'ndjson', '--limit', '3')).stdout.trim().split('\n')
  expect(lines.map((line) => z.object({ task_id: z.uuid() }).parse(JSON.parse(line)))).toHaveLength(3)
}, 60_000)

test('every filter of the grammar narrows the list', async () => {
  const schedule_id = randomUUID()
  const { uid } = await house.client.environments.create({ body: { name: 'Listed' } })
  const body = {
    prompt: 'Sort the bookshelf',
    metadata: { ticket_id: 'VIS-1', area: 'a=b' },
    config: { ...config, environment_id: uid, skills: ['shop:tidy'] },
  }
  const { run_id } = await house.client.runs.create({ body, headers: { 'x-oz-api-source': 'SCHEDULED_AGENT' } })
  const settled = sql`update runs set state = 'INPROGRESS', schedule_id = ${schedule_id}, execution_id = ${randomUUID()}
    where run_id = ${run_id}`
  await settled.execute(house.database.kysely)
  const data = { url: 'https://example.com/1', branch: 'main' }
  await sql`insert into artifacts (artifact_uid, team_id, run_id, artifact_type, data, created_at)
    values (${randomUUID()}, ${house.owner.team_id}, ${run_id}, 'PULL_REQUEST',
      ${JSON.stringify(data)}, now())`.execute(house.database.kysely)
  const flags = [
    ['--state', 'failed', '--state', 'in-progress'],
    ['--source', 'scheduled-agent'],
    ['--environment', uid],
    ['--skill', 'shop:tidy'],
    ['--schedule', schedule_id],
    ['--artifact-type', 'pull-request'],
    ['-q', 'bookshelf'],
    ['--query', 'sort bookshlef'],
    ['--metadata', 'ticket_id=VIS-1', '--metadata', 'area=a=b'],
  ]
  for (const one of flags) expect(await idsOf(...one), one.join(' ')).toEqual([run_id])
  const both = [
    '--name',
    'Lister',
    '--model',
    'opus',
    '--creator',
    house.owner.user_id,
    '--executor',
    house.owner.user_id,
  ]
  const where = ['--execution-location', 'remote', '--created-after', '1h', '--updated-after', '2020-01-01T00:00:00Z']
  const sorted = ['--sort-by', 'created-at', '--sort-order', 'asc']
  expect(await idsOf(...both, ...where, ...sorted)).toEqual([lead, run_id])
  expect(await idsOf(...both, '--sort-by', 'agent')).toEqual([run_id, lead])
  expect(await idsOf(...both, '--sort-by', 'title')).toEqual([run_id, lead])
  expect(await idsOf('--created-before', '2020-01-01T00:00:00Z')).toEqual([])
  expect(await idsOf('--source', 'interactive')).toEqual([])
  const first = await oz('task', 'list', ...both, ...sorted, '-L', '1', '--output-format', 'json')
  const { next_cursor = '' } = Page.parse(JSON.parse(first.stdout)).page_info
  expect(await idsOf(...both, ...sorted, '--cursor', next_cursor)).toEqual([run_id])
}, 120_000)

test('a word that the grammar does not know is a usage error with the words that it knows', async () => {
  for (const [flags, sentence] of [
    [['--state', 'asleep'], /--state "asleep" is none of queued, pending, claimed, in-progress,/],
    [['--source', 'fax'], /--source "fax" is none of .*interactive/],
    [['--sort-by', 'colour'], /is none of updated-at, created-at, title, agent/],
    [['--artifact-type', 'poem'], /is none of plan, pull-request, screenshot, file/],
    [['--execution-location', 'moon'], /is none of local, remote/],
    [['--metadata', 'x'], /not written as key=value/],
    [['--limit', '0'], /at least 1/],
    [['--created-after', 'yesterday'], /is no time/],
  ] as const) {
    const { code, stderr } = await oz('run', 'list', ...flags)
    expect(code, stderr).toBe(2)
    expect(stderr).toMatch(sentence)
  }
}, 60_000)
