/** Conversations as they are read: normalized over harnesses, whole, within limits, by whoever may. */
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { z } from 'zod'
import {
  type Block,
  CONVERSATION_CHILDREN_MAX,
  CONVERSATION_ENTRIES_MAX,
  CONVERSATION_TEXT_LENGTH_MAX,
  type ConversationStep,
  type CreateRun,
  type EntryBody,
  Problem,
  TOOL_CATEGORIES,
} from '../src/contract/index.ts'
import { manualClock } from '../src/db/clock.ts'
import { Conversation } from './contract/wire.ts'
import { type House, startHouse } from './house/house.ts'
import { entriesOf, RECORDED, subAgent } from './house/recorded.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

const MINUTE = 60_000
const NONE = '00000000-0000-4000-8000-000000000000'
const clock = manualClock(new Date())

let house: House
let worker: ScriptedWorker
beforeAll(async () => {
  house = await startHouse({ clock, max_concurrent_runs: 500 })
  worker = await house.worker({ capacity: 500 })
})
afterAll(() => house?.close())

async function begun(body: CreateRun = { prompt: 'work' }) {
  const { run_id } = await house.client.runs.create({ body })
  // What earlier tests left at work is offered again when the clock goes on.
  let piece = await worker.next()
  while (piece.run_id !== run_id) piece = await worker.next()
  piece.claim()
  await piece.start()
  return piece
}

const ended = async (piece: Piece, outcome?: Parameters<Piece['finish']>[0]) => {
  await piece.finish(outcome)
  piece.complete()
}

/** Checked against the wire format: no field is missing, and each is what it is to be. */
async function ofRun(run_id: string): Promise<z.infer<typeof Conversation>> {
  const { status, body } = await get(`/agent/runs/${run_id}/conversation`)
  expect(status).toBe(200)
  return Conversation.parse(body)
}

async function get(path: string, key: string | null = house.api_key) {
  const headers = key === null ? {} : { authorization: `Bearer ${key}` }
  const response = await fetch(`${house.url}/api/v1${path}`, { headers, redirect: 'manual' })
  return { status: response.status, headers: response.headers, body: (await response.json()) as unknown }
}

const blocksOf = (steps: ConversationStep[]): Block[] =>
  steps.flatMap(({ messages }) => messages.flatMap(({ content }) => content))
const sentenceOf = (body: unknown): string => Problem.parse(body).error

describe('an action of every harness', () => {
  test('has its category and name, its input, and one result', async () => {
    const seen = new Set<string>()
    for (const its of RECORDED) {
      const piece = await begun({ prompt: its.name, config: { harness: { type: its.harness } } })
      await piece.append({ kind: 'prompt', text: its.name }, ...entriesOf(its.updates))
      await ended(piece)
      const { steps } = await ofRun(piece.run_id)
      const [asked, ...done] = blocksOf(steps)
      expect(asked).toEqual({ type: 'text', text: its.name })
      const { category, name, state } = its
      expect(done, `${its.harness} ${name}`).toEqual([
        { type: 'action', id: expect.any(String), category, name, input: expect.anything() },
        { type: 'action_result', action_id: expect.any(String), category, name, state, output: expect.anything() },
      ])
      expect(done[1]).toMatchObject({ action_id: (done[0] as { id: string }).id })
      seen.add(category)
    }
    expect([...seen].sort()).toEqual([...TOOL_CATEGORIES].sort())
  })

  test('that was denied, is at work, or was cut off says so', async () => {
    const call = (call_id: string): EntryBody => ({
      kind: 'tool_call',
      call_id,
      name: 'Bash',
      category: 'command',
      title: 'ls',
      input: { command: 'ls' },
    })
    const piece = await begun()
    await piece.append(
      call('denied'),
      { kind: 'tool_result', call_id: 'denied', status: 'denied', output: 'Not allowed.' },
      call('cut off'),
    )
    const results = async () =>
      blocksOf((await ofRun(piece.run_id)).steps).flatMap((block) =>
        block.type === 'action_result' ? [[block.action_id, block.state]] : [],
      )
    expect(await results()).toEqual([
      ['denied', 'denied'],
      ['cut off', 'running'],
    ])
    await ended(piece, { outcome: 'FAILED', failure: { error_code: 'internal_error', message: 'x', retryable: false } })
    expect(await results()).toEqual([
      ['denied', 'denied'],
      ['cut off', 'failed'],
    ])
  })
})

