/** How people go from a team, and how a team ends and comes back: over HTTP, as the people concerned. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { API_PREFIX } from '../src/contract/index.ts'
import { manualClock } from '../src/db/clock.ts'
import { openKeyring } from '../src/engine/keyring.ts'
import { sendFile } from './house/files.ts'
import { type House, type Person, startHouse } from './house/house.ts'

const DAY_MS = 24 * 3_600_000
const LATER_MS = 11 * 60_000

let house: House
let clock: ReturnType<typeof manualClock>
let names = 0

beforeAll(async () => {
  clock = manualClock(new Date('2026-01-01T08:00:00Z'))
  const keyring = await openKeyring({ given: [{ text: randomBytes(32).toString('base64'), from: 'the test' }] })
  const patient = 400 * DAY_MS
  house = await startHouse({
    clock,
    keyring,
    limits: { wrong_keys_a_minute: 1_000 },
    engine_limits: { lease_ms: patient, begin_ms: patient, offer_ms: patient },
    max_concurrent_runs: 100,
  })
})
afterAll(() => house.close())

const absent = { code: 'resource_not_found', status: 404 }
const unknown = { code: 'authentication_required', status: 401 }
const refused = { code: 'not_authorized', status: 403 }
const params = ({ caller }: Person) => ({ team_id: caller.team_id })
const hourly = { cron_schedule: '0 * * * *', prompt: 'Go.' }
const never = { prompt: 'work', config: { worker_host: 'never' } }
const scheduled = async ({ client }: Pick<Person, 'client'>, id: string) =>
  client.schedules.get({ params: { schedule_id: id } })

const outcome = (asked: Promise<unknown>) => asked.catch((fault: unknown) => fault)

async function newTeam(): Promise<Person> {
  return house.addTeam(`team ${++names}`)
}

/** Somebody who joins by invitation, as people do. */
async function join(owner: Person, role: 'viewer' | 'member' | 'admin' | 'owner', display_name: string) {
  const { code } = await owner.client.teams.invite({ body: { role } })
  const joined = await house.clientFor(undefined).teams.join({ body: { code, display_name } })
  const api_key = joined.api_key ?? ''
  return { api_key, user_id: joined.user.user_id, client: house.clientFor(api_key) }
}

test('a member leaves: first they are told what ends, then it ends', async () => {
  const owner = await newTeam()
  const ann = await join(owner, 'member', 'Ann')
  await ann.client.environments.create({ body: { name: 'den', team: false } })
  const team = await ann.client.schedules.create({ body: { name: 'ours', ...hourly } })
  const own = await ann.client.schedules.create({ body: { name: 'mine', ...hourly, team: false } })
  const { run_id } = await ann.client.runs.create({ body: { ...never, team: false } })
  const shared = await ann.client.runs.create({ body: never })
  await ann.client.apiKeys.create({ body: { name: 'for all', scope: 'team', expires_at: null } })
  const what = {
    ended_keys: [
      { name: 'first key', scope: 'personal' },
      { name: 'for all', scope: 'team' },
    ],
    cancelled_runs: 1,
    stopped_schedules: [
      { id: own.id, name: 'mine', is_personal: true },
      { id: team.id, name: 'ours', is_personal: false },
    ],
    personal: { environments: 1, agents: 0, secrets: 0 },
  }
  const told = await ann.client.teams.leave({ params: params(owner), body: { dry_run: true } })
  expect(told).toMatchObject({ ...what, left: false })
  expect(await ann.client.runs.get({ params: { run_id } })).toMatchObject({ state: 'QUEUED' })
  const { stopped_schedules, ...left } = await ann.client.teams.leave({ params: params(owner), body: {} })
  const { stopped_schedules: _, ...rest } = what
  expect(left).toMatchObject({ ...rest, left: true })
  expect(stopped_schedules).toEqual(expect.arrayContaining(what.stopped_schedules))
  await expect.poll(() => outcome(ann.client.access.whoami())).toMatchObject(unknown)
  const states = await house.database.kysely
    .selectFrom('runs')
    .select(['run_id', 'state'])
    .where('run_id', 'in', [run_id, shared.run_id])
    .execute()
  expect(Object.fromEntries(states.map((row) => [row.run_id, row.state]))).toEqual({
    [run_id]: 'CANCELLED',
    [shared.run_id]: 'QUEUED',
  })
  expect((await owner.client.teams.members()).members).toHaveLength(1)
  expect(await scheduled(owner, team.id)).toMatchObject({
    enabled: true,
    last_spawn_error: expect.stringMatching(/has left the team.*An admin of the team can take it over/),
    history: { next_run: null },
  })
})

