/** Messages, trees and the runner's side of both over HTTP, and what a control stream says of them. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type House, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 100 })
  worker = await house.worker({ capacity: 100 })
})
afterAll(() => house.close())

async function begin(body: Record<string, unknown> = {}): Promise<Piece> {
  await house.client.runs.create({ body: { prompt: 'go', ...body } })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  return piece
}

/** The frames of a control stream, as they come. */
async function openControl(piece: Piece) {
  const gone = new AbortController()
  const path = `/api/v1/executions/${piece.execution_id}/control`
  const response = await piece.runner.raw('GET', path, { signal: gone.signal })
  const frames: string[] = []
  const read = (async () => {
    for await (const bytes of response.body ?? []) frames.push(new TextDecoder().decode(bytes))
  })().catch(() => {})
  return {
    said: () => frames.join(''),
    async close() {
      gone.abort()
      await read
    },
  }
}

test('a runner hears of a message, takes it, says that it was delivered, and hears no more', async () => {
  const piece = await begin()
  const params = { execution_id: piece.execution_id }
  const control = await openControl(piece)
  const body = { to: [piece.run_id], subject: 'hello', body: 'from outside', urgent: true }
  const { message_ids } = await house.client.messages.send({ body })
  await expect.poll(control.said).toContain('{"type":"inbox","urgent":true}')
  const inbox = await piece.runner.executions.inbox({ params })
  expect(inbox).toMatchObject({ text: expect.stringMatching(/from outside/), message_ids, urgent: true })
  await piece.runner.executions.delivered({ params, body: { message_ids, sequence: inbox.sequence } })
  expect(await piece.runner.executions.inbox({ params })).toMatchObject({ text: null, message_ids: [] })
  const [header] = await house.client.messages.list({ params: { run_id: piece.run_id } })
  expect(header).toMatchObject({ subject: 'hello', delivered_at: expect.any(String), read_at: null })
  await control.close()
})

test('a run with a message undelivered does not end, and its runner can go on', async () => {
  const piece = await begin()
  await house.client.messages.send({ body: { to: [piece.run_id], subject: 's', body: 'wait' } })
  expect(await piece.finish()).toEqual({ state: 'INPROGRESS', inbox: true })
  const params = { execution_id: piece.execution_id }
  const { message_ids, sequence } = await piece.runner.executions.inbox({ params })
  await piece.runner.executions.delivered({ params, body: { message_ids, sequence } })
  expect((await piece.finish()).state).toBe('SUCCEEDED')
})

test('a runner hears of children beside its run and takes them', async () => {
  const parent = await begin()
  const control = await openControl(parent)
  const child = await house.client.runs.create({
    body: { prompt: 'beside', parent_run_id: parent.run_id, placement: 'parent' },
  })
  await expect.poll(control.said).toContain('{"type":"children"}')
  const { assignments } = await parent.runner.executions.children({ params: { execution_id: parent.execution_id } })
  expect(assignments.map((one) => one.task_id)).toEqual([child.run_id])
  expect(assignments[0]?.env_vars.WARP_API_KEY).toMatch(/./)
  await control.close()
})

test('a send repeated with its Idempotency-Key by a run is one message', async () => {
  const parent = await begin()
  const child = await begin({ parent_run_id: parent.run_id })
  const parts = {
    body: { to: [parent.run_id], subject: 's', body: 'b' },
    headers: { 'idempotency-key': 'k1' },
  }
  const first = await child.runner.messages.send(parts)
  expect(await child.runner.messages.send(parts)).toEqual(first)
  expect(await house.client.messages.list({ params: { run_id: parent.run_id } })).toHaveLength(1)
})

