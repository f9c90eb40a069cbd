/** What the built command line does with a whole machine: harnesses, failures, local runs, moving, and serving apart. */
import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import about from '../package.json' with { type: 'json' }
import { findQuickRunner } from '../src/cli/quick-runner.ts'
import { type Home, makeHome, poll, type Server, startUp } from './cli/baton.ts'
import { ENTRY } from './house/baton.ts'
import { type RealServer, realServer } from './house/real-server.ts'

let home: Home
let server: Server
beforeAll(async () => {
  home = await makeHome()
  // PostgreSQL of root runs as another user, which has to pass through.
  await chmod(home.folder, 0o711)
  server = await startUp(home)
}, 60_000)
afterAll(async () => {
  await server?.stop()
  await home?.remove()
}, 30_000)

describe('harnesses', () => {
  test('the list says what is missing and what to do, and knows agents of the owner', async () => {
    const env = { BATON_HARNESSES: '{"mine":{"command":"no-such-agent"}}' }
    const { stdout, code } = await home.run(['harness', 'list'], { env })
    expect(code).toBe(0)
    expect(stdout).toMatch(/^baton +no model key +- +Set ANTHROPIC_API_KEY.*`--model scripted` works without\.$/m)
    expect(stdout).toMatch(/^claude +not installed +- +Run `baton harness install claude`\./m)
    expect(stdout).toMatch(/^command +ready/m)
    expect(stdout).toMatch(/^mine +not installed +- +There is no no-such-agent\./m)
    const keyed = await home.run(['harness', 'list', '--json'], { env: { OPENAI_API_KEY: 'none' } })
    expect(JSON.parse(keyed.stdout)).toContainEqual(
      expect.objectContaining({ name: 'baton', login: true, missing: [] }),
    )
    expect((await home.run(['harness', 'list'], { env: { BATON_HARNESSES: '{' } })).stderr).toMatch(
      /BATON_HARNESSES cannot be read: it is not JSON\./,
    )
  })

  test('a registry that cannot be reached is said so, and nothing half-fetched stays', async () => {
    const env = { npm_config_registry: 'http://127.0.0.1:9', npm_config_fetch_retries: '0' }
    const ended = await home.run(['harness', 'install', 'codex'], { env })
    expect(ended.code).toBe(1)
    expect(ended.stderr).toContain('error: Codex could not be fetched. The npm registry cannot be reached from here.')
    const { stdout } = await home.run(['harness', 'list'])
    expect(stdout).toMatch(/^codex +not installed/m)
    expect((await home.run(['harness', 'install', 'codx'])).stderr).toContain('Did you mean "codex"?')
    expect((await home.run(['harness', 'install', 'baton'])).stdout).toContain('part of Baton')
  }, 30_000)

  test('a test opens a session, or says what is missing', async () => {
    const scripted = await home.run(['harness', 'test', 'baton', '--model', 'scripted'])
    expect(scripted.code, scripted.stderr).toBe(0)
    expect(scripted.stdout).toMatch(/^ok baton opened a session in \d+ ms$/m)
    expect(await home.run(['harness', 'test', 'baton'])).toMatchObject({ code: 4 })
    expect(await home.run(['harness', 'test', 'nosuch'])).toMatchObject({ code: 2 })
    const missing = await home.run(['harness', 'test', 'claude'])
    expect(missing.code).toBe(1)
    expect(missing.stderr).toMatch(/Claude Code is not installed .* Run `baton harness install claude`/)
  }, 30_000)

  test.each([
    ['nosuch', /There is no harness named "nosuch" here\. Known are: .*command/],
    ['claude', /Claude Code is not installed where the run executes.*`baton harness install claude`/],
    ['baton', /The built-in agent has no login where the run executes\. Set ANTHROPIC_API_KEY/],
  ])(
    'a run with the harness %s that cannot be had is FAILED with one clear sentence',
    async (harness, sentence) => {
      const ended = await home.run(['agent', 'run-cloud', 'x', '--harness', harness, '--wait'])
      expect(ended.code).toBe(3)
      expect(ended.stdout + ended.stderr).toMatch(sentence)
      expect(ended.stdout).toContain('FAILED')
    },
    30_000,
  )

  test('an agent that dies at its start is ERROR after its tries, with its last lines', async () => {
    const broken = join(home.folder, 'broken-agent')
    await writeFile(broken, '#!/bin/sh\necho "cannot find my configuration" >&2\nexit 7\n', { mode: 0o755 })
    const env = { BATON_HARNESSES: JSON.stringify({ broken: { command: broken } }) }
    const ended = await home.run(['agent', 'run', '-p', 'x', '--harness', 'broken'], { env })
    expect(ended.code).toBe(3)
    expect(ended.stderr).toMatch(/broken could not be started[\s\S]*cannot find my configuration/)
    const [run] = JSON.parse((await home.run(['run', 'list', '-L', '1', '--json'])).stdout).runs
    expect(run).toMatchObject({ state: 'ERROR', status_message: { retryable: true } })
  }, 30_000)
})

