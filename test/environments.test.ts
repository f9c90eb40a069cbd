/** Environments over the API, and what of them, of identities and of skills runs and their children are given. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Environment } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'
import { type Agent, callTool, openMcpClient } from './house/mcp-agent.ts'
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
type Given = Parameters<House['client']['environments']['create']>[0]['body']
const make = (more: Partial<Given> = {}) =>
  house.client.environments.create({ body: { name: newName('env'), ...more } })
const path = ({ uid }: { uid: string }) => ({ params: { environment_uid: uid } })
const identityPath = ({ uid }: { uid: string }) => ({ params: { identity_uid: uid } })

type Asked = NonNullable<NonNullable<Parameters<House['client']['runs']['create']>[0]>['body']>
const create = (body: Asked) => house.client.runs.create({ body: { prompt: 'work', ...body } })
async function createAndTake(config: Asked['config'], more: Asked = {}): Promise<Piece> {
  const { run_id } = await create({ config, ...more })
  return take(run_id)
}
/** The offer of this run; what was offered for others is left. */
async function take(run_id: string): Promise<Piece> {
  for (;;) {
    const piece = await worker.next()
    if (piece.run_id !== run_id) continue
    piece.claim()
    return piece
  }
}
async function openLead(body: Asked): Promise<Agent> {
  const piece = await createAndTake({}, body)
  await piece.start()
  const token = piece.assignment.env_vars.WARP_API_KEY ?? ''
  const mcp = await openMcpClient(house.url, token)
  return { ...piece, token, mcp, call: (tool, args, meta) => callTool(mcp, tool, args, meta) }
}
const runOf = (run_id: string) => house.client.runs.get({ params: { run_id } })
const REFUSED = { code: 'conflict', retryable: false }

