/** Roles, members, invitations, and what is personal: over HTTP, as the people concerned. */
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { API_PREFIX, type Role, WORKER_SOCKET_PATH } from '../src/contract/index.ts'
import { type House, type Person, startHouse } from './house/house.ts'
import { callTool, openMcpClient } from './house/mcp-agent.ts'
import type { ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker
let people: Record<Role, Person>
let ann: Person
let names = 0

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 100, limits: { wrong_keys_a_minute: 1_000 } })
  worker = await house.worker({ capacity: 100 })
  people = {
    viewer: await house.addMember('Vic', 'viewer'),
    member: await house.addMember('Mel', 'member'),
    admin: await house.addMember('Ada', 'admin'),
    owner: await house.addMember('Olga', 'owner'),
  }
  ann = await house.addMember('Ann', 'member', 'ann@example.com')
  await house.database.kysely.updateTable('teams').set({ max_depth: 3 }).execute()
})
afterAll(() => house.close())

const refused = { code: 'not_authorized', status: 403 }
const absent = { code: 'resource_not_found', status: 404 }
const prompt = { prompt: 'work', config: { worker_host: 'never' } }
const newName = (word: string) => `${word} ${++names}`
const run = (run_id: string) => ({ params: { run_id } })
const member = ({ caller }: Person) => ({ params: { user_id: caller.user_id } })

/** What each may do beside what those before it may. */
const WORK: Record<Role, [string, (person: Person) => Promise<unknown>][]> = {
  viewer: [
    ['list runs', ({ client }) => client.runs.list({})],
    ['see who is in the team', ({ client }) => client.teams.members()],
    ['see limits', ({ client }) => client.team.limits()],
    ['make a key of their own', ({ client }) => client.apiKeys.create({ body: { name: 'k', expires_at: null } })],
  ],
  member: [
    ['create a run', ({ client }) => client.runs.create({ body: prompt })],
    ['make an environment', ({ client }) => client.environments.create({ body: { name: newName('env') } })],
    ['make a key of the team', ({ client }) => teamKey(client)],
  ],
  admin: [
    ['change limits', ({ client }) => client.team.changeLimits({ body: { max_children: 100 } })],
    ['invite', ({ client }) => client.teams.invite({ body: {} })],
    ['change roles', ({ client }) => client.teams.changeRole({ ...member(ann), body: { role: 'member' } })],
    ['make a key of a worker', ({ client }) => workerKey(client)],
    ['make a key of an agent', ({ client }) => agentKey(client)],
    ['rename the team', ({ client }) => client.teams.update({ ...here(), body: { name: 'default' } })],
  ],
  owner: [
    ['invite an owner', ({ client }) => client.teams.invite({ body: { role: 'owner' } })],
    ['touch an owner', ({ client }) => client.teams.changeRole({ ...member(people.owner), body: { role: 'owner' } })],
  ],
}
const here = () => ({ params: { team_id: house.owner.team_id } })
const teamKey = (client: House['client']) =>
  client.apiKeys.create({ body: { name: 'k', scope: 'team', expires_at: null } })
const workerKey = (client: House['client']) =>
  client.apiKeys.create({ body: { name: 'k', scope: 'worker', expires_at: null } })
async function agentKey(client: House['client']) {
  const { uid } = await house.client.identities.create({ body: { name: newName('agent') } })
  return client.apiKeys.create({ body: { name: 'k', agent_uid: uid, expires_at: null } })
}

const roles = Object.keys(WORK) as Role[]
test.each(roles)('%s: what is theirs to do, and nothing beyond', async (role) => {
  for (const [at, other] of roles.entries()) {
    for (const [what, work] of WORK[other]) {
      const done = await work(people[role]).then(
        () => true,
        (fault: { code: string }) => (fault.code === 'not_authorized' ? false : Promise.reject(fault)),
      )
      expect(done, `${role}: ${what}`).toBe(at <= roles.indexOf(role))
    }
  }
})

test('who may only look starts nothing by MCP either, and opens no worker', async () => {
  const mcp = await openMcpClient(house.url, people.viewer.api_key)
  expect(await callTool(mcp, 'list_runs')).toMatchObject({ said: { runs: expect.any(Array) } })
  const started = await callTool(mcp, 'start_run', { prompt: 'x' })
  expect(started).toMatchObject({ is_error: true, text: expect.stringContaining('change nothing') })
  await mcp.close()
  const knock = (key: string) =>
    new Promise<number>((resolve) => {
      const url = `ws://127.0.0.1:${house.port}${WORKER_SOCKET_PATH}?worker_id=looker`
      const socket = new WebSocket(url, { headers: { authorization: `Bearer ${key}` } })
      socket.on('open', () => {
        socket.terminate()
        resolve(101)
      })
      socket.on('unexpected-response', (_request, answer) => resolve(answer.statusCode ?? 0))
      socket.on('error', () => undefined)
    })
  expect(await knock(people.viewer.api_key)).toBe(403)
  expect(await knock(people.member.api_key)).toBe(101)
})

