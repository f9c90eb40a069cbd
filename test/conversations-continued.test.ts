/** Conversations that go on: in another run, in a fork, in a foreign harness; and those of real runs, end to end. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type AgentConfig, type Block, type CreateRun, Problem, type UploadTarget } from '../src/contract/index.ts'
import { type ExitReport, runExecution } from '../src/runner/run.ts'
import { Conversation } from './contract/wire.ts'
import { type House, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

const AGENT = join(import.meta.dirname, 'harnesses/remembering-agent.ts')
const BUILT_IN = join(import.meta.dirname, '../src/agent/main.ts')
const SLOW_MS = 30_000
const succeeded = { end: 'finished', state: 'SUCCEEDED' }

let folder: string
let house: House
let worker: ScriptedWorker
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-conversations-'))
  house = await startHouse({ limits: { close_ms: 200 }, blobs_dir: join(folder, 'blobs') })
  worker = await house.worker()
})
afterEach(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

type Given = { text?: string; began?: string; loaded?: string }

/** A sandbox of its own, in which `talk` remembers what is in its session, and `mute` keeps none. */
async function workOn(): Promise<{ run_id: string; report: ExitReport; given: Given[] }> {
  const piece = await worker.next(SLOW_MS)
  piece.claim()
  const own = join(folder, piece.execution_id)
  mkdirSync(own)
  const given = join(own, 'given.ndjson')
  const env = { SESSIONS: '{home}/talk/sessions', GIVEN: given }
  const talk = { command: process.execPath, args: [AGENT], env, session_folders: ['talk/sessions'] }
  const baton = { command: process.execPath, args: [BUILT_IN, 'acp-agent'], session_folders: [] }
  const harnesses = { talk, mute: { ...talk, session_folders: [] }, baton }
  const report = await runExecution({
    server: house.url,
    token: piece.assignment.env_vars.WARP_API_KEY ?? '',
    execution_id: piece.execution_id,
    version: '0.0.0',
    env: { PATH: process.env.PATH ?? '', HOME: own, BATON_HARNESSES: JSON.stringify(harnesses) },
    workspace: join(own, 'workspace'),
    place: 'managed',
    signal: new AbortController().signal,
  })
  const lines = existsSync(given) ? readFileSync(given, 'utf8').trim().split('\n') : []
  rmSync(own, { recursive: true, force: true })
  return { run_id: piece.run_id, report, given: lines.map((line) => JSON.parse(line) as Given) }
}

async function worked(prompt: string | undefined, type: string, more: Partial<CreateRun> = {}) {
  const config: AgentConfig = { harness: { type }, max_tries: 1, ...more.config }
  const body = { ...more, config, ...(prompt === undefined ? {} : { prompt }) }
  const { run_id } = await house.client.runs.create({ body })
  const done = await workOn()
  expect(done.run_id).toBe(run_id)
  expect(done.report, JSON.stringify(done.report)).toMatchObject(succeeded)
  const { conversation_id, title } = await house.client.runs.get({ params: { run_id } })
  const texts = done.given.flatMap(({ text }) => (text === undefined ? [] : [text]))
  return { ...done, conversation_id, title, texts }
}

async function read(path: string, key = house.api_key): Promise<Read> {
  const response = await fetch(`${house.url}/api/v1/agent/${path}`, { headers: { authorization: `Bearer ${key}` } })
  expect(response.status, path).toBe(200)
  return Conversation.parse(await response.json())
}
type Read = ReturnType<typeof Conversation.parse>

const blocksOf = ({ steps }: Read): Block[] =>
  steps.flatMap(({ messages }) => messages.flatMap(({ content }) => content))
const textsOf = (conversation: Read) =>
  blocksOf(conversation).flatMap((block) => (block.type === 'text' ? [block.text] : []))
const faultOf = (error: unknown) => error as { status: number; message: string }

