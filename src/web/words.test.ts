import { expect, test } from 'vitest'
import type { Run } from '../contract/index.ts'
import { parseAnsi } from './ansi.ts'
import { checkDraft, EMPTY_DRAFT, requestOf } from './data/draft.ts'
import { statesWanted } from './data/filter.ts'
import { diffLines } from './diff.ts'
import { lengthWords, relativeWords } from './time.ts'
import { executionStatus, executionWord, waitingWords } from './words.ts'

test('lengths and moments are told in the two units that matter', () => {
  expect([50, 1500, 65_000, 3_600_000, 90_061_000].map(lengthWords)).toEqual([
    '< 0.1 s',
    '1 s',
    '1 min 5 s',
    '1 h',
    '1 d 1 h',
  ])
  expect(
    [0, 30_000, 7_200_000, -20_000].map((ago) => relativeWords(1_000_000_000_000 - ago, 1_000_000_000_000)),
  ).toEqual(['just now', '30 s ago', '2 h ago', 'in 20 s'])
})

test('terminal output keeps its colours and loses every other control', () => {
  expect(parseAnsi('\u001b[1;31mred\u001b[0m plain\u001b[2K\u001b]8;;http://x\u0007link\u0007')).toEqual([
    { text: 'red', classes: 'ansi-red ansi-bold' },
    { text: ' plainlink', classes: '' },
  ])
  expect(parseAnsi('10%\r50%\r100%\r\ndone')).toEqual([{ text: '100%\ndone', classes: '' }])
  expect(parseAnsi('\u001b[38;5;2mg\u001b[38;2;1;2;3mx')).toEqual([
    { text: 'g', classes: 'ansi-green' },
    { text: 'x', classes: '' },
  ])
})

test('a change is shown with its surroundings, and what is far from it is folded', () => {
  const before = Array.from({ length: 20 }, (_, at) => `line ${at}`)
  const after = before.with(10, 'changed')
  expect(diffLines(before.join('\n'), after.join('\n'))).toEqual([
    { kind: 'skipped', lines: 7 },
    ...before.slice(7, 10).map((text) => ({ kind: 'same', text })),
    { kind: 'removed', text: 'line 10' },
    { kind: 'added', text: 'changed' },
    ...before.slice(11, 14).map((text) => ({ kind: 'same', text })),
    { kind: 'skipped', lines: 6 },
  ])
  expect(diffLines(null, 'a\nb\n')).toEqual([
    { kind: 'added', text: 'a' },
    { kind: 'added', text: 'b' },
  ])
})

test('an execution that was never begun is not one that was cancelled', () => {
  const word = (state: 'offered' | 'claimed' | 'running') => executionWord({ state })
  expect([word('offered'), word('claimed'), word('running')]).toEqual(['Offered', 'Starting', 'Working'])
  expect(executionWord({ state: 'ended', outcome: 'LAPSED' })).toBe('Never begun')
  expect(executionWord({ state: 'ended', outcome: 'CANCELLED' })).toBe('Cancelled')
  expect(executionStatus({ state: 'ended', outcome: 'ERROR' })).toBe('failed')
})

test('a run that waits for a worker names the one that it was asked for', () => {
  const words = (worker_host?: string) =>
    waitingWords({ state: 'QUEUED', waiting_for: 'worker', agent_config: { worker_host } } as Run)
  expect(words('gpu-box')).toMatch(/the worker gpu-box, .*: baton worker --worker-id gpu-box$/)
  expect([words(), words('warp')].map((said) => said?.endsWith(': baton worker'))).toEqual([true, true])
})

test('a tab and chosen statuses narrow each other', () => {
  expect(statesWanted({})).toBeUndefined()
  expect(statesWanted({ tab: 'failed' })).toEqual(['FAILED', 'ERROR'])
  expect(statesWanted({ tab: 'active', status: 'starting,failed' })).toEqual(['PENDING', 'CLAIMED'])
  expect(statesWanted({ tab: 'failed', status: 'queued' })).toEqual([])
})

test('a draft is checked in words and becomes the smallest request that says it', () => {
  expect(Object.keys(checkDraft({ ...EMPTY_DRAFT, ref: 'main', timeout: '-1' }))).toEqual([
    'prompt',
    'repository',
    'timeout',
  ])
  expect(
    requestOf({
      ...EMPTY_DRAFT,
      prompt: 'x',
      harness: 'command',
      model: 'ignored',
      setup: ' npm ci \n\n',
      timeout: '5',
    }),
  ).toEqual({
    prompt: 'x',
    config: {
      harness: { type: 'command' },
      environment: { repositories: [], setup_commands: ['npm ci'], variables: {} },
      timeout_minutes: 5,
    },
  })
})
