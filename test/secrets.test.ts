/** Secrets over the API and in the database, and which of them reach which run. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { NewSecret, Secret } from '../src/contract/index.ts'
import { type Keyring, openKeyring } from '../src/engine/keyring.ts'
import type { Client } from '../src/sdk/client.ts'
import { freshDatabase } from './house/database.ts'
import { type House, type Person, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

let folder: string
let keyring: Keyring
let house: House
let worker: ScriptedWorker
let bare: ScriptedWorker
let ann: Person
let bob: Person
let names = 0
/** What goes wrong here on purpose is no news. */
const log = pino({ level: 'silent' })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'baton-secrets-'))
  keyring = await openKeyring({ file: join(folder, 'keys') })
  house = await startHouse({ max_concurrent_runs: 500, keyring, log })
  const brokers = ['anthropic', 'openai', 'gemini']
  worker = await house.worker({ worker_host: 'broker', capacity: 500, brokers })
  bare = await house.worker({ worker_host: 'bare', capacity: 500 })
  ann = await house.addMember('Ann', 'member')
  bob = await house.addMember('Bob', 'member')
})
afterAll(async () => {
  await house.close()
  await rm(folder, { recursive: true, force: true })
})

const newName = () => `SECRET_${++names}`
const newValue = () => randomBytes(18).toString('base64url')
const keep = (body: Partial<NewSecret> = {}, client: Client = house.client): Promise<Secret> =>
  client.secrets.create({ body: { name: newName(), value: newValue(), ...body } })
const path = ({ uid }: { uid: string }) => ({ params: { secret_uid: uid } })
const newEnvironment = () => house.client.environments.create({ body: { name: `env ${++names}` } })

type Asked = NonNullable<NonNullable<Parameters<Client['runs']['create']>[0]>['body']>

async function take(run_id: string, from: ScriptedWorker): Promise<Piece> {
  for (;;) {
    const piece = await from.next()
    if (piece.run_id !== run_id) continue
    piece.claim()
    return piece
  }
}
/** A run, begun by the worker that leaves keys in the sandbox; what it was given. */
async function begin(body: Asked = {}, client: Client = house.client, from = bare) {
  const config = { ...body.config, worker_host: from.worker_host }
  const { run_id } = await client.runs.create({ body: { prompt: 'work', ...body, config } })
  const piece = await take(run_id, from)
  const { secrets } = await piece.start()
  return { piece, run_id, given: secrets, variables: { ...secrets?.variables, ...secrets?.chosen } }
}

/** Every value of every column of every table, as text. */
async function everything(of: House): Promise<string> {
  const { rows } = await sql<{ name: string }>`select relname as name from pg_class
    where relnamespace = current_schema()::regnamespace and relkind = 'r'`.execute(of.database.kysely)
  const texts = await Promise.all(
    rows.map(async ({ name }) => {
      const all = await sql<{ text: string }>`select row_to_json(t)::text as text from ${sql.table(name)} t`.execute(
        of.database.kysely,
      )
      return all.rows.map(({ text }) => text).join('\n')
    }),
  )
  return texts.join('\n')
}
const spellings = (value: string) => [
  value,
  Buffer.from(value).toString('base64').replace(/=+$/, ''),
  Buffer.from(value).toString('hex'),
]

