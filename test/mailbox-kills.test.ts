/**
 * A message and a kill -9 at the worst moment, or an answer that is lost: it is surfaced all the same, to one
 * conversation once, and in order. Real server, worker, runner and agent processes.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { type Client, connect } from '../src/sdk/client.ts'
import { type Crew, CUES, type Cue, type Kind, makeCrew, runnerOf } from './house/crew.ts'
import { type FreshDatabase, freshDatabase } from './house/database.ts'
import { type House, startHouse } from './house/house.ts'
import { freePort } from './house/port.ts'
import { type ServerProcess, startServerProcess, until } from './house/processes.ts'
import { type Line, openProxy } from './house/proxy.ts'

vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000 })

const STEP_MS = 30_000
const RETRY = { retry_first_ms: 100, retry_most_ms: 200 }

let folder: string
let database: FreshDatabase
/** A second server, which is never killed; it tries again what was lost. */
let house: House
let server: ServerProcess
let there: { port: number; connection: FreshDatabase['connection']; blobs_dir: string }
/** Between the server and everybody else. */
let proxy: Line
let crew: Crew
let client: Client
/** Of the house, asked again where its connection was closed for being idle. */
let steady: Client

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-kills-'))
  database = await freshDatabase({ pool_max: 20 })
  house = await startHouse({ database, blobs_dir: folder, max_concurrent_runs: 100, engine_limits: RETRY })
  there = { port: await freePort(), connection: database.connection, blobs_dir: folder }
  server = await startServerProcess(there)
  proxy = await openProxy(there.port)
  steady = connect({ server: house.url, token: house.api_key, retries: 3 })
  client = connect({ server: proxy.url, token: house.api_key, retries: 0 })
  crew = makeCrew(folder, { url: proxy.url, api_key: house.api_key })
  crew.worker('crew')
})
afterEach(() => proxy.cut(() => null))
afterAll(async () => {
  await crew.close()
  await proxy.close()
  await server.kill()
  await house.close()
  await database.close()
  rmSync(folder, { recursive: true, force: true })
})

async function begin(kind: Kind, cue: Cue): Promise<string> {
  const config = crew.configOf(kind, cue, 'crew')
  return (await steady.runs.create({ body: { prompt: CUES[cue], config } })).run_id
}

const runOf = (run_id: string) => steady.runs.get({ params: { run_id } })
const executionOf = async (run_id: string) => (await runOf(run_id)).execution_id ?? ''
const send = (run_id: string, body: string, by = steady) =>
  by.messages.send({
    body: { to: [run_id], subject: 's', body },
    headers: { 'idempotency-key': `${run_id} ${body.split('\n', 1)}` },
  })
const ends = (run_id: string, within_ms = STEP_MS) =>
  until('it has ended', async () => (await runOf(run_id)).state === 'SUCCEEDED', within_ms)
const given = (run_id: string) => crew.given(run_id).flatMap(({ texts }) => texts)
const timesIn = (texts: string[], words: string) => texts.join('\n').split(words).length - 1
const hasEntry = async (run_id: string, name: string) => {
  const { entries } = await steady.transcripts.list({ params: { run_id }, query: { limit: 500 } })
  return entries.some(({ body }) => body.kind === 'system' && body.name === name)
}
const isWaiting = (run_id: string) => until('it waits', () => hasEntry(run_id, 'waiting'), STEP_MS)
const headersOf = (run_id: string) => steady.messages.list({ params: { run_id }, query: {} })

/** Each once, in the order in which they were sent, and delivered. */
async function expectOnce(run_id: string, letters: string[], texts = given(run_id)): Promise<void> {
  expect(letters.map((letter) => [letter, timesIn(texts, letter)])).toEqual(letters.map((letter) => [letter, 1]))
  const places = letters.map((letter) => texts.join('\n').indexOf(letter))
  expect(places).toEqual(places.toSorted((a, b) => a - b))
  const headers = await headersOf(run_id)
  expect(headers).toHaveLength(letters.length)
  for (const { delivered_at } of headers) expect(delivered_at).not.toBeNull()
}