describe('a real run', () => {
  test('of a command is an action of it, with its output and how it ended', async () => {
    const { run_id } = await worked('echo one; echo two >&2', 'command')
    const conversation = await read(`runs/${run_id}/conversation`)
    const blocks = blocksOf(conversation).filter((block) => block.type !== 'event')
    const [, action] = blocks
    expect(blocks).toEqual([
      { type: 'text', text: 'echo one; echo two >&2' },
      {
        type: 'action',
        id: expect.any(String),
        category: 'command',
        name: 'shell',
        input: { command: 'echo one; echo two >&2' },
      },
      {
        type: 'action_result',
        action_id: action?.type === 'action' ? action.id : '',
        category: 'command',
        name: 'shell',
        state: 'completed',
        output: { text: expect.stringMatching(/^(one\ntwo\n|two\none\n)$/) },
      },
    ])
    const failing = await house.client.runs.create({
      body: { prompt: 'echo so far; exit 3', config: { harness: { type: 'command' }, max_tries: 1 } },
    })
    await workOn()
    expect(blocksOf(await read(`runs/${failing.run_id}/conversation`))).toContainEqual(
      expect.objectContaining({ type: 'action_result', state: 'failed', output: { text: 'so far\n' } }),
    )
  })

  test("of Baton's own agent is text, actions of its tools, and their results", async () => {
    const script = join(folder, 'script.json')
    const tools = [
      { name: 'bash', input: { command: 'echo from-the-shell' } },
      { name: 'write', input: { path: 'notes.txt', content: 'noted' } },
      { name: 'search', input: { pattern: 'noted' } },
    ]
    writeFileSync(script, JSON.stringify([...tools.map((tool) => ({ tools: [tool] })), { text: 'All is well.' }]))
    const environment = { repositories: [], setup_commands: [], variables: { BATON_SCRIPT: script } }
    const { run_id } = await worked('Look around.', 'baton', { config: { model_id: 'scripted', environment } })
    const conversation = await read(`runs/${run_id}/conversation`)
    const of = (type: Block['type']) => blocksOf(conversation).filter((block) => block.type === type)
    expect(of('action')).toMatchObject([
      { category: 'command', name: 'bash', input: { command: 'echo from-the-shell' } },
      { category: 'files', name: 'write', input: { path: 'notes.txt', content: 'noted' } },
      { category: 'search', name: 'search', input: { pattern: 'noted' } },
    ])
    expect(of('action_result')).toMatchObject(tools.map(({ name }) => ({ name, state: 'completed' })))
    expect(JSON.stringify(of('action_result')[0])).toContain('from-the-shell')
    expect(textsOf(conversation)).toEqual(['Look around.', 'All is well.'])
  })
})

describe('a run that goes on with a conversation', () => {
  test('is of it, and has the session of its harness in mind, where that is kept', async () => {
    const first = await worked('The word is xylophone.', 'talk')
    const began = first.given[0]?.began
    const second = await worked('RECALL it.', 'talk', { conversation_id: first.conversation_id })
    expect(second.conversation_id).toBe(first.conversation_id)
    expect(second.given[0]).toEqual({ loaded: began })
    expect(second.texts).toEqual(['RECALL it.'])
    expect(textsOf(await read(`conversations/${first.conversation_id}`))).toEqual([
      'The word is xylophone.',
      'Done.',
      'RECALL it.',
      'I remember: The word is xylophone.\n',
    ])
    // A third goes on with what the second has kept, and its own words come first.
    const third = await worked('RECALL all.', 'talk', {
      conversation_id: first.conversation_id,
      config: { base_prompt: 'Be brief.' },
    })
    expect(third.given[0]).toEqual({ loaded: began })
    expect(third.texts).toEqual(['Be brief.\n\nRECALL all.'])
    expect(textsOf(await read(`runs/${first.run_id}/conversation`)).at(-1)).toContain('RECALL it.')
  })

  test('is told what was said and done, where its harness remembers nothing of it', async () => {
    const first = await worked('The word is xylophone.', 'talk')
    const second = await worked('Which was it?', 'mute', { conversation_id: first.conversation_id })
    expect(second.given[0]).toEqual({ began: expect.any(String) })
    expect(second.texts[0]).toMatch(/^You go on with this conversation:[\s\S]*xylophone[\s\S]*Done\.[\s\S]*it\?$/)
    expect(second.texts[0]).not.toMatch(/given before|asked again/)
    const third = await worked(undefined, 'talk', { conversation_id: first.conversation_id })
    // The session of the first is older than what the second said.
    expect(third.given[0]).toEqual({ loaded: first.given[0]?.began })
    expect(third.texts[0]).toMatch(
      /^Since what you remember[\s\S]*Which was it\?[\s\S]*Go on from where this stands\.$/,
    )
    expect(third.texts[0]).not.toContain('xylophone')
    expect(third.title).toBe(first.title)
  })

  test('is refused what it does not see or what does not exist, and a command something to do', async () => {
    const other = await house.addTeam('another')
    const { run_id } = await house.client.runs.create({ body: { prompt: 'x', config: { worker_host: 'nobody' } } })
    const { conversation_id } = await house.client.runs.get({ params: { run_id } })
    for (const [client, wanted] of [
      [other.client, conversation_id],
      [house.client, crypto.randomUUID()],
    ] as const) {
      const refused = await client.runs.create({ body: { prompt: 'y', conversation_id: wanted } }).catch(faultOf)
      expect(refused).toMatchObject({ status: 400, message: expect.stringContaining(wanted) })
    }
    const nothing = { body: { conversation_id, config: { harness: { type: 'command' } } } }
    expect(await house.client.runs.create(nothing).catch(faultOf)).toMatchObject({ status: 400 })
    const going_on = await house.client.runs.create({ body: { conversation_id, config: { worker_host: 'nobody' } } })
    expect(await house.client.runs.get({ params: { run_id: going_on.run_id } })).toMatchObject({ conversation_id })
  })
})

