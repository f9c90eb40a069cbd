/** Trees in the engine: births and their limits, delivery, waking, storms, cascades. */
import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { CreateRun, Fault, ListRuns, NO_USAGE } from '../src/contract/index.ts'
import type { Caller } from '../src/engine/caller.ts'
import { familyHouse, type Opened, type Runner } from './house/family.ts'
import { until } from './house/processes.ts'

let database: Opened['database']
let clock: Opened['clock']
let engine: Opened['engine']
let owner: Opened['owner']
const { limit, stateOf, types, beginAll, parent, spawn, finish, send, deliver } = familyHouse((its) => {
  ;({ database, clock, engine, owner } = its)
})

test('a parent starts many children in one call, in the order of the request', async () => {
  const lead = await parent()
  const spawned = await spawn(lead, ['a', 'b', 'c'])
  expect(spawned.map((one) => one.name)).toEqual(['a', 'b', 'c'])
  const children = await beginAll()
  expect(children.map((child) => child.run_id).sort()).toEqual(
    spawned.map((one) => ('run_id' in one ? one.run_id : '')).sort(),
  )
  const run = await engine.runs.get(owner, children[0]?.run_id ?? '')
  expect(run).toMatchObject({ parent_run_id: lead.run_id, root_run_id: lead.run_id, depth: 1, source: 'ORCHESTRATION' })
  expect((await types(lead.run_id)).filter((type) => type === 'child_agent_started')).toHaveLength(3)
})

test('the same call again makes no further children, and names that run are named', async () => {
  const lead = await parent()
  const first = await spawn(lead, ['a', 'b'])
  expect(await spawn(lead, ['a', 'b'])).toMatchObject(first)
  expect(first).toMatchObject([{ already: false }, { already: false }])
  expect(await spawn(lead, [' A ', 'c'], 'call-2')).toMatchObject([{ already: true }, { already: false }])
  expect((await engine.trees.get(owner, lead.run_id)).nodes).toHaveLength(4)
})

test('calls at once with the same names start each once', async () => {
  const lead = await parent()
  const calls = await Promise.all(Array.from({ length: 8 }, (_, n) => spawn(lead, ['a', 'A '], `call-${n}`)))
  const born = calls.flat().filter((one) => 'already' in one && !one.already)
  expect(born).toHaveLength(1)
  expect(new Set(calls.flat().map((one) => 'run_id' in one && one.run_id)).size).toBe(1)
})

test('a hundred calls at once make no more children than the limit', async () => {
  await limit({ max_children: 7 })
  const lead = await parent()
  const results = await Promise.all(Array.from({ length: 30 }, (_, n) => spawn(lead, [`child ${n}`], `call-${n}`)))
  const faults = results.flat().filter((one) => 'fault' in one)
  expect(results.flat().filter((one) => 'run_id' in one)).toHaveLength(7)
  expect(faults[0]).toMatchObject({
    fault: { code: 'invalid_request', message: expect.stringContaining('max_children is 7') },
  })
})

test('children of children need a deeper limit', async () => {
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = await beginAll()
  expect(await spawn(child as Runner, ['deep'])).toMatchObject([
    { fault: { message: expect.stringContaining('max_depth is 1') } },
  ])
  await limit({ max_depth: 3 })
  expect(await spawn(child as Runner, ['deep'], 'call-2')).toMatchObject([{ already: false }])
  const body = CreateRun.parse({ prompt: 'x', parent_run_id: randomUUID() })
  await expect(engine.runs.create(owner, body, { source: 'API' })).rejects.toMatchObject({ code: 'invalid_request' })
})

test('a child inherits its parent’s configuration, and a model only with its harness', async () => {
  const lead = await parent({ name: 'lead', model_id: 'm1', harness: { type: 'claude' }, permissions: 'deny' })
  const spawned = await engine.trees.spawn(lead.caller, {
    key: 'k',
    children: [
      { name: 'same', prompt: 'x' },
      { name: 'other', prompt: 'x', harness: 'codex' },
    ],
  })
  const [same, other] = await Promise.all(
    spawned.map(async (one) => (await engine.runs.get(owner, 'run_id' in one ? one.run_id : '')).agent_config),
  )
  expect(same).toMatchObject({ name: 'same', model_id: 'm1', permissions: 'deny' })
  expect(other).toMatchObject({ name: 'other', harness: { type: 'codex' } })
  expect(other?.model_id).toBeUndefined()
})