describe('a secret', () => {
  test('is kept, listed, read, changed and deleted, and its value is answered nowhere', async () => {
    const value = newValue()
    const made = await keep({ value, description: 'for npm' })
    expect(made).toMatchObject({
      type: 'raw_value',
      description: 'for npm',
      version: 1,
      available: true,
      scope: { type: 'Team', uid: house.owner.team_id },
      creator: { uid: house.owner.user_id },
      last_used_at: null,
    })
    const again = newValue()
    const changed = await house.client.secrets.update({ ...path(made), body: { value: again } })
    const put = await house.client.secrets.replace({ ...path(made), body: { value } })
    expect([changed.version, changed.description, put.version, put.description]).toEqual([2, 'for npm', 3, null])
    const renamed = await house.client.secrets.update({ ...path(made), body: { name: newName(), description: 'x' } })
    expect(renamed).toMatchObject({ version: 3, description: 'x' })
    const { secrets } = await house.client.secrets.list({})
    expect(secrets).toContainEqual(renamed)
    expect(await house.client.secrets.get(path(made))).toEqual(renamed)
    const answers = JSON.stringify([made, changed, put, renamed, secrets])
    for (const shown of [value, again]) expect(answers).not.toContain(shown)
    await house.client.secrets.delete(path(made))
    await expect(house.client.secrets.get(path(made))).rejects.toMatchObject({ code: 'resource_not_found' })
    await expect(house.client.secrets.delete(path(made))).rejects.toMatchObject({ code: 'resource_not_found' })
    await keep({ name: renamed.name })
  })

  test('is nowhere in the database in plain, and gone from it when it is deleted', async () => {
    const [raw, old, key] = [newValue(), newValue(), newValue()]
    const changed = await keep({ value: old })
    await house.client.secrets.update({ ...path(changed), body: { value: raw } })
    await keep({ type: 'anthropic_api_key', value: key })
    const { piece } = await begin()
    const dump = await everything(house)
    for (const value of [raw, old, key].flatMap(spellings)) expect(dump).not.toContain(value)
    await piece.finish()
    await house.client.secrets.delete(path(changed))
    const versions = house.database.kysely.selectFrom('secret_versions').select('version')
    expect(await versions.where('secret_uid', '=', changed.uid).execute()).toEqual([])
  })

  test('moved to another row does not open', async () => {
    const [a, b] = [await keep(), await keep()]
    const rows = await house.database.kysely
      .selectFrom('secret_versions')
      .selectAll()
      .where('secret_uid', 'in', [a.uid, b.uid])
      .execute()
    const of = (uid: string) => rows.find((row) => row.secret_uid === uid) ?? Promise.reject(new Error('no row'))
    const { key_id, wrapped_key, ciphertext } = await of(b.uid)
    await house.database.kysely
      .updateTable('secret_versions')
      .set({ key_id, wrapped_key, ciphertext })
      .where('secret_uid', '=', a.uid)
      .execute()
    const { given } = await begin({ config: { secrets: [{ name: a.name }] } })
    expect(given).toMatchObject({ variables: {}, hidden: [] })
    expect(given?.problem).toContain('is not what was written there')
    await house.client.secrets.delete(path(a))
  })

  test.each([
    ['too short', { value: 'short' }, /at least 6 characters/],
    ['too long', { value: 'x'.repeat(131_070) }, /has \d+ bytes/],
    ['of no type', { type: 'anthropic_bedrock_api_key' as const, value: 'a-key-alone' }, /region is missing/],
    [
      'with a part too many',
      { type: 'anthropic_api_key' as const, value: { api_key: 'a-key-alone', more: 'x' } },
      /api_key|nrecognized/,
    ],
  ])('%s is refused without its value in the sentence', async (_, body, message) => {
    const refused = await keep(body).catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'invalid_request', message: expect.stringMatching(message) })
    if (typeof body.value === 'string' && body.value.length < 100)
      expect(JSON.stringify(refused)).not.toContain(body.value)
  })

  test.each(['1ST', 'WITH-DASH', 'OZ_RUN_ID', 'PATH', 'WARP_API_KEY', '__proto__'])('is not named %s', async (name) => {
    await expect(keep({ name })).rejects.toMatchObject({ code: 'invalid_request' })
  })

  test('has a name of its own in its place, and the same elsewhere', async () => {
    const { name } = await keep()
    const environment = await newEnvironment()
    await expect(keep({ name })).rejects.toMatchObject({ code: 'conflict', retryable: false })
    const inside = await keep({ name, environment_id: environment.uid })
    expect(inside.scope).toEqual({ type: 'Environment', uid: environment.uid })
    const { secrets } = await house.client.secrets.list({ query: { environment_id: environment.config.name } })
    expect(secrets).toEqual([inside])
    await expect(keep({ environment_id: environment.uid, team: false })).rejects.toMatchObject({
      code: 'invalid_request',
    })
  })

  test('a viewer sees those of the team and changes none; a personal one is nobody else’s', async () => {
    const viewer = await house.addMember('Vic', 'viewer')
    const [team, own] = [await keep(), await keep({ team: false }, ann.client)]
    expect(own.scope).toEqual({ type: 'User', uid: ann.caller.user_id })
    expect((await viewer.client.secrets.list({})).secrets).toContainEqual(team)
    for (const attempt of [
      () => keep({}, viewer.client),
      () => viewer.client.secrets.update({ ...path(team), body: { value: newValue() } }),
      () => viewer.client.secrets.delete(path(team)),
    ])
      await expect(attempt()).rejects.toMatchObject({ code: 'not_authorized' })
    const stranger = await house.addTeam('elsewhere')
    for (const client of [bob.client, house.client, stranger.client]) {
      expect((await client.secrets.list({})).secrets.map(({ uid }) => uid)).not.toContain(own.uid)
      await expect(client.secrets.get(path(own))).rejects.toMatchObject({ code: 'resource_not_found' })
      await expect(client.secrets.delete(path(own))).rejects.toMatchObject({ code: 'resource_not_found' })
    }
  })
})

