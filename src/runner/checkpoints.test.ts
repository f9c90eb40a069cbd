import { afterEach, expect, test, vi } from 'vitest'
import { makeBoundary } from './boundary.ts'
import { makeCheckpoints, type Take } from './checkpoints.ts'

afterEach(() => vi.useRealTimers())

const EVERY_MS = 100_000
const call = (call_id: string) => ({ kind: 'tool_call', call_id, name: 'x', title: 'x', category: 'command' }) as const
const result = (call_id: string) => ({ kind: 'tool_result', call_id, status: 'completed', output: '' }) as const

function begin(take: Take = async () => true) {
  vi.useFakeTimers()
  const boundary = makeBoundary()
  boundary.turnBegan()
  const taken: ('whole' | 'as it is')[] = []
  const checkpoints = makeCheckpoints({
    every_ms: EVERY_MS,
    boundary,
    take: async (isWhole, signal) => {
      const is_good = await take(isWhole, signal)
      if (is_good) taken.push(isWhole === null ? 'as it is' : 'whole')
      return is_good
    },
  })
  return { boundary, taken, checkpoints }
}

test('one is taken after each interval, with some jitter, and none without an interval', async () => {
  const { taken } = begin()
  await vi.advanceTimersByTimeAsync(EVERY_MS - 1)
  expect(taken).toEqual([])
  await vi.advanceTimersByTimeAsync(EVERY_MS / 10 + 1)
  expect(taken).toEqual(['whole'])
  await vi.advanceTimersByTimeAsync(1.1 * EVERY_MS)
  expect(taken).toEqual(['whole', 'whole'])
  const none = makeCheckpoints({
    every_ms: undefined,
    boundary: makeBoundary(),
    take: () => Promise.reject(new Error()),
  })
  expect(await none.aside(async () => 7)).toBe(7)
})

test('it waits until no action is under way, and at last takes what is there', async () => {
  const { boundary, taken } = begin()
  boundary.saw(call('a'))
  boundary.saw(call('b'))
  await vi.advanceTimersByTimeAsync(1.1 * EVERY_MS)
  boundary.saw(result('a'))
  await vi.advanceTimersByTimeAsync(1)
  expect(taken).toEqual([])
  boundary.saw(result('b'))
  await vi.advanceTimersByTimeAsync(1)
  expect(taken).toEqual(['whole'])
  boundary.saw(call('c'))
  await vi.advanceTimersByTimeAsync(3.1 * EVERY_MS)
  expect(taken).toEqual(['whole', 'as it is'])
  boundary.turnEnded()
  await vi.advanceTimersByTimeAsync(1.1 * EVERY_MS)
  expect(taken).toEqual(['whole', 'as it is', 'whole'])
})

test('an agent that waits is kept once after its turn, and again after the next', async () => {
  const { boundary, taken } = begin()
  boundary.turnEnded()
  await vi.advanceTimersByTimeAsync(5 * EVERY_MS)
  expect(taken).toEqual(['whole'])
  boundary.turnBegan()
  await vi.advanceTimersByTimeAsync(1.1 * EVERY_MS)
  boundary.turnEnded()
  await vi.advanceTimersByTimeAsync(5 * EVERY_MS)
  expect(taken).toEqual(['whole', 'whole', 'whole'])
})

test('one in which an action began is taken anew', async () => {
  let tries = 0
  const { boundary, taken } = begin(async (isWhole) => {
    tries += 1
    if (tries === 1) boundary.saw(call('a'))
    return isWhole?.() ?? true
  })
  await vi.advanceTimersByTimeAsync(1.1 * EVERY_MS)
  expect([tries, taken]).toEqual([1, []])
  await vi.advanceTimersByTimeAsync(5_000)
  boundary.saw(result('a'))
  await vi.advanceTimersByTimeAsync(1)
  expect([tries, taken]).toEqual([2, ['whole']])
})

test('a step aside gives up the one that is being taken, and has the workspace for itself', async () => {
  const begun: AbortSignal[] = []
  const { checkpoints } = begin(async (_, signal) => {
    begun.push(signal)
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    return true
  })
  await vi.advanceTimersByTimeAsync(1.1 * EVERY_MS)
  expect(begun).toHaveLength(1)
  await checkpoints.aside(async () => {
    expect(begun[0]?.aborted).toBe(true)
    await vi.advanceTimersByTimeAsync(2 * EVERY_MS)
    expect(begun).toHaveLength(1)
  })
  await vi.advanceTimersByTimeAsync(1.1 * EVERY_MS)
  expect(begun).toHaveLength(2)
  await checkpoints.close()
  await vi.advanceTimersByTimeAsync(2 * EVERY_MS)
  expect(begun).toHaveLength(2)
})
