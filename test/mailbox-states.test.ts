/**
 * A message to an agent of every class in every state, from another agent: real server, worker, runners and harness
 * processes. It is surfaced once and in order, its sender sees how far it came, and what cannot be surfaced is refused.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { AgentConfig, type RunState } from '../src/contract/index.ts'
import type { Client } from '../src/sdk/client.ts'
import { type Crew, CUES, type Cue, KINDS, type Kind, makeCrew, runnerOf } from './house/crew.ts'
import { type House, startHouse } from './house/house.ts'
import { type Agent, takeAgent } from './house/mcp-agent.ts'
import { processesOf, until } from './house/processes.ts'

vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000, maxConcurrency: 4 })

const STEP_MS = 40_000
const BEAT_MS = 10_000
const LETTERS = ['letter one. HOLD', 'letter two. HOLD']

let folder: string
let house: House
let crew: Crew
/** Who sends: an agent in a scripted worker's hands, with an MCP client that holds its token. */
let lead: Agent
let beating: NodeJS.Timeout

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-mailbox-'))
  house = await startHouse({ max_concurrent_runs: 200, engine_limits: { retry_first_ms: 100, retry_most_ms: 200 } })
  crew = makeCrew(folder, house)
  crew.worker('crew')
  const worker = await house.worker({ worker_host: 'desk' })
  await house.client.runs.create({ body: { prompt: 'lead', config: { worker_host: 'desk' } } })
  lead = await takeAgent(house, worker)
  // These tests take longer than a lease.
  beating = setInterval(() => {
    const { execution_id } = lead
    void lead.runner.executions.heartbeat({ params: { execution_id }, body: {} }).catch(() => {})
  }, BEAT_MS)
})
afterAll(async () => {
  clearInterval(beating)
  await crew.close()
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

type Letter = { message_id: string; text: string; sender: Client }

async function begin(kind: Kind, cue: Cue, more: { worker_host?: string; parent_run_id?: string } = {}) {
  const { worker_host = 'crew', parent_run_id = lead.run_id } = more
  const config = { ...crew.configOf(kind, cue, worker_host), max_tries: cue === 'hold' ? 3 : 1 }
  const { run_id } = await house.client.runs.create({ body: { prompt: CUES[cue], parent_run_id, config } })
  return run_id
}

async function send(run_id: string, text: string): Promise<Letter> {
  const answer = await lead.call('send_message_to_agent', { addresses: [run_id], subject: 'A word', message: text })
  expect(answer).toMatchObject({ is_error: false })
  return { message_id: String(answer.said.message_id), text, sender: lead.runner }
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
async function stageOf({ message_id, sender }: Letter): Promise<'accepted' | 'delivered' | 'read'> {
  const { delivered_at, read_at } = await sender.messages.read({ params: { message_id } })
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
    // The first letter's turn of the built-in agent is held while the second joins it.
    await expectWholeWay(kind, run_id, await sendAll(run_id), kind === 'built-in')
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

test('a message to an agent on another worker than its parent reaches it there, whatever its class', async () => {
  crew.worker('far')
  const parent_run_id = (
    await house.client.runs.create({ body: { prompt: CUES.hold, config: crew.configOf('joins', 'hold', 'crew') } })
  ).run_id
  const children = await Promise.all(
    KINDS.map(async (kind) => ({ kind, run_id: await begin(kind, 'hold', { worker_host: 'far', parent_run_id }) })),
  )
  await crew.atWork(parent_run_id)
  const wholeWay = async ({ kind, run_id }: { kind: Kind; run_id: string }) => {
    await crew.atWork(run_id)
    for (const message of LETTERS) {
      const input = JSON.stringify({ addresses: [run_id], subject: 'A word', message })
      const body = `CALL send_message_to_agent ${input}`
      await house.client.messages.send({ body: { to: [parent_run_id], subject: 'Tell it', body } })
      await until('it is sent', async () => (await headersOf(run_id)).length > LETTERS.indexOf(message))
    }
    const sent = await headersOf(run_id)
    expect(sent.map(({ sender_run_id }) => sender_run_id)).toEqual([parent_run_id, parent_run_id])
    const sender = crew.speaksAs(parent_run_id)
    const letters = sent.map(({ message_id }, at) => ({ message_id, text: LETTERS[at] ?? '', sender }))
    await expectWholeWay(kind, run_id, letters, true)
  }
  await Promise.all(children.map(wholeWay))
  crew.open(parent_run_id)
  await reaches(parent_run_id, 'SUCCEEDED')
  const { executions } = await house.client.executions.list({ params: { run_id: children[0]?.run_id ?? '' } })
  expect(executions).toMatchObject([{ worker_host: 'far' }])
})

test('a message to an agent that has never started waits for it, and comes after its own prompt', async () => {
  const queued = await Promise.all(
    KINDS.map(async (kind) => {
      const run_id = await begin(kind, 'hold', { worker_host: 'late' })
      return { kind, run_id, letters: await sendAll(run_id) }
    }),
  )
  const plain = await beginCommand('late')
  const [unread] = await sendAll(plain)
  for (const { run_id, letters } of queued) {
    for (const letter of letters) expect(await stageOf(letter)).toBe('accepted')
    expect((await runOf(run_id)).state).toBe('QUEUED')
  }
  expect(await stageOf(unread as Letter)).toBe('accepted')
  crew.worker('late')
  const wholeWay = async ({ kind, run_id, letters }: (typeof queued)[number]) => {
    await expectWholeWay(kind, run_id, letters, true)
    expect(allGiven(run_id)[0]).toContain(CUES.hold)
  }
  await Promise.all([...queued.map(wholeWay), expectReadByCommand(plain)])
})

/** A program that reads the mail of its own run until it is let go, as a plugin does. */
const READER = `
const fs = require('node:fs')
const { WARP_API_KEY, WARP_SERVER_ROOT_URL, OZ_RUN_ID, FOLDER } = process.env
const own = FOLDER + '/' + OZ_RUN_ID
fs.mkdirSync(own, { recursive: true })
fs.writeFileSync(own + '/begun', '')
const ask = async (method, path) => {
  const asked = await fetch(WARP_SERVER_ROOT_URL + '/api/v1/agent/messages/' + path,
    { method, headers: { authorization: 'Bearer ' + WARP_API_KEY } })
  return asked.status === 204 ? null : asked.json()
}
while (!fs.existsSync(own + '/open')) {
  for (const { message_id } of await ask('GET', OZ_RUN_ID + '?unread=true')) {
    const { body } = await ask('POST', message_id + '/read')
    fs.appendFileSync(own + '/given.ndjson', JSON.stringify({ text: body, pid: process.pid }) + '\\n')
    await ask('POST', message_id + '/delivered')
  }
  await new Promise((resolve) => setTimeout(resolve, 50))
}
process.exit(Number(fs.readFileSync(own + '/open', 'utf8') || 0))
`

async function beginCommand(worker_host = 'crew', max_tries = 1): Promise<string> {
  const environment = { repositories: [], setup_commands: [], variables: { FOLDER: folder } }
  const config = AgentConfig.parse({ harness: { type: 'command' }, worker_host, max_tries, environment })
  writeFileSync(join(folder, 'reader.mjs'), READER.replace("require('node:fs')", "await import('node:fs')"))
  const prompt = `exec '${process.execPath}' '${join(folder, 'reader.mjs')}'`
  const body = { prompt, parent_run_id: lead.run_id, config }
  return (await house.client.runs.create({ body })).run_id
}

const hasBegun = (run_id: string) => until('the command runs', () => existsSync(join(folder, run_id, 'begun')), STEP_MS)

async function expectReadByCommand(run_id: string): Promise<void> {
  await until('both are read', () => allGiven(run_id).length === LETTERS.length, STEP_MS)
  await until('both are delivered', async () => (await headersOf(run_id)).every((header) => header.delivered_at))
  crew.open(run_id)
  await reaches(run_id, 'SUCCEEDED')
  expect(allGiven(run_id)).toEqual(LETTERS)
}

/** With the reason in words, by tool and by HTTP, and without a row. */
async function expectRefused(run_id: string, why: RegExp): Promise<void> {
  const before = await headersOf(run_id)
  const said = await lead.call('send_message_to_agent', { addresses: [run_id], subject: 's', message: 'too late' })
  expect(said).toMatchObject({ is_error: true, text: expect.stringMatching(why) })
  const body = { to: [run_id], subject: 's', body: 'too late' }
  for (const client of [lead.runner, house.client])
    await expect(client.messages.send({ body })).rejects.toMatchObject({
      status: 422,
      message: expect.stringMatching(why),
    })
  expect(await headersOf(run_id)).toEqual(before)
  expect((await runOf(run_id)).executions).toBe(1)
}

describe.concurrent('a message to a plain command', () => {
  test('that runs is there for it to read, and its sender sees that', async () => {
    const run_id = await beginCommand()
    await hasBegun(run_id)
    const letters = await sendAll(run_id)
    await expectReadByCommand(run_id)
    for (const letter of letters) expect(await stageOf(letter)).toBe('read')
  })

  test('that never looks stays accepted, and holds up nothing; tried again, the command runs again', async () => {
    const ran = join(folder, 'never-looks')
    const prompt = `echo ran >> '${ran}'; sleep 1`
    const body = { prompt, parent_run_id: lead.run_id, config: { harness: { type: 'command' } } }
    const { run_id } = await house.client.runs.create({
      body: { ...body, config: { ...body.config, worker_host: 'crew' } },
    })
    const [letter] = await sendAll(run_id)
    await reaches(run_id, 'SUCCEEDED')
    expect(await stageOf(letter as Letter)).toBe('accepted')
    await house.client.runs.retry({ params: { run_id } })
    await reaches(run_id, 'SUCCEEDED')
    expect(readFileSync(ran, 'utf8')).toBe('ran\nran\n')
  })

  test('whose runner was killed is there for the next try', async () => {
    const run_id = await beginCommand('crew', 3)
    await hasBegun(run_id)
    process.kill(runnerOf((await runOf(run_id)).execution_id ?? ''), 'SIGKILL')
    await until('it is tried again', async () => (await runOf(run_id)).executions === 2, STEP_MS)
    await sendAll(run_id)
    await expectReadByCommand(run_id)
  })

  test.each(['SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED'] as const)(
    'that has ended as %s is refused',
    async (state) => {
      const run_id = await beginCommand()
      await hasBegun(run_id)
      if (state === 'CANCELLED') await house.client.runs.cancel({ params: { run_id } })
      else if (state === 'ERROR') process.kill(runnerOf((await runOf(run_id)).execution_id ?? ''), 'SIGKILL')
      else writeFileSync(join(folder, run_id, 'open'), state === 'FAILED' ? '1' : '0')
      await reaches(run_id, state)
      await expectRefused(run_id, /plain command and has ended/)
    },
  )
})

test('a message to what ran beside a sandbox that is gone is refused', async () => {
  const params = { execution_id: lead.execution_id }
  const { run_id } = await house.client.runs.create({
    body: { prompt: 'beside', parent_run_id: lead.run_id, placement: 'parent' },
  })
  const { assignments } = await lead.runner.executions.children({ params })
  const offered = assignments.find(({ task_id }) => task_id === run_id)
  const child = house.clientFor(offered?.env_vars.WARP_API_KEY)
  const own = { execution_id: offered?.execution_id ?? '' }
  await child.executions.start({ params: own, body: {} })
  await child.executions.finish({ params: own, body: { outcome: { outcome: 'SUCCEEDED' }, entries: 0 } })
  await expectRefused(run_id, /cannot be woken/)
})

test('a message to a run that a person started by hand and that has ended is refused', async () => {
  const { run_id, execution_id, token } = await house.client.executions.create({ body: { prompt: 'by hand' } })
  const runner = house.clientFor(token)
  await runner.executions.start({ params: { execution_id }, body: {} })
  await runner.executions.finish({ params: { execution_id }, body: { outcome: { outcome: 'SUCCEEDED' }, entries: 0 } })
  const body = { to: [run_id], subject: 's', body: 'too late' }
  await expect(house.client.messages.send({ body })).rejects.toMatchObject({ status: 422 })
  expect(await headersOf(run_id)).toEqual([])
  expect((await runOf(run_id)).state).toBe('SUCCEEDED')
})
