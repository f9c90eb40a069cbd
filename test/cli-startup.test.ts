import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Home, makeHome } from './cli/baton.ts'
import { ENTRY } from './house/baton.ts'

let home: Home
beforeAll(async () => {
  home = await makeHome()
})
afterAll(() => home.remove())

test('the version is printed without asking anything of anybody', async () => {
  expect(await home.run(['--version'])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    stderr: '',
  })
  expect((await home.run(['-V'])).code).toBe(0)
})

test.each(['bash', 'zsh', 'fish', 'powershell'])('there is a completion script for %s', async (shell) => {
  const { stdout, code } = await home.run(['completions', shell])
  expect(code).toBe(0)
  expect(stdout).toContain('__complete')
  if (shell === 'bash') expect(spawnSync('bash', ['-n'], { input: stdout }).status).toBe(0)
})

test('completion knows commands, options and values, and asks no longer than a second for runs', async () => {
  expect((await home.run(['__complete', '--', 'run', 'lo'])).stdout).toMatch(/^logs\t/)
  expect((await home.run(['__complete', '--', 'run', 'list', '--st'])).stdout).toMatch(/^--state\t/)
  expect((await home.run(['__complete', '--', 'run', 'list', '--state', 'in'])).stdout).toBe('in-progress\n')
  expect(await home.run(['__complete', '--', 'run', 'logs', ''])).toMatchObject({ code: 0, stdout: '' })
})

test('every command explains itself', async () => {
  const { COMMANDS } = await import('../src/cli/commands.ts')
  const told: Record<string, string> = {}
  for (const { path, hidden } of COMMANDS) {
    if (hidden) continue
    const { stdout, code } = await home.run([...path.split(' '), '--help'])
    expect(code, path).toBe(0)
    told[path] = stdout
  }
  told.baton = (await home.run(['--help'])).stdout
  expect(told).toMatchSnapshot()
}, 180_000)

test('an old Node hands over to the one that came with the package, or says what to do', async () => {
  const old = ['/usr/bin/node', '/usr/local/bin/node'].find(
    (node) => existsSync(node) && spawnSync(node, ['-p', 'process.versions.node']).stdout.toString().startsWith('20.'),
  )
  if (old === undefined) return
  const handed = spawnSync(old, [ENTRY, 'run', 'lst'], { env: home.env })
  expect(handed.status).toBe(2)
  const folder = await mkdtemp(join(tmpdir(), 'baton-alone-'))
  await mkdir(join(folder, 'bin'))
  await cp(ENTRY, join(folder, 'bin', 'baton.mjs'))
  const alone = spawnSync(old, [join(folder, 'bin', 'baton.mjs')], { env: home.env })
  expect(alone.status).toBe(1)
  expect(alone.stderr.toString()).toMatch(/^Baton needs Node 22\.18 or later; this is 20\..*\n$/)
  await rm(folder, { recursive: true, force: true })
})

test('the demo is a parent with three children and one report, exits 0 and leaves nothing behind', async () => {
  const before = await demos()
  const { code, stdout, stderr } = await home.run(['demo'], { cwd: home.folder })
  expect(code, stderr).toBe(0)
  expect(stdout).toContain('a scripted model answers')
  expect(stdout.match(/^STARTED .*$/gm)).toHaveLength(3)
  expect(stdout.match(/^MESSAGE for lead$/gm)).toHaveLength(2)
  expect(stdout).toMatch(/^4 runs: 4 succeeded .* done$/m)
  const report = stdout.slice(stdout.indexOf('\nBATON-REPORT.md\n'))
  for (const found of ['Count the files by kind', 'Look at the history', 'Read what explains it', 'commits: 1'])
    expect(report).toContain(found)
  expect(report).toContain('npx baton up')
  expect(await demos()).toEqual(before)
}, 60_000)

const demos = async (): Promise<string[]> => (await readdir(tmpdir())).filter((name) => name.startsWith('baton-demo-'))
