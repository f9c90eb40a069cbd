/** A run of each real CLI goes on elsewhere: by a message, on another worker, with nothing left of where it was. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Entry } from '../../src/contract/index.ts'
import { runExecution } from '../../src/runner/run.ts'
import { Conversation } from '../contract/wire.ts'
import { type House, startHouse } from '../house/house.ts'
import { CASES, type Case, KEY, runnerEnv } from './cases.ts'
import { EDIT, RECALL, type Script, startScript, WHERE, WORD } from './script.ts'

const TEST_MS = 180_000
/** Before each file's bytes in its blob. */
const SALT_BYTES = 16

let folder: string
let house: House
let script: Script
beforeEach(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'baton-elsewhere-')))
  house = await startHouse({ limits: { close_ms: 200 }, blobs_dir: join(folder, 'blobs') })
  script = await startScript(join(folder, 'one', 'workspace'))
})
afterEach(async () => {
  await script.stop()
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

/** One execution, on a worker of its own that is gone afterwards, with all that it had. */
async function workOn(its: Case, worker_host: string): Promise<{ token: string; where: string | null }> {
  const worker = await house.worker({ worker_host })
  const piece = await worker.next(20_000)
  piece.claim()
  const place = join(folder, worker_host)
  const user = join(place, 'user')
  mkdirSync(user, { recursive: true })
  const token = piece.assignment.env_vars.WARP_API_KEY ?? ''
  const report = await runExecution({
    server: house.url,
    token,
    execution_id: piece.execution_id,
    version: '0.0.0',
    env: runnerEnv(its, script.url, user),
    workspace: join(place, 'workspace'),
    place: 'managed',
    signal: new AbortController().signal,
  })
  expect(report, JSON.stringify(report)).toMatchObject({ end: 'finished', state: 'SUCCEEDED' })
  piece.complete()
  await worker.close()
  const note = join(place, 'workspace', 'where.txt')
  const where = existsSync(note) ? readFileSync(note, 'utf8').trim() : null
  rmSync(place, { recursive: true })
  return { token, where }
}

const entriesOf = async (run_id: string): Promise<Entry[]> =>
  (await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })).entries
const lastWords = (entries: Entry[]) => entries.findLast(({ body }) => body.kind === 'text')?.body
const resumeFailures = (entries: Entry[]) =>
  entries.filter(({ body }) => body.kind === 'system' && body.name === 'resume_failed')

/** As the public wire format has it. */
async function conversationOf(run_id: string): Promise<ReturnType<typeof Conversation.parse>> {
  const headers = { authorization: `Bearer ${house.api_key}` }
  return Conversation.parse(
    await (await fetch(`${house.url}/api/v1/agent/runs/${run_id}/conversation`, { headers })).json(),
  )
}
/** Category and end of each. */
const actionsIn = (steps: ReturnType<typeof Conversation.parse>['steps']) =>
  steps.flatMap(({ messages }) =>
    messages.flatMap(({ content }) =>
      content.flatMap((block) => (block.type === 'action_result' ? [`${block.category} ${block.state}`] : [])),
    ),
  )
/** As its harness calls it. */
const sessionOf = async (run_id: string) =>
  (await house.client.executions.list({ params: { run_id } })).executions.at(-1)?.session_id

/** Everything that the server keeps of sessions, as text. */
function keptText(): string {
  const blobs = join(folder, 'blobs')
  const names = existsSync(blobs) ? readdirSync(blobs, { recursive: true, encoding: 'utf8' }) : []
  const packed = names.filter((name) => /[0-9a-f]{64}$/.test(name)).map((name) => readFileSync(join(blobs, name)))
  return packed
    .filter((bytes) => bytes.readUInt16BE(SALT_BYTES) === 0x1f8b)
    .map((bytes) => gunzipSync(bytes.subarray(SALT_BYTES)).toString('latin1'))
    .join('\n')
}

test.each(CASES)(
  '$name remembers a word where a message wakes its run next, and no key is kept with it',
  async (its) => {
    const config = { harness: { type: its.name, ...(its.model_id && { model_id: its.model_id }) }, max_tries: 1 }
    const { run_id } = await house.client.runs.create({ body: { prompt: EDIT, config } })
    const first = await workOn(its, 'one')
    const wake = (body: string) => house.client.messages.send({ body: { to: [run_id], subject: 'A word', body } })
    await wake(WHERE)
    const second = await workOn(its, 'two')
    expect(second.where).toBe(join(folder, 'two', 'workspace'))
    await wake(RECALL)
    const third = await workOn(its, 'three')
    expect(lastWords(await entriesOf(run_id))).toMatchObject({ text: `The word was ${WORD}.` })
    expect(resumeFailures(await entriesOf(run_id))).toHaveLength(its.resumes ? 0 : 2)
    const kept = keptText()
    if (its.resumes) expect(kept).toContain(WORD)
    for (const secret of [KEY, first.token, second.token, third.token]) expect(kept).not.toContain(secret)
    const { steps } = await conversationOf(run_id)
    expect(steps.map(({ summary }) => summary)).toEqual(['SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED'])
    const [wrote, ...more] = steps.slice(0, 2).map((step) => actionsIn([step]))
    expect(wrote).toEqual([expect.stringMatching(/^(files|command) completed$/)])
    expect(more).toEqual([['command completed']])
  },
  TEST_MS,
)

test.each(CASES)(
  '$name remembers it in another run that goes on with the conversation',
  async (its) => {
    const config = { harness: { type: its.name, ...(its.model_id && { model_id: its.model_id }) }, max_tries: 1 }
    const { run_id } = await house.client.runs.create({ body: { prompt: EDIT, config } })
    await workOn(its, 'one')
    const { conversation_id } = await house.client.runs.get({ params: { run_id } })
    const next = await house.client.runs.create({ body: { prompt: RECALL, config, conversation_id } })
    await workOn(its, 'two')
    const entries = await entriesOf(next.run_id)
    expect(lastWords(entries)).toMatchObject({ text: `The word was ${WORD}.` })
    expect(resumeFailures(entries)).toHaveLength(its.resumes ? 0 : 1)
    const [earlier, later] = await Promise.all([run_id, next.run_id].map(sessionOf))
    expect(earlier).toEqual(expect.any(String))
    if (its.resumes) expect(later).toBe(earlier)
    expect((await conversationOf(next.run_id)).steps).toHaveLength(2)
  },
  TEST_MS,
)
