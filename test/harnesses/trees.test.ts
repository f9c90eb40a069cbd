/**
 * Whole trees of real harnesses through `baton up`: server, worker, runners and `/mcp` as they are shipped, with a
 * scripted model on loopback. What is asserted are rows that outlive the run.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type EntryBody, HARNESS_ALIASES, type Run } from '../../src/contract/index.ts'
import { emptyPlace, type Place, startUp, type Up } from '../house/baton.ts'
import { until } from '../house/processes.ts'
import { KEY } from './cases.ts'
import { CACHE } from './place.ts'
import { leadPrompt, patientPrompt, startTreeScript, type TreeScript, wordFor } from './tree-script.ts'

/** A tree starts as many CLIs, and wakes most of them again; each takes a core for seconds. */
const TREE_MS = 170_000
const TEST_MS = 200_000

const HARNESSES = ['claude', 'codex', 'gemini', 'opencode', 'oz']
const TREES = [
  { lead: 'claude', crew: ['opencode', 'codex', 'gemini'] },
  { lead: 'codex', crew: ['claude', 'oz'] },
  { lead: 'gemini', crew: ['opencode', 'oz'] },
  { lead: 'opencode', crew: ['codex', 'oz'] },
  { lead: 'oz', crew: ['claude', 'gemini'] },
]
/** The names under which a model is shown Baton's tools. */
const SPELLINGS: Record<string, string> = {
  claude: 'mcp__baton__',
  // A namespace and a name.
  codex: 'mcp__baton.',
  gemini: 'mcp_baton_',
  opencode: 'baton_',
  oz: 'mcp__baton__',
}
const TOOLS = ['finish_task', 'run_agents', 'send_message_to_agent', 'wait_for_events']

let script: TreeScript
beforeAll(async () => {
  script = await startTreeScript()
})
afterAll(() => script?.stop())

type House = Up & { place: Place }

async function openHouse(env: Record<string, string> = {}): Promise<House> {
  const place = await emptyPlace()
  Object.assign(place.env, env, {
    BATON_HARNESS_CACHE: CACHE,
    ANTHROPIC_BASE_URL: script.url,
    ANTHROPIC_API_KEY: KEY,
    OPENAI_BASE_URL: `${script.codex_url}/v1`,
    OPENAI_API_KEY: KEY,
    GOOGLE_GEMINI_BASE_URL: script.url,
    GEMINI_API_KEY: KEY,
    BATON_MODEL_BASE_URL: `${script.url}/v1`,
    BATON_MODEL_API_KEY: KEY,
    BATON_MODEL_ID: 'mock',
  })
  return { ...(await startUp(place, ['--port', '0', '--max-concurrent', '6'])), place }
}

async function closeHouse(house: House | undefined): Promise<void> {
  if (house === undefined) return
  // What a failed test has left at work would outlive the house.
  const { runs } = await house.client.runs.list({ query: { limit: 100 } })
  const left = runs.filter((run) => !hasEnded(run))
  for (const { run_id } of left) await house.client.runs.cancel({ params: { run_id }, body: {} }).catch(() => {})
  for (const { run_id } of left) await untilEnded(house, run_id)
  await house.process.kill('SIGTERM')
  await rm(house.place.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 })
}

const begin = ({ client }: House, harness: string, prompt: string) =>
  client.runs.create({
    body: { prompt, config: { harness: { type: harness, ...(harness === 'codex' ? { model_id: 'mock' } : {}) } } },
  })

const runOf = ({ client }: House, run_id: string): Promise<Run> => client.runs.get({ params: { run_id } })
const hasEnded = ({ state }: Run) => ['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'].includes(state)
const untilEnded = (house: House, run_id: string) =>
  until(
    `run ${run_id} has ended`,
    async () => {
      const run = await runOf(house, run_id)
      return hasEnded(run) ? run : null
    },
    TREE_MS,
  )

