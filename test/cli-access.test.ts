/** Teams, invitations and API keys through the built command line and a real server. */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
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

test('of keys that have one name, the one that stands is ended; of several, it is asked which', async () => {
  const create = (...args: string[]) => json<{ key: ApiKey }>('api-key', 'create', 'twice', ...args)
  const { key: ended } = await create('--expires-in', '1s')
  await create('--no-expiration')
  await vi.waitFor(async () => {
    const { api_keys } = await house.client.apiKeys.list()
    expect(api_keys.find(({ uid }) => uid === ended.uid)?.is_expired).toBe(true)
  }, 10_000)
  expect(await baton('api-key', 'expire', 'Twice')).toMatchObject({ code: 0 })
  const { api_keys } = await house.client.apiKeys.list()
  expect(api_keys.filter(({ name }) => name === 'twice')).toMatchObject([{ uid: ended.uid }])
  await create('--no-expiration')
  await create('--no-expiration')
  const unclear = await baton('api-key', 'expire', 'twice')
  expect(unclear).toMatchObject({ code: 2, stderr: expect.stringMatching(/Several API keys are named "twice"\./) })
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

test('people leave, hand a team over, delete it and open it again', async () => {
  const lead = await makeHome()
  const ann = await makeHome()
  try {
    const env = { BATON_SERVER: house.url }
    await lead.run(['login', '--with-token'], { env, stdin: house.api_key })
    await lead.run(['team', 'create', 'Night Shift', '--config-profile', 'default'])
    const asLead = (...args: string[]) => lead.run(args)
    expect((await asLead('whoami')).stdout).toContain('owner of team Night Shift')
    const invited = (await asLead('team', 'invite')).stdout.trim()
    await ann.run(['team', 'join', invited, '--name', 'Ann'])
    const cron = ['--name', 'audit', '--cron', '0 9 * * *', '-p', 'Audit.']
    await ann.run(['schedule', ...cron])
    await ann.run(['agent', 'run-cloud', 'mine', '--host', 'never', '--personal'])

    const told = (await ann.run(['team', 'leave', '--dry-run'])).stdout
    expect(told).toMatch(
      /^You would leave team Night Shift; 1 personal run would be cancelled\.\nWould end key first key/,
    )
    expect(told).toMatch(/^Schedule audit stands still until an admin takes it over: baton schedule take-over /m)
    expect((await ann.run(['whoami'])).code).toBe(0)
    expect((await ann.run(['team', 'leave'])).stdout).toMatch(/^Left team Night Shift; 1 personal run cancelled\./)
    await expect.poll(async () => (await ann.run(['whoami'])).code, { interval: 100, timeout: 10_000 }).toBe(4)

    expect((await asLead('schedule', 'list')).stdout).toMatch(/ audit .* who made it has left; take it over$/m)
    const taken = (await asLead('schedule', 'take-over', 'audit')).stdout
    expect(taken).toMatch(/^Made by +Owner$/m)
    expect(taken).toMatch(/^Next run +\S+ 09:00 UTC/m)

    const again = (await asLead('team', 'invite', '--role', 'member')).stdout.trim()
    await ann.run(['team', 'join', again, '--name', 'Ann', '--new'])
    expect((await asLead('team', 'leave')).stderr).toMatch(/last owner of the team.*or delete the team/)
    const given = await asLead('team', 'transfer', 'Ann', '--stay-as', 'member')
    expect(given.stdout).toBe('Ann owns team Night Shift now; you are member.\n')
    const asAnn = (...args: string[]) => ann.run([...args, '--config-profile', 'night-shift'])
    await expect
      .poll(async () => (await asAnn('whoami')).stdout, { interval: 100, timeout: 10_000 })
      .toContain('owner of team Night Shift')

    await asAnn('agent', 'run-cloud', 'at work', '--host', 'never')
    expect(await asAnn('team', 'delete', 'Day Shift')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/nothing was deleted/),
    })
    const busy = await asAnn('team', 'delete', 'Night Shift')
    expect(busy).toMatchObject({ code: 6, stderr: expect.stringMatching(/1 run of the team has not ended: "at work"/) })
    const deleted = await asAnn('team', 'delete', 'Night Shift', '--cancel-runs')
    expect(deleted.stdout).toMatch(/^Deleted team Night Shift: 1 run cancelled, 1 schedule stopped\./)
    const [, code = ''] = /baton team restore (\S+)$/m.exec(deleted.stdout) ?? []
    await expect.poll(async () => (await asAnn('whoami')).code, { interval: 100, timeout: 10_000 }).toBe(4)
    expect(await home.run(['team', 'restore', 'wrong'], { env })).toMatchObject({ code: 4 })
    const restored = await home.run(['team', 'restore', code], { env })
    expect(restored.stdout).toMatch(/^Team Night Shift is open again, .*; 1 schedule went on\.$/m)
    expect((await asAnn('team', 'members')).stdout).toMatch(/ Ann +owner /)
  } finally {
    await lead.remove()
    await ann.remove()
  }
}, 120_000)

test('a setting that cannot be is refused before anything starts', async () => {
  const started = await home.run(['up', '--port', '0'], { env: { BATON_KEEP_FIRINGS: '5m' } })
  expect(started).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/BATON_KEEP_FIRINGS "5m" is no duration of a day/),
  })
})