describe('runs', () => {
  test('a configuration is read from YAML or JSON, and what is neither is refused by its line', async () => {
    const write = (name: string, text: string) => writeFile(join(home.folder, name), text)
    await write('run.yaml', 'harness:\n  type: command # a shell\nname: from yaml\n')
    await write('run.json', '{"harness": {"type": "command"}, "name": "from json"}')
    await write('bad.yaml', 'harness: [\n')
    for (const [file, name] of [
      ['run.yaml', 'from yaml'],
      ['run.json', 'from json'],
    ] as const) {
      const { stdout, stderr } = await home.run(['run', 'create', 'echo hi', '-f', file, '--jq', '.run_id'])
      const shown = await home.run(['run', 'get', stdout.trim(), '--jq', '.agent_config.name'])
      expect(shown.stdout.trim(), stderr + shown.stderr).toBe(name)
    }
    const refused = await home.run(['run', 'create', 'echo hi', '-f', 'bad.yaml'])
    expect(refused).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/bad\.yaml is neither JSON nor YAML: .*line/),
    })
    await write('proto.yaml', 'environment:\n  variables:\n    __proto__: lost\n')
    await write('proto.json', '{"environment": {"variables": {"__proto__": "lost"}}}')
    const servers = ['--mcp', '{"__proto__": {"command": "c"}}']
    for (const given of [['-f', 'proto.yaml'], ['-f', 'proto.json'], servers]) {
      const { code, stderr } = await home.run(['run', 'create', 'echo hi', ...given])
      expect(code, given.join(' ')).toBe(2)
      expect(stderr).toMatch(/no object may have the key "__proto__"/)
    }
  }, 30_000)

  test('run create with an idempotency key makes one run', async () => {
    const create = async () =>
      (await home.run(['run', 'create', 'echo', '--harness', 'command', '--idempotency-key', 'k', '--jq', '.run_id']))
        .stdout
    expect(await create()).toBe(await create())
  })

  test('the scripted model works in the repository where it is started', async () => {
    const folder = join(home.folder, 'repository')
    await mkdir(folder)
    await writeFile(join(folder, 'README.md'), '# Mine\n')
    const git = (...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=T', '-c', 'user.email=t@t', ...args], { cwd: folder })
    git('init', '-q')
    git('add', '.')
    git('commit', '-q', '-m', 'First')
    const ended = await home.run(['agent', 'run', '--prompt', 'Survey this repository.', '--model', 'scripted'], {
      cwd: folder,
    })
    expect(ended.code, ended.stderr).toBe(0)
    expect(ended.stdout).toMatch(/^Run ID: \S+$/m)
  }, 30_000)

  test('Ctrl-C cancels a local run', async () => {
    const started = home.start(['agent', 'run', '-p', 'echo begun; sleep 60', '--harness', 'command'])
    await started.seen('stdout', 'begun')
    started.child.kill('SIGINT')
    const ended = await started.ended
    expect(ended.code).toBe(130)
    const run_id = /^Run ID: (\S+)$/m.exec(ended.stdout)?.[1] ?? ''
    const shown = await home.run(['run', 'get', run_id, '--json'])
    expect(JSON.parse(shown.stdout)).toMatchObject({ state: 'CANCELLED', execution_location: 'LOCAL' })
  }, 30_000)
})

