/**
 * A tree that the storm guard stops stands still until a person releases it, and then each of its runs goes on, also
 * when the server was restarted and a runner killed meanwhile. Real server, worker, runner and agent processes.
 */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import type { AgentConfig } from '../src/contract/index.ts'
import { type Client, connect } from '../src/sdk/client.ts'
import { type Crew, CUES, type Cue, type Kind, makeCrew, runnerOf } from './house/crew.ts'
import { type FreshDatabase, freshDatabase } from './house/database.ts'
import { type House, startHouse } from './house/house.ts'
import { freePort } from './house/port.ts'
import { type ServerProcess, startServerProcess, until } from './house/processes.ts'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 })

const STEP_MS = 40_000
/** What fits into the team's limit beside those that wait: the agents at work of the first test, and one more. */
const AT_WORK = 6
const RELEASED = 'a person has let it go on'

let folder: string
let database: FreshDatabase
/** A second server, which is never killed. */
let house: House
let server: ServerProcess
let there: { port: number; connection: FreshDatabase['connection']; blobs_dir: string }
let crew: Crew
let client: Client

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-halted-'))
  database = await freshDatabase({ pool_max: 20 })
  house = await startHouse({ database, blobs_dir: folder, max_concurrent_runs: AT_WORK })
  there = { port: await freePort(), connection: database.connection, blobs_dir: folder }
  server = await startServerProcess(there)
  client = connect({ server: house.url, token: house.api_key, retries: 3 })
  crew = makeCrew(folder, { url: server.url, api_key: house.api_key })
  crew.worker('crew')
})
afterEach(async () => {
  await limit(5000)
  // What a test that failed left at work would take up the places of the next.
  for (const { run_id } of (await client.runs.list({ query: { limit: 500 } })).runs)
    await client.runs.cancel({ params: { run_id }, body: {} }).catch(() => {})
})
afterAll(async () => {
  await crew.close()
  await server.kill()
  await house.close()
  await database.close()
  rmSync(folder, { recursive: true, force: true })
})

const limit = (max_tree_messages: number) =>
  house.database.kysely.updateTable('teams').set({ max_tree_messages }).execute()
const create = async (prompt: string, config: AgentConfig, parent_run_id?: string) =>
  (await client.runs.create({ body: { prompt, config, ...(parent_run_id && { parent_run_id }) } })).run_id
const begin = (kind: Kind, cue: Cue, parent?: string) => create(CUES[cue], crew.configOf(kind, cue, 'crew'), parent)
const runOf = (run_id: string) => client.runs.get({ params: { run_id } })
const stateOf = async (run_id: string) => (await runOf(run_id)).state
const treeOf = (run_id: string) => client.trees.get({ params: { run_id } })
const is = (run_id: string, state: string) =>
  until(`${run_id} is ${state}`, async () => (await stateOf(run_id)) === state, STEP_MS)
const headersOf = (run_id: string) => client.messages.list({ params: { run_id }, query: {} })
const send = (run_id: string, body: string) => client.messages.send({ body: { to: [run_id], subject: 's', body } })
const given = (run_id: string) => crew.given(run_id).flatMap(({ texts }) => texts)
const timesIn = (run_id: string, words: string) => given(run_id).join('\n').split(words).length - 1
const executionsOf = async (run_id: string) =>
  (await client.executions.list({ params: { run_id } })).executions.map(({ state, outcome }) => outcome ?? state)
const hasEntry = (run_id: string, name: string) =>
  until(
    `${run_id} notes ${name}`,
    async () => {
      const { entries } = await client.transcripts.list({ params: { run_id }, query: { limit: 500 } })
      return entries.some(({ body }) => body.kind === 'system' && body.name === name)
    },
    STEP_MS,
  )

/** One of its agents sends a message too many. */
async function stop(root: string, sender: string): Promise<void> {
  await limit(0)
  const sent = crew.speaksAs(sender).messages.send({ body: { to: [root], subject: 's', body: 'too many' } })
  await expect(sent).rejects.toMatchObject({ code: 'budget_exceeded' })
}

