/** Planned times that come: once each however many servers look, and by the policies of their schedules. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { CreateSchedule, Firing, Run, Schedule } from '../src/contract/index.ts'
import { manualClock } from '../src/db/clock.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
/** Half a minute before a full hour. */
const START = new Date('2026-01-01T08:59:30Z')

let house: House
let clock: ReturnType<typeof manualClock>
beforeEach(async () => {
  clock = manualClock(START)
  const patient = 40 * 24 * HOUR_MS
  house = await startHouse({
    clock,
    engine_limits: { lease_ms: patient, begin_ms: patient, offer_ms: patient },
    max_concurrent_runs: 100,
  })
})
afterEach(() => house.close())

const create = (body: Partial<CreateSchedule> = {}): Promise<Schedule> =>
  house.client.schedules.create({ body: { name: 'nightly', cron_schedule: '0 * * * *', prompt: 'Go.', ...body } })
const get = (schedule_id: string) => house.client.schedules.get({ params: { schedule_id } })
const history = async (schedule_id: string): Promise<Firing[]> =>
  (await house.client.schedules.history({ params: { schedule_id }, query: { limit: 500 } })).firings
const runOf = (run_id: string | null): Promise<Run> => house.client.runs.get({ params: { run_id: run_id ?? '' } })

/** So much later, and what came due meanwhile has been seen to: here, or by the server's own look. */
async function pass(ms: number): Promise<void> {
  clock.advance(ms)
  await until('nothing is due', async () => {
    await house.server.engine.schedules.fire()
    const due = house.database.kysely.selectFrom('schedules').select('schedule_id').where('due_at', '<=', clock.now())
    return (await due.executeTakeFirst()) === undefined
  })
}
const shown = (firings: Firing[]) => firings.map(({ due_at, state }) => `${due_at.slice(11, 16)} ${state}`)

test('a run is made at the planned time, with all that the schedule says', async () => {
  const { uid } = await house.client.identities.create({ body: { name: 'Ada', prompt: 'Be kind.' } })
  const environment = await house.client.environments.create({ body: { name: 'app' } })
  const { id } = await create({
    agent_config: { environment_id: 'app', model_id: 'm1', worker_host: 'never' },
    agent_uid: uid,
    metadata: { ticket: '7' },
    mode: 'plan',
  })
  await pass(29_000)
  expect(await history(id)).toEqual([])
  await pass(1_500)
  const [firing, ...others] = await history(id)
  expect(others).toEqual([])
  expect(firing).toMatchObject({ cause: 'time', due_at: '2026-01-01T09:00:00.000Z', state: 'fired', reason: null })
  const run = await runOf(firing?.run_id ?? '')
  expect(run).toMatchObject({
    title: 'nightly',
    prompt: 'Go.',
    source: 'SCHEDULED_AGENT',
    schedule: { schedule_id: id, schedule_name: 'nightly', cron_schedule: '0 * * * *' },
    mode: 'plan',
    metadata: { ticket: '7' },
    creator: { type: 'user', uid: house.owner.user_id },
    executor: { type: 'service_account', uid },
    agent_config: { environment_id: environment.uid, model_id: 'm1', base_prompt: 'Be kind.' },
  })
  expect((await get(id)).history).toEqual({
    last_ran: run.created_at,
    next_run: '2026-01-01T10:00:00.000Z',
    last_run_id: run.run_id,
  })
})

test('several servers see the same times and make one run of each', async () => {
  const siblings = [await house.sibling(), await house.sibling()]
  const ids = await Promise.all(Array.from({ length: 30 }, async (_, at) => (await create({ name: `s${at}` })).id))
  clock.advance(MINUTE_MS)
  const servers = [house.server, ...siblings.map(({ server }) => server)]
  await Promise.all(servers.flatMap(({ engine }) => [engine.schedules.fire(), engine.schedules.fire()]))
  const histories = await until('each has come', async () => {
    const all = await Promise.all(ids.map(history))
    return all.every((firings) => firings.length > 0) ? all : null
  })
  expect(histories.map((firings) => firings.map(({ state }) => state))).toEqual(ids.map(() => ['fired']))
  expect((await house.client.runs.list({ query: { limit: 500 } })).runs).toHaveLength(30)
})

