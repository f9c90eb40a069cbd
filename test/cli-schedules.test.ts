/** Schedules through the built command line and a real server. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { CreatedRun, Firing, NextTimes, Schedule } from '../src/contract/index.ts'
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

test('a schedule is made without the word create, with all that its runs are asked for', async () => {
  const { uid } = await house.client.environments.create({ body: { name: 'app' } })
  const agent = await house.client.identities.create({ body: { name: 'Ada' } })
  await writeFile(join(home.folder, 'run.yaml'), 'base_prompt: Be kind.\nmodel_id: other\n')
  const say = ['schedule', '--name', 'audit', '--cron', '0 9 * * 1-5', '-p', 'Audit.', '--model', 'm1', '-e', 'app']
  const more = [
    '-f',
    'run.yaml',
    '--host',
    'w1',
    '--agent',
    'Ada',
    '--mcp',
    '{"m":{"url":"http://m.example"}}',
    '--team',
  ]
  const ours = [
    '--time-zone',
    'Europe/Berlin',
    '--overlap',
    'cancel-previous',
    '--catch-up-window',
    '2h',
    '--catch-up',
    'all',
  ]
  const made = await json<Schedule>(...say, ...more, ...ours)
  expect(made).toMatchObject({
    name: 'audit',
    cron_schedule: '0 9 * * 1-5',
    prompt: 'Audit.',
    enabled: true,
    agent_config: {
      base_prompt: 'Be kind.',
      model_id: 'm1',
      environment_id: uid,
      worker_host: 'w1',
      mcp_servers: { m: { url: 'http://m.example' } },
    },
    agent_uid: agent.uid,
    scope: { type: 'Team' },
    time_zone: 'Europe/Berlin',
    overlap_policy: 'cancel_previous',
    catch_up_window_minutes: 120,
    catch_up: 'all',
  })
  expect(made.agent_config.name).toBeUndefined()
  const shown = await baton('schedule', 'get', 'AUDIT')
  expect(shown.stdout).toMatch(/^Times +At 09:00, Monday through Friday \(0 9 \* \* 1-5, Europe\/Berlin\)$/m)
  expect(shown.stdout).toMatch(/^Next run +\d{4}-\d\d-\d\d 09:00 Europe\/Berlin, in \d/m)
  expect(shown.stdout).toMatch(/^Missed times +all of the last 120 minutes$/m)
}, 60_000)

test('schedules are listed with their times in words, and as the server sends them', async () => {
  const { stdout } = await baton('schedule', 'list')
  expect(stdout).toMatch(/^ID +NAME +SCHEDULE +PAUSED +LAST RAN +NEXT RUN +SCOPE/)
  expect(stdout).toMatch(/ audit +At 09:00, Monday through Friday \(Europe\/Berlin\) +no +never +in .* team/)
  expect(await json('schedule', 'ls')).toEqual(await house.client.schedules.list())
  expect((await baton('schedule', 'list', '--jq', '.schedules[].name')).stdout).toBe('audit\n')
})

test('a schedule is changed piece by piece', async () => {
  const changes = ['--name', 'check', '--cron', '*/30 * * * *', '--skill', 'app:lint', '--remove-environment']
  const more = ['--remove-mcp', 'm', '--mcp', '{"n":{"command":"n"}}', '--host', 'w2', '--remove-agent']
  const changed = await json<Schedule>('schedule', 'update', 'audit', ...changes, ...more)
  expect(changed).toMatchObject({
    name: 'check',
    cron_schedule: '*/30 * * * *',
    prompt: 'Audit.',
    agent_config: { model_id: 'm1', worker_host: 'w2', skills: ['app:lint'], mcp_servers: { n: { command: 'n' } } },
    overlap_policy: 'cancel_previous',
    time_zone: 'Europe/Berlin',
  })
  expect(changed.agent_config).not.toHaveProperty('environment_id')
  expect(changed.agent_config.mcp_servers).not.toHaveProperty('m')
  expect(changed).not.toHaveProperty('agent_uid')
  const piped = await home.run(['schedule', 'update', 'check', '-p', '-'], {
    env: { BATON_SERVER: house.url, BATON_API_KEY: house.api_key },
    stdin: 'Said by another program.',
  })
  expect(piped.stdout).toMatch(/^Prompt +Said by another program\.$/m)
  const without = await json<Schedule>('schedule', 'update', 'check', '--remove-skill', '-p', 'Look.')
  expect(without.agent_config).not.toHaveProperty('skills')
  expect(without.agent_config).not.toHaveProperty('name')
  expect(await baton('schedule', 'update', 'check', '--remove-mcp', 'm')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/has no MCP server "m"/),
  })
  for (const [remove, give] of [
    ['--remove-skill', '--skill'],
    ['--remove-environment', '-e'],
    ['--remove-agent', '--agent'],
  ] as const)
    expect(await baton('schedule', 'update', 'check', remove, give, 'x'), remove).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`'${remove}' cannot be used with option`),
    })
}, 60_000)

