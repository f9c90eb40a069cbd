/** Schedules over REST: the shapes of the public API, what is refused and in which words, who sees them. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { type CreateSchedule, Problem } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'

let house: House
beforeAll(async () => {
  house = await startHouse()
})
afterAll(() => house.close())

const Time = z.iso.datetime()
const Profile = z.strictObject({
  type: z.enum(['user', 'service_account']),
  uid: z.string(),
  display_name: z.string().optional(),
  email: z.string().optional(),
  photo_url: z.string().optional(),
})
/** As the public API has it, and below what we add. */
const Item = z.strictObject({
  id: z.string(),
  name: z.string(),
  cron_schedule: z.string(),
  enabled: z.boolean(),
  prompt: z.string(),
  created_at: Time,
  updated_at: Time,
  last_spawn_error: z.string().nullish(),
  agent_config: z.looseObject({ environment_id: z.string().optional() }).optional(),
  agent_uid: z.string().optional(),
  environment: z.looseObject({ name: z.string().optional(), github_repos: z.array(z.unknown()).optional() }).optional(),
  created_by: Profile.optional(),
  updated_by: Profile.optional(),
  history: z.strictObject({
    last_ran: Time.nullish(),
    next_run: Time.nullish(),
    last_run_id: z.string().nullable(),
  }),
  scope: z.strictObject({ type: z.enum(['User', 'Team']), uid: z.string().optional() }),
  metadata: z.record(z.string(), z.string()),
  mode: z.enum(['normal', 'plan', 'orchestrate']),
  time_zone: z.string(),
  overlap_policy: z.enum(['skip', 'queue', 'cancel_previous']),
  catch_up_window_minutes: z.number(),
  catch_up: z.enum(['latest', 'all']),
})

const LEAST = { name: 'weekly', cron_schedule: '0 9 * * 1', prompt: 'Audit.' }

