import { execSync } from 'node:child_process'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { OpenHarness, TurnEnd } from '../src/runner/harnesses/harness.ts'
import { findHarness } from '../src/runner/harnesses/registry.ts'
import { CANCEL_GRACE_MS, makePlace, type Place } from './harnesses/place.ts'

let place: Place
let open: OpenHarness
beforeEach(async () => {
  place = makePlace()
  open = await findHarness('command', {}).open(place.start({ harness: 'command' }))
})
afterEach(async () => {
  await open.close()
  place.remove()
})

const output = (stream: string) =>
  place.entries.map((e) => (e.kind === 'output' && e.stream === stream ? e.text : '')).join('')
const left = () => execSync(`grep -lsa "${place.folder}" /proc/[0-9]*/environ || true`, { encoding: 'utf8' }).trim()
const messageOf = (end: TurnEnd) => (end.end === 'failed' ? end.failure.message : '')

test('a command works in the repository, and both of its streams are kept apart', async () => {
  expect(await open.prompt('cat greeting.txt; echo oops >&2; printf "no newline"')).toEqual({ end: 'completed' })
  expect(output('stdout')).toBe('hello\nno newline')
  expect(output('stderr')).toBe('oops\n')
  expect(place.deltas.join('')).toContain('no newline')
})

test('a command that fails is FAILED with its exit code and last lines', async () => {
  const end = await open.prompt('echo first; echo the reason >&2; exit 42')
  expect(end).toMatchObject({
    end: 'failed',
    outcome: 'FAILED',
    failure: { retryable: false, reason: 'command_failed' },
  })
  expect(messageOf(end)).toMatch(/exited with code 42[\s\S]*the reason/)
  expect(messageOf(await open.prompt('no-such-program-at-all'))).toContain('command not found')
  expect(messageOf(await open.prompt('kill -9 $$'))).toContain('SIGKILL')
})

test('bytes that are not UTF-8 and escape sequences survive in their own ways', async () => {
  await open.prompt(String.raw`printf '\377\376ok \033[31mred\033[0m \303'; sleep 0.1; printf '\251'`)
  expect(output('stdout')).toBe('\ufffd\ufffdok \u001b[31mred\u001b[0m é')
})

test('a flood is cut at the limit of the transcript and ends the command', async () => {
  const end = await open.prompt('yes 0123456789012345678901234567890123456789')
  expect(end).toMatchObject({ end: 'failed', outcome: 'FAILED', failure: { reason: 'output_limit' } })
  expect(place.entries.every((entry) => entry.kind === 'output' && entry.text.length <= 16 * 1024)).toBe(true)
  expect(output('stdout').length).toBeLessThan(5_000_000)
})

test('cancel ends a command that ignores SIGTERM, with its children, within the grace', async () => {
  const turn = open.prompt('trap "" TERM; echo started; sleep 86397 & while true; do sleep 1; done')
  await expect.poll(() => place.deltas.join('')).toContain('started')
  const asked_at = performance.now()
  await open.cancel()
  expect(await turn).toEqual({ end: 'cancelled' })
  expect(performance.now() - asked_at).toBeLessThan(CANCEL_GRACE_MS + 200)
  expect(left()).toBe('')
})

test('a daemon that leaves its group does not hold the turn, and is ended with the harness', async () => {
  expect(await open.prompt('setsid sh -c "sleep 86396 & sleep 86396" & echo done')).toEqual({ end: 'completed' })
  expect(left()).not.toBe('')
  await open.close()
  expect(left()).toBe('')
})

test('output that comes slowly is shown while the command still runs', async () => {
  const turn = open.prompt('echo early; sleep 86395')
  await expect.poll(() => output('stdout'), { timeout: 3000 }).toBe('early\n')
  await open.cancel()
  await turn
})
