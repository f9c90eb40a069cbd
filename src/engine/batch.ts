/**
 * Group commit: calls that come while earlier ones are under way are answered by one statement. A call that comes alone
 * goes at once, so that nobody waits for company.
 */
import { isUnavailable } from '../db/unavailable.ts'

/** Statements under way at a time; a second one lets the next batch be worked on while the first is being made durable. */
const UNDER_WAY_MAX = 2

export type Batching<T, R> = {
  /** Items of one statement. */
  most: number
  /** Two items of the same key never go together; they keep their order. */
  keyOf(item: T): string
  /** Answers in the order of the items. */
  run(items: T[]): Promise<R[]>
  /** Each would wait for the one before, for all take the same row: the next goes afterwards, with all that came meanwhile. */
  one_at_a_time?: boolean
}

type Waiting<T, R> = { item: T; key: string; resolve(answer: R): void; reject(cause: unknown): void }

export function batched<T, R>({ most, keyOf, run, one_at_a_time = false }: Batching<T, R>): (item: T) => Promise<R> {
  let waiting: Waiting<T, R>[] = []
  const under_way = new Set<string>()
  const under_way_max = one_at_a_time ? 1 : UNDER_WAY_MAX
  let statements = 0

  function next(): void {
    while (statements < under_way_max) {
      const batch = take()
      if (batch.length === 0) return
      statements += 1
      for (const { key } of batch) under_way.add(key)
      void answer(batch).finally(() => {
        statements -= 1
        for (const { key } of batch) under_way.delete(key)
        next()
      })
    }
  }

  function take(): Waiting<T, R>[] {
    const batch: Waiting<T, R>[] = []
    const keys = new Set(under_way)
    waiting = waiting.filter((one) => {
      if (batch.length >= most || keys.has(one.key)) {
        // Whoever waits behind it with the same key must not overtake it.
        keys.add(one.key)
        return true
      }
      keys.add(one.key)
      batch.push(one)
      return false
    })
    return batch
  }

  async function answer(batch: Waiting<T, R>[]): Promise<void> {
    try {
      const answers = await run(batch.map((one) => one.item))
      batch.forEach((one, at) => {
        one.resolve(answers[at] as R)
      })
    } catch (cause) {
      // One wrong item fails the statement of all: each is tried by itself, so that only that one is refused.
      // Of what broke with its connection nobody knows whether it is done: to do it again is for whoever asked.
      if (batch.length === 1 || isUnavailable(cause)) return batch.forEach((one) => void one.reject(cause))
      for (const one of batch) await run([one.item]).then(([own]) => one.resolve(own as R), one.reject)
    }
  }

  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, key: keyOf(item), resolve, reject })
      // In the next turn, so that what is asked for together goes together.
      if (waiting.length === 1) queueMicrotask(next)
    })
}