async function ask(method: string, path: string, body?: unknown, key = house.api_key) {
  const response = await fetch(`${house.url}/api/v1/agent/schedules${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, answer: await response.json() }
}

async function made(body: object = LEAST) {
  const { status, answer } = await ask('POST', '', body)
  expect(status, JSON.stringify(answer)).toBe(201)
  return Item.parse(answer)
}

test('a schedule is made of a name, times and a prompt, and answered as the public API answers it', async () => {
  const item = await made()
  expect(item).toMatchObject({
    ...LEAST,
    enabled: true,
    last_spawn_error: null,
    created_by: { type: 'user', uid: house.owner.user_id },
    updated_by: { type: 'user', uid: house.owner.user_id },
    history: { last_ran: null, last_run_id: null },
    scope: { type: 'Team', uid: house.owner.team_id },
    metadata: {},
    mode: 'normal',
    time_zone: 'UTC',
    overlap_policy: 'skip',
    catch_up_window_minutes: 10,
    catch_up: 'latest',
  })
  const next = new Date(item.history.next_run ?? '')
  expect([next.getUTCDay(), next.getUTCHours(), next.getUTCMinutes()]).toEqual([1, 9, 0])
  expect(next.getTime()).toBeGreaterThan(Date.now())
  expect(await ask('GET', `/${item.id}`)).toEqual({ status: 200, answer: item })
})

test('everything that can be said of a schedule is kept', async () => {
  const { uid } = await house.client.environments.create({
    body: { name: 'place', github_repos: [{ owner: 'acme', repo: 'app' }] },
  })
  const agent = await house.client.identities.create({ body: { name: 'Ada' } })
  const body: CreateSchedule = {
    name: 'all of it',
    cron_schedule: ' */15  8-18 * *  MON-FRI ',
    enabled: false,
    prompt: 'Look.',
    agent_config: {
      environment_id: 'place',
      model_id: 'm1',
      worker_host: 'w1',
      mcp_servers: { m: { url: 'http://m.example', headers: {} } },
    },
    agent_uid: 'ada',
    team: true,
    metadata: { ticket: '7' },
    mode: 'orchestrate',
    time_zone: 'Europe/Berlin',
    overlap_policy: 'queue',
    catch_up_window_minutes: 90,
    catch_up: 'all',
  }
  const item = await made(body)
  const { team: _team, agent_config, ...rest } = body
  expect(item).toMatchObject({
    ...rest,
    cron_schedule: '*/15 8-18 * * MON-FRI',
    agent_uid: agent.uid,
    agent_config: { ...agent_config, environment_id: uid },
    environment: { name: 'place', github_repos: [{ owner: 'acme', repo: 'app' }] },
    history: { next_run: null },
  })
})

test('a skill stands for a prompt, its own or that of its agent', async () => {
  const own = await made({ name: 's', cron_schedule: '0 0 * * *', agent_config: { skill_spec: 'app:review' } })
  expect(own).toMatchObject({ prompt: '', agent_config: { skill_spec: 'app:review', skills: ['app:review'] } })
  const { uid } = await house.client.identities.create({ body: { name: 'Skilled', skills: ['lint'] } })
  expect(await made({ name: 's', cron_schedule: '0 0 * * *', agent_uid: uid })).toMatchObject({ agent_uid: uid })
})

const refused: [string, object, RegExp, string][] = [
  ['no name', { ...LEAST, name: undefined }, /`name`/, '/name'],
  ['an empty name', { ...LEAST, name: ' ' }, /A name must not be empty|name must not be empty/, '/name'],
  ['no times', { ...LEAST, cron_schedule: undefined }, /`cron_schedule`/, '/cron_schedule'],
  ['seconds', { ...LEAST, cron_schedule: '0 0 9 * * 1' }, /has 6\. Seconds and years have none/, '/cron_schedule'],
  ['a nickname', { ...LEAST, cron_schedule: '@daily' }, /write @daily as 0 0 \* \* \*/, '/cron_schedule'],
  ['what objects have by nature', { ...LEAST, cron_schedule: 'constructor' }, /This one has 1\./, '/cron_schedule'],
  ['an hour that is none', { ...LEAST, cron_schedule: '0 25 * * *' }, /hour "25" is not valid/, '/cron_schedule'],
  ['words', { ...LEAST, cron_schedule: 'every day' }, /five fields.*This one has 2/, '/cron_schedule'],
  ['a day that never comes', { ...LEAST, cron_schedule: '0 0 31 2,4 *' }, /never comes/, '/cron_schedule'],
  ['no prompt', { ...LEAST, prompt: undefined }, /needs a prompt or a skill/, '/prompt'],
  ['an empty prompt', { ...LEAST, prompt: '  ' }, /needs a prompt or a skill/, '/prompt'],
  ['a zone that is none', { ...LEAST, time_zone: 'Mars/Olympus' }, /IANA name, such as Europe\/Berlin/, '/time_zone'],
  ['an offset', { ...LEAST, time_zone: '+02:00' }, /IANA name/, '/time_zone'],
  ['a policy that is none', { ...LEAST, overlap_policy: 'stack' }, /`overlap_policy`/, '/overlap_policy'],
  [
    'an endless window',
    { ...LEAST, catch_up_window_minutes: 1e9 },
    /`catch_up_window_minutes`/,
    '/catch_up_window_minutes',
  ],
  ['metadata that is none', { ...LEAST, metadata: { 'a b': 'c' } }, /`metadata/, '/metadata/a b'],
  [
    'an environment that is none',
    { ...LEAST, agent_config: { environment_id: 'nowhere' } },
    /no environment "nowhere"/,
    '/agent_config/environment_id',
  ],
  ['an agent that is none', { ...LEAST, agent_uid: 'nobody' }, /no agent identity "nobody"/, '/agent_uid'],
  [
    'two sorts of skills',
    { ...LEAST, agent_config: { skill_spec: 'a', skills: ['b'] } },
    /skill_spec or .*skills, not both/,
    '/agent_config/skill_spec',
  ],
  [
    'a plan of a plain command',
    { ...LEAST, mode: 'plan', agent_config: { harness: { type: 'command' } } },
    /proposes no plan/,
    '/mode',
  ],
]
test.each(refused)('%s is refused in a sentence, when made and when changed', async (_, body, sentence, pointer) => {
  const { id } = await made()
  for (const [method, path] of [
    ['POST', ''],
    ['PUT', `/${id}`],
  ] as const) {
    const { status, answer } = await ask(method, path, { enabled: true, ...body })
    expect(status, method).toBe(400)
    const problem = Problem.parse(answer)
    expect(problem.error).toMatch(sentence)
    expect(problem.errors?.[0]?.pointer).toBe(pointer)
    expect(problem.type).toMatch(/invalid_request$/)
  }
  expect((await ask('GET', `/${id}`)).answer).toMatchObject(LEAST)
})

