/** What clients, harnesses and programs in sandboxes ask beside the public endpoints, as one asks who trusts nothing. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { Piece } from '../house/worker.ts'
import {
  API,
  answered,
  answerOf,
  api_key,
  ask,
  COMMAND,
  create,
  NOBODY,
  ownWorker,
  reaches,
  refused,
  runOf,
  url,
} from './asking.ts'
import {
  ConversationRedirect,
  Events,
  MessageHeaders,
  ReadMessage,
  ResolvedPrompt,
  SentMessages,
  SessionRedirect,
  Time,
  UploadTarget,
  Uuid,
} from './wire.ts'
import { Agent, Memories, MemoryStore, MemoryStores, MemoryVersions, StoreAgents, WrittenMemory } from './wire-named.ts'

const NONE = crypto.randomUUID()
let worker: Awaited<ReturnType<typeof ownWorker>>

beforeAll(async () => {
  worker = await ownWorker()
})
afterAll(() => worker.close())

async function underWay(body: Record<string, unknown> = {}): Promise<Piece & { key: string }> {
  return begun(await worker.take(body))
}

async function begun(piece: Piece): Promise<Piece & { key: string }> {
  piece.claim()
  await piece.start()
  return { ...piece, key: piece.assignment.env_vars.WARP_API_KEY ?? '' }
}

async function end(piece: Piece): Promise<void> {
  await piece.finish()
  piece.complete()
  await reaches(piece.run_id, 'SUCCEEDED')
}

const eventsOf = (run_id: string) => answered(['GET', `agent/events?run_ids=${run_id}&limit=500`, Events])

test('each execution is a session of its own, told in the log and by the run, and leads to the conversation', async () => {
  const first = await underWay()
  const { session_id: before, conversation_id } = await runOf(first.run_id)
  await end(first)
  await answered(['POST', `agent/runs/${first.run_id}/followups`, z.object({})], {
    body: { message: 'And now?', mode: null },
  })
  const second = await begun(await worker.next())
  const { session_id: after } = await runOf(first.run_id)
  expect(after).not.toBe(before)
  const linked = (await eventsOf(first.run_id)).filter(({ event_type }) => event_type === 'run_session_linked')
  expect(linked.map(({ ref_id }) => Uuid.parse(ref_id))).toEqual([before, after])
  for (const session_id of [before, after]) {
    const found = await answered(['GET', `agent/sessions/${session_id}/redirect`, SessionRedirect], { key: null })
    expect(found).toEqual({ conversation_id })
  }
  const now = await answered(['GET', `agent/conversations/${conversation_id}/redirect`, ConversationRedirect], {
    key: null,
  })
  expect(now).toEqual({ session_id: after })
  await second.finish({ outcome: 'CANCELLED' })
  second.complete()
})

test('an error is told in the log with its reason', async () => {
  const piece = await underWay()
  const error = { category: 'plugin_crashed', message: 'It fell over.' }
  expect((await ask('POST', 'harness-support/report-shutdown', { key: piece.key, body: { error } })).status).toBe(200)
  await reaches(piece.run_id, 'ERROR')
  const told = (await eventsOf(piece.run_id)).at(-1)
  expect(told).toMatchObject({ event_type: 'run_errored', ref_id: 'plugin_crashed', execution_id: piece.execution_id })
})

describe('a cancel', () => {
  test.each(['agent/runs', 'agent/tasks'])(
    'at %s takes null, nothing or an object, and answers the id',
    async (path) => {
      for (const body of ['null', undefined, {}]) {
        const run_id = await create({ prompt: 'wait', config: NOBODY })
        const answer = await ask('POST', `${path}/${run_id}/cancel`, body === undefined ? {} : { body })
        expect([answer.status, answer.json]).toEqual([200, run_id])
        expect(await refused('POST', `${path}/${run_id}/cancel`, { body: 'null' })).toEqual({
          status: 400,
          code: 'invalid_request',
        })
      }
      expect((await refused('POST', `${path}/${NONE}/cancel`)).status).toBe(404)
      expect((await refused('POST', `${path}/nonsense/cancel`)).status).toBe(404)
      expect((await refused('POST', `${path}/${NONE}/cancel`, { key: null })).status).toBe(401)
    },
  )
})

describe('a follow-up', () => {
  test('to what a machine asked for is 422, for all such sources', async () => {
    for (const source of ['GITHUB_ACTION', 'GITHUB_WEBHOOK', 'GITLAB_WEBHOOK', 'RUN_SCORER', 'AUTOFIX']) {
      const made = await ask('POST', 'agent/runs', {
        body: { prompt: 'x', config: NOBODY },
        headers: { 'x-oz-api-source': source },
      })
      const { run_id } = z.object({ run_id: z.string() }).parse(made.json)
      expect(await refused('POST', `agent/runs/${run_id}/followups`, { body: { message: 'x' } }), source).toEqual({
        status: 422,
        code: 'operation_not_supported',
      })
    }
  })

  test('without a word begins what has ended again; of an unknown mode it is 400', async () => {
    const piece = await underWay()
    await end(piece)
    const path = `agent/runs/${piece.run_id}/followups`
    expect((await refused('POST', path, { body: { mode: 'fast' } })).status).toBe(400)
    await answered(['POST', path, z.object({})], { body: { message: null } })
    const again = await begun(await worker.next())
    expect(again.run_id).toBe(piece.run_id)
    await again.finish({ outcome: 'CANCELLED' })
    again.complete()
  })
})

describe('messages', () => {
  const send = (body: object, how = {}) => answered(['POST', 'agent/messages', SentMessages], { body, ...how })

  test('are as long as they may be and no longer, and one id stands for each place of the list', async () => {
    const [sender, one, two] = [await create(QUEUED), await create(QUEUED), await create(QUEUED)]
    const whole = { to: [one], subject: 's'.repeat(1024), body: 'é'.repeat(65_536), sender_run_id: sender }
    const [message_id] = (await send(whole)).message_ids
    const read = await answered(['POST', `agent/messages/${message_id?.toUpperCase()}/read`, ReadMessage])
    expect([read.subject, read.body]).toEqual([whole.subject, whole.body])
    for (const more of [{ subject: `${whole.subject}s` }, { body: `${whole.body}s` }, { to: [] }, { to: ['x'] }])
      expect((await refused('POST', 'agent/messages', { body: { ...whole, ...more } })).status).toBe(400)
    for (const to of [[NONE], [one, NONE]])
      expect((await refused('POST', 'agent/messages', { body: { ...whole, to } })).status).toBe(404)
    const { message_ids } = await send({ ...whole, to: [two, one, two.toUpperCase()], body: 'b' })
    expect(message_ids[2]).toBe(message_ids[0])
    expect(new Set(message_ids).size).toBe(2)
    expect(await answered(['GET', `agent/messages/${two}`, MessageHeaders])).toHaveLength(1)
  })

  test('are listed up to a hundred at a time, since when, and unread', async () => {
    const run_id = await create(QUEUED)
    const path = `agent/messages/${run_id}`
    for (const limit of [0, 101, 1.5, 'x']) expect((await refused('GET', `${path}?limit=${limit}`)).status).toBe(400)
    expect((await refused('GET', `${path}?since=yesterday`)).status).toBe(400)
    const { message_ids } = await send({ to: [run_id], subject: '', body: '', sender_run_id: null })
    expect(await answered(['GET', `${path}?limit=100&unread=false`, MessageHeaders])).toMatchObject([
      { message_id: message_ids[0], sender_run_id: '', subject: '' },
    ])
    expect(await answered(['GET', `${path}?since=2999-01-01T00:00:00%2B02:00`, MessageHeaders])).toEqual([])
    for (const what of ['read', 'delivered'])
      expect((await refused('POST', `agent/messages/${NONE}/${what}`, { body: 'null' })).status).toBe(404)
  })

  test('are said to be delivered by whom they are to, not by whom they are from', async () => {
    const parent = await underWay()
    await create({ ...QUEUED, parent_run_id: parent.run_id })
    const [child = ''] = (await runOf(parent.run_id)).children ?? []
    const body = { to: [child], subject: 's', body: 'b', sender_run_id: parent.run_id }
    const [message_id = ''] = (await send(body, { key: parent.key })).message_ids
    await answered(['POST', `agent/messages/${message_id}/read`, ReadMessage], { key: parent.key })
    expect((await refused('POST', `agent/messages/${message_id}/delivered`, { key: parent.key })).status).toBe(403)
    const [header] = await answered(['GET', `agent/messages/${child}`, MessageHeaders])
    expect(header).toMatchObject({ read_at: null, delivered_at: null })
    expect(
      (await refused('POST', 'agent/messages', { key: parent.key, body: { ...body, sender_run_id: child } })).status,
    ).toBe(403)
    await end(parent)
  })
})

const QUEUED = { prompt: 'wait', config: NOBODY }

describe('the log', () => {
  test('is read in both spellings, up to 500 at a time, and not beyond its end', async () => {
    const [a, b] = [await create(QUEUED), await create(QUEUED)]
    const both = await answered(['GET', `agent/events?run_ids=${a}&run_ids=${b}&limit=500`, Events])
    expect(await answered(['GET', `agent/events?run_ids[]=${a}&run_ids%5B%5D=${b}`, Events])).toEqual(both)
    const sequences = both.map(({ sequence }) => sequence)
    expect(sequences).toEqual([...new Set(sequences)].sort((x, y) => x - y))
    expect(await answered(['GET', `agent/events?run_ids=${a}&since=${2 ** 52}`, Events])).toEqual([])
    for (const query of ['limit=0', 'limit=501', 'since=-1', 'since=x', `run_ids=x`])
      expect((await refused('GET', `agent/events?${query}`)).status, query).toBe(400)
    expect((await refused('GET', `agent/events?run_ids=${NONE}`)).status).toBe(404)
  })

  test('has a cursor for each run, which goes neither back nor beyond the end', async () => {
    const run_id = await create(QUEUED)
    const path = `agent/runs/${run_id}/event-sequence`
    const moved = async (sequence: number) => {
      const answer = await ask('PATCH', path, { body: { sequence } })
      expect(answer.status).toBe(200)
      return (await runOf(run_id)).last_event_sequence
    }
    expect((await runOf(run_id)).last_event_sequence).toBe(null)
    const [first] = await eventsOf(run_id)
    const sequence = first?.sequence ?? 0
    expect(await moved(sequence)).toBe(sequence)
    expect(await moved(sequence - 1)).toBe(sequence)
    const far = (await moved(2 ** 52)) ?? 0
    expect(far).toBeGreaterThanOrEqual(sequence)
    await ask('POST', `agent/runs/${run_id}/cancel`)
    expect((await eventsOf(run_id)).at(-1)?.sequence).toBeGreaterThan(far)
    for (const wrong of [{}, { sequence: -1 }, { sequence: 1.5 }, { sequence: '1' }, { sequence: null }])
      expect((await refused('PATCH', path, { body: wrong })).status).toBe(400)
    expect((await refused('PATCH', `agent/runs/${NONE}/event-sequence`, { body: { sequence: 1 } })).status).toBe(404)
  })

  test('streams from the last id that was heard, which counts more than since, as frames of a number and data', async () => {
    const run_id = await create(QUEUED)
    await ask('POST', `agent/runs/${run_id}/cancel`)
    const events = await eventsOf(run_id)
    const path = `agent/events/stream?run_ids%5B%5D=${run_id}&since=0`
    const all = await framesOf(path, {}, events.length)
    expect(all.type).toMatch(/^text\/event-stream/)
    expect(all.head).toMatch(/^retry: \d+$/)
    expect(all.frames).toEqual(
      events.map((event) => [`id: ${event.sequence}`, `data: ${JSON.stringify(ordered(event))}`]),
    )
    const rest = await framesOf(path, { 'last-event-id': String(events[0]?.sequence) }, events.length - 1)
    expect(rest.frames).toEqual(all.frames.slice(1))
    expect((await framesOf(path, { 'last-event-id': 'nonsense' }, events.length)).frames).toEqual(all.frames)
    for (const [query, status] of [
      [`run_ids=${NONE}`, 404],
      [`ancestor_run_id=${NONE}`, 404],
      ['run_ids=x', 400],
      [`run_ids=${run_id}&ancestor_run_id=${run_id}`, 400],
      [`run_ids=${run_id}&since=-1`, 400],
    ] as const)
      expect((await refused('GET', `agent/events/stream?${query}`)).status, query).toBe(status)
    const nobody = await ask('GET', path, { key: null })
    expect([nobody.status, nobody.headers.get('content-type')]).toEqual([401, 'application/problem+json'])
  })
})

/** In the order in which a frame has them. */
const ordered = ({
  sequence,
  event_type,
  run_id,
  ref_id,
  execution_id,
  occurred_at,
}: z.output<typeof Events>[number]) => ({
  sequence,
  event_type,
  run_id,
  ref_id,
  execution_id,
  occurred_at,
})