const BUSY = [
  ['joins', 'hold'],
  ['after', 'hold'],
] as const
const BUSY_AND_WAITING = [...BUSY, ['joins', 'wait']] as const
const LISTENING = [
  ['joins', 'listen'],
  ['after', 'listen'],
] as const

async function beginUntil(kind: Kind, cue: Cue): Promise<string> {
  const run_id = await begin(kind, cue)
  if (cue === 'wait' || cue === 'listen') await isWaiting(run_id)
  else await crew.atWork(run_id)
  return run_id
}

test('a server killed between accept and delivery loses nothing, to busy agents and waiting ones', async () => {
  const run_ids = await Promise.all(BUSY_AND_WAITING.map(([kind, cue]) => beginUntil(kind, cue)))
  // Their runners are made to miss them until the server is gone.
  const runners = await Promise.all(run_ids.map(async (run_id) => runnerOf(await executionOf(run_id))))
  for (const runner of runners) process.kill(runner, 'SIGSTOP')
  const letters = ['letter one.', 'letter two.', 'letter three.']
  for (const letter of letters) await Promise.all(run_ids.map((run_id) => send(run_id, letter, client)))
  await server.kill()
  const headers = (await Promise.all(run_ids.map(headersOf))).flat()
  expect(headers.map(({ delivered_at }) => delivered_at)).toEqual(headers.map(() => null))
  expect(headers).toHaveLength(letters.length * run_ids.length)
  for (const runner of runners) process.kill(runner, 'SIGCONT')
  server = await startServerProcess(there)
  for (const run_id of run_ids) crew.open(run_id)
  for (const run_id of run_ids) {
    await ends(run_id)
    await expectOnce(run_id, letters)
    expect((await runOf(run_id)).executions).toBe(1)
  }
})

test('an agent whose held call has lost its server while it waits is told what comes by its next prompt', async () => {
  crew.worker('patient', 60_000)
  const config = crew.configOf('built-in', 'held', 'patient')
  const { run_id } = await steady.runs.create({ body: { prompt: CUES.held, config } })
  const holds = async () => (await steady.trees.get({ params: { run_id } })).nodes[0]?.waiting === true
  await until('its call is held', holds, STEP_MS)
  proxy.breakAll()
  await send(run_id, 'letter one.')
  crew.open(run_id)
  // It takes its runner some seconds to know that the call is dead.
  await ends(run_id, 2 * STEP_MS)
  await expectOnce(run_id, ['letter one.'])
})

test.each(['before', 'after'] as const)(
  'runners killed %s the server heard that they deliver lose nothing, of busy agents and waiting ones',
  async (cut) => {
    const run_ids = await Promise.all([...BUSY, ...LISTENING].map(([kind, cue]) => beginUntil(kind, cue)))
    const lost = await Promise.all(run_ids.map(executionOf))
    const before = new Set(run_ids.flatMap(crew.given).map(({ conversation }) => conversation))
    const killed = new Set<string>()
    proxy.cut((_method, path) => {
      const one = lost.find((execution_id) => path.endsWith(`/executions/${execution_id}/delivered`))
      if (one === undefined || killed.has(one)) return null
      killed.add(one)
      // To die before the answer comes is the same as to die with it.
      process.kill(runnerOf(one), 'SIGKILL')
      return cut
    })
    for (const run_id of run_ids) await send(run_id, 'letter one.')
    // Its turn must be over before it looks.
    crew.go(run_ids[1] ?? '')
    await until('the runners are killed', () => killed.size === lost.length, STEP_MS)
    for (const run_id of run_ids) await send(run_id, 'letter two.')
    for (const run_id of run_ids) crew.open(run_id)
    for (const run_id of run_ids) {
      await ends(run_id)
      expect((await runOf(run_id)).executions).toBe(2)
      const texts = crew.given(run_id).flatMap((one) => (before.has(one.conversation) ? [] : one.texts))
      await expectOnce(run_id, ['letter one.', 'letter two.'], texts)
    }
  },
)

