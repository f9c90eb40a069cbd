/** One conformance suite over the real CLIs and the built-in agent, against a scripted model on loopback. */
import { execSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { totalTokens } from '../../src/contract/index.ts'
import type { OpenHarness } from '../../src/runner/harnesses/harness.ts'
import { findHarness } from '../../src/runner/harnesses/registry.ts'
import { passOn, serveOnLoopback } from '../house/loopback.ts'
import { CASES, type Case, KEY, SURROUNDINGS } from './cases.ts'
import { makePlace, type Place, type StartOptions } from './place.ts'
import { EDIT, HANG, HANGING, RECALL, type Script, startScript, WORD } from './script.ts'

let place: Place
let script: Script
let opened: OpenHarness[] = []
beforeEach(async () => {
  place = makePlace()
  script = await startScript(place.workspace)
})
afterEach(async () => {
  for (const open of opened) await open.close()
  opened = []
  await script.stop()
  place.remove()
})

async function open(its: Case, options: Partial<StartOptions> = {}): Promise<OpenHarness> {
  const model = its.model_id === undefined ? {} : { model_id: its.model_id }
  const started = await findHarness(its.name, SURROUNDINGS).open(
    place.start({ harness: its.name, env: its.env(script.url), ...model, ...options }),
  )
  opened.push(started)
  return started
}

/** Whatever carries the folder of this test in its environment: nothing of a harness leaves it. */
const left = () => execSync(`grep -lsa "${place.folder}" /proc/[0-9]*/environ || true`, { encoding: 'utf8' }).trim()
const commandRuns = () =>
  execSync(`grep -lsa "${HANGING.replaceAll(' ', '.')}" /proc/[0-9]*/cmdline || true`, { encoding: 'utf8' })
    .split('\n')
    .some((file) => isOurs(file))
const isOurs = (file: string) => {
  try {
    return file !== '' && readFileSync(file.replace('cmdline', 'environ'), 'latin1').includes(place.folder)
  } catch {
    return false
  }
}

/** As the script counts each model call. */
const usedBy = (calls: number) => ({ input_tokens: calls * 100, output_tokens: calls * 10 })

describe.each(CASES)('$name', (its) => {
  test('edits a file in a git repository with its own tools, reports its tokens, and remembers when resumed', async () => {
    const first = await open(its)
    expect(await first.prompt(EDIT)).toEqual({ end: 'completed', summary: expect.stringContaining('Done as asked.') })
    execSync('git add --intent-to-add .', { cwd: place.workspace })
    expect(place.diff()).toContain('+written by the agent')
    const call = place.entries.find((entry) => entry.kind === 'tool_call')
    expect(call).toMatchObject({ kind: 'tool_call', category: expect.stringMatching(/files|command/) })
    expect(place.entries).toContainEqual(
      expect.objectContaining({ kind: 'tool_result', status: 'completed', call_id: call?.call_id }),
    )
    expect(place.entries.filter((entry) => entry.kind === 'unknown')).toEqual([])
    expect(
      totalTokens(
        place.usages.at(-1) ?? { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0 },
      ),
    ).toBeGreaterThan(0)
    if (its.name === 'opencode') expect(place.usages.at(-1)).toMatchObject(usedBy(script.requests()))
    expect(JSON.stringify(place.entries)).not.toContain(KEY)
    const { session_id } = first
    await first.close()
    expect(left()).toBe('')
    if (!its.resumes || session_id === null) return
    const entries = place.entries.length
    const calls = script.requests()
    const second = await open(its, { resume: session_id })
    expect(second.session_id).toBe(session_id)
    expect(place.entries.length).toBe(entries)
    expect(await second.prompt(RECALL)).toMatchObject({ end: 'completed', summary: expect.stringContaining(WORD) })
    if (its.name === 'opencode') expect(place.usages.at(-1)).toMatchObject(usedBy(script.requests() - calls))
  })

  test('is cancelled in the middle of a command within two seconds, and no process is left', async () => {
    const started = await open(its)
    const turn = started.prompt(HANG)
    await expect.poll(commandRuns, { timeout: 20_000 }).toBe(true)
    const asked_at = performance.now()
    await started.cancel()
    expect(await turn).toEqual({ end: 'cancelled' })
    await started.close()
    expect(performance.now() - asked_at).toBeLessThan(2000)
    expect(left()).toBe('')
  })

  test('changes nothing under a policy of deny', async () => {
    const started = await open(its, { permissions: 'deny' })
    await started.prompt(EDIT)
    execSync('git add --intent-to-add .', { cwd: place.workspace })
    expect(place.diff()).toBe('')
    if (its.deny_shows)
      expect(place.entries).toContainEqual(expect.objectContaining({ kind: 'system', name: 'permission_denied' }))
  })

  test.each([401, 400])('a model call that the provider answers with %i is a failure that says so', async (status) => {
    const refusing = await serveOnLoopback((_request, _body, response) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify({
          type: 'error',
          error:
            status === 401
              ? { type: 'authentication_error', message: 'invalid api key', code: 401, status: 'UNAUTHENTICATED' }
              : { type: 'invalid_request_error', message: 'no such thing', code: 400, status: 'INVALID_ARGUMENT' },
        }),
      )
    })
    const started = await open(its, { env: its.env(refusing) })
    const end = await started.prompt(EDIT)
    expect(end.end).toBe('failed')
    if (status === 401)
      expect(end).toMatchObject({ outcome: 'FAILED', failure: { error_code: 'external_authentication_required' } })
  })

  test('without a login it is not started, and the commands to log in are named', async () => {
    await expect(open(its, { env: {} })).rejects.toMatchObject({
      failure: {
        error_code: 'external_authentication_required',
        retryable: false,
        message: expect.stringMatching(its.login),
      },
    })
  })
})

/** Where it says how hard to think, in the terms of its provider. */
const EFFORTS: [string, RegExp, Partial<StartOptions>][] = [
  ['claude', /"output_config":\{"effort":"low"/, { model_id: 'claude-opus-4-6' }],
  ['codex', /"reasoning":\{"effort":"low"/, { model_id: 'gpt-5' }],
  ['baton', /"reasoning":\{"effort":"low"/, { model_id: 'openai/gpt-5.5' }],
]
test.each(EFFORTS)('%s thinks as hard as it was asked to', async (name, said, options) => {
  const its = CASES.find((one) => one.name === name)
  if (its === undefined) throw new Error(name)
  const { url, bodies } = await passOn(script.url)
  const started = await open(its, { env: its.env(url), reasoning_level: 'low', ...options })
  await started.prompt(RECALL)
  expect(
    bodies.some((body) => said.test(body)),
    bodies.map((body) => body.slice(0, 300)).join('\n'),
  ).toBe(true)
})