/** The lines of the first so many frames with data. */
async function framesOf(path: string, headers: Record<string, string>, count: number) {
  const over = new AbortController()
  const response = await fetch(`${API}/${path}`, {
    headers: { authorization: `Bearer ${api_key}`, ...headers },
    signal: over.signal,
  })
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true })
    if (text.split('\ndata: ').length > count && text.endsWith('\n\n')) break
  }
  over.abort()
  const [head, ...frames] = text.split('\n\n').filter((frame) => frame !== '')
  return { type: response.headers.get('content-type'), head, frames: frames.map((frame) => frame.split('\n')) }
}

describe('harness-support', () => {
  const BODIES: Record<string, object> = {
    'external-conversation': { format: 'codex_cli' },
    'resolve-prompt': { skill: null, attachments_dir: null },
    'report-artifact': {
      artifact_type: 'EXTERNAL_REFERENCE',
      data: { reference_type: 'issue', url: 'https://e.example/1', title: null, metadata: null },
    },
    'notify-user': { message: '**Look**' },
    'finish-task': { success: true, summary: 'Done.' },
    'upload-snapshot': { files: [{ filename: 'a.txt', mime_type: 'text/plain' }] },
  }

  test.each(Object.keys(BODIES))('%s is for the token of an execution at work, and for its own run', async (name) => {
    const path = `harness-support/${name}`
    const [piece, other] = [await underWay(), await underWay()]
    const body = BODIES[name]
    expect((await refused('POST', path, { body, key: null })).status).toBe(401)
    expect((await refused('POST', path, { body, key: 'wk-1.nonsense' })).status).toBe(401)
    expect((await refused('POST', path, { body })).status).toBe(403)
    const acting = (run_id: string) => ({ key: piece.key, headers: { 'x-warp-cloud-agent-id': run_id } })
    expect((await refused('POST', path, { body, ...acting(other.run_id) })).status).toBe(403)
    // What may be asked without a word takes null, as everywhere.
    const nothing = await ask('POST', path, { key: piece.key, body: 'null' })
    expect(nothing.status).toBe(name === 'resolve-prompt' ? 200 : 400)
    expect((await refused('POST', path, { key: piece.key, body: '{' })).status).toBe(400)
    const said = await ask('POST', path, { body: { ...body, unknown: 1 }, ...acting(piece.run_id) })
    expect([said.status, typeof said.json]).toEqual([200, 'object'])
    await end(piece)
    expect((await refused('POST', path, { body, key: piece.key })).status).toBe(401)
    await end(other)
  })

  test('a workload token beside the key of a person of its team speaks for its run, and for no other', async () => {
    const [piece, other] = [await underWay(), await underWay()]
    const workload = { 'x-warp-ambient-workload-token': piece.assignment.env_vars.WARP_WORKLOAD_TOKEN ?? '' }
    const tell = (headers: Record<string, string>, key = api_key) =>
      ask('POST', 'harness-support/notify-user', { body: { message: 'x' }, headers, key })
    expect((await tell(workload)).status).toBe(200)
    expect((await tell({ ...workload, 'x-warp-cloud-agent-id': piece.run_id })).status).toBe(200)
    expect((await tell({ ...workload, 'x-warp-cloud-agent-id': other.run_id })).status).toBe(403)
    expect((await tell(workload, other.key)).status).toBe(403)
    expect((await tell({ 'x-warp-ambient-workload-token': 'a.b.c' })).status).toBe(401)
    await end(piece)
    expect((await tell(workload)).status).toBe(401)
    await end(other)
  })

  test('a transcript and a terminal go to addresses that take no key, and the transcript comes back', async () => {
    const piece = await underWay()
    const { key } = piece
    expect((await refused('GET', 'harness-support/transcript', { key })).status).toBe(404)
    for (const format of ['claude_code_cli', 'codex_cli', 'gemini_cli'])
      await answered(['POST', 'harness-support/external-conversation', z.object({ conversation_id: Uuid })], {
        key,
        body: { format },
      })
    const wrong = { key, body: { format: 'other' } }
    expect((await refused('POST', 'harness-support/external-conversation', wrong)).status).toBe(400)
    const { conversation_id } = await runOf(piece.run_id)
    for (const what of ['transcript', 'block-snapshot']) {
      const path = `harness-support/${what}`
      expect((await refused('POST', path, { key, body: { conversation_id: NONE } })).status).toBe(404)
      const target = await answered(['POST', path, UploadTarget], { key, body: { conversation_id } })
      expect((await sent(target, `{"of":"${what}"}`)).status).toBe(200)
    }
    const back = await ask('GET', 'harness-support/transcript', { key })
    expect(back.status).toBe(302)
    expect(await (await fetch(back.headers.get('location') ?? '')).text()).toBe('{"of":"transcript"}')
    const block = await ask('GET', `agent/conversations/${conversation_id}/block-snapshot`)
    expect(await (await fetch(block.headers.get('location') ?? '')).text()).toBe('{"of":"block-snapshot"}')
    await end(piece)
  })

  test('a prompt is resolved into the parts that the protocol knows', async () => {
    const piece = await underWay({ prompt: 'Mend it.', config: { base_prompt: 'Be brief.' } })
    const skill = { name: 'review', content: 'Look twice.', path: null }
    const resolved = await answered(['POST', 'harness-support/resolve-prompt', ResolvedPrompt], {
      key: piece.key,
      body: { skill },
    })
    expect(resolved).toMatchObject({
      prompt: expect.stringMatching(/Look twice[\s\S]*Mend it\./),
      system_prompt: 'Be brief.',
    })
    expect(resolved).not.toHaveProperty('resumption_prompt')
    await end(piece)
  })
})

