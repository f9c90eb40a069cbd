/** Every endpoint of the public API that the published SDK lacks, by bare requests, each answer in the wire format. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { Piece } from '../house/worker.ts'
import {
  API,
  answered,
  api_key,
  ask,
  COMMAND,
  create,
  folder,
  NOBODY,
  ownWorker,
  REAL,
  reaches,
  refused,
  runOf,
} from './asking.ts'
import {
  Artifact,
  Conversation,
  ConversationRedirect,
  CreatedRun,
  DownloadableAttachments,
  Event,
  Events,
  HandoffAttachments,
  MessageHeaders,
  PreparedAttachments,
  ReadMessage,
  RunItem,
  RunList,
  SentMessages,
  Sequence,
  SessionRedirect,
  Workers,
} from './wire.ts'
import { Agent, AgentIdentities, AgentList, EnvironmentList, ModelList } from './wire-named.ts'

const NONE = crypto.randomUUID()
let worker: Awaited<ReturnType<typeof ownWorker>>
let names = 0
const newName = (word: string) => `${word}-${process.pid}-${++names}`

beforeAll(async () => {
  worker = await ownWorker()
})
afterAll(() => worker.close())

async function underWay(body: Record<string, unknown> = {}): Promise<Piece & { key: string }> {
  const piece = await worker.take(body)
  piece.claim()
  await piece.start()
  return { ...piece, key: piece.assignment.env_vars.WARP_API_KEY ?? '' }
}

async function end(piece: Piece): Promise<void> {
  await piece.finish()
  piece.complete()
  await reaches(piece.run_id, 'SUCCEEDED')
}

/** Whatever still waits in its inbox. */
async function stop(piece: Piece): Promise<void> {
  await ask('POST', `agent/runs/${piece.run_id}/cancel`)
  await piece.finish({ outcome: 'CANCELLED' })
  piece.complete()
  await reaches(piece.run_id, 'CANCELLED')
}

test('both paths make a run, with the same answer', async () => {
  for (const path of ['agent/runs', 'agent/run']) {
    const made = await answered(['POST', path, CreatedRun], { body: { prompt: 'wait', config: NOBODY } })
    expect(made.state).toBe('QUEUED')
  }
})

test('what clients send besides is handed back as it came, null is nothing, and what is unknown is passed over', async () => {
  const runtime_skills = ['CgYSBG5hbWU=', '']
  const referenced_attachments = ['CgVwbGFpbg==']
  const more = { initial_snapshot_token: null, snapshot_disabled: true, orchestration_handoff: true, later: [1] }
  const given = await create({ prompt: 'wait', config: NOBODY, runtime_skills, referenced_attachments, ...more })
  expect(await runOf(given)).toMatchObject({ runtime_skills, referenced_attachments })
  const none = await create({ prompt: 'wait', config: NOBODY, runtime_skills: null, referenced_attachments: [] })
  expect(await runOf(none)).not.toHaveProperty('runtime_skills')
  const { runs } = await answered(['GET', 'agent/runs', RunList])
  expect(runs.map(({ run_id }) => run_id)).toContain(given)
  expect(await refused('POST', 'agent/runs', { body: { prompt: 'x', runtime_skills: ['%'] } })).toMatchObject({
    status: 400,
    code: 'invalid_request',
  })
})

test('a child names its parent, which knows it; the ancestor filter is its direct children', async () => {
  const parent = await create({ prompt: 'wait', metadata: { ticket: 'V-1' }, config: NOBODY })
  const child = await create({ prompt: 'wait', parent_run_id: parent, metadata: { 'a.b': 'c' }, config: NOBODY })
  expect(await runOf(child)).toMatchObject({
    parent_run_id: parent,
    source: 'ORCHESTRATION',
    metadata: { ticket: 'V-1', 'a.b': 'c' },
  })
  expect((await runOf(parent)).children).toEqual([child])
  const { runs } = await answered(['GET', `agent/runs?ancestor_run_id=${parent}`, RunList])
  expect(runs.map(({ run_id }) => run_id)).toEqual([child])
  const events = await answered(['GET', `agent/events?run_ids=${parent}`, Events])
  expect(events).toContainEqual(expect.objectContaining({ event_type: 'child_agent_started', ref_id: child }))
  expect(await refused('POST', 'agent/runs', { body: { prompt: 'x', parent_run_id: NONE } })).toMatchObject({
    status: 400,
    code: 'invalid_request',
  })
})