test('what was missed: the latest within the window fires, and the rest is told', async () => {
  const { id } = await create({ cron_schedule: '*/5 * * * *', catch_up_window_minutes: 60 })
  const small = await create({ cron_schedule: '0 * * * *' })
  const none = await create({ cron_schedule: '0 * * * *', catch_up_window_minutes: 0 })
  await pass(2 * HOUR_MS + 20 * MINUTE_MS)
  expect(shown(await history(id))).toEqual(['11:15 fired', '09:00 skipped'])
  expect((await history(id))[1]?.reason).toMatch(/^No server saw to it in time; it was 2 hours late.*60 minutes\.$/)
  for (const late of [small, none]) {
    expect(shown(await history(late.id))).toEqual(['09:00 skipped'])
    expect((await get(late.id)).history.next_run).toBe('2026-01-01T12:00:00.000Z')
  }
  await pass(40 * MINUTE_MS + 30_000)
  expect(shown(await history(none.id))).toEqual(['12:00 fired', '09:00 skipped'])
})

test('all that was missed fires where it was asked for, one after the other and never a flood', async () => {
  const all = { catch_up: 'all', catch_up_window_minutes: 31 * 24 * 60, overlap_policy: 'cancel_previous' } as const
  const { id } = await create({ ...all, cron_schedule: '0 * * * *' })
  await pass(3 * HOUR_MS)
  await until('no time waits', async () => {
    await house.server.engine.schedules.fire()
    return (await history(id)).every(({ state }) => state !== 'waiting')
  })
  expect(shown(await history(id))).toEqual(['11:00 fired', '10:00 skipped', '09:00 fired'])
  await pass(200 * HOUR_MS)
  expect(await history(id)).toHaveLength(3 + 1 + 100)
}, 40_000)

test('while it is paused nothing comes, and what came due meanwhile never does', async () => {
  const { id } = await create({ catch_up_window_minutes: 600 })
  expect(await house.client.schedules.pause({ params: { schedule_id: id } })).toMatchObject({
    enabled: false,
    history: { next_run: null },
  })
  await pass(3 * HOUR_MS)
  expect(await history(id)).toEqual([])
  expect(await house.client.schedules.resume({ params: { schedule_id: id } })).toMatchObject({
    enabled: true,
    history: { next_run: '2026-01-01T12:00:00.000Z' },
  })
  await pass(31_000)
  expect(shown(await history(id))).toEqual(['12:00 fired'])
})

test('a clock that is put back makes no second run of a time', async () => {
  const { id } = await create()
  await pass(MINUTE_MS)
  clock.advance(-24 * HOUR_MS)
  const params = { schedule_id: id }
  const body = { name: 'nightly', cron_schedule: '0 */1 * * *', enabled: true, prompt: 'Go.' }
  await house.client.schedules.replace({ params, body })
  // As if it were the same day, so that the same time comes again.
  clock.advance(24 * HOUR_MS - 2 * MINUTE_MS)
  await house.client.schedules.replace({ params, body: { ...body, cron_schedule: '0 * * * *' } })
  expect((await get(id)).history.next_run).toBe('2026-01-01T09:00:00.000Z')
  await pass(2 * MINUTE_MS)
  expect(shown(await history(id)).filter((time) => time.startsWith('09:00'))).toEqual(['09:00 fired'])
  expect((await house.client.runs.list({ query: {} })).runs.length).toBe(
    (await history(id)).filter(({ state }) => state === 'fired').length,
  )
})

test('a change of anything but the times loses no time that has come', async () => {
  const { id } = await create()
  clock.advance(31_000)
  const body = { name: 'renamed', cron_schedule: '0 * * * *', enabled: true, prompt: 'Go on.' }
  await house.client.schedules.replace({ params: { schedule_id: id }, body })
  await pass(0)
  const [firing] = await history(id)
  expect(firing).toMatchObject({ due_at: '2026-01-01T09:00:00.000Z', state: 'fired' })
})

test('skip: no run while another is going on', async () => {
  const worker = await house.worker()
  const { id } = await create()
  await pass(MINUTE_MS)
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  await pass(HOUR_MS)
  const [skipped] = await history(id)
  expect(skipped).toMatchObject({ state: 'skipped', run_id: null, settled_at: expect.any(String) })
  expect(skipped?.reason).toBe(`Run ${piece.run_id} is still going on (INPROGRESS).`)
  expect((await get(id)).last_spawn_error).toBeNull()
  await piece.finish()
  await pass(HOUR_MS)
  expect(shown(await history(id))).toEqual(['11:00 fired', '10:00 skipped', '09:00 fired'])
})

