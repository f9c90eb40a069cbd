import { execSync } from 'node:child_process'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { EntryBody } from '../src/contract/index.ts'
import type { OpenHarness } from '../src/runner/harnesses/harness.ts'
import { findHarness } from '../src/runner/harnesses/registry.ts'
import { CANCEL_GRACE_MS, makePlace, type Place, type StartOptions } from './harnesses/place.ts'

const FAKE = { fake: { command: process.execPath, args: [join(import.meta.dirname, 'harnesses/fake-agent.ts')] } }

let place: Place
let opened: OpenHarness[] = []
beforeEach(() => {
  place = makePlace()
})
afterEach(async () => {
  for (const open of opened) await open.close()
  opened = []
  place.remove()
})

async function openFake(behaviour: string, options: Partial<StartOptions> = {}): Promise<OpenHarness> {
  const harness = findHarness('fake', { BATON_HARNESSES: JSON.stringify(FAKE) })
  const open = await harness.open(
    place.start({
      harness: 'fake',
      ...options,
      env: { FAKE: behaviour, SOME_API_KEY: 'sk-very-secret', ...options.env },
    }),
  )
  opened.push(open)
  return open
}

const kinds = () => place.entries.map((entry) => entry.kind)
const entriesOf = <K extends EntryBody['kind']>(kind: K) =>
  place.entries.filter((entry) => entry.kind === kind) as Extract<EntryBody, { kind: K }>[]
/** Processes of this test alone: each carries the folder of its place in its environment. */
const left = () => execSync(`grep -lsa "${place.folder}" /proc/[0-9]*/environ || true`, { encoding: 'utf8' }).trim()

test('a turn becomes coalesced text, one call, one result with its change, a plan and four buckets of tokens', async () => {
  const open = await openFake('good')
  expect(await open.prompt('go')).toEqual({ end: 'completed', summary: 'Done.' })
  expect(place.entries).toEqual([
    { kind: 'thought', text: 'Hm.' },
    { kind: 'text', text: 'Hello there.' },
    {
      kind: 'tool_call',
      call_id: 't1',
      name: 'ls',
      category: 'command',
      title: 'ls',
      input: { command: 'ls -a' },
      paths: ['/w/a'],
    },
    {
      kind: 'tool_result',
      call_id: 't1',
      status: 'completed',
      output: 'a b',
      exit_code: 3,
      changes: [{ path: '/w/a', old_text: null, new_text: 'x' }],
    },
    { kind: 'plan', items: [{ content: 'One', status: 'in_progress' }] },
    { kind: 'text', text: 'Done.' },
  ])
  expect(place.deltas.join('|')).toBe('Hm.|Hello |there.|Done.')
  expect(place.usages.at(-1)).toEqual({
    input_tokens: 5,
    output_tokens: 2,
    cache_read_tokens: 3,
    cache_write_tokens: 1,
  })
})

test('what cannot be read is kept as unknown or left alone, and the turn goes on', async () => {
  const open = await openFake('lies')
  expect((await open.prompt('go')).end).toBe('completed')
  expect(kinds()).toEqual(['unknown', 'unknown', 'unknown', 'unknown'])
  expect(entriesOf('unknown')[0]?.raw).toEqual({ sessionUpdate: 'from_the_future', x: 1 })
})

test('a policy of allow takes the narrowest leave', async () => {
  const open = await openFake('asks')
  expect(await open.prompt('go')).toMatchObject({ end: 'completed', summary: expect.stringContaining('"once"') })
  expect(entriesOf('tool_result')[0]?.status).toBe('completed')
})

test('a policy of deny refuses, and says so in an entry and in the result', async () => {
  const open = await openFake('asks', { permissions: 'deny' })
  expect(await open.prompt('go')).toMatchObject({ end: 'completed', summary: expect.stringContaining('"no"') })
  expect(entriesOf('system')[0]).toMatchObject({ name: 'permission_denied', text: expect.stringContaining('rm -rf /') })
  expect(entriesOf('tool_result')[0]?.status).toBe('denied')
})

test('a crash in mid-turn is an ERROR that may be tried again, with exit code and last lines but no key', async () => {
  const open = await openFake('crashes')
  const end = await open.prompt('go')
  expect(end).toMatchObject({ end: 'failed', outcome: 'ERROR', failure: { retryable: true, reason: 'harness_died' } })
  const message = end.end === 'failed' ? end.failure.message : ''
  expect(message).toContain('exited with code 3')
  expect(message).toContain('boom: key ••• was bad')
  expect(entriesOf('text')[0]?.text).toBe('I will ')
  expect((await open.prompt('again')).end).toBe('failed')
})