test('what a removal ends is the same, and nothing personal is told', async () => {
  const owner = await newTeam()
  const ann = await join(owner, 'member', 'Ann')
  const { id } = await ann.client.schedules.create({ body: { name: 'ours', ...hourly } })
  await ann.client.schedules.create({ body: { name: 'private matter', ...hourly, team: false } })
  const removed = await owner.client.teams.removeMember({ params: { user_id: ann.user_id } })
  expect(removed).toEqual({
    ended_keys: [{ name: 'first key', scope: 'personal', preview: expect.any(String) }],
    cancelled_runs: 0,
    stopped_schedules: [{ id, name: 'ours', is_personal: false }],
  })
})

test('the last owner stays, and a key that may do less than its person takes nobody out', async () => {
  const owner = await newTeam()
  const leave = ({ client }: Pick<Person, 'client'>) => client.teams.leave({ params: params(owner), body: {} })
  await expect(leave(owner)).rejects.toMatchObject({
    status: 409,
    message: expect.stringMatching(/last owner.*delete/),
  })
  const ann = await join(owner, 'admin', 'Ann')
  const keyOf = async (body: object) => {
    const { api_key } = await ann.client.apiKeys.create({ body: { name: 'k', expires_at: null, ...body } })
    return { client: house.clientFor(api_key) }
  }
  await expect(leave(await keyOf({ role: 'viewer' }))).rejects.toMatchObject(refused)
  await expect(leave(await keyOf({ scope: 'team' }))).rejects.toMatchObject(refused)
  const other = await newTeam()
  await expect(ann.client.teams.leave({ params: params(other), body: {} })).rejects.toMatchObject(absent)
  expect((await owner.client.teams.members()).members).toHaveLength(2)
  await expect(leave(ann)).resolves.toMatchObject({ left: true })
})

test('a team is handed over in one step, to a member, by an owner', async () => {
  const owner = await newTeam()
  const ann = await join(owner, 'member', 'Ann')
  const transfer = (client: House['client'], user_id: string, own_role?: 'member') =>
    client.teams.transfer({ params: params(owner), body: { user_id, ...(own_role && { own_role }) } })
  await expect(transfer(ann.client, ann.user_id)).rejects.toMatchObject(refused)
  await expect(transfer(owner.client, owner.caller.user_id)).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(transfer(owner.client, house.owner.user_id)).rejects.toMatchObject(absent)
  expect(await transfer(owner.client, ann.user_id)).toMatchObject({ role: 'admin', members: 2 })
  const roles = (await ann.client.teams.members()).members.map(({ user_id, role }) => [user_id, role])
  expect(Object.fromEntries(roles)).toEqual({ [ann.user_id]: 'owner', [owner.caller.user_id]: 'admin' })
  // At once, though what a key may do is looked up once in a second only.
  await expect(transfer(owner.client, ann.user_id)).rejects.toMatchObject(refused)
  await expect
    .poll(() => outcome(transfer(ann.client, owner.caller.user_id, 'member')))
    .toMatchObject({ role: 'member' })
})

test('a team is deleted by its name alone, and not while runs of it are going on unless they are cancelled', async () => {
  const owner = await newTeam()
  const ann = await join(owner, 'admin', 'Ann')
  const { name } = await owner.client.teams.get({ params: params(owner) })
  const { run_id } = await ann.client.runs.create({ body: { ...never, title: 'a shared one' } })
  await ann.client.runs.create({ body: { ...never, title: 'private matter', team: false } })
  const remove = (query: { confirm?: string; cancel_runs?: boolean }, client = owner.client) =>
    client.teams.delete({ params: params(owner), query })
  await expect(remove({ confirm: name }, ann.client)).rejects.toMatchObject(refused)
  await expect(remove({})).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(remove({ confirm: 'another', cancel_runs: true })).rejects.toMatchObject({
    message: expect.stringMatching(/not called "another"; nothing was deleted/),
  })
  const busy = await remove({ confirm: name }).catch((fault: unknown) => fault as Error)
  expect(busy).toMatchObject({ status: 409 })
  const { message } = busy as unknown as Error
  expect(message).toMatch(
    new RegExp(`^2 runs of the team have not ended: "a shared one" \\(${run_id}\\) and others\\. .*cancel_runs=true`),
  )
  expect(message).not.toContain('private')
  await expect(ann.client.teams.contents({ params: params(owner) })).rejects.toMatchObject(refused)
  expect(await owner.client.teams.contents({ params: params(owner) })).toMatchObject({
    name,
    open_runs: 2,
    runs: 2,
    members: 2,
    api_keys: 2,
  })
  expect(await remove({ confirm: name, cancel_runs: true })).toMatchObject({
    team: { team_id: owner.caller.team_id, name },
    had: { open_runs: 2 },
    cancelled_runs: 2,
    restore_until: new Date(clock.now().getTime() + 30 * DAY_MS).toISOString(),
  })
})