test('neighbours of one role are one message, what is no text or action is an event, and times are told', async () => {
  const piece = await begun({ prompt: 'work', title: 'The work' })
  await piece.append(
    { kind: 'prompt', text: 'work' },
    { kind: 'thought', text: 'hm' },
    { kind: 'text', text: 'I begin.' },
    { kind: 'plan', items: [{ content: 'one', status: 'pending' }] },
    { kind: 'system', level: 'warning', name: 'permission_denied', text: 'No.', details: { tool: 'x' } },
    { kind: 'gap', bytes: 7, reason: 'too long' },
    { kind: 'unknown', raw: { sessionUpdate: 'new_thing' } },
  )
  await ended(piece)
  const { conversation_id, steps } = await ofRun(piece.run_id)
  const run = await house.client.runs.get({ params: { run_id: piece.run_id } })
  expect(conversation_id).toBe(run.conversation_id)
  const timestamp = expect.any(String)
  expect(steps).toEqual([
    {
      id: piece.execution_id,
      description: 'The work',
      summary: 'SUCCEEDED',
      started_at: expect.any(String),
      completed_at: expect.any(String),
      steps: [],
      messages: [
        { role: 'user', timestamp, content: [{ type: 'text', text: 'work' }] },
        {
          role: 'assistant',
          timestamp,
          content: [
            { type: 'event', name: 'reasoning', data: { text: 'hm' } },
            { type: 'text', text: 'I begin.' },
            { type: 'event', name: 'plan', data: { items: [{ content: 'one', status: 'pending' }] } },
          ],
        },
        {
          role: 'system',
          timestamp,
          content: [
            { type: 'event', name: 'permission_denied', data: { level: 'warning', text: 'No.', tool: 'x' } },
            { type: 'event', name: 'gap', data: { bytes: 7, reason: 'too long' } },
            { type: 'event', name: 'unknown', data: { sessionUpdate: 'new_thing' } },
          ],
        },
      ],
    },
  ])
})

describe('sub-agents', () => {
  test('of a harness are steps within the step, with what they said and did', async () => {
    const piece = await begun({ prompt: 'look', config: { harness: { type: 'claude' } } })
    await piece.append(...entriesOf(subAgent()))
    await ended(piece)
    const [step] = (await ofRun(piece.run_id)).steps
    expect(blocksOf(step ? [step] : []).map((block) => block.type)).toEqual(['action', 'action_result', 'text'])
    expect(step?.steps).toMatchObject([{ id: 'toolu_launch', description: 'Look for dead code', steps: [] }])
    expect(blocksOf(step?.steps ?? [])).toMatchObject([
      { type: 'text', text: 'I look around.' },
      { type: 'action', id: 'toolu_inner', category: 'search' },
      { type: 'action_result', action_id: 'toolu_inner', output: { text: 'src/old.ts' } },
    ])
    // What the sub-agent said is not what the agent came to.
    expect(blocksOf([step as ConversationStep]).at(-1)).toEqual({ type: 'text', text: 'One file is dead.' })
  })

  test('that name calls which do not exist, or each other, lose nothing', async () => {
    const call = (call_id: string, parent_call_id: string): EntryBody => ({
      ...{ kind: 'tool_call', call_id, name: 'Bash', category: 'command', title: call_id, parent_call_id },
    })
    const piece = await begun()
    await piece.append(call('a', 'b'), call('b', 'a'), call('c', 'c'), call('d', 'nowhere'))
    await ended(piece)
    const { steps } = await ofRun(piece.run_id)
    const all = (inner: ConversationStep[]): string[] =>
      inner.flatMap((one) => [
        ...blocksOf([one]).flatMap((block) => (block.type === 'action' ? [block.id] : [])),
        ...all(one.steps),
      ])
    expect(all(steps).sort()).toEqual(['a', 'b', 'c', 'd'])
  })

  test('that are child runs stand in the step of the execution that made them', async () => {
    const parent = await begun({ prompt: 'lead', title: 'Lead' })
    await parent.append({ kind: 'text', text: 'I start one.' })
    clock.advance(1000)
    const child = await begun({ prompt: 'help', title: 'Help', parent_run_id: parent.run_id })
    await child.append({ kind: 'text', text: 'I help.' })
    await ended(child)
    const { steps } = await ofRun(parent.run_id)
    const { conversation_id } = await ofRun(child.run_id)
    expect(conversation_id).not.toBe((await ofRun(parent.run_id)).conversation_id)
    expect(steps[0]?.steps).toMatchObject([{ id: child.run_id, description: 'Help', summary: 'SUCCEEDED' }])
    expect(steps[0]?.steps[0]?.messages[0]?.content).toEqual([
      {
        type: 'event',
        name: 'child_run',
        data: { run_id: child.run_id, conversation_id, title: 'Help', state: 'SUCCEEDED' },
      },
    ])
    expect(blocksOf(steps[0]?.steps[0]?.steps ?? [])).toEqual([{ type: 'text', text: 'I help.' }])
    await ended(parent)
  })
})