test('whoami tells person, role, team and key', async () => {
  expect(await ann.client.access.whoami()).toMatchObject({
    kind: 'user',
    user: { user_id: ann.caller.user_id, display_name: 'Ann', email: 'ann@example.com' },
    role: 'member',
    team: { team_id: house.owner.team_id },
    key: { name: 'first key', scope: 'personal', expires_at: null },
    by: 'api_key',
  })
})

test("a run is the team's where nothing is said, and a personal one is its maker's alone", async () => {
  const { run_id: shared } = await ann.client.runs.create({ body: prompt })
  expect(await house.client.runs.get(run(shared))).toMatchObject({
    scope: { type: 'Team', uid: house.owner.team_id },
    creator: { uid: ann.caller.user_id },
  })
  const { run_id } = await ann.client.runs.create({ body: { ...prompt, team: false } })
  expect((await ann.client.runs.get(run(run_id))).scope).toEqual({ type: 'User', uid: ann.caller.user_id })
  const children = { ...prompt, parent_run_id: run_id }
  const { run_id: child } = await ann.client.runs.create({ body: children })
  expect((await ann.client.runs.get(run(child))).scope).toEqual({ type: 'User', uid: ann.caller.user_id })
  const batch = { tasks: [{ prompt: 'x', config: { worker_host: 'never' } }], team: false }
  const { batch_id } = await ann.client.batches.create({ body: batch })
  for (const { client } of [house, people.owner]) {
    await expect(client.batches.get({ params: { batch_id } })).rejects.toMatchObject(absent)
    expect((await client.batches.list({})).batches.map((one) => one.batch_id)).not.toContain(batch_id)
    await expect(client.runs.create({ body: children })).rejects.toMatchObject({ code: 'invalid_request' })
  }
})