describe('environments', () => {
  test('what the public API knows beside is kept, and cleared by null', async () => {
    const gcp = {
      project_number: '1',
      workload_identity_federation_pool_id: 'pool',
      workload_identity_federation_provider_id: 'provider',
    }
    const made = await make({
      providers: { gcp, aws: { role_arn: 'arn:aws:iam::1:role/x' } },
      failure_session_retention_minutes: 30,
    })
    expect(made.config).toMatchObject({
      providers: { gcp, aws: { role_arn: 'arn:aws:iam::1:role/x' } },
      failure_session_retention_minutes: 30,
    })
    const body = { providers: null, failure_session_retention_minutes: null }
    const { config } = await house.client.environments.update({ ...path(made), body })
    expect(config).not.toHaveProperty('providers')
    expect(config.failure_session_retention_minutes).toBeNull()
    await expect(make({ failure_session_retention_minutes: 61 })).rejects.toMatchObject({ code: 'invalid_request' })
  })

  test('one is made, read, listed and deleted; github repositories are shown as Oz shows them', async () => {
    const made = await make({
      description: 'All of it.',
      docker_image: 'node:24',
      repositories: [
        { url: 'https://github.com/acme/app.git', ref: 'next', directory: 'src' },
        { url: 'git@github.com:acme/lib.git' },
        { url: 'https://git.example/other' },
      ],
      setup_commands: ['npm ci'],
      variables: { MODE: 'test' },
      mcp_servers: { docs: { url: 'https://docs.example/mcp' } },
    })
    expect(made.uid).toMatch(/^[A-Za-z0-9]{22}$/)
    expect(made).toMatchObject({
      version: 1,
      setup_failed: false,
      last_task_run_timestamp: null,
      scope: { type: 'Team', uid: house.owner.team_id },
      creator: { type: 'user', uid: house.owner.user_id },
      config: {
        description: 'All of it.',
        docker_image: 'node:24',
        github_repos: [
          { owner: 'acme', repo: 'app' },
          { owner: 'acme', repo: 'lib' },
        ],
        setup_commands: ['npm ci'],
        variables: { MODE: 'test' },
      },
    })
    expect(await house.client.environments.get(path(made))).toEqual(made)
    const { environments } = await house.client.environments.list({ query: {} })
    expect(environments[0]).toEqual(made)
    await house.client.environments.delete(path(made))
    await expect(house.client.environments.get(path(made))).rejects.toMatchObject({ code: 'resource_not_found' })
    expect((await house.client.environments.list({ query: {} })).environments).not.toContainEqual(made)
    await expect(house.client.environments.delete(path(made))).rejects.toMatchObject({ code: 'resource_not_found' })
    // Its name is free again.
    await make({ name: made.config.name })
  })

  test('lists are by last change, or by name', async () => {
    const [b, a] = [await make({ name: newName('zz b') }), await make({ name: newName('zz a') })]
    const uids = async (sort_by?: 'name') =>
      (await house.client.environments.list({ query: sort_by ? { sort_by } : {} })).environments
        .map(({ uid }) => uid)
        .filter((uid) => [a.uid, b.uid].includes(uid))
    await house.client.environments.update({ ...path(b), body: { description: 'later' } })
    expect(await uids()).toEqual([b.uid, a.uid])
    expect(await uids('name')).toEqual([a.uid, b.uid])
  })

  test('github_repos alone are taken as repositories', async () => {
    const made = await make({ github_repos: [{ owner: 'acme', repo: 'app' }] })
    expect(made.config.repositories).toEqual([{ url: 'https://github.com/acme/app.git' }])
  })

  test.each<[string, object]>([
    ['no name', {}],
    ['an empty name', { name: '  ' }],
    ['a name that means none', { name: 'None' }],
    ['a long description', { name: 'x', description: 'd'.repeat(241) }],
    ['a variable that is no name', { name: 'x', variables: { 'A-B': '1' } }],
    ['a stored MCP server', { name: 'x', mcp_servers: { linear: { warp_id: 'linear' } } }],
  ])('refuses %s', async (_, body) => {
    await expect(house.client.environments.create({ body: body as never })).rejects.toMatchObject({
      code: 'invalid_request',
    })
  })

  test('a name is one environment’s alone in a team, whatever its case', async () => {
    const { config } = await make()
    await expect(make({ name: config.name.toUpperCase() })).rejects.toMatchObject(REFUSED)
    const other = await make()
    await expect(
      house.client.environments.update({ ...path(other), body: { name: config.name } }),
    ).rejects.toMatchObject(REFUSED)
    const elsewhere = await house.addTeam('another team')
    await elsewhere.client.environments.create({ body: { name: config.name } })
  })

  test('PATCH leaves what it does not name, PUT empties it', async () => {
    const made = await make({ description: 'd', setup_commands: ['a'], docker_image: 'node:24' })
    const patched = await house.client.environments.update({ ...path(made), body: { setup_commands: ['b'] } })
    expect(patched).toMatchObject({ version: 2, config: { description: 'd', setup_commands: ['b'] } })
    const put = await house.client.environments.replace({ ...path(made), body: { name: made.config.name } })
    expect(put).toMatchObject({ version: 3, config: { description: null, setup_commands: [] } })
    expect(put.config.docker_image).toBeUndefined()
  })

  test('an edit made from an older state is refused and says what changed', async () => {
    const made = await make()
    const edit = (body: object) => house.client.environments.update({ ...path(made), body })
    await edit({ description: 'one', version: 1 })
    await expect(edit({ description: 'two', version: 1 })).rejects.toMatchObject({
      ...REFUSED,
      message: expect.stringMatching(/was changed by .* it is at version 2 now/),
    })
    await expect(edit({ description: 'two', last_updated: made.last_updated })).rejects.toMatchObject(REFUSED)
    const { last_updated } = await house.client.environments.get(path(made))
    expect(await edit({ description: 'two', last_updated })).toMatchObject({ version: 3 })
  })

  test('of edits that come at once from one state, one is kept', async () => {
    const made = await make()
    const edits = await Promise.allSettled(
      Array.from({ length: 8 }, (_, n) =>
        house.client.environments.update({ ...path(made), body: { description: `edit ${n}`, version: 1 } }),
      ),
    )
    expect(edits.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })

  test('one in use is deleted only with force, and what was made with it keeps it', async () => {
    const made = await make({ variables: { A: '1' } })
    const { run_id } = await create({ config: { environment_id: made.uid, worker_host: 'absent' } })
    const identity = await house.client.identities.create({ body: { name: 'user of it', environment_id: made.uid } })
    await expect(house.client.environments.delete(path(made))).rejects.toMatchObject({
      ...REFUSED,
      message: expect.stringMatching(new RegExp(`in use by agent identity "user of it", run ${run_id}`)),
    })
    await house.client.environments.delete({ ...path(made), query: { force: true } })
    const absent = await house.worker({ worker_host: 'absent' })
    const piece = await absent.next()
    piece.claim()
    expect((await piece.start()).config.environment?.variables).toEqual({ A: '1' })
    await expect(create({ config: { environment_id: made.uid } })).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(/was deleted\. There are: /),
    })
    await expect(create({ agent_identity_uid: identity.uid })).rejects.toMatchObject({
      message: expect.stringMatching(/"user of it" works in environment .* which was deleted/),
    })
    await house.client.identities.delete(identityPath(identity))
  })

  test("tells nobody of a colleague's personal runs in it, and is in use by them all the same", async () => {
    const environment = await make()
    const { client } = await house.addMember('colleague', 'member')
    const config = { environment_id: environment.uid, worker_host: 'nobody' }
    const { run_id } = await create({ title: 'Mine alone', team: false, config })
    expect((await house.client.environments.get(path(environment))).last_task_created?.id).toBe(run_id)
    const seen = await client.environments.get(path(environment))
    expect([seen.last_task_created, seen.last_task_run_timestamp]).toEqual([undefined, null])
    const refusal = await client.environments.delete(path(environment)).catch((fault: unknown) => fault)
    expect(refusal).toMatchObject({ ...REFUSED, message: expect.stringContaining('in use by 1 that you may not see') })
    const shared = await create({ config })
    await expect(client.environments.delete(path(environment))).rejects.toMatchObject({
      message: expect.stringContaining(`in use by run ${shared.run_id} and 1 more.`),
    })
    expect((await client.environments.get(path(environment))).last_task_created?.id).toBe(shared.run_id)
  })
})