test('a replacement is whole, but for what only we know; name, times and enabled must be there', async () => {
  const item = await made({
    ...LEAST,
    metadata: { a: 'b' },
    mode: 'plan',
    time_zone: 'Asia/Tokyo',
    overlap_policy: 'queue',
  })
  for (const missing of ['name', 'cron_schedule', 'enabled']) {
    const { status, answer } = await ask('PUT', `/${item.id}`, { ...LEAST, enabled: true, [missing]: undefined })
    expect(status).toBe(400)
    expect(Problem.parse(answer).error).toContain(`\`${missing}\``)
  }
  const body = { name: 'other', cron_schedule: '30 2 * * *', enabled: true, prompt: 'Else.' }
  const { status, answer } = await ask('PUT', `/${item.id}`, body)
  expect(status).toBe(200)
  const changed = Item.parse(answer)
  expect(changed).toMatchObject({
    ...body,
    metadata: {},
    mode: 'normal',
    time_zone: 'Asia/Tokyo',
    overlap_policy: 'queue',
  })
  expect(changed.history.next_run).toMatch(/T17:30:00/)
  expect(changed.created_at).toBe(item.created_at)
  expect(Date.parse(changed.updated_at)).toBeGreaterThan(Date.parse(item.updated_at))
})

test('schedules are listed by name', async () => {
  const team = await house.addTeam('listers')
  const create = (name: string) => team.client.schedules.create({ body: { ...LEAST, name } })
  for (const name of ['beta', 'Alpha', 'gamma', 'alpha 2']) await create(name)
  const { status, answer } = await ask('GET', '', undefined, team.api_key)
  expect(status).toBe(200)
  const { schedules } = z.strictObject({ schedules: z.array(Item) }).parse(answer)
  expect(schedules.map(({ name }) => name)).toEqual(['Alpha', 'alpha 2', 'beta', 'gamma'])
})

test('pause, resume and delete answer as the public API does, also when repeated', async () => {
  const { id } = await made()
  for (const _ of [1, 2]) {
    const { status, answer } = await ask('POST', `/${id}/pause`)
    expect(status).toBe(200)
    expect(Item.parse(answer)).toMatchObject({ enabled: false, history: { next_run: null } })
  }
  for (const _ of [1, 2]) {
    const { status, answer } = await ask('POST', `/${id}/resume`, null)
    expect(status).toBe(200)
    expect(Item.parse(answer)).toMatchObject({ enabled: true, history: { next_run: expect.any(String) } })
  }
  expect(await ask('DELETE', `/${id}`)).toEqual({ status: 200, answer: { success: true } })
  for (const [method, path] of [
    ['GET', ''],
    ['DELETE', ''],
    ['POST', '/pause'],
    ['POST', '/resume'],
    ['POST', '/run-now'],
    ['GET', '/next'],
    ['GET', '/history'],
  ] as const) {
    expect((await ask(method, `/${id}${path}`)).status, `${method} ${path}`).toBe(404)
  }
  expect((await ask('PUT', `/${id}`, { ...LEAST, enabled: true })).status).toBe(404)
})

