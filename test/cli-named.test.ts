/** Environments and agent identities, and runs that name them, through the built command line and a real server. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Environment, Identity, Run } from '../src/contract/index.ts'
import { asking } from './cli/asking.ts'
import { type Home, makeHome } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'

let home: Home
let house: House
beforeAll(async () => {
  home = await makeHome()
  house = await startHouse({ max_concurrent_runs: 50 })
})
afterAll(async () => {
  await house?.close()
  await home?.remove()
})

const { baton, json } = asking(() => ({ home, house }))

test('an environment is created, listed, shown, changed piece by piece and deleted', async () => {
  const create = ['environment', 'create', '-n', 'app', '--description', 'The app.', '-d', 'node:24']
  const parts = ['-r', 'acme/app', '-r', './lib#next', '-c', 'npm ci', '-c', 'npm test', '--variable', 'MODE=a=b']
  const made = await json<Environment>(...create, ...parts, '--team')
  expect(made.config).toMatchObject({
    name: 'app',
    description: 'The app.',
    docker_image: 'node:24',
    repositories: [{ url: 'https://github.com/acme/app.git' }, { url: join(home.folder, 'lib'), ref: 'next' }],
    github_repos: [{ owner: 'acme', repo: 'app' }],
    setup_commands: ['npm ci', 'npm test'],
    variables: { MODE: 'a=b' },
  })
  expect((await baton('e', 'list')).stdout).toMatch(new RegExp(`^${made.uid} +app .* acme/app `, 'm'))
  expect(await json('environment', 'list', '--sort-by', 'name')).toEqual({ environments: [made] })
  const shown = await baton('environment', 'get', 'APP')
  expect(shown.stdout).toMatch(/^Environment +app\nUid +\w{22}\n/)
  expect(shown.stdout).toMatch(/^Set-up +npm ci$/m)

  const changes = ['--remove-repo', 'acme/app', '-r', 'acme/other', '--remove-setup-command', 'npm test', '-c', 'make']
  const more = ['--remove-description', '--remove-docker-image', '--variable', 'NEW=1', '-n', 'renamed']
  const changed = await json<Environment>('environment', 'update', 'app', ...changes, ...more)
  expect(changed).toMatchObject({
    version: 2,
    config: {
      name: 'renamed',
      description: null,
      repositories: [{ url: join(home.folder, 'lib') }, { url: 'https://github.com/acme/other.git' }],
      setup_commands: ['npm ci', 'make'],
      variables: { MODE: 'a=b', NEW: '1' },
    },
  })
  const wrong = await baton('environment', 'update', 'renamed', '--remove-setup-command', 'npm')
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringMatching(/has no set-up command "npm"/) })
  for (const none of ['app', 'http://example.com/app', 'host:app'])
    expect(await baton('environment', 'update', 'renamed', '-r', none), none).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`"${none}" is no repository.\nWrite it as OWNER/REPO`),
    })
  expect(await baton('environment', 'get', 'none')).toMatchObject({
    code: 5,
    stderr: expect.stringMatching(/There is no environment "none"\.[\s\S]*There are: renamed\./),
  })
  expect(await json('environment', 'delete', 'renamed')).toEqual({ uid: made.uid, deleted: true })
  expect((await baton('environment', 'list')).stderr).toMatch(/No environments\. Make one with/)
}, 60_000)

test('an agent identity is created, listed, shown, changed and deleted', async () => {
  const parts = ['--description', 'Reviews.', '--prompt', 'Be kind.', '--base-model', 'm1', '--skill', 'review']
  const made = await json<Identity>('agent', 'create', '-n', 'Ada', ...parts)
  expect(made).toMatchObject({ name: 'Ada', prompt: 'Be kind.', base_model: 'm1', skills: ['review'] })
  const { agents } = await json<{ agents: Identity[] }>('agent', 'list', '--sort-by', 'name', '--sort-order', 'desc')
  expect(agents).toEqual([expect.objectContaining({ name: 'Default agent' }), made])
  expect((await baton('agent', 'get', 'ada')).stdout).toMatch(/^Instructions +Be kind\.$/m)
  const changes = ['--remove-prompt', '--add-skill', 'app:lint', '--remove-skill', 'review', '--harness', 'claude']
  const changed = await json<Identity>('agent', 'update', 'Ada', ...changes)
  expect(changed).toMatchObject({ prompt: null, skills: ['app:lint'], harness: { type: 'claude' }, base_model: 'm1' })
  expect(await baton('agent', 'delete', 'Default agent')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/cannot be deleted/),
  })
  await json('agent', 'delete', made.uid)
  expect(await baton('agent', 'get', made.uid)).toMatchObject({ code: 5 })
}, 60_000)

test('a run names environment, agent and skill, and needs no prompt with a skill', async () => {
  const { uid } = await house.client.environments.create({ body: { name: 'place' } })
  const agent = await house.client.identities.create({ body: { name: 'Grace', environment_id: uid } })
  const create = async (...args: string[]) => {
    const { run_id } = await json<Run>('agent', 'run-cloud', '--host', 'never', ...args)
    return house.client.runs.get({ params: { run_id } })
  }
  expect(await create('--skill', 'app:review', '--environment', 'place', '--agent', 'Grace')).toMatchObject({
    title: 'review',
    prompt: '',
    agent_config: { environment_id: uid, skills: ['app:review'] },
    executor: { type: 'service_account', uid: agent.uid },
  })
  const bare = await create('-p', 'Go.', '--agent', agent.uid, '--no-environment')
  expect(bare.agent_config.environment_id).toBeUndefined()
  const wrong = await baton('agent', 'run-cloud', '-p', 'Go.', '-e', 'nowhere')
  expect(wrong).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/no environment "nowhere".*There are: "place"/),
  })
  expect(await baton('environment', 'delete', 'place')).toMatchObject({
    stderr: expect.stringMatching(/in use by agent identity "Grace", run /),
  })
  expect(await baton('environment', 'delete', 'place', '--force')).toMatchObject({ code: 0 })
}, 60_000)

test('a memory store and what it holds are made, listed, changed and deleted as Oz has it', async () => {
  const { uid } = await json<{ uid: string }>('memory-store', 'create', '-d', 'builds')
  expect((await baton('memory-stores', 'list')).stdout).toMatch(new RegExp(`^${uid} +team .* builds`, 'm'))
  expect(await json('memory-store', 'update', uid, '-d', 'tests')).toMatchObject({ uid, description: 'tests' })
  expect(await json('memory-store', 'get', uid)).toMatchObject({ owner_type: 'team', description: 'tests' })
  const { memory_id } = await json<{ memory_id: string }>('memory', 'add', uid, '-c', 'Needs Redis.', '-r', 'seen')
  const update = ['memory', 'edit', memory_id, '-s', uid, '-c', 'Needs Valkey.']
  await json(...update, '--version', '1')
  expect(await baton(...update, '--version', '1')).toMatchObject({
    code: 6,
    stderr: expect.stringContaining('version 2'),
  })
  expect((await baton('memory', 'versions', memory_id, '-s', uid)).stdout).toMatch(
    /1 .*Needs Redis\. +seen\n2 .*Valkey/,
  )
  const body = {
    name: 'Mnemo',
    memory: { attached_stores: [{ uid, access: 'read_only' as const, instructions: 'Read.' }] },
  }
  const made = await house.client.identities.create({ body })
  expect((await baton('memory-store', 'list-store-agents', uid)).stdout).toMatch(/Mnemo +reads +Read\./)
  await json('memory', 'remove', memory_id, '--store', uid)
  expect((await baton('memory', 'list', uid)).stdout).toMatch(new RegExp(`^${memory_id} .* deleted +Needs Valkey`, 'm'))
  expect(await baton('memory-store', 'delete', uid, '--force')).toMatchObject({
    code: 6,
    stderr: expect.stringContaining('Mnemo'),
  })
  await house.client.identities.delete({ params: { identity_uid: made.uid } })
  expect(await json('memory-store', 'delete', uid, '--force')).toEqual({ uid, deleted: true })
})
