/** Skills, models, images and raw requests, through the built command line and a real server. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Identity, Run } from '../src/contract/index.ts'
import { type Ended, type Home, makeHome } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'

let home: Home
let house: House
beforeAll(async () => {
  home = await makeHome()
  house = await startHouse({ reads_skills: true, max_concurrent_runs: 50 })
})
afterAll(async () => {
  await house?.close()
  await home?.remove()
})

const baton = (args: string[], stdin = ''): Promise<Ended> =>
  home.run(args, { env: { BATON_SERVER: house.url, BATON_API_KEY: house.api_key }, stdin })

async function json<T>(args: string[], stdin = ''): Promise<T> {
  const { code, stdout, stderr } = await baton([...args, '--json'], stdin)
  expect(code, stderr).toBe(0)
  return JSON.parse(stdout) as T
}

test('skills of the repositories are listed, by repository, and malformed ones when asked for', async () => {
  const root = join(home.folder, 'octo/tools')
  for (const [name, text] of [
    ['review', '---\nname: review\ndescription: Looks at changes\n---\nLook.'],
    ['broken', '---\nname: broken'],
  ] as const) {
    mkdirSync(join(root, '.agents/skills', name), { recursive: true })
    writeFileSync(join(root, '.agents/skills', name, 'SKILL.md'), text)
  }
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=T', '-c', 'user.email=t@example.com', ...args], {
      cwd: root,
      stdio: 'ignore',
    })
  git('init', '-q')
  git('add', '-A')
  git('commit', '-qm', 'Skills')
  expect((await baton(['agent', 'skills'])).stderr).toContain('No environment has a repository')
  const repositories = [{ url: root }, { url: join(home.folder, 'octo/none') }]
  await house.client.environments.create({ body: { name: 'tools', repositories } })
  const listed = await baton(['agent', 'skills', '-r', 'https://github.com/octo/tools.git'])
  expect(listed.stdout).toMatch(/^review +octo\/tools:\.agents\/skills\/review\/SKILL\.md +never +Looks at changes$/m)
  expect(listed.stdout).not.toContain('broken')
  const all = await baton(['agent', 'skills', '--malformed', '--sort-by', 'last-run'])
  expect(all.stdout).toMatch(/^broken .*front matter has no end/m)
  expect(all.stderr).toMatch(/octo\/none: It cannot be read/)
  expect(await json<{ agents: { name: string }[] }>(['agent', 'skills', '--repo', 'octo/tools'])).toMatchObject({
    agents: [{ name: 'review' }],
  })
  expect((await baton(['agent', 'skills', '-r', 'nothing'])).code).toBe(2)
})

test('models and images are listed', async () => {
  const models = await baton(['model', 'list'])
  expect(models.stdout).toMatch(/^auto +Auto +no worker has a key for it +default$/m)
  expect(models.stdout).toMatch(/^claude-\S+ +claude-\S+ +anthropic /m)
  expect((await baton(['model', 'list', '--jq', '.default_model_id'])).stdout).toBe('auto\n')
  await house.client.environments.create({ body: { name: 'imaged', docker_image: 'registry.example/own:1' } })
  const images = await baton(['environment', 'image', 'list'])
  expect(images.stdout).toMatch(/^node:24-bookworm +Node\.js 24/m)
  expect(images.stdout).toMatch(/^registry\.example\/own:1 +of imaged$/m)
})

test('secrets and skills of an agent are added and removed one by one or all at once', async () => {
  const lists = ['--secret', 'A', '--secret', 'B', '--skill', 'one', '--skill', 'two']
  const made = await json<Identity>(['agent', 'create', '-n', 'listed', '--description', 'x', ...lists])
  expect(made).toMatchObject({ secrets: [{ name: 'A' }, { name: 'B' }], skills: ['one', 'two'] })
  const changes = ['--remove-secret', 'A', '--add-secret', 'C', '--add-skill', 'three', '--remove-description']
  expect(await json<Identity>(['agent', 'update', made.uid, ...changes])).toMatchObject({
    secrets: [{ name: 'B' }, { name: 'C' }],
    skills: ['one', 'two', 'three'],
    description: null,
  })
  const cleared = await json<Identity>(['agent', 'update', made.uid, '--remove-all-secrets', '--remove-all-skills'])
  expect(cleared).toMatchObject({ secrets: [], skills: [] })
  for (const both of [
    ['--description', 'x', '--remove-description'],
    ['--add-skill', 'x', '--remove-all-skills'],
    ['--remove-secret', 'nope'],
  ])
    expect((await baton(['agent', 'update', made.uid, ...both])).code, both.join(' ')).toBe(2)
})

test('a raw request takes fields, a whole body from anywhere, null and a query, and shows what was refused', async () => {
  const never = '{"worker_host":"never","name":"raw"}'
  const made = await json<Run>(['api', 'POST', 'agent/runs', '-f', 'prompt=wait', '-f', `config=${never}`])
  const [a, b] = ['agent/runs?name=raw', '/api/v1/agent/runs']
  for (const args of [
    ['api', 'GET', a],
    ['api', 'GET', b, '-f', 'name=raw', '-f', 'state=QUEUED', '-f', 'state=FAILED'],
  ])
    expect((await json<{ runs: Run[] }>(args)).runs.map(({ run_id }) => run_id)).toEqual([made.run_id])
  expect(await json<string>(['api', 'POST', `agent/runs/${made.run_id}/cancel`, '-d', 'null'])).toBe(made.run_id)
  const body = JSON.stringify({ prompt: 'wait', config: { worker_host: 'never' } })
  writeFileSync(join(home.folder, 'body.json'), body)
  for (const data of [body, '-', `@${join(home.folder, 'body.json')}`])
    expect((await json<Run>(['api', 'POST', 'agent/runs', '-d', data], body)).state).toBe('QUEUED')
  const headers = ['-H', 'Idempotency-Key: raw-1']
  const once = ['api', 'post', 'agent/runs', '-d', body, ...headers, '--jq', '.run_id']
  expect((await baton(once)).stdout).toBe((await baton(once)).stdout)
  const issuer = await json<{ issuer: string; jwks_uri: string }>(['api', 'GET', '/.well-known/openid-configuration'])
  expect(issuer.jwks_uri).toBe(`${issuer.issuer}/.well-known/jwks.json`)
  expect(await json<object>(['api', 'GET', new URL(issuer.jwks_uri).pathname])).toHaveProperty('keys')
  expect(await json<object>(['api', 'GET', 'current_time'])).toHaveProperty('current_time')
  const refused = await baton(['api', 'GET', 'agent/runs?limit=0', '--json'])
  expect(refused.code).not.toBe(0)
  expect(JSON.parse(refused.stderr)).toMatchObject({ code: 'invalid_request', status: 400 })
  for (const wrong of [
    ['api', 'FETCH', 'agent/runs'],
    ['api', 'POST', 'agent/runs', '-d', '{'],
    ['api', 'POST', 'agent/runs', '-d', '{}', '-f', 'a=b'],
    ['api', 'POST', 'agent/runs', '-f', 'a'],
    ['api', 'GET', 'agent/runs', '-d', '{}'],
  ])
    expect((await baton(wrong)).code, wrong.join(' ')).toBe(2)
})