describe('what is large', () => {
  test('is cut with a mark that says how much is missing and where the whole is', async () => {
    const whole = '𝄞'.repeat(CONVERSATION_TEXT_LENGTH_MAX)
    const piece = await begun()
    await piece.append(
      { kind: 'text', text: whole },
      {
        kind: 'tool_call',
        call_id: 'c',
        name: 'Write',
        category: 'files',
        title: 'Write',
        input: { path: 'a.txt', content: whole, lines: Array.from({ length: 40_000 }, (_, at) => at) },
      },
    )
    const [text, action] = blocksOf((await ofRun(piece.run_id)).steps)
    if (text?.type !== 'text' || action?.type !== 'action') throw new Error('not as it was said')
    expect(text.text.length).toBeLessThan(CONVERSATION_TEXT_LENGTH_MAX + 200)
    expect(text.text.isWellFormed()).toBe(true)
    const { groups } = /\[(?<missing>\d+) of (?<of>\d+) characters are cut; all: (?<where>\S+)\]$/.exec(text.text) ?? {}
    expect(Number(groups?.of)).toBe(whole.length)
    expect(Number(groups?.missing)).toBeGreaterThan(whole.length - CONVERSATION_TEXT_LENGTH_MAX - 2)
    const { body } = await get(groups?.where ?? '')
    expect(body).toMatchObject({ body: { kind: 'text', text: whole } })
    expect(JSON.stringify(action.input).length).toBeLessThan(3 * CONVERSATION_TEXT_LENGTH_MAX)
    expect(JSON.stringify(action.input)).toContain('characters are cut')
    await ended(piece)
  })

  test('as a conversation is refused as not supported, with where its transcript is', async () => {
    const piece = await begun()
    await sql`insert into entries (execution_id, number, run_id, team_id, execution_number, at, kind, body, body_bytes)
      select ${piece.execution_id}, n, ${piece.run_id}, ${house.owner.team_id}, 1, now(), 'text',
        '{"kind":"text","text":"x"}', 30 from generate_series(1, ${CONVERSATION_ENTRIES_MAX + 1}) n`.execute(
      house.database.kysely,
    )
    const { status, body } = await get(`/agent/runs/${piece.run_id}/conversation`)
    expect(status).toBe(422)
    expect(Problem.parse(body).type).toMatch(/operation_not_supported$/)
    expect(sentenceOf(body)).toContain(`/agent/runs/${piece.run_id}/transcript`)
    const { headers } = await get(`/agent/runs/${piece.run_id}/transcript`)
    const lines = (await (await fetch(headers.get('location') ?? '')).text()).trim().split('\n')
    expect(lines).toHaveLength(CONVERSATION_ENTRIES_MAX + 1)
  })

  test('as a family is told up to a number of children, and says so', async () => {
    const parent = await begun()
    const limits = { max_children: CONVERSATION_CHILDREN_MAX + 1 }
    await house.database.kysely.updateTable('teams').set(limits).where('team_id', '=', house.owner.team_id).execute()
    const body = { prompt: 'help', parent_run_id: parent.run_id, config: { worker_host: 'nobody' } }
    const all = Array.from({ length: CONVERSATION_CHILDREN_MAX + 1 }, () => house.client.runs.create({ body }))
    await Promise.all(all)
    const { steps } = await ofRun(parent.run_id)
    expect(steps[0]?.steps).toHaveLength(CONVERSATION_CHILDREN_MAX)
    expect(blocksOf(steps).at(-1)).toMatchObject({
      type: 'event',
      name: 'cut',
      data: { reason: /children|child runs/ },
    })
  })
})