describe('follow-ups', () => {
  test('a run that has ended goes on as another execution', async () => {
    const piece = await underWay()
    await end(piece)
    await answered(['POST', `agent/runs/${piece.run_id}/followups`, z.object({})], { body: { message: 'And now?' } })
    const again = await worker.next()
    expect(again.run_id).toBe(piece.run_id)
    expect(again.execution_id).not.toBe(piece.execution_id)
    again.claim()
    await again.start()
    await stop(again)
  })

  test('a message may be absent from what is queued; an unknown run is 404', async () => {
    const run_id = await create({ prompt: 'wait', config: NOBODY })
    await answered(['POST', `agent/runs/${run_id}/followups`, z.object({})], {
      body: { message: 'more', mode: 'normal' },
    })
    expect((await refused('POST', `agent/runs/${NONE}/followups`, { body: { message: 'x' } })).status).toBe(404)
  })
})

test('handoff attachments are listed, empty where there are none', async () => {
  const piece = await underWay()
  await end(piece)
  const { attachments } = await answered(
    ['GET', `agent/runs/${piece.run_id}/handoff/attachments`, HandoffAttachments],
    {},
  )
  expect(attachments).toEqual([])
  expect((await refused('GET', `agent/runs/${NONE}/handoff/attachments`)).status).toBe(404)
})

test('files are prepared for a run, sent without a key, and fetched again', async () => {
  const run_id = await create({ prompt: 'wait', config: NOBODY })
  const files = [{ filename: 'note.txt', mime_type: 'text/plain' }]
  const prepared = await answered(['POST', `agent/runs/${run_id}/attachments/prepare`, PreparedAttachments], {
    body: { files },
  })
  const [{ attachment_id = '', upload_url = '' } = {}] = prepared.attachments
  expect((await fetch(upload_url, { method: 'PUT', body: 'hello there' })).ok).toBe(true)
  const given = await answered(['POST', `agent/runs/${run_id}/attachments/download`, DownloadableAttachments], {
    body: { attachment_ids: [attachment_id] },
  })
  expect(await (await fetch(given.attachments[0]?.download_url ?? '')).text()).toBe('hello there')
})