test('a colleague meets a personal run nowhere, whatever they ask', async () => {
  const { run_id } = await ann.client.runs.create({ body: { prompt: 'mine', team: false } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  await piece.append({ kind: 'text', text: 'private' })
  const { message_ids } = await ann.client.messages.send({ body: { to: [run_id], subject: 's', body: 'private' } })
  const params = { run_id }
  const message = { params: { message_id: message_ids[0] ?? '' } }
  const looks: [string, (client: House['client']) => Promise<unknown>][] = [
    ['get', (client) => client.runs.get({ params })],
    ['tree', (client) => client.trees.get({ params })],
    ['entries', (client) => client.transcripts.list({ params })],
    ['executions', (client) => client.executions.list({ params })],
    ['plans', (client) => client.plans.ofRun({ params })],
    ['events', (client) => client.events.list({ query: { run_ids: [run_id] } })],
    ['children', (client) => client.runs.list({ query: { ancestor_run_id: run_id } })],
    ['mail', (client) => client.messages.list({ params })],
  ]
  for (const [what, look] of looks) {
    await expect(look(ann.client), what).resolves.toBeDefined()
    const refused = what === 'children' ? { code: 'invalid_request' } : absent
    await expect(look(people.owner.client), what).rejects.toMatchObject(refused)
  }
  const acts: [string, (client: House['client']) => Promise<unknown>][] = [
    ['read', (client) => client.messages.read(message)],
    ['send', (client) => client.messages.send({ body: { to: [run_id], subject: 's', body: 'b' } })],
    ['follow up', (client) => client.followUps.create({ params, body: { message: 'x' } })],
    ['retry', (client) => client.runs.retry({ params })],
    ['cancel', (client) => client.runs.cancel({ params })],
    ['release', (client) => client.trees.release({ params })],
    ['cursor', (client) => client.events.cursor({ params, body: { sequence: 1 } })],
  ]
  for (const [what, act] of acts) await expect(act(people.owner.client), what).rejects.toMatchObject(absent)
  for (const query of [{}, { q: 'mine' }, { creator: ann.caller.user_id }]) {
    const ids = (await people.owner.client.runs.list({ query })).runs.map((one) => one.run_id)
    expect(ids).not.toContain(run_id)
  }
  expect((await people.owner.client.events.list({})).map((event) => event.run_id)).not.toContain(run_id)
  const mcp = await openMcpClient(house.url, people.owner.api_key)
  expect((await callTool(mcp, 'get_run', { run_id })).is_error).toBe(true)
  expect(JSON.stringify(await callTool(mcp, 'list_runs', { limit: 100 }))).not.toContain(run_id)
  await mcp.close()
  await piece.finish()
})

test("a personal run is offered to the team's workers and its owner's, not to a colleague's", async () => {
  const worker_host = 'shared-name'
  const { run_id } = await ann.client.runs.create({ body: { prompt: 'mine', team: false, config: { worker_host } } })
  const theirs = await house.worker({ api_key: people.member.api_key, worker_host })
  const { run_id: shared } = await ann.client.runs.create({ body: { prompt: 'ours', config: { worker_host } } })
  expect((await theirs.next()).run_id).toBe(shared)
  expect(theirs.waiting()).toBe(0)
  const own = await house.worker({ api_key: ann.api_key, worker_host })
  expect((await own.next()).run_id).toBe(run_id)
  await theirs.close()
  await own.close()
})

test('streams tell of personal runs to their owner alone, live and replayed', async () => {
  const seen = { ann: [] as string[], other: [] as string[] }
  const cut = new AbortController()
  onTestFinished(() => cut.abort())
  await follow(ann.api_key, cut.signal, (run_id) => seen.ann.push(run_id))
  await follow(people.owner.api_key, cut.signal, (run_id) => seen.other.push(run_id))
  const { run_id: mine } = await ann.client.runs.create({ body: { ...prompt, team: false } })
  const { run_id: ours } = await ann.client.runs.create({ body: prompt })
  await expect.poll(() => seen.ann).toEqual(expect.arrayContaining([mine, ours]))
  await expect.poll(() => seen.other).toContain(ours)
  expect(seen.other).not.toContain(mine)
  const replayed: string[] = []
  await follow(people.owner.api_key, cut.signal, (run_id) => replayed.push(run_id), '?since=0')
  await expect.poll(() => replayed).toContain(ours)
  expect(replayed).not.toContain(mine)
})

/** Resolves when the stream is open. */
async function follow(key: string, signal: AbortSignal, tell: (run_id: string) => void, query = ''): Promise<void> {
  const headers = { authorization: `Bearer ${key}` }
  const response = await fetch(`${house.url}${API_PREFIX}/agent/events/stream${query}`, { headers, signal })
  const read = async () => {
    for await (const bytes of response.body ?? [])
      for (const [, run_id] of Buffer.from(bytes)
        .toString()
        .matchAll(/"run_id":"([^"]+)"/g))
        tell(run_id ?? '')
  }
  read().catch((error) => {
    if (!signal.aborted) throw error
  })
}

test('environments and agents are the team’s or personal; what is of the team uses no personal one', async () => {
  const name = newName('place')
  const own = await ann.client.environments.create({ body: { name, team: false } })
  const ours = await house.client.environments.create({ body: { name } })
  expect(own.scope).toEqual({ type: 'User', uid: ann.caller.user_id })
  expect(ours.scope).toEqual({ type: 'Team', uid: house.owner.team_id })
  await expect(ann.client.environments.create({ body: { name, team: false } })).rejects.toMatchObject({ status: 409 })
  const place = { params: { environment_uid: own.uid } }
  await expect(house.client.environments.get(place)).rejects.toMatchObject(absent)
  await expect(house.client.environments.update({ ...place, body: { description: 'x' } })).rejects.toMatchObject(absent)
  await expect(house.client.environments.delete(place)).rejects.toMatchObject(absent)
  const uids = (await house.client.environments.list({})).environments.map(({ uid }) => uid)
  expect(uids).toContain(ours.uid)
  expect(uids).not.toContain(own.uid)
  const inside = async (environment_id: string, team: boolean) => {
    const config = { ...prompt.config, environment_id }
    const { run_id } = await ann.client.runs.create({ body: { ...prompt, team, config } })
    return (await ann.client.runs.get(run(run_id))).environment?.uid
  }
  expect(await inside(name, true)).toBe(ours.uid)
  expect(await inside(name, false)).toBe(own.uid)
  expect(await inside(ours.uid, false)).toBe(ours.uid)
  await expect(inside(own.uid, true)).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('may use no personal one'),
  })
  const agent = await ann.client.identities.create({
    body: { name: newName('Eve'), environment_id: name, team: false },
  })
  expect(agent.environment_id).toBe(own.uid)
  await expect(house.client.identities.get({ params: { identity_uid: agent.uid } })).rejects.toMatchObject(absent)
  const shared = await house.client.identities.create({ body: { name: newName('Sam') } })
  const as = (agent_identity_uid: string, team: boolean) =>
    ann.client.runs.create({ body: { ...prompt, agent_identity_uid, team } })
  await expect(as(agent.uid, false)).resolves.toMatchObject({ state: 'QUEUED' })
  await expect(as(shared.uid, true)).resolves.toMatchObject({ state: 'QUEUED' })
  await expect(as(agent.uid, true)).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(as(shared.uid, false)).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining("is the team's, and so are its runs"),
  })
})

