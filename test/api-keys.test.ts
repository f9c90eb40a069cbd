/** API keys over HTTP: kinds, ends, and what an agent's key may do. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { API_PREFIX, type CreateApiKey } from '../src/contract/index.ts'
import { type House, type Person, startHouse } from './house/house.ts'

let house: House
let later_ms = 0
let ann: Person
let names = 0

beforeAll(async () => {
  house = await startHouse({
    clock: { now: () => new Date(Date.now() + later_ms) },
    max_concurrent_runs: 100,
    limits: { wrong_keys_a_minute: 1_000, identify_kept_ms: 0 },
  })
  ann = await house.addMember('Ann', 'member', 'Ann@example.com')
})
afterAll(() => house.close())

const refused = { code: 'not_authorized', status: 403 }
const prompt = { prompt: 'work', config: { worker_host: 'never' } }
const run = (run_id: string) => ({ params: { run_id } })
type Body = Parameters<House['client']['apiKeys']['create']>[0]['body']
const make = (body: Partial<CreateApiKey> = {}, client = house.client) => {
  const whole: Body = { name: `key ${++names}`, ...('expires_in_seconds' in body ? {} : { expires_at: null }), ...body }
  return client.apiKeys.create({ body: whole })
}
async function agent(enabled = false) {
  const name = `agent ${++names}`
  const { uid } = await house.client.identities.create({ body: { name, on_behalf_of_enabled: enabled } })
  const { api_key, key } = await make({ agent_uid: uid })
  return { uid, name, key, client: house.clientFor(api_key) }
}

test('a key is shown once, listed without its value, used, and ended', async () => {
  const { api_key, key } = await make({ name: 'mine' })
  expect(key).toMatchObject({
    name: 'mine',
    scope: 'personal',
    preview: `wk-1.…${api_key.slice(-4)}`,
    expires_at: null,
    last_used_at: null,
    role: null,
    creator: { type: 'user', uid: house.owner.user_id },
  })
  const client = house.clientFor(api_key)
  expect((await client.access.whoami()).key).toMatchObject({ uid: key.uid, name: 'mine' })
  const listed = await house.client.apiKeys.list()
  expect(JSON.stringify(listed)).not.toContain(api_key)
  const found = listed.api_keys.find(({ uid }) => uid === key.uid)
  expect(Date.parse(found?.last_used_at ?? '')).toBeGreaterThanOrEqual(Date.parse(key.created_at))
  const dump = await house.database.kysely.selectFrom('api_keys').selectAll().execute()
  expect(JSON.stringify(dump)).not.toContain(api_key.slice(5, 60))
  await house.client.apiKeys.expire({ params: { api_key_uid: key.uid } })
  await expect(client.access.whoami()).rejects.toMatchObject({ code: 'authentication_required', status: 401 })
  await expect(house.client.apiKeys.delete({ params: { api_key_uid: key.uid } })).rejects.toMatchObject({ status: 404 })
})

test('when it was used last moves on, at most once a minute', async () => {
  const { api_key, key } = await make()
  const client = house.clientFor(api_key)
  const used = async () => {
    await client.access.whoami()
    return (await house.client.apiKeys.list()).api_keys.find(({ uid }) => uid === key.uid)?.last_used_at
  }
  const first = await used()
  expect(first).not.toBeNull()
  expect(await used()).toBe(first)
  later_ms += 61_000
  const second = await used()
  expect(Date.parse(second ?? '') - Date.parse(first ?? '')).toBeGreaterThan(60_000)
})

test('a key that has expired is refused as an unknown one, and shown as ended', async () => {
  const { api_key, key } = await make({ expires_in_seconds: 3600 })
  const client = house.clientFor(api_key)
  await client.access.whoami()
  later_ms += 3_601_000
  await expect(client.access.whoami()).rejects.toMatchObject({ code: 'authentication_required', status: 401 })
  const found = (await house.client.apiKeys.list()).api_keys.find(({ uid }) => uid === key.uid)
  expect(found).toMatchObject({ is_expired: true })
})

test.each<[string, object]>([
  ['no end', { expires_at: undefined }],
  ['two ends', { expires_at: '2999-01-01T00:00:00Z', expires_in_seconds: 60 }],
  ['an end that has been', { expires_at: '2020-01-01T00:00:00Z' }],
  ['no name', { name: ' ', expires_at: null }],
  ['an agent that is none', { agent_uid: 'A'.repeat(22), expires_at: null }],
  ['the scope of an agent without one', { scope: 'agent', expires_at: null }],
])('%s is refused', async (_, body) => {
  await expect(house.client.apiKeys.create({ body: { name: 'x', ...body } })).rejects.toMatchObject({
    code: 'invalid_request',
  })
})

test('a key may do less than its person, and makes none that may do more or lasts longer', async () => {
  const { api_key } = await make({ role: 'viewer', expires_in_seconds: 3600 })
  const client = house.clientFor(api_key)
  expect((await client.access.whoami()).role).toBe('viewer')
  await expect(client.runs.create({ body: prompt })).rejects.toMatchObject(refused)
  await expect(make({ role: 'owner', expires_in_seconds: 60 }, client)).rejects.toMatchObject({
    code: 'invalid_request',
  })
  await expect(make({}, client)).rejects.toMatchObject({ message: expect.stringContaining('none that ends later') })
  const next = await make({ expires_in_seconds: 60 }, client)
  expect(next.key.role).toBe('viewer')
  await expect(house.clientFor(next.api_key).runs.create({ body: prompt })).rejects.toMatchObject(refused)
  await expect(make({ role: 'admin' }, ann.client)).rejects.toMatchObject({ code: 'invalid_request' })
})

test("a key of the team sees and makes what is the team's alone, and manages no keys", async () => {
  const { run_id: personal } = await ann.client.runs.create({ body: { ...prompt, team: false } })
  const client = house.clientFor((await make({ scope: 'team' }, ann.client)).api_key)
  await expect(client.runs.get(run(personal))).rejects.toMatchObject({ status: 404 })
  await expect(client.runs.create({ body: { ...prompt, team: false } })).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('nothing personal'),
  })
  const { run_id } = await client.runs.create({ body: prompt })
  expect(await client.runs.get(run(run_id))).toMatchObject({
    scope: { type: 'Team' },
    creator: { type: 'user', uid: ann.caller.user_id },
  })
  await expect(client.apiKeys.list()).rejects.toMatchObject(refused)
  await expect(make({}, client)).rejects.toMatchObject(refused)
  await expect(client.access.createLoginCode()).rejects.toMatchObject(refused)
  expect((await client.teams.list()).teams).toHaveLength(1)
})

test('an answer that was kept for one key is not given to another of the same person', async () => {
  const headers = { 'idempotency-key': 'once' }
  const personal = await ann.client.runs.create({ body: prompt, headers })
  const client = house.clientFor((await make({ scope: 'team' }, ann.client)).api_key)
  const ours = await client.runs.create({ body: prompt, headers })
  expect(ours.run_id).not.toBe(personal.run_id)
})

test('an admin sees and ends all keys of the team, a member their own', async () => {
  const admin = await house.addMember('Ada', 'admin')
  const { key } = await make({}, ann.client)
  const other = await make({}, house.client)
  const uids = async ({ client }: Pick<Person, 'client'>) =>
    (await client.apiKeys.list()).api_keys.map(({ uid }) => uid)
  expect(await uids(admin)).toEqual(expect.arrayContaining([key.uid, other.key.uid]))
  expect(await uids(ann)).toContain(key.uid)
  expect(await uids(ann)).not.toContain(other.key.uid)
  const expire = (client: House['client'], api_key_uid: string) => client.apiKeys.expire({ params: { api_key_uid } })
  await expect(expire(ann.client, other.key.uid)).rejects.toMatchObject({ status: 404 })
  await expect(expire(admin.client, other.key.uid)).rejects.toMatchObject(refused)
  await expect(expire(admin.client, key.uid)).resolves.toMatchObject({ uid: key.uid })
})

test('an agent’s key makes runs of the team, in the agent’s name and by the agent', async () => {
  const { uid, name, client } = await agent()
  const { run_id } = await client.runs.create({ body: prompt })
  const made = await client.runs.get(run(run_id))
  const service = { type: 'service_account', uid, display_name: name }
  expect(made).toMatchObject({ creator: service, executor: service, scope: { type: 'Team' } })
  const { runs } = await house.client.runs.list({ query: { creator: uid } })
  expect(runs.map((one) => one.run_id)).toEqual([run_id])
  expect(await client.access.whoami()).toMatchObject({ agent: { uid, name }, role: 'member', key: { scope: 'agent' } })
  const other = await agent()
  for (const agent_identity_uid of [other.uid, null]) {
    await expect(client.runs.create({ body: { ...prompt, agent_identity_uid } })).rejects.toMatchObject(refused)
  }
  await expect(client.runs.create({ body: { ...prompt, team: false } })).rejects.toMatchObject({
    code: 'invalid_request',
  })
  const { batch_id } = await client.batches.create({ body: { tasks: [prompt] } })
  const { tasks } = await client.batches.tasks({ params: { batch_id } })
  const task = await client.runs.get(run(tasks[0]?.run_id ?? ''))
  expect(task).toMatchObject({ creator: service, executor: service })
})

test('an environment that an agent makes or changes, and a message that it sends, say so', async () => {
  const { uid } = await house.client.identities.create({ body: { name: 'Postman' } })
  const { api_key } = await house.client.apiKeys.create({ body: { name: 'p', agent_uid: uid, expires_at: null } })
  const agent = house.clientFor(api_key)
  const by = { type: 'service_account', uid, display_name: 'Postman' }
  const person = { type: 'user', uid: house.owner.user_id }
  const made = await agent.environments.create({ body: { name: 'by an agent' } })
  expect(made).toMatchObject({ creator: by, last_editor: by })
  const params = { environment_uid: made.uid }
  const changed = await house.client.environments.update({ params, body: { description: 'Changed.' } })
  expect(changed).toMatchObject({ creator: by, last_editor: person })
  const own = await house.client.environments.create({ body: { name: 'by a person' } })
  const given = await agent.environments.update({ params: { environment_uid: own.uid }, body: { description: 'x' } })
  expect(given).toMatchObject({ creator: person, last_editor: by })
  const { run_id } = await house.client.runs.create({ body: { prompt: 'x', config: { worker_host: 'never' } } })
  for (const client of [agent, house.client])
    await client.messages.send({ body: { to: [run_id], subject: 'Hello', body: 'Hello' } })
  const { messages } = await house.client.messages.mailbox({ params: { run_id } })
  expect(messages).toMatchObject([
    { sender_run_id: null, sender_name: 'Postman', sender: by },
    { sender_run_id: null, sender: person },
  ])
})

test('an agent’s key may do nothing that is for people, and ends with its agent', async () => {
  const { uid, client } = await agent()
  const identity = { params: { identity_uid: uid } }
  await expect(client.identities.create({ body: { name: 'x' } })).rejects.toMatchObject(refused)
  await expect(client.identities.update({ ...identity, body: { name: 'x' } })).rejects.toMatchObject(refused)
  await expect(client.identities.delete(identity)).rejects.toMatchObject(refused)
  await expect(client.team.changeLimits({ body: {} })).rejects.toMatchObject(refused)
  await expect(client.identities.get(identity)).resolves.toMatchObject({ uid })
  await expect(
    ann.client.apiKeys.create({ body: { name: 'x', agent_uid: uid, expires_at: null } }),
  ).rejects.toMatchObject(refused)
  await house.client.identities.delete(identity)
  await expect(client.access.whoami()).rejects.toMatchObject({ status: 401 })
})

test('on behalf of a member: who then counts as the creator, while the agent works', async () => {
  const { uid, client } = await agent(true)
  const viewer = await house.addMember('Vic', 'viewer', 'vic@example.com')
  for (const on_behalf_of of ['ann@EXAMPLE.com', ann.caller.user_id]) {
    const { run_id } = await client.runs.create({ body: { ...prompt, on_behalf_of } })
    expect(await client.runs.get(run(run_id))).toMatchObject({
      creator: { type: 'user', uid: ann.caller.user_id, email: 'Ann@example.com' },
      executor: { type: 'service_account', uid },
      scope: { type: 'Team' },
    })
  }
  const act = (on_behalf_of: string, more = {}) => client.runs.create({ body: { ...prompt, on_behalf_of, ...more } })
  await expect(act('vic@example.com')).resolves.toMatchObject({ state: 'QUEUED' })
  await house.client.teams.removeMember({ params: { user_id: viewer.caller.user_id } })
  const stranger = await house.addTeam('strangers')
  for (const who of ['vic@example.com', stranger.caller.user_id, 'nobody']) {
    await expect(act(who), who).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('No member of the team'),
    })
  }
  await expect(act(ann.caller.user_id, { team: false })).rejects.toMatchObject({ code: 'invalid_request' })
  const off = await agent()
  const body = { ...prompt, on_behalf_of: ann.caller.user_id }
  await expect(off.client.runs.create({ body })).rejects.toMatchObject({
    ...refused,
    message: expect.stringContaining('on_behalf_of_enabled'),
  })
  await expect(house.client.runs.create({ body })).rejects.toMatchObject(refused)
  const team = house.clientFor((await make({ scope: 'team' })).api_key)
  await expect(team.runs.create({ body })).rejects.toMatchObject(refused)
})

test('a session ends with the key that opened it, and may do no more', async () => {
  const { api_key, key } = await make({ role: 'viewer' })
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(house.url + API_PREFIX + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', origin: house.url, ...headers },
      body: JSON.stringify(body),
    })
  const whoami = (cookie: string) => fetch(`${house.url}${API_PREFIX}/whoami`, { headers: { cookie } })
  const cookieOf = (answer: Response) => answer.headers.get('set-cookie')?.split(';')[0] ?? ''
  const { code } = await house.clientFor(api_key).access.createLoginCode()
  const cookies = [cookieOf(await post('/session', { api_key })), cookieOf(await post('/session', { code }))]
  for (const cookie of cookies) {
    expect(await (await whoami(cookie)).json()).toMatchObject({ by: 'session', role: 'viewer', key: { uid: key.uid } })
    expect((await post('/agent/runs', prompt, { cookie })).status).toBe(403)
  }
  await house.client.apiKeys.expire({ params: { api_key_uid: key.uid } })
  for (const cookie of cookies) expect((await whoami(cookie)).status).toBe(401)
})
