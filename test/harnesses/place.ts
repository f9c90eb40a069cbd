/** A harness in a real git repository: what a runner would give it, without a runner. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EntryBody, PermissionPolicy, Usage } from '../../src/contract/index.ts'
import type { HarnessStart } from '../../src/runner/harnesses/harness.ts'

export const CACHE = join(import.meta.dirname, '../../.cache/harnesses')
export const CANCEL_GRACE_MS = 1500
/** A port that nothing listens on: a request that leaves loopback fails there, at once. */
const DEAD_PROXY = 'http://127.0.0.1:9'

export type Place = {
  folder: string
  workspace: string
  entries: EntryBody[]
  usages: Usage[]
  deltas: string[]
  start(options: StartOptions): HarnessStart
  diff(): string
  remove(): void
}

export type StartOptions = {
  harness: string
  env?: Record<string, string>
  permissions?: PermissionPolicy
  model_id?: string
  reasoning_level?: string
  resume?: string
  signal?: AbortSignal
}

export function makePlace(): Place {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'baton-harness-test-')))
  const workspace = join(folder, 'workspace')
  const home = join(folder, 'home')
  const user = join(folder, 'user')
  for (const path of [workspace, home, user]) mkdirSync(path, { mode: 0o700 })
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', workspace, ...args], { encoding: 'utf8', env: { ...process.env, HOME: user } })
  git('init', '-q')
  git('config', 'user.email', 'test@example.com')
  git('config', 'user.name', 'Test')
  writeFileSync(join(workspace, 'greeting.txt'), 'hello\n')
  git('add', '.')
  git('commit', '-q', '-m', 'First')
  const entries: EntryBody[] = []
  const usages: Usage[] = []
  const deltas: string[] = []
  return {
    folder,
    workspace,
    entries,
    usages,
    deltas,
    start: (options) => {
      const { harness, env = {}, permissions = 'allow', model_id, reasoning_level, resume } = options
      const { signal = new AbortController().signal } = options
      const config = { harness: { type: harness, model_id, reasoning_level } }
      return {
        config,
        workspace,
        home,
        mcp: [],
        permissions,
        signal,
        env: {
          PATH: process.env.PATH ?? '',
          HOME: user,
          TMPDIR: folder,
          LANG: 'C.UTF-8',
          HTTP_PROXY: DEAD_PROXY,
          HTTPS_PROXY: DEAD_PROXY,
          http_proxy: DEAD_PROXY,
          https_proxy: DEAD_PROXY,
          NO_PROXY: '127.0.0.1,localhost',
          no_proxy: '127.0.0.1,localhost',
          ...env,
        },
        sink: {
          entry: (body) => entries.push(body),
          delta: (_kind, text) => deltas.push(text),
          usage: (usage) => usages.push(usage),
        },
        assignment: {
          run_id: ID,
          execution_id: ID,
          number: 1,
          team_id: ID,
          title: 'Test',
          prompt: '',
          config,
          parent_run_id: null,
          conversation_id: ID,
          entries_held: 0,
          cause: 'start',
          placement: 'worker',
          context: null,
          guidance: null,
          resume: resume === undefined ? null : { harness, session_id: resume },
          limits: {
            lease_ms: 30_000,
            heartbeat_ms: 5000,
            cancel_grace_ms: CANCEL_GRACE_MS,
            transcript_bytes_max: 4_000_000,
            tool_output_bytes_max: 100_000,
            setup_command_ms: 10_000,
            clone_ms: 10_000,
          },
        },
      }
    },
    diff: () => git('diff'),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

const ID = '00000000-0000-4000-8000-000000000000'