test('a message reaches a busy run once, in order, and its sender sees how far it came', async () => {
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  for (const n of [1, 2, 3]) await send(child.caller, [lead.run_id], `result ${n}`, `body ${n}`)
  const inbox = await engine.mail.inbox(lead.caller, lead.execution_id)
  expect(inbox.text?.match(/body \d/g)).toEqual(['body 1', 'body 2', 'body 3'])
  const [header] = await engine.messages.list(owner, lead.run_id, { limit: 50 })
  expect(header).toMatchObject({ subject: 'result 1', sender_run_id: child.run_id, delivered_at: null, read_at: null })
  await engine.mail.delivered(lead.caller, lead.execution_id, inbox)
  expect((await engine.mail.inbox(lead.caller, lead.execution_id)).text).toBeNull()
  const message = await engine.messages.read(child.caller, header?.message_id ?? '')
  expect(message).toMatchObject({ body: 'body 1', delivered_at: expect.any(String), read_at: null })
  expect((await engine.messages.read(lead.caller, header?.message_id ?? '')).read_at).not.toBeNull()
})

test('a success is none while a message is undelivered', async () => {
  const lead = await parent()
  await send(owner, [lead.run_id])
  expect(await finish(lead)).toEqual({ state: 'INPROGRESS', inbox: true })
  expect(await stateOf(lead.run_id)).toBe('INPROGRESS')
  await deliver(lead)
  expect(await finish(lead)).toEqual({ state: 'SUCCEEDED' })
})

test('an end and a message that come together leave no message behind, a hundred times', async () => {
  for (let n = 0; n < 100; n++) {
    const lead = await parent()
    const [ended] = await Promise.all([finish(lead), send(owner, [lead.run_id])])
    const state = await stateOf(lead.run_id)
    if (ended.inbox) expect(state).toBe('INPROGRESS')
    else expect(state).toBe('QUEUED')
    await engine.runs.cancel(owner, lead.run_id)
  }
}, 60_000)

test('a message wakes a run that has ended; its first prompt is the message, with what went before', async () => {
  const lead = await parent()
  await engine.executions.append(lead.caller, lead.execution_id, [
    { number: 1, at: clock.now().toISOString(), body: { kind: 'text', text: 'I counted 42 files.' } },
  ])
  await engine.executions.finish(lead.caller, lead.execution_id, { outcome: { outcome: 'SUCCEEDED' }, entries: 1 })
  await send(owner, [lead.run_id], 'more', 'count again')
  expect(await stateOf(lead.run_id)).toBe('QUEUED')
  clock.advance(1)
  const connection_id = await engine.workers.open(owner, 'w2')
  const [offer] = await engine.dispatch.offer([{ connection_id, team_id: owner.team_id, worker_host: 'w2', free: 1 }])
  const caller = (await engine.access.identify({ token: offer?.assignment.env_vars.WARP_API_KEY ?? '' })) as Caller
  const execution_id = offer?.assignment.execution_id ?? ''
  const assignment = await engine.executions.start(caller, execution_id)
  expect(assignment).toMatchObject({ cause: 'message', prompt: '', number: 2 })
  expect(assignment.context).toContain('I counted 42 files.')
  expect((await engine.mail.inbox(caller, execution_id)).text).toContain('count again')
})

for (const outcome of ['FAILED', 'ERROR', 'CANCELLED'] as const) {
  test(`a run that ended as ${outcome} can be woken`, async () => {
    const lead = await parent()
    if (outcome === 'CANCELLED') await engine.runs.cancel(owner, lead.run_id)
    const failure = { error_code: 'invalid_request', message: 'no', retryable: false }
    await finish(lead, outcome === 'CANCELLED' ? { outcome } : { outcome, failure })
    expect(await stateOf(lead.run_id)).toBe(outcome)
    await send(owner, [lead.run_id])
    expect(await stateOf(lead.run_id)).toBe('QUEUED')
  })
}

