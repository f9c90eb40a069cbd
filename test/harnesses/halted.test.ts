/**
 * The four real CLIs in one tree that the storm guard stops twice, as `docs/decisions/0017-halted-trees.md` has it: in
 * the middle of a command, and while the model's answer is awaited. What counts is what each model was asked.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ChatCompletionRequest, LLMock } from '@copilotkit/aimock'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { EntryBody } from '../../src/contract/index.ts'
import { runExecution } from '../../src/runner/run.ts'
import { type House, startHouse } from '../house/house.ts'
import { lives, readPid, until } from '../house/processes.ts'
import type { ScriptedWorker } from '../house/worker.ts'
import { CASES, type Case, runnerEnv } from './cases.ts'
import { shell, WORD } from './script.ts'

const TEST_MS = 180_000
const STEP_MS = 60_000
const RELEASED = 'a person has let it go on'
const COMMAND = 'echo $$ > command.pid; exec tail -f command.pid'
/** The built-in agent is in `test/halted-trees.test.ts`. */
/** Codex (2.6) makes a background terminal of a command whose turn is interrupted; it ends with the execution. */
const LEAVES_COMMANDS = ['codex']
const CLIS = CASES.filter(({ name }) => name !== 'baton')

type Model = {
  url: string
  /** All that it was asked, each as one text. */
  asked: string[]
  /** It was asked and has not answered; it never will. */
  holding(): boolean
  stop(): Promise<void>
}
type Agent = { name: string; run_id: string; token: string; workspace: string; model: Model; ended: Promise<unknown> }

let folder: string
let house: House
let worker: ScriptedWorker
const agents: Agent[] = []
const stop = new AbortController()
beforeAll(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'baton-halted-')))
  house = await startHouse({ limits: { close_ms: 200 }, blobs_dir: join(folder, 'blobs') })
  worker = await house.worker()
})
afterAll(async () => {
  stop.abort()
  await Promise.all(agents.map(({ ended }) => ended))
  await Promise.all(agents.map(({ model }) => model.stop()))
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Says its word and runs a command; released, it does not answer; asked again, it tells what it remembers. */
async function startModel(): Promise<Model> {
  const mock = new LLMock({ port: 0 })
  const held = Promise.withResolvers<void>()
  const asked: string[] = []
  let holds = false
  mock.on({ predicate: () => true }, async ({ messages, tools = [] }: ChatCompletionRequest) => {
    const text = JSON.stringify(messages)
    asked.push(text)
    // Gemini's router and the titles of sessions have none.
    if (tools.length === 0) return { content: '{"reasoning":"plain","model_choice":"flash","title":"Test"}' }
    if (holds) return { content: text.includes(WORD) ? `The word was ${WORD}.` : 'I know of no word.' }
    if (text.includes(RELEASED)) {
      holds = true
      await held.promise
      return { content: 'Nobody hears this.' }
    }
    const call = shell(
      tools.map((tool) => tool.function.name),
      COMMAND,
    )
    if (call === null) return { content: 'There is no tool for commands.' }
    const toolCalls = [{ name: call.name, arguments: JSON.stringify(call.input) }]
    return { content: `My word is ${WORD}.`, toolCalls }
  })
  await mock.start()
  return {
    url: mock.url,
    asked,
    holding: () => holds,
    async stop() {
      held.resolve()
      await mock.stop()
    },
  }
}

const timesIn = (text: string, words: string) => text.split(words).length - 1

async function begin(its: Case, parent_run_id?: string): Promise<Agent> {
  const config = { harness: { type: its.name, ...(its.model_id && { model_id: its.model_id }) }, max_tries: 1 }
  const prompt = 'Name a word, and run the command.'
  const { run_id } = await house.client.runs.create({
    body: { prompt, config, ...(parent_run_id && { parent_run_id }) },
  })
  const piece = await worker.next()
  piece.claim()
  const model = await startModel()
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
  return { name: its.name, run_id, token, workspace, model, ended }
}

const stateOf = async ({ run_id }: Agent) => (await house.client.runs.get({ params: { run_id } })).state
const bodiesOf = async ({ run_id }: Agent): Promise<EntryBody[]> =>
  (await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })).entries.map(({ body }) => body)