describe('conversation, transcript and redirects', () => {
  let run_id = ''
  beforeAll(async () => {
    const script = join(folder, `script-${process.pid}.json`)
    await mkdir(folder, { recursive: true })
    const turns = [{ tools: [{ name: 'bash', input: { command: 'echo from-the-shell' } }] }, { text: 'All is well.' }]
    await writeFile(script, JSON.stringify(turns))
    run_id = await create({
      prompt: 'Look around.',
      config: {
        ...REAL,
        harness: { type: 'oz' },
        model_id: 'scripted',
        environment: { variables: { BATON_SCRIPT: script } },
      },
    })
    await reaches(run_id, 'SUCCEEDED')
  })

  test('what was said and done is normalized: text, action and its result', async () => {
    const conversation = await answered(['GET', `agent/runs/${run_id}/conversation`, Conversation])
    const blocks = conversation.steps.flatMap(({ messages }) => messages).flatMap(({ content }) => content)
    const action = blocks.find((block) => block.type === 'action')
    expect(action).toMatchObject({ category: 'command' })
    expect(blocks).toContainEqual(
      expect.objectContaining({ type: 'action_result', action_id: action?.id, state: 'completed' }),
    )
    expect(JSON.stringify(blocks)).toContain('from-the-shell')
    expect(blocks).toContainEqual(
      expect.objectContaining({ type: 'text', text: expect.stringContaining('All is well.') }),
    )
    const { conversation_id } = await runOf(run_id)
    expect(await answered(['GET', `agent/conversations/${conversation_id}`, Conversation])).toEqual(conversation)
    expect(conversation.conversation_id).toBe(conversation_id)
  })

  test('the transcript is a redirect to an address that needs no key', async () => {
    const answer = await ask('GET', `agent/runs/${run_id}/transcript`)
    expect(answer.status).toBe(302)
    const there = await fetch(new URL(answer.headers.get('location') ?? '', API))
    expect(there.status).toBe(200)
    expect(await there.text()).toContain('from-the-shell')
  })

  test('conversation and session lead to each other, asked by nobody in particular', async () => {
    const { conversation_id } = await runOf(run_id)
    const { session_id } = await answered(
      ['GET', `agent/conversations/${conversation_id}/redirect`, ConversationRedirect],
      { key: null },
    )
    const run = await runOf(run_id)
    if (run.session_id !== undefined) expect(session_id).toBe(run.session_id)
    const back = await answered(['GET', `agent/sessions/${session_id ?? NONE}/redirect`, SessionRedirect], {
      key: null,
    })
    if (session_id !== undefined) expect(back).toMatchObject({ conversation_id })
  })

  test.each(['agent/runs/{}/conversation', 'agent/runs/{}/transcript', 'agent/conversations/{}'])(
    '%s of nothing is 404, without a key 401',
    async (path) => {
      expect((await refused('GET', path.replace('{}', NONE))).code).toBe('resource_not_found')
      expect((await refused('GET', path.replace('{}', NONE), { key: null })).code).toBe('authentication_required')
    },
  )
})

test('an artifact is read by its uid, and its file without a key', async () => {
  const run_id = await create({
    prompt: 'echo made > out.txt && "$OZ_CLI" artifact upload out.txt --run-id "$OZ_RUN_ID"',
    config: COMMAND,
  })
  await reaches(run_id, 'SUCCEEDED')
  const [item] = (await runOf(run_id)).artifacts ?? []
  if (item?.artifact_type !== 'FILE') throw new Error(`no file: ${JSON.stringify(item)}`)
  const artifact = await answered(['GET', `agent/artifacts/${item.data.artifact_uid}`, Artifact])
  if (artifact.artifact_type !== 'FILE') throw new Error('no file')
  expect(artifact.data).toMatchObject({ filename: 'out.txt', filepath: item.data.filepath, size_bytes: 5 })
  expect(await (await fetch(artifact.data.download_url)).text()).toBe('made\n')
  expect((await refused('GET', `agent/artifacts/${NONE}`)).status).toBe(404)
  expect((await refused('GET', `agent/artifacts/${item.data.artifact_uid}`, { key: null })).status).toBe(401)
})

test('environments are listed by last change or by name, with their last run', async () => {
  const [first, second] = [newName('b-env'), newName('a-env')]
  const config = {
    description: 'for tests',
    docker_image: 'node:24-bookworm',
    github_repos: [{ owner: 'octo', repo: 'tools' }],
    setup_commands: ['true'],
    providers: { aws: { role_arn: 'arn:aws:iam::1:role/x' } },
    failure_session_retention_minutes: 5,
  }
  for (const name of [first, second]) await ask('POST', 'agent/environments', { body: { ...config, name } })
  const list = async (query: string) => {
    const { environments } = await answered(['GET', `agent/environments${query}`, EnvironmentList])
    return environments.filter((one) => one.config.name === first || one.config.name === second)
  }
  expect((await list('?sort_by=name')).map((one) => one.config.name)).toEqual([second, first].sort())
  expect((await list('')).map((one) => one.config.name)).toEqual([second, first])
  const [made] = await list('?sort_by=last_updated')
  expect(made?.config).toMatchObject({ ...config, name: second })
  expect(made).toMatchObject({ setup_failed: false, last_task_run_timestamp: null, scope: { type: 'Team' } })
  const run_id = await create({ prompt: 'wait', config: { ...NOBODY, environment_id: made?.uid } })
  const [used] = await list('')
  expect(used?.last_task_created).toMatchObject({ id: run_id, state: 'QUEUED' })
  expect(used?.last_task_run_timestamp).toBe(used?.last_task_created?.created_at)
  expect((await refused('GET', 'agent/environments?sort_by=age')).status).toBe(400)
})