test('a send repeated with its key is one message', async () => {
  const lead = await parent()
  await spawn(lead, ['a', 'b'])
  const [a, b] = (await beginAll()) as [Runner, Runner]
  const first = await send(lead.caller, [a.run_id, b.run_id], 's', 'b', 'key')
  expect(await send(lead.caller, [a.run_id, b.run_id], 's', 'b', 'key')).toEqual(first)
  expect(await engine.messages.list(owner, a.run_id, { limit: 50 })).toHaveLength(1)
  const person = await send(owner, [b.run_id], 's', 'b', 'key')
  expect(await send(owner, [b.run_id], 's', 'b', 'key')).toEqual(person)
  expect(await engine.messages.list(owner, b.run_id, { limit: 50 })).toHaveLength(2)
})

test('one recipient that is not there and nobody gets the message', async () => {
  const lead = await parent()
  await expect(send(owner, [lead.run_id, randomUUID()])).rejects.toMatchObject({ code: 'resource_not_found' })
  expect(await engine.messages.list(owner, lead.run_id, { limit: 50 })).toEqual([])
})

test('an agent sees and reaches nobody outside its own tree, and not itself', async () => {
  const lead = await parent()
  const stranger = await parent()
  await expect(send(lead.caller, [stranger.run_id])).rejects.toMatchObject({ code: 'resource_not_found' })
  await expect(send(lead.caller, [lead.run_id])).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(engine.trees.get(lead.caller, stranger.run_id)).rejects.toBeInstanceOf(Fault)
  await expect(engine.runs.cancel(lead.caller, stranger.run_id)).rejects.toMatchObject({ code: 'resource_not_found' })
})

test('what a later change of a child superseded is not told', async () => {
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  await finish(child)
  await send(lead.caller, [child.run_id])
  const [again] = (await beginAll()) as [Runner]
  await deliver(again)
  await finish(again)
  const inbox = await deliver(lead)
  expect(inbox.text?.match(/has succeeded/g)).toHaveLength(1)
  expect((await deliver(lead)).text).toBeNull()
})

test('ping-pong stops at the hop limit, the root is BLOCKED, and a person releases it', async () => {
  await limit({ max_hops: 6 })
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  let turns = 0
  const pingPong = async () => {
    for (;;) {
      await send(lead.caller, [child.run_id], 'ping')
      await deliver(child)
      turns += 1
      await send(child.caller, [lead.run_id], 'pong')
      await deliver(lead)
      turns += 1
    }
  }
  await expect(pingPong()).rejects.toMatchObject({
    code: 'budget_exceeded',
    message: expect.stringContaining('limit of 6'),
  })
  expect(turns).toBeLessThanOrEqual(6)
  expect(await stateOf(lead.run_id)).toBe('BLOCKED')
  expect((await engine.trees.get(owner, lead.run_id)).stopped).toMatchObject({ reason: 'hops' })
  expect(await types(lead.run_id)).toContain('run_blocked')
  expect(await spawn(lead, ['b'], 'call-9')).toMatchObject([{ fault: { code: 'budget_exceeded' } }])
  await engine.trees.release(owner, lead.run_id)
  expect(await stateOf(lead.run_id)).toBe('INPROGRESS')
  await send(lead.caller, [child.run_id], 'ping')
  await expect(engine.trees.release(owner, lead.run_id)).rejects.toMatchObject({ code: 'conflict' })
  await expect(pingPong()).rejects.toMatchObject({
    message: expect.stringContaining('its limit of 12 (max_hops is 6, and 6 more by releases)'),
  })
})

test('a bomb of a thousand children stops at the documented limit', async () => {
  await limit({ max_children: 1000, max_tree_runs: 50 })
  const lead = await parent()
  const results = await spawn(
    lead,
    Array.from({ length: 200 }, (_, n) => `bomb ${n}`),
  )
  expect(results.filter((one) => 'run_id' in one)).toHaveLength(49)
})

