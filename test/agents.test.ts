/** Skills as agents: what the repositories of the environments offer, read with git as they are. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { skillReader } from '../src/engine/skill-reader.ts'
import { AgentList } from './contract/wire-named.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'

let house: House
let folder: string
let repositories = 0

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-skills-'))
  house = await startHouse({ reads_skills: true, max_concurrent_runs: 500 })
})
afterAll(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

const git = (cwd: string, ...args: string[]) =>
  execFileSync(
    'git',
    ['-c', 'user.name=T', '-c', 'user.email=t@example.com', '-c', 'init.defaultBranch=main', ...args],
    {
      cwd,
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  ).toString()

type Files = Record<string, string | { link: string }>
const put = (root: string, files: Files): void => {
  for (const [path, what] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    if (typeof what === 'string') writeFileSync(join(root, path), what)
    else symlinkSync(what.link, join(root, path))
  }
  git(root, 'add', '-A')
  git(root, 'commit', '-qm', 'Files')
}

/** A repository as `<folder>/octo<n>/<name>`, and an environment that has it. */
async function make(name: string, files: Files) {
  const owner = `octo${++repositories}`
  const root = join(folder, owner, name)
  mkdirSync(root, { recursive: true })
  git(root, 'init', '-q')
  put(root, files)
  const environment = await house.client.environments.create({
    body: { name: `${owner} ${name}`, repositories: [{ url: root }] },
  })
  return { owner, name, root, repo: `${owner}/${name}`, environment }
}
const skill = (name: string, body: string, description = `does ${name}`) =>
  `---\nname: ${name}\ndescription: ${description}\n---\n${body}\n`
type Query = NonNullable<NonNullable<Parameters<House['client']['agents']['list']>[0]>['query']>
const list = async (query: Query) => {
  const answer = await house.client.agents.list({ query })
  // As the public API has it.
  AgentList.parse(answer)
  return answer
}

test('skills of all ten folders are found, with the environments that have them', async () => {
  const folders = ['agents', 'warp', 'claude', 'codex', 'cursor', 'gemini', 'copilot', 'factory', 'github', 'opencode']
  const files = Object.fromEntries(
    folders.map((one) => [`.${one}/skills/by-${one}/SKILL.md`, skill(`by-${one}`, `Work as ${one}.`)]),
  )
  const { repo, owner, name, environment } = await make('ten', {
    ...files,
    'elsewhere/skills/no/SKILL.md': skill('no', 'Never.'),
    '.agents/skills/deep/er/SKILL.md': skill('deep', 'Never.'),
    '.agents/skills/by-agents/NOTES.md': 'More.',
  })
  const { agents, repositories: read } = await list({ repo })
  expect(agents.map((agent) => agent.name)).toEqual(folders.map((one) => `by-${one}`).sort())
  expect(agents[0]?.variants).toEqual([
    {
      id: `${repo}:.agents/skills/by-agents/SKILL.md`,
      description: 'does by-agents',
      base_prompt: 'Work as agents.',
      source: { owner, name, skill_path: '.agents/skills/by-agents/SKILL.md' },
      environments: [{ uid: environment.uid, name: environment.config.name }],
      last_run_timestamp: null,
    },
  ])
  expect(read).toMatchObject([{ repository: repo, read_at: expect.any(String) }])
  expect(read[0]).not.toHaveProperty('error')
})

test('skills of one name are variants of one agent', async () => {
  const one = await make('first', { '.agents/skills/shared/SKILL.md': skill('shared', 'One.') })
  const two = await make('second', { '.claude/skills/other-folder/SKILL.md': skill('shared', 'Two.') })
  const { agents } = await list({})
  const shared = agents.find((agent) => agent.name === 'shared')
  expect(shared?.variants.map(({ id }) => id).sort()).toEqual([
    `${one.repo}:.agents/skills/shared/SKILL.md`,
    `${two.repo}:.claude/skills/other-folder/SKILL.md`,
  ])
})

test('what cannot be used is told only when asked for, and why; links are not followed', async () => {
  writeFileSync(join(folder, 'secret.md'), skill('secret', 'The secret of this machine.'))
  const { repo } = await make('broken', {
    '.agents/skills/fine/SKILL.md': 'No front matter, yet instructions.',
    '.agents/skills/endless/SKILL.md': '---\nname: endless\nNo end.',
    '.agents/skills/empty/SKILL.md': '---\nname: empty\n---\n',
    '.agents/skills/wrong/SKILL.md': '---\nname: [1, 2]\n---\nDo.',
    '.agents/skills/nul/SKILL.md': '---\ndescription: "a\\0b"\n---\nDo.',
    '.agents/skills/huge/SKILL.md': `Do. ${'x'.repeat(300 * 1024)}`,
    '.agents/skills/leak/SKILL.md': { link: join(folder, 'secret.md') },
  })
  expect((await list({ repo })).agents.map(({ name }) => name)).toEqual(['fine'])
  const { agents } = await list({ repo, include_malformed_skills: true })
  const errors = Object.fromEntries(agents.map(({ name, variants }) => [name, variants[0]?.error]))
  expect(errors).toEqual({
    fine: undefined,
    endless: expect.stringContaining('front matter has no end'),
    empty: expect.stringContaining('no instructions'),
    wrong: expect.stringContaining('must be text'),
    nul: expect.stringContaining('NUL'),
    huge: expect.stringContaining('larger than 256 KiB'),
    leak: expect.stringContaining('it is a link'),
  })
  expect(JSON.stringify(agents)).not.toContain('The secret of this machine')
})

