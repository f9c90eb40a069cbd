/**
 * An urgent message to the four real CLIs and the built-in agent at work: in the middle of a command, and while the
 * model's answer is awaited. Where the harness can, it joins the running turn, which goes on; elsewhere it interrupts
 * that. What counts is what each model was asked: it never ends a turn before it has heard both messages.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { type ChatCompletionRequest, LLMock } from '@copilotkit/aimock'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { lives, until } from '../house/processes.ts'
import { type Agent, type Agents, type Model, openAgents, timesIn, toldIn } from './agents.ts'
import { CASES } from './cases.ts'
import { shell, WORD } from './script.ts'

const TEST_MS = 180_000
const STEP_MS = 60_000
/** As `docs/harnesses.md` says of a message during a turn. */
const JOINING = ['claude', 'opencode', 'baton']
const PROMPT = `Keep the word ${WORD} in mind, and run the command.`
const [ONE, TWO] = ['LETTER one.', 'LETTER two.']
/** Goes on until somebody writes into the pipe `go`. */
const COMMAND = 'mkfifo go; echo $$ > command.pid; read answer < go'

/** `holding`: it was asked and has not answered yet. */
type Holding = Model & { holding(): boolean; answer(): void }

let its: Agents
const agents: Agent<Holding>[] = []
beforeAll(async () => {
  its = await openAgents()
})
afterAll(() => its?.close())

async function startModel(): Promise<Holding> {
  const mock = new LLMock({ port: 0 })
  const held = Promise.withResolvers<void>()
  const asked: string[] = []
  let calls = 0
  let holds = false
  mock.on({ predicate: () => true }, async ({ messages, tools = [] }: ChatCompletionRequest) => {
    const text = JSON.stringify(messages)
    // Gemini's router and the titles of sessions have none.
    if (tools.length === 0) return { content: '{"reasoning":"plain","model_choice":"flash","title":"Test"}' }
    asked.push(text)
    if (text.includes(TWO)) return { content: text.includes(WORD) ? `The word was ${WORD}.` : 'I know of no word.' }
    if (text.includes(ONE) && !holds) {
      holds = true
      await held.promise
    }
    calls += 1
    const names = tools.map((tool) => tool.function.name)
    const call = shell(names, calls === 1 ? COMMAND : `echo call ${calls}`)
    if (call === null) return { content: 'There is no tool for commands.' }
    return { toolCalls: [{ name: call.name, arguments: JSON.stringify(call.input) }] }
  })
  await mock.start()
  return {
    url: mock.url,
    asked,
    holding: () => holds,
    answer: () => held.resolve(),
    async stop() {
      held.resolve()
      await mock.stop()
    },
  }
}

const send = (body: string) =>
  its.house.client.messages.send({
    body: { to: agents.map(({ run_id }) => run_id), subject: 'Stop', body, urgent: true },
  })

/** It has been given to its harness, for its turn. */
const isGiven = (agent: Agent<Model>, letter: string) =>
  until(
    `${agent.name} is given ${letter}`,
    async () => timesIn(toldIn(await its.bodiesOf(agent)), letter) === 1,
    STEP_MS,
  )

/** Null: nobody reads from it yet. */
function openPipe({ workspace }: Agent<Model>): number | null {
  try {
    return openSync(join(workspace, 'go'), constants.O_WRONLY | constants.O_NONBLOCK)
  } catch {
    return null
  }
}

async function endCommand(agent: Agent<Model>): Promise<void> {
  const pipe = await until(`the command of ${agent.name} reads`, () => openPipe(agent), STEP_MS)
  writeSync(pipe, 'go on\n')
  closeSync(pipe)
}

test('an urgent message joins the turn of a harness that can, and interrupts it elsewhere; once, and it goes on', {
  timeout: TEST_MS,
}, async () => {
  for (const harness of CASES) agents.push(await its.begin(harness, { model: await startModel(), prompt: PROMPT }))
  const joining = agents.filter(({ name }) => JOINING.includes(name))
  for (const agent of agents) await until(`${agent.name} runs its command`, () => its.pidOf(agent), STEP_MS)

  await send(ONE)
  for (const agent of joining) {
    await isGiven(agent, ONE)
    expect([agent.name, lives(its.pidOf(agent) ?? 0)]).toEqual([agent.name, true])
    await endCommand(agent)
  }
  // Nobody has ended the commands of the others.
  for (const { name, model } of agents) await until(`the model of ${name} is asked with it`, model.holding, STEP_MS)

  await send(TWO)
  for (const agent of joining) {
    await isGiven(agent, TWO)
    agent.model.answer()
  }
  // The models of the others never answer what they were asked.
  for (const agent of agents) {
    await until(`${agent.name} has ended`, async () => (await its.stateOf(agent)) === 'SUCCEEDED', STEP_MS)
    const run = await its.runOf(agent)
    expect([agent.name, run.status_message?.message]).toEqual([agent.name, `The word was ${WORD}.`])
    expect(await its.outcomesOf(agent)).toEqual(['SUCCEEDED'])
    const told = toldIn(await its.bodiesOf(agent))
    const last = agent.model.asked.findLast((text) => text.includes(TWO)) ?? ''
    for (const text of [told, last])
      expect([agent.name, timesIn(text, ONE), timesIn(text, TWO)]).toEqual([agent.name, 1, 1])
    expect([agent.name, told.indexOf(ONE) < told.indexOf(TWO), last.indexOf(ONE) < last.indexOf(TWO)]).toEqual([
      agent.name,
      true,
      true,
    ])
    const headers = await its.house.client.messages.list({ params: { run_id: agent.run_id }, query: {} })
    expect(headers.map(({ delivered_at }) => delivered_at !== null)).toEqual([true, true])
    await until(`the command of ${agent.name} has ended`, () => !lives(its.pidOf(agent) ?? 0), STEP_MS)
  }
})
