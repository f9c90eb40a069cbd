/** The command line's words for secrets and tokens, on a machine that runs everything; and what moves with its data. */
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { type Home, makeHome, type Server, startUp } from './cli/baton.ts'

let home: Home
let server: Server
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

beforeAll(async () => {
  home = await makeHome()
  server = await startUp(home)
})
afterAll(async () => {
  await server.stop()
  await home.remove()
})

const Listed = z.object({
  secrets: z.array(
    z.object({ name: z.string(), type: z.string(), scope: z.object({ type: z.string() }), version: z.int() }),
  ),
})
const list = async () => {
  const { stdout, code } = await home.run(['secret', 'list', '--json'])
  expect(code).toBe(0)
  return Listed.parse(JSON.parse(stdout)).secrets
}
const ok = async (args: string[], stdin?: string) => {
  const ended = await home.run(args, stdin === undefined ? {} : { stdin })
  expect(ended, `${args.join(' ')}: ${ended.stdout}${ended.stderr}`).toMatchObject({ code: 0 })
  return ended
}

test('secrets are kept, listed, changed and deleted as Oz has it; no value is printed', async () => {
  await writeFile(join(home.folder, 'key'), 'from-file-value')
  const bedrock = ['--bedrock-api-key', 'bedrock-value', '--region', 'eu-west-1']
  const access = ['--access-key-id', 'AKIAEXAMPLE', '--secret-access-key', 'access-value', '--region', 'eu-west-1']
  const create = (args: string[], stdin?: string) => ok(['secret', 'create', ...args], stdin)
  await Promise.all([
    create(['NPM_TOKEN', '-d', 'for npm'], 'from-stdin-value\n'),
    create(['claude', 'api-key', 'CLAUDE_KEY', '-f', 'key']),
    create(['ANTHROPIC', '-t', 'anthropic-api-key', '--value-file', 'key', '--personal']),
    create(['codex', 'api-key', 'CODEX_KEY', '--base-url', 'https://models.example/v1'], 'codex-value'),
    create(['claude', 'bedrock-api-key', 'BEDROCK', ...bedrock]),
    create(['claude', 'bedrock-access-key', 'ACCESS', ...access, '--session-token', 'session-value']),
  ])
  expect(await list()).toMatchObject([
    { name: 'ACCESS', type: 'anthropic_bedrock_access_key' },
    { name: 'ANTHROPIC', type: 'anthropic_api_key', scope: { type: 'User' } },
    { name: 'BEDROCK', type: 'anthropic_bedrock_api_key' },
    { name: 'CLAUDE_KEY', type: 'anthropic_api_key', scope: { type: 'Team' } },
    { name: 'CODEX_KEY', type: 'openai_api_key' },
    { name: 'NPM_TOKEN', type: 'raw_value', version: 1 },
  ])
  await ok(['secret', 'update', 'NPM_TOKEN', '--value', 'another-value'])
  await ok(['secret', 'update', 'NPM_TOKEN'], 'a-third-value\n')
  await ok(['secret', 'update', 'NPM_TOKEN', '-d', 'still for npm'])
  await ok(['secret', 'create', 'NPM_TOKEN', '--personal'], 'personal-value')
  await writeFile(join(home.folder, 'bytes'), Buffer.from([0xff, 0xfe, 0x80, ...Buffer.from('not text')]))
  expect(await home.run(['secret', 'create', 'BYTES', '-f', 'bytes'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/is not text in UTF-8\.\n.*base64/),
  })
  const [unclear, unasked, empty, unknown] = await Promise.all([
    home.run(['secret', 'delete', 'NPM_TOKEN', '--force']),
    home.run(['secret', 'delete', 'NPM_TOKEN', '--personal']),
    home.run(['secret', 'create', 'EMPTY'], { stdin: '' }),
    home.run(['secret', 'delete', 'NOT_THERE', '--force']),
  ])
  expect(unclear).toMatchObject({ code: 2, stderr: expect.stringContaining('--personal') })
  expect(unasked).toMatchObject({ code: 2, stderr: expect.stringContaining('--force') })
  expect([empty.code, unknown.code]).toEqual([2, 5])
  await ok(['secret', 'delete', 'NPM_TOKEN', '--personal', '--force'])
  const [shown, secrets] = await Promise.all([ok(['secret', 'list']), list()])
  expect(shown.stdout).toMatch(/NPM_TOKEN +raw-value +team/)
  expect(secrets.find(({ name }) => name === 'NPM_TOKEN')).toMatchObject({ version: 3 })
  expect(secrets).toHaveLength(6)
})