test('a key that was used for a message is refused for another one, by whomever it is repeated', async () => {
  const parent = await begin()
  const child = await begin({ parent_run_id: parent.run_id })
  const send = (client: typeof house.client, body: { body: string; urgent?: boolean; to?: string[] }) =>
    client.messages.send({
      body: { to: [parent.run_id], subject: 's', ...body },
      headers: { 'idempotency-key': 'used' },
    })
  for (const client of [child.runner, house.client]) {
    const first = await send(client, { body: 'one' })
    await expect(send(client, { body: 'two' })).rejects.toMatchObject({ code: 'operation_not_supported', status: 422 })
    await expect(send(client, { body: 'one', urgent: true })).rejects.toMatchObject({ status: 422 })
    if (client === house.client)
      await expect(send(client, { body: 'one', to: [parent.run_id, child.run_id] })).rejects.toMatchObject({
        status: 422,
      })
    const again = await Promise.all(Array.from({ length: 20 }, () => send(client, { body: 'one' })))
    expect(again).toEqual(Array(20).fill(first))
  }
  expect(await house.client.messages.list({ params: { run_id: parent.run_id } })).toHaveLength(2)
  const at_once = await Promise.all(
    Array.from({ length: 20 }, () =>
      house.client.messages.send({
        body: { to: [parent.run_id], subject: 's', body: 'at once' },
        headers: { 'idempotency-key': 'fresh' },
      }),
    ),
  )
  expect(new Set(at_once.flatMap(({ message_ids }) => message_ids)).size).toBe(1)
})

test("a person's client sends in the name of the run that its header or its body says", async () => {
  const parent = await begin()
  const child = await begin({ parent_run_id: parent.run_id })
  const body = { to: [parent.run_id], subject: 's', body: 'b' }
  const acting = (run_id: string) => ({ 'x-warp-cloud-agent-id': run_id })
  await house.client.messages.send({ body, headers: acting(child.run_id) })
  await house.client.messages.send({ body: { ...body, sender_run_id: child.run_id } })
  await house.client.messages.send({ body })
  const sent = await house.client.messages.list({ params: { run_id: parent.run_id } })
  expect(sent.map((header) => header.sender_run_id)).toEqual([child.run_id, child.run_id, ''])
  const nobody = crypto.randomUUID()
  await expect(house.client.messages.send({ body, headers: acting(nobody) })).rejects.toMatchObject({ status: 404 })
  await expect(house.client.messages.send({ body, headers: acting('x') })).rejects.toMatchObject({ status: 400 })
  await expect(child.runner.messages.send({ body, headers: acting(parent.run_id) })).rejects.toMatchObject({
    status: 403,
  })
})

test('the headers of an inbox are a bare array, narrowed by limit, unread and since', async () => {
  const piece = await begin()
  const ids: string[] = []
  for (const subject of ['1', '2', '3']) {
    const body = { to: [piece.run_id], subject, body: 'b' }
    ids.push(...(await house.client.messages.send({ body })).message_ids)
  }
  const list = async (query: string) => {
    const response = await house.client.raw('GET', `/api/v1/agent/messages/${piece.run_id}${query}`)
    return (await response.json()) as { message_id: string; subject: string; sent_at: string; read_at: string | null }[]
  }
  const all = await list('')
  expect(all.map((header) => header.message_id)).toEqual(ids)
  expect(Object.keys(all[0] ?? {}).sort()).toEqual(
    ['delivered_at', 'message_id', 'read_at', 'sender_run_id', 'sent_at', 'subject'].sort(),
  )
  const read = await house.client.messages.read({ params: { message_id: ids[0] ?? '' } })
  expect(read).toMatchObject({ subject: '1', body: 'b', read_at: expect.any(String), delivered_at: null })
  expect((await list('?unread=true')).map((header) => header.subject)).toEqual(['2', '3'])
  expect((await list('?limit=1')).map((header) => header.subject)).toEqual(['1'])
  expect((await list(`?since=${encodeURIComponent(all[2]?.sent_at ?? '')}`)).at(-1)?.subject).toBe('3')
  expect(await list('?since=2999-01-01T00:00:00%2B02:00')).toEqual([])
  for (const query of ['?limit=0', '?limit=101', '?limit=ten'])
    await expect(list(query)).rejects.toThrow('`limit` is not valid: a whole number from 1 to 100, in digits.')
  for (const query of ['?unread=perhaps', '?since=yesterday'])
    await expect(list(query)).rejects.toMatchObject({ status: 400 })
})

