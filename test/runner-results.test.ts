/** A task that builds on others, as its runner gives it their results: before the prompt, and as a file. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { TaskResult } from '../src/contract/index.ts'
import { runExecution } from '../src/runner/run.ts'
import { type House, startHouse } from './house/house.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

const AGENT = join(import.meta.dirname, 'harnesses/talking-agent.ts')
let folder: string
let house: House
let worker: ScriptedWorker
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baton-results-'))
  house = await startHouse({ limits: { close_ms: 200 } })
  worker = await house.worker()
})
afterEach(async () => {
  await house.close()
  rmSync(folder, { recursive: true, force: true })
})

/** A real runner for what the worker was offered. */
async function run(piece: Piece) {
  piece.claim()
  const agent = { command: process.execPath, args: [AGENT], env: { TALK: folder, TALK_JOINS: '0' } }
  const report = await runExecution({
    server: house.url,
    token: piece.assignment.env_vars.WARP_API_KEY ?? '',
    execution_id: piece.execution_id,
    version: '0.0.0',
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      BATON_HARNESSES: JSON.stringify({ talk: { ...agent, tool_hold_ms: 1 } }),
    },
    workspace: join(folder, piece.run_id),
    place: 'managed',
    signal: new AbortController().signal,
  })
  piece.complete()
  return report
}

const outputOf = async (run_id: string) =>
  (await house.client.transcripts.list({ params: { run_id }, query: { limit: 500 } })).entries
    .flatMap(({ body }) => (body.kind === 'output' ? [body.text] : []))
    .join('')

test('commands find the results of others in a file, an agent reads them before its prompt', async () => {
  const setup_commands = ['test -s "$BATON_RESULTS" && echo set up']
  await house.client.batches.create({
    body: {
      tasks: [
        { name: 'count', prompt: 'test -z "${BATON_RESULTS+set}" && echo forty-two' },
        {
          name: 'show',
          prompt: 'cat "$BATON_RESULTS"',
          depends_on: ['count'],
          config: { environment: { repositories: [], setup_commands, variables: {} } },
        },
        { name: 'think', prompt: 'What is it?', depends_on: ['count', 'show'], harness: 'talk' },
      ],
      defaults: { harness: 'command' },
    },
  })
  const count = await worker.next()
  expect(await run(count)).toMatchObject({ state: 'SUCCEEDED' })
  const show = await worker.next()
  expect(await run(show)).toMatchObject({ state: 'SUCCEEDED' })
  const output = await outputOf(show.run_id)
  expect(output).toMatch(/^set up\n/)
  const [result, ...others] = TaskResult.array().parse(JSON.parse(output.replace(/^set up\n/, '')))
  expect(others).toEqual([])
  expect(result).toMatchObject({ name: 'count', run_id: count.run_id, harness: 'command', text: 'forty-two' })
  expect(result?.run_seconds).toBeGreaterThan(0)
  expect(await run(await worker.next())).toMatchObject({ state: 'SUCCEEDED' })
  const given = readFileSync(join(folder, 'given.ndjson'), 'utf8')
  const { text } = given
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { text?: string })
    .find((line) => line.text !== undefined) ?? { text: '' }
  expect(text).toMatch(
    /^Results of the tasks[\s\S]*## count \(command, run [\w-]+\)\nforty-two\n\n## show[\s\S]*What is it\?$/,
  )
  expect(existsSync(join(folder, show.run_id, '.baton', show.execution_id))).toBe(false)
})