describe('a run in an environment', () => {
  test('names it by uid or by name; what is unknown or of another team is refused with its place', async () => {
    const made = await make({ docker_image: 'node:24' })
    for (const environment_id of [made.uid, made.config.name, made.config.name.toUpperCase()]) {
      const piece = await createAndTake({ environment_id })
      expect(piece.assignment.docker_image).toBe('node:24')
      expect(await runOf(piece.run_id)).toMatchObject({
        agent_config: { environment_id: made.uid },
        environment: { uid: made.uid, name: made.config.name },
      })
    }
    const elsewhere = await house.addTeam('third team')
    const foreign = await elsewhere.client.environments.create({ body: { name: 'foreign' } })
    for (const environment_id of ['no such', foreign.uid, 'foreign']) {
      await expect(create({ config: { environment_id } })).rejects.toMatchObject({
        code: 'invalid_request',
        details: { errors: [{ pointer: '/config/environment_id', detail: 'no such environment' }] },
      })
    }
    const { client } = await house.addTeam('without any')
    await client.environments.create({ body: { name: 'own', team: false } })
    await expect(client.runs.create({ body: { prompt: 'x', config: { environment_id: 'own' } } })).rejects.toThrow(
      /The team has none; .* What is of the team may use no personal one\./,
    )
  })

  test('is given the environment with what it adds on top', async () => {
    const made = await make({
      repositories: [{ url: 'https://git.example/app.git', directory: 'main' }, { url: 'https://git.example/lib' }],
      setup_commands: ['first'],
      variables: { A: 'shared', B: 'shared' },
      mcp_servers: { one: { url: 'https://one.example' }, two: { url: 'https://two.example' } },
    })
    const piece = await createAndTake({
      environment_id: made.uid,
      environment: {
        repositories: [{ url: 'https://git.example/app', ref: 'branch' }, { url: 'https://git.example/extra' }],
        setup_commands: ['second'],
        variables: { B: 'own' },
      },
      mcp_servers: { two: { url: 'https://mine.example' } },
    })
    expect((await piece.start()).config).toMatchObject({
      environment: {
        repositories: [
          { url: 'https://git.example/app', ref: 'branch', directory: 'main' },
          { url: 'https://git.example/lib' },
          { url: 'https://git.example/extra' },
        ],
        setup_commands: ['first', 'second'],
        variables: { A: 'shared', B: 'own' },
      },
      mcp_servers: { one: { url: 'https://one.example' }, two: { url: 'https://mine.example' } },
    })
    // What was asked for is shown as it was asked for.
    expect((await runOf(piece.run_id)).agent_config.environment?.setup_commands).toEqual(['second'])
  })

  test('an edit reaches no execution that was made before, and the retry', async () => {
    const made = await make({ variables: { WHICH: 'old' } })
    const piece = await createAndTake({ environment_id: made.uid })
    expect((await piece.start()).config.environment?.variables).toEqual({ WHICH: 'old' })
    await house.client.environments.update({ ...path(made), body: { variables: { WHICH: 'new' } } })
    // A runner that is started again asks again.
    expect((await piece.start()).config.environment?.variables).toEqual({ WHICH: 'old' })
    await piece.finish()
    await house.client.runs.retry({ params: { run_id: piece.run_id } })
    const again = await take(piece.run_id)
    expect((await again.start()).config.environment?.variables).toEqual({ WHICH: 'new' })
    const { executions } = await house.client.executions.list({ params: { run_id: piece.run_id } })
    expect(executions.map(({ environment }) => environment)).toEqual([
      { uid: made.uid, name: made.config.name, version: 1 },
      { uid: made.uid, name: made.config.name, version: 2 },
    ])
  })

  test('shows in the list as its last task, with whether it could be set up', async () => {
    const made = await make()
    const piece = await createAndTake({ environment_id: made.uid })
    const shown = async (): Promise<Environment> => house.client.environments.get(path(made))
    expect(await shown()).toMatchObject({ setup_failed: false, last_task_created: { id: piece.run_id } })
    await piece.start()
    await piece.finish({
      outcome: 'FAILED',
      failure: { error_code: 'environment_setup_failed', message: 'npm is missing.', retryable: false },
    })
    expect(await shown()).toMatchObject({ setup_failed: true, last_task_created: { state: 'FAILED' } })
  })
})

