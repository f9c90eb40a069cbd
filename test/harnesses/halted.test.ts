/**
 * The four real CLIs in one tree that the storm guard stops twice, as `docs/decisions/0017-halted-trees.md` has it: in
 * the middle of a command, and while the model's answer is awaited. What counts is what each model was asked.
 */
import { type ChatCompletionRequest, LLMock } from '@copilotkit/aimock'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { lives, until } from '../house/processes.ts'
import { type Agent, type Agents, type Model, openAgents, timesIn, toldIn } from './agents.ts'
import { CASES } from './cases.ts'
import { shell, WORD } from './script.ts'

const TEST_MS = 180_000
const STEP_MS = 60_000
const RELEASED = 'a person has let it go on'
const COMMAND = 'echo $$ > command.pid; exec tail -f command.pid'
const PROMPT = 'Name a word, and run the command.'
/** Codex (2.6) makes a background terminal of a command whose turn is interrupted; it ends with the execution. */
const LEAVES_COMMANDS = ['codex']
/** The built-in agent is in `test/halted-trees.test.ts`. */
const CLIS = CASES.filter(({ name }) => name !== 'baton')

/** `holding`: it was asked and has not answered; it never will. */
type Holding = Model & { holding(): boolean }

let its: Agents
const agents: Agent<Holding>[] = []
beforeAll(async () => {
  its = await openAgents()
})
afterAll(() => its?.close())

/** Says its word and runs a command; released, it does not answer; asked again, it tells what it remembers. */
async function startModel(): Promise<Holding> {
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

const limit = (max_tree_messages: number) =>
  its.house.database.kysely.updateTable('teams').set({ max_tree_messages }).execute()

/** One of them sends a message too many; then all stand still. */
async function stopTree(root: Agent<Model>, sender: Agent<Model>, times: number): Promise<void> {
  await limit(0)
  const sent = its.house
    .clientFor(sender.token)
    .messages.send({ body: { to: [root.run_id], subject: 's', body: 'too many' } })
  await expect(sent).rejects.toMatchObject({ code: 'budget_exceeded' })
  await limit(5000)
  for (const agent of agents) {
    await until(
      `${agent.name} notes that its tree was stopped`,
      async () =>
        (await its.bodiesOf(agent)).filter((body) => body.kind === 'system' && body.name === 'tree_stopped').length ===
        times,
      STEP_MS,
    )
    expect([agent.name, await its.stateOf(agent)]).toEqual([agent.name, 'BLOCKED'])
  }
}

test('each real CLI is interrupted, asks its model nothing while its tree is stopped, and goes on when released', {
  timeout: TEST_MS,
}, async () => {
  for (const cli of CLIS) {
    const model = await startModel()
    agents.push(await its.begin(cli, { model, prompt: PROMPT, parent_run_id: agents[0]?.run_id }))
  }
  const [root, other] = agents
  if (root === undefined || other === undefined) throw new Error('There are no cases.')
  const { pidOf } = its
  for (const agent of agents) await until(`${agent.name} runs its command`, () => pidOf(agent), STEP_MS)

  await stopTree(root, other, 1)
  const before = agents.map(({ model }) => model.asked.length)
  const commandEnds = (agent: Agent<Model>) =>
    until(`the command of ${agent.name} has ended`, () => !lives(pidOf(agent) ?? 0), STEP_MS)
  for (const agent of agents) if (!LEAVES_COMMANDS.includes(agent.name)) await commandEnds(agent)
  const to = agents.map(({ run_id }) => run_id)
  await its.house.client.messages.send({ body: { to, subject: 's', body: 'LETTER to all.' } })
  await its.house.client.trees.release({ params: { run_id: root.run_id } })
  for (const { name, model } of agents) await until(`the model of ${name} is asked again`, model.holding, STEP_MS)
  // Whatever was asked while the tree was stopped would not know of the release.
  const unaware = agents.map(({ model }) => model.asked.filter((text) => !text.includes(RELEASED)).length)
  expect(unaware).toEqual(before)

  for (const agent of agents)
    expect([agent.name, lives(pidOf(agent) ?? 0)]).toEqual([agent.name, LEAVES_COMMANDS.includes(agent.name)])

  await stopTree(root, other, 2)
  await its.house.client.trees.release({ params: { run_id: root.run_id } })
  for (const agent of agents) {
    await until(`${agent.name} has ended`, async () => (await its.stateOf(agent)) === 'SUCCEEDED', STEP_MS)
    const run = await its.runOf(agent)
    expect([agent.name, run.status_message?.message]).toEqual([agent.name, `The word was ${WORD}.`])
    await commandEnds(agent)
    expect(await its.outcomesOf(agent)).toEqual(['SUCCEEDED'])

    const bodies = await its.bodiesOf(agent)
    const told = toldIn(bodies)
    expect([timesIn(told, RELEASED), timesIn(told, 'LETTER to all.')]).toEqual([2, 1])
    const last = agent.model.asked.findLast((text) => text.includes('LETTER to all.')) ?? ''
    expect([agent.name, timesIn(last, RELEASED), timesIn(last, 'LETTER to all.')]).toEqual([agent.name, 2, 1])
    // What was interrupted first is remembered as well.
    expect(last).toContain(PROMPT)
    expect(agent.model.asked.filter((text) => text.includes('a suggested next user message'))).toEqual([])
    expect(bodies).toContainEqual(expect.objectContaining({ kind: 'text', text: `My word is ${WORD}.` }))
  }
})
