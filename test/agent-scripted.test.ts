import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { methods } from '@agentclientprotocol/sdk'
import { expect, test } from 'vitest'
import { folder, isAlive, refusalOf, repository, script, startAgent, toolTexts, usageOf } from './agent-client.ts'

const scripted = (turns: unknown[], more: Record<string, string> = {}) =>
  startAgent({ BATON_MODEL: 'scripted', BATON_SCRIPT: script(turns), ...more })

/** For what takes milliseconds on an idle machine. */
const wait_ms = 10_000

const call = (name: string, input: unknown) => ({ tools: [{ name, input }] })

test('without a script the scripted model surveys the repository with real tools and says what it is', async () => {
  const cwd = repository({ 'README.md': '# Teapot\n\nA lid.\n', 'pot.ts': 'export function pot() {}\n' })
  await using agent = await startAgent({ BATON_MODEL: 'scripted' })
  const started = Date.now()
  const answer = await agent.prompt(await agent.start(cwd), 'Survey this repository.')
  expect(answer.stopReason).toBe('end_turn')
  expect(Date.now() - started).toBeLessThan(8000)
  expect(agent.text()).toMatch(/^No model key was found, so these words are scripted/)
  expect(agent.text()).toContain('2 files with 4 lines. The history has 1 commits. 1 function definitions.')
  const report = readFileSync(join(cwd, 'BATON-REPORT.md'), 'utf8')
  expect(report).toContain('It calls itself **Teapot**')
  expect(report).toContain('- 2 files, 4 lines\n- 1 commits\n- 1 function')
  expect(report).toMatch(/- [0-9a-f]{7,} first/)
  const kinds = new Set(agent.updates.map(({ sessionUpdate }) => sessionUpdate))
  for (const kind of ['plan', 'agent_thought_chunk', 'tool_call', 'tool_call_update', 'usage_update'])
    expect(kinds).toContain(kind)
  const plans = agent.updates.flatMap((update) =>
    update.sessionUpdate === 'plan' ? [update.entries.map(({ status }) => status)] : [],
  )
  expect(plans.at(-1)).toEqual(['completed', 'completed', 'completed'])
})

test('an edit is told as a diff with its place, and an edit that does not fit tells the model what to do', async () => {
  const cwd = repository({ 'a.txt': 'one\ntwo\ntwo\n' })
  await using agent = await scripted([
    call('edit', { path: 'a.txt', old_text: 'three', new_text: 'x' }),
    call('edit', { path: 'a.txt', old_text: 'two', new_text: 'x' }),
    call('edit', { path: 'a.txt', old_text: 'one', new_text: 'uno' }),
    call('edit', { path: 'b.txt', old_text: 'one', new_text: 'uno' }),
    call('edit', { file: 'a.txt' }),
    call('fly', {}),
    { text: 'Done.' },
  ])
  await agent.prompt(await agent.start(cwd), 'Edit.')
  expect(readFileSync(join(cwd, 'a.txt'), 'utf8')).toBe('uno\ntwo\ntwo\n')
  const texts = toolTexts(agent.updates)
  expect(texts[0]).toMatch(/not found in a\.txt.*Read the file again/)
  expect(texts[1]).toMatch(/found 2 times in a\.txt.*replace_all/)
  expect(texts[3]).toMatch(/b\.txt does not exist/)
  expect(texts[4]).toMatch(/input of edit is not right/)
  expect(texts[5]).toMatch(/no tool fly. There are: bash, read/)
  const done = agent.updates.find(
    (update) => update.sessionUpdate === 'tool_call_update' && update.status === 'completed',
  )
  expect(done).toMatchObject({
    content: [{}, { type: 'diff', path: join(cwd, 'a.txt'), oldText: 'one\ntwo\ntwo\n', newText: 'uno\ntwo\ntwo\n' }],
  })
})