describe('a fork', () => {
  test('begins with what there was, and neither hears of the other again', async () => {
    const first = await worked('The word is xylophone.', 'talk')
    const params = { conversation_id: first.conversation_id }
    const { forked_conversation_id } = await house.client.conversations.fork({ params, body: { title: 'Other way' } })
    expect(forked_conversation_id).not.toBe(first.conversation_id)
    const before = textsOf(await read(`conversations/${first.conversation_id}`))
    expect(textsOf(await read(`conversations/${forked_conversation_id}`))).toEqual(before)
    await worked('And the number is seven.', 'talk', { conversation_id: first.conversation_id })
    expect(textsOf(await read(`conversations/${forked_conversation_id}`))).toEqual(before)
    const other = await worked('RECALL it.', 'talk', { conversation_id: forked_conversation_id })
    expect(other.title).toBe('Other way')
    expect(other.texts).toEqual(['RECALL it.'])
    const told = textsOf(await read(`conversations/${forked_conversation_id}`))
    expect(told.slice(0, before.length)).toEqual(before)
    expect(told.at(-1)).toBe('I remember: The word is xylophone.\n')
    expect(textsOf(await read(`conversations/${first.conversation_id}`)).at(-2)).toBe('And the number is seven.')
    // A fork of the fork has both, and a run that was woken after a fork is no part of what was forked.
    const again = await house.client.conversations.fork({
      params: { conversation_id: forked_conversation_id },
      body: {},
    })
    expect(textsOf(await read(`conversations/${again.forked_conversation_id}`))).toEqual(told)
    await house.client.messages.send({ body: { to: [first.run_id], subject: 'More', body: 'More.' } })
    await workOn()
    expect(textsOf(await read(`conversations/${again.forked_conversation_id}`))).toEqual(told)
  })

  test('is told what it does not remember, once the session knows more than it should', async () => {
    const first = await worked('The word is xylophone.', 'talk')
    const params = { conversation_id: first.conversation_id }
    const { forked_conversation_id } = await house.client.conversations.fork({ params, body: {} })
    await house.client.messages.send({ body: { to: [first.run_id], subject: 'Secret', body: 'The number is seven.' } })
    await workOn()
    const other = await worked('RECALL it.', 'talk', { conversation_id: forked_conversation_id })
    expect(other.given[0]).toEqual({ began: expect.any(String) })
    expect(other.texts[0]).toContain('xylophone')
    expect(other.texts[0]).not.toContain('seven')
  })
})