const sent = ({ url, method, headers }: z.output<typeof UploadTarget>, body: string) =>
  fetch(url, { method, headers: headers ?? {}, body })

test('an address that was altered serves nothing, and says so', async () => {
  const piece = await underWay()
  await piece.append({ kind: 'text', text: 'said' })
  const there = new URL((await ask('GET', `agent/runs/${piece.run_id}/transcript`)).headers.get('location') ?? '', url)
  expect((await fetch(there)).status).toBe(200)
  const altered = (name: string, value: string | null) => {
    const other = new URL(there)
    if (value === null) other.searchParams.delete(name)
    else other.searchParams.set(name, value)
    return other
  }
  const later = String(Number(there.searchParams.get('expires')) + 60)
  const signature = there.searchParams.get('signature') ?? ''
  const other = new URL(there.href.replace(piece.run_id, NONE))
  for (const wrong of [
    altered('expires', later),
    altered('expires', '0'),
    altered('expires', 'x'),
    altered('signature', null),
    altered('signature', ''),
    altered(
      'signature',
      signature.replace(/^./, (one) => (one === 'A' ? 'B' : 'A')),
    ),
    other,
  ]) {
    const answer = await answerOf(await fetch(wrong))
    expect([answer.status, answer.headers.get('content-type')], wrong.href).toEqual([403, 'application/problem+json'])
  }
  await end(piece)
})