test('the next times are told by the clock of the zone, also of a paused schedule', async () => {
  const { id } = await made({ ...LEAST, cron_schedule: '30 2 * * *', time_zone: 'America/New_York', enabled: false })
  const { answer } = await ask('GET', `/${id}/next?count=400`)
  expect(Problem.parse(answer).error).toContain('`count`')
  const { time_zone, times } = await house.client.schedules.next({ params: { schedule_id: id }, query: { count: 100 } })
  expect([time_zone, times.length]).toEqual(['America/New_York', 100])
  // 02:30 there is 06:30 or 07:30; where the clock leaps over it, 03:00 is 07:00.
  expect(times.filter((time) => !/T(0[67]:30|07:00):00/.test(time))).toEqual([])
  expect((await house.client.schedules.next({ params: { schedule_id: id }, query: {} })).times).toEqual(
    times.slice(0, 5),
  )
})

test('the history is paged, newest first', async () => {
  const { id } = await made({ ...LEAST, agent_config: { worker_host: 'never' } })
  const params = { schedule_id: id }
  const run_ids: string[] = []
  for (let n = 0; n < 5; n++) run_ids.unshift((await house.client.schedules.runNow({ params })).run_id)
  const seen: (string | null)[] = []
  for (let cursor: string | undefined, more = true; more; ) {
    const page = await house.client.schedules.history({ params, query: { limit: 2, ...(cursor && { cursor }) } })
    seen.push(...page.firings.map(({ run_id }) => run_id))
    cursor = page.page_info.next_cursor
    more = page.page_info.has_next_page
  }
  expect(seen).toEqual(run_ids)
  await expect(house.client.schedules.history({ params, query: { cursor: 'x' } })).rejects.toThrow(/cursor/)
})

test('what is personal is seen by its person alone, and another team sees nothing', async () => {
  const own = await made({ ...LEAST, name: 'mine', team: false })
  expect(own.scope).toEqual({ type: 'User', uid: house.owner.user_id })
  const other = await house.addTeam('others')
  const colleague = await house.addMember('Colleague', 'member')
  for (const [method, path, body] of [
    ['GET', '', undefined],
    ['PUT', '', { ...LEAST, enabled: true }],
    ['POST', '/pause', undefined],
    ['POST', '/run-now', undefined],
    ['DELETE', '', undefined],
  ] as const) {
    expect((await ask(method, `/${own.id}${path}`, body, other.api_key)).status, method).toBe(404)
    expect((await ask(method, `/${own.id}${path}`, body, colleague.api_key)).status, method).toBe(404)
  }
  expect((await ask('GET', '', undefined, other.api_key)).answer).toEqual({ schedules: [] })
  const seen = async ({ client }: { client: House['client'] }) =>
    (await client.schedules.list()).schedules.map(({ id }) => id).includes(own.id)
  expect([await seen(house), await seen(colleague)]).toEqual([true, false])
})

test("the schedule of an agent's key is the agent's, and makes runs in its name, whatever it says", async () => {
  const { uid } = await house.client.identities.create({ body: { name: 'Keyed' } })
  const other = await house.client.identities.create({ body: { name: 'Other' } })
  const { api_key } = await house.client.apiKeys.create({ body: { name: 'k', agent_uid: uid, expires_at: null } })
  const agent = house.clientFor(api_key)
  const made = await agent.schedules.create({ body: LEAST })
  const by = { type: 'service_account', uid, display_name: 'Keyed' }
  expect(made).toMatchObject({ agent_uid: uid, created_by: by, updated_by: by })
  const { run_id } = await agent.schedules.runNow({ params: { schedule_id: made.id } })
  expect(await house.client.runs.get({ params: { run_id } })).toMatchObject({ creator: by, executor: { uid } })
  await house.client.schedules.pause({ params: { schedule_id: made.id } })
  const { schedules } = await house.client.schedules.list()
  const person = { type: 'user', uid: house.owner.user_id }
  expect(schedules.find(({ id }) => id === made.id)).toMatchObject({ created_by: by, updated_by: person })
  await expect(agent.schedules.create({ body: { ...LEAST, agent_uid: other.uid } })).rejects.toThrow(
    /acts as the agent/,
  )
})
