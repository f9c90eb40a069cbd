import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Entry, SendMessage } from '../src/contract/index.ts'
import type { Harness } from '../src/runner/harnesses/harness.ts'
import { type ExitReport, type RunnerOptions, runExecution } from '../src/runner/run.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'

let folder: string
let house: House
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-turns-'))
  house = await startHouse({ limits: { close_ms: 200 } })
})
afterEach(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

type Talk = {
  run_id: string
  execution_id: string
  token: string
  folder: string
  stop: AbortController
  report: Promise<ExitReport>
  /** Every prompt that its agent was given, oldest first. */
  given(): Given[]
  /** Lets the turn that holds go on. */
  go(): void
}
type Given = { text?: string; joined?: boolean; pid?: number; cancelled?: boolean; mcp?: unknown }
type Claimed = { run_id: string; execution_id: string; token: string }

const AGENT = join(import.meta.dirname, 'harnesses/talking-agent.ts')

/** Works on an execution with an agent that says what it was given. */
function talkOn(claimed: Claimed, joins = false, more: Partial<RunnerOptions> = {}): Talk {
  const own = join(folder, claimed.execution_id)
  mkdirSync(own)
  const agent = { command: process.execPath, args: [AGENT], env: { TALK: own, TALK_JOINS: joins ? '1' : '0' } }
  const stop = new AbortController()
  const report = runExecution({
    server: house.url,
    token: claimed.token,
    execution_id: claimed.execution_id,
    version: '0.0.0',
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      BATON_HARNESSES: JSON.stringify({ talk: { ...agent, joins_prompt_to_running_turn: joins, tool_hold_ms: 1234 } }),
    },
    workspace: join(own, 'workspace'),
    place: 'managed',
    signal: stop.signal,
    ...more,
  })
  const given = () => {
    const path = join(own, 'given.ndjson')
    const lines = existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : []
    return lines.map((line): Given => JSON.parse(line))
  }
  return { ...claimed, folder: own, stop, report, given, go: () => writeFileSync(join(own, 'go'), '') }
}

const local = (prompt: string) =>
  house.client.executions.create({ body: { prompt, config: { harness: { type: 'talk' } } } })
const begin = async (prompt: string, joins = false) => talkOn(await local(prompt), joins)

/** A run of a worker, which can be woken; it is not tried again. */
async function beginRemote(prompt: string) {
  const worker = await house.worker()
  await house.client.runs.create({ body: { prompt, config: { harness: { type: 'talk' }, max_tries: 1 } } })
  return { talk: talkOn(claimOf(await worker.next())), worker }
}

const textsOf = (talk: Talk) => talk.given().flatMap(({ text }) => (text === undefined ? [] : [text]))
const heard = (talk: Talk, words: string) =>
  until(`the agent hears ${words}`, () => textsOf(talk).some((text) => text.includes(words)))
const timesIn = (texts: string[], words: string) => texts.join('\n').split(words).length - 1
const runOf = ({ run_id }: { run_id: string }) => house.client.runs.get({ params: { run_id } })
const send = (to: { run_id: string }, body: string, more: Partial<SendMessage> = {}) =>
  house.client.messages.send({ body: { to: [to.run_id], subject: 'A word', body, ...more } })
const headersOf = ({ run_id }: { run_id: string }) => house.client.messages.list({ params: { run_id }, query: {} })
const entriesOf = async ({ run_id }: { run_id: string }): Promise<Entry[]> =>
  (await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })).entries
const promptsOf = async (talk: Talk) =>
  (await entriesOf(talk)).flatMap(({ body }) => (body.kind === 'prompt' ? [body.text] : []))

/** As the agent does by its tool: from here on it waits. */
async function waitForEvents({ token }: Talk, timeout_s = 600) {
  const { engine } = house.server
  const caller = await engine.access.identify({ token })
  if (caller === null) throw new Error('The execution is not known.')
  return engine.mail.wait(caller, {
    call_key: randomUUID(),
    hold_ms: 0,
    timeout_s,
    signal: new AbortController().signal,
  })
}

/** An agent whose turn has ended while it waits for events. */
async function beginWaiting(): Promise<Talk> {
  const talk = await begin('Begin. HOLD')
  await heard(talk, 'Begin')
  expect((await waitForEvents(talk)).text).toBeNull()
  talk.go()
  await isWaiting(talk)
  return talk
}

const isWaiting = (talk: Talk) =>
  until('it waits', async () =>
    (await entriesOf(talk)).some(({ body }) => body.kind === 'system' && body.name === 'waiting'),
  )