test('a program in a sandbox finds the variables of the public protocol, and its own token serves it', async () => {
  const parent = await underWay()
  const made = await ask('POST', 'agent/runs', {
    body: {
      parent_run_id: parent.run_id,
      prompt: [
        'env | grep -E "^(OZ|WARP)_" | grep -v -E "KEY|TOKEN" | sort',
        'test -n "$WARP_WORKLOAD_TOKEN" && "$OZ_CLI" harness-support ping',
        '"$OZ_CLI" run message list "$OZ_RUN_ID" --output-format json',
      ].join(' && '),
      config: COMMAND,
    },
  })
  const { run_id } = z.object({ run_id: z.string() }).parse(made.json)
  await reaches(run_id, 'SUCCEEDED')
  const said = await (
    await fetch((await ask('GET', `agent/runs/${run_id}/transcript`)).headers.get('location') ?? '')
  ).text()
  for (const prefix of ['OZ', 'WARP']) {
    expect(said).toContain(`${prefix}_RUN_ID=${run_id}`)
    expect(said).toContain(`${prefix}_PARENT_RUN_ID=${parent.run_id}`)
    expect(said).toMatch(new RegExp(`${prefix}_CLI=\\S+`))
    expect(said).toContain(`${prefix}_HARNESS=command`)
    expect(said).toContain(`${prefix}_MESSAGE_LISTENER_MANAGED_EXTERNALLY=1`)
    expect(said).toMatch(new RegExp(`${prefix}_MESSAGE_LISTENER_STATE_ROOT=/`))
  }
  expect(said).toContain('WARP_SERVER_ROOT_URL=http')
  await end(parent)
})