async function bodiesOf({ client }: House, run_id: string): Promise<EntryBody[]> {
  const { entries } = await client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  return entries.map(({ body }) => body)
}

/** What the agent was given, by whichever way, as its transcript has it. */
const givenIn = (bodies: EntryBody[]): string =>
  bodies.flatMap((b) => (b.kind === 'prompt' ? [b.text] : b.kind === 'tool_result' ? [b.output] : [])).join('\n')
const timesIn = (text: string, words: string) => text.split(words).length - 1

const messagesTo = ({ client }: House, run_id: string) =>
  client.messages.list({ params: { run_id }, query: { limit: 100 } })

async function eventsOf({ client }: House, run_id: string, event_type: string) {
  const events = await client.events.list({ query: { run_ids: [run_id], limit: 500 } })
  return events.filter((event) => event.event_type === event_type)
}

describe('a tree', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse()
  })
  afterAll(() => closeHouse(house))

  test.each(TREES)(
    '$lead leads $crew: starts them, corrects each, wakes each when it has ended, and has all their answers',
    { timeout: TEST_MS },
    async ({ lead, crew }) => {
      const { run_id } = await begin(house, lead, leadPrompt(crew))
      const run = await untilEnded(house, run_id)
      expect(run).toMatchObject({ state: 'SUCCEEDED', status_message: { message: expect.stringContaining('REPORT') } })
      const tree = await until('all of the tree has ended', async () => {
        const seen = await house.client.trees.get({ params: { run_id } })
        return seen.done ? seen : null
      })
      const children = tree.nodes.filter((node) => node.run_id !== run_id)
      expect(children.map((node) => [node.name, node.state, node.parent_run_id, node.undelivered])).toEqual(
        crew.map((name) => [name, 'SUCCEEDED', run_id, 0]),
      )
      expect(children.map(({ harness }) => HARNESS_ALIASES[harness] ?? harness)).toEqual(
        crew.map((name) => HARNESS_ALIASES[name] ?? name),
      )
      const spelled = (name: string) => TOOLS.map((tool) => `${SPELLINGS[name]}${tool}`)
      expect(script.toolsOf(leadPrompt(crew))).toEqual(spelled(lead))

      const heard = givenIn(await bodiesOf(house, run_id))
      const letters = await messagesTo(house, run_id)
      expect(letters.every((letter) => letter.delivered_at !== null)).toBe(true)
      for (const child of children) {
        const { name } = child
        // What each child sent, in its order, and each once in what the parent was given.
        expect(letters.filter((letter) => letter.sender_run_id === child.run_id).map(({ subject }) => subject)).toEqual(
          ['A draft', 'The result', 'What I remember'],
        )
        const answers = [
          `DRAFT of ${name}.`,
          `FINAL of ${name} with ${wordFor(name)}.`,
          `MEMORY of ${name}: ${wordFor(name)}.`,
        ]
        expect(answers.map((words) => timesIn(heard, words))).toEqual([1, 1, 1])
        expect(run.status_message?.message).toContain(`${name} gave ${wordFor(name)} and kept it`)

        const orders = await messagesTo(house, child.run_id)
        expect(orders.map(({ subject, sender_run_id }) => [subject, sender_run_id])).toEqual([
          ['A correction', run_id],
          ['A question', run_id],
        ])
        expect(orders.every((order) => order.delivered_at !== null)).toBe(true)
        const bodies = await bodiesOf(house, child.run_id)
        const given = givenIn(bodies)
        expect([timesIn(given, 'CORRECTION:'), timesIn(given, 'RECALL:')]).toEqual([1, 1])
        // Woken: the same run goes on in a second execution.
        const { executions } = await house.client.executions.list({ params: { run_id: child.run_id } })
        expect(executions.map(({ number, cause, outcome }) => ({ number, cause, outcome }))).toEqual([
          { number: 1, cause: 'start', outcome: 'SUCCEEDED' },
          { number: 2, cause: 'message', outcome: 'SUCCEEDED' },
        ])
        const begun = await eventsOf(house, child.run_id, 'run_in_progress')
        expect(begun.map(({ execution_id }) => execution_id)).toEqual(executions.map((e) => e.execution_id))
        expect(script.toolsOf(`ROLE:CREW [${name}]`)).toEqual(spelled(name))
      }
    },
  )

  test('every harness takes six messages one after another by the same call of a tool', {
    timeout: TEST_MS,
  }, async () => {
    await Promise.all(
      HARNESSES.map(async (harness) => {
        const { run_id } = await begin(house, harness, patientPrompt(6))
        for (let number = 1; number <= 6; number++) {
          await until(
            `${harness} waits for message ${number}`,
            async () => {
              const run = await runOf(house, run_id)
              if (hasEnded(run)) throw new Error(`${harness} has ended: ${JSON.stringify(run.status_message)}`)
              return (await eventsOf(house, run_id, 'run_waiting')).length >= number
            },
            TREE_MS,
          )
          const body = `MESSAGE ${number}.`
          await house.client.messages.send({ body: { to: [run_id], subject: 'The next', body } })
        }
        const run = await untilEnded(house, run_id)
        expect([harness, run.state, run.status_message?.message]).toEqual([
          harness,
          'SUCCEEDED',
          'I have all 6 messages.',
        ])
        expect((await messagesTo(house, run_id)).map(({ delivered_at }) => delivered_at !== null)).toEqual(
          Array(6).fill(true),
        )
      }),
    )
  })
})

