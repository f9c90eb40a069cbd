/** Skills, found by a real runner in real repositories that an environment names. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SKILL_FOLDERS } from '../src/contract/index.ts'
import { runExecution } from '../src/runner/run.ts'
import { findSkills, type SkillsOptions } from '../src/runner/skills.ts'
import { type House, startHouse } from './house/house.ts'

const AGENT = join(import.meta.dirname, 'harnesses/talking-agent.ts')

let folder: string
let house: House
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-skills-'))
  house = await startHouse({ max_concurrent_runs: 100 })
})
afterAll(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

const skill = (name: string, body: string) => `---\nname: ${name}\ndescription: What ${name} is for\n---\n\n${body}\n`

/** A repository `acme/NAME` with these files, committed. */
function makeRepository(name: string, files: Record<string, string>): string {
  const path = join(mkdtempSync(join(folder, 'origin-')), 'acme', name)
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(path, file)), { recursive: true })
    writeFileSync(join(path, file), text)
  }
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: path, stdio: 'ignore' })
  git('init', '--quiet', '--initial-branch=main')
  git('add', '.')
  git('commit', '--quiet', '-m', 'one')
  return path
}

let environments = 0
const makeEnvironment = (...urls: string[]) =>
  house.client.environments.create({
    body: { name: `with skills ${++environments}`, repositories: urls.map((url) => ({ url })) },
  })

type Asked = NonNullable<NonNullable<Parameters<House['client']['executions']['create']>[0]>['body']>

/** Works on it to its end with an agent that writes down what it is given. */
async function work(body: Asked) {
  const created = await house.client.executions.create({
    body: { ...body, config: { ...body.config, harness: { type: 'talk' } } },
  })
  const own = join(folder, created.execution_id)
  mkdirSync(own)
  const agent = { command: process.execPath, args: [AGENT], env: { TALK: own }, tool_hold_ms: 1000 }
  await runExecution({
    server: house.url,
    token: created.token,
    execution_id: created.execution_id,
    version: '0.0.0',
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      BATON_ALLOW_LOCAL_REPOSITORIES: '1',
      BATON_HARNESSES: JSON.stringify({ talk: agent }),
    },
    workspace: join(own, 'workspace'),
    place: 'managed',
    signal: new AbortController().signal,
  })
  const given = join(own, 'given.ndjson')
  const lines = existsSync(given) ? readFileSync(given, 'utf8').trim().split('\n') : []
  const params = { run_id: created.run_id }
  const { entries } = await house.client.transcripts.list({ params, query: { limit: 500 } })
  return {
    prompts: lines.flatMap((line) => (JSON.parse(line) as { text?: string }).text ?? []),
    run: await house.client.runs.get({ params }),
    said: entries.flatMap(({ body }) => ('text' in body ? [body.text] : [])),
  }
}

test('a run that names a memory store is given what it holds before its task', async () => {
  const { memory } = house.client
  const { uid } = await memory.createStore({ body: { description: 'builds' } })
  const body = { content: 'Tests need Redis.', source: 'MANUAL' as const }
  const { memory_id } = await memory.create({ params: { store_uid: uid }, body })
  const memory_stores = [{ uid, access: 'read_only' as const, instructions: 'Read it.' }]
  const { prompts } = await work({ prompt: 'Build.', config: { base_prompt: 'You are careful.', memory_stores } })
  expect(prompts).toEqual([
    expect.stringMatching(
      new RegExp(
        `^You are careful\\.\n\n# What is remembered\n[^]*\n- \\[${memory_id}\\] Tests need Redis\\.\n\nBuild\\.$`,
      ),
    ),
  ])
})

