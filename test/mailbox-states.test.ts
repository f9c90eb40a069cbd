/**
 * A message to an agent of every class in every state, from another agent: real server, worker, runners and harness
 * processes. It is surfaced once and in order, its sender sees how far it came, and what cannot be surfaced is refused.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { RunState } from '../src/contract/index.ts'
import { type Crew, CUES, type Cue, KINDS, type Kind, makeCrew, runnerOf } from './house/crew.ts'
import { type House, startHouse } from './house/house.ts'
import { type Agent, takeAgent } from './house/mcp-agent.ts'
import { processesOf, until } from './house/processes.ts'

vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000, maxConcurrency: 4 })

const STEP_MS = 40_000
const LETTERS = ['letter one. HOLD', 'letter two. HOLD']

let folder: string
let house: House
let crew: Crew
/** Who sends: an agent in a scripted worker's hands, with an MCP client that holds its token. */
let lead: Agent

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-mailbox-'))
  house = await startHouse({ max_concurrent_runs: 200, engine_limits: { retry_first_ms: 100, retry_most_ms: 200 } })
  crew = makeCrew(folder, house)
  crew.worker('crew')
  const worker = await house.worker({ worker_host: 'desk' })
  await house.client.runs.create({ body: { prompt: 'lead', config: { worker_host: 'desk' } } })
  lead = await takeAgent(house, worker)
})
afterAll(async () => {
  await crew.close()
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

type Letter = { message_id: string; text: string }

async function begin(kind: Kind, cue: Cue, more: { worker_host?: string; parent_run_id?: string } = {}) {
  const { worker_host = 'crew', parent_run_id = lead.run_id } = more
  const config = { ...crew.configOf(kind, cue, worker_host), max_tries: cue === 'hold' ? 3 : 1 }
  const { run_id } = await house.client.runs.create({ body: { prompt: CUES[cue], parent_run_id, config } })
  return run_id
}

async function send(run_id: string, text: string): Promise<Letter> {
  const answer = await lead.call('send_message_to_agent', { addresses: [run_id], subject: 'A word', message: text })
  expect(answer).toMatchObject({ is_error: false })
  return { message_id: String(answer.said.message_id), text }
}

const sendAll = async (run_id: string): Promise<Letter[]> => {
  const letters: Letter[] = []
  for (const text of LETTERS) letters.push(await send(run_id, text))
  return letters
}

const runOf = (run_id: string) => house.client.runs.get({ params: { run_id } })
const headersOf = (run_id: string) => house.client.messages.list({ params: { run_id }, query: {} })
const reaches = (run_id: string, ...states: RunState[]) =>
  until(
    `run in ${states}`,
    async () => {
      const run = await runOf(run_id)
      return states.includes(run.state) ? run : null
    },
    STEP_MS,
  )

/** As its sender sees it; that a sender looks at it marks nothing. */
async function stageOf({ message_id }: Letter): Promise<'accepted' | 'delivered' | 'read'> {
  const { delivered_at, read_at } = await lead.runner.messages.read({ params: { message_id } })
  return read_at !== null ? 'read' : delivered_at !== null ? 'delivered' : 'accepted'
}

const timesIn = (texts: string[], words: string) => texts.join('\n').split(words).length - 1
const allGiven = (run_id: string) => crew.given(run_id).flatMap(({ texts }) => texts)

/** Every letter was surfaced once and in order, to one conversation; where tries were lost: to the last. */
function expectOnce(run_id: string, letters: Letter[], given = allGiven(run_id)): void {
  expect(letters.map(({ text }) => [text, timesIn(given, text)])).toEqual(letters.map(({ text }) => [text, 1]))
  const places = letters.map(({ text }) => given.join('\n').indexOf(text))
  expect(places).toEqual(places.toSorted((a, b) => a - b))
}

/** Lets each held turn go on, once, until the agent has been given the last of these. */
async function isTold(kind: Kind, run_id: string, letters: Letter[], held = false): Promise<void> {
  // It takes what joins its turn when its tool has answered; a turn that is over shows nothing more.
  if (kind === 'built-in') for (const letter of letters) await reachesStage(letter, 'delivered')
  const words = letters.at(-1)?.text ?? ''
  let seen = held && kind !== 'joins' ? 0 : allGiven(run_id).length
  await until(
    `${words} is surfaced`,
    () => {
      const given = allGiven(run_id)
      if (timesIn(given, words) > 0) return true
      if (given.length > seen) crew.go(run_id)
      seen = given.length
      return false
    },
    STEP_MS,
  )
}

const reachesStage = (letter: Letter, stage: string) =>
  until(`${letter.text} is ${stage}`, async () => (await stageOf(letter)) === stage, STEP_MS)

/** The agent hears the letters; its sender sees them delivered, then read; the run ends, and all were given once. */
async function expectWholeWay(kind: Kind, run_id: string, letters: Letter[], held = false): Promise<void> {
  await isTold(kind, run_id, letters, held)
  for (const letter of letters) await reachesStage(letter, 'delivered')
  const delivered = await headersOf(run_id)
  const reader = crew.speaksAs(run_id)
  for (const { message_id, text } of letters)
    expect((await reader.messages.read({ params: { message_id } })).body).toBe(text)
  for (const letter of letters) expect(await stageOf(letter)).toBe('read')
  crew.open(run_id)
  await reaches(run_id, 'SUCCEEDED', 'FAILED')
  expectOnce(run_id, letters)
  const after = await headersOf(run_id)
  expect(after.map(({ delivered_at }) => delivered_at)).toEqual(delivered.map(({ delivered_at }) => delivered_at))
}

describe.concurrent.each(KINDS)('a message to an agent of the class %s', (kind) => {
  test('that is busy reaches it in its turn or after it', async () => {
    const run_id = await begin(kind, 'hold')
    await crew.atWork(run_id)
    const letters = await sendAll(run_id)
    if (kind === 'after') for (const letter of letters) expect(await stageOf(letter)).toBe('accepted')
    await expectWholeWay(kind, run_id, letters, true)
    expect(await runOf(run_id)).toMatchObject({ state: 'SUCCEEDED', executions: 1 })
  })

  test('that waits is its next prompt, in the same conversation', async () => {
    const run_id = await begin(kind, 'wait')
    await until('it waits', () => isWaiting(run_id), STEP_MS)
    await expectWholeWay(kind, run_id, await sendAll(run_id))
    expect(await runOf(run_id)).toMatchObject({ state: 'SUCCEEDED', executions: 1 })
    expect(crew.given(run_id)).toHaveLength(1)
  })

  test.each(['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'] as const)('that has ended as %s wakes it', async (state) => {
    const cue = ({ SUCCEEDED: 'end', FAILED: 'fail', ERROR: 'crash', CANCELLED: 'hold' } as const)[state]
    const run_id = await begin(kind, cue)
    if (state === 'CANCELLED') {
      await crew.atWork(run_id)
      await house.client.runs.cancel({ params: { run_id } })
    } else crew.open(run_id)
    await reaches(run_id, state)
    crew.shut(run_id)
    const letters = await sendAll(run_id)
    for (const letter of letters) expect(['accepted', 'delivered']).toContain(await stageOf(letter))
    await expectWholeWay(kind, run_id, letters)
    expect((await runOf(run_id)).executions).toBe(2)
  })

  test('whose runner was killed while it had the message has it again when it is tried again', async () => {
    const run_id = await begin(kind, 'hold')
    await crew.atWork(run_id)
    const first = await send(run_id, LETTERS[0] ?? '')
    await isTold(kind, run_id, [first], true)
    await reachesStage(first, 'delivered')
    const lost = await runOf(run_id)
    const before = new Set(crew.given(run_id).map(({ conversation }) => conversation))
    process.kill(runnerOf(lost.execution_id ?? ''), 'SIGKILL')
    const letters = [first, await send(run_id, LETTERS[1] ?? '')]
    await until('it is tried again', async () => (await runOf(run_id)).executions === 2, STEP_MS)
    crew.open(run_id)
    await reaches(run_id, 'SUCCEEDED')
    const fresh = crew.given(run_id).filter(({ conversation }) => !before.has(conversation))
    expect(fresh).toHaveLength(1)
    const texts = fresh.flatMap((one) => one.texts)
    expectOnce(run_id, letters, texts)
    expect(timesIn(texts.slice(0, 1), CUES.hold)).toBeGreaterThan(0)
    for (const letter of letters) expect(await stageOf(letter)).toBe('delivered')
    expect(processesOf(lost.execution_id ?? '')).toEqual([])
  })
})

async function isWaiting(run_id: string): Promise<boolean> {
  const { entries } = await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  return entries.some(({ body }) => body.kind === 'system' && body.name === 'waiting')
}
