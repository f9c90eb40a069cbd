import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Entry, SESSION_PACKED_BYTES_MAX } from '../src/contract/index.ts'
import { type ExitReport, runExecution } from '../src/runner/run.ts'
import { type House, startHouse } from './house/house.ts'
import { processesOf, until } from './house/processes.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

const AGENT = join(import.meta.dirname, 'harnesses/remembering-agent.ts')
const RUNNER = join(import.meta.dirname, 'house/runner-process.ts')
/** A runner in a process of its own, on a busy machine. */
const SLOW_MS = 30_000
const TEST_MS = 90_000

let folder: string
let house: House
let worker: ScriptedWorker
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-sessions-'))
  house = await startHouse({
    limits: { close_ms: 200 },
    engine_limits: { lease_ms: 3000, heartbeat_ms: 300, retry_first_ms: 50, retry_most_ms: 50 },
    blobs_dir: join(folder, 'blobs'),
  })
  worker = await house.worker()
})
afterEach(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

type Given = { text?: string; began?: string; loaded?: string }
type Place = { piece: Piece; own: string; env: Record<string, string>; given(): Given[]; texts(): string[] }

/** A sandbox of its own on a machine of its own: nothing is shared with the one before. */
async function takeUp(): Promise<Place> {
  const piece = await worker.next(SLOW_MS)
  piece.claim()
  const own = join(folder, piece.execution_id)
  mkdirSync(own)
  const given = join(own, 'given.ndjson')
  const harness = {
    command: process.execPath,
    args: [AGENT],
    env: { SESSIONS: '{home}/talk/sessions', GIVEN: given },
    session_folders: ['talk/sessions'],
  }
  const env = {
    PATH: process.env.PATH ?? '',
    HOME: own,
    BATON_HARNESSES: JSON.stringify({ talk: harness }),
    WARP_SERVER_ROOT_URL: house.url,
    WARP_API_KEY: piece.assignment.env_vars.WARP_API_KEY ?? '',
    BATON_EXECUTION_ID: piece.execution_id,
    BATON_WORKSPACE: join(own, 'workspace'),
  }
  const all = (): Given[] =>
    existsSync(given)
      ? readFileSync(given, 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
      : []
  return { piece, own, env, given: all, texts: () => all().flatMap(({ text }) => (text === undefined ? [] : [text])) }
}

const workOn = ({ piece, own, env }: Place): Promise<ExitReport> =>
  runExecution({
    server: house.url,
    token: env.WARP_API_KEY ?? '',
    execution_id: piece.execution_id,
    version: '0.0.0',
    env,
    workspace: join(own, 'workspace'),
    place: 'managed',
    signal: new AbortController().signal,
  })

/** In a process that can be killed. */
function workApart({ env }: Place): { kill(): void } {
  const child = spawn(process.execPath, [RUNNER], { env, stdio: 'ignore' })
  return { kill: () => child.kill('SIGKILL') }
}

async function begin(prompt: string): Promise<string> {
  const config = { harness: { type: 'talk' }, max_tries: 2 }
  return (await house.client.runs.create({ body: { prompt, config } })).run_id
}

const send = (run_id: string, body: string) =>
  house.client.messages.send({ body: { to: [run_id], subject: 'A word', body } })
const entriesOf = async (run_id: string): Promise<Entry[]> =>
  (await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })).entries
const said = async (run_id: string, name: string) =>
  (await entriesOf(run_id)).filter(({ body }) => body.kind === 'system' && body.name === name)
const words = async (run_id: string) =>
  (await entriesOf(run_id)).flatMap(({ body }) => (body.kind === 'text' ? [body.text] : []))
const succeeded = { end: 'finished', state: 'SUCCEEDED' }
const blobs = () => (existsSync(join(folder, 'blobs')) ? readdirSync(join(folder, 'blobs'), { recursive: true }) : [])
const blobFiles = () => blobs().filter((name) => /[0-9a-f]{64}$/.test(String(name)))

