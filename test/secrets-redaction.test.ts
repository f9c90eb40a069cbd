/** What runs are given in confidence is seen nowhere: not in what they print, say, report, or leave behind. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { LLMock } from '@copilotkit/aimock'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { isEnded, type NewSecret, routes, type StreamFrame } from '../src/contract/index.ts'
import { openKeyring } from '../src/engine/keyring.ts'
import { logIn } from '../src/runner/cloud.ts'
import { follow } from '../src/sdk/stream.ts'
import { type House, startHouse } from './house/house.ts'
import { serveOnLoopback } from './house/loopback.ts'
import { callTool, openMcpClient } from './house/mcp-agent.ts'
import { type Loopback, listenOnLoopback } from './house/port.ts'
import { processesOf, startWorkerProcess, until, type WorkerProcess } from './house/processes.ts'

const RUNNER = [process.execPath, join(import.meta.dirname, 'house', 'runner-process.ts')]
const BUILT_IN = join(import.meta.dirname, '../src/agent/main.ts')
/** Any so many characters of a secret in a row are a leak. */
const WINDOW = 12

let folder: string
let house: House
let crew: WorkerProcess
let names = 0
const model = new LLMock({ port: 0, logLevel: 'silent' })
/** Before the model, to see the keys that it is asked with. */
const shown_keys: unknown[] = []
let front: Loopback
const passing = createServer((incoming, outgoing) => {
  shown_keys.push(incoming.headers['x-api-key'])
  const { method = 'GET', headers } = incoming
  incoming.pipe(
    request(model.url + incoming.url, { method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(outgoing)
    }),
  )
})

/** Real processes start here, on machines that may have little to start them with. */
vi.setConfig({ testTimeout: 60_000 })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'baton-redaction-'))
  await model.start()
  front = await listenOnLoopback(passing)
  house = await startHouse({
    max_concurrent_runs: 20,
    blobs_dir: join(folder, 'blobs'),
    keyring: await openKeyring({ file: join(folder, 'keys') }),
  })
  const baton = { command: process.execPath, args: [BUILT_IN, 'acp-agent'], tool_hold_ms: 1000 }
  crew = startWorkerProcess({
    server: house.url,
    api_key: house.api_key,
    state_dir: join(folder, 'state'),
    runner: RUNNER,
    environment: { ANTHROPIC_BASE_URL: front.url, BATON_HARNESSES: JSON.stringify({ baton }) },
  })
})
afterAll(async () => {
  await crew.kill()
  await house.close()
  await front.close()
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

const newName = () => `TELLTALE_${++names}`
const newValue = () => randomBytes(24).toString('base64url')
const keep = (body: Partial<NewSecret> & { value: NewSecret['value'] }) =>
  house.client.secrets.create({ body: { name: newName(), ...body } })
const runOf = (run_id: string) => house.client.runs.get({ params: { run_id } })
const ends = (run_id: string) => until('the run ends', async () => isEnded((await runOf(run_id)).state), 50_000)

function expectNothingOf(value: string, text: string): void {
  const encoded = [
    value,
    Buffer.from(value).toString('base64'),
    Buffer.from(value).toString('hex'),
    [...value].reverse().join(''),
  ]
  for (const one of encoded)
    for (let at = 2; at + WINDOW <= one.length - 2; at++) expect(text.includes(one.slice(at, at + WINDOW))).toBe(false)
}

/** Every row of every table, and every blob, unpacked where it is packed. */
async function everythingKept(): Promise<string> {
  const { kysely } = house.database
  const { rows } = await sql<{ name: string }>`select relname as name from pg_class
    where relnamespace = current_schema()::regnamespace and relkind = 'r'`.execute(kysely)
  const texts = await Promise.all(
    rows.map(async ({ name }) => {
      const all = await sql<{ text: string }>`select row_to_json(t)::text as text from ${sql.table(name)} t`.execute(
        kysely,
      )
      return all.rows.map(({ text }) => text).join('\n')
    }),
  )
  const files = await readdir(join(folder, 'blobs'), { recursive: true, withFileTypes: true }).catch(() => [])
  const blobs = await Promise.all(
    files.filter((file) => file.isFile()).map((file) => readFile(join(file.parentPath, file.name))),
  )
  return [...texts, ...blobs.map((blob) => unpacked(blob).toString('latin1'))].join('\n')
}
/** A session's file is packed, behind some bytes that make it its own. */
function unpacked(bytes: Buffer): Buffer {
  const at = bytes.indexOf(Buffer.from([0x1f, 0x8b, 0x08]))
  return at >= 0 && at < 64 ? gunzipSync(bytes.subarray(at)) : bytes
}

/** Processes come and go. */
function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1')
  } catch {
    return ''
  }
}