test('the last owner stays one, also when two unmake each other at once', async () => {
  const other = await house.addTeam('owners')
  const self = { params: { user_id: other.caller.user_id } }
  const last = { code: 'conflict', message: expect.stringContaining('last owner') }
  await expect(other.client.teams.changeRole({ ...self, body: { role: 'admin' } })).rejects.toMatchObject(last)
  await expect(other.client.teams.removeMember(self)).rejects.toMatchObject(last)
  const { code } = await other.client.teams.invite({ body: { role: 'owner' } })
  const joined = await house.clientFor(undefined).teams.join({ body: { code, display_name: 'Second' } })
  const second = house.clientFor(joined.api_key)
  const done = await Promise.allSettled([
    other.client.teams.changeRole({ params: { user_id: joined.user.user_id }, body: { role: 'member' } }),
    second.teams.changeRole({ ...self, body: { role: 'member' } }),
  ])
  const owners = await house.database.kysely
    .selectFrom('memberships')
    .selectAll()
    .where('team_id', '=', other.caller.team_id)
    .where('role', '=', 'owner')
    .execute()
  expect(owners).toHaveLength(1)
  expect(done.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
})

test('an invitation is taken once, by somebody new or by who shows a key', async () => {
  const made = await people.admin.client.teams.invite({ body: { role: 'member', email: 'new@example.com' } })
  expect(made.link).toBe(`${house.url}/login#invite=${made.code}`)
  const { invites } = await people.admin.client.teams.invites()
  expect(invites.map(({ invite_id }) => invite_id)).toContain(made.invite_id)
  expect(JSON.stringify(invites)).not.toContain(made.code)
  const nobody = house.clientFor(undefined)
  await expect(nobody.teams.join({ body: { code: made.code } })).rejects.toMatchObject({ code: 'invalid_request' })
  const body = { code: made.link, display_name: 'New' }
  const tries = await Promise.allSettled(Array.from({ length: 5 }, () => nobody.teams.join({ body })))
  const [joined, ...more] = tries.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  expect(more).toEqual([])
  const client = house.clientFor(joined?.api_key)
  expect(await client.access.whoami()).toMatchObject({
    user: { display_name: 'New', email: 'new@example.com' },
    role: 'member',
    team: { team_id: house.owner.team_id },
  })
  await expect(nobody.teams.join({ body })).rejects.toMatchObject({ code: 'authentication_required', status: 401 })

  const stranger = await house.addTeam('elsewhere')
  const again = await people.admin.client.teams.invite({ body: { role: 'viewer' } })
  await expect(people.member.client.teams.join({ body: { code: again.code } })).rejects.toMatchObject({
    code: 'conflict',
  })
  const both = await stranger.client.teams.join({ body: { code: again.code } })
  expect(both).toMatchObject({ user: { user_id: stranger.caller.user_id }, role: 'viewer' })
  expect((await stranger.client.access.whoami()).team.team_id).toBe(stranger.caller.team_id)
  const here = house.clientFor(both.api_key)
  expect(await here.access.whoami()).toMatchObject({ role: 'viewer', team: { team_id: house.owner.team_id } })
  const teams = (await stranger.client.teams.list()).teams.map(({ name, role, is_current }) => ({
    name,
    role,
    is_current,
  }))
  expect(teams).toContainEqual({ name: 'elsewhere', role: 'owner', is_current: true })
  expect(teams).toContainEqual({ name: 'default', role: 'viewer', is_current: false })
})

test('an invitation that was taken back, or is too old, opens nothing', async () => {
  const join = (code: string) => house.clientFor(undefined).teams.join({ body: { code, display_name: 'Late' } })
  const gone = { code: 'authentication_required', status: 401 }
  const back = await house.client.teams.invite({ body: {} })
  await house.client.teams.revokeInvite({ params: { invite_id: back.invite_id } })
  await expect(house.client.teams.revokeInvite({ params: { invite_id: back.invite_id } })).rejects.toMatchObject(absent)
  await expect(join(back.code)).rejects.toMatchObject(gone)
  const old = await house.client.teams.invite({ body: { expires_in_seconds: 60 } })
  const past = { expires_at: new Date(house.clock.now().getTime() - 1) }
  await house.database.kysely.updateTable('invites').set(past).where('invite_id', '=', old.invite_id).execute()
  await expect(join(old.code)).rejects.toMatchObject(gone)
  await expect(join('guess')).rejects.toMatchObject(gone)
})

test('an invitation ends with the role of who made it', async () => {
  const join = (code: string) => house.clientFor(undefined).teams.join({ body: { code, display_name: 'Sly' } })
  const sly = await house.addMember('Sly', 'owner')
  const asOwner = await sly.client.teams.invite({ body: { role: 'owner' } })
  const asAdmin = await sly.client.teams.invite({ body: { role: 'admin' } })
  await house.client.teams.changeRole({ ...member(sly), body: { role: 'admin' } })
  await expect(join(asOwner.code)).rejects.toMatchObject({ code: 'authentication_required' })
  await house.client.teams.removeMember(member(sly))
  await expect(join(asAdmin.code)).rejects.toMatchObject({ code: 'authentication_required' })
})

test('who joins by the page gets a session, and a session of another page joins nobody', async () => {
  const post = (body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${house.url}${API_PREFIX}/invites/accept`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })
  const { code } = await house.client.teams.invite({ body: { role: 'viewer' } })
  const joined = await post({ code, display_name: 'Page', with: 'session' })
  expect(await joined.json()).not.toHaveProperty('api_key')
  const cookie = joined.headers.get('set-cookie')?.split(';')[0] ?? ''
  const who = await fetch(`${house.url}${API_PREFIX}/whoami`, { headers: { cookie } })
  expect(await who.json()).toMatchObject({ by: 'session', role: 'viewer', user: { display_name: 'Page' } })
  const next = await (await house.addTeam('pages')).client.teams.invite({ body: {} })
  expect((await post({ code: next.code }, { cookie, origin: 'https://evil.test' })).status).toBe(403)
  expect((await post({ code: next.code }, { cookie, origin: house.url })).status).toBe(200)
})

test('who is removed is out at once on every server: keys, sessions, streams, personal runs', async () => {
  const gone = await house.addMember('Gone', 'member')
  const sibling = await house.sibling()
  await gone.client.apiKeys.create({ body: { name: 'robot', scope: 'team', expires_at: null } })
  const { run_id } = await gone.client.runs.create({ body: { ...prompt, team: false } })
  const { run_id: kept } = await gone.client.runs.create({ body: prompt })
  const headers = { authorization: `Bearer ${gone.api_key}` }
  const stream = await fetch(`${sibling.server.url}${API_PREFIX}/stream`, { headers })
  const drained = (async () => {
    for await (const _ of stream.body ?? []);
  })()
  await expect(people.member.client.teams.removeMember(member(gone))).rejects.toMatchObject(refused)
  const removed = await people.admin.client.teams.removeMember(member(gone))
  expect(removed.cancelled_runs).toBe(1)
  expect(removed.ended_keys.map(({ name, scope }) => `${scope} ${name}`).sort()).toEqual([
    'personal first key',
    'team robot',
  ])
  await drained
  for (const root of [house.url, sibling.server.url]) {
    const status = async () => (await fetch(`${root}${API_PREFIX}/whoami`, { headers })).status
    await expect.poll(status, { timeout: 1_000 }).toBe(401)
  }
  const rows = await house.database.kysely
    .selectFrom('runs')
    .select(['run_id', 'state'])
    .where('run_id', 'in', [run_id, kept])
    .execute()
  expect(new Map(rows.map((row) => [row.run_id, row.state]))).toEqual(
    new Map([
      [run_id, 'CANCELLED'],
      [kept, 'QUEUED'],
    ]),
  )
  await expect(people.admin.client.teams.removeMember(member(gone))).rejects.toMatchObject(absent)
})

test('a change of role holds for the keys that are there', async () => {
  const person = await house.addMember('Changing', 'member')
  await person.client.runs.create({ body: prompt })
  await people.admin.client.teams.changeRole({ ...member(person), body: { role: 'viewer' } })
  const create = () =>
    person.client.runs.create({ body: prompt }).then(
      () => 200,
      ({ status }: { status: number }) => status,
    )
  await expect.poll(create, { timeout: 1_000 }).toBe(403)
})