test('a cascade cancels the subtree at once, and no child is born meanwhile', async () => {
  await limit({ max_depth: 3 })
  const lead = await parent()
  await spawn(lead, ['a', 'b'])
  const [a] = (await beginAll()) as [Runner, Runner]
  await spawn(a, ['a1'])
  const births = Promise.all(Array.from({ length: 10 }, (_, n) => spawn(a, [`late ${n}`], `late-${n}`)))
  await engine.runs.cancel(owner, lead.run_id, { cascade: true })
  await births
  clock.advance(20_000)
  await engine.sweep.run()
  const { nodes, counts, done } = await engine.trees.get(owner, lead.run_id)
  expect(counts).toEqual({ CANCELLED: nodes.length })
  expect(done).toBe(true)
  expect(await spawn(a, ['after'], 'after')).toMatchObject([{ fault: { code: 'conflict' } }])
})

test('a cancel of a parent alone leaves its children at work', async () => {
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  await engine.runs.cancel(owner, lead.run_id)
  await finish(lead)
  expect(await stateOf(lead.run_id)).toBe('CANCELLED')
  expect(await stateOf(child.run_id)).toBe('INPROGRESS')
})

test('a cancel that meets a run on its way back to the queue holds', async () => {
  const lead = await parent()
  const cancelling = await database.kysely.transaction().execute(async (write) => {
    await write.updateTable('runs').set({ state: 'QUEUED' }).where('run_id', '=', lead.run_id).execute()
    await write
      .updateTable('executions')
      .set({ state: 'ended', outcome: 'ERROR', ended_at: clock.now(), expires_at: null })
      .where('run_id', '=', lead.run_id)
      .execute()
    const cancelled = engine.runs.cancel(owner, lead.run_id)
    await until('the cancel waits for the row', async () => {
      const { rows } = await database.pool.query(`select from pg_stat_activity
        where wait_event_type = 'Lock' and datname = current_database()`)
      return rows.length > 0
    })
    return { cancelled }
  })
  await cancelling.cancelled
  expect(await stateOf(lead.run_id)).toBe('CANCELLED')
})

test('a child beside its parent is offered to nobody but its parent’s runner', async () => {
  const lead = await parent()
  await spawn(lead, ['beside'], 'call-1', { where: 'sandbox' })
  expect(await beginAll()).toEqual([])
  expect(await engine.executions.check(lead.caller, lead.execution_id)).toMatchObject({ children: true })
  const { assignments } = await engine.executions.children(lead.caller, lead.execution_id)
  expect(assignments).toHaveLength(1)
  const caller = (await engine.access.identify({ token: assignments[0]?.env_vars.WARP_API_KEY ?? '' })) as Caller
  const assignment = await engine.executions.start(caller, assignments[0]?.execution_id ?? '')
  expect(assignment).toMatchObject({ placement: 'parent', parent_run_id: lead.run_id })
  expect((await engine.executions.children(lead.caller, lead.execution_id)).assignments).toEqual([])
})

test('what an agent says of its own work is how its run ends', async () => {
  const good = await parent()
  await engine.executions.note(good.caller, { success: true, summary: 'all green' })
  await finish(good)
  expect(await engine.runs.get(owner, good.run_id)).toMatchObject({
    state: 'SUCCEEDED',
    status_message: { message: 'all green' },
  })
  const bad = await parent()
  await engine.executions.note(bad.caller, { success: false, summary: 'tests fail' })
  await finish(bad)
  expect(await engine.runs.get(owner, bad.run_id)).toMatchObject({
    state: 'FAILED',
    status_message: { message: 'tests fail' },
  })
})

test('the tree counts its states, sums its usage and collects its artifacts', async () => {
  const lead = await parent()
  await spawn(lead, ['a', 'b'])
  const [a, b] = (await beginAll()) as [Runner, Runner]
  const usage = { input_tokens: 10, output_tokens: 5, cache_read_tokens: 1, cache_write_tokens: 0 }
  await engine.artifacts.report(a.caller, {
    artifact_type: 'PULL_REQUEST',
    data: { url: 'https://example.com/1', branch: 'x' },
  })
  for (const child of [a, b]) {
    await engine.executions.finish(child.caller, child.execution_id, {
      outcome: { outcome: 'SUCCEEDED' },
      entries: 0,
      usage,
    })
  }
  const tree = await engine.trees.get(owner, lead.run_id)
  expect(tree).toMatchObject({ counts: { INPROGRESS: 1, SUCCEEDED: 2 }, done: false, usage: { total_tokens: 32 } })
  expect(tree.artifacts).toMatchObject([{ run_id: a.run_id, artifact_type: 'PULL_REQUEST' }])
  expect((await engine.runs.get(owner, a.run_id)).artifacts).toHaveLength(1)
})