/** What a watcher of all runs is shown while `work` goes on. */
async function watched(run_id: string, work: () => Promise<unknown>): Promise<StreamFrame[]> {
  const seen: StreamFrame[] = []
  const watching = new AbortController()
  const following = (async () => {
    const query = () => ({ run_ids: [run_id], entries_after: [''] })
    for await (const { frame } of follow(house.client, routes.events.follow, { query, signal: watching.signal }))
      seen.push(frame)
  })().catch(() => {})
  await work()
  watching.abort()
  await following
  return seen
}

test('a command that prints it slowly, encoded and in its last words shows it to nobody', async () => {
  const environment = await house.client.environments.create({ body: { name: newName() } })
  const value = newValue()
  const { name } = await keep({ value, environment_id: environment.uid })
  const prompt = [
    'echo begun',
    `v=$${name}`,
    // Over two seconds: the live text and the entries are cut in its middle.
    `for i in $(seq 0 $((\${#v} - 1))); do printf %s "\${v:$i:1}"; sleep 0.07; done; echo " was slow"`,
    `printf %s "$v" | base64; printf 'user:%s' "$v" | base64; printf %s "$v" | od -An -tx1 | tr -d ' \\n'`,
    `echo; echo "{\\"a\\":\\"$v\\"}"; printf %s "$v" | rev`,
    'printf "over here: %s\\n" "$v" >&2; exit 3',
  ].join('\n')
  const { run_id } = await house.client.runs.create({
    body: { prompt, config: { environment_id: environment.uid, harness: { type: 'command' }, worker_host: 'crew' } },
  })
  const seen = await watched(run_id, () => ends(run_id))
  const run = await runOf(run_id)
  expect(run).toMatchObject({ state: 'FAILED', status_message: { message: expect.stringContaining('over here: •••') } })
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  const printed = entries.map(({ body }) => (body.kind === 'output' ? body.text : '')).join('')
  expect(printed).toContain('••• was slow')
  const live = seen.flatMap((frame) => (frame.type === 'deltas' ? frame.deltas : []))
  expect(live.length).toBeGreaterThan(0)
  for (const text of [printed, live.map((delta) => delta.text).join(''), JSON.stringify([run, entries, seen])])
    expectNothingOf(value, text)
  expectNothingOf(value, await everythingKept())
  expectNothingOf(value, crew.log())
})

test('a model that says it in many pieces, and a session that remembers it; the key of the model stays outside', async () => {
  const environment = await house.client.environments.create({ body: { name: newName() } })
  const inside = { environment_id: environment.uid }
  const [value, key] = [newValue(), `sk-ant-${newValue()}`]
  const { name } = await keep({ value, ...inside })
  await keep({ type: 'anthropic_api_key', value: key, ...inside })
  const usage = { input_tokens: 3, output_tokens: 4 }
  const hold = join(folder, 'go')
  const command = `echo "it is $${name}"; env | grep -c ANTHROPIC; until [ -e ${hold} ]; do sleep 0.05; done`
  model.addFixture({
    match: { hasToolResult: true },
    response: { content: `You gave me ${value}, and I keep it.`, usage },
    chunkSize: 5,
    latency: 60,
  })
  model.onMessage(/Tell/, { toolCalls: [{ name: 'bash', arguments: JSON.stringify({ command }) }], usage })
  const { run_id } = await house.client.runs.create({
    body: { prompt: 'Tell me.', config: { ...inside, harness: { type: 'baton' }, worker_host: 'crew' } },
  })
  const seen = await watched(run_id, async () => {
    const environments = await until(
      'the tool is at work',
      async () => {
        const { execution_id = '' } = await runOf(run_id)
        const found = processesOf(execution_id).map(environmentOf)
        return found.some((text) => text.includes(value)) ? found : null
      },
      40_000,
    )
    for (const text of environments) expect(text.includes(key)).toBe(false)
    await writeFile(hold, '')
    await ends(run_id)
  })
  expect(await runOf(run_id)).toMatchObject({ state: 'SUCCEEDED' })
  // The provider was asked with the real key.
  expect(new Set(shown_keys)).toEqual(new Set([key]))
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  const said = entries.flatMap(({ body }) => (body.kind === 'text' ? [body.text] : []))
  expect(said).toContain('You gave me •••, and I keep it.')
  const live = seen.flatMap((frame) => (frame.type === 'deltas' ? frame.deltas : []))
  expect(live.map(({ text }) => text).join('')).toContain('•••')
  const kept = await everythingKept()
  // The session is kept, without it.
  expect(kept.includes(`You gave me ${'*'.repeat(value.length)}, and I keep it.`)).toBe(true)
  for (const secret of [value, key])
    for (const text of [JSON.stringify([entries, seen]), live.map(({ text: one }) => one).join(''), kept, crew.log()])
      expectNothingOf(secret, text)
})