describe('the transcript', () => {
  test('is led to, whole: every entry on a line, from an address that takes no key', async () => {
    const piece = await begun()
    const long = 'x'.repeat(50_000)
    await piece.append({ kind: 'prompt', text: 'work' }, { kind: 'text', text: long })
    await ended(piece)
    const { status, headers, body } = await get(`/agent/runs/${piece.run_id}/transcript`)
    expect(status).toBe(302)
    const address = headers.get('location') ?? ''
    expect(body).toEqual({ download_url: address, expires_at: expect.any(String) })
    const response = await fetch(address)
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'application/x-ndjson',
      'content-disposition': `attachment; filename*=UTF-8''${piece.run_id}.ndjson`,
      'content-security-policy': "default-src 'none'; sandbox",
    })
    const lines = (await response.text()).trim().split('\n')
    expect(lines.map((line) => JSON.parse(line).body)).toEqual([
      { kind: 'prompt', text: 'work' },
      { kind: 'text', text: long },
    ])
    // A client that follows is there at once; the SDK is told where.
    const followed = await fetch(`${house.url}/api/v1/agent/runs/${piece.run_id}/transcript`, {
      headers: { authorization: `Bearer ${house.api_key}` },
    })
    expect((await followed.text()).trim().split('\n')).toEqual(lines)
    const told = await house.client.transcripts.download({ params: { run_id: piece.run_id } })
    expect(await (await fetch(told.download_url)).text()).toBe(`${lines.join('\n')}\n`)
  })

  test('is not served from an address that is altered, or is of another run or purpose', async () => {
    const [piece, other] = [await begun(), await begun()]
    const { headers } = await get(`/agent/runs/${piece.run_id}/transcript`)
    const url = headers.get('location') ?? ''
    const refused = async (address: string, why: RegExp) => {
      const response = await fetch(address)
      expect(response.status, address).toBe(403)
      expect(sentenceOf(await response.json())).toMatch(why)
    }
    expect((await fetch(url)).status).toBe(200)
    await refused(url.replace(piece.run_id, other.run_id), /not one that the server has signed/)
    await refused(url.replace('/transcripts/', '/artifacts/'), /not one that the server has signed/)
    await refused(
      url.replace(/expires=(\d+)/, (_, at) => `expires=${Number(at) + 60}`),
      /not one that the server/,
    )
    await refused(`${url}x`, /not one that the server has signed/)
    await refused(url.split('?')[0] ?? '', /not one that the server has signed/)
  })
})

test('conversation and transcript are for those who see the run', async () => {
  const piece = await begun()
  const { conversation_id } = await house.client.runs.get({ params: { run_id: piece.run_id } })
  const other = await house.addTeam('another')
  for (const path of [
    `/agent/runs/${piece.run_id}/conversation`,
    `/agent/runs/${piece.run_id}/transcript`,
    `/agent/conversations/${conversation_id}`,
    `/agent/conversations/${conversation_id}/block-snapshot`,
  ]) {
    expect((await get(path, null)).status, path).toBe(401)
    expect((await get(path, other.api_key)).status, path).toBe(404)
  }
  for (const path of [`/agent/runs/${NONE}/conversation`, `/agent/conversations/${NONE}`, '/agent/conversations/x'])
    expect((await get(path)).status, path).toBe(404)
})

