import { expect, test } from 'vitest'
import { batched } from './batch.ts'

/** A statement that waits to be let go, and counts what it was given. */
function gate() {
  const batches: number[][] = []
  const open: (() => void)[] = []
  const run = (items: number[]) =>
    new Promise<number[]>((resolve, reject) => {
      batches.push(items)
      open.push(() => (items.includes(13) ? reject(new Error('13')) : resolve(items.map((item) => item * 2))))
    })
  return { batches, run, release: () => open.splice(0).forEach((go) => void go()) }
}
const settled = () => new Promise((resolve) => setImmediate(resolve))

test('a call that comes alone goes at once, those that come meanwhile go together', async () => {
  const { batches, run, release } = gate()
  const double = batched({ most: 10, keyOf: String, run })
  const answers = [double(1)]
  await settled()
  answers.push(double(2))
  await settled()
  answers.push(double(3), double(4), double(5))
  await settled()
  expect(batches).toEqual([[1], [2]])
  release()
  await settled()
  expect(batches).toEqual([[1], [2], [3, 4, 5]])
  release()
  expect(await Promise.all(answers)).toEqual([2, 4, 6, 8, 10])
})

test('what would only wait for the one before goes one at a time, with all that came meanwhile', async () => {
  const { batches, run, release } = gate()
  const double = batched({ most: 10, keyOf: String, run, one_at_a_time: true })
  const answers = [double(1)]
  await settled()
  answers.push(double(2))
  await settled()
  answers.push(double(3))
  await settled()
  expect(batches).toEqual([[1]])
  release()
  await settled()
  expect(batches).toEqual([[1], [2, 3]])
  release()
  expect(await Promise.all(answers)).toEqual([2, 4, 6])
})

test('two of the same key never go together and keep their order', async () => {
  const { batches, run, release } = gate()
  const double = batched({ most: 10, keyOf: (item) => String(item % 10), run })
  const answers = [double(1), double(11), double(21), double(2)]
  for (let turn = 0; turn < 4; turn++) {
    await settled()
    release()
  }
  expect(batches).toEqual([[1, 2], [11], [21]])
  expect(await Promise.all(answers)).toEqual([2, 22, 42, 4])
})

test('a wrong item is refused alone', async () => {
  const { run, release } = gate()
  const double = batched({ most: 10, keyOf: String, run })
  const answers = Promise.allSettled([double(1), double(13), double(3)])
  for (let turn = 0; turn < 6; turn++) {
    await settled()
    release()
  }
  expect((await answers).map((one) => one.status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
})

test('a batch has at most as many items as it may', async () => {
  const { batches, run, release } = gate()
  const double = batched({ most: 2, keyOf: String, run })
  const answers = [1, 2, 3, 4, 5].map((item) => double(item))
  for (let turn = 0; turn < 4; turn++) {
    await settled()
    release()
  }
  expect(batches).toEqual([[1, 2], [3, 4], [5]])
  expect(await Promise.all(answers)).toEqual([2, 4, 6, 8, 10])
})

test('what broke with its connection is not done again: it may have been done', async () => {
  const batches: number[][] = []
  const double = batched<number, number>({
    most: 10,
    keyOf: String,
    async run(items) {
      batches.push(items)
      throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })
    },
  })
  const answers = await Promise.allSettled([double(1), double(2)])
  expect(answers.map((one) => one.status)).toEqual(['rejected', 'rejected'])
  expect(batches).toEqual([[1, 2]])
})
