/** Agent identities over the API, and what runs in their name are given. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type House, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let house: House
let worker: ScriptedWorker
let names = 0

beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 500 })
  worker = await house.worker({ capacity: 500 })
})
afterAll(() => house.close())

const newName = (word: string) => `${word} ${++names}`
type Asked = NonNullable<NonNullable<Parameters<House['client']['runs']['create']>[0]>['body']>
const make = (variables: Record<string, string> = {}) =>
  house.client.environments.create({ body: { name: newName('env'), variables } })
const identityPath = ({ uid }: { uid: string }) => ({ params: { identity_uid: uid } })
const create = (body: Asked) => house.client.runs.create({ body: { prompt: 'work', ...body } })
async function createAndTake(config: Asked['config'], more: Asked): Promise<Piece> {
  await create({ config, ...more })
  const piece = await worker.next()
  piece.claim()
  return piece
}
const runOf = (run_id: string) => house.client.runs.get({ params: { run_id } })

test('one is made, read, listed, changed as Oz changes them, and deleted', async () => {
  const environment = await make()
  const made = await house.client.identities.create({
    body: {
      name: 'Ada',
      description: 'reviews',
      prompt: 'Be kind.',
      base_model: 'm1',
      harness: { type: 'claude', model_id: 'm2' },
      environment_id: environment.config.name,
      worker_host: 'big',
      skills: ['review'],
      mcp_servers: { docs: { url: 'https://docs.example' } },
    },
  })
  expect(made).toMatchObject({
    available: true,
    environment_id: environment.uid,
    harness: { type: 'claude', model_id: 'm2' },
    secrets: [],
    default_runner_uid: '',
    memory: { attached_stores: [], auto_memory: { enabled: false } },
  })
  expect((await house.client.identities.list({ query: {} })).agents).toContainEqual(made)
  expect((await house.client.identities.list({ query: { factory_uid: 'x' } })).agents).toEqual([])
  const kept = await house.client.identities.update({
    ...identityPath(made),
    body: { prompt: null, skills: null, harness: null, environment_id: null, base_model: 'm3' },
  })
  expect(kept).toEqual({ ...made, base_model: 'm3', updated_at: kept.updated_at })
  const cleared = await house.client.identities.update({
    ...identityPath(made),
    body: {
      description: '',
      prompt: '',
      base_model: '',
      harness: {},
      environment_id: '',
      worker_host: '',
      skills: [],
      mcp_servers: {},
    },
  })
  expect(cleared).toMatchObject({ name: 'Ada', description: null, prompt: null, base_model: null, skills: [] })
  expect(cleared.mcp_servers).toEqual({})
  expect([cleared.harness, cleared.environment_id, cleared.worker_host]).toEqual([undefined, undefined, undefined])
  await house.client.identities.delete(identityPath(made))
  await expect(house.client.identities.get(identityPath(made))).rejects.toMatchObject({ code: 'resource_not_found' })
})

test.each<[string, object]>([
  ['no name', {}],
  ['an empty name', { name: ' ' }],
  ['an unknown environment', { name: 'x', environment_id: 'nowhere' }],
  ['one secret twice', { name: 'x', secrets: [{ name: 'TOKEN' }, { name: 'TOKEN' }] }],
  ['a memory store for nothing', { name: 'x', memory: { attached_stores: [{ uid: 'm', access: 'read_only' }] } }],
  ['a runner, of which there are none', { name: 'x', default_runner_uid: 'r' }],
  ['a kind of agent that is none', { name: 'x', agent_type: 'MANAGER' }],
  ['a skill that is none', { name: 'x', skills: ['../../etc/passwd'] }],
])('refuses %s', async (_, body) => {
  await expect(house.client.identities.create({ body: body as never })).rejects.toMatchObject({
    code: 'invalid_request',
  })
})

test('every team has a default one, which can be changed but not deleted', async () => {
  const team = await house.addTeam(newName('team'))
  const both = await Promise.all([team.client.identities.list(), team.client.identities.list()])
  const [{ agents }] = both
  expect(agents).toMatchObject([{ name: 'Default agent', is_default: true, prompt: null, skills: [] }])
  expect(both[1].agents.map(({ uid }) => uid)).toEqual(agents.map(({ uid }) => uid))
  const [mine] = agents
  if (!mine) throw new Error('no default agent')
  const changed = await team.client.identities.update({ ...identityPath(mine), body: { prompt: 'Be brief.' } })
  expect(changed).toMatchObject({ prompt: 'Be brief.', is_default: true })
  await expect(team.client.identities.delete(identityPath(mine))).rejects.toMatchObject({
    code: 'invalid_request',
    message: 'Default agent is the default agent of the team, which cannot be deleted.',
  })
  await expect(house.client.identities.get(identityPath(mine))).rejects.toMatchObject({ code: 'resource_not_found' })
})

test('all other fields are kept, listed by factory, and cleared by what is empty', async () => {
  const body = {
    name: newName('whole'),
    base_harness: 'codex',
    secrets: [{ name: 'TOKEN' }, { name: 'OTHER' }],
    harness_auth_secrets: { codex_auth_secret_name: 'CODEX' },
    inference_providers: { aws: { role_arn: 'arn:aws:iam::1:role/x', disabled: false } },
    credential_strategy: 'EXECUTOR' as const,
    agent_type: 'TRIAGE' as const,
    factory_uid: newName('factory'),
    on_behalf_of_enabled: true,
    memory: { attached_stores: [], auto_memory: { enabled: false as const } },
    default_runner_uid: '' as const,
  }
  const made = await house.client.identities.create({ body })
  expect(made).toMatchObject({ ...body, harness: { type: 'codex' } })
  const { factory_uid } = body
  expect((await house.client.identities.list({ query: { factory_uid } })).agents).toEqual([made])
  const nulls = { secrets: null, credential_strategy: null, agent_type: null, factory_uid: null, base_harness: null }
  const kept = await house.client.identities.update({ ...identityPath(made), body: { ...nulls, memory: null } })
  expect(kept).toEqual({ ...made, updated_at: kept.updated_at })
  const cleared = await house.client.identities.update({
    ...identityPath(made),
    body: {
      secrets: [],
      harness_auth_secrets: {},
      inference_providers: {},
      credential_strategy: '',
      agent_type: '',
      factory_uid: '',
      base_harness: '',
      on_behalf_of_enabled: false,
    },
  })
  expect(cleared).toMatchObject({ secrets: [], agent_type: null, factory_uid: null, on_behalf_of_enabled: false })
  for (const field of ['harness', 'base_harness', 'harness_auth_secrets', 'inference_providers', 'credential_strategy'])
    expect(cleared, field).not.toHaveProperty(field)
})

test('gives a run what it does not say itself, and is shown as its executor', async () => {
  const environment = await make({ FROM: 'identity' })
  const identity = await house.client.identities.create({
    body: {
      name: newName('worker'),
      prompt: 'Identity first.',
      base_model: 'identity-model',
      environment_id: environment.uid,
      skills: ['review'],
    },
  })
  const piece = await createAndTake({}, { agent_identity_uid: identity.uid })
  expect((await piece.start()).config).toMatchObject({
    base_prompt: 'Identity first.',
    model_id: 'identity-model',
    environment: { variables: { FROM: 'identity' } },
    skills: ['review'],
  })
  expect(await runOf(piece.run_id)).toMatchObject({
    executor: { type: 'service_account', uid: identity.uid, display_name: identity.name },
    creator: { type: 'user', uid: house.owner.user_id },
  })
  const own = await createAndTake(
    { base_prompt: 'Mine.', model_id: 'mine', environment_id: null, skills: [] },
    { agent_identity_uid: identity.name },
  )
  const { config } = await own.start()
  expect(config).toMatchObject({ base_prompt: 'Mine.', model_id: 'mine' })
  expect([config.environment_id, config.environment, config.skills]).toEqual([undefined, undefined, undefined])
})

test('a deleted one is refused to new runs with words; its runs go on, and are tried again', async () => {
  const identity = await house.client.identities.create({ body: { name: newName('leaver'), prompt: 'Stay.' } })
  const piece = await createAndTake({}, { agent_identity_uid: identity.uid })
  await house.client.identities.delete(identityPath(identity))
  await piece.start()
  await piece.finish()
  await expect(create({ agent_identity_uid: identity.uid })).rejects.toMatchObject({
    code: 'invalid_request',
    message: `Agent identity "${identity.name}" was deleted: it takes no new runs.`,
  })
  await expect(create({ agent_identity_uid: 'nobody' })).rejects.toMatchObject({
    message: 'There is no agent identity "nobody".',
  })
  await house.client.runs.retry({ params: { run_id: piece.run_id } })
  const again = await worker.next()
  again.claim()
  expect((await again.start()).config.base_prompt).toBe('Stay.')
  expect((await runOf(piece.run_id)).executor.display_name).toBe(identity.name)
})

test('two of one name are told apart by uid', async () => {
  const name = newName('twin')
  const first = await house.client.identities.create({ body: { name } })
  await house.client.identities.create({ body: { name } })
  await expect(create({ agent_identity_uid: name })).rejects.toMatchObject({
    message: expect.stringMatching(/Several agent identities are named .*: use the uid, /),
  })
  const { run_id } = await create({ agent_identity_uid: first.uid, config: { worker_host: 'never' } })
  expect((await runOf(run_id)).executor.uid).toBe(first.uid)
})

test('a run made once for a key is answered again although its identity has gone', async () => {
  const identity = await house.client.identities.create({ body: { name: newName('once') } })
  const body = { prompt: 'once', agent_identity_uid: identity.uid, config: { worker_host: 'never' } }
  const headers = { 'idempotency-key': identity.uid }
  const made = await house.client.runs.create({ body, headers })
  await house.client.identities.delete(identityPath(identity))
  expect(await house.client.runs.create({ body, headers })).toEqual(made)
})