test('a runner killed when a tool has given its agent a letter loses nothing: the next conversation has all', async () => {
  const run_id = await beginUntil('after', 'hold-listen')
  const runner = runnerOf(await executionOf(run_id))
  const before = new Set(crew.given(run_id).map(({ conversation }) => conversation))
  await send(run_id, 'letter one.')
  crew.go(run_id)
  await until('a tool gives it the first', () => timesIn(given(run_id), 'letter one.') > 0, STEP_MS)
  process.kill(runner, 'SIGKILL')
  await send(run_id, 'letter two.')
  crew.open(run_id)
  await ends(run_id)
  expect((await runOf(run_id)).executions).toBe(2)
  const texts = crew.given(run_id).flatMap((one) => (before.has(one.conversation) ? [] : one.texts))
  await expectOnce(run_id, ['letter one.', 'letter two.'], texts)
})

test('claims whose answer is lost are asked for again, and their letters given once', async () => {
  const run_ids = await Promise.all(BUSY_AND_WAITING.map(([kind, cue]) => beginUntil(kind, cue)))
  const claimed = await Promise.all(run_ids.map(executionOf))
  const lost = new Set<string>()
  proxy.cut((_method, path) => {
    const one = claimed.find((execution_id) => path.endsWith(`/executions/${execution_id}/delivered`))
    if (one === undefined || lost.has(one)) return null
    lost.add(one)
    return 'after'
  })
  for (const run_id of run_ids) await send(run_id, 'letter one.')
  for (const run_id of run_ids) crew.open(run_id)
  for (const run_id of run_ids) {
    await ends(run_id)
    await expectOnce(run_id, ['letter one.'])
  }
  expect(lost.size).toBe(claimed.length)
})

test('a claim of news alone whose answer is lost is asked for again, and the news given once', async () => {
  const run_id = await beginUntil('joins', 'wait')
  const path_of_claim = `/executions/${await executionOf(run_id)}/delivered`
  let claims = 0
  proxy.cut((_method, path) => (path.endsWith(path_of_claim) && claims++ === 0 ? 'after' : null))
  const config = { worker_host: 'nobody' }
  const child = await steady.runs.create({ body: { prompt: 'Begin.', parent_run_id: run_id, config } })
  await steady.runs.cancel({ params: { run_id: child.run_id } })
  crew.open(run_id)
  await ends(run_id)
  expect(claims).toBeGreaterThan(1)
  expect(timesIn(given(run_id), 'was cancelled')).toBe(1)
})

test('a claim that never arrived claims nothing that a tool has given meanwhile', async () => {
  const run_id = await beginUntil('joins', 'hold-listen')
  const path_of_claim = `/executions/${await executionOf(run_id)}/delivered`
  let claims = 0
  proxy.cut(async (_method, path) => {
    if (!path.endsWith(path_of_claim) || claims++ > 0) return null
    // Its turn goes on to the tool that it waits with.
    crew.go(run_id)
    await until('the tool has given it', () => timesIn(given(run_id), 'letter one.') > 0, STEP_MS)
    return 'before'
  })
  await send(run_id, 'letter one.')
  await until('it is claimed once more', () => claims > 1, STEP_MS)
  await send(run_id, 'letter two.')
  crew.open(run_id)
  await ends(run_id)
  await expectOnce(run_id, ['letter one.', 'letter two.'])
})

test('a tool whose answer is lost with its connection has it given again: the agent hears it once', async () => {
  const run_id = await beginUntil('after', 'hold')
  let lost = 0
  proxy.cut(async (_method, path) => {
    if (!path.startsWith('/mcp') || lost++ > 0) return null
    // It is in the answer that is lost.
    await send(run_id, 'letter two.')
    return 'after'
  })
  await send(run_id, 'letter one.\nCALL wait_for_events {}\nCALL wait_for_events {}')
  crew.go(run_id)
  await until('it hears the first', () => timesIn(given(run_id), 'letter one.') > 0, STEP_MS)
  crew.open(run_id)
  await ends(run_id)
  expect(lost).toBeGreaterThan(0)
  await expectOnce(run_id, ['letter one.', 'letter two.'])
})