test('a tree shows of each run all that its executions used and what they said last, parents before children', async () => {
  await limit({ max_depth: 2 })
  const lead = await parent()
  await spawn(lead, ['a'])
  clock.advance(1)
  await spawn(lead, ['b'], 'call-2')
  const [a, b] = (await beginAll()) as [Runner, Runner]
  await spawn(a, ['a1'])
  const at = clock.now().toISOString()
  const body = { kind: 'text' as const, text: ' All\n is  well, \t so  far. ' }
  await engine.executions.append(a.caller, a.execution_id, [{ number: 1, at, body }])
  const used = { ...NO_USAGE, input_tokens: 10, cost_usd: 0.25 }
  await engine.executions.finish(a.caller, a.execution_id, {
    outcome: { outcome: 'SUCCEEDED' },
    entries: 1,
    usage: { ...used, cpu_seconds: 2 },
  })
  await send(lead.caller, [a.run_id])
  const again = (await beginAll()).find((runner) => runner.run_id === a.run_id) as Runner
  expect(again.execution_id).not.toBe(a.execution_id)
  await engine.executions.heartbeat(again.caller, again.execution_id, { usage: used })
  const { nodes, usage } = await engine.trees.get(owner, lead.run_id)
  expect(nodes.map((node) => node.name)).toEqual(['lead', 'a', 'a1', 'b'])
  const { created_at, started_at } = await engine.runs.get(owner, a.run_id)
  const seen = { last_words: 'All is well, so far.', total_tokens: 20, worker_host: 'w1', created_at, started_at }
  expect(nodes[1]).toMatchObject({ ...seen, run_id: a.run_id, state: 'INPROGRESS', ended_at: null })
  expect(nodes[3]).not.toHaveProperty('last_words')
  expect(usage).toMatchObject({ total_tokens: 20, input_tokens: 20, inference_cost_usd: 0.5, cpu_seconds: 2 })
  const below = await engine.trees.get(owner, a.run_id)
  expect(below.nodes).toEqual(nodes.slice(1, 3))
  expect(below.nodes[0]?.run_id).toBe(below.root_run_id)
  expect(nodes[3]?.run_id).toBe(b.run_id)
})

test('a child’s end is never seen before the message with its result', async () => {
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  await send(child.caller, [lead.run_id], 'result')
  await finish(child)
  const events = await engine.events.list(owner, { since: 0, limit: 500 })
  const message = events.find((event) => event.event_type === 'new_message')
  const end = events.find((event) => event.event_type === 'run_succeeded')
  expect(message?.sequence).toBeLessThan(end?.sequence ?? 0)
})

const USED = { input_tokens: 900, output_tokens: 200, cache_read_tokens: 0, cache_write_tokens: 0 }

test('a tree that sends no message is stopped when the use of tokens is reported', async () => {
  await limit({ max_tree_tokens: 1000 })
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  await engine.executions.heartbeat(child.caller, child.execution_id, { usage: { ...USED, output_tokens: 0 } })
  expect(await stateOf(lead.run_id)).toBe('INPROGRESS')
  await engine.executions.heartbeat(child.caller, child.execution_id, { usage: USED })
  expect(await stateOf(lead.run_id)).toBe('BLOCKED')
  expect((await engine.trees.get(owner, lead.run_id)).stopped).toMatchObject({ reason: 'tokens' })
  expect(await spawn(lead, ['b'], 'call-2')).toMatchObject([{ fault: { code: 'budget_exceeded' } }])
  await engine.trees.release(owner, lead.run_id)
  expect(await spawn(lead, ['b'], 'call-3')).toMatchObject([{ already: false }])
})

test('a tree is stopped when an execution ends with more tokens than it may use', async () => {
  await limit({ max_tree_tokens: 1000 })
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  await engine.executions.finish(child.caller, child.execution_id, {
    outcome: { outcome: 'SUCCEEDED' },
    entries: 0,
    usage: USED,
  })
  expect(await stateOf(lead.run_id)).toBe('BLOCKED')
})