describe('children', () => {
  test('have the environment of their parent, another by name, or none', async () => {
    const [mine, theirs] = [await make({ variables: { OF: 'parent' } }), await make({ variables: { OF: 'child' } })]
    const parent = await openLead({
      config: { environment_id: mine.uid, environment: { variables: { ADDED: 'by parent' } } },
    })
    const { said, text } = await parent.call('run_agents', {
      execution_mode: { Remote: { environment_id: theirs.config.name } },
      agent_run_configs: [
        { name: 'told', prompt: 'x' },
        { name: 'own', prompt: 'x', environment_id: mine.uid },
        { name: 'bare', prompt: 'x', environment_id: 'none' },
        { name: 'beside', prompt: 'x', where: 'sandbox' },
        { name: 'lost', prompt: 'x', environment_id: 'nowhere' },
      ],
    })
    expect(said.ignored).toEqual([])
    expect(text).toMatch(/lost: not started\. There is no environment "nowhere"\. There are: /)
    const ids = (said.agents as { agent_id?: string }[]).map(({ agent_id }) => agent_id ?? '')
    const configs = await Promise.all(ids.slice(0, 4).map(async (run_id) => (await runOf(run_id)).agent_config))
    expect(configs.map(({ environment_id }) => environment_id)).toEqual([theirs.uid, mine.uid, undefined, mine.uid])
    // What the parent added was for the parent's environment.
    expect(configs.map(({ environment }) => environment?.variables.ADDED)).toEqual([
      undefined,
      undefined,
      undefined,
      'by parent',
    ])
    const last = await parent.call('run_agents', { agent_run_configs: [{ name: 'silent', prompt: 'x' }] })
    const silent = await take((last.said.agents as { agent_id: string }[])[0]?.agent_id ?? '')
    expect((await silent.start()).config.environment?.variables).toEqual({ OF: 'parent', ADDED: 'by parent' })
  })

  test('beside their parent cannot be elsewhere or somebody else', async () => {
    const made = await make()
    const identity = await house.client.identities.create({ body: { name: newName('reviewer') } })
    const parent = await openLead({})
    const { said } = await parent.call('run_agents', {
      where: 'sandbox',
      agent_run_configs: [
        { name: 'elsewhere', prompt: 'x', environment_id: made.uid },
        { name: 'other', prompt: 'x', agent_identity_uid: identity.uid },
      ],
    })
    expect(said.agents).toMatchObject([
      { status: 'failed', error: expect.stringMatching(/Leave out the environment, or start it on a worker/) },
      { status: 'failed', error: expect.stringMatching(/Leave out the agent identity, or start it on a worker/) },
    ])
  })

  test('work as the identity that is named for them, else as that of their parent', async () => {
    const reviewer = await house.client.identities.create({
      body: { name: newName('reviewer'), prompt: 'Be strict.', harness: { type: 'codex' }, base_model: 'strict-1' },
    })
    const lead = await house.client.identities.create({ body: { name: newName('lead'), prompt: 'Lead.' } })
    const parent = await openLead({
      agent_identity_uid: lead.uid,
      config: { harness: { type: 'claude' }, model_id: 'fast' },
    })
    const { said } = await parent.call('run_agents', {
      agent_run_configs: [
        { name: 'same', prompt: 'x' },
        { name: 'other', prompt: 'x', agent_identity_uid: reviewer.name },
        { name: 'nobody', prompt: 'x', agent_identity_uid: 'none' },
      ],
    })
    const runs = await Promise.all((said.agents as { agent_id: string }[]).map(({ agent_id }) => runOf(agent_id)))
    expect(runs.map(({ executor }) => [executor.type, executor.uid])).toEqual([
      ['service_account', lead.uid],
      ['service_account', reviewer.uid],
      ['user', house.owner.user_id],
    ])
    expect(runs[0]?.agent_config).toMatchObject({ harness: { type: 'claude' }, model_id: 'fast' })
    expect(runs[0]?.agent_config.base_prompt).toBeUndefined()
    expect(runs[1]?.agent_config).toMatchObject({
      harness: { type: 'codex' },
      model_id: 'strict-1',
      base_prompt: 'Be strict.',
    })
  })
})