test('models are listed with a default among them', async () => {
  const { models } = await answered(['GET', 'agent/models', ModelList])
  expect(models.map(({ provider }) => provider)).toEqual(expect.arrayContaining(['OPENAI', 'ANTHROPIC', 'GOOGLE']))
  for (const { provider, disable_reason } of models)
    if (provider !== 'UNKNOWN') expect(disable_reason).toBe('ADMIN_DISABLED')
})

test('skills as agents: 400 for what is no repository', async () => {
  await answered(['GET', 'agent?sort_by=last_run&include_malformed_skills=true', AgentList])
  expect((await refused('GET', 'agent?repo=nothing')).code).toBe('invalid_request')
})

describe('agent identities', () => {
  test('are made with 201, changed as by a patch, listed by factory, and deleted with 204', async () => {
    const factory_uid = newName('factory')
    const body = {
      name: newName('Ada'),
      description: 'reviews',
      prompt: 'Be kind.',
      base_model: 'm1',
      harness: { type: 'claude', model_id: 'm2', reasoning_level: 'high' },
      skills: ['octo/tools:review'],
      mcp_servers: { docs: { url: 'https://docs.example' } },
      credential_strategy: 'CREATOR',
      agent_type: 'REVIEW',
      inference_providers: { aws: { region: 'eu-west-1' } },
      harness_auth_secrets: { claude_auth_secret_name: 'CLAUDE' },
      on_behalf_of_enabled: true,
      factory_uid,
    }
    const made = await answered(['POST', 'agent/identities', Agent, 201], { body })
    expect(made).toMatchObject({ ...body, available: true })
    expect(await answered(['GET', `agent/identities/${made.uid}`, Agent])).toEqual(made)
    const { agents } = await answered(['GET', `agent/identities?factory_uid=${factory_uid}`, AgentIdentities])
    expect(agents).toEqual([made])
    expect((await answered(['GET', 'agent/identities?factory_uid=other', AgentIdentities])).agents).toEqual([])
    const kept = await answered(['PUT', `agent/identities/${made.uid}`, Agent], {
      body: { prompt: null, skills: null, agent_type: null, base_model: 'm3' },
    })
    expect(kept).toEqual({ ...made, base_model: 'm3', updated_at: kept.updated_at })
    const empty = {
      description: '',
      prompt: '',
      base_model: '',
      factory_uid: '',
      agent_type: '',
      credential_strategy: '',
    }
    const cleared = await answered(['PUT', `agent/identities/${made.uid}`, Agent], {
      body: { ...empty, skills: [], mcp_servers: {}, harness: {}, inference_providers: {}, harness_auth_secrets: {} },
    })
    expect(cleared).toMatchObject({ description: null, prompt: null, base_model: null, skills: [], mcp_servers: {} })
    expect(cleared).toMatchObject({ agent_type: null, factory_uid: null })
    for (const gone of ['harness', 'credential_strategy', 'inference_providers', 'harness_auth_secrets'])
      expect(cleared).not.toHaveProperty(gone)
    const deleted = await ask('DELETE', `agent/identities/${made.uid}`, { headers: { accept: '*/*' } })
    expect([deleted.status, deleted.text]).toEqual([204, ''])
    expect((await refused('GET', `agent/identities/${made.uid}`)).status).toBe(404)
  })

  test('an empty name and the end of the default agent are 400; a program in a sandbox is 403', async () => {
    expect((await refused('POST', 'agent/identities', { body: { name: '' } })).status).toBe(400)
    const { agents } = await answered(['GET', 'agent/identities', AgentIdentities])
    const codes = []
    for (const { uid } of agents.filter(({ name }) => name === 'Default agent'))
      codes.push((await refused('DELETE', `agent/identities/${uid}`)).status)
    expect(codes).toEqual([400])
    const piece = await underWay()
    expect((await refused('POST', 'agent/identities', { key: piece.key, body: { name: 'x' } })).status).toBe(403)
    await end(piece)
  })
})

