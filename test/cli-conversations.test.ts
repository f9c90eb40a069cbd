/** Conversations on the command line: as the server says them, and for a person. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Home, makeHome } from './cli/baton.ts'
import { Conversation } from './contract/wire.ts'
import { type House, startHouse } from './house/house.ts'
import { entriesOf, subAgent } from './house/recorded.ts'

let home: Home
let house: House
let run_id: string
let conversation_id: string
beforeAll(async () => {
  home = await makeHome()
  house = await startHouse()
  const worker = await house.worker()
  run_id = (await house.client.runs.create({ body: { prompt: 'Find dead code.', title: 'Dead code' } })).run_id
  conversation_id = (await house.client.runs.get({ params: { run_id } })).conversation_id
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  await piece.append({ kind: 'prompt', text: 'Find dead code.' }, ...entriesOf(subAgent()))
  await piece.finish()
  piece.complete()
})
afterAll(async () => {
  await house?.close()
  await home?.remove()
})

const run = (...args: string[]) =>
  home.run(args, { env: { WARP_SERVER_ROOT_URL: house.url, WARP_API_KEY: house.api_key } })

test('as JSON a conversation is what the server says, by its run and by its own id', async () => {
  const response = await fetch(`${house.url}/api/v1/agent/conversations/${conversation_id}`, {
    headers: { authorization: `Bearer ${house.api_key}` },
  })
  const said: unknown = await response.json()
  Conversation.parse(said)
  for (const args of [
    ['run', 'get', run_id, '--conversation'],
    ['run', 'conversation', 'get', conversation_id],
    ['task', 'get', run_id, '--conversation'],
  ]) {
    const { code, stdout, stderr } = await run('--output-format', 'json', ...args)
    expect(code, stderr).toBe(0)
    expect(JSON.parse(stdout)).toEqual(said)
  }
  const filter = '.steps[0].steps[0].description'
  const { stdout } = await run('run', 'conversation', 'get', conversation_id, '--jq', filter)
  expect(stdout).toBe('Look for dead code\n')
})

test('a person reads who said and did what, sub-agents further in', async () => {
  const { code, stdout } = await run('run', 'get', run_id, '--conversation', '--output-format', 'text')
  expect(code).toBe(0)
  expect(stdout).toMatch(new RegExp(`^Conversation ${conversation_id}\n`))
  expect(stdout).toContain('── Dead code · SUCCEEDED\n> Find dead code.\n● Agent skill {"prompt":"Look"')
  expect(stdout).toContain('One file is dead.\n\n  ── Look for dead code\n  I look around.\n  ● Grep search')
  expect(stdout).toContain('      src/old.ts\n')
})

test('what does not exist is said in a sentence', async () => {
  const { code, stderr } = await run('run', 'conversation', 'get', crypto.randomUUID())
  expect(code).not.toBe(0)
  expect(stderr).toMatch(/There is no conversation/)
  expect((await run('run', 'conversation', 'get', 'nonsense')).stderr).toMatch(/There is no conversation/)
})

test('a run goes on with a conversation without a prompt', async () => {
  const started = await run('agent', 'run-cloud', '--conversation', conversation_id, '-o', 'json', '--host', 'nobody')
  expect(started.stderr).not.toMatch(/does nothing/)
  expect(started.code, started.stderr).toBe(0)
  const { runs } = await house.client.runs.list({ query: { sort_by: 'created_at' } })
  expect(runs[0]).toMatchObject({ conversation_id, prompt: '', title: 'Dead code' })
  expect((await run('agent', 'run-cloud', '--conversation', 'x')).stderr).toMatch(/id of a conversation/)
})