test('queue: one time waits for the end of the run, and no more', async () => {
  const worker = await house.worker()
  const { id } = await create({ overlap_policy: 'queue' })
  await pass(MINUTE_MS)
  const first = await worker.next()
  first.claim()
  await first.start()
  await pass(2 * HOUR_MS)
  await pass(HOUR_MS)
  expect(shown(await history(id))).toEqual(['12:00 skipped', '11:00 waiting', '10:00 skipped', '09:00 fired'])
  await first.finish()
  const second = await worker.next()
  expect(second.run_id).not.toBe(first.run_id)
  const came = (await history(id)).find(({ run_id }) => run_id === second.run_id)
  expect(came).toMatchObject({ due_at: '2026-01-01T11:00:00.000Z', state: 'fired', reason: null })
})

test('what waits is given up when its schedule is paused', async () => {
  const { id } = await create({ overlap_policy: 'queue' })
  await pass(MINUTE_MS)
  await pass(HOUR_MS)
  expect(shown(await history(id))).toEqual(['10:00 waiting', '09:00 fired'])
  await house.client.schedules.pause({ params: { schedule_id: id } })
  expect((await history(id))[0]).toMatchObject({ state: 'skipped', reason: 'The schedule was paused.' })
})

test('cancel_previous: the run before is cancelled, and the next begins when it has ended', async () => {
  const worker = await house.worker()
  const { id } = await create({
    overlap_policy: 'cancel_previous',
    catch_up: 'all',
    catch_up_window_minutes: 120,
  })
  await pass(MINUTE_MS)
  const first = await worker.next()
  first.claim()
  await first.start()
  await pass(2 * HOUR_MS)
  await until('the run is to be cancelled', async () => (await runOf(first.run_id)).cancel_requested)
  expect(await runOf(first.run_id)).toMatchObject({ state: 'INPROGRESS' })
  // Of two that wait the older gives way.
  expect(shown(await history(id))).toEqual(['11:00 waiting', '10:00 skipped', '09:00 fired'])
  await first.finish({ outcome: 'CANCELLED' })
  const second = await worker.next()
  expect(await runOf(first.run_id)).toMatchObject({ state: 'CANCELLED' })
  expect((await history(id))[0]).toMatchObject({ state: 'fired', run_id: second.run_id })
})

test('a run that cannot be made is told, and the schedule goes on', async () => {
  const { uid } = await house.client.environments.create({ body: { name: 'app' } })
  const { id } = await create({ agent_config: { environment_id: 'app' } })
  await expect(house.client.environments.delete({ params: { environment_uid: uid }, query: {} })).rejects.toThrow(
    /in use by schedule "nightly"/,
  )
  await house.client.environments.delete({ params: { environment_uid: uid }, query: { force: true } })
  await pass(MINUTE_MS)
  const failed = await get(id)
  expect(failed).toMatchObject({ enabled: true, last_spawn_error: expect.stringMatching(/"app" was deleted\./) })
  expect(failed.environment).toBeUndefined()
  expect((await history(id))[0]).toMatchObject({ state: 'failed', reason: failed.last_spawn_error, run_id: null })
  await house.client.schedules.replace({
    params: { schedule_id: id },
    body: { name: 'nightly', cron_schedule: '0 * * * *', enabled: true, prompt: 'Go.' },
  })
  await pass(HOUR_MS)
  expect((await get(id)).last_spawn_error).toBeNull()
  expect(shown(await history(id))).toEqual(['10:00 fired', '09:00 failed'])
})

test('an agent identity that is gone, and a creator who has left, make no runs', async () => {
  const { uid } = await house.client.identities.create({ body: { name: 'Ada' } })
  const nameless = await create({ agent_uid: 'Ada' })
  expect(nameless.agent_uid).toBe(uid)
  await house.client.identities.delete({ params: { identity_uid: uid } })
  const orphan = await create({ cron_schedule: '0 10-23 * * *' })
  await pass(MINUTE_MS)
  expect((await get(nameless.id)).last_spawn_error).toMatch(/Agent identity "Ada" was deleted/)
  const db = house.database.kysely
  const { user_id } = house.owner
  await db.updateTable('memberships').set({ role: 'viewer' }).where('user_id', '=', user_id).execute()
  await pass(HOUR_MS)
  expect((await get(orphan.id)).last_spawn_error).toMatch(/may only look at what the team does/)
  await db.deleteFrom('memberships').where('user_id', '=', user_id).execute()
  await pass(HOUR_MS)
  // Nobody is left who could ask.
  const rows = await db
    .selectFrom('schedules')
    .select(['last_spawn_error', 'enabled'])
    .where('schedule_id', '=', orphan.id)
    .execute()
  expect(rows).toEqual([{ last_spawn_error: expect.stringMatching(/has left the team/), enabled: true }])
})