describe('messages', () => {
  test('are sent to several at once, listed, read and marked as delivered', async () => {
    const sender = await underWay()
    const [one, two] = [await underWay(), await underWay()]
    const body = { to: [one.run_id, two.run_id], subject: 'Hello', body: 'How are you?', sender_run_id: sender.run_id }
    const { message_ids } = await answered(['POST', 'agent/messages', SentMessages], { body })
    expect(new Set(message_ids).size).toBe(2)
    const headers = await answered(['GET', `agent/messages/${one.run_id}?limit=100&unread=true`, MessageHeaders])
    expect(headers).toMatchObject([{ message_id: message_ids[0], sender_run_id: sender.run_id, read_at: null }])
    expect(headers[0]).not.toHaveProperty('body')
    const read = await answered(['POST', `agent/messages/${message_ids[0]}/read`, ReadMessage], { body: 'null' })
    expect(read).toMatchObject({ body: 'How are you?', delivered_at: null, read_at: expect.any(String) })
    for (const _ of ['once', 'again']) {
      const delivered = await ask('POST', `agent/messages/${message_ids[0]}/delivered`, { body: 'null' })
      expect([delivered.status, delivered.text]).toEqual([204, ''])
    }
    const since = encodeURIComponent(headers[0]?.sent_at ?? '')
    const path = `agent/messages/${two.run_id}`
    const later = await answered(['GET', `${path}?since=${since}`, MessageHeaders])
    expect(later.length).toBeLessThanOrEqual(1)
    for (const before of ['2000-01-01T00:00:00+02:00', '2000-01-01t00:00:00.123456z'])
      expect(await answered(['GET', `${path}?since=${before}`, MessageHeaders])).toHaveLength(1)
    expect((await refused('GET', `${path}?since=0000-01-01T00:00:00Z`)).status).toBe(400)
    expect(await answered(['GET', `agent/messages/${one.run_id}?unread=true`, MessageHeaders])).toEqual([])
    const events = await answered(['GET', `agent/events?run_ids=${one.run_id}`, Events])
    expect(events).toContainEqual(expect.objectContaining({ event_type: 'new_message', ref_id: message_ids[0] }))
    for (const piece of [sender, one, two]) await stop(piece)
  })

  test('to one that has ended and cannot go on are 422, for all of them', async () => {
    const sender = await create({ prompt: 'wait', config: NOBODY })
    const gone = await create({ prompt: 'true', config: COMMAND })
    await reaches(gone, 'SUCCEEDED')
    const other = await create({ prompt: 'wait', config: NOBODY })
    const body = { to: [other, gone], subject: 'x', body: 'y', sender_run_id: sender }
    expect((await refused('POST', 'agent/messages', { body })).status).toBe(422)
    expect(await answered(['GET', `agent/messages/${other}`, MessageHeaders])).toEqual([])
    const long = { ...body, to: [other], subject: 'x'.repeat(1025) }
    expect((await refused('POST', 'agent/messages', { body: long })).status).toBe(400)
  })
})

