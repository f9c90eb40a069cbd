import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Home, makeHome, poll, type Server, startUp } from './cli/baton.ts'
import { serveOnLoopback } from './house/loopback.ts'

let home: Home
let server: Server
const WRONG_KEY = `wk-1.${'0'.repeat(64)}`
const NOBODY = '00000000-0000-4000-8000-000000000000'

beforeAll(async () => {
  home = await makeHome()
  // PostgreSQL of root runs as another user, which has to pass through.
  await import('node:fs/promises').then(({ chmod }) => chmod(home.folder, 0o711))
  server = await startUp(home)
}, 60_000)

afterAll(async () => {
  await server?.stop()
  await home?.remove()
}, 30_000)

const create = async (command: string, ...more: string[]): Promise<string> => {
  const { stdout, stderr, code } = await home.run([
    'agent',
    'run-cloud',
    command,
    '--harness',
    'command',
    '--jq',
    '.run_id',
    ...more,
  ])
  expect(code, stderr).toBe(0)
  return stdout.trim()
}

describe('exit codes', () => {
  const table: [string, () => string[], number, Record<string, string>?][] = [
    ['a question that is answered', () => ['run', 'list'], 0],
    ['an unknown command', () => ['runn'], 2],
    ['an unknown option', () => ['run', 'list', '--lmit', '3'], 2],
    ['a missing argument', () => ['run', 'get'], 2],
    ['a jq filter that does not compile', () => ['run', 'list', '--jq', '.runs['], 2],
    ['a wrong output format', () => ['run', 'list', '-o', 'xml'], 2],
    ['a wrong key', () => ['run', 'list', '--api-key', WRONG_KEY], 4],
    ['no key at all', () => ['run', 'list'], 4, { HOME: '/nonexistent' }],
    ['an unknown run', () => ['run', 'get', NOBODY], 5],
    ['a server that is not there', () => ['run', 'list', '--server', 'http://127.0.0.1:9', '--api-key', WRONG_KEY], 69],
    ['a configuration profile that is not there', () => ['run', 'list', '--config-profile', 'none'], 2],
    ['a prompt of nothing', () => ['agent', 'run-cloud', '-'], 2],
    ['a prompt given twice', () => ['agent', 'run-cloud', 'one', '--prompt', 'two'], 2],
    ['a run that fails', () => ['agent', 'run-cloud', 'exit 3', '--harness', 'command', '--wait'], 3],
    [
      'a run that takes longer than one waits',
      () => ['agent', 'run-cloud', 'sleep 5', '--harness', 'command', '--wait', '--timeout', '300ms'],
      8,
    ],
  ]
  test.each(table)(
    '%s',
    async (_, args, code, env) => {
      const ended = await home.run(args(), env ? { env } : {})
      expect(ended.code, ended.stderr).toBe(code)
      if (code !== 0 && code !== 3) expect(ended.stderr).toMatch(/^(error: |\{"error":).+/m)
    },
    30_000,
  )

  test('several runs are waited for within one limit, which is at most what a timer holds', async () => {
    const runs = [await create('echo one'), await create('exit 3')]
    expect(await home.run(['run', 'wait', ...runs, '--timeout', '1.0001m'])).toMatchObject({ code: 3, stderr: '' })
    const late = await home.run(['run', 'wait', ...runs, await create('sleep 5'), '--timeout', '300ms'])
    expect(late).toMatchObject({ code: 8, stderr: expect.stringContaining('it goes on') })
    const endless = await home.run(['run', 'wait', ...runs, '--timeout', '30d'])
    expect(endless).toMatchObject({ code: 2, stderr: expect.stringContaining('"30d" is too long.') })
    const wrong = await home.run(['agent', 'run-cloud', 'unmade', '--harness', 'command', '--wait', '--timeout', 'x'])
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('"x" is no duration.') })
    expect((await home.run(['run', 'list', '-q', 'unmade', '--jq', '.runs | length'])).stdout).toBe('0\n')
  }, 30_000)

  test('an error is JSON on stderr when JSON was asked for, and stdout stays empty', async () => {
    const ended = await home.run(['run', 'get', NOBODY, '--json'])
    expect(ended).toMatchObject({ code: 5, stdout: '' })
    expect(JSON.parse(ended.stderr)).toMatchObject({ code: 'resource_not_found', exit_code: 5, status: 404 })
  })

  test('a mistyped word is answered with the nearest known one', async () => {
    expect((await home.run(['run', 'lst'])).stderr).toContain('Did you mean "list"?')
    expect((await home.run(['run', 'list', '--lmit', '3'])).stderr).toContain('Did you mean "--limit"?')
  })
})