test('the schedule of one who has left stands still until an admin takes it over, and fires for them then', async () => {
  const ann = await house.addMember('Ann', 'member')
  const admin = await house.addMember('Ada', 'admin')
  const { id } = await ann.client.schedules.create({
    body: { name: 'hers', cron_schedule: '0 * * * *', prompt: 'Go.', overlap_policy: 'queue' },
  })
  const params = { schedule_id: id }
  await pass(MINUTE_MS)
  await pass(HOUR_MS)
  expect(shown(await history(id))).toEqual(['10:00 waiting', '09:00 fired'])
  expect(await runOf((await history(id))[1]?.run_id ?? '')).toMatchObject({ creator: { uid: ann.caller.user_id } })
  await house.client.teams.removeMember({ params: { user_id: ann.caller.user_id } })
  const still = {
    enabled: true,
    last_spawn_error: expect.stringMatching(/has left the team: it makes no more runs. An admin/),
    history: { next_run: null },
  }
  expect(await get(id)).toMatchObject(still)
  await pass(3 * HOUR_MS)
  expect(await history(id)).toMatchObject([
    { state: 'skipped', reason: 'Who made the schedule has left the team.' },
    { state: 'fired' },
  ])
  const colleague = await house.addMember('Mel', 'member')
  await expect(colleague.client.schedules.takeOver({ params })).rejects.toMatchObject({ status: 403 })
  // To change or resume it helps nobody: its next time finds the same, and it stands still again.
  await colleague.client.schedules.resume({ params })
  await pass(HOUR_MS)
  expect(await get(id)).toMatchObject(still)
  expect(shown(await history(id))).toEqual(['14:00 failed', '10:00 skipped', '09:00 fired'])
  await house.client.runs.cancel({ params: { run_id: (await history(id)).at(-1)?.run_id ?? '' } })
  expect(await admin.client.schedules.takeOver({ params })).toMatchObject({
    created_by: { type: 'user', uid: admin.caller.user_id, display_name: 'Ada' },
    last_spawn_error: null,
    history: { next_run: '2026-01-01T15:00:00.000Z' },
  })
  await pass(HOUR_MS)
  const [fired] = await history(id)
  expect(fired).toMatchObject({ state: 'fired', due_at: '2026-01-01T15:00:00.000Z' })
  expect(await runOf(fired?.run_id ?? '')).toMatchObject({ creator: { uid: admin.caller.user_id } })
})

test('a schedule may be taken over while its maker is there, and a paused one stays paused', async () => {
  const ann = await house.addMember('Ann', 'member')
  const body = { name: 'hers', cron_schedule: '0 * * * *', prompt: 'Go.', enabled: false }
  const { id } = await ann.client.schedules.create({ body })
  const taken = await house.client.schedules.takeOver({ params: { schedule_id: id } })
  expect(taken).toMatchObject({ created_by: { uid: house.owner.user_id }, enabled: false, history: { next_run: null } })
  await house.client.teams.removeMember({ params: { user_id: ann.caller.user_id } })
  expect(await get(id)).toMatchObject({ last_spawn_error: null })
})

test("what an agent's key planned is made in the agent's name, and taken over by a person", async () => {
  const { uid } = await house.client.identities.create({ body: { name: 'Ada' } })
  const { api_key } = await house.client.apiKeys.create({ body: { name: 'k', agent_uid: uid, expires_at: null } })
  const { id } = await house.clientFor(api_key).schedules.create({
    body: { name: 'theirs', cron_schedule: '0 * * * *', prompt: 'Go.', overlap_policy: 'cancel_previous' },
  })
  await pass(MINUTE_MS)
  const [first] = await history(id)
  expect(await runOf(first?.run_id ?? null)).toMatchObject({
    creator: { type: 'service_account', uid, display_name: 'Ada' },
    executor: { type: 'service_account', uid },
  })
  await house.client.schedules.takeOver({ params: { schedule_id: id } })
  await house.client.runs.cancel({ params: { run_id: first?.run_id ?? '' } })
  await pass(HOUR_MS)
  const [second] = await history(id)
  expect(await runOf(second?.run_id ?? null)).toMatchObject({
    creator: { type: 'user', uid: house.owner.user_id },
    executor: { type: 'service_account', uid },
  })
})