test('what was read is answered from then on; refresh reads it again', async () => {
  const { repo, root } = await make('growing', { '.agents/skills/old/SKILL.md': skill('old', 'Old.') })
  expect((await list({ repo })).agents.map(({ name }) => name)).toEqual(['old'])
  put(root, { '.agents/skills/new/SKILL.md': skill('new', 'New.') })
  expect((await list({ repo })).agents.map(({ name }) => name)).toEqual(['old'])
  expect((await list({ repo, refresh: true })).agents.map(({ name }) => name)).toEqual(['new', 'old'])
  rmSync(root, { recursive: true })
  const gone = await list({ repo, refresh: true })
  expect(gone.agents.map(({ name }) => name)).toEqual(['new', 'old'])
  expect(gone.repositories[0]?.error).toMatch(/no repository at this address/)
})

test('what was read long ago is answered at once and read again meanwhile', async () => {
  const { repo, root } = await make('stale', { '.agents/skills/old/SKILL.md': skill('old', 'Old.') })
  await list({ repo })
  put(root, { '.agents/skills/new/SKILL.md': skill('new', 'New.') })
  const long_ago = new Date(house.clock.now().getTime() - 3_600_000)
  await house.database.kysely.updateTable('skill_repositories').set({ tried_at: long_ago }).execute()
  expect((await list({ repo })).agents.map(({ name }) => name)).toEqual(['old'])
  await until('it was read again', async () => (await list({ repo })).agents.length === 2)
})

test('a repository that cannot be read is reported, and the others are listed', async () => {
  const fine = await make('readable', { '.agents/skills/here/SKILL.md': skill('here', 'Here.') })
  await house.client.environments.create({
    body: { name: 'unreachable', repositories: [{ url: join(folder, 'nobody/nothing') }] },
  })
  const { agents, repositories: read } = await list({})
  expect(agents.map(({ name }) => name)).toContain('here')
  expect(read.find(({ repository }) => repository === 'nobody/nothing')?.error).toMatch(/cannot be read/)
  expect(read.find(({ repository }) => repository === fine.repo)).not.toHaveProperty('error')
})

test('the last run is found by each spelling that names the skill', async () => {
  const { repo, name, environment } = await make('busy', {
    '.agents/skills/first/SKILL.md': skill('first', 'First.'),
    '.agents/skills/second/SKILL.md': skill('second', 'Second.'),
  })
  await make('idle', { '.agents/skills/first-alike/SKILL.md': skill('first', 'Another first.') })
  const variant = async (agent: string) =>
    (await list({ repo })).agents.find((one) => one.name === agent)?.variants[0]?.last_run_timestamp
  const spellings = [
    { skill: `${repo}:first` },
    { skill: `${repo}:.agents/skills/first/SKILL.md` },
    { skill: `${name}:.agents/skills/first`, config: { environment_id: environment.uid } },
    { skill: 'first', config: { environment_id: environment.uid } },
  ]
  for (const { config, ...body } of spellings) {
    const { run_id } = await house.client.runs.create({
      body: { ...body, config: { worker_host: 'never', ...config } },
    })
    const run = await house.client.runs.get({ params: { run_id } })
    expect(await variant('first'), body.skill).toBe(run.created_at)
  }
  expect(await variant('second')).toBeNull()
  expect((await list({ repo, sort_by: 'last_run' })).agents.map((one) => one.name)).toEqual(['first', 'second'])
})

test('branches are read as the environment names them', async () => {
  const { root, repo } = await make('branched', { '.agents/skills/main/SKILL.md': skill('main', 'Main.') })
  git(root, 'checkout', '-qb', 'next')
  put(root, { '.agents/skills/next/SKILL.md': skill('next', 'Next.') })
  git(root, 'checkout', '-q', 'main')
  const url = root
  await house.client.environments.create({ body: { name: 'on next', repositories: [{ url, ref: 'next' }] } })
  await house.client.environments.create({ body: { name: 'on none', repositories: [{ url, ref: 'no-such' }] } })
  const { agents, repositories: read } = await list({ repo })
  expect(agents.map(({ name }) => name)).toEqual(['main', 'next'])
  expect(agents[0]?.variants[0]?.environments).toHaveLength(2)
  expect(read.find(({ repository }) => repository === `${repo}#no-such`)?.error).toMatch(/no branch, tag or commit/)
})

test('another team sees nothing of it; a wrong repository is refused with words', async () => {
  const { repo } = await make('private', { '.agents/skills/mine/SKILL.md': skill('mine', 'Mine.') })
  await list({ repo })
  const other = await house.addTeam(`others ${repo}`)
  expect(await other.client.agents.list()).toEqual({ agents: [], repositories: [] })
  await expect(other.client.agents.list({ query: { repo } })).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(list({ repo: 'not/there' })).rejects.toMatchObject({ message: expect.stringContaining(repo) })
  await expect(list({ repo: 'nonsense' })).rejects.toMatchObject({ code: 'invalid_request' })
})

test('a server that is not one person’s own reads no path of its disk; readings leave nothing behind', async () => {
  const { root } = await make('disk', { '.agents/skills/mine/SKILL.md': skill('mine', 'Mine.') })
  const readings = join(folder, 'readings')
  const source = { url: root, ref: undefined, github_token: null }
  const theirs = skillReader({ folder: readings, env: process.env, own_machine: false })
  await expect(theirs(source, null)).rejects.toThrow(/does not read/)
  await expect(theirs({ ...source, url: '--upload-pack=touch /tmp/x' }, null)).rejects.toThrow(/no address/)
  const own = skillReader({ folder: readings, env: process.env, own_machine: true })
  const found = await own(source, null)
  expect(found?.skills.map(({ name }) => name)).toEqual(['mine'])
  expect(await own(source, found?.head ?? null)).toBeNull()
  expect(readdirSync(readings)).toEqual([])
})
