import { afterEach, expect, test, vi } from 'vitest'
import { lostAnswers } from './lost-answers.ts'

afterEach(() => vi.useRealTimers())

function begin() {
  vi.useFakeTimers()
  const given_back: string[] = []
  let is_away = true
  const lost = lostAnswers(async (execution_id, call_key) => {
    if (is_away) throw new Error('away')
    given_back.push(`${execution_id} ${call_key}`)
  })
  const comeBack = () => {
    is_away = false
  }
  return { lost, given_back, comeBack }
}

test('what could not be given back is owed until the agent calls next, each agent its own', async () => {
  const { lost, given_back, comeBack } = begin()
  await expect(lost.lose('a', '1')).rejects.toThrow('away')
  await expect(lost.lose('a', '2')).rejects.toThrow('away')
  await expect(lost.settle('a')).rejects.toThrow('away')
  await lost.settle('b')
  comeBack()
  await lost.settle('a')
  expect(given_back).toEqual(['a 1', 'a 2'])
  await vi.advanceTimersByTimeAsync(10_000)
  await lost.settle('a')
  expect(given_back).toHaveLength(2)
})

test('it is tried again by itself, and owed no more when it is done', async () => {
  const { lost, given_back, comeBack } = begin()
  await expect(lost.lose('a', '1')).rejects.toThrow('away')
  await vi.advanceTimersByTimeAsync(5_000)
  expect(given_back).toEqual([])
  comeBack()
  await vi.advanceTimersByTimeAsync(1_000)
  await lost.lose('b', '1')
  await lost.settle('a')
  await vi.advanceTimersByTimeAsync(10_000)
  expect(given_back).toEqual(['a 1', 'b 1'])
})