test('what a program inside says past its runner, and a worker of it, holds it nowhere', async () => {
  const value = newValue()
  const secret = await keep({ value })
  const worker = await house.worker({ worker_host: 'scripted' })
  const begin = async () => {
    const config = { worker_host: 'scripted', secrets: [{ name: secret.name }] }
    await house.client.runs.create({ body: { prompt: 'lead', config } })
    const piece = await worker.next()
    piece.claim()
    await piece.start()
    return piece
  }
  const piece = await begin()
  const { runner } = piece
  await runner.harnessSupport.notifyUser({ body: { message: `It is ${value}.` } })
  await runner.harnessSupport.reportArtifact({
    body: {
      artifact_type: 'EXTERNAL_REFERENCE',
      data: { reference_type: 'page', url: `https://example.com/?q=${value}`, title: value },
    },
  })
  const { run_id } = await runner.runs.create({ body: { prompt: `Use ${value}.`, config: { secrets: [] } } })
  await runner.messages.send({ body: { to: [run_id], subject: value, body: Buffer.from(value).toString('base64') } })
  const mcp = await openMcpClient(house.url, piece.assignment.env_vars.WARP_API_KEY ?? '')
  const answer = await callTool(mcp, 'send_message_to_agent', {
    to: [run_id],
    subject: 'again',
    message: `so: ${value}`,
  })
  expect(answer.is_error).toBe(false)
  await mcp.close()
  await runner.harnessSupport.finishTask({ body: { success: true, summary: `${value} it was.` } })
  const { prompt } = await house.client.runs.get({ params: { run_id } })
  expect(prompt).toBe('Use •••.')
  const other = await begin()
  other.fail(`Its last lines were: ${value}`, 'container_exit')
  const failed = await until('the run has a reason', async () => {
    const { status_message } = await runOf(other.run_id)
    return status_message?.message ? status_message : null
  })
  expect(failed.message).toContain('Its last lines were: •••')
  expectNothingOf(value, await everythingKept())
})