test('the root tells the time and takes notice of a client, asked by nobody in particular', async () => {
  const time = await answerOf(await fetch(`${url}/current_time`))
  expect(time.status).toBe(200)
  const { current_time } = z.object({ current_time: Time }).parse(time.json)
  expect(Math.abs(Date.parse(current_time) - Date.now())).toBeLessThan(60_000)
  expect((await fetch(`${url}/client/login`, { method: 'POST', body: 'null' })).status).toBe(200)
})

test('memories are added, changed, listed with their versions and deleted, and agents are listed by their store', async () => {
  const made = await answered(['POST', 'memory_stores', MemoryStore, 201], { body: { description: null } })
  const store = `memory_stores/${made.uid}`
  const { memory_stores } = await answered(['GET', 'memory_stores', MemoryStores])
  expect(memory_stores).toContainEqual(made)
  await answered(['PUT', store, MemoryStore], { body: { description: 'What we know.' } })
  expect(await answered(['GET', store, MemoryStore])).toMatchObject({ description: 'What we know.' })
  const body = { content: 'Old.', version: null, source: 'MANUAL', source_id: null, reason: 'seen' }
  const { memory_id } = await answered(['POST', `${store}/memories`, WrittenMemory], { body })
  const memory = `${store}/memories/${memory_id}`
  await answered(['PUT', memory, WrittenMemory], { body: { content: 'New.', version: null, reason: 'better' } })
  const { versions } = await answered(['GET', `${memory}/versions`, MemoryVersions])
  expect(versions.map(({ content, reason }) => [content, reason])).toEqual([
    ['Old.', 'seen'],
    ['New.', 'better'],
  ])
  expect((await ask('DELETE', memory)).status).toBe(204)
  const { memories } = await answered(['GET', `${store}/memories`, Memories])
  expect(memories).toMatchObject([
    { uid: memory_id, is_tombstoned: true, source: 'MANUAL', version_id: versions[1]?.uid },
  ])
  const attached = { uid: made.uid, access: 'read_write', instructions: 'Read it.' }
  const agent = await answered(['POST', 'agent/identities', Agent, 201], {
    body: { name: `memory ${process.pid}`, memory: { attached_stores: [attached], auto_memory: { enabled: true } } },
  })
  expect(agent.memory).toMatchObject({ attached_stores: [attached], auto_memory: { enabled: true } })
  const { agents } = await answered(['GET', `${store}/agents`, StoreAgents])
  expect(agents).toEqual([{ ...attached, uid: agent.uid, name: agent.name }])
  for (const [method, path, sent, status] of [
    ['GET', `memory_stores/${'x'.repeat(22)}`, undefined, 404],
    ['POST', `${store}/memories`, { ...body, content: '' }, 400],
    ['POST', `${store}/memories`, { ...body, source: 'OTHER' }, 400],
    ['PUT', `${store}/memories/${NONE}`, { content: 'x', version: null, reason: null }, 404],
    ['DELETE', `${store}/memories/${NONE}`, undefined, 404],
    ['DELETE', store, undefined, 409],
  ] as const)
    expect((await refused(method, path, sent === undefined ? {} : { body: sent })).status, `${method} ${path}`).toBe(
      status,
    )
  expect((await refused('GET', 'memory_stores', { key: null })).status).toBe(401)
})