describe('a run', () => {
  test('is given the team’s, and its environment’s before them; nothing of another environment or team', async () => {
    const [environment, other] = [await newEnvironment(), await newEnvironment()]
    const name = newName()
    const values = { team: newValue(), environment: newValue(), other: newValue() }
    await keep({ name, value: values.team })
    await keep({ name, value: values.environment, environment_id: environment.uid })
    const apart = await keep({ value: values.other, environment_id: other.uid })
    const without = await begin()
    expect(without.variables[name]).toBe(values.team)
    const within = await begin({ config: { environment_id: environment.uid } })
    expect(within.variables[name]).toBe(values.environment)
    expect(within.given?.hidden).toContain(values.environment)
    for (const { variables } of [without, within]) expect(variables).not.toHaveProperty(apart.name)
    const stranger = await house.addTeam('strangers')
    const far = await house.worker({ worker_host: 'far', api_key: stranger.api_key })
    expect((await begin({}, stranger.client, far)).given).toBeUndefined()
  })

  test('that is personal has its owner’s before the team’s; those of others reach nobody', async () => {
    const name = newName()
    const values = { team: newValue(), ann: newValue(), bob: newValue() }
    await keep({ name, value: values.team })
    await keep({ name, value: values.ann, team: false }, ann.client)
    const bobs = await keep({ value: values.bob, team: false }, bob.client)
    const personal = await begin({ team: false }, ann.client)
    expect(personal.variables[name]).toBe(values.ann)
    const shared = await begin({}, ann.client)
    expect(shared.variables[name]).toBe(values.team)
    for (const { given } of [personal, shared]) expect(JSON.stringify(given)).not.toContain(values.bob)
    await expect(begin({ team: false, config: { secrets: [{ name: bobs.name }] } }, ann.client)).rejects.toMatchObject({
      code: 'invalid_request',
    })
  })

  test('that is personal is named as the last use of a secret to its owner alone', async () => {
    const { uid } = await keep()
    const used = (client: Client) => client.secrets.get({ params: { secret_uid: uid } })
    const { run_id } = await begin({ team: false }, ann.client)
    expect(await used(ann.client)).toMatchObject({ last_used_run_id: run_id, last_used_by: { display_name: 'Ann' } })
    const { last_used_at } = await used(ann.client)
    expect(await used(bob.client)).toMatchObject({ last_used_at, last_used_run_id: null, last_used_by: null })
  })

  test('is given only what it names; a name that is none is said at once', async () => {
    const [a, b] = [await keep(), await keep()]
    const some = await begin({ config: { secrets: [{ name: a.name }] } })
    expect(Object.keys(some.variables)).toEqual([a.name])
    expect((await begin({ config: { secrets: [] } })).given).toBeUndefined()
    expect(Object.keys((await begin()).variables)).toEqual(expect.arrayContaining([a.name, b.name]))
    await expect(begin({ config: { secrets: [{ name: 'NOT_THERE' }] } })).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('NOT_THERE'),
    })
    const child = (secrets: { name: string }[]) =>
      some.piece.runner.runs.create({ body: { prompt: 'child', config: { secrets } } })
    await expect(child([{ name: b.name }])).rejects.toMatchObject({ code: 'not_authorized' })
    const { run_id } = await child([{ name: a.name }])
    expect(run_id).toBeDefined()
  })

  test('in the name of an agent is given what the agent names; a child leaves out what it cannot have', async () => {
    const environment = await newEnvironment()
    const [a, b] = [await keep(), await keep()]
    const inside = await keep({ environment_id: environment.uid })
    const agent = await house.client.identities.create({ body: { name: newName(), secrets: [{ name: a.name }] } })
    const open = await house.client.identities.create({ body: { name: newName() } })
    const narrowed = await begin({ agent_identity_uid: agent.uid })
    expect(Object.keys(narrowed.variables)).toEqual([a.name])
    expect(Object.keys((await begin({ agent_identity_uid: open.uid })).variables)).toContain(b.name)
    const secrets = [{ name: a.name }, { name: inside.name }]
    const lead = await begin({ config: { environment_id: environment.uid, secrets } })
    expect(Object.keys(lead.variables).sort()).toEqual([a.name, inside.name].sort())
    const child = { prompt: 'child', config: { environment_id: null, worker_host: 'bare' } }
    const { run_id } = await lead.piece.runner.runs.create({ body: child })
    const piece = await take(run_id, bare)
    expect(Object.keys((await piece.start()).secrets?.variables ?? {})).toEqual([a.name])
  })

  test('typed secrets set the variables of their providers, and go before raw ones', async () => {
    const environment = await newEnvironment()
    const inside = (body: Partial<NewSecret>) => keep({ ...body, environment_id: environment.uid })
    const [typed, openai, bedrock] = [newValue(), newValue(), newValue()]
    await inside({ name: 'ANTHROPIC_API_KEY', value: newValue() })
    await inside({ type: 'anthropic_api_key', value: { api_key: typed } })
    await inside({ type: 'openai_api_key', value: { api_key: openai, base_url: 'https://models.example/v1' } })
    const access = { access_key_id: 'AKIAEXAMPLE', secret_access_key: bedrock, region: 'eu-west-1' }
    const named = await inside({ type: 'anthropic_bedrock_access_key', value: access })
    const config = { environment_id: environment.uid }
    const { given } = await begin({ config })
    expect(given?.variables).toMatchObject({
      ANTHROPIC_API_KEY: typed,
      OPENAI_API_KEY: openai,
      OPENAI_BASE_URL: 'https://models.example/v1',
      AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE',
      AWS_SECRET_ACCESS_KEY: bedrock,
      AWS_REGION: 'eu-west-1',
    })
    expect(given?.hidden).toEqual(expect.arrayContaining([typed, openai, bedrock]))
    expect(given?.hidden).not.toContain('eu-west-1')
    const chosen = await begin({
      config: { ...config, harness: { type: 'claude' }, harness_auth_secrets: { claude_auth_secret_name: named.name } },
    })
    expect(chosen.given?.chosen).toMatchObject({ AWS_SECRET_ACCESS_KEY: bedrock, CLAUDE_CODE_USE_BEDROCK: '1' })
    const wrong = { harness_auth_secrets: { codex_auth_secret_name: named.name } }
    await expect(begin({ config: { ...config, ...wrong } })).rejects.toMatchObject({ code: 'invalid_request' })
  })

  test('a provider’s key goes to a worker that takes it, in its assignment and after its restart, and not inside', async () => {
    const environment = await newEnvironment()
    const value = newValue()
    const { name } = await keep({ type: 'anthropic_api_key', value, environment_id: environment.uid })
    const config = {
      environment_id: environment.uid,
      secrets: [],
      harness_auth_secrets: { claude_auth_secret_name: name },
    }
    const { piece, given, run_id } = await begin({ config }, house.client, worker)
    const key = { provider: 'anthropic', api_key: value, chosen: true }
    expect(piece.assignment.model_keys).toEqual([key])
    expect(JSON.stringify(given ?? {})).not.toContain(value)
    expect(JSON.stringify(piece.assignment.env_vars)).not.toContain(value)
    const { execution_id } = piece
    const running = [{ task_id: run_id, execution_id }]
    const after = await house.worker({ worker_host: 'broker', brokers: ['anthropic'], running })
    expect(await after.toldKeys()).toEqual({ task_id: run_id, execution_id, model_keys: [key] })
    await after.close()
    // A worker of another name is told nothing, whatever it says that it runs.
    const thief = await house.worker({ worker_host: 'thief', brokers: ['anthropic'], running })
    await expect(thief.toldKeys(500)).rejects.toThrow()
    await thief.close()
  })

  test('at work keeps what it was given; the next execution has what is there then', async () => {
    const [first, second] = [newValue(), newValue()]
    const secret = await keep({ value: first })
    const { piece, run_id, variables } = await begin({ config: { secrets: [{ name: secret.name }] } })
    expect(variables[secret.name]).toBe(first)
    await house.client.secrets.update({ ...path(secret), body: { value: second } })
    // A runner that was started again asks again.
    expect((await piece.start()).secrets?.variables[secret.name]).toBe(first)
    const versions = () =>
      house.database.kysely
        .selectFrom('secret_versions')
        .select('version')
        .where('secret_uid', '=', secret.uid)
        .orderBy('version')
        .execute()
    expect(await versions()).toEqual([{ version: 1 }, { version: 2 }])
    const used = await house.client.secrets.get(path(secret))
    expect(used).toMatchObject({ last_used_run_id: run_id, last_used_by: { uid: house.owner.user_id } })
    expect(used.last_used_at).not.toBeNull()
    await piece.finish()
    await house.server.engine.secrets.sweep()
    expect(await versions()).toEqual([{ version: 2 }])
    await house.client.runs.retry({ params: { run_id } })
    const next = await take(run_id, bare)
    expect((await next.start()).secrets?.variables[secret.name]).toBe(second)
    await house.client.secrets.delete(path(secret))
    expect((await next.start()).secrets?.variables[secret.name]).toBe(second)
    await next.finish()
    await house.client.runs.retry({ params: { run_id } })
    const last = await take(run_id, bare)
    expect((await last.start()).secrets?.problem).toContain(secret.name)
  })

  test('a run’s own token reads, makes and changes no secret', async () => {
    const secret = await keep()
    const { piece } = await begin()
    for (const attempt of [
      () => piece.runner.secrets.list({}),
      () => piece.runner.secrets.get(path(secret)),
      () => keep({}, piece.runner),
      () => piece.runner.secrets.delete(path(secret)),
    ])
      await expect(attempt()).rejects.toMatchObject({ code: 'not_authorized' })
  })
})