describe('a wait that ended without anything', () => {
  /** So short that it always does. */
  const tool_hold_ms = 200
  const fetched = (harness: string, command: string) => ({
    command: join(CACHE, harness, 'node_modules/.bin', command),
    tool_hold_ms,
  })
  let house: House
  beforeAll(async () => {
    const harnesses = {
      claude: fetched('claude', 'claude-agent-acp'),
      codex: fetched('codex', 'codex-acp'),
      gemini: fetched('gemini', 'gemini'),
      opencode: fetched('opencode', 'opencode'),
    }
    house = await openHouse({ BATON_HARNESSES: JSON.stringify(harnesses) })
  })
  afterAll(() => closeHouse(house))

  test('every harness ends its turn, and goes on in the same session with what comes', {
    timeout: TEST_MS,
  }, async () => {
    const harnesses = HARNESSES.filter((name) => name !== 'oz')
    await Promise.all(
      harnesses.map(async (harness) => {
        const { run_id } = await begin(house, harness, patientPrompt(2))
        for (const number of [1, 2]) {
          await until(
            `the turn of ${harness} has ended and it waits, for the ${number}. time`,
            async () => {
              const run = await runOf(house, run_id)
              if (hasEnded(run)) throw new Error(`${harness} has ended: ${JSON.stringify(run.status_message)}`)
              const waits = (body: EntryBody) => body.kind === 'system' && body.name === 'waiting'
              return (await bodiesOf(house, run_id)).filter(waits).length >= number
            },
            TREE_MS,
          )
          const body = `MESSAGE ${number}.`
          await house.client.messages.send({ body: { to: [run_id], subject: 'The next', body } })
        }
        const run = await untilEnded(house, run_id)
        expect([harness, run.state, run.status_message?.message]).toEqual([
          harness,
          'SUCCEEDED',
          'I have all 2 messages.',
        ])
        const bodies = await bodiesOf(house, run_id)
        const prompts = bodies.flatMap((body) => (body.kind === 'prompt' ? [body.text] : []))
        expect(prompts.slice(1).map((text) => /MESSAGE (\d)\./.exec(text)?.[1])).toEqual(['1', '2'])
        const { executions } = await house.client.executions.list({ params: { run_id } })
        expect(executions.map(({ number }) => number)).toEqual([1])
      }),
    )
  })
})