describe('a secret that an MCP server names', () => {
  /** Says what it was started with; in the shape of MCP over stdio. */
  const CLERK = `
    const say = (id, more) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, ...more }) + '\\n')
    require('node:readline').createInterface(process.stdin).on('line', (line) => {
      const { id, method, params } = JSON.parse(line)
      if (method === 'initialize')
        say(id, { result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} },
          serverInfo: { name: 'clerk', version: '1' } } })
      else if (method === 'tools/list')
        say(id, { result: { tools: [{ name: 'show', inputSchema: { type: 'object' } }] } })
      else if (method === 'tools/call') {
        require('node:fs').writeFileSync(process.env.OUT, process.argv.slice(2).join() + ' ' + process.env.TOKEN)
        say(id, { result: { content: [{ type: 'text', text: 'I was given ' + process.env.TOKEN }] } })
      } else if (id !== undefined) say(id, { error: { code: -32601, message: 'no such method' } })
    })`

  test('reaches that server alone, when it is started, and is seen nowhere', async () => {
    const [out, script, clerk] = ['out', 'script.json', 'clerk.cjs'].map((file) => join(folder, file)) as [
      string,
      string,
      string,
    ]
    const look = { name: 'bash', input: { command: 'env | grep -c TELLTALE; env | grep -c TOKEN_OF_THE_CLERK' } }
    await writeFile(clerk, CLERK)
    await writeFile(script, JSON.stringify([{ tools: [{ name: 'mcp__clerk__show', input: {} }, look] }, { text: '.' }]))
    const [for_clerk, for_web] = [newValue(), newValue()]
    const named = await keep({ value: for_clerk })
    const shared = await keep({ value: for_web })
    const asked: string[] = []
    const web = await serveOnLoopback(({ url = '', headers }, _body, response) => {
      asked.push(`${url} ${headers['x-token']}`)
      response.writeHead(404).end()
    })
    const environment = await house.client.environments.create({
      body: {
        name: newName(),
        mcp_servers: {
          web: {
            url: `${web}/mcp/{{${shared.name}}}`,
            headers: { 'x-token': `it is {{ ${shared.name} }}` },
          },
        },
      },
    })
    const args = [clerk, `--key={{${named.name}}}`]
    const mcp_servers = {
      clerk: { command: process.execPath, args, env: { TOKEN: `a {{${named.name}}}`, OUT: out } },
    }
    const { run_id } = await house.client.runs.create({
      body: {
        prompt: 'Ask the clerk.',
        config: {
          model_id: 'scripted',
          harness: { type: 'baton' },
          worker_host: 'crew',
          secrets: [],
          environment_id: environment.uid,
          environment: { variables: { BATON_SCRIPT: script } },
          mcp_servers,
        },
      },
    })
    await ends(run_id)
    const run = await runOf(run_id)
    expect([run.state, run.status_message]).toMatchObject(['SUCCEEDED', {}])
    expect(run.agent_config?.mcp_servers).toEqual(mcp_servers)
    expect(readFileSync(out, 'utf8')).toBe(`--key=${for_clerk} a ${for_clerk}`)
    expect(asked).toContain(`/mcp/${for_web} it is ${for_web}`)
    const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
    const said = JSON.stringify(entries)
    expect(said).toContain('I was given a •••')
    // Neither is a variable of what the agent starts.
    expect(entries.some(({ body }) => body.kind === 'tool_result' && JSON.stringify(body).includes('0\\n0'))).toBe(true)
    const kept = await everythingKept()
    for (const value of [for_clerk, for_web])
      for (const text of [said, JSON.stringify(run), kept, crew.log()]) expectNothingOf(value, text)
  })

  const serverWith = (name: string) => ({
    linear: { url: 'https://mcp.example/', headers: { a: `Bearer {{${name}}}` } },
  })

  test('is one that the run may have, in one piece; a child has no more than its parent', async () => {
    const [own, other] = [await keep({ value: newValue() }), await keep({ value: newValue() })]
    const parts = { access_key_id: 'AKIAEXAMPLE', secret_access_key: newValue(), region: 'eu-west-1' }
    const several = await keep({ type: 'anthropic_bedrock_access_key', value: parts })
    const ask = (name: string) =>
      house.client.runs.create({ body: { prompt: 'x', config: { mcp_servers: serverWith(name) } } })
    const at = [{ pointer: '/config/mcp_servers/linear', detail: expect.any(String) }]
    for (const [name, words] of [
      ['NOT_THERE', 'MCP server linear names the secret NOT_THERE'],
      [several.name, 'of several parts'],
    ] as const)
      await expect(ask(name)).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringContaining(words),
        details: { errors: at },
      })
    const worker = await house.worker({ worker_host: 'narrow' })
    const config = { worker_host: 'narrow', secrets: [], mcp_servers: serverWith(own.name) }
    await house.client.runs.create({ body: { prompt: 'lead', config } })
    const piece = await worker.next()
    piece.claim()
    const { secrets, config: given } = await piece.start()
    expect(secrets).toMatchObject({ variables: {}, chosen: {}, hidden: [expect.any(String)], problem: null })
    expect(Object.keys(secrets?.mcp ?? {})).toEqual([own.name])
    expect(given.mcp_servers).toEqual(config.mcp_servers)
    const child = (body: object) => piece.runner.runs.create({ body: { prompt: 'child', ...body } })
    await expect(child({ config: { mcp_servers: serverWith(other.name) } })).rejects.toMatchObject({
      code: 'not_authorized',
    })
    const elsewhere = await house.client.environments.create({
      body: { name: newName(), mcp_servers: serverWith(other.name) },
    })
    await expect(child({ config: { environment_id: elsewhere.uid, mcp_servers: {} } })).rejects.toMatchObject({
      code: 'not_authorized',
    })
    await child({ config: { worker_host: 'narrow' } })
    const second = await worker.next()
    second.claim()
    expect((await second.start()).secrets?.mcp).toEqual(secrets?.mcp)
    await worker.close()
  })
})