describe('events', () => {
  test('tell the life of a run in one order, and can be read from any place', async () => {
    const piece = await underWay()
    await end(piece)
    const path = `agent/events?run_ids=${piece.run_id}`
    const events = await answered(['GET', `${path}&since=0&limit=500`, Events])
    const public_types = events
      .map(({ event_type }) => event_type)
      .filter((type) => /^run_(in_progress|succ)/.test(type))
    expect(public_types).toEqual(['run_in_progress', 'run_succeeded'])
    const sequences = events.map(({ sequence }) => sequence)
    expect(sequences).toEqual([...sequences].sort((a, b) => a - b))
    const rest = await answered(['GET', `${path}&since=${sequences[0]}`, Events])
    expect(rest.map(({ sequence }) => sequence)).toEqual(sequences.slice(1))
    expect((await refused('GET', `${path}&limit=501`)).status).toBe(400)
    const last = sequences.at(-1) ?? 0
    const moved = await ask('PATCH', `agent/runs/${piece.run_id}/event-sequence`, { body: { sequence: last } })
    expect(moved.status).toBeLessThan(300)
    await ask('PATCH', `agent/runs/${piece.run_id}/event-sequence`, { body: { sequence: 1 } })
    expect((await runOf(piece.run_id)).last_event_sequence).toBe(last)
  })

  test('of a run can be reported by who knows it, and measured by its client', async () => {
    const piece = await underWay()
    await answered(['POST', `agent/events/${piece.run_id}`, Sequence], {
      key: piece.key,
      body: { event_type: 'run_in_progress', execution_id: piece.execution_id, ref_id: null },
    })
    const measured = await ask('POST', `agent/runs/${piece.run_id}/client-events`, {
      key: piece.key,
      body: { event_uuid: crypto.randomUUID(), event_name: 'agent_started', timestamp: new Date().toISOString() },
    })
    expect(measured.status).toBe(200)
    await end(piece)
  })

  test('stream as plain data, replay from the start, and include children that come later', async () => {
    const parent = await create({ prompt: 'wait', config: NOBODY })
    const over = new AbortController()
    const query = `ancestor_run_id=${parent}&since=0&include_self=true`
    const stream = await fetch(`${API}/agent/events/stream?${query}`, {
      headers: { authorization: `Bearer ${api_key}` },
      signal: over.signal,
    })
    expect([stream.status, stream.headers.get('content-type')]).toEqual([
      200,
      expect.stringMatching(/^text\/event-stream/),
    ])
    const child = await create({ prompt: 'wait', parent_run_id: parent, config: NOBODY })
    await ask('POST', `agent/runs/${child}/cancel`)
    const seen: string[] = []
    for await (const event of eventsOf(stream)) {
      seen.push(event.event_type)
      if (event.event_type === 'run_cancelled' && event.run_id === child) break
    }
    over.abort()
    expect(seen).toContain('child_agent_started')
  })
})

async function* eventsOf(stream: Response): AsyncGenerator<z.output<typeof Event>> {
  let rest = ''
  const decoder = new TextDecoder()
  for await (const chunk of stream.body ?? []) {
    rest += decoder.decode(chunk, { stream: true })
    for (let at = rest.indexOf('\n\n'); at >= 0; at = rest.indexOf('\n\n')) {
      const frame = rest.slice(0, at)
      rest = rest.slice(at + 2)
      const data = frame.split('\n').flatMap((line) => (line.startsWith('data:') ? [line.slice(5).trim()] : []))
      if (data.length > 0) yield Event.parse(JSON.parse(data.join('\n')))
    }
  }
}

test('workers that are connected are listed by their host', async () => {
  const { workers } = await answered(['GET', 'agent/connected-self-hosted-workers', Workers])
  expect(workers).toContainEqual(expect.objectContaining({ worker_host: worker.worker_host, connection_count: 1 }))
})

test('a run is read by who may, by nobody else', async () => {
  const run_id = await create({ prompt: 'wait', config: NOBODY })
  await answered(['GET', `agent/runs/${run_id}`, RunItem])
  expect((await refused('GET', `agent/runs/${run_id}`, { key: null })).status).toBe(401)
  const piece = await underWay()
  expect((await refused('GET', `agent/runs/${run_id}`, { key: piece.key })).status).toBe(404)
  await end(piece)
})