test('a tree in which nobody is at work any more is stopped, says so at its top, and is released', async () => {
  await limit({ max_tree_tokens: 1000 })
  const lead = await parent()
  await spawn(lead, ['a'])
  const [child] = (await beginAll()) as [Runner]
  const [late] = await spawn(lead, ['late'], 'call-2')
  if (late === undefined || 'fault' in late) throw new Error('It was not born.')
  await finish(lead)
  await engine.executions.finish(child.caller, child.execution_id, {
    outcome: { outcome: 'SUCCEEDED' },
    entries: 0,
    usage: USED,
  })
  const tops = async () => (await engine.runs.list(owner, ListRuns.parse({ tree_stopped: true }))).runs
  expect(await tops()).toMatchObject([
    {
      run_id: lead.run_id,
      state: 'SUCCEEDED',
      tree_stopped: { reason: 'tokens', message: expect.stringMatching(/limit of 1000/) },
    },
  ])
  expect((await types(lead.run_id)).slice(-2)).toEqual(['run_succeeded', 'tree_stopped'])
  expect(await engine.runs.get(owner, late.run_id)).toMatchObject({ state: 'QUEUED', waiting_for: 'release' })
  expect(await beginAll()).toEqual([])
  await engine.trees.release(owner, late.run_id)
  expect(await tops()).toEqual([])
  expect(await types(lead.run_id)).toContain('tree_released')
  expect(await stateOf(lead.run_id)).toBe('SUCCEEDED')
  expect((await beginAll()).map(({ run_id }) => run_id)).toEqual([late.run_id])
})

test('a birth in a tree that used its tokens before the limit was set stops it', async () => {
  const lead = await parent()
  await engine.executions.heartbeat(lead.caller, lead.execution_id, { usage: USED })
  await limit({ max_tree_tokens: 1000 })
  expect(await spawn(lead, ['a'])).toMatchObject([{ fault: { code: 'budget_exceeded' } }])
  expect(await stateOf(lead.run_id)).toBe('BLOCKED')
  expect((await engine.trees.get(owner, lead.run_id)).nodes).toHaveLength(1)
})

test('a sandbox whose run was cancelled alone goes on for the children beside it, and for no others', async () => {
  const lead = await parent()
  await spawn(lead, ['beside'], 'k1', { where: 'sandbox' })
  const { assignments } = await engine.executions.children(lead.caller, lead.execution_id)
  const [offered] = assignments
  const caller = await engine.access.identify({ token: offered?.env_vars.WARP_API_KEY ?? '' })
  if (caller === null || offered === undefined) throw new Error('No child was offered.')
  await engine.executions.start(caller, offered.execution_id)
  const wants = () => engine.workers.wants(owner.team_id, lead.execution_id)
  expect(await wants()).toBe(true)
  await engine.runs.cancel(owner, lead.run_id)
  expect(await wants()).toBe(true)
  await finish(lead, { outcome: 'CANCELLED' })
  expect(await wants()).toBe(true)
  const connection_id = await engine.workers.open(owner, 'w1')
  const hello = {
    capacity: 1,
    backend: 'process',
    version: '1',
    harnesses: [],
    running: [{ task_id: lead.run_id, execution_id: lead.execution_id }],
  }
  expect(await engine.workers.hello(connection_id, hello as never)).toMatchObject({ cancel: [] })
  await finish({ run_id: offered.task_id, caller, execution_id: offered.execution_id })
  expect(await wants()).toBe(false)
  expect((await engine.workers.hello(connection_id, hello as never)).cancel).toHaveLength(1)
})

test('a cascade ends the sandbox with everything in it', async () => {
  const lead = await parent()
  await spawn(lead, ['beside'], 'k1', { where: 'sandbox' })
  const { assignments } = await engine.executions.children(lead.caller, lead.execution_id)
  const caller = await engine.access.identify({ token: assignments[0]?.env_vars.WARP_API_KEY ?? '' })
  if (caller === null) throw new Error('No child was offered.')
  await engine.executions.start(caller, assignments[0]?.execution_id ?? '')
  await engine.runs.cancel(owner, lead.run_id, { cascade: true })
  expect(await engine.workers.wants(owner.team_id, lead.execution_id)).toBe(false)
})
