/** A server with batches and a worker that takes whatever it is offered; what tests ask of them. */
import { expect } from 'vitest'
import type { BatchTask, CreateBatch, Outcome } from '../../src/contract/index.ts'
import { type House, type HouseOptions, startHouse } from './house.ts'
import { until } from './processes.ts'
import type { Piece, ScriptedWorker } from './worker.ts'

export type Given = Omit<CreateBatch, 'concurrency' | 'stop_on_failure'> & {
  concurrency?: number
  stop_on_failure?: boolean
}

/** Retries come soon, unless the options say otherwise. */
export async function openBatches(options: HouseOptions = {}, capacity = 100) {
  const house = await startHouse({
    max_concurrent_runs: 1_000,
    ...options,
    engine_limits: { retry_first_ms: 20, retry_most_ms: 100, ...options.engine_limits },
  })
  const worker = await house.worker({ capacity })
  return { house, worker, ...reader(house) }
}

function reader({ client }: House) {
  const create = (body: Given) => client.batches.create({ body })
  const get = (batch_id: string) => client.batches.get({ params: { batch_id } })
  const tasks = async (batch_id: string) => (await client.batches.tasks({ params: { batch_id } })).tasks
  const task = async (batch_id: string, name: string): Promise<BatchTask> => {
    const found = (await tasks(batch_id)).find((one) => one.name === name)
    if (!found) throw new Error(`no task ${name}`)
    return found
  }
  const states = async (batch_id: string) => (await tasks(batch_id)).map((one) => one.state)
  const ends = (batch_id: string) =>
    until('the batch has ended', async () => {
      const batch = await get(batch_id)
      return batch.ended_at === null ? null : batch
    })
  return { create, get, tasks, task, states, ends }
}

export const prompts = (...names: string[]) => names.map((name) => ({ name, prompt: `do ${name}` }))
export const nameOf = (piece: Piece) => piece.assignment.task.agent_config_snapshot?.name
/** Takes so many and begins them; by name. */
export async function begin(worker: ScriptedWorker, count: number): Promise<Record<string, Piece>> {
  const begun: Record<string, Piece> = {}
  for (let n = 0; n < count; n++) {
    const piece = await worker.next()
    piece.claim()
    await piece.start()
    begun[String(nameOf(piece))] = piece
  }
  return begun
}
export const failure = (more: object = {}): Outcome => ({
  outcome: 'ERROR',
  failure: { error_code: 'resource_unavailable', message: 'The model is busy.', retryable: true, ...more },
})
export const FATAL: Outcome = {
  outcome: 'FAILED',
  failure: { error_code: 'operation_not_supported', message: 'It cannot be done.', retryable: false },
}
/** Long enough for something that must not happen to have happened. */
export const offersNothing = (worker: ScriptedWorker) => expect(worker.next(400)).rejects.toThrow('got no offer')