test('it is run now, its times and their ends are shown', async () => {
  const created = await json<CreatedRun>('schedule', 'run-now', 'check')
  expect(created.task_id).toBe(created.run_id)
  const said = await baton('schedule', 'run-now', 'check')
  expect(said.stdout).toMatch(/^Spawned ambient agent with run ID: [\w-]{36}\nView run: http/)
  const history = await json<{ firings: Firing[] }>('schedule', 'history', 'check')
  expect(history.firings).toHaveLength(2)
  expect((await baton('schedule', 'history', 'check', '-L', '1')).stdout).toMatch(/ by hand +[\w-]{36} +QUEUED$/m)
  const { id } = await json<Schedule>('schedule', 'get', 'check')
  const listed = await json<{ runs: { run_id: string }[] }>('run', 'list', '--schedule', id, '--sort-order', 'asc')
  expect(listed.runs.map(({ run_id }) => run_id).sort()).toEqual(history.firings.map(({ run_id }) => run_id).sort())
  const { times } = await json<NextTimes>('schedule', 'next', 'check', '--count', '3')
  expect(times).toHaveLength(3)
  expect((await baton('schedule', 'next', 'check')).stdout.trim().split('\n')).toHaveLength(5)
  expect(await baton('schedule', 'next', 'check', '--count', 'many')).toMatchObject({ code: 2 })
}, 60_000)

test('it is paused, goes on under both names, and is deleted', async () => {
  expect((await baton('schedule', 'pause', 'check')).stdout).toMatch(/^Paused schedule check\./)
  expect((await baton('schedule', 'list')).stdout).toMatch(/ check .* yes /)
  expect(await json('schedule', 'unpause', 'check')).toMatchObject({ enabled: true })
  await baton('schedule', 'pause', 'check')
  expect(await json('schedule', 'resume', 'check')).toMatchObject({ enabled: true })
  expect(await json('schedule', 'delete', 'check')).toEqual({ success: true })
  expect(await baton('schedule', 'get', 'check')).toMatchObject({ code: 5 })
  expect((await baton('schedule', 'list')).stderr).toMatch(/No schedules\. Make one with: baton schedule --name/)
}, 60_000)

test.each([
  [['schedule', '--name', 'x', '-p', 'y'], /Required option '--cron <cron>' not specified/],
  [['schedule', '--name', 'x', '--cron', '@daily', '-p', 'y'], /--cron: .*write @daily as 0 0 \* \* \*/],
  [['schedule', 'create', '--name', 'x', '--cron', '0 25 * * *', '-p', 'y'], /--cron: The hour "25" is not valid/],
  [
    ['schedule', '--name', 'x', '--cron', '0 9 * * *', '-p', 'y', '--time-zone', 'Mars'],
    /--time-zone: .*Europe\/Berlin/,
  ],
  [['schedule', '--name', 'x', '--cron', '0 0 30 2 *', '-p', 'y'], /never comes/],
  [['schedule', '--name', 'x', '--cron', '0 9 * * *'], /no prompt/],
  [['schedule', 'lst'], /Did you mean "list"\?/],
])('baton %j is refused in a sentence', async (args, sentence) => {
  expect(await baton(...args)).toMatchObject({ code: 2, stderr: expect.stringMatching(sentence) })
})

test('a schedule of a skill needs no prompt, and one that is paused makes no runs', async () => {
  const paused = ['schedule', '--name', 's', '--cron', '0 0 * * *', '--skill', 'app:review', '--paused', '--personal']
  expect(await json<Schedule>(...paused)).toMatchObject({
    prompt: '',
    enabled: false,
    agent_config: { skills: ['app:review'] },
    scope: { type: 'User' },
    history: { next_run: null },
  })
})
