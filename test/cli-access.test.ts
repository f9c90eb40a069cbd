/** Teams, invitations and API keys through the built command line and a real server. */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ApiKey, Run, WhoAmI } from '../src/contract/index.ts'
import { asking } from './cli/asking.ts'
import { type Home, makeHome } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'

let home: Home
let house: House
beforeAll(async () => {
  home = await makeHome()
  house = await startHouse()
})
afterAll(async () => {
  await house?.close()
  await home?.remove()
})

const { baton, json } = asking(() => ({ home, house }))

test('a key is made as asked for, printed alone, listed in any order and ended by name', async () => {
  const made = await baton('api-key', 'create', 'laptop', '--expires-in', '90d')
  expect(made.code, made.stderr).toBe(0)
  expect(made.stdout).toMatch(/^wk-1\.[0-9a-f]{64}\n$/)
  expect(made.stderr).toContain('not shown again')
  const who = await home.run(['whoami'], { env: { BATON_SERVER: house.url, BATON_API_KEY: made.stdout.trim() } })
  expect(who.stdout).toMatch(/^Owner, owner of team default, at http.*\nby the api key "laptop", personal, until 20/)
  const at = '2999-01-31T00:00:00Z'
  const shown = await json<{ api_key: string; key: ApiKey }>(
    'api-key',
    'create',
    'bot',
    '--scope',
    'team',
    '--expires-at',
    at,
  )
  expect(shown.key).toMatchObject({ scope: 'team', expires_at: new Date(at).toISOString() })
  await json('agent', 'create', '-n', 'Reviewer')
  const agent = await json<{ key: ApiKey }>('api-key', 'create', 'ci', '--agent', 'reviewer', '--no-expiration')
  expect(agent.key).toMatchObject({ scope: 'agent', agent: { name: 'Reviewer' }, expires_at: null })

  const names = async (...args: string[]) =>
    (await json<{ api_keys: ApiKey[] }>('api-key', 'list', ...args)).api_keys.map(({ name }) => name)
  expect(await names('--sort-by', 'name')).toEqual(['bot', 'ci', 'first key', 'laptop'])
  expect(await names('--sort-by', 'expires-at', '--sort-order', 'desc')).toEqual([
    expect.stringMatching(/ci|first key/),
    expect.stringMatching(/ci|first key/),
    'bot',
    'laptop',
  ])
  expect((await baton('api-key', 'list', '--jq', '.api_keys[0].name')).stdout).toBe('first key\n')
  const listed = (await baton('api-key', 'ls')).stdout
  expect(listed).toMatch(/ laptop +wk-1\.…[0-9a-f]{4} +personal /)
  expect(listed).not.toContain(made.stdout.trim())
  expect(await baton('api-key', 'expire', 'laptop', '--force')).toMatchObject({ code: 0 })
  expect(await baton('api-key', 'delete', 'bot')).toMatchObject({ code: 0 })
  expect(await names('--sort-by', 'name')).toEqual(['ci', 'first key'])
}, 60_000)

test.each([
  ['no end', [], /Say when the key ends\.[\s\S]*--no-expiration/],
  ['two ends', ['--expires-in', '1d', '--no-expiration'], /more than once/],
  ['a duration that is none', ['--expires-in', 'soon'], /"soon" is no duration/],
  ['a time that is none', ['--expires-at', 'tomorrow'], /"tomorrow" is no time/],
])('a key with %s is refused with what to write', async (_, args, words) => {
  const { code, stderr } = await baton('api-key', 'create', 'x', ...args)
  expect(code).toBe(2)
  expect(stderr).toMatch(words)
})

test('an invitation is made, taken by a newcomer, and what they may do is changed and ended', async () => {
  const made = await baton('team', 'invite', '--role', 'viewer', '--email', 'ann@example.com', '--expires-in', '2d')
  expect(made.stdout).toMatch(/^http.*\/login#invite=\S+\n$/)
  expect((await baton('team', 'invites')).stdout).toMatch(/ viewer +ann@example\.com +Owner /)
  const ann = await makeHome()
  try {
    const joined = await ann.run(['team', 'join', made.stdout.trim(), '--name', 'Ann'])
    expect(joined).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^Joined team default as viewer, Ann \(profile default\)\.\n$/),
    })
    const config = join(ann.folder, '.config', 'baton', 'config.json')
    expect(await readFile(config, 'utf8')).toContain('wk-1.')
    expect((await stat(config)).mode & 0o077).toBe(0)
    expect((await ann.run(['whoami'])).stdout).toMatch(/^Ann, viewer of team default/)
    expect(await ann.run(['agent', 'run-cloud', 'x'])).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('This takes the role member'),
    })
    expect(await ann.run(['whoami', '--set-name', 'Anna'])).toMatchObject({ stdout: expect.stringMatching(/^Anna, /) })
    expect((await baton('team', 'role', 'ann@example.com', 'admin')).stdout).toBe('Anna is now admin of the team.\n')
    expect((await baton('team', 'members')).stdout).toMatch(/ Anna +ann@example\.com +admin +/)
    const again = await home.run(['team', 'join', made.stdout.trim(), '--name', 'Eve', '--new'])
    expect(again).toMatchObject({ code: 4, stderr: expect.stringContaining('taken already') })
    const removed = await baton('team', 'remove', 'Anna')
    expect(removed.stdout).toMatch(/^Removed Anna; 0 personal runs cancelled\.\nEnded key first key \(personal, /)
    await expect.poll(async () => (await ann.run(['whoami'])).code, { interval: 100, timeout: 10_000 }).toBe(4)
  } finally {
    await ann.remove()
  }
}, 60_000)

test('another team is made and kept as a profile of its own', async () => {
  const own = await makeHome()
  try {
    const env = { BATON_SERVER: house.url }
    await own.run(['login', '--with-token'], { env, stdin: house.api_key })
    const made = await own.run(['team', 'create', 'Night Shift'])
    expect(made.stdout).toMatch(
      /^Made team Night Shift as owner, Owner \(profile night-shift\)\.\n.*--config-profile night-shift/,
    )
    expect((await own.run(['whoami'])).stdout).toContain('owner of team default')
    expect((await own.run(['whoami', '--config-profile', 'night-shift'])).stdout).toContain('owner of team Night Shift')
    const teams = (await own.run(['team', 'list'])).stdout
    expect(teams).toMatch(/ default +owner +1 member +this key acts for it$/m)
    expect(teams).toMatch(/ Night Shift +owner +1 member$/m)
    expect((await own.run(['team', 'rename', 'days', '--config-profile', 'night-shift'])).stdout).toContain(
      'is now days',
    )
  } finally {
    await own.remove()
  }
}, 60_000)

test('--personal and --team say whose a new thing is', async () => {
  const { user } = await house.client.access.whoami()
  const mine = { type: 'User', uid: (user as NonNullable<WhoAmI['user']>).user_id }
  const { run_id } = await json<Run>('agent', 'run-cloud', 'x', '--host', 'never', '--personal')
  expect(await json<Run>('run', 'get', run_id)).toMatchObject({ scope: mine })
  const ours = await json<Run>('agent', 'run-cloud', 'x', '--host', 'never', '--team')
  expect((await json<Run>('run', 'get', ours.run_id)).scope.type).toBe('Team')
  expect(await json('environment', 'create', '-n', 'den', '--personal')).toMatchObject({ scope: mine })
  expect(await json('agent', 'create', '-n', 'Butler', '--personal')).toMatchObject({ scope: mine })
  expect(await baton('agent', 'run-cloud', 'x', '--team', '--personal')).toMatchObject({ code: 2 })
}, 60_000)
