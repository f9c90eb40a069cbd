/** Oz's grammar, word for word: every command, argument, option and alias of it is understood, or told what to use. */
import type { Command, Option } from 'commander'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeProgram } from '../src/cli/program.ts'
import type { CreatedRun, Run } from '../src/contract/index.ts'
import { asking } from './cli/asking.ts'
import { type Home, makeHome } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'
import { GLOBALS, GRAMMAR, HIDDEN_GLOBALS, NOT_HERE } from './house/oz-grammar.ts'

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
const silent = { out: () => {}, err: () => {} }
const find = (path: string) => makeProgram('0.0.0', silent).find(path.split(' '))

type Wanted = {
  short?: string
  long: string
  value: 'none' | 'needed' | 'optional'
  several: boolean
  values: string[]
}

function wantedOf(words: string): Wanted[] {
  return words.split(/\s+/).map((word) => {
    const [, short, long = '', equals, optional, values, several] =
      /^(?:(-\w)\/)?(--[a-z-]+)(=)?(\?)?(?:\{([^}]+)\})?(\*)?$/.exec(word) ?? []
    expect(long, `"${word}" of the grammar`).not.toBe('')
    return {
      ...(short === undefined ? {} : { short }),
      long,
      value: equals === undefined ? 'none' : optional === undefined ? 'needed' : 'optional',
      several: several !== undefined,
      values: values?.split('|') ?? [],
    }
  })
}

/** Those of the groups that it is in count, too. */
function optionsOf(command: Command): Option[] {
  return [...command.options, ...(command.parent ? optionsOf(command.parent) : [])]
}

function check(command: Command, wanted: Wanted, where: string): void {
  const option = optionsOf(command).find((one) => one.long === wanted.long)
  const what = `${where} ${wanted.long}`
  expect(option, what).toBeDefined()
  if (option === undefined) return
  if (wanted.short !== undefined) expect(option.short, what).toBe(wanted.short)
  expect(option.required ? 'needed' : option.optional ? 'optional' : 'none', what).toBe(wanted.value)
  for (const value of wanted.values)
    expect([...(option.argChoices ?? []), ...option.description.split(/[ ,:;]+/)], what).toContain(value)
  if (!wanted.several || option.variadic) return
  const [one = 'team', other = 'public'] = wanted.values
  const once = option.parseArg?.(one, undefined as never) as unknown
  expect(option.parseArg?.(other, once as never), what).toHaveLength(2)
}

describe.each(GRAMMAR.map((line) => [line.path, line] as const))('%s', (path, line) => {
  test('is a command with these arguments and options', async () => {
    const { command, rest } = await find(path)
    expect(rest, path).toEqual([])
    const names = (line.args ?? '').split(' ').filter((name) => name !== '')
    const needed = names.filter((name) => !name.startsWith('['))
    expect(command.registeredArguments.filter((one) => one.required)).toHaveLength(needed.length)
    expect(command.registeredArguments.length).toBeGreaterThanOrEqual(names.length)
    for (const words of [line.options, line.hidden, GLOBALS, HIDDEN_GLOBALS])
      for (const wanted of words === undefined ? [] : wantedOf(words.trim())) check(command, wanted, path)
  })

  test.runIf(line.aliases)('has its other names', async () => {
    const { command } = await find(path)
    for (const alias of line.aliases ?? []) {
      const other = await find(alias)
      expect(other.rest, alias).toEqual([])
      expect(pathOf(other.command)).toBe(pathOf(command))
    }
  })

  test.runIf(line.hidden)('shows nothing in its help that is hidden', async () => {
    const { command } = await find(path)
    const help = command.helpInformation()
    for (const { long } of wantedOf((line.hidden ?? '').trim()))
      expect(help, long).not.toMatch(new RegExp(`${long}\\b(?!-)`))
  })
})

const pathOf = (command: Command): string =>
  command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name()

test.each(NOT_HERE)('baton %s is refused with what to use instead', async (words, instead) => {
  const { code, stderr } = await baton(...words.split(' '))
  expect(stderr).toMatch(instead)
  expect(code).toBe(2)
})

test('a word that is none ends with 2, and what runs well with 0', async () => {
  expect(await baton('agents', 'fly')).toMatchObject({ code: 2 })
  expect(await baton('--dump-debug-info')).toMatchObject({ stdout: expect.stringMatching(/^ok +node +\d/) })
  expect(await home.run(['completions'], { env: { SHELL: '/usr/bin/zsh' } })).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^#compdef/),
  })
  expect((await home.run(['completions', 'elvish'])).stdout).toContain('edit:completion:arg-completer')
  expect(await home.run(['completions'], { env: { SHELL: '' } })).toMatchObject({ code: 2 })
}, 60_000)

test('profiles are the two policies, and what else Oz says of a run is in its configuration', async () => {
  expect(await json('agent', 'profile', 'list')).toMatchObject({ profiles: [{ id: 'allow' }, { id: 'deny' }] })
  expect((await baton('agent', 'profile', 'list', '-o', 'ndjson')).stdout.trim().split('\n')).toHaveLength(2)
  const run = async (...more: string[]) => {
    const { run_id } = await json<CreatedRun>('agent', 'run-cloud', 'x', '--host', 'never', ...more)
    return (await json<Run>('run', 'get', run_id)).agent_config
  }
  expect(await run('--profile', 'deny')).toMatchObject({ permissions: 'deny' })
  expect(await run('--share', 'public:view', '--computer-use', '--runner', 'r')).toMatchObject({
    session_sharing: { public_access: 'VIEWER' },
    computer_use_enabled: true,
    runner_id: 'r',
  })
  expect(await run('--share', '--no-computer-use')).toMatchObject({ computer_use_enabled: false })
  expect(await run('--snapshot-upload-timeout', '1m30s', '--snapshot-script-timeout', '2m')).toMatchObject({
    snapshot_upload_timeout_secs: 90,
    snapshot_script_timeout_secs: 120,
  })
  for (const wrong of ['soon', '0s', '61m', '-1s']) {
    const refused = await baton('agent', 'run-cloud', 'x', `--snapshot-script-timeout=${wrong}`)
    expect([refused.code, refused.stderr], wrong).toEqual([2, expect.stringContaining('from 1s to 1h')])
  }
}, 60_000)

test('MCP servers are listed with what has them', async () => {
  expect((await baton('mcp', 'list')).stderr).toMatch(/No environment or agent has an MCP server/)
  const mcp_servers = { docs: { url: 'https://docs.example/mcp?key=hidden' } }
  const { uid } = await house.client.environments.create({ body: { name: 'app', mcp_servers } })
  await house.client.identities.create({ body: { name: 'Ada', mcp_servers: { tools: { command: 'tools' } } } })
  const { stdout } = await baton('mcp', 'list')
  expect(stdout).toMatch(/^docs +environment app +https:\/\/docs\.example\/mcp$/m)
  expect(stdout).toMatch(/^tools +agent Ada +tools$/m)
  expect(await json('mcp', 'ls')).toMatchObject({
    mcp_servers: [
      { name: 'docs', of: { type: 'environment', uid } },
      { name: 'tools', of: { type: 'agent' } },
    ],
  })
}, 60_000)
