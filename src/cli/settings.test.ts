import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { resolveSettings, writeConfig } from './settings.ts'

let home: string
let project: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'baton-settings-'))
  project = join(home, 'project', 'deep')
  await mkdir(project, { recursive: true })
})
afterEach(() => rm(home, { recursive: true, force: true }))

const profiles = {
  work: { server: 'https://work.example', api_key: 'work-key', output_format: 'json' as const },
  local: { server: 'http://127.0.0.1:1', api_key: 'local-key' },
}
const path = () => join(home, '.config', 'baton', 'config.json')

test('a flag goes before the environment, then the project, then the profile, then the default', async () => {
  await writeConfig(path(), { current_profile: 'work', profiles })
  const env = { HOME: home }
  const format = async (flags: { output_format?: string }, more = {}) =>
    (await resolveSettings(flags, { ...env, ...more }, project)).output_format
  expect(await format({})).toEqual({ value: 'json', from: 'profile work' })
  await writeFile(join(home, 'project', '.baton.json'), '{"output_format":"ndjson"}')
  expect(await format({})).toEqual({ value: 'ndjson', from: join(home, 'project', '.baton.json') })
  expect(await format({}, { WARP_OUTPUT_FORMAT: 'text' })).toEqual({ value: 'text', from: 'WARP_OUTPUT_FORMAT' })
  expect(await format({}, { WARP_OUTPUT_FORMAT: 'text', BATON_OUTPUT_FORMAT: 'pretty' })).toEqual({
    value: 'pretty',
    from: 'BATON_OUTPUT_FORMAT',
  })
  expect(await format({ output_format: 'json' }, { WARP_OUTPUT_FORMAT: 'text' })).toEqual({
    value: 'json',
    from: '--output-format',
  })
})

test('a key goes to the server that it was made for and to no other', async () => {
  await writeConfig(path(), { current_profile: 'work', profiles })
  const key = async (server?: string) =>
    (await resolveSettings(server ? { server } : {}, { HOME: home }, project)).api_key.value
  expect(await key()).toBe('work-key')
  expect(await key('http://127.0.0.1:1/')).toBe('local-key')
  expect(await key('http://elsewhere.example')).toBeUndefined()
})

test('a project chooses a profile, but neither a server nor a key', async () => {
  await writeConfig(path(), { current_profile: 'local', profiles })
  await writeFile(
    join(home, 'project', '.baton.json'),
    '{"profile":"work","server":"http://evil.example","api_key":"x"}',
  )
  const settings = await resolveSettings({}, { HOME: home }, project)
  expect(settings.server.value).toBe('https://work.example')
  expect(settings.api_key.value).toBe('work-key')
})

test('the file is readable by its owner alone, and a broken one is refused by name', async () => {
  await writeConfig(path(), { current_profile: 'work', profiles })
  expect((await stat(path())).mode & 0o777).toBe(0o600)
  await writeFile(path(), '{')
  await expect(resolveSettings({}, { HOME: home }, project)).rejects.toThrow(
    `${path()} cannot be understood: it is not JSON.`,
  )
})