describe('a run that names a skill', () => {
  test('is given its instructions between base prompt and prompt, without the front matter', async () => {
    const app = makeRepository('app', {
      '.claude/skills/review/SKILL.md': skill('review', 'Read every line.\n\n---\n\nThen say so.'),
      '.claude/skills/review/list.md': 'more',
    })
    const { uid } = await makeEnvironment(app)
    const { prompts, run, said } = await work({
      prompt: 'Look at the last commit.',
      skill: 'review',
      config: { environment_id: uid, base_prompt: 'You are careful.' },
    })
    expect(run.state).toBe('SUCCEEDED')
    expect(prompts).toEqual([
      'You are careful.\n\n' +
        'Follow the skill "review"; its files lie in .claude/skills/review.\n\n' +
        'Read every line.\n\n---\n\nThen say so.\n\n' +
        'Look at the last commit.',
    ])
    expect(said).toContain('Follows the skill review (.claude/skills/review/SKILL.md).')
  })

  test('needs no prompt', async () => {
    const { uid } = await makeEnvironment(
      makeRepository('app', { '.agents/skills/tidy/SKILL.md': skill('tidy', 'Tidy up.') }),
    )
    const { prompts, run, said } = await work({ skill: 'app:tidy', config: { environment_id: uid } })
    expect(run).toMatchObject({ state: 'SUCCEEDED', title: 'tidy' })
    expect(prompts).toEqual(['Follow the skill "tidy"; its files lie in .agents/skills/tidy.\n\nTidy up.'])
    expect(said[0]).toBe('Follow app:tidy.')
  })

  test('has several in the order of the request, from several repositories', async () => {
    const { uid } = await makeEnvironment(
      makeRepository('app', { '.codex/skills/one/SKILL.md': 'First.' }),
      makeRepository('lib', { '.gemini/skills/two/SKILL.md': skill('two', 'Second.') }),
    )
    const { prompts } = await work({ prompt: 'Go.', config: { environment_id: uid, skills: ['two', 'acme/app:one'] } })
    expect(prompts[0]).toBe(
      'Follow the skill "two"; its files lie in lib/.gemini/skills/two.\n\nSecond.\n\n' +
        'Follow the skill "one"; its files lie in app/.codex/skills/one.\n\nFirst.\n\nGo.',
    )
  })

  test('fails with where it was looked for and what is there, when it is not found', async () => {
    const { uid } = await makeEnvironment(
      makeRepository('app', { '.claude/skills/review/SKILL.md': skill('review', 'Read.') }),
    )
    const { run, prompts } = await work({ skill: 'reviews', config: { environment_id: uid } })
    expect(prompts).toEqual([])
    expect(run).toMatchObject({ state: 'FAILED', status_message: { error_code: 'resource_not_found' } })
    expect(run.status_message?.message).toBe(
      `Skill "reviews" was not found: acme/app has no reviews/SKILL.md in ${SKILL_FOLDERS.join(', ')}. There are: review.`,
    )
  })

  test('fails with what is wrong, when the file is malformed', async () => {
    const { uid } = await makeEnvironment(
      makeRepository('app', { '.agents/skills/open/SKILL.md': '---\nname: open\nNever closed.\n' }),
    )
    const { run } = await work({ skill: 'open', config: { environment_id: uid } })
    expect(run).toMatchObject({
      state: 'FAILED',
      status_message: {
        error_code: 'environment_setup_failed',
        message:
          'The skill .agents/skills/open/SKILL.md cannot be used: its front matter has no end. ' +
          'Correct the file, then retry.',
      },
    })
  })
})