test('file tools do not leave the workspace, also not through links', async () => {
  const cwd = repository({ 'a.txt': 'one\n' })
  const outside = folder('outside')
  writeFileSync(join(outside, 'secret.txt'), 'secret')
  symlinkSync(outside, join(cwd, 'link'))
  symlinkSync(join(outside, 'new.txt'), join(cwd, 'dangling'))
  await using agent = await scripted([
    {
      tools: [
        { name: 'read', input: { path: '../../etc/passwd' } },
        { name: 'read', input: { path: 'link/secret.txt' } },
        { name: 'write', input: { path: 'link/deep/new.txt', content: 'x' } },
        { name: 'write', input: { path: 'dangling', content: 'x' } },
        { name: 'edit', input: { path: `${outside}/secret.txt`, old_text: 'secret', new_text: 'x' } },
        { name: 'list', input: { path: '..' } },
      ],
    },
  ])
  await agent.prompt(await agent.start(cwd), 'Escape.')
  const texts = toolTexts(agent.updates)
  expect(texts).toHaveLength(6)
  for (const text of texts) expect(text).toMatch(/outside of the workspace|symbolic link to nothing/)
  expect(readFileSync(join(outside, 'secret.txt'), 'utf8')).toBe('secret')
  expect(existsSync(join(outside, 'deep'))).toBe(false)
  expect(existsSync(join(outside, 'new.txt'))).toBe(false)
})