/** What it was told as prompts, in one text. */
const toldIn = (bodies: EntryBody[]) => bodies.flatMap((body) => (body.kind === 'prompt' ? [body.text] : [])).join('\n')
const limit = (max_tree_messages: number) =>
  house.database.kysely.updateTable('teams').set({ max_tree_messages }).execute()

/** One of them sends a message too many; then all stand still. */
async function stopTree(root: Agent, sender: Agent, times: number): Promise<void> {
  await limit(0)
  const sent = house
    .clientFor(sender.token)
    .messages.send({ body: { to: [root.run_id], subject: 's', body: 'too many' } })
  await expect(sent).rejects.toMatchObject({ code: 'budget_exceeded' })
  await limit(5000)
  for (const agent of agents) {
    await until(
      `${agent.name} notes that its tree was stopped`,
      async () =>
        (await bodiesOf(agent)).filter((body) => body.kind === 'system' && body.name === 'tree_stopped').length ===
        times,
      STEP_MS,
    )
    expect([agent.name, await stateOf(agent)]).toEqual([agent.name, 'BLOCKED'])
  }
}

test('each real CLI is interrupted, asks its model nothing while its tree is stopped, and goes on when released', {
  timeout: TEST_MS,
}, async () => {
  for (const its of CLIS) agents.push(await begin(its, agents[0]?.run_id))
  const [root, other] = agents
  if (root === undefined || other === undefined) throw new Error('There are no cases.')
  const pidOf = ({ workspace }: Agent) => readPid(join(workspace, 'command.pid'))
  for (const agent of agents) await until(`${agent.name} runs its command`, () => pidOf(agent), STEP_MS)

  await stopTree(root, other, 1)
  const before = agents.map(({ model }) => model.asked.length)
  const commandEnds = (agent: Agent) =>
    until(`the command of ${agent.name} has ended`, () => !lives(pidOf(agent) ?? 0), STEP_MS)
  for (const agent of agents) if (!LEAVES_COMMANDS.includes(agent.name)) await commandEnds(agent)
  const to = agents.map(({ run_id }) => run_id)
  await house.client.messages.send({ body: { to, subject: 's', body: 'LETTER to all.' } })
  await house.client.trees.release({ params: { run_id: root.run_id } })
  for (const { name, model } of agents) await until(`the model of ${name} is asked again`, model.holding, STEP_MS)
  // Whatever was asked while the tree was stopped would not know of the release.
  const unaware = agents.map(({ model }) => model.asked.filter((text) => !text.includes(RELEASED)).length)
  expect(unaware).toEqual(before)

  for (const agent of agents)
    expect([agent.name, lives(pidOf(agent) ?? 0)]).toEqual([agent.name, LEAVES_COMMANDS.includes(agent.name)])

  await stopTree(root, other, 2)
  await house.client.trees.release({ params: { run_id: root.run_id } })
  for (const agent of agents) {
    await until(`${agent.name} has ended`, async () => (await stateOf(agent)) === 'SUCCEEDED', STEP_MS)
    const run = await house.client.runs.get({ params: { run_id: agent.run_id } })
    expect([agent.name, run.status_message?.message]).toEqual([agent.name, `The word was ${WORD}.`])
    await commandEnds(agent)
    const { executions } = await house.client.executions.list({ params: { run_id: agent.run_id } })
    expect(executions.map(({ outcome }) => outcome)).toEqual(['SUCCEEDED'])

    const bodies = await bodiesOf(agent)
    const told = toldIn(bodies)
    expect([timesIn(told, RELEASED), timesIn(told, 'LETTER to all.')]).toEqual([2, 1])
    const last = agent.model.asked.findLast((text) => text.includes('LETTER to all.')) ?? ''
    expect([agent.name, timesIn(last, RELEASED), timesIn(last, 'LETTER to all.')]).toEqual([agent.name, 2, 1])
    // What was interrupted first is remembered as well.
    expect(last).toContain('Name a word, and run the command.')
    expect(agent.model.asked.filter((text) => text.includes('a suggested next user message'))).toEqual([])
    expect(bodies).toContainEqual(expect.objectContaining({ kind: 'text', text: `My word is ${WORD}.` }))
  }
})
