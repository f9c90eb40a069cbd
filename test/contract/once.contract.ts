/** Creating a run many times at once with one key makes one. */
import { expect, test } from 'vitest'
import { z } from 'zod'
import { ask, NOBODY } from './asking.ts'
import { CreatedRun, RunList } from './wire.ts'

test('100 concurrent creates with one Idempotency-Key answer one run', async () => {
  const name = `once-${crypto.randomUUID()}`
  const how = { body: { prompt: 'wait', config: { ...NOBODY, name } }, headers: { 'idempotency-key': name } }
  const answers = await Promise.all(Array.from({ length: 100 }, () => ask('POST', 'agent/runs', how)))
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
  const made = z.array(CreatedRun).parse(answers.map(({ json }) => json))
  expect(new Set(made.map(({ run_id }) => run_id)).size).toBe(1)
  const { runs } = RunList.parse((await ask('GET', `agent/runs?name=${name}`)).json)
  expect(runs.map(({ run_id }) => run_id)).toEqual([made[0]?.run_id])
})

test('the key with another body is refused, without it each create is a run of its own', async () => {
  const name = `twice-${crypto.randomUUID()}`
  const body = { prompt: 'wait', config: { ...NOBODY, name } }
  const headers = { 'idempotency-key': name }
  const first = await ask('POST', 'agent/runs', { body, headers })
  const other = await ask('POST', 'agent/runs', { body: { ...body, prompt: 'something else' }, headers })
  expect([first.status, other.status]).toEqual([200, 422])
  await ask('POST', 'agent/runs', { body })
  const { runs } = RunList.parse((await ask('GET', `agent/runs?name=${name}`)).json)
  expect(runs).toHaveLength(2)
})