describe('a run that goes on', () => {
  test('after a message wakes it elsewhere, has the session of its harness, and is given nothing twice', async () => {
    const run_id = await begin('The word is xylophone.')
    const first = await takeUp()
    expect(await workOn(first)).toMatchObject(succeeded)
    const began = first.given()[0]?.began
    rmSync(first.own, { recursive: true })
    for (const letter of ['RECALL it', 'RECALL all']) {
      await send(run_id, letter)
      const woken = await takeUp()
      expect(await workOn(woken)).toMatchObject(succeeded)
      expect(woken.given()[0]).toEqual({ loaded: began })
      expect(woken.texts()).toEqual([expect.stringContaining(letter)])
      expect(woken.texts()[0]).not.toContain('xylophone')
    }
    expect((await words(run_id)).at(-2)).toMatch(/I remember: The word is xylophone\.\n/)
    expect((await words(run_id)).at(-1)).toMatch(/I remember: The word is xylophone\.\n[\s\S]*RECALL it/)
    expect(await said(run_id, 'resume_failed')).toEqual([])
    expect(blobFiles()).toHaveLength(1)
  })

  test(
    'after kill -9 in its second turn has the first one in mind, and is told of the second',
    async () => {
      const run_id = await begin('The word is xylophone.')
      const first = await takeUp()
      const piece = first.piece
      await send(run_id, 'HOLD this in mind')
      const runner = workApart(first)
      await until('the second turn runs', () => first.texts().some((text) => text.includes('HOLD')), SLOW_MS)
      await until('the letter is in the transcript', async () =>
        (await entriesOf(run_id)).some(({ body }) => body.kind === 'prompt' && body.text.includes('HOLD')),
      )
      runner.kill()
      for (const pid of processesOf(piece.execution_id)) process.kill(pid, 'SIGKILL')
      const began = first.given()[0]?.began
      rmSync(first.own, { recursive: true, force: true })
      const again = await takeUp()
      expect(again.piece.run_id).toBe(run_id)
      const report = workApart(again)
      await until('it is prompted', () => again.texts().length > 0, SLOW_MS)
      expect(again.given()[0]).toEqual({ loaded: began })
      const [text = ''] = again.texts()
      expect(text).toMatch(/Since what you remember[\s\S]*You were asked:[\s\S]*HOLD this in mind/)
      expect(text).toMatch(/Then you were interrupted[\s\S]*look at what is there/)
      expect(text).toMatch(/which you were given before:\n\nThe word is xylophone\.[\s\S]*Go on with it/)
      report.kill()
      for (const pid of processesOf(again.piece.execution_id)) process.kill(pid, 'SIGKILL')
    },
    TEST_MS,
  )

  test(
    'after kill -9 in its first turn is told what happened, once that there is no session, and not as if new',
    async () => {
      const run_id = await begin('HOLD the word xylophone.')
      const first = await takeUp()
      const runner = workApart(first)
      await until(
        'the server knows its session',
        async () => {
          const { executions } = await house.client.executions.list({ params: { run_id } })
          return executions[0]?.session_id !== undefined
        },
        SLOW_MS,
      )
      runner.kill()
      for (const pid of processesOf(first.piece.execution_id)) process.kill(pid, 'SIGKILL')
      const again = await takeUp()
      const other = workApart(again)
      await until('it is prompted', () => again.texts().length > 0, SLOW_MS)
      expect(again.texts()[0]).toMatch(
        /You were asked:\nHOLD the word[\s\S]*Then you were interrupted[\s\S]*which you were given before:\n\nHOLD the word/,
      )
      await until('it is said', async () => (await said(run_id, 'resume_failed')).length === 1)
      other.kill()
      for (const pid of processesOf(again.piece.execution_id)) process.kill(pid, 'SIGKILL')
    },
    TEST_MS,
  )

  test('when a person asks again, has its session and is asked again', async () => {
    const run_id = await begin('RECALL the word xylophone.')
    expect(await workOn(await takeUp())).toMatchObject(succeeded)
    await house.client.runs.retry({ params: { run_id } })
    const again = await takeUp()
    expect(await workOn(again)).toMatchObject(succeeded)
    expect(again.texts()).toEqual(['You are asked again:\n\nRECALL the word xylophone.'])
    expect((await words(run_id)).at(-1)).toMatch(/I remember: RECALL the word xylophone/)
  })

  test('whose session is too large to be kept begins anew with its transcript, and both are said once', async () => {
    const run_id = await begin('FLOOD. The word is xylophone.')
    expect(await workOn(await takeUp())).toMatchObject(succeeded)
    expect(await said(run_id, 'session_not_kept')).toHaveLength(1)
    await send(run_id, 'go on')
    const woken = await takeUp()
    expect(await workOn(woken)).toMatchObject(succeeded)
    expect(woken.texts()[0]).toMatch(/You were asked:\nFLOOD\. The word is xylophone\.[\s\S]*go on/)
    expect(await said(run_id, 'resume_failed')).toHaveLength(1)
  })

  test('whose harness does not start on its session begins anew with its transcript', async () => {
    const run_id = await begin('POISON')
    expect(await workOn(await takeUp())).toMatchObject(succeeded)
    await send(run_id, 'go on')
    const woken = await takeUp()
    expect(await workOn(woken)).toMatchObject(succeeded)
    expect(woken.given()[0]).toHaveProperty('began')
    expect(woken.texts()[0]).toMatch(/You were asked:\nPOISON[\s\S]*go on/)
    expect(await said(run_id, 'resume_failed')).toHaveLength(1)
  })

  test('whose session was lost at the server begins anew with its transcript', async () => {
    const run_id = await begin('The word is xylophone.')
    expect(await workOn(await takeUp())).toMatchObject(succeeded)
    rmSync(join(folder, 'blobs'), { recursive: true })
    mkdirSync(join(folder, 'blobs'))
    await send(run_id, 'go on')
    const woken = await takeUp()
    expect(await workOn(woken)).toMatchObject(succeeded)
    expect(woken.texts()[0]).toMatch(/The word is xylophone\.[\s\S]*go on/)
    expect(await said(run_id, 'resume_failed')).toHaveLength(1)
  })
})