test('a flood of output is ended and cut, a slow command times out, and both say so', async () => {
  const cwd = folder('cwd')
  await using agent = await scripted([
    call('bash', { command: 'yes' }),
    call('bash', { command: 'echo begin; sleep 60', timeout_s: 1 }),
    call('bash', { command: 'seq 1 20000; exit 3' }),
  ])
  await agent.prompt(await agent.start(cwd), 'Flood.')
  const [flood = '', slow = '', long = ''] = toolTexts(agent.updates)
  expect(flood.length).toBeLessThan(31_000)
  expect(flood).toMatch(/\[… \d{8} bytes left out …\]/)
  expect(flood).toMatch(/it wrote more than 64 MB/)
  expect(slow).toMatch(/^begin\n\[The command was ended after 1 s/)
  expect(long).toMatch(/^1\n2\n/)
  expect(long).toMatch(/19999\n20000\n\[exit code 3\]$/)
  const ended = agent.updates.filter(
    (update) => update.sessionUpdate === 'tool_call_update' && update.status === 'failed',
  )
  expect(ended.at(-1)).toMatchObject({ rawOutput: { exit_code: 3 } })
})

test('cancel during a command ends its processes at once and the session can go on', async () => {
  const cwd = folder('cwd')
  await using agent = await scripted([
    call('bash', {
      command: 'sleep 300 & echo $! > child.pid; echo $$ > shell.pid; mkfifo ready; echo > ready & wait',
    }),
    { text: 'Still here.' },
  ])
  const sessionId = await agent.start(cwd)
  const turn = agent.prompt(sessionId, 'Sleep.')
  await agent.saw((update) => update.sessionUpdate === 'tool_call_update' && update.status === 'in_progress')
  await expect.poll(() => existsSync(join(cwd, 'ready')), { timeout: wait_ms }).toBe(true)
  const pids = ['child.pid', 'shell.pid'].map((name) => Number(readFileSync(join(cwd, name), 'utf8')))
  expect(pids.every(isAlive)).toBe(true)
  const cancelled = Date.now()
  await agent.acp.notify(methods.agent.session.cancel, { sessionId })
  expect((await turn).stopReason).toBe('cancelled')
  expect(Date.now() - cancelled).toBeLessThan(2000)
  await expect.poll(() => pids.some(isRunning), { timeout: wait_ms }).toBe(false)
  expect((await agent.prompt(sessionId, 'Go on.')).stopReason).toBe('end_turn')
  expect(agent.text()).toContain('Still here.')
})

/** A zombie that nobody has reaped yet does not run. */
const isRunning = (pid: number): boolean => {
  if (!isAlive(pid)) return false
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

test('when the client goes away, the agent ends what runs and exits', async () => {
  const cwd = folder('cwd')
  const agent = await scripted([call('bash', { command: 'echo $$ > shell.pid; sleep 300; true' })])
  const sessionId = await agent.start(cwd)
  agent.prompt(sessionId, 'Sleep.').catch(() => undefined)
  await expect
    .poll(() => existsSync(join(cwd, 'shell.pid')) && readFileSync(join(cwd, 'shell.pid'), 'utf8'), {
      timeout: wait_ms,
    })
    .toMatch(/\d/)
  const pid = Number(readFileSync(join(cwd, 'shell.pid'), 'utf8'))
  agent.child.stdin?.end()
  expect(await agent.exited).toBe(0)
  await expect.poll(() => isRunning(pid), { timeout: wait_ms }).toBe(false)
})

test('a session that asks runs only what was allowed; an unattended one does not ask', async () => {
  const cwd = folder('cwd')
  const turns = [
    {
      tools: [
        { name: 'write', input: { path: 'a.txt', content: 'a' } },
        { name: 'bash', input: { command: 'touch b.txt' } },
        { name: 'list', input: {} },
      ],
    },
  ]
  {
    const reject = script(turns)
    await using agent = await startAgent({ BATON_MODEL: 'scripted', BATON_SCRIPT: reject }, (options) =>
      options.find(({ kind }) => kind === 'reject_once'),
    )
    await agent.prompt(await agent.start(cwd, { mode: 'default' }), 'Write.')
    expect(agent.asked).toEqual(['Write a.txt', 'touch b.txt'])
    expect(existsSync(join(cwd, 'a.txt')) || existsSync(join(cwd, 'b.txt'))).toBe(false)
    expect(agent.updates).toContainEqual(expect.objectContaining({ status: 'failed', rawOutput: { denied: true } }))
  }
  await using agent = await scripted(turns)
  await agent.prompt(await agent.start(cwd), 'Write.')
  expect(agent.asked).toEqual([])
  expect(existsSync(join(cwd, 'a.txt')) && existsSync(join(cwd, 'b.txt'))).toBe(true)
})

test('search and list leave out ignored and binary files, in a repository and outside of one', async () => {
  const cwd = repository({
    '.gitignore': 'hidden.ts\n',
    'a.ts': 'const needle = 1\n',
    'b.md': 'needle\n',
    'c.bin': 'needle\0\n',
  })
  writeFileSync(join(cwd, 'hidden.ts'), 'needle\n')
  writeFileSync(join(cwd, 'new.ts'), 'let needle = 22\n')
  const plain = folder('plain')
  mkdirSync(join(plain, 'sub'))
  writeFileSync(join(plain, 'sub', 'x.ts'), 'needle\n')
  const turns = [
    call('search', { pattern: 'needle = \\d+', glob: '*.ts' }),
    call('search', { pattern: 'needle' }),
    call('search', { pattern: 'nowhere(' }),
    call('list', { glob: '**/*.ts' }),
  ]
  await using agent = await scripted(turns)
  await agent.prompt(await agent.start(cwd), 'Search.')
  const texts = toolTexts(agent.updates)
  expect(texts[0]?.split('\n').sort()).toEqual(['a.ts:1:const needle = 1', 'new.ts:1:let needle = 22'])
  expect(texts[1]?.split('\n').sort()).toEqual(['a.ts:1:const needle = 1', 'b.md:1:needle', 'new.ts:1:let needle = 22'])
  expect(texts[2]).toMatch(/search failed/)
  expect(texts[3]).toBe('a.ts\nnew.ts')
  await using other = await scripted(turns)
  await other.prompt(await other.start(plain), 'Search.')
  expect(toolTexts(other.updates)[1]).toBe('sub/x.ts:1:needle')
  expect(toolTexts(other.updates)[3]).toBe('sub/x.ts')
})

test('another process loads a session with its history, also after a kill in the midst of a command', async () => {
  const cwd = folder('cwd')
  const env = {
    BATON_AGENT_STATE_DIR: folder('state'),
    BATON_MODEL: 'scripted',
    BATON_SCRIPT: script([
      { text: 'First words.' },
      call('bash', { command: 'touch running; sleep 300' }),
      { text: 'Third words.' },
    ]),
  }
  const first = await startAgent(env)
  const sessionId = await first.start(cwd)
  await first.prompt(sessionId, 'One.')
  first.prompt(sessionId, 'Two.').catch(() => undefined)
  await expect.poll(() => existsSync(join(cwd, 'running')), { timeout: wait_ms }).toBe(true)
  first.child.kill('SIGKILL')
  await first.exited

  await using second = await startAgent(env)
  const loaded = await second.acp.request(methods.agent.session.load, { sessionId, cwd, mcpServers: [] })
  expect(loaded.modes?.currentModeId).toBe('default')
  expect(second.text()).toBe('First words.')
  expect(toolTexts(second.updates)).toEqual([expect.stringContaining('stopped before this tool call ended')])
  await second.prompt(sessionId, 'Three.')
  expect(second.text()).toContain('Third words.')
  const missing = second.acp.request(methods.agent.session.load, {
    sessionId: crypto.randomUUID(),
    cwd,
    mcpServers: [],
  })
  await expect(missing).rejects.toMatchObject({ code: -32002 })
})

test('a prompt during a turn joins it', async () => {
  const cwd = folder('cwd')
  await using agent = await scripted([
    call('bash', { command: 'until test -e go; do sleep 0.05; done' }),
    { text: 'Both heard.' },
  ])
  const sessionId = await agent.start(cwd)
  const one = agent.prompt(sessionId, 'One.')
  await agent.saw((update) => update.sessionUpdate === 'tool_call')
  const two = agent.prompt(sessionId, 'Two.')
  writeFileSync(join(cwd, 'go'), '')
  expect((await one).stopReason).toBe('end_turn')
  expect((await two)._meta).toMatchObject({ baton: { joined: true } })
  expect(agent.text()).toBe('Both heard.')
})

test('a turn ends at the limit of model calls, and the session says so', async () => {
  await using agent = await scripted(
    Array.from({ length: 5 }, () => call('list', {})),
    { BATON_MODEL_CALLS_MAX: '3' },
  )
  const answer = await agent.prompt(await agent.start(folder('cwd')), 'Loop.')
  expect(answer.stopReason).toBe('max_turn_requests')
  expect(agent.text()).toMatch(/3 model calls were made/)
})

test('tokens are summed over the calls of a prompt, and keys do not reach commands', async () => {
  await using agent = await scripted(
    [
      { ...call('bash', { command: 'env' }), usage: { input_tokens: 10, output_tokens: 5, cache_write_tokens: 7 } },
      { text: 'Done.', usage: { input_tokens: 1, output_tokens: 2, cache_read_tokens: 7 } },
    ],
    { OPENAI_API_KEY: 'sk-very-secret', OTHER: 'kept' },
  )
  const answer = await agent.prompt(await agent.start(folder('cwd')), 'Count.')
  expect(usageOf(answer)).toEqual({
    input_tokens: 11,
    output_tokens: 7,
    cache_read_tokens: 7,
    cache_write_tokens: 7,
    model: 'scripted/scripted',
  })
  expect(toolTexts(agent.updates)[0]).toContain('OTHER=kept')
  expect(toolTexts(agent.updates)[0]).not.toContain('sk-very-secret')
})

test('without any provider the prompt is refused with what to set', async () => {
  await using agent = await startAgent({})
  const { message, data } = await refusalOf(agent.prompt(await agent.start(folder('cwd')), 'Hello.'))
  expect(data).toEqual({ error_code: 'integration_not_configured', retryable: false, reason: 'no_model_key' })
  expect(message).toMatch(/ANTHROPIC_API_KEY.*BATON_MODEL_BASE_URL.*--model scripted/)
})

test('an unknown model, an empty prompt, a missing folder and a broken script are refused in words', async () => {
  const cwd = folder('cwd')
  await using agent = await startAgent({ OPENAI_API_KEY: 'none' })
  const sessionId = await agent.start(cwd)
  expect(await refusalOf(agent.prompt(sessionId, ' '))).toMatchObject({ message: 'The prompt is empty.' })
  await agent.acp.request(methods.agent.session.setConfigOption, { sessionId, configId: 'model', value: 'mystery' })
  expect(await refusalOf(agent.prompt(sessionId, 'x'))).toMatchObject({
    data: { error_code: 'invalid_request', reason: 'model_unknown' },
  })
  await agent.acp.request(methods.agent.session.setConfigOption, {
    sessionId,
    configId: 'model',
    value: 'claude-sonnet-5-5',
  })
  expect(await refusalOf(agent.prompt(sessionId, 'x'))).toMatchObject({
    message: expect.stringContaining('needs ANTHROPIC_API_KEY'),
  })
  expect(await refusalOf(agent.start(join(cwd, 'none')))).toMatchObject({
    message: expect.stringContaining('is not there'),
  })
  await using broken = await scripted([{ tool: 'bash' }])
  expect(await refusalOf(broken.prompt(await broken.start(cwd), 'x'))).toMatchObject({
    data: { reason: 'script_unreadable' },
  })
})