describe('a message to a busy agent', () => {
  test('waits for the turn to end where the harness cannot join it, and is then the next prompt', async () => {
    const talk = await begin('Begin. HOLD')
    await heard(talk, 'Begin')
    await send(talk, 'the first letter')
    await send(talk, 'the second letter')
    expect(textsOf(talk)).toHaveLength(1)
    talk.go()
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(textsOf(talk)).toHaveLength(2)
    expect(textsOf(talk)[1]).toMatch(/the first letter[\s\S]*the second letter/)
    expect((await headersOf(talk)).every(({ delivered_at }) => delivered_at !== null)).toBe(true)
    expect(await promptsOf(talk)).toEqual(textsOf(talk))
    expect(new Set(talk.given().flatMap(({ pid }) => (pid === undefined ? [] : [pid]))).size).toBe(1)
  })

  test('joins the running turn where the harness can, in the order of sending and once each', async () => {
    const talk = await begin('Begin. HOLD', true)
    await heard(talk, 'Begin')
    await send(talk, 'the first letter')
    await heard(talk, 'the first letter')
    await send(talk, 'the second letter')
    await heard(talk, 'the second letter')
    expect((await runOf(talk)).state).toBe('INPROGRESS')
    talk.go()
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(talk.given().filter(({ joined }) => joined)).toHaveLength(2)
    expect(timesIn(textsOf(talk), 'the first letter')).toBe(1)
    expect(await promptsOf(talk)).toEqual(textsOf(talk))
  })

  test('interrupts the turn when it is urgent and cannot join', async () => {
    const talk = await begin('Begin. HOLD')
    await heard(talk, 'Begin')
    await send(talk, 'stop what you do', { urgent: true })
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(talk.given().map((one) => one.cancelled ?? one.text?.includes('stop what you do') ?? null)).toEqual([
      null,
      false,
      true,
      true,
    ])
  })
})

describe('an agent that waits for events', () => {
  test('keeps its session after its turn, and a message begins the next one', async () => {
    const talk = await beginWaiting()
    expect((await runOf(talk)).state).toBe('INPROGRESS')
    await send(talk, 'here it is')
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(timesIn(textsOf(talk), 'here it is')).toBe(1)
    expect(new Set(talk.given().flatMap(({ pid }) => (pid === undefined ? [] : [pid]))).size).toBe(1)
  })

  test('is told when the time for which it waited is over', async () => {
    const talk = await begin('Begin. HOLD')
    await heard(talk, 'Begin')
    await waitForEvents(talk, 1)
    talk.go()
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(textsOf(talk)).toHaveLength(2)
    expect(textsOf(talk)[1]).toMatch(/Nothing came/)
  })

  test('hears of it although the server was restarted meanwhile', async () => {
    const talk = await beginWaiting()
    await house.restart()
    await send(talk, 'after the restart')
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(timesIn(textsOf(talk), 'after the restart')).toBe(1)
  })

  test('is cancelled at once', async () => {
    const talk = await beginWaiting()
    await house.client.runs.cancel({ params: { run_id: talk.run_id } })
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'CANCELLED' })
  })

  test('whose harness dies is an error, and a message wakes it as any other', async () => {
    const { talk, worker } = await beginRemote('Begin. HOLD')
    await heard(talk, 'Begin')
    await waitForEvents(talk)
    talk.go()
    await isWaiting(talk)
    process.kill(talk.given().find(({ pid }) => pid !== undefined)?.pid ?? 0, 'SIGKILL')
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'ERROR', outcome: { outcome: 'ERROR' } })
    await send(talk, 'for the next one')
    const next = talkOn(claimOf(await worker.next()))
    next.go()
    expect(await next.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(timesIn(textsOf(next), 'for the next one')).toBe(1)
  })
})

type Piece = Awaited<ReturnType<Awaited<ReturnType<House['worker']>>['next']>>

function claimOf(piece: Piece): Claimed {
  piece.claim()
  const { run_id, execution_id, assignment } = piece
  return { run_id, execution_id, token: assignment.env_vars.WARP_API_KEY ?? '' }
}

