/** Agents of real harnesses at work on runs of one house, each with a scripted model of its own. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EntryBody } from '../../src/contract/index.ts'
import { runExecution } from '../../src/runner/run.ts'
import { type House, startHouse } from '../house/house.ts'
import { readPid } from '../house/processes.ts'
import { type Case, runnerEnv } from './cases.ts'

export type Model = {
  url: string
  /** All that it was asked, each as one text. */
  asked: string[]
  stop(): Promise<void>
}

export type Agent<M extends Model> = {
  name: string
  run_id: string
  token: string
  workspace: string
  model: M
  ended: Promise<unknown>
}

export type Begin<M extends Model> = { model: M; prompt: string; parent_run_id?: string | undefined }

export type Agents = Awaited<ReturnType<typeof openAgents>>

export async function openAgents() {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'baton-agents-')))
  const house: House = await startHouse({
    limits: { close_ms: 200 },
    blobs_dir: join(folder, 'blobs'),
    max_concurrent_runs: 10,
  })
  const worker = await house.worker({ capacity: 10 })
  const stop = new AbortController()
  const begun: Agent<Model>[] = []
  const runOf = (run_id: string) => house.client.runs.get({ params: { run_id } })

  return {
    house,

    /** It is not tried again. */
    async begin<M extends Model>(its: Case, { model, prompt, parent_run_id }: Begin<M>): Promise<Agent<M>> {
      const config = { harness: { type: its.name, ...(its.model_id && { model_id: its.model_id }) }, max_tries: 1 }
      const { run_id } = await house.client.runs.create({
        body: { prompt, config, ...(parent_run_id && { parent_run_id }) },
      })
      const piece = await worker.next()
      piece.claim()
      const user = join(folder, its.name, 'user')
      const workspace = join(folder, its.name, 'workspace')
      mkdirSync(user, { recursive: true })
      const token = piece.assignment.env_vars.WARP_API_KEY ?? ''
      const ended = runExecution({
        server: house.url,
        token,
        execution_id: piece.execution_id,
        version: '0.0.0',
        env: runnerEnv(its, model.url, user),
        workspace,
        place: 'managed',
        signal: stop.signal,
      }).then((report) => {
        piece.complete()
        return report
      })
      const agent = { name: its.name, run_id, token, workspace, model, ended }
      begun.push(agent)
      return agent
    },

    runOf: ({ run_id }: Agent<Model>) => runOf(run_id),
    stateOf: async ({ run_id }: Agent<Model>) => (await runOf(run_id)).state,
    outcomesOf: async ({ run_id }: Agent<Model>) =>
      (await house.client.executions.list({ params: { run_id } })).executions.map(({ outcome }) => outcome),
    bodiesOf: async ({ run_id }: Agent<Model>): Promise<EntryBody[]> =>
      (await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })).entries.map(
        ({ body }) => body,
      ),
    /** Of the command that wrote its own into `command.pid`. */
    pidOf: ({ workspace }: Agent<Model>) => readPid(join(workspace, 'command.pid')),

    async close(): Promise<void> {
      stop.abort()
      await Promise.all(begun.map(({ ended }) => ended))
      await Promise.all(begun.map(({ model }) => model.stop()))
      await house.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** What an agent was told as prompts, in one text. */
export const toldIn = (bodies: EntryBody[]) =>
  bodies.flatMap((body) => (body.kind === 'prompt' ? [body.text] : [])).join('\n')

export const timesIn = (text: string, words: string) => text.split(words).length - 1