describe('looking for a skill', () => {
  const look = async (spec: string, cwd: string, more: Partial<SkillsOptions> = {}) =>
    (await findSkills({ specs: [spec], repositories: [], workspace: cwd, cwd, homes: [], ...more }))[0]
  const failureOf = (spec: string, cwd: string) =>
    look(spec, cwd).then(
      () => 'found',
      (error: Error) => error.message,
    )

  test('finds each form in a folder of repositories, as a child beside its parent does', async () => {
    const place = mkdtempSync(join(folder, 'place-'))
    const files = {
      '.warp/skills/deploy/SKILL.md': skill('ship-it', 'Deploy.'),
      'tools/lint/SKILL.md': 'Lint.',
      'notes.md': 'Notes.',
    }
    execFileSync('git', ['clone', '--quiet', makeRepository('app', files), join(place, 'other-name')])
    for (const [spec, instructions] of [
      ['deploy', 'Deploy.'],
      ['ship-it', 'Deploy.'],
      ['app:deploy', 'Deploy.'],
      ['other-name:deploy', 'Deploy.'],
      ['ACME/app:ship-it', 'Deploy.'],
      ['app:tools/lint', 'Lint.'],
      ['acme/app:tools/lint/SKILL.md', 'Lint.'],
      ['tools/lint/', 'Lint.'],
      ['app:notes.md', 'Notes.'],
    ] as const) {
      expect((await look(spec, place))?.instructions, spec).toBe(instructions)
    }
    expect(await failureOf('acme/lib:deploy', place)).toMatch(
      /^Skill "acme\/lib:deploy" was not found: acme\/lib is none of the run's repositories \(.*acme\/app\)\.$/,
    )
    expect(await failureOf('app:tools/none', place)).toMatch(/there is no tools\/none\/SKILL\.md in acme\/app/)
  })

  test('goes through the known folders in their order', async () => {
    const cwd = mkdtempSync(join(folder, 'order-'))
    for (const at of [...SKILL_FOLDERS].reverse()) {
      mkdirSync(join(cwd, at, 'same'), { recursive: true })
      writeFileSync(join(cwd, at, 'same', 'SKILL.md'), `From ${at}.`)
      expect((await look('same', cwd))?.instructions).toBe(`From ${at}.`)
    }
  })

  test('takes those of a person’s home last, and only by name', async () => {
    const [cwd, home] = [mkdtempSync(join(folder, 'cwd-')), mkdtempSync(join(folder, 'home-'))]
    mkdirSync(join(home, '.claude/skills/mine'), { recursive: true })
    writeFileSync(join(home, '.claude/skills/mine/SKILL.md'), 'Mine.')
    expect(await look('mine', cwd, { homes: [home] })).toMatchObject({
      instructions: 'Mine.',
      folder: join(home, '.claude/skills/mine'),
    })
    expect(await failureOf('mine', cwd)).toMatch(/was not found/)
  })

  test.each<[string, string | Buffer, RegExp]>([
    ['front matter that is no YAML', '---\n{a: [\n---\nx', /its front matter is not YAML/],
    ['front matter that is a list', '---\n- a\n---\nx', /must be text/],
    ['a name that is no text', '---\nname: [a]\n---\nx', /must be text/],
    ['no instructions', '---\nname: bad\n---\n\n', /it has no instructions/],
    ['nothing', '', /it has no instructions/],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x41]), /it is not UTF-8 text/],
    ['a book', 'x'.repeat(256 * 1024 + 1), /it is larger than 256 KiB/],
  ])('refuses a file with %s', async (_, content, why) => {
    const cwd = mkdtempSync(join(folder, 'bad-'))
    mkdirSync(join(cwd, '.agents/skills/bad'), { recursive: true })
    writeFileSync(join(cwd, '.agents/skills/bad/SKILL.md'), content)
    expect(await failureOf('bad', cwd)).toMatch(why)
  })

  test('reads nothing outside of the repository, whatever a link in it says', async () => {
    const cwd = mkdtempSync(join(folder, 'link-'))
    const secret = join(folder, 'secret.md')
    writeFileSync(secret, 'secret')
    mkdirSync(join(cwd, '.agents/skills/file'), { recursive: true })
    symlinkSync(secret, join(cwd, '.agents/skills/file/SKILL.md'))
    mkdirSync(join(folder, 'outside'), { recursive: true })
    writeFileSync(join(folder, 'outside/SKILL.md'), 'secret')
    symlinkSync(join(folder, 'outside'), join(cwd, '.agents/skills/dir'))
    for (const name of ['file', 'dir']) expect(await failureOf(name, cwd)).toMatch(/a link that leads out/)
  })
})