test('who is at work is interrupted and BLOCKED, nobody begins or hears anything, and all go on when released', async () => {
  const root = await begin('after', 'hold')
  const waits = await begin('joins', 'listen', root)
  await hasEntry(waits, 'waiting')
  const joins = await begin('joins', 'hold', root)
  const after = await begin('after', 'hold', root)
  const built_in = await begin('built-in', 'hold', root)
  const deaf = await begin('after', 'deaf', root)
  const go = join(folder, randomUUID())
  const prompt = `until [ -e ${go} ]; do sleep 0.05; done`
  const command = await create(prompt, { harness: { type: 'command' }, worker_host: 'crew' }, root)
  const interrupted = [root, joins, after, built_in, deaf]
  await Promise.all(interrupted.map(crew.atWork))
  await is(command, 'INPROGRESS')
  const queued = await begin('after', 'end', root)
  expect(await stateOf(queued)).toBe('QUEUED')

  await stop(root, joins)
  expect((await treeOf(root)).stopped).toMatchObject({ reason: 'messages' })
  expect(await runOf(root)).toMatchObject({
    status_message: { message: expect.stringMatching(/limit of 0 \(max_tree_messages\)/) },
  })
  for (const run_id of interrupted) await hasEntry(run_id, 'tree_stopped')
  for (const run_id of interrupted) expect(await stateOf(run_id), run_id).toBe('BLOCKED')
  // The one that obeyed no cancel was ended; nothing of that is its run's end.
  await until('the deaf one has gone', async () => (await executionsOf(deaf)).join() === 'ERROR', STEP_MS)
  expect(await stateOf(deaf)).toBe('BLOCKED')

  for (const run_id of [joins, waits]) await send(run_id, 'letter one.')
  const other = await begin('after', 'end')
  await is(other, 'SUCCEEDED')
  expect(await runOf(queued)).toMatchObject({ state: 'QUEUED', waiting_for: 'release' })
  expect([joins, waits].map((run_id) => timesIn(run_id, 'letter one.'))).toEqual([0, 0])
  expect(await stateOf(command)).toBe('INPROGRESS')
  writeFileSync(go, '')
  await is(command, 'SUCCEEDED')

  await server.kill()
  server = await startServerProcess(there)
  process.kill(runnerOf((await runOf(after)).execution_id ?? ''), 'SIGKILL')
  await until('its runner is missed', async () => (await executionsOf(after)).join() === 'ERROR', STEP_MS)
  for (const run_id of interrupted) expect(await stateOf(run_id), run_id).toBe('BLOCKED')
  expect(await runOf(waits)).toMatchObject({ state: 'INPROGRESS', waiting_until: expect.any(String) })
  for (const run_id of interrupted) expect(timesIn(run_id, RELEASED)).toBe(0)

  await limit(5000)
  const [, ...below] = interrupted
  for (const run_id of below) crew.open(run_id)
  expect((await client.trees.release({ params: { run_id: root } })).stopped).toBeNull()
  await send(waits, 'letter two.')
  // The top ends last: it hears of each end, and none of its children's words is the release told once more.
  for (const run_id of [...below, waits, queued]) await is(run_id, 'SUCCEEDED')
  crew.open(root)
  await is(root, 'SUCCEEDED')
  const ended = await Promise.all([...interrupted, waits, queued].map(executionsOf))
  const [once, twice] = ['SUCCEEDED', 'ERROR,SUCCEEDED']
  expect(ended.map(String)).toEqual([once, once, twice, once, twice, once, once])
  for (const run_id of interrupted) expect(timesIn(run_id, RELEASED), run_id).toBe(1)
  for (const run_id of [waits, queued]) expect(timesIn(run_id, RELEASED), run_id).toBe(0)
  expect([joins, waits].map((run_id) => timesIn(run_id, 'letter one.'))).toEqual([1, 1])
  for (const run_id of [...interrupted, waits])
    for (const { delivered_at } of await headersOf(run_id)) expect(delivered_at).not.toBeNull()
  expect((await treeOf(root)).done).toBe(true)
})

test('a stopped tree is cancelled as any other, and its runs can be tried again when it is released', async () => {
  const root = await begin('after', 'hold')
  const child = await begin('joins', 'hold', root)
  await Promise.all([root, child].map(crew.atWork))
  await stop(root, child)
  await Promise.all([root, child].map((run_id) => is(run_id, 'BLOCKED')))
  await expect(begin('after', 'end', root)).rejects.toMatchObject({ code: 'budget_exceeded' })
  await client.runs.cancel({ params: { run_id: root }, body: { cascade: true } })
  await Promise.all([root, child].map((run_id) => is(run_id, 'CANCELLED')))
  const retry = () => client.runs.retry({ params: { run_id: child } })
  await expect(retry()).rejects.toMatchObject({ code: 'conflict', message: expect.stringMatching(/release/) })
  await client.trees.release({ params: { run_id: root } })
  expect((await treeOf(root)).counts).toEqual({ CANCELLED: 2 })
  crew.open(child)
  await retry()
  await is(child, 'SUCCEEDED')
})