describe('skills of a run', () => {
  const configOf = async (body: Asked) => {
    const { run_id } = await create({ ...body, config: { worker_host: 'never', ...body.config } })
    return runOf(run_id)
  }

  test('are answered under both names, give the run its name, and stand in for a prompt', async () => {
    const skilled = { agent_config: { skill_spec: 'acme/app:review', skills: ['acme/app:review'], name: 'review' } }
    expect(await configOf({ prompt: undefined, skill: 'acme/app:review' })).toMatchObject({
      ...skilled,
      title: 'review',
      prompt: '',
      agent_skill: { name: 'review' },
    })
    expect(await configOf({ config: { skill_spec: 'acme/app:review' } })).toMatchObject(skilled)
    expect(await configOf({ config: { skills: ['acme/app:review'], name: 'mine' } })).toMatchObject({
      agent_config: { ...skilled.agent_config, name: 'mine' },
    })
    expect(await configOf({ skill: 'app:tools/lint/SKILL.md', config: { skill_spec: 'other' } })).toMatchObject({
      agent_skill: { name: 'lint', full_path: 'tools/lint/SKILL.md' },
    })
  })

  test('are not handed down to children', async () => {
    const { run_id: parent_run_id } = await configOf({ skill: 'review' })
    const child = await configOf({ parent_run_id })
    expect([child.agent_config.skills, child.agent_skill]).toEqual([undefined, undefined])
  })

  test.each<[string, Asked]>([
    ['two ways to name them at once', { config: { skill_spec: 'a', skills: ['b'] } }],
    ['a path that leads out', { skill: 'app:../../etc' }],
    ['a plain command that has them', { skill: 'a', config: { harness: { type: 'command' } } }],
    ['neither prompt nor skill', { prompt: undefined }],
  ])('refuses %s', async (_, body) => {
    await expect(create(body)).rejects.toMatchObject({ code: 'invalid_request' })
  })
})