test('a deleted team is closed to everybody at once; with its code it is open again, as it was', async () => {
  const owner = await newTeam()
  const ann = await join(owner, 'member', 'Ann')
  const agent = await owner.client.identities.create({ body: { name: 'Ada' } })
  const made = await owner.client.apiKeys.create({ body: { name: 'k', agent_uid: agent.uid, expires_at: null } })
  const secret = await owner.client.secrets.create({ body: { name: 'TOKEN', value: 'very hidden' } })
  const running = await ann.client.schedules.create({ body: { name: 'a', ...hourly } })
  const paused = await ann.client.schedules.create({ body: { name: 'b', ...hourly, enabled: false } })
  const invited = await owner.client.teams.invite({ body: {} })
  const worker = await house.worker({ api_key: owner.api_key, worker_host: 'theirs' })
  const config = { worker_host: 'theirs', session_sharing: { public_access: 'VIEWER' as const } }
  const { run_id } = await ann.client.runs.create({ body: { prompt: 'work', config } })
  const { artifact_uid } = await sendFile(ann.client, { run_id, filepath: 'public.txt' }, 'for all')
  const stranger = house.clientFor(undefined)
  const look = () => outcome(stranger.artifacts.get({ params: { artifact_uid } }))
  expect(await look()).toMatchObject({ artifact_uid })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  const { conversation_id = '' } = await ann.client.runs.get({ params: { run_id } })
  const redirect = () => stranger.conversations.session({ params: { conversation_id } })
  const { session_id = '' } = await redirect()
  expect(await stranger.conversations.ofSession({ params: { session_id } })).toEqual({ conversation_id })
  const headers = { authorization: `Bearer ${ann.api_key}` }
  const stream = await fetch(`${house.url}${API_PREFIX}/stream`, { headers })
  const drained = (async () => {
    for await (const _ of stream.body ?? []);
  })()
  const { name } = await owner.client.teams.get({ params: params(owner) })
  const deleted = await owner.client.teams.delete({
    params: params(owner),
    query: { confirm: name, cancel_runs: true },
  })
  expect(deleted).toMatchObject({
    had: { secrets: 1, schedules: 2, workers: 1 },
    cancelled_runs: 1,
    stopped_schedules: 1,
  })
  await worker.closed
  await drained
  const keys = [owner.api_key, ann.api_key, made.api_key]
  for (const key of keys) await expect.poll(() => outcome(house.clientFor(key).access.whoami())).toMatchObject(unknown)
  await expect(
    house.clientFor(undefined).teams.join({ body: { code: invited.code, display_name: 'Eve' } }),
  ).rejects.toMatchObject(unknown)
  expect(await look()).toMatchObject(unknown)
  expect(await redirect()).toEqual({})
  expect(await stranger.conversations.ofSession({ params: { session_id } })).toEqual({})
  // The runner may say how it ended.
  expect(await piece.finish({ outcome: 'CANCELLED' })).toEqual({ state: 'CANCELLED' })
  clock.advance(2 * 3_600_000)
  await house.server.engine.schedules.fire()
  const restore = (code: string) => house.clientFor(undefined).teams.restore({ body: { code } })
  await expect(restore('no such code')).rejects.toMatchObject(unknown)
  expect(await restore(deleted.restore_code)).toEqual({
    team: { team_id: owner.caller.team_id, name },
    resumed_schedules: 1,
  })
  await expect(restore(deleted.restore_code)).rejects.toMatchObject(unknown)
  for (const key of keys)
    await expect.poll(() => outcome(house.clientFor(key).access.whoami())).toMatchObject({ by: 'api_key' })
  expect(await look()).toMatchObject({ artifact_uid })
  expect((await owner.client.secrets.list({})).secrets).toMatchObject([{ uid: secret.uid }])
  expect(await ann.client.runs.get({ params: { run_id } })).toMatchObject({ state: 'CANCELLED' })
  expect((await scheduled(ann, running.id)).history.next_run).toBe('2026-01-01T11:00:00.000Z')
  expect(await scheduled(ann, paused.id)).toMatchObject({ enabled: false, history: { next_run: null } })
  const { firings } = await ann.client.schedules.history({ params: { schedule_id: running.id }, query: {} })
  expect(firings).toEqual([])
  await house.worker({ api_key: owner.api_key, worker_host: 'theirs' })
})