describe('output', () => {
  test('json is the body of the API, value for value', async () => {
    const run_id = await create('echo json', '--wait')
    const shown = await home.run(['run', 'get', run_id, '--output-format', 'json'])
    const body = await fetch(`${server.url}/api/v1/agent/runs/${run_id}`, {
      headers: { authorization: `Bearer ${server.api_key}` },
    })
    expect(JSON.parse(shown.stdout)).toEqual(await body.json())
  })

  test('ndjson is one compact record a line', async () => {
    await create('echo nd', '--wait')
    const { stdout } = await home.run(['run', 'list', '-o', 'ndjson', '--limit', '2'])
    const lines = stdout.trimEnd().split('\n')
    expect(lines.length).toBeGreaterThan(0)
    for (const line of lines) expect(JSON.parse(line)).toHaveProperty('run_id')
  })

  test('jq prints bare scalars, and a dot is the same as json', async () => {
    const run_id = await create('echo jq', '--wait')
    expect((await home.run(['run', 'get', run_id, '--jq', '.state'])).stdout).toBe('SUCCEEDED\n')
    const dot = await home.run(['run', 'get', run_id, '--jq', '.'])
    const json = await home.run(['run', 'get', run_id, '--json'])
    expect(JSON.parse(dot.stdout)).toEqual(JSON.parse(json.stdout))
  })

  test('nothing is coloured in a pipe, with NO_COLOR, or as text; FORCE_COLOR colours', async () => {
    await create('echo colour', '--wait')
    const start = '\x1b['
    expect((await home.run(['run', 'list'])).stdout).not.toContain(start)
    expect((await home.run(['run', 'list'], { env: { NO_COLOR: '1' } })).stdout).not.toContain(start)
    expect((await home.run(['run', 'list'], { env: { FORCE_COLOR: '1' } })).stdout).toContain(start)
    expect((await home.run(['run', 'list', '-o', 'text'], { env: { FORCE_COLOR: '1' } })).stdout).not.toContain(start)
  })

  test('what an agent prints cannot reach the terminal as a command', async () => {
    const run_id = await create(
      `printf 'a\\033]52;c;aGk=\\007b\\033[2Jc\\302\\233d'`,
      '--title',
      'bad\u202etitle',
      '--wait',
    )
    const logs = await home.run(['run', 'logs', run_id], { env: { FORCE_COLOR: '1' } })
    expect(logs.stdout).toContain('␛]52')
    expect(logs.stdout.replace(/\x1b\[\d+m/g, '')).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/)
    expect((await home.run(['run', 'get', run_id])).stdout).not.toContain('\u202e')
    expect((await home.run(['run', 'get', run_id, '--json'])).stdout).not.toContain('\u202e')
    expect((await home.run(['run', 'logs', run_id, '--raw'])).stdout).toContain('\x1b]52')
  })

  test('a reader that goes away is no error', async () => {
    const started = home.start(['run', 'list', '--json'])
    started.child.stdout?.destroy()
    expect(await started.ended).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('runs', () => {
  test('a prompt comes from stdin, and the spellings of Oz work before and after the command', async () => {
    const created = await home.run(['agent', 'run-cloud', '-', '--harness', 'command'], { stdin: 'echo from stdin\n' })
    const run_id = /^Spawned ambient agent with run ID: (\S+)$/m.exec(created.stdout)?.[1] ?? ''
    expect((await home.run(['task', 'wait', run_id])).code).toBe(0)
    expect((await home.run(['run', 'logs', run_id])).stdout).toContain('from stdin')
    const listed = await home.run(['--output-format', 'json', 'run', 'list', '--ancestor-run', run_id])
    expect(JSON.parse(listed.stdout)).toMatchObject({ runs: [] })
    const by_environment = await home.run(['run', 'list', '-L', '1', '--state', 'succeeded', '-q', 'from stdin'], {
      env: {
        WARP_OUTPUT_FORMAT: 'json',
        WARP_API_KEY: server.api_key,
        WARP_SERVER_ROOT_URL: server.url,
        HOME: '/nonexistent',
      },
    })
    expect(JSON.parse(by_environment.stdout).runs[0].run_id).toBe(run_id)
  })

  test('the forms of the first announcement work: run --env --task, agents list, auth login', async () => {
    expect((await home.run(['environment', 'create', '-n', 'node-staging'])).code).toBe(0)
    const announced = ['run', '--env', 'node-staging', '--task', 'echo announced']
    const done = await home.run(['--output-format', 'json', ...announced, '--harness=command', '--wait'])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    const [run] = JSON.parse((await home.run(['run', 'list', '-L', '1', '--json'])).stdout).runs
    expect(run).toMatchObject({ prompt: 'echo announced', state: 'SUCCEEDED' })
    expect((await home.run(['agents', 'list'])).stdout).toMatch(/ Default agent /)
    const login = await home.run(['auth', 'login', '--with-token', '--server', server.url], {
      env: { XDG_CONFIG_HOME: join(home.folder, 'announced') },
      stdin: `${server.api_key}\n`,
    })
    expect(login.code).toBe(0)
    // A batch has tasks of its own.
    expect((await home.run(['batch', 'run', '--task', 'echo a', '--harness', 'command', '--wait'])).code).toBe(0)
    expect(await home.run(['run', 'list', '--task', 'x'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("Unknown option '--task'"),
    })
  })

  test('--follow shows the work and ends with how it ended', async () => {
    const ended = await home.run([
      'agent',
      'run-cloud',
      'echo one; echo two >&2; exit 4',
      '--harness',
      'command',
      '--follow',
    ])
    expect(ended.code).toBe(3)
    expect(ended.stdout).toMatch(/one[\s\S]*FAILED/)
    expect(ended.stdout).toContain('two')
  })

  test('Ctrl-C while watching leaves the run alone', async () => {
    const run_id = await create('echo begun; sleep 30')
    const watching = home.start(['run', 'watch', run_id])
    await watching.seen('stdout', 'begun')
    watching.child.kill('SIGINT')
    const ended = await watching.ended
    expect(ended.code).toBe(130)
    expect(ended.stderr).toContain(`baton run watch ${run_id}`)
    expect((await home.run(['run', 'get', run_id, '--jq', '.state'])).stdout).toBe('INPROGRESS\n')
    expect((await home.run(['run', 'cancel', run_id])).code).toBe(0)
    expect((await home.run(['run', 'wait', run_id])).code).toBe(3)
    expect((await home.run(['run', 'get', run_id, '--jq', '.state'])).stdout).toBe('CANCELLED\n')
    expect((await home.run(['run', 'retry', run_id])).code).toBe(0)
    expect((await home.run(['run', 'cancel', run_id])).code).toBe(0)
  }, 30_000)

  test('logs: the tail, since, and each entry once when followed', async () => {
    const run_id = await create('for i in 1 2 3; do echo line $i; sleep 0.3; done', '--wait')
    const all = await home.run(['run', 'logs', run_id])
    expect(all.stdout.match(/^line \d$/gm)).toEqual(['line 1', 'line 2', 'line 3'])
    expect((await home.run(['run', 'logs', run_id, '-f'])).stdout).toBe(all.stdout)
    expect((await home.run(['run', 'logs', run_id, '--raw'])).stdout).toBe('line 1\nline 2\nline 3\n')
    expect((await home.run(['run', 'logs', run_id, '--since', '2000-01-01T00:00:00Z'])).stdout).toBe(all.stdout)
    expect((await home.run(['run', 'logs', run_id, '--since', '2100-01-01T00:00:00Z'])).stdout).toBe('')
    const tail = await home.run(['run', 'logs', run_id, '--tail', '1', '-o', 'ndjson'])
    expect(tail.stdout.trimEnd().split('\n')).toHaveLength(1)
  })

  test("a run of one's own works in the current folder and tells its id", async () => {
    const folder = join(home.folder, 'mine')
    await mkdir(folder)
    const ended = await home.run(['agent', 'run', '-p', 'pwd; echo made > file', '--harness', 'command'], {
      cwd: folder,
    })
    expect(ended.code, ended.stderr).toBe(0)
    expect(await readFile(join(folder, 'file'), 'utf8')).toBe('made\n')
    const run_id = /^Run ID: (\S+)$/m.exec(ended.stdout)?.[1] ?? ''
    const run = JSON.parse((await home.run(['run', 'get', run_id, '--json'])).stdout)
    expect(run).toMatchObject({ state: 'SUCCEEDED', execution_location: 'LOCAL', is_run_type_cancellable: false })
    const failing = await home.run(
      ['agent', 'run', '-p', 'exit 9', '--harness', 'command', '--output-format', 'json'],
      { cwd: folder },
    )
    expect(failing.code).toBe(3)
    expect(JSON.parse(failing.stdout.split('\n')[0] ?? '')).toMatchObject({ type: 'system', event_type: 'run_started' })
  })

  test('the same idempotency key gives the same run', async () => {
    const one = await create('echo once', '--idempotency-key', 'key-1')
    expect(await create('echo once', '--idempotency-key', 'key-1')).toBe(one)
  })
})

describe('access', () => {
  test('up logs the command line in, with a file that only its owner may read', async () => {
    expect((await home.run(['whoami'])).stdout).toContain('team default')
    const { mode } = await stat(join(home.folder, '.config/baton/config.json'))
    expect(mode & 0o777).toBe(0o600)
    expect((await stat(join(home.folder, 'data.ready.json'))).mode & 0o777).toBe(0o600)
  })

  test('login reads a key from stdin, refuses a wrong one, and logout forgets it', async () => {
    const other = { XDG_CONFIG_HOME: join(home.folder, 'other') }
    const login = (stdin: string) => home.run(['login', '--with-token', '--server', server.url], { env: other, stdin })
    expect((await login(WRONG_KEY)).code).toBe(4)
    expect((await login('nonsense')).code).toBe(2)
    expect((await login(`${server.api_key}\n`)).code).toBe(0)
    expect((await home.run(['whoami'], { env: other })).code).toBe(0)
    expect((await home.run(['logout'], { env: other })).code).toBe(0)
    expect((await home.run(['whoami'], { env: other })).code).toBe(4)
  })

  test("a profile's key goes to no other server", async () => {
    const asked: (string | undefined)[] = []
    const url = await serveOnLoopback((request, _body, response) => {
      asked.push(request.headers.authorization)
      response.end('{}')
    })
    await writeFile(join(home.folder, '.baton.json'), JSON.stringify({ server: url, output_format: 'ndjson' }))
    expect((await home.run(['whoami', '--server', url])).code).toBe(4)
    expect((await home.run(['whoami'])).code).toBe(0)
    expect(asked).toEqual([])
    const explained = await home.run(['config', 'explain', '--json'])
    expect(JSON.parse(explained.stdout)).toContainEqual({ name: 'server', value: server.url, from: 'profile local' })
    await writeFile(join(home.folder, '.baton.json'), '{}')
  })

  test('neither server nor runner shows a key in its arguments', async () => {
    const run_id = await create('echo $PPID; sleep 30')
    const watching = home.start(['run', 'logs', '-f', '--raw', run_id])
    await watching.seen('stdout', '\n')
    watching.child.kill('SIGINT')
    const runner = (await watching.ended).stdout.trim()
    const runner_line = await readFile(`/proc/${runner}/cmdline`, 'utf8')
    expect(runner_line).toContain(run_id)
    for (const line of [runner_line, await readFile(`/proc/${server.pid}/cmdline`, 'utf8')])
      expect(line).not.toMatch(/(wk|bx)-1\./)
    expect((await home.run(['run', 'cancel', run_id])).code).toBe(0)
  })
})

describe('starting servers', () => {
  test('a second start on the same folder finds the first one', async () => {
    const second = await home.run(['up', '--port', '0', '--data-dir', server.data_dir])
    expect(second).toMatchObject({ code: 6, stdout: `${server.url}\n` })
    expect(second.stderr).toContain('is in use by another Baton')
  }, 20_000)

  test('a port that is taken is said so, and nothing stays behind', async () => {
    const ended = await home.run(['up', '--port', new URL(server.url).port, '--data-dir', join(home.folder, 'taken')])
    expect(ended.code).toBe(6)
    expect(ended.stderr).toMatch(/Port \d+ on 127\.0\.0\.1 is taken[\s\S]*--port 0/)
    await poll(async () =>
      stat(join(home.folder, 'taken', 'postgres', 'postmaster.pid')).then(
        () => undefined,
        () => true,
      ),
    )
  }, 20_000)

  test('logs go on over a restart of the server', async () => {
    const first = await startUp(home, [], 'second')
    const env = { BATON_SERVER: first.url, BATON_API_KEY: first.api_key }
    const created = await home.run(
      [
        'agent',
        'run-cloud',
        'echo before; while [ ! -e go ]; do sleep 0.1; done; echo after',
        '--harness',
        'command',
        '--jq',
        '.run_id',
      ],
      { env },
    )
    const run_id = created.stdout.trim()
    const logs = home.start(['run', 'logs', '-f', run_id], { env })
    await logs.seen('stdout', 'before')
    await first.stop()
    await logs.seen('stderr', 'does not answer')
    const again = home.start(['up', '--port', new URL(first.url).port, '--data-dir', first.data_dir])
    await again.seen('stdout', 'Baton is ready')
    const executions = JSON.parse(
      (await home.run(['api', 'GET', `agent/runs/${run_id}/executions`], { env })).stdout,
    ).executions
    await writeFile(join(first.data_dir, 'worker/sandboxes', executions[0].execution_id, 'workspace/go'), '')
    const ended = await logs.ended
    expect(ended.code).toBe(0)
    expect(ended.stdout.match(/^(before|after)$/gm)).toEqual(['before', 'after'])
    again.child.kill('SIGTERM')
    expect((await again.ended).code).toBe(0)
  }, 90_000)
})
