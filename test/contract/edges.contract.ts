/** The edges of what runs are made and listed with: limits at and above, odd spellings, what is empty or missing. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { answered, ask, COMMAND, create, NOBODY, ownWorker, reaches, refused, runOf } from './asking.ts'
import { Artifact, CreatedRun, Problem, RunItem, RunList, UploadTarget } from './wire.ts'
import { MemoryStore } from './wire-named.ts'

const NONE = crypto.randomUUID()
const queued = (more: Record<string, unknown> = {}) => ({ prompt: 'wait', config: NOBODY, ...more })
const statusOf = async (body: unknown) => (await ask('POST', 'agent/runs', { body })).status
const Upload = z.object({ upload_id: z.string(), upload_target: UploadTarget })
const INVALID = { status: 400, code: 'invalid_request' }

describe('GET /agent/runs', () => {
  const mark = `edges-${process.pid}`
  let run_id = ''
  let created_at = ''
  beforeAll(async () => {
    run_id = await create(queued({ metadata: { mark } }))
    created_at = (await runOf(run_id)).created_at
  })
  const listed = async (query: string) =>
    (await answered(['GET', `agent/runs?metadata[mark]=${mark}&${query}`, RunList])).runs.map((run) => run.run_id)

  test('takes times in every spelling of RFC 3339, with zones and fractions', async () => {
    const at = new Date(created_at).getTime()
    const inZone = (ms: number, hours: number, zone: string) =>
      new Date(ms + hours * 3_600_000).toISOString().replace('Z', zone)
    for (const [spell, hours] of [
      ['Z', 0],
      ['%2B02:00', 2],
      ['+02:00', 2],
      ['-05:30', -5.5],
      ['000123Z', 0],
      ['%2B15:59', 15 + 59 / 60],
    ] as const) {
      expect(await listed(`created_after=${inZone(at - 1000, hours, spell)}`), spell).toEqual([run_id])
      expect(await listed(`created_after=${inZone(at + 1000, hours, spell)}`), spell).toEqual([])
      expect(await listed(`created_before=${inZone(at + 1000, hours, spell)}`), spell).toEqual([run_id])
      expect(await listed(`updated_after=${inZone(at + 1000, hours, spell)}`), spell).toEqual([])
    }
    expect(await listed(`created_after=${created_at.toLowerCase().replace(/\.\d+/, '')}`)).toEqual([run_id])
  })

  test.each([
    'yesterday',
    '',
    '2026-01-01',
    '2026-02-30T00:00:00Z',
    '2026-01-01T24:00:00Z',
    '2026-01-01T00:00:00',
    '0000-01-01T00:00:00Z',
    '2026-01-01T00:00:00-16:00',
    '2026-01-01T00:00:00%2B23:59',
    '1767225600',
  ])('refuses the time %j', async (time) => {
    for (const name of ['created_after', 'created_before', 'updated_after'])
      expect(await refused('GET', `agent/runs?${name}=${time}`)).toEqual(INVALID)
  })

  test.each(['0', '-1', '501', '1.5', 'many', '', '99999999999999999999', 'NaN', '5&limit=6'])(
    'refuses the limit %j',
    async (limit) => expect(await refused('GET', `agent/runs?limit=${limit}`)).toEqual(INVALID),
  )

  test('takes limits from 1 to 500, and 20 where none is said', async () => {
    expect((await answered(['GET', 'agent/runs?limit=1', RunList])).runs).toHaveLength(1)
    await answered(['GET', 'agent/runs?limit=500', RunList])
    const ids = await Promise.all(
      Array.from({ length: 21 }, () => create(queued({ metadata: { mark: `${mark}-20` } }))),
    )
    const first = await answered(['GET', `agent/runs?metadata[mark]=${mark}-20`, RunList])
    expect([first.runs.length, first.page_info.has_next_page]).toEqual([20, true])
    const cursor = first.page_info.next_cursor
    const rest = await answered(['GET', `agent/runs?metadata[mark]=${mark}-20&limit=7&cursor=${cursor}`, RunList])
    expect([rest.runs.length, rest.page_info]).toEqual([1, { has_next_page: false }])
    expect([...first.runs, ...rest.runs].map((run) => run.run_id).sort()).toEqual(ids.sort())
  })

  test('takes a cursor back for the same list alone', async () => {
    await create(queued({ metadata: { mark } }))
    const query = `metadata[mark]=${mark}&limit=1`
    const { page_info } = await answered(['GET', `agent/runs?${query}`, RunList])
    const cursor = `cursor=${page_info.next_cursor}`
    expect((await answered(['GET', `agent/runs?${query}&${cursor}`, RunList])).runs).toHaveLength(1)
    for (const other of ['sort_by=title', 'sort_by=created_at', 'sort_order=asc', 'state=QUEUED', 'q=wait'])
      expect(await refused('GET', `agent/runs?${query}&${other}&${cursor}`), other).toEqual(INVALID)
    for (const wrong of ['x', 'e30', 'bnVsbA', `${page_info.next_cursor}x`, '%F0%9F%98%80'])
      expect(await refused('GET', `agent/runs?${query}&cursor=${wrong}`), wrong).toEqual(INVALID)
    await answered(['GET', `agent/runs?${query}&cursor=`, RunList])
  })

  test.each([
    'sort_by=TITLE',
    'sort_by=',
    'sort_order=ASC',
    'sort_by=title&sort_by=agent',
    'state=LOST',
    'state=QUEUED,FAILED',
    'source=NOBODY',
    'execution_location=remote',
    'artifact_type=plan',
    `ancestor_run_id=${NONE}`,
    'ancestor_run_id=none',
    'metadata=a',
    'metadata[]=a',
    'metadata[a b]=c',
    'metadata[a]=b&metadata[a]=c',
    'metadata[__proto__]=c',
    [1, 2, 3, 4, 5, 6].map((at) => `metadata[k${at}]=v`).join('&'),
    `metadata[${'k'.repeat(65)}]=v`,
    `metadata[k]=${'v'.repeat(257)}`,
    'q=%00',
    'name=a%00',
    'name=',
    'model_id=',
    'creator=',
    'skill=',
    'environment_id=',
    'limit=0x10',
    'metadata[a][b]=c',
  ])('refuses %s', async (query) => expect(await refused('GET', `agent/runs?${query}`)).toEqual(INVALID))

  test.each([
    'factory_uid=none',
    'automation_id=none',
    `schedule_id=${NONE}`,
    'environment_id=none-such',
    'creator=nobody@example.test',
    'executor=nobody',
    'name=%F0%9F%98%80',
    'q=%25_%5C',
    'metadata[constructor]=x',
  ])('matches nothing with %s', async (query) => {
    const { runs } = await answered(['GET', `agent/runs?${query}`, RunList])
    expect(runs).toEqual([])
  })

  test('calls a webhook of an agent the API, as clients of Oz do', async () => {
    expect(await listed('source=AGENT_WEBHOOK')).toEqual(await listed('source=API'))
    const headers = { 'x-oz-api-source': 'AGENT_WEBHOOK' }
    const made = await answered(['POST', 'agent/runs', CreatedRun], { body: queued(), headers })
    expect((await runOf(made.run_id)).source).toBe('API')
  })
})

describe('POST /agent/runs', () => {
  test.each<[string, Record<string, unknown>]>([
    ['no prompt', { prompt: undefined }],
    ['an empty prompt', { prompt: ' \n' }],
    ['a prompt of 1 MiB and a byte', { prompt: 'x'.repeat(1024 * 1024 + 1) }],
    ['a mode that is none', { mode: 'PLAN' }],
    ['21 keys', { metadata: Object.fromEntries(Array.from({ length: 21 }, (_, at) => [`k${at}`, ''])) }],
    ['a key of 65', { metadata: { ['k'.repeat(65)]: '' } }],
    ['an empty key', { metadata: { '': '' } }],
    ['a key with a space', { metadata: { 'a b': '' } }],
    ['a value of 257 bytes', { metadata: { a: `${'é'.repeat(128)}x` } }],
    ['a value with NUL', { metadata: { a: '\0' } }],
    ['a number as a value', { metadata: { a: 1 } }],
    ['a parent that is none', { parent_run_id: NONE }],
    ['a parent that is no id', { parent_run_id: 'none' }],
    ['a conversation that is none', { conversation_id: NONE }],
    ['an agent that is none', { agent_identity_uid: 'x'.repeat(22) }],
    ['6 files', { attachments: Array(6).fill({ file_name: 'a.txt', mime_type: 'text/plain', data: 'aGk=' }) }],
    ['an environment that is none', { config: { environment_id: 'x'.repeat(22) } }],
    ['0 idle minutes', { config: { idle_timeout_minutes: 0 } }],
    ['61 idle minutes', { config: { idle_timeout_minutes: 61 } }],
    ['half an idle minute', { config: { idle_timeout_minutes: 1.5 } }],
    ['full public access', { config: { session_sharing: { public_access: 'FULL' } } }],
    ['a skill and others', { config: { skill_spec: 'o/r:a', skills: ['o/r:b'] } }],
    ['an MCP server that is two', { config: { mcp_servers: { a: { command: 'x', url: 'https://x.test' } } } }],
    ['an MCP server that is none', { config: { mcp_servers: { a: {} } } }],
    ['an MCP server of no program', { config: { mcp_servers: { a: { command: ' ' } } } }],
    [
      'a memory store without a word',
      { config: { memory_stores: [{ uid: 'a', access: 'read_only', instructions: '' }] } },
    ],
    ['a strategy that is none', { config: { credential_strategy: 'creator' } }],
  ])('refuses %s', async (_, more) => {
    const answer = await ask('POST', 'agent/runs', { body: queued(more) })
    expect([answer.status, Problem.parse(answer.json).type.split('/').at(-1)]).toEqual([400, 'invalid_request'])
    expect(Problem.parse(answer.json).error).not.toMatch(/Invalid input\.|invalid key in record/)
  })

  test.each<[string, Record<string, unknown>]>([
    [
      '20 keys of 64 with values of 256 bytes',
      {
        metadata: Object.fromEntries(
          Array.from({ length: 20 }, (_, at) => [`${at}`.padEnd(64, '._-Z'), 'é'.repeat(128)]),
        ),
      },
    ],
    ['an empty value', { metadata: { a: '' } }],
    ['5 files', { attachments: Array(5).fill({ file_name: 'a.txt', mime_type: 'text/plain', data: 'aGk=' }) }],
    ['a skill instead of a prompt', { prompt: undefined, skill: 'o/r:a' }],
    ['skills instead of a prompt', { prompt: undefined, config: { ...NOBODY, skills: ['o/r:a', 'o/r:b'] } }],
    ['each mode', { mode: 'orchestrate' }],
    ['what is interactive', { interactive: true }],
    ['60 idle minutes', { config: { ...NOBODY, idle_timeout_minutes: 60 } }],
    ['null for a harness and a strategy', { config: { ...NOBODY, harness: null, credential_strategy: null } }],
    ['text in every script', { prompt: '日本語 ☃ 😀 \u202e', title: 'e\u0301'.repeat(100) }],
  ])('takes %s', async (_, more) => {
    const made = await answered(['POST', 'agent/runs', CreatedRun], { body: queued(more) })
    const run = await runOf(made.run_id)
    if (more.metadata) expect(run.metadata).toEqual(more.metadata)
    if (more.title) expect([run.title, run.prompt]).toEqual([more.title, more.prompt])
  })

  test('takes null for what may be absent', async () => {
    const names = ['title', 'skill', 'metadata', 'parent_run_id', 'conversation_id', 'attachments', 'mode', 'team']
    const more = ['interactive', 'on_behalf_of', 'agent_identity_uid', 'initial_snapshot_token', 'snapshot_disabled']
    const settings = [
      'name',
      'model_id',
      'base_prompt',
      'environment_id',
      'runner_id',
      'skill_spec',
      'skills',
      'harness',
    ]
    const others = ['mcp_servers', 'idle_timeout_minutes', 'computer_use_enabled', 'memory_stores', 'session_sharing']
    const nulls = (all: string[]) => Object.fromEntries(all.map((name) => [name, null]))
    const config = { ...nulls([...settings, ...others, 'inference_providers', 'harness_auth_secrets']), ...NOBODY }
    const body = { prompt: 'wait', ...nulls([...names, ...more]), config }
    const run = await runOf((await answered(['POST', 'agent/runs', CreatedRun], { body })).run_id)
    expect(run).toMatchObject({ title: 'wait', metadata: {}, scope: { type: 'Team' } })
    expect(run.agent_config).toEqual(NOBODY)
    await answered(['POST', 'agent/runs', CreatedRun], { body: { prompt: 'wait', config: null } })
    for (const wrong of [
      { prompt: null },
      { metadata: { a: null } },
      { attachments: [null] },
      { skill: null, prompt: null },
    ])
      expect(await refused('POST', 'agent/runs', { body: queued(wrong) })).toEqual(INVALID)
  })

  test('answers a configuration as it was asked for, without what was left empty', async () => {
    const configOf = async (config: Record<string, unknown>) =>
      (await runOf(await create({ prompt: 'wait', config: { ...config, worker_host: 'nobody' } }))).agent_config
    const nobody = { worker_host: 'nobody' }
    const nulls = { harness: { type: 'claude', model_id: null, reasoning_level: null }, environment_id: null }
    expect(await configOf(nulls)).toEqual({ ...nobody, harness: { type: 'claude' } })
    expect(await configOf({ harness: { type: '' }, name: '', model_id: '', base_prompt: '' })).toEqual({
      ...nobody,
      harness: { type: 'oz' },
    })
    const blank = {
      environment_id: '',
      credential_strategy: '',
      runner_id: '',
      computer_use_model_id: '',
      skill_spec: '',
    }
    expect(await configOf({ ...blank, session_sharing: { public_access: '' } })).toEqual({
      ...nobody,
      session_sharing: {},
    })
    expect(await configOf({ skills: ['o/r:a', 'o/r:b'] })).toMatchObject({ name: 'a', skill_spec: 'o/r:a' })
    const either = {
      a: { warp_id: null, command: 'x', args: null, env: null, url: null },
      b: { command: null, url: 'https://x.test/', headers: null },
    }
    expect(await configOf({ mcp_servers: either })).toEqual({
      ...nobody,
      mcp_servers: { a: { command: 'x', args: [], env: {} }, b: { url: 'https://x.test/', headers: {} } },
    })
    const store = await answered(['POST', 'memory_stores', MemoryStore, 201], { body: { description: null } })
    const whole = {
      name: 'whole',
      model_id: 'm',
      base_prompt: 'Be kind.',
      runner_id: 'r',
      computer_use_enabled: false,
      computer_use_model_id: 'c',
      idle_timeout_minutes: 1,
      harness: { type: 'codex', model_id: 'm', reasoning_level: 'high' },
      inference_providers: { aws: { disabled: false, region: 'eu-west-1', role_arn: 'arn:aws:iam::1:role/x' } },
      memory_stores: [{ uid: store.uid, access: 'read_write', instructions: 'Remember.' }],
      credential_strategy: 'EXECUTOR',
      session_sharing: { public_access: 'VIEWER' },
      mcp_servers: {
        a: { command: 'x', args: ['y'], env: { Z: '1' } },
        b: { url: 'https://x.test/', headers: { h: '1' } },
      },
    }
    expect(await configOf(whole)).toEqual({ ...whole, ...nobody })
  })

  test('an empty worker is no worker in particular, as warp is', async () => {
    for (const host of ['', 'warp']) {
      const run_id = await create({ prompt: 'true', config: { ...COMMAND, worker_host: host } })
      await reaches(run_id, 'SUCCEEDED')
    }
  })

  test.each(['/plan', '/orchestrate'])('%s before a prompt is part of it, and no mode', async (word) => {
    const prompt = `${word} Tidy up.`
    const { json } = await ask('GET', `agent/runs/${await create(queued({ prompt }))}`)
    expect(json).toMatchObject({ prompt, mode: 'normal' })
  })

  test('a title that is absent or empty is made of the prompt', async () => {
    for (const title of [undefined, '', '  '])
      expect((await runOf(await create(queued({ prompt: 'First line\nsecond', title })))).title).toBe('First line')
  })

  test('the same key and body are one run on either path; a key has 1 to 255 characters', async () => {
    const key = crypto.randomUUID().padEnd(255, 'k')
    const how = { body: queued(), headers: { 'idempotency-key': key } }
    const [first, again] = [await ask('POST', 'agent/runs', how), await ask('POST', 'agent/run', how)]
    expect([again.status, again.json]).toEqual([200, first.json])
    for (const wrong of ['', `${key}k`])
      expect(await refused('POST', 'agent/runs', { body: queued(), headers: { 'idempotency-key': wrong } })).toEqual(
        INVALID,
      )
  })

  test('bodies are JSON in UTF-8, not compressed, of each name once', async () => {
    const sent = async (body: string, headers: Record<string, string> = {}) =>
      (await ask('POST', 'agent/runs', { body, headers })).status
    const good = JSON.stringify(queued())
    expect(await sent(`\ufeff${good}`)).toBe(200)
    expect(await sent(good, { 'content-type': 'application/json; charset=UTF-8' })).toBe(200)
    expect(await sent(good, { 'content-type': 'text/plain' })).toBe(415)
    expect(await sent(good, { 'content-encoding': 'gzip' })).toBe(415)
    for (const wrong of ['[]', '"text"', '{"prompt":"a","prompt":"b"}', '{"prompt":"\\ud800"}', '{"prompt":'])
      expect(await sent(wrong), wrong).toBe(400)
    expect(await statusOf({ prompt: 'x'.repeat(1024 * 1024), config: NOBODY })).toBe(200)
  })
})

describe('one run', () => {
  test('is named by its id in upper case, too, and answered as it is', async () => {
    const run_id = await create(queued())
    expect((await answered(['GET', `agent/runs/${run_id.toUpperCase()}`, RunItem])).run_id).toBe(run_id)
    const child = await create(queued({ parent_run_id: run_id.toUpperCase() }))
    expect((await runOf(child)).parent_run_id).toBe(run_id)
    expect(await answered(['POST', `agent/runs/${run_id.toUpperCase()}/cancel`, z.string()])).toBe(run_id)
  })

  test.each(['none', '%00', '%E0%A4%A', '..%2f..%2fagent', NONE, '00000000-0000-0000-0000-000000000000', '%20'])(
    'is not found by %s',
    async (id) => {
      expect(await refused('GET', `agent/runs/${id}`)).toEqual({ status: 404, code: 'resource_not_found' })
      expect((await refused('POST', `agent/runs/${id}/cancel`, { body: 'null' })).status).toBe(404)
      expect((await refused('GET', `agent/artifacts/${id}`)).status).toBe(404)
    },
  )

  test('is cancelled once; a second time is 400, as what has ended', async () => {
    const run_id = await create(queued())
    for (const path of ['runs', 'tasks']) {
      const answer = await ask('POST', `agent/${path}/${run_id}/cancel`, { body: 'null' })
      expect([answer.status, answer.headers.get('content-type')]).toEqual(
        path === 'runs' ? [200, 'application/json'] : [400, 'application/problem+json'],
      )
    }
  })
})

describe('a run that a worker has worked on', () => {
  let worker: Awaited<ReturnType<typeof ownWorker>>
  beforeAll(async () => {
    worker = await ownWorker()
  })
  afterAll(() => worker.close())

  test('says what failed, whether it is worth another try, and what it took', async () => {
    const piece = await worker.take({ config: { max_tries: 1 } })
    piece.claim()
    await piece.start()
    expect(await runOf(piece.run_id)).toMatchObject({ state: 'INPROGRESS', is_sandbox_running: true })
    const failure = { error_code: 'environment_setup_failed' as const, message: 'pnpm: not found', retryable: false }
    await piece.finish({ outcome: 'FAILED', failure })
    piece.complete()
    const run = await reaches(piece.run_id, 'FAILED')
    expect(run.status_message).toEqual({ message: failure.message, error_code: failure.error_code, retryable: false })
    expect(run).toMatchObject({
      is_sandbox_running: false,
      is_run_type_cancellable: true,
      run_time: expect.any(String),
    })
    expect(Date.parse(run.started_at ?? '')).toBeGreaterThanOrEqual(Date.parse(run.created_at))
  })

  test('lists what it made in the shape of each kind, and serves it by an address that needs no key', async () => {
    const piece = await worker.take({ config: { session_sharing: { public_access: 'VIEWER' } } })
    piece.claim()
    await piece.start()
    const key = piece.assignment.env_vars.WARP_API_KEY ?? ''
    const links = [
      { artifact_type: 'PULL_REQUEST', data: { url: 'https://github.com/octo/tools/pull/7', branch: 'fix' } },
      {
        artifact_type: 'EXTERNAL_REFERENCE',
        data: { reference_type: 'ticket', url: 'https://x.test/1', metadata: { a: 1 } },
      },
    ]
    for (const body of links)
      expect((await ask('POST', 'harness-support/report-artifact', { key, body })).status).toBe(200)
    const files = [
      { artifact_type: 'SCREENSHOT', filepath: 'shots/a b.png', mime_type: 'image/png', description: 'The page.' },
      { artifact_type: 'FILE', filepath: 'out/é.txt', title: 'Out' },
    ]
    const uids: string[] = []
    for (const file of files) {
      const upload = await answered(['POST', 'agent/artifacts/uploads', Upload], {
        body: { run_id: piece.run_id, ...file },
      })
      const { url, method, headers } = upload.upload_target
      expect((await fetch(url, { method, headers: headers ?? {}, body: 'bytes' })).ok).toBe(true)
      const { json } = await ask('POST', `agent/artifacts/uploads/${upload.upload_id}/confirm`, { body: {} })
      uids.push(z.object({ artifact_uid: z.string() }).parse(json).artifact_uid)
    }
    await piece.finish()
    piece.complete()
    const run = await reaches(piece.run_id, 'SUCCEEDED')
    expect(run.artifacts).toMatchObject([
      ...links,
      { artifact_type: 'SCREENSHOT', data: { mime_type: 'image/png', description: 'The page.' } },
      { artifact_type: 'FILE', data: { filepath: 'out/é.txt', filename: 'é.txt', size_bytes: 5, title: 'Out' } },
    ])
    for (const [at, uid] of uids.entries()) {
      const artifact = await answered(['GET', `agent/artifacts/${uid.toUpperCase()}`, Artifact])
      if (artifact.artifact_type === 'PLAN') throw new Error('a plan')
      const { download_url, expires_at } = artifact.data
      expect([artifact.artifact_uid, artifact.artifact_type]).toEqual([uid, files[at]?.artifact_type])
      expect(Date.parse(expires_at)).toBeGreaterThan(Date.now())
      expect(await (await fetch(download_url)).text()).toBe('bytes')
      expect(await (await fetch(download_url, { headers: { range: 'bytes=1-2' } })).text()).toBe('yt')
      expect((await fetch(download_url, { method: 'HEAD' })).headers.get('content-length')).toBe('5')
      for (const wrong of [
        download_url.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')),
        download_url.replace(/\?.*/, ''),
      ]) {
        const refusal = await fetch(wrong)
        expect(refusal.status).toBeGreaterThanOrEqual(400)
        expect(refusal.status).toBeLessThan(500)
        Problem.parse(await refusal.json())
      }
      // What is shown to all is read without a key, but for where it lay.
      const { json } = await ask('GET', `agent/artifacts/${uid}`, { key: null })
      expect(json).toMatchObject({ artifact_uid: uid, data: { download_url: expect.any(String) } })
      expect(JSON.stringify(json)).not.toContain('filepath')
      expect((await ask('GET', `agent/artifacts/${uid}`, { key: 'wk-1.wrong' })).status).toBe(401)
    }
    for (const artifact_type of ['PULL_REQUEST', 'EXTERNAL_REFERENCE', 'SCREENSHOT', 'FILE'])
      expect(
        (await answered(['GET', `agent/runs?limit=500&artifact_type=${artifact_type}`, RunList])).runs.map(
          (one) => one.run_id,
        ),
      ).toContain(piece.run_id)
  })
})