test('after thirty days the secrets of a deleted team are destroyed, and nothing restores it', async () => {
  const owner = await newTeam()
  const { uid } = await owner.client.secrets.create({ body: { name: 'TOKEN', value: 'very hidden' } })
  const kept = await house.client.secrets.create({ body: { name: 'KEPT', value: 'very hidden' } })
  const { name } = await owner.client.teams.get({ params: params(owner) })
  const { restore_code } = await owner.client.teams.delete({ params: params(owner), query: { confirm: name } })
  const values = async () => {
    clock.advance(LATER_MS)
    await house.server.engine.sweep.run()
    const rows = await house.database.kysely.selectFrom('secret_versions').select('secret_uid').execute()
    return rows.map((row) => row.secret_uid)
  }
  clock.advance(29 * DAY_MS)
  expect(await values()).toEqual(expect.arrayContaining([uid, kept.uid]))
  clock.advance(DAY_MS)
  expect(await values()).not.toContain(uid)
  expect(await values()).toContain(kept.uid)
  await expect(house.clientFor(undefined).teams.restore({ body: { code: restore_code } })).rejects.toMatchObject(
    unknown,
  )
})

test('what a request in flight began in a deleted team is ended by the sweep', async () => {
  const owner = await newTeam()
  const { run_id } = await owner.client.runs.create({ body: never })
  const { name } = await owner.client.teams.get({ params: params(owner) })
  await owner.client.teams.delete({ params: params(owner), query: { confirm: name, cancel_runs: true } })
  const of = house.database.kysely.updateTable('runs').where('run_id', '=', run_id)
  await of.set({ state: 'QUEUED', ended_at: null, cancel_requested_at: null }).execute()
  clock.advance(LATER_MS)
  await house.server.engine.sweep.run()
  const { state } = await house.database.kysely
    .selectFrom('runs')
    .select('state')
    .where('run_id', '=', run_id)
    .executeTakeFirstOrThrow()
  expect(state).toBe('CANCELLED')
})

test('a schedule that a request in flight set going in a deleted team makes no run', async () => {
  const owner = await newTeam()
  const { id } = await owner.client.schedules.create({ body: { name: 'a', ...hourly } })
  const { name } = await owner.client.teams.get({ params: params(owner) })
  await owner.client.teams.delete({ params: params(owner), query: { confirm: name } })
  const schedules = house.database.kysely.updateTable('schedules').where('schedule_id', '=', id)
  await schedules.set({ due_at: clock.now() }).execute()
  await house.server.engine.schedules.fire()
  const runs = await house.database.kysely.selectFrom('runs').select('run_id').where('schedule_id', '=', id).execute()
  expect(runs).toEqual([])
})

test('where every team was deleted, the next start makes one', async () => {
  const alone = await startHouse()
  try {
    const params = { team_id: alone.owner.team_id }
    const { restore_code } = await alone.client.teams.delete({ params, query: { confirm: 'default' } })
    const { prepare } = alone.server.engine.access
    const made = await prepare()
    expect(made.caller.team_id).not.toBe(params.team_id)
    expect(await alone.clientFor(made.api_key ?? '').access.whoami()).toMatchObject({ role: 'owner' })
    await alone.clientFor(undefined).teams.restore({ body: { code: restore_code } })
    expect((await prepare()).caller.team_id).toBe(params.team_id)
  } finally {
    await alone.close()
  }
})