test('delivered is answered without a body, once and again', async () => {
  const piece = await begin()
  const sent = await house.client.messages.send({ body: { to: [piece.run_id], subject: 's', body: 'b' } })
  const path = `/api/v1/agent/messages/${sent.message_ids[0]}/delivered`
  const mark = async () => {
    const response = await house.client.raw('POST', path, { body: null })
    return { status: response.status, text: await response.text() }
  }
  expect([await mark(), await mark()]).toEqual(Array(2).fill({ status: 204, text: '' }))
})

test('what a client reports of a run is confirmed by its place in the log, or refused', async () => {
  const piece = await begin()
  const params = { run_id: piece.run_id }
  const report = (event_type: 'run_in_progress' | 'run_succeeded', more: { execution_id?: string } = {}) =>
    house.client.events.report({ params, body: { event_type, ...more } })
  const known = async (type: string) => {
    const events = await house.client.events.list({ query: { run_ids: [piece.run_id] } })
    return events.filter(({ event_type }) => event_type === type).map(({ sequence }) => sequence)
  }
  const { sequence } = await report('run_in_progress', { execution_id: piece.execution_id })
  expect(await known('run_in_progress')).toEqual([sequence])
  expect(await piece.runner.events.report({ params, body: { event_type: 'run_in_progress' } })).toEqual({ sequence })
  await expect(report('run_succeeded')).rejects.toMatchObject({ code: 'conflict', retryable: false })
  await expect(report('run_in_progress', { execution_id: crypto.randomUUID() })).rejects.toMatchObject({ status: 409 })
  await piece.finish()
  await expect(report('run_in_progress')).rejects.toMatchObject({ status: 409 })
  expect([(await report('run_succeeded')).sequence]).toEqual(await known('run_succeeded'))
})

test('measurements of a start are taken from people, runs and workers of the team', async () => {
  const piece = await begin()
  const other = await house.addTeam('measured')
  const params = { run_id: piece.run_id }
  const body = {
    event_uuid: crypto.randomUUID(),
    event_name: 'worker_container_ready',
    timestamp: new Date(0).toISOString(),
    payload: { start_ts: 1, finish_ts: 2, latency_ms: 1, is_error: false },
  }
  const { api_key } = await house.server.engine.access.createKey(house.owner, { name: 'w', scope: 'worker' })
  for (const client of [house.client, piece.runner, house.clientFor(api_key)])
    expect(await client.events.clientEvent({ params, body })).toEqual({})
  await expect(other.client.events.clientEvent({ params, body })).rejects.toMatchObject({ status: 404 })
})

test('cancel with cascade reaches the whole tree, without it the run alone', async () => {
  const parent = await begin()
  const child = await begin({ parent_run_id: parent.run_id })
  const asked = async (piece: Piece) =>
    (await house.client.runs.get({ params: { run_id: piece.run_id } })).cancel_requested
  await house.client.runs.cancel({ params: { run_id: parent.run_id }, body: {} })
  expect([await asked(parent), await asked(child)]).toEqual([true, false])
  await house.client.runs.cancel({ params: { run_id: parent.run_id }, body: { cascade: true } })
  expect(await asked(child)).toBe(true)
  const tree = await house.client.trees.get({ params: { run_id: parent.run_id } })
  expect(tree.nodes.map((node) => node.run_id)).toEqual([parent.run_id, child.run_id])
})

test('the cursor of a run moves forward alone, to the end of the log at most', async () => {
  const piece = await begin()
  const params = { run_id: piece.run_id }
  const [born] = await house.client.events.list({ query: { run_ids: [params.run_id] } })
  const sequence = born?.sequence ?? 0
  const moved = async (to: number) => {
    await house.client.events.cursor({ params, body: { sequence: to } })
    return (await house.client.runs.get({ params })).last_event_sequence
  }
  expect(await moved(sequence)).toBe(sequence)
  expect(await moved(1)).toBe(sequence)
  const end = (await moved(sequence + 1_000_000)) ?? 0
  expect([end >= sequence, end < sequence + 1_000_000]).toEqual([true, true])
})