describe('a message to a run that is not at work', () => {
  test('wakes one that has ended: a new execution begins with what happened before and the message', async () => {
    const { talk, worker } = await beginRemote('Begin.')
    await talk.report
    await send(talk, 'wake up')
    const woken = talkOn(claimOf(await worker.next()))
    expect(await woken.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(textsOf(woken)).toHaveLength(1)
    expect(textsOf(woken)[0]).toMatch(/You were asked:\nBegin\.[\s\S]*I heard: Begin\.[\s\S]*wake up/)
    expect(await promptsOf(woken)).toEqual(['Begin.', expect.stringContaining('wake up')])
  })

  test('wakes one that was cancelled', async () => {
    const { talk, worker } = await beginRemote('Begin. HOLD')
    await heard(talk, 'Begin')
    await house.client.runs.cancel({ params: { run_id: talk.run_id } })
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'CANCELLED' })
    await send(talk, 'go on')
    const woken = talkOn(claimOf(await worker.next()))
    await heard(woken, 'go on')
    woken.go()
    expect(await woken.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
  })

  test('is there for one that has not begun, after its own prompt', async () => {
    const created = await local('Begin.')
    await send(created, 'an early word')
    const talk = talkOn(created)
    expect(await talk.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect(textsOf(talk)[0]).toBe('Begin.')
    expect(timesIn(textsOf(talk), 'an early word')).toBe(1)
  })
})

test('a message that races the end of a run is never lost and never given twice', async () => {
  const worker = await house.worker()
  const given: string[] = []
  const takeUp = async () => claimOf(await worker.next())
  for (let at = 0; at < RACES; at += LANES) {
    const letters = Array.from({ length: LANES }, (_, lane) => `letter ${at + lane}.`)
    for (const _ of letters)
      await house.client.runs.create({ body: { prompt: 'Begin.', config: { harness: { type: 'talk' } } } })
    const runs = await Promise.all(letters.map(takeUp))
    const races = runs.map(async (run, lane) => {
      const { promise: turn_over, resolve: onTurnOver } = Promise.withResolvers<void>()
      const talk = talkOn(run, false, { harness: recorder(given, onTurnOver) })
      await turn_over
      if (lane > 0) await new Promise((resolve) => setTimeout(resolve, ((at + lane) % 10) * 2))
      await send(run, letters[lane] ?? '')
      await talk.report
    })
    await Promise.all(races)
    const woken = letters.filter((letter) => timesIn(given, letter) === 0)
    const again = await Promise.all(woken.map(takeUp))
    await Promise.all(again.map((run) => talkOn(run, false, { harness: recorder(given) }).report))
    for (const letter of letters) expect([letter, timesIn(given, letter)]).toEqual([letter, 1])
    expect(worker.waiting()).toBe(0)
    for (const run of runs) expect((await runOf(run)).state).toBe('SUCCEEDED')
  }
}, 120_000)
const RACES = 100
const LANES = 4

test('letters that a tool and the runner could both give are given once, whichever is first', async () => {
  const created = await local('Begin.')
  const given: string[] = []
  const { engine } = house.server
  const caller = await engine.access.identify({ token: created.token })
  if (caller === null) throw new Error('The execution is not known.')
  const signal = new AbortController().signal
  const seen = () => LETTERS.filter((letter) => given.some((text) => text.includes(letter))).length
  const harness: Harness = {
    name: 'talk',
    tool_hold_ms: 1000,
    async open() {
      return {
        session_id: null,
        async prompt(text) {
          given.push(text)
          while (seen() < LETTERS.length) {
            const { text: news } = await engine.mail.wait(caller, {
              call_key: randomUUID(),
              hold_ms: 20,
              timeout_s: 600,
              signal,
            })
            if (news !== null) given.push(news)
            // A model thinks between two calls.
            await new Promise((resolve) => setTimeout(resolve, 5))
          }
          return { end: 'completed' }
        },
        async join(text) {
          given.push(text)
          return 'joined'
        },
        async cancel() {},
        async close() {},
      }
    },
  }
  const talk = talkOn(created, true, { harness })
  await until('its turn runs', () => given.length > 0)
  for (const letter of LETTERS) {
    await send(created, letter)
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 15))
  }
  expect(await talk.report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
  expect(LETTERS.map((letter) => timesIn(given, letter))).toEqual(LETTERS.map(() => 1))
}, 60_000)
const LETTERS = Array.from({ length: 150 }, (_, at) => `letter ${at}.`)

/** A harness in this process: its turns end at once. */
const recorder = (given: string[], onTurnOver = () => {}): Harness => ({
  name: 'talk',
  tool_hold_ms: 1000,
  async open() {
    return {
      session_id: null,
      async prompt(text) {
        given.push(text)
        onTurnOver()
        return { end: 'completed' }
      },
      async cancel() {},
      async close() {},
    }
  },
})

describe('what a harness is given', () => {
  test("is the platform's MCP endpoint, with the execution's token and how long a call may be held", async () => {
    const talk = await begin('Begin.')
    await talk.report
    expect(talk.given()[0]?.mcp).toEqual([
      {
        type: 'http',
        name: 'baton',
        url: `${house.url}/mcp?hold_ms=1234`,
        headers: [{ name: 'Authorization', value: `Bearer ${talk.token}` }],
      },
    ])
  })

  test('lets a program in the sandbox speak for its own run, and setup commands do not get the token', async () => {
    const script =
      'fetch(process.env.WARP_SERVER_ROOT_URL + "/api/v1/agent/runs/" + process.env.OZ_RUN_ID, ' +
      '{ headers: { authorization: "Bearer " + process.env.WARP_API_KEY } })' +
      '.then((r) => r.json()).then((run) => console.log("I am " + run.title))'
    const environment = { repositories: [], setup_commands: ['echo "setup has [$WARP_API_KEY]"'], variables: {} }
    const created = await house.client.executions.create({
      body: { prompt: `node -e '${script}'`, title: 'The one', config: { harness: { type: 'command' }, environment } },
    })
    await talkOn(created).report
    const said = JSON.stringify(await entriesOf(created))
    expect(said).toContain('I am The one')
    expect(said).toContain('setup has []')
  })

  test('a command is not held open by messages, which it cannot be given', async () => {
    const created = await house.client.executions.create({
      body: { prompt: 'sleep 0.5', config: { harness: { type: 'command' } } },
    })
    await send(created, 'nobody reads this')
    expect(await talkOn(created).report).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
    expect((await headersOf(created))[0]?.delivered_at).toBeNull()
  })
})