describe('the runner of a plain command', () => {
  const SNAPSHOT = join(dirname(ENTRY), '../dist/runner.blob')
  const self = [process.execPath, ENTRY]

  test('starts from the snapshot that the build has left, by the name and in the place of the other way', async () => {
    await poll(async () => {
      const asked = ['agent', 'run-cloud', "tr '\\0' ' ' </proc/$PPID/cmdline; pwd", '--harness', 'command', '--follow']
      const { stdout, code } = await home.run(asked)
      expect(code).toBe(0)
      expect(stdout).toMatch(/baton\.js agent run --task-id \S+ --sandboxed .* \/.*\/workspace$/m)
      return stdout.includes(`--snapshot-blob ${SNAPSHOT} ${ENTRY} agent run`) || undefined
    })
  }, 30_000)

  test('starts as the command line does where the snapshot does not fit', async () => {
    const { version } = about
    const env = home.env
    expect(await findQuickRunner({ self, version, env }, SNAPSHOT)).toEqual([
      process.execPath,
      '--snapshot-blob',
      SNAPSHOT,
      ENTRY,
    ])
    const damaged = join(home.folder, 'damaged.blob')
    await writeFile(damaged, (await readFile(SNAPSHOT)).subarray(0, 1_000_000))
    expect(await findQuickRunner({ self, version, env }, damaged)).toBe(null)
    expect(await findQuickRunner({ self, version, env }, join(home.folder, 'absent.blob'))).toBe(null)
    expect(await findQuickRunner({ self, version: '0.0.0', env }, SNAPSHOT)).toBe(null)
  }, 30_000)
})

test('doctor says of each thing whether it is there, and leaves nothing behind', async () => {
  const { stdout, code } = await home.run(['doctor'])
  expect(code).toBe(0)
  expect(stdout).toMatch(/PostgreSQL/)
  expect(stdout).toMatch(/git/)
}, 30_000)

test('what was exported is all there in another folder', async () => {
  const first = await startUp(home, [], 'from')
  const env = { BATON_SERVER: first.url, BATON_API_KEY: first.api_key }
  const made = await home.run(
    ['run', 'create', 'echo kept for ever', '--harness', 'command', '--wait', '--jq', '.run_id'],
    { env },
  )
  const run_id = made.stdout.trim()
  const running = await home.run(['export', join(home.folder, 'dump'), '--data-dir', first.data_dir])
  expect(running).toMatchObject({ code: 6, stderr: expect.stringContaining('in use') })
  await first.stop()
  const exported = await home.run(['export', join(home.folder, 'dump'), '--data-dir', first.data_dir])
  expect(exported.code, exported.stderr).toBe(0)
  const imported = await home.run(['import', join(home.folder, 'dump'), '--data-dir', join(home.folder, 'to')])
  expect(imported.code, imported.stderr).toBe(0)
  const second = await startUp(home, [], 'to')
  const there = { env: { BATON_SERVER: second.url, BATON_API_KEY: first.api_key } }
  expect((await home.run(['run', 'get', run_id, '--jq', '.state'], there)).stdout).toBe('SUCCEEDED\n')
  expect((await home.run(['run', 'logs', run_id], there)).stdout).toContain('kept for ever')
  await second.stop()
}, 90_000)

describe('server and worker apart', () => {
  let postgres: RealServer
  beforeAll(async () => {
    postgres = await realServer()
  }, 60_000)
  afterAll(() => postgres?.close())

  test('serve on an outside PostgreSQL and a worker with a key of its own do a run', async () => {
    const ready_file = join(home.folder, 'serve.json')
    const env = { DATABASE_URL: postgres.url, BATON_DATA_DIR: join(home.folder, 'serve') }
    const serving = home.start(['serve', '--port', '0', '--ready-file', ready_file], { env })
    const { url, api_key } = await poll(async () => {
      if (serving.child.exitCode !== null) throw new Error((await serving.ended).stderr)
      return JSON.parse(await readFile(ready_file, 'utf8')) as { url: string; api_key: string }
    })
    const to = { env: { BATON_SERVER: url, BATON_API_KEY: api_key } }
    const worker = home.start(['worker', '--data-dir', join(home.folder, 'crew'), '--worker-id', 'crew'], to)
    await worker.seen('stdout', 'takes runs of team')
    const ended = await home.run(['run', 'create', 'echo apart', '--harness', 'command', '--follow'], to)
    expect(ended.code, ended.stderr).toBe(0)
    expect(ended.stdout).toContain('apart')
    expect((await home.run(['workers'], to)).stdout).toContain('crew')
    for (const started of [worker, serving]) {
      started.child.kill('SIGTERM')
      expect((await started.ended).code).toBe(0)
    }
  }, 90_000)
})
