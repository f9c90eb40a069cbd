/** Entries of many executions at once, which go together, and nobody waits for, or is refused with, somebody else. */
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { EntryBody } from '../src/contract/index.ts'
import { type House, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

const RUNS = 12

let house: House
let worker: ScriptedWorker
beforeAll(async () => {
  house = await startHouse({ max_concurrent_runs: 100 })
  worker = await house.worker({ capacity: 100 })
})
afterAll(() => house.close())

const text = (words: string): EntryBody => ({ kind: 'text', text: words })

async function begun(): Promise<Piece[]> {
  const config = { harness: { type: 'command' as const } }
  await Promise.all(Array.from({ length: RUNS }, () => house.client.runs.create({ body: { prompt: 'x', config } })))
  return Promise.all(
    Array.from({ length: RUNS }, async () => {
      const piece = await worker.next()
      piece.claim()
      await piece.start()
      return piece
    }),
  )
}

async function said(run_id: string): Promise<string[]> {
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  return entries.flatMap(({ body }) => (body.kind === 'text' ? [body.text] : []))
}

test('what many say at once is kept once each, in order, with the last words of each', async () => {
  const pieces = await begun()
  // Several uploads of one runner under way: they keep their order.
  await Promise.all(
    pieces.flatMap((piece, at) => [1, 2, 3].map((nth) => piece.append(text(`${at}: ${nth}a`), text(`${at}: ${nth}b`)))),
  )
  for (const [at, { run_id, execution_id }] of pieces.entries()) {
    expect(await said(run_id)).toEqual([1, 2, 3].flatMap((nth) => [`${at}: ${nth}a`, `${at}: ${nth}b`]))
    const row = await house.database.kysely
      .selectFrom('executions')
      .select(['entries', 'last_words', 'transcript_bytes'])
      .where('execution_id', '=', execution_id)
      .executeTakeFirstOrThrow()
    expect(row).toMatchObject({ entries: 6, last_words: `${at}: 3b` })
    expect(Number(row.transcript_bytes)).toBe(6 * JSON.stringify(text(`${at}: 1a`)).length)
  }
})

test('one whose row is held waits alone; one that has ended, and one with a gap, are refused alone', async () => {
  const pieces = await begun()
  const [held, ended, gap, ...others] = pieces as [Piece, Piece, Piece, ...Piece[]]
  await ended.finish()
  const done: string[] = []
  const append = async (piece: Piece, number: number) => {
    const at = new Date().toISOString()
    const entries = [{ number, at, body: text('here') }]
    const params = { execution_id: piece.execution_id }
    const answer = await piece.runner.executions.append({ params, body: { entries } }).catch((fault) => fault)
    done.push(piece.run_id)
    return answer
  }
  const { late, refused, kept } = await house.database.kysely.transaction().execute(async (hold) => {
    await sql`select from executions where execution_id = ${held.execution_id} for update`.execute(hold)
    const [first, ...rest] = others.map((piece) => append(piece, 1))
    const [past, late, wide] = [append(ended, 1), append(held, 1), append(gap, 3)]
    const [refused_past, refused_gap, ...kept] = await Promise.all([past, wide, first, ...rest])
    expect(done).not.toContain(held.run_id)
    return { late, kept, refused: [refused_past, refused_gap] }
  })
  expect(refused).toEqual([
    expect.objectContaining({ status: 409, message: expect.stringContaining('no longer the current one') }),
    expect.objectContaining({ status: 409, message: expect.stringContaining('Entry 1 is missing before entry 3') }),
  ])
  for (const answer of [...kept, await late]) expect(answer).toEqual({ highest: 1 })
  for (const { run_id } of [held, ...others]) expect(await said(run_id)).toEqual(['here'])
  for (const { run_id } of [ended, gap]) expect(await said(run_id)).toEqual([])
})