test('a session and its conversation lead to each other, for anyone, and nothing else is told', async () => {
  const piece = await begun()
  const session_id = piece.execution_id
  const { conversation_id } = await house.client.runs.get({ params: { run_id: piece.run_id } })
  expect((await get(`/agent/sessions/${session_id}/redirect`, null)).body).toEqual({ conversation_id })
  expect((await get(`/agent/conversations/${conversation_id}/redirect`, null)).body).toEqual({ session_id })
  const waiting = await house.client.runs.create({ body: { prompt: 'x', config: { worker_host: 'nobody' } } })
  for (const path of [
    `/agent/sessions/${NONE}/redirect`,
    '/agent/sessions/nonsense/redirect',
    `/agent/conversations/${NONE}/redirect`,
    '/agent/conversations/nonsense/redirect',
    `/agent/conversations/${waiting.run_id}/redirect`,
  ]) {
    const { status, body } = await get(path, null)
    expect({ status, body }, path).toEqual({ status: 200, body: {} })
  }
})

test('an address of a transcript serves it for a quarter of an hour', async () => {
  const piece = await begun()
  const { headers, body } = await get(`/agent/runs/${piece.run_id}/transcript`)
  const url = headers.get('location') ?? ''
  expect(body).toMatchObject({
    expires_at: new Date(Math.floor((clock.now().getTime() + 15 * MINUTE) / 1000) * 1000).toISOString(),
  })
  clock.advance(15 * MINUTE)
  const response = await fetch(url)
  expect(response.status).toBe(403)
  expect(sentenceOf(await response.json())).toMatch(/expired/)
})

test('a fork has the child runs of what it was made from, as they stood then', async () => {
  const config = { harness: { type: 'claude' } }
  await house.database.kysely.updateTable('teams').set({ max_depth: 2 }).execute()
  const parent = await begun({ prompt: 'Lead.', config })
  await parent.append({ kind: 'prompt', text: 'Lead.' })
  const child = await begun({ prompt: 'Help.', config, parent_run_id: parent.run_id })
  await child.append({ kind: 'text', text: 'So far.' })
  const grandchild = await begun({ prompt: 'Help, too.', config, parent_run_id: child.run_id })
  const params = { conversation_id: parent.run_id }
  const { forked_conversation_id } = await house.client.conversations.fork({ params, body: {} })
  await child.append({ kind: 'text', text: 'And done.' })
  await ended(child)
  clock.advance(1000)
  const later = await begun({ prompt: 'Help later.', config, parent_run_id: parent.run_id })
  const again = await house.client.conversations.fork({ params: { conversation_id: forked_conversation_id }, body: {} })
  for (const conversation_id of [forked_conversation_id, again.forked_conversation_id]) {
    const { body } = await get(`/agent/conversations/${conversation_id}`)
    const { steps } = Conversation.parse(body)
    expect(steps).toMatchObject([{ id: parent.execution_id }])
    expect(steps[0]?.steps).toMatchObject([{ id: child.run_id, description: 'Help.', summary: 'INPROGRESS' }])
    const [told] = steps[0]?.steps ?? []
    expect(told).not.toHaveProperty('completed_at')
    expect(told?.steps[0]?.messages[0]?.content).toEqual([{ type: 'text', text: 'So far.' }])
    expect(told?.steps[0]?.steps).toMatchObject([{ id: grandchild.run_id, steps: [] }])
  }
  const now = await ofRun(parent.run_id)
  expect(now.steps[0]?.steps).toMatchObject([
    { id: child.run_id, summary: 'SUCCEEDED', completed_at: expect.any(String) },
    { id: later.run_id },
  ])
  for (const piece of [parent, grandchild, later]) await ended(piece)
})
