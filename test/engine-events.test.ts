/** Reading the log: a reader of few runs is not made to page through everybody else's. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { enqueueEvents } from './house/events.ts'
import { type House, startHouse } from './house/house.ts'

let house: House
beforeAll(async () => {
  house = await startHouse()
})
afterAll(() => house.close())

test('one page of a selection holds its events alone, however many others lie between, and ends where it is told', async () => {
  const other = await house.addTeam('others')
  const { run_id: own } = await house.client.runs.create({ body: { prompt: 'own' } })
  const { run_id: theirs } = await other.client.runs.create({ body: { prompt: 'theirs' } })
  for (let round = 0; round < 3; round++) {
    await enqueueEvents(house, own, 1)
    await enqueueEvents(house, theirs, 1_000)
  }
  const { events } = house.server.engine
  const all = await events.read(0, 10_000)
  const expected = all.filter(({ run_id }) => run_id === own)
  expect(expected.length).toBeGreaterThanOrEqual(3)
  for (const query of [{}, { run_ids: [own.toUpperCase()] }, { ancestor_run_id: own, include_self: true }]) {
    const { where, wants } = events.select(house.owner, query)
    expect(await events.read(0, 10, { where }), JSON.stringify(query)).toEqual(expected)
    expect(all.filter(wants)).toEqual(expected)
  }
  const { where } = events.select(house.owner, {})
  const [first, second] = expected
  expect(await events.read(0, 10, { where, until: second?.sequence ?? 0 })).toEqual([first, second])
  expect(await events.read(first?.sequence ?? 0, 1, { where })).toEqual([second])
  const below = events.select(house.owner, { ancestor_run_id: own })
  expect(await events.read(0, 10, { where: below.where })).toEqual([])
})