describe('master keys', () => {
  const text = () => randomBytes(32).toString('base64')
  const given = (...keys: string[]) => openKeyring({ given: [{ text: keys.join(','), from: 'BATON_SECRET_KEY' }] })

  test('one is made when it is first needed, for its owner alone', async () => {
    const file = join(folder, 'keys')
    await keep()
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(keyring.keys()).toHaveLength(1)
    const again = await openKeyring({ file })
    expect(again.keys()).toEqual(keyring.keys())
    await writeFile(join(folder, 'odd'), 'not a key\n')
    await expect(openKeyring({ file: join(folder, 'odd') })).rejects.toThrow('no master key')
  })

  test('another takes over, and what breaks off in the middle is finished later', async () => {
    const database = await freshDatabase()
    const [old, fresh] = [text(), text()]
    const first = await startHouse({ database, keyring: await given(old) })
    const made = await Promise.all(
      Array.from({ length: 5 }, () => first.client.secrets.create({ body: { name: newName(), value: newValue() } })),
    )
    const before = await first.client.secrets.rotate({ body: {} })
    expect(before).toMatchObject({ made: false, rewrapped: 0, unused_keys: [] })
    await first.close()
    const both = await given(fresh, old)
    const second = await startHouse({ database, keyring: both, log })
    const [new_id, old_id] = both.keys().map(({ key_id }) => key_id)
    // It dies after some rows: the others are still locked with the old key.
    await sql`create function stop_here() returns trigger language plpgsql as $$ begin
      if (select count(*) from secret_versions where key_id = ${sql.lit(new_id)}) >= 2 then raise 'killed'; end if;
      return new; end $$`.execute(database.kysely)
    await sql`create trigger stop_here before update on secret_versions for each row execute function stop_here()`.execute(
      database.kysely,
    )
    await expect(second.client.secrets.rotate({ body: {} })).rejects.toMatchObject({ code: 'internal_error' })
    const locked = () =>
      database.kysely
        .selectFrom('secret_versions')
        .select(['key_id', (e) => e.fn.countAll<number>().as('count')])
        .groupBy('key_id')
        .execute()
    expect(await locked()).toEqual(
      expect.arrayContaining([
        { key_id: new_id, count: 2 },
        { key_id: old_id, count: 3 },
      ]),
    )
    expect((await second.client.secrets.list({})).secrets.every(({ available }) => available)).toBe(true)
    await sql`drop trigger stop_here on secret_versions`.execute(database.kysely)
    const done = await second.client.secrets.rotate({ body: {} })
    expect(done).toMatchObject({ key_id: new_id, unused_keys: [old_id] })
    expect(await locked()).toEqual([{ key_id: new_id, count: 5 }])
    await second.close()
    // Without the old key everything still opens.
    const third = await startHouse({ database, keyring: await given(fresh) })
    const taker = await third.worker()
    const { run_id } = await third.client.runs.create({ body: { prompt: 'work' } })
    const { secrets } = await (await take(run_id, taker)).start()
    expect(Object.keys(secrets?.variables ?? {}).sort()).toEqual(made.map(({ name }) => name).sort())
    await third.close()
    await database.close()
  })

  test('a missing or wrong one is said with what to do, and nothing is lost', async () => {
    const database = await freshDatabase()
    const right = text()
    const value = newValue()
    const first = await startHouse({ database, keyring: await given(right) })
    const secret = await first.client.secrets.create({ body: { name: newName(), value } })
    await first.close()
    for (const wrong of [await given(text()), undefined, await openKeyring({ file: join(folder, 'other') })]) {
      const server = await startHouse({ database, log, ...(wrong && { keyring: wrong }) })
      expect((await server.client.secrets.list({})).secrets).toMatchObject([{ uid: secret.uid, available: false }])
      await expect(
        server.client.secrets.create({ body: { name: newName(), value: newValue() } }),
      ).rejects.toMatchObject({ message: expect.stringContaining('BATON_SECRET_KEY') })
      await expect(server.client.secrets.rotate({ body: {} })).rejects.toMatchObject({ retryable: false })
      const taker = await server.worker()
      const { run_id } = await server.client.runs.create({ body: { prompt: 'work' } })
      const { secrets } = await (await take(run_id, taker)).start()
      expect(secrets?.problem).toContain('BATON_SECRET_KEY')
      await server.close()
    }
    await expect(stat(join(folder, 'other'))).rejects.toMatchObject({ code: 'ENOENT' })
    const back = await startHouse({ database, keyring: await given(text(), right) })
    const taker = await back.worker()
    const { run_id } = await back.client.runs.create({ body: { prompt: 'work' } })
    expect((await (await take(run_id, taker)).start()).secrets?.variables).toEqual({ [secret.name]: value })
    await back.close()
    await database.close()
  })

  test('a server that keeps its own makes one more each time, and keeps the old', async () => {
    const file = join(folder, 'own')
    const own = await openKeyring({ file })
    const server = await startHouse({ keyring: own })
    await server.client.secrets.create({ body: { name: newName(), value: newValue() } })
    const [before] = own.keys()
    const { made, key_id, rewrapped, unused_keys } = await server.client.secrets.rotate({ body: {} })
    expect({ made, unused_keys }).toEqual({ made: true, unused_keys: [before?.key_id] })
    expect(rewrapped).toBeGreaterThan(0)
    expect((await openKeyring({ file })).keys().map((key) => key.key_id)).toEqual([key_id, before?.key_id])
    const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    expect(lines).toHaveLength(2)
    await server.close()
  })
})