describe('what the server keeps', () => {
  const packed = (text: string) => gzipSync(text).toString('base64')
  const file = (path: string, text?: string) => ({ path, ...(text === undefined ? {} : { packed: packed(text) }) })

  async function started(): Promise<Piece> {
    const piece = await worker.next()
    piece.claim()
    await piece.start()
    return piece
  }

  const keep = (piece: Piece, files: { path: string; packed?: string }[], entries = 0) =>
    piece.runner.executions.keep({
      params: { execution_id: piece.execution_id },
      body: { session_id: 's-1', entries, files },
    })
  const kept = async (piece: Piece) => {
    const session = await piece.runner.executions.session({ params: { execution_id: piece.execution_id } })
    return session.files.map(({ path, packed: bytes }) => [path, bytes])
  }

  test('is the newest of each file: what did not change need not be sent, what is gone is gone, and no blob is left', async () => {
    await begin('x')
    const piece = await started()
    await keep(piece, [file('a', 'one'), file('b', 'two'), file('c', 'three')])
    await keep(piece, [file('a'), file('b', 'two, later')], 1)
    expect(await kept(piece)).toEqual([
      ['a', packed('one')],
      ['b', packed('two, later')],
    ])
    expect(blobFiles()).toHaveLength(2)
    // One that was overtaken on its way changes nothing.
    await keep(piece, [file('a', 'late')], 0)
    expect((await kept(piece)).length).toBe(2)
    expect(blobFiles()).toHaveLength(2)
    await expect(keep(piece, [file('never-sent')], 2)).rejects.toMatchObject({ status: 409, retryable: true })
  })

  test('is not what an execution sends that has ended, nor what is larger than the limit, nor what lies elsewhere', async () => {
    await begin('x')
    const piece = await started()
    for (const path of ['../a', '/a', 'a/../../b', 'a//b', './a', 'a\\b', ''])
      await expect(keep(piece, [file(path, 'x')])).rejects.toMatchObject({ status: 400 })
    const large = { path: 'a', packed: randomBytes(SESSION_PACKED_BYTES_MAX + 1).toString('base64') }
    await expect(keep(piece, [large])).rejects.toMatchObject({ status: 413 })
    await piece.finish()
    await expect(keep(piece, [file('a', 'x')])).rejects.toMatchObject({ status: 409, retryable: false })
    expect(blobFiles()).toEqual([])
  })

  test('is nobody else’s: equal bytes of two runs have a blob each, and the end of one is not the end of the other', async () => {
    await begin('x')
    await begin('y')
    const [one, other] = [await started(), await started()]
    await keep(one, [file('a', 'same')])
    await keep(other, [file('a', 'same')])
    expect(blobFiles()).toHaveLength(2)
    await keep(one, [file('a', 'different')], 1)
    expect(await kept(other)).toEqual([['a', packed('same')]])
    await expect(other.runner.executions.session({ params: { execution_id: one.execution_id } })).rejects.toMatchObject(
      { status: 404 },
    )
  })
})