test('a run logs in to clouds by what it is: a token for each, renewed, and the variables that SDKs look for', async () => {
  const role_arn = 'arn:aws:iam::1:role/agents'
  const gcp = {
    project_number: '42',
    workload_identity_federation_pool_id: 'pool',
    workload_identity_federation_provider_id: 'baton',
    service_account_email: 'agents@example.com',
  }
  const { uid } = await house.client.environments.create({
    body: { name: newName(), providers: { aws: { role_arn }, gcp }, setup_commands: ['echo $AWS_ROLE_ARN > role'] },
  })
  await keep({
    type: 'anthropic_bedrock_access_key',
    value: { access_key_id: 'AKIAEXAMPLE', secret_access_key: newValue(), region: 'eu-west-1' },
    environment_id: uid,
  })
  const out = join(folder, 'login')
  const prompt = [
    'cat role',
    `cp "$AWS_WEB_IDENTITY_TOKEN_FILE" ${out}.aws; cp "$GOOGLE_APPLICATION_CREDENTIALS" ${out}.json`,
    `cp "$(jq -r .credential_source.file "$GOOGLE_APPLICATION_CREDENTIALS")" ${out}.gcp`,
    `env > ${out}.env; stat -c %a "$AWS_WEB_IDENTITY_TOKEN_FILE"`,
  ].join('\n')
  const config = { environment_id: uid, harness: { type: 'command' }, worker_host: 'crew' }
  const { run_id } = await house.client.runs.create({ body: { prompt, config } })
  await ends(run_id)
  expect(await runOf(run_id)).toMatchObject({ state: 'SUCCEEDED' })
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  const printed = entries.map(({ body }) => (body.kind === 'output' ? body.text : '')).join('')
  expect(printed).toBe(`${role_arn}\n600\n`)
  const env = await readFile(`${out}.env`, 'utf8')
  expect(env).toContain(`AWS_ROLE_SESSION_NAME=Oz_Run_${run_id}\n`)
  // A key that nobody chose would go before the role.
  expect(env).not.toContain('AKIAEXAMPLE')
  const keys = createRemoteJWKSet(new URL(`${house.url}/.well-known/jwks.json`))
  const resource = '//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/providers/baton'
  for (const [file, audience] of [
    ['aws', 'sts.amazonaws.com'],
    ['gcp', resource],
  ] as const) {
    const { payload } = await jwtVerify(await readFile(`${out}.${file}`, 'utf8'), keys, { audience })
    expect(payload).toMatchObject({ run_id, sub: expect.stringMatching(/^scoped_principal:[\w-]+\/user:/) })
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(15 * 60)
  }
  expect(JSON.parse(await readFile(`${out}.json`, 'utf8'))).toMatchObject({
    type: 'external_account',
    audience: resource,
    service_account_impersonation_url: expect.stringContaining('agents@example.com:generateAccessToken'),
  })
  // Renewed while the execution goes on; models of Bedrock by a role of their own.
  const worker = await house.worker({ worker_host: 'cloudy' })
  const aws = { role_arn: 'arn:models', region: 'us-east-1' }
  const claude = { harness: { type: 'claude' }, worker_host: 'cloudy', inference_providers: { aws } }
  await house.client.runs.create({ body: { prompt: 'x', config: { ...claude, environment_id: uid } } })
  const piece = await worker.next()
  piece.claim()
  const { cloud } = await piece.start()
  expect(cloud).toEqual({ aws: { ...aws, for_models: true }, gcp })
  const ended = new AbortController()
  const place = { run_id: piece.run_id, client: piece.runner, folder, signal: ended.signal, refresh_ms: 20 }
  const login = await logIn({ ...place, cloud: { aws: { ...aws, for_models: true } } })
  const file = login.AWS_WEB_IDENTITY_TOKEN_FILE ?? ''
  const first = await readFile(file, 'utf8')
  await until('it is renewed', async () => (await readFile(file, 'utf8')) !== first)
  await piece.finish()
  ended.abort()
  const late = logIn({ ...place, signal: new AbortController().signal, cloud: { aws: { ...aws, for_models: true } } })
  await expect(late).rejects.toThrow('the role arn:models of AWS, and has no token for it')
  await worker.close()
})