test('a conversation is renamed with its runs; nobody else may, and a title says something', async () => {
  const { run_id } = await house.client.runs.create({ body: { prompt: 'x', config: { worker_host: 'nobody' } } })
  const params = { conversation_id: (await house.client.runs.get({ params: { run_id } })).conversation_id }
  expect(await house.client.conversations.rename({ params, body: { title: ' New name ' } })).toEqual({
    title: 'New name',
  })
  expect(await house.client.runs.get({ params: { run_id } })).toMatchObject({ title: 'New name' })
  const more = await house.client.runs.create({
    body: { prompt: 'y', ...params, config: { worker_host: 'nobody' } },
  })
  expect(await house.client.runs.get({ params: { run_id: more.run_id } })).toMatchObject({ title: 'New name' })
  const other = await house.addTeam('another')
  for (const [client, title, status] of [
    [other.client, 'theirs', 404],
    [house.client, ' ', 400],
    [house.client, 'x'.repeat(513), 400],
  ] as const)
    expect(await client.conversations.rename({ params, body: { title } }).catch(faultOf)).toMatchObject({ status })
  expect(await other.client.conversations.fork({ params, body: {} }).catch(faultOf)).toMatchObject({ status: 404 })
})

describe('a foreign harness', () => {
  async function taken(body: CreateRun = { prompt: 'work', config: { harness: { type: 'claude' } } }) {
    await house.client.runs.create({ body })
    const piece = await worker.next()
    piece.claim()
    await piece.start()
    const token = piece.assignment.env_vars.WARP_API_KEY ?? ''
    return { piece, token, client: house.clientFor(token).harnessConversations }
  }
  const finish = async (piece: Piece) => {
    await piece.finish()
    piece.complete()
  }
  const put = ({ url, method, headers }: UploadTarget, body: string) =>
    fetch(url, { method, headers: headers ?? {}, body })

  test('keeps its own transcript and terminal with the conversation of its run, and finds them again', async () => {
    const { piece, token, client } = await taken()
    const { conversation_id } = await client.external({ body: { format: 'claude_code_cli' } })
    expect(conversation_id).toBe((await house.client.runs.get({ params: { run_id: piece.run_id } })).conversation_id)
    expect(await client.external({ body: { format: 'claude_code_cli' } })).toEqual({ conversation_id })
    const path = `${house.url}/api/v1/harness-support/transcript`
    const own = { headers: { authorization: `Bearer ${token}` } }
    expect((await fetch(path, own)).status).toBe(404)
    for (const words of ['{"entries":[1]}', '{"entries":[1,2]}']) {
      const target = await client.uploadTranscript({ body: { conversation_id } })
      expect((await put(target, words)).status).toBe(200)
      expect(await (await fetch(path, own)).text()).toBe(words)
    }
    const block = await client.blockSnapshot({ body: { conversation_id } })
    expect((await put(block, 'the terminal')).status).toBe(200)
    const shown = await house.client.conversations.blockSnapshot({ params: { conversation_id } })
    expect(await (await fetch(shown.download_url)).text()).toBe('the terminal')
    expect((await fetch(shown.download_url.replace('expires=1', 'expires=2'))).status).toBe(403)
    // Not normalized, but whole.
    const response = await fetch(`${house.url}/api/v1/agent/runs/${piece.run_id}/conversation`, {
      headers: { authorization: `Bearer ${house.api_key}` },
    })
    expect(response.status).toBe(422)
    expect(Problem.parse(await response.json()).error).toContain(`/agent/runs/${piece.run_id}/transcript`)
    const { download_url } = await house.client.transcripts.download({ params: { run_id: piece.run_id } })
    expect(await (await fetch(download_url)).text()).toBe('{"entries":[1,2]}')
    await finish(piece)
    // The next run of the conversation begins with it.
    const next = await taken({ prompt: 'more', conversation_id, config: { harness: { type: 'claude' } } })
    const signed = await next.client.transcript()
    expect(await (await fetch(signed.download_url)).text()).toBe('{"entries":[1,2]}')
    expect(await next.client.resolvePrompt({ body: {} })).toEqual({
      prompt: 'more',
      resumption_prompt: 'You go on with this conversation.',
    })
    const { forked_conversation_id } = await house.client.conversations.fork({ params: { conversation_id }, body: {} })
    const newer = await next.client.uploadTranscript({ body: { conversation_id } })
    await put(newer, '{"entries":[1,2,3]}')
    await finish(next.piece)
    const fork = await taken({ conversation_id: forked_conversation_id, prompt: 'x' })
    expect(await (await fetch((await fork.client.transcript()).download_url)).text()).toBe('{"entries":[1,2]}')
  })

  test('has its conversation normalized, where its transcript is of Claude Code or Codex', async () => {
    const at = '2026-01-02T03:04:05.000Z'
    const claude = {
      cwd: '/w',
      uuid: '0b0e8d2c-0000-4000-8000-000000000001',
      claude_version: '2.1.0',
      entries: [
        { type: 'queue-operation', operation: 'enqueue', timestamp: at },
        { type: 'user', timestamp: at, uuid: 'u1', message: { role: 'user', content: 'Find dead code.' } },
        { type: 'user', timestamp: at, isMeta: true, message: { role: 'user', content: 'Caveat: not shown' } },
        {
          type: 'assistant',
          timestamp: at,
          requestId: 'req_1',
          message: {
            id: 'msg_1',
            role: 'assistant',
            content: [
              { type: 'thinking', thinking: 'Hm.', signature: 'x' },
              { type: 'text', text: 'I have it looked for.' },
              { type: 'tool_use', id: 'toolu_1', name: 'Task', input: { description: 'Look', prompt: 'Look around.' } },
            ],
          },
        },
        {
          type: 'user',
          timestamp: at,
          toolUseResult: { status: 'completed', agentId: 'a1', content: [] },
          message: {
            role: 'user',
            content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content: [{ type: 'text', text: 'old.ts' }] }],
          },
        },
        {
          type: 'assistant',
          timestamp: at,
          message: {
            role: 'assistant',
            content: [{ type: 'tool_use', id: 'toolu_2', name: 'Bash', input: { command: 'rm old.ts' } }],
          },
        },
        {
          type: 'user',
          timestamp: at,
          message: {
            role: 'user',
            content: [{ type: 'tool_result', tool_use_id: 'toolu_2', content: 'not permitted', is_error: true }],
          },
        },
        { type: 'summary', summary: 'Dead code', leafUuid: 'u1' },
      ],
      subagents: {
        a1: [
          { type: 'user', isSidechain: true, timestamp: at, message: { role: 'user', content: 'Look around.' } },
          {
            type: 'assistant',
            isSidechain: true,
            timestamp: at,
            message: { role: 'assistant', content: [{ type: 'text', text: 'I look.' }] },
          },
        ],
      },
      todos: {},
    }
    const item = (payload: object) => ({ timestamp: at, type: 'response_item', payload })
    const said = (role: string, type: string, text: string) =>
      item({ type: 'message', role, content: [{ type, text }] })
    const codex = {
      cwd: '/w',
      session_id: '0b0e8d2c-0000-4000-8000-000000000002',
      codex_version: '0.140.0',
      entries: [
        { timestamp: at, type: 'session_meta', payload: { id: 'x', cwd: '/w' } },
        said('user', 'input_text', '<environment_context>\n  <cwd>/w</cwd>\n</environment_context>'),
        said('user', 'input_text', 'List the files.'),
        item({ type: 'reasoning', summary: [{ type: 'summary_text', text: 'Simple.' }], encrypted_content: 'x' }),
        item({ type: 'function_call', name: 'shell', arguments: '{"command":["ls"]}', call_id: 'call_1' }),
        item({
          type: 'function_call_output',
          call_id: 'call_1',
          output: '{"output":"ls: no","metadata":{"exit_code":2,"duration_seconds":0}}',
        }),
        item({ type: 'custom_tool_call', name: 'apply_patch', input: '*** Begin Patch', call_id: 'call_2' }),
        item({ type: 'custom_tool_call_output', call_id: 'call_2', output: 'Success.' }),
        { timestamp: at, type: 'event_msg', payload: { type: 'token_count' } },
        said('assistant', 'output_text', 'There are none.'),
      ],
    }
    const normalized = async (format: 'claude_code_cli' | 'codex_cli', transcript: object) => {
      const { piece, client } = await taken()
      const { conversation_id } = await client.external({ body: { format } })
      const target = await client.uploadTranscript({ body: { conversation_id } })
      expect((await put(target, JSON.stringify(transcript))).status).toBe(200)
      await finish(piece)
      return read(`runs/${piece.run_id}/conversation`)
    }
    const ofClaude = await normalized('claude_code_cli', claude)
    expect(blocksOf(ofClaude)).toEqual([
      { type: 'text', text: 'Find dead code.' },
      { type: 'event', name: 'reasoning', data: { text: 'Hm.' } },
      { type: 'text', text: 'I have it looked for.' },
      expect.objectContaining({ type: 'action', id: 'toolu_1', category: 'skill', name: 'Task' }),
      expect.objectContaining({ action_id: 'toolu_1', state: 'completed', output: { text: 'old.ts' } }),
      expect.objectContaining({ id: 'toolu_2', category: 'command', input: { command: 'rm old.ts' } }),
      expect.objectContaining({ action_id: 'toolu_2', state: 'failed', output: { text: 'not permitted' } }),
    ])
    const [own] = ofClaude.steps
    expect(own).toMatchObject({
      id: claude.uuid,
      summary: 'SUCCEEDED',
      steps: [{ id: 'toolu_1', description: 'Look' }],
    })
    expect(blocksOf({ ...ofClaude, steps: own?.steps ?? [] })).toEqual([{ type: 'text', text: 'I look.' }])
    expect(blocksOf(await normalized('codex_cli', codex))).toEqual([
      { type: 'text', text: 'List the files.' },
      { type: 'event', name: 'reasoning', data: { text: 'Simple.' } },
      expect.objectContaining({ id: 'call_1', category: 'command', name: 'shell', input: { command: ['ls'] } }),
      expect.objectContaining({ action_id: 'call_1', state: 'failed', output: { text: 'ls: no', exit_code: 2 } }),
      expect.objectContaining({ id: 'call_2', category: 'files', name: 'apply_patch' }),
      expect.objectContaining({ action_id: 'call_2', state: 'completed', output: { text: 'Success.' } }),
      { type: 'text', text: 'There are none.' },
    ])
  })

  test('speaks of its own conversation alone', async () => {
    const [one, two] = [await taken(), await taken()]
    const { conversation_id } = await two.client.external({ body: { format: 'codex_cli' } })
    for (const send of [one.client.uploadTranscript, one.client.blockSnapshot])
      expect(await send({ body: { conversation_id } }).catch(faultOf)).toMatchObject({ status: 404 })
    const wrong = { format: 'other' } as unknown as { format: 'codex_cli' }
    expect(await one.client.external({ body: wrong }).catch(faultOf)).toMatchObject({ status: 400 })
    const person = house.client.harnessConversations
    expect(await person.resolvePrompt({ body: {} }).catch(faultOf)).toMatchObject({ status: 403 })
  })

  test('is told its task, its instructions, its skill, and what was before', async () => {
    const first = await taken({
      prompt: 'Count the files.',
      config: { harness: { type: 'claude' }, base_prompt: 'Be brief.' },
    })
    const skill = { name: 'count', content: 'Use wc.\n', path: '.agents/skills/count/SKILL.md' }
    expect(await first.client.resolvePrompt({ body: { skill } })).toEqual({
      prompt: 'Follow the skill "count" (.agents/skills/count/SKILL.md):\n\nUse wc.\n\nCount the files.',
      system_prompt: 'Be brief.',
    })
    await first.piece.append({ kind: 'prompt', text: 'Count the files.' }, { kind: 'text', text: 'There are 7.' })
    await finish(first.piece)
    const { conversation_id } = await house.client.runs.get({ params: { run_id: first.piece.run_id } })
    const second = await taken({ prompt: 'And the lines?', conversation_id })
    expect(await second.client.resolvePrompt({ body: {} })).toEqual({
      prompt: 'And the lines?',
      context: expect.stringMatching(/^You go on with this conversation:[\s\S]*There are 7\.$/),
    })
  })
})
