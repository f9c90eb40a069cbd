/** Skills of repositories on GitHub, read with the machine's own git over https, with the logins of environments. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { manualClock } from '../src/db/clock.ts'
import { skillReader } from '../src/engine/skill-reader.ts'
import { type GitHub, openGitHub } from './house/github.ts'
import { type House, startHouse } from './house/house.ts'
import { newKeyring } from './house/route-table.ts'

let github: GitHub
let folder: string
let house: House
let clock: ReturnType<typeof manualClock>
let names = 0

beforeAll(async () => {
  github = await openGitHub()
  folder = mkdtempSync(join(tmpdir(), 'baton-readings-'))
  clock = manualClock()
  // As a server that others use, not as somebody's own machine.
  house = await startHouse({
    clock,
    keyring: await newKeyring(),
    skills: skillReader({ folder, env: github.env, own_machine: false }),
  })
})
afterAll(async () => {
  await house.close()
  await github.close()
  rmSync(folder, { recursive: true, force: true })
})
beforeEach(() => {
  for (const list of [github.asked, github.hosts, github.leaks]) list.length = 0
})

const skill = (name: string) => ({
  [`.agents/skills/${name}/SKILL.md`]: `---\nname: ${name}\ndescription: does ${name}\n---\nDo ${name}.\n`,
  'README.md': '# Much else\n',
})
const environment = (url: string, variables: Record<string, string> = {}) =>
  house.client.environments.create({ body: { name: `place ${++names}`, repositories: [{ url }], variables } })
const list = (repo: string, more: { refresh?: boolean } = {}) => house.client.agents.list({ query: { repo, ...more } })
const basic = (token: string) => `Basic ${Buffer.from(`x-access-token:${token}`).toString('base64')}`

test('a public repository is read without a login', async () => {
  github.add('octo/open', skill('review'))
  const { uid } = await environment('https://github.com/octo/open')
  expect(await list('octo/open')).toMatchObject({
    agents: [
      {
        name: 'review',
        variants: [
          {
            id: 'octo/open:.agents/skills/review/SKILL.md',
            base_prompt: expect.stringContaining('Do review.'),
            source: { owner: 'octo', name: 'open' },
            environments: [{ uid }],
          },
        ],
      },
    ],
    repositories: [{ repository: 'octo/open', read_at: expect.any(String) }],
  })
  expect(new Set(github.hosts)).toEqual(new Set(['github.com']))
  expect(github.asked.every(({ authorization }) => authorization === undefined)).toBe(true)
})

test('a private one is read with the token of the environment, by every spelling of its address, and no process list shows it', async () => {
  github.add('octo/private', skill('deploy'), ['ghp_reader'])
  const variables = { GITHUB_TOKEN: 'ghp_reader' }
  for (const url of [
    'https://github.com/octo/private.git',
    'git@github.com:octo/private.git',
    'ssh://git@github.com/octo/private',
  ])
    await environment(url, variables)
  const { agents, repositories } = await list('octo/private')
  expect(repositories.map(({ error }) => error)).toEqual([undefined, undefined, undefined])
  expect(agents).toMatchObject([{ name: 'deploy', variants: [{ environments: [{}, {}, {}] }] }])
  expect(new Set(github.asked.map(({ authorization }) => authorization))).toEqual(new Set([basic('ghp_reader')]))
  expect(github.leaks).toEqual([])
  expect(readdirSync(folder)).toEqual([])
  const kept = await house.database.kysely.selectFrom('skill_repositories').selectAll().execute()
  expect(JSON.stringify(kept)).not.toContain('ghp_reader')
})

test.each([
  ['without a token', {}, /there is none at this address, or it asks for a login that the environment does not give/],
  [
    'with one that may not',
    { GH_TOKEN: 'ghp_stranger' },
    /there is none at this address, or the login that the environment gives does not open it/,
  ],
  ['with one that is none', { GITHUB_TOKEN: 'ghp_expired' }, /the login that the environment gives does not open it/],
] as const)('a private repository asked for %s is told as one that is not there', async (_, variables, sentence) => {
  const repo = `octo/closed-${++names}`
  github.add(repo, skill('hidden'), ['ghp_reader'])
  await environment(`https://github.com/${repo}`, variables)
  const closed = await list(repo)
  expect(closed).toMatchObject({
    agents: [],
    repositories: [{ read_at: null, error: expect.stringMatching(sentence) }],
  })
  const nowhere = `octo/nowhere-${++names}`
  await environment(`https://github.com/${nowhere}`, variables)
  const [absent] = (await list(nowhere)).repositories
  expect(absent?.error).toBe(closed.repositories[0]?.error)
  expect(JSON.stringify([closed, absent])).not.toMatch(/ghp_|fatal|Repository not found/)
  expect(github.leaks).toEqual([])
})

test('the secrets of an environment and of its team open what no variable opens, and stand in nothing that is told', async () => {
  const { client } = house
  const repo = 'octo/by-secret'
  const told = { '.agents/skills/odd/SKILL.md': '---\nname: {ghp_reader\n---\nWith ghp_reader.\n' }
  github.add(repo, { ...skill('by-ghp_reader'), ...told }, ['ghp_reader'])
  const place = await environment(`https://github.com/${repo}`)
  const elsewhere = await environment(`https://elsewhere.example/${repo}`)
  const keep = (value: string, more: object = {}) =>
    client.secrets.create({ body: { name: 'GITHUB_TOKEN', value, ...more } })
  const look = () => client.agents.list({ query: { repo, include_malformed_skills: true } })
  const personal = await keep('ghp_reader', { team: false })
  const teams = await keep('ghp_stranger')
  const errorAt = async (uid: string) =>
    (await look()).repositories.find(({ environments }) => environments.some((one) => one.uid === uid))?.error
  expect(await errorAt(place.uid)).toMatch(/the login that the environment gives does not open it/)
  const own = await client.environments.create({
    body: { name: `place ${++names}`, repositories: [{ url: `git@github.com:${repo}` }], team: false },
  })
  expect(await errorAt(own.uid)).toBeUndefined()
  await client.secrets.delete({ params: { secret_uid: personal.uid } })
  await keep('ghp_reader', { environment_id: place.uid })
  expect(await errorAt(place.uid)).toBeUndefined()
  // Another value counts at once.
  await client.secrets.replace({ params: { secret_uid: teams.uid }, body: { value: 'ghp_reader' } })
  expect(await errorAt(own.uid)).toBeUndefined()
  const { agents } = await look()
  expect(agents.flatMap(({ variants }) => variants.filter(({ error }) => error !== undefined))).toHaveLength(1)
  expect(agents.map(({ name }) => name)).toContain('by-•••')
  const kept = await house.database.kysely.selectFrom('skill_repositories').selectAll().execute()
  expect(JSON.stringify([agents, kept])).not.toContain('ghp_')
  expect(await errorAt(elsewhere.uid)).toEqual(expect.any(String))
  const there = github.asked.filter(({ host }) => host.startsWith('elsewhere'))
  expect(there.length).toBeGreaterThan(0)
  expect(there.filter(({ authorization }) => authorization !== undefined)).toEqual([])
  expect(github.leaks).toEqual([])
  for (const { uid } of (await client.secrets.list({})).secrets)
    await client.secrets.delete({ params: { secret_uid: uid } })
})

test('one who has the token and one who has not see each what is theirs', async () => {
  const repo = 'octo/both'
  github.add(repo, skill('ours'), ['ghp_reader'])
  const open = await environment(`https://github.com/${repo}`, { GITHUB_TOKEN: 'ghp_reader' })
  await environment(`https://github.com/${repo}`)
  const { agents, repositories } = await list(repo)
  expect(repositories.map(({ error }) => error === undefined).sort()).toEqual([false, true])
  expect(agents).toMatchObject([{ variants: [{ environments: [{ uid: open.uid }] }] }])
})

test('a repository that was renamed is followed; a login goes to no other host', async () => {
  github.add('octo/new-name', skill('moved'), ['ghp_reader'])
  github.move('octo/old-name', 'octo/new-name.git')
  await environment('https://github.com/octo/old-name', { GITHUB_TOKEN: 'ghp_reader' })
  expect((await list('octo/old-name')).agents).toMatchObject([{ name: 'moved' }])
  github.move('octo/trap', 'https://elsewhere.example/octo/new-name/info/refs?service=git-upload-pack')
  github.asked.length = 0
  await environment('https://github.com/octo/trap', { GITHUB_TOKEN: 'ghp_reader' })
  expect((await list('octo/trap')).repositories).toMatchObject([{ error: expect.any(String) }])
  const there = github.asked.filter(({ host }) => host.startsWith('elsewhere'))
  expect(there.length).toBeGreaterThan(0)
  expect(there.map(({ authorization }) => authorization)).toEqual(there.map(() => undefined))
})

test('too many requests: what was read before stays, the reason is told, and later it is read again', async () => {
  github.add('octo/busy', skill('steady'))
  await environment('https://github.com/octo/busy')
  expect((await list('octo/busy')).repositories).toMatchObject([{ read_at: expect.any(String) }])
  github.limit(true)
  const limited = await list('octo/busy', { refresh: true })
  expect(limited.agents).toMatchObject([{ name: 'steady' }])
  expect(limited.repositories).toMatchObject([
    { read_at: expect.any(String), error: expect.stringMatching(/its host takes no more requests for now/) },
  ])
  github.limit(false)
  // Not at once again: only after a while, or when somebody asks for it.
  const before = github.asked.length
  await list('octo/busy')
  expect(github.asked).toHaveLength(before)
  clock.advance(11 * 60_000)
  await expect.poll(async () => (await list('octo/busy')).repositories[0]?.error).toBeUndefined()
})