test('a run gets them, and proves who it is to others', async () => {
  await ok(['secret', 'create', 'DEPLOY_KEY'], 'a-deploy-value')
  const prompt = [
    'test "$DEPLOY_KEY" = a-deploy-value && test -z "$CLAUDE_KEY" && echo "it has $DEPLOY_KEY"',
    '"$OZ_CLI" federate issue-token --audience sts.example --duration 15m --subject-template teams host > token',
    'sed "s/\\./ /g" token',
    'GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE=//iam.example GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE=urn:ietf:params:oauth:token-type:id_token \\',
    '  GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE=$PWD/out "$OZ_CLI" federate issue-gcp-token | sed "s/\\./ /g"; test -s out',
    '"$OZ_CLI" federate issue-gcp-token; echo "ended with $?"',
  ].join('\n')
  const args = ['agent', 'run-cloud', prompt, '--harness', 'command', '--secret', 'DEPLOY_KEY', '--follow', '--json']
  const created = await ok(args)
  const run_id = /"run_id": ?"([0-9a-f-]{36})"/.exec(created.stdout)?.[1] ?? ''
  const logs = (await ok(['run', 'logs', run_id])).stdout
  expect(logs).toContain('it has •••')
  expect(logs).not.toContain('a-deploy-value')
  // With its dots as spaces, or it would be redacted like every token of that form.
  const [, token = ''] = /^(eyJ\S+ \S+ \S+)$/m.exec(logs) ?? []
  const jwt = token.replaceAll(' ', '.')
  const jwks = createRemoteJWKSet(new URL('/.well-known/jwks.json', server.url))
  const { payload } = await jwtVerify(jwt, jwks, { issuer: server.url, audience: 'sts.example' })
  expect(payload).toMatchObject({ run_id, sub: expect.stringMatching(/^teams:[0-9a-f-]+:host:/) })
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(900)
  const [, gcp = '{}'] = /^(\{"version":1,"success":true.*\})$/m.exec(logs) ?? []
  const answer = z.object({ id_token: z.string(), expiration_time: z.int() }).parse(JSON.parse(gcp))
  expect(decodeJwt(answer.id_token.replaceAll(' ', '.'))).toMatchObject({ aud: ['//iam.example'], run_id })
  expect(logs).toMatch(/"success":false.*GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE/)
  expect(logs).toContain('ended with 1')
  const outside = await home.run(['federate', 'issue-token', '--audience', 'a'])
  expect(outside).toMatchObject({ code: 2, stderr: expect.stringContaining('--run-id') })
})

test('the master key is rotated, and goes with an export by itself', async () => {
  const keys = join(server.data_dir, 'secret-keys')
  expect((await stat(keys)).mode & 0o777).toBe(0o600)
  const before = await readFile(keys, 'utf8')
  const { stdout } = await ok(['secret', 'rotate-key', '--json'])
  expect(JSON.parse(stdout)).toMatchObject({ made: true, unused_keys: [expect.any(String)] })
  const after = await readFile(keys, 'utf8')
  expect(after.split('\n').filter((line) => line !== '' && !line.startsWith('#'))).toHaveLength(2)
  expect(after).toContain(before.trim().split('\n').at(-1))
  await server.stop()
  const exported = await ok(['export', 'all', '--data-dir', server.data_dir])
  expect(exported.stderr).toContain('secret-keys')
  const other = join(home.folder, 'other')
  await ok(['import', 'all', '--data-dir', other])
  await writeFile(join(other, 'secret-keys'), after, { mode: 0o600 })
  server = await startUp(home, [], 'other')
  const open = (await ok(['secret', 'list', '--jq', '[.secrets[].available] | unique | .[]'])).stdout
  expect(open.trim()).toBe('true')
})