test('a kill from outside is told by its signal', async () => {
  const open = await openFake('killed')
  expect(await open.prompt('go')).toMatchObject({
    end: 'failed',
    failure: { message: expect.stringContaining('SIGKILL') },
  })
})

test('a harness that closes its output but lives on is ended and told as such', async () => {
  const open = await openFake('closes')
  expect(await open.prompt('go')).toMatchObject({
    end: 'failed',
    failure: { message: expect.stringContaining('closed its output') },
  })
})

test.each(['hangs', 'deaf', 'ignores_signals'])(
  'cancel ends a harness that %s within the grace, and nothing of it is left',
  async (behaviour) => {
    const open = await openFake(behaviour)
    const turn = open.prompt('go')
    await expect.poll(() => place.deltas.length).toBeGreaterThan(0)
    const asked_at = performance.now()
    await open.cancel()
    expect(await turn).toEqual({ end: 'cancelled' })
    expect(performance.now() - asked_at).toBeLessThan(CANCEL_GRACE_MS + 200)
    await open.close()
    expect(left()).toBe('')
  },
)

test('closing in the middle of a turn ends the turn and every process', async () => {
  const open = await openFake('hangs')
  const turn = open.prompt('go')
  await expect.poll(() => place.deltas.length).toBeGreaterThan(0)
  await open.close()
  expect((await turn).end).not.toBe('completed')
  expect(left()).toBe('')
})

test('floods of text, of stderr and of one endless line are survived', async () => {
  expect((await (await openFake('floods')).prompt('go')).end).toBe('completed')
  expect(entriesOf('text').reduce((sum, entry) => sum + entry.text.length, 0)).toBe(2_000_000)
  expect((await (await openFake('noisy')).prompt('go')).end).toBe('completed')
  expect(await (await openFake('huge_line')).prompt('go')).toEqual({ end: 'completed', summary: 'after' })
})

test('a resumed session does not repeat its earlier entries', async () => {
  const open = await openFake('good', { resume: 's-0' })
  expect(open.session_id).toBe('s-0')
  expect(place.entries).toEqual([])
})

test('a session that is gone is begun anew, and the transcript says so', async () => {
  const open = await openFake('forgot', { resume: 's-0' })
  expect(open.session_id).toBe('s-1')
  expect(entriesOf('system')[0]).toMatchObject({
    name: 'resume_failed',
    text: expect.stringContaining('No such session'),
  })
})

test('a refusal and a busy model are different failures', async () => {
  expect(await (await openFake('refuses')).prompt('go')).toMatchObject({
    outcome: 'FAILED',
    failure: { error_code: 'content_policy_violation' },
  })
  expect(await (await openFake('busy')).prompt('go')).toMatchObject({
    outcome: 'ERROR',
    failure: {
      error_code: 'resource_unavailable',
      retryable: true,
      message: expect.stringContaining('529 overloaded'),
    },
  })
})

test('a harness without a login, and one that dies at once, cannot be opened and say why', async () => {
  await expect(openFake('no_login')).rejects.toMatchObject({
    failure: { error_code: 'external_authentication_required', retryable: false },
  })
  await expect(openFake('dies_at_once')).rejects.toMatchObject({
    failure: { message: expect.stringMatching(/exited with code 7[\s\S]*cannot find my configuration/) },
  })
})

test('a run that is stopped while its harness opens leaves nothing behind', async () => {
  const stop = new AbortController()
  const opening = openFake('mute', { signal: stop.signal })
  setTimeout(() => stop.abort(), 300)
  await expect(opening).rejects.toThrow('the run was stopped')
  expect(left()).toBe('')
})

test('unknown names and unreadable configuration are refused with what is known', () => {
  expect(() => findHarness('nope', { BATON_HARNESSES: JSON.stringify(FAKE) })).toThrow(
    /no harness named "nope".*claude.*command.*fake/,
  )
  expect(() => findHarness('fake', { BATON_HARNESSES: '{' })).toThrow('BATON_HARNESSES cannot be read')
})

test('a missing program is named together with the command that fetches it', async () => {
  const harness = findHarness('codex', { BATON_HARNESS_CACHE: '/nonexistent', PATH: '/nonexistent' })
  await expect(harness.open(place.start({ harness: 'codex', env: { PATH: '/nonexistent' } }))).rejects.toThrow(
    'baton harness install codex',
  )
})
