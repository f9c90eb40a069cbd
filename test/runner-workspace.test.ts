import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { EntryBody, Repository } from '../src/contract/index.ts'
import { isRef } from '../src/contract/index.ts'
import { checkRepositories, cloneAll, isPlainPath } from '../src/runner/clone.ts'
import { SetupFailure } from '../src/runner/failures.ts'
import { runSetup } from '../src/runner/setup.ts'
import { makeGroups } from '../src/runner/spawn.ts'
import type { Transcript } from '../src/runner/transcript.ts'

let folder: string
let entries: EntryBody[]
let groups: ReturnType<typeof makeGroups>
const stopping = () => new AbortController()

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'baton-workspace-'))
  mkdirSync(join(folder, 'workspace'))
  entries = []
  groups = makeGroups()
})
afterEach(async () => {
  await groups.close()
  rmSync(folder, { recursive: true, force: true })
})

const transcript: Transcript = {
  entry: (body) => entries.push(body),
  delta: () => {},
  system: (level, name, text) => entries.push({ kind: 'system', level, name, text }),
  flush: () => {},
  seal: () => {},
}
const env = { PATH: process.env.PATH ?? '', HOME: tmpdir() }
const texts = () => entries.flatMap((entry) => ('text' in entry ? [entry.text] : []))