test('what times came to is forgotten after ninety days, but for the latest of each schedule', async () => {
  const DAYS = 24 * HOUR_MS
  const { id } = await create({ cron_schedule: '0 9 * * *' })
  const yearly = await create({ name: 'yearly', cron_schedule: '0 9 1 1 *' })
  await pass(MINUTE_MS)
  for (const { run_id } of [...(await history(id)), ...(await history(yearly.id))])
    await house.client.runs.cancel({ params: { run_id: run_id ?? '' } })
  const old = Array.from({ length: 40 }, (_, day) => new Date(Date.UTC(2025, 8, 1 + day, 9)))
  const { team_id } = house.owner
  const firing = { team_id, schedule_id: id, cause: 'time', state: 'skipped', reason: 'Long ago.' }
  await house.database.kysely
    .insertInto('firings')
    .values(
      old.map((at) => ({ firing_id: crypto.randomUUID(), ...firing, due_at: at, created_at: at, settled_at: at })),
    )
    .execute()
  clock.advance(11 * MINUTE_MS)
  await house.server.engine.sweep.run()
  // Of 41, those of the first days of September are older than ninety days, and more than twenty came after them.
  const kept = await history(id)
  expect(kept).toHaveLength(20)
  expect(kept.at(-1)?.due_at).toBe('2025-09-22T09:00:00.000Z')
  clock.advance(300 * DAYS)
  await house.server.engine.sweep.run()
  expect(await history(yearly.id)).toHaveLength(1)
})

test('who may not cancel the run before has no other', async () => {
  const { id } = await create({ overlap_policy: 'cancel_previous' })
  await pass(MINUTE_MS)
  const [before] = await history(id)
  const { user_id } = house.owner
  await house.database.kysely
    .updateTable('memberships')
    .set({ role: 'viewer' })
    .where('user_id', '=', user_id)
    .execute()
  await pass(HOUR_MS)
  await until('it is told', async () => (await get(id)).last_spawn_error)
  expect(shown(await history(id))).toEqual(['10:00 failed', '09:00 fired'])
  expect(await runOf(before?.run_id ?? null)).toMatchObject({ state: 'QUEUED', cancel_requested: false })
})

test('run now makes a run at once, also of a paused schedule, and once for a key', async () => {
  const { id } = await create({ enabled: false })
  const params = { schedule_id: id }
  const headers = { 'idempotency-key': 'now' }
  const first = await house.client.schedules.runNow({ params, headers })
  expect(await house.client.schedules.runNow({ params, headers })).toEqual(first)
  const second = await house.client.schedules.runNow({ params })
  expect(await runOf(second.run_id)).toMatchObject({ source: 'SCHEDULED_AGENT', schedule: { schedule_id: id } })
  const firings = await history(id)
  expect(firings.map(({ cause, state, run_id }) => [cause, state, run_id]).sort()).toEqual(
    [first, second].map(({ run_id }) => ['run_now', 'fired', run_id]).sort(),
  )
  expect((await get(id)).history).toMatchObject({ last_run_id: second.run_id, next_run: null })
})

test('what keeps run now from making a run is told in the words of the schedule', async () => {
  const { uid } = await house.client.identities.create({ body: { name: 'soon gone' } })
  const { id } = await create({ agent_uid: uid, enabled: false })
  await house.client.identities.delete({ params: { identity_uid: uid } })
  await expect(house.client.schedules.runNow({ params: { schedule_id: id } })).rejects.toMatchObject({
    status: 400,
    details: { errors: [{ pointer: '/agent_uid' }] },
  })
})

test('a personal schedule makes personal runs', async () => {
  const { id, scope } = await create({ team: false })
  expect(scope).toEqual({ type: 'User', uid: house.owner.user_id })
  await pass(MINUTE_MS)
  const [firing] = await history(id)
  expect(await runOf(firing?.run_id ?? null)).toMatchObject({ scope })
})