function git(cwd: string, ...args: string[]): string {
  const identity = {
    GIT_AUTHOR_NAME: 'a',
    GIT_AUTHOR_EMAIL: 'a@b',
    GIT_COMMITTER_NAME: 'a',
    GIT_COMMITTER_EMAIL: 'a@b',
  }
  return execFileSync('git', args, {
    cwd,
    env: { ...env, ...identity },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim()
}

/** A repository with two commits on main, a branch, a tag and a hook that would leave a trace. */
function makeRepository(name: string): { path: string; first: string } {
  const path = join(folder, name)
  mkdirSync(path)
  git(path, 'init', '--quiet', '--initial-branch=main')
  writeFileSync(join(path, 'file'), 'one')
  git(path, 'add', '.')
  git(path, 'commit', '--quiet', '-m', 'one')
  const first = git(path, 'rev-parse', 'HEAD')
  git(path, 'tag', 'v1')
  writeFileSync(join(path, 'file'), 'two')
  git(path, 'commit', '--quiet', '-am', 'two')
  git(path, 'checkout', '--quiet', '-b', 'feature/x')
  writeFileSync(join(path, 'file'), 'three')
  git(path, 'commit', '--quiet', '-am', 'three')
  git(path, 'checkout', '--quiet', 'main')
  return { path, first }
}

const clone = (repositories: Repository[], given: Partial<Parameters<typeof cloneAll>[0]> = {}) =>
  cloneAll({
    workspace: join(folder, 'workspace'),
    repositories,
    env,
    local_allowed: true,
    replace: false,
    clone_ms: 20_000,
    groups,
    transcript,
    signal: stopping().signal,
    ...given,
  })

const failureOf = (promise: Promise<unknown>) =>
  promise.then(
    () => {
      throw new Error('it succeeded')
    },
    (error: unknown) => {
      if (error instanceof SetupFailure) return error.failure
      throw error
    },
  )

describe('cloning', () => {
  test('a single repository becomes the working folder, at its default branch', async () => {
    const { path } = makeRepository('app.git')
    expect(await clone([{ url: path }])).toBe(join(folder, 'workspace', 'app'))
    expect(readFileSync(join(folder, 'workspace', 'app', 'file'), 'utf8')).toBe('two')
    expect(texts()[0]).toBe(`Cloning ${path}.`)
    expect(texts().at(-1)).toMatch(/^Cloned .* into app in [\d.]+ s\.$/)
  })

  test('several repositories lie below the workspace, each at its branch, tag or commit', async () => {
    const { path, first } = makeRepository('app')
    const repositories = [
      { url: path, ref: 'feature/x', directory: 'a' },
      { url: `file://${path}`, ref: 'v1', directory: 'deep/b' },
      { url: path, ref: first, directory: 'c' },
      { url: path, ref: first.slice(0, 8), directory: 'd' },
    ]
    expect(await clone(repositories)).toBe(join(folder, 'workspace'))
    expect(
      ['a/file', 'deep/b/file', 'c/file', 'd/file'].map((file) =>
        readFileSync(join(folder, 'workspace', file), 'utf8'),
      ),
    ).toEqual(['three', 'one', 'one', 'one'])
  })

  test('a ref that is not there ends the run and is named', async () => {
    const { path } = makeRepository('app')
    for (const ref of ['no-such-branch', 'deadbeef', 'deadbeefdeadbeefdeadbeefdeadbeefdeadbeef']) {
      const failure = await failureOf(clone([{ url: path, ref, directory: ref }]))
      expect(failure).toMatchObject({ error_code: 'environment_setup_failed', reason: 'clone', retryable: false })
      expect(failure.message).toContain(`There is no branch, tag or commit "${ref}" there: correct the ref.`)
    }
  })

  test('a repository that is not there ends the run with what git said', async () => {
    const failure = await failureOf(clone([{ url: join(folder, 'nothing') }]))
    expect(failure.message).toMatch(
      /^Cloning .*nothing failed \(git exited with 128\)\. There is no repository at this address.*fatal: /s,
    )
  })

  test('a host that cannot be found is said so, without the password of the address', async () => {
    const failure = await failureOf(clone([{ url: 'https://me:sesame-sesame@host.invalid/x.git' }]))
    expect(failure.message).toContain('Cloning https://host.invalid/x.git failed')
    expect(failure.message).toContain('host name cannot be found')
    expect(failure.message + texts().join()).not.toContain('sesame')
  })

  test('a path of this machine is refused unless it is allowed', async () => {
    const { path } = makeRepository('app')
    expect((await failureOf(clone([{ url: path }], { local_allowed: false }))).message).toContain(
      'BATON_ALLOW_LOCAL_REPOSITORIES=1',
    )
    expect(existsSync(join(folder, 'workspace', 'app'))).toBe(false)
  })

  test.each([
    'ext::sh -c "touch /tmp/x"',
    '--upload-pack=touch',
    '-u',
    'http://host/x',
    'git://host/x',
    'file://host/x',
    'relative/path',
    'https://',
    'https://host',
    'fd::17',
    'ssh://-oProxyCommand=x/y',
    'git@-host:x',
    'git@host:-x',
    'https://host/a b',
    'git@host:x\ny',
    'transport::address',
    '',
  ])('the address %j is refused before git sees it', (url) => {
    expect(() => checkRepositories([{ url }], true)).toThrow(SetupFailure)
  })

  test.each([
    'https://github.com/a/b',
    'https://token@host:8443/a/b.git',
    'ssh://git@host:22/a',
    'git@github.com:a/b.git',
    '/srv/git/x',
    'file:///srv/x',
    'https://[::1]/x',
  ])('the address %s is accepted', (url) => {
    expect(checkRepositories([{ url }], true)).toHaveLength(1)
  })

  test("a folder outside of the workspace, git's own or another repository's is refused", () => {
    for (const directory of [
      '../x',
      '/abs',
      'a/../b',
      '.',
      'a//b',
      '.git',
      'a/.GIT/hooks',
      '-x',
      'a\\b',
      '.baton',
      'C:x',
      '',
    ])
      expect(isPlainPath(directory), directory).toBe(false)
    for (const directory of ['a', 'a/b', '.github', 'a b']) expect(isPlainPath(directory), directory).toBe(true)
    const url = 'https://host/x'
    expect(() =>
      checkRepositories(
        [
          { url, directory: 'a' },
          { url, directory: 'a/b' },
        ],
        false,
      ),
    ).toThrow('Two repositories want the folder "a/b"')
    expect(() => checkRepositories([{ url }, { url }], false)).toThrow('Two repositories')
  })

  test('refs are what git takes for refs, never options or ranges', () => {
    for (const ref of [
      '-x',
      '--upload-pack=x',
      'a..b',
      'a b',
      'a~1',
      'a^',
      'a:b',
      '@',
      'a@{1}',
      '/a',
      'a/',
      'a.lock',
      '.a',
      'a\u3000b',
      'a\nb',
      '',
    ])
      expect(ref !== '' && isRef(ref), ref).toBe(false)
    for (const ref of ['main', 'feature/x', 'v1.2.3', 'a'.repeat(40)]) expect(isRef(ref), ref).toBe(true)
  })

  test('a folder that is there already is not touched, but one that a killed runner left is cloned again', async () => {
    const { path } = makeRepository('app')
    mkdirSync(join(folder, 'workspace', 'app'))
    writeFileSync(join(folder, 'workspace', 'app', 'mine'), 'mine')
    expect((await failureOf(clone([{ url: path }]))).message).toContain('is there already')
    expect(existsSync(join(folder, 'workspace', 'app', 'mine'))).toBe(true)
    await clone([{ url: path }], { replace: true })
    expect(existsSync(join(folder, 'workspace', 'app', 'mine'))).toBe(false)
  })

  test('runs no hook that the machine or a template would run', async () => {
    const { path } = makeRepository('app')
    mkdirSync(join(folder, 'template', 'hooks'), { recursive: true })
    writeFileSync(join(folder, 'template', 'hooks', 'post-checkout'), `#!/bin/sh\ntouch ${folder}/hooked\n`, {
      mode: 0o755,
    })
    mkdirSync(join(folder, 'home'))
    writeFileSync(join(folder, 'home', '.gitconfig'), `[init]\n\ttemplateDir = ${folder}/template\n`)
    symlinkSync(join(folder, 'template'), join(folder, 'link'))
    await clone([{ url: path }], { env: { ...env, HOME: join(folder, 'home') } })
    expect(existsSync(join(folder, 'hooked'))).toBe(false)
  })

  test('a machine without git is told to install it', async () => {
    expect((await failureOf(clone([{ url: 'https://host/x' }], { env: { PATH: folder } }))).message).toContain(
      'needs git, which this machine does not have',
    )
  })
})

const setup = (commands: string[], given: Partial<Parameters<typeof runSetup>[0]> = {}) =>
  runSetup({
    workspace: join(folder, 'workspace'),
    commands,
    env,
    limits: { setup_command_ms: 20_000, tool_output_bytes_max: 10_000 },
    groups,
    transcript,
    signal: stopping().signal,
    ...given,
  })

describe('setup commands', () => {
  test('run in order in the workspace, with their output as entries', async () => {
    await setup(['echo one > file', 'cat file; echo oops >&2'])
    expect(entries).toContainEqual({ kind: 'output', stream: 'stdout', text: 'one\n' })
    expect(entries).toContainEqual({ kind: 'output', stream: 'stderr', text: 'oops\n' })
    expect(texts()).toContain('Setup command 1 of 2: echo one > file')
  })

  test('the first that fails ends the run: which one, its exit code, its last lines', async () => {
    const failure = await failureOf(setup(['true', 'echo working; no-such-program-here', 'touch never']))
    expect(failure.message).toMatch(
      /^Setup command 2 of 3 exited with 127: working\n.*no-such-program-here: not found$/s,
    )
    expect(failure).toMatchObject({ error_code: 'environment_setup_failed', reason: 'setup_command', retryable: false })
    expect(existsSync(join(folder, 'workspace', 'never'))).toBe(false)
  })

  test('one that takes too long is stopped with everything that it started', async () => {
    const failure = await failureOf(
      setup(['sleep 1000 & echo $! > pid; wait'], { limits: { setup_command_ms: 300, tool_output_bytes_max: 1000 } }),
    )
    expect(failure.message).toContain('Setup command 1 of 1 took longer than 0.3 s and was stopped')
    const pid = Number(readFileSync(join(folder, 'workspace', 'pid'), 'utf8'))
    await expect.poll(() => isRunning(pid)).toBe(false)
  })

  test('one that a signal ended is said so', async () => {
    expect((await failureOf(setup(['kill -SEGV $$']))).message).toContain('was ended by SIGSEGV')
  })

  test('of long output head and tail are kept, with the gap between them counted', async () => {
    await setup(['seq 1 200000'])
    const output = entries.flatMap((entry) => (entry.kind === 'output' ? [entry.text] : []))
    const gap = entries.find((entry) => entry.kind === 'gap')
    const whole = Array.from({ length: 200_000 }, (_, at) => `${at + 1}\n`).join('')
    expect(output.at(-1)?.endsWith('200000\n')).toBe(true)
    expect(output.join('').length + (gap?.kind === 'gap' ? gap.bytes : 0)).toBe(whole.length)
    expect(output.join('').length).toBeLessThanOrEqual(10_000)
  })

  test('a program left running does not hold the next one up, and ends with the execution', async () => {
    const started = performance.now()
    await setup(['sleep 1000 & echo $! > pid', 'true'])
    expect(performance.now() - started).toBeLessThan(5000)
    const pid = Number(readFileSync(join(folder, 'workspace', 'pid'), 'utf8'))
    expect(isRunning(pid)).toBe(true)
    await groups.close()
    await expect.poll(() => isRunning(pid)).toBe(false)
  })
})

/** A zombie is not running. */
function isRunning(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return false
  return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
}
