/** Trees, the mailbox and what programs inside a run say, through the built command line and a real server. */
import { chmod } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { connect } from '../src/sdk/client.ts'
import { type Ended, type Home, makeHome, startUp } from './cli/baton.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

const NOBODY = '00000000-0000-4000-8000-000000000000'
const WRONG_KEY = `wk-1.${'0'.repeat(64)}`

let home: Home
let house: House
let worker: ScriptedWorker
let env: Record<string, string>

beforeAll(async () => {
  home = await makeHome()
})
beforeEach(async () => {
  house = await startHouse({ max_concurrent_runs: 50 })
  worker = await house.worker({ capacity: 50 })
  env = { BATON_SERVER: house.url, BATON_API_KEY: house.api_key }
  return () => house.close()
})
afterAll(() => home?.remove())

const baton = (args: string[], more: Record<string, string> = {}, stdin?: string): Promise<Ended> =>
  home.run(args, { env: { ...env, ...more }, ...(stdin === undefined ? {} : { stdin }) })

async function json(args: string[], more: Record<string, string> = {}): Promise<unknown> {
  const { code, stdout, stderr } = await baton([...args, '--json'], more)
  expect(code, stderr).toBe(0)
  return JSON.parse(stdout)
}

/** A run at work in the scripted worker's hands. */
async function begun(title: string, parent_run_id?: string): Promise<Piece> {
  const config = { name: title, harness: { type: 'claude' } }
  await house.client.runs.create({
    body: { prompt: `do ${title}`, title, config, ...(parent_run_id === undefined ? {} : { parent_run_id }) },
  })
  const piece = await worker.next()
  piece.claim()
  await until('the claim is known', async () => {
    const { state } = await house.client.runs.get({ params: { run_id: piece.run_id } })
    return state === 'CLAIMED'
  })
  await piece.start()
  return piece
}

/** What a program in the sandbox of that run finds around it. */
const inside = (piece: Piece): Record<string, string> => ({
  BATON_API_KEY: '',
  WARP_API_KEY: piece.assignment.env_vars.WARP_API_KEY ?? '',
  OZ_RUN_ID: piece.run_id,
})

const stateOf = async (run_id: string) => (await house.client.runs.get({ params: { run_id } })).state
const treeOf = (run_id: string) => house.client.trees.get({ params: { run_id } })
const limit = (limits: object) => house.database.kysely.updateTable('teams').set(limits).execute()

describe('trees', () => {
  test('a child is made from outside, and the tree shows it below its parent with its state and last words', async () => {
    const lead = await begun('lead')
    const made = await json(['agent', 'run-cloud', 'look', '-n', 'scout', '--parent-run-id', lead.run_id])
    const scout = await worker.next()
    expect(made).toMatchObject({ run_id: scout.run_id })
    scout.claim()
    await scout.start()
    await scout.append({ kind: 'text', text: 'Found three\nthings.' })
    await scout.finish()
    const { stdout, code } = await baton(['run', 'tree', lead.run_id])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^lead +INPROGRESS +claude/m)
    expect(stdout).toMatch(/^└─ scout +SUCCEEDED .*Found three things\.$/m)
    expect(stdout).toContain('2 runs: 1 in progress, 1 succeeded')
    const whole = await fetch(`${house.url}/api/v1/agent/runs/${lead.run_id}/tree`, {
      headers: { authorization: `Bearer ${house.api_key}` },
    })
    expect(await json(['run', 'tree', lead.run_id])).toEqual(await whole.json())
    const lines = (await baton(['run', 'tree', lead.run_id, '-o', 'ndjson'])).stdout.trimEnd().split('\n')
    expect(lines.map((line) => JSON.parse(line).name)).toEqual(['lead', 'scout'])
  })

  test('all children are listed when none are counted off, and as many as asked for otherwise', async () => {
    const lead = await begun('lead')
    await Promise.all(
      Array.from({ length: 25 }, (_, at) =>
        house.client.runs.create({ body: { prompt: `child ${at}`, parent_run_id: lead.run_id } }),
      ),
    )
    const list = ['--output-format', 'json', 'run', 'list', '--ancestor-run', lead.run_id]
    const all = JSON.parse((await baton(list)).stdout)
    expect(all.runs).toHaveLength(25)
    expect(all.page_info).toEqual({ has_next_page: false })
    expect(JSON.parse((await baton([...list, '-L', '7'])).stdout).runs).toHaveLength(7)
  })

  test('cancelling a tree says how many runs it ends, and ends them all', async () => {
    const lead = await begun('lead')
    const a = await begun('a', lead.run_id)
    const b = await begun('b', lead.run_id)
    await b.finish()
    const { stdout, code, stderr } = await baton(['run', 'cancel', lead.run_id, '--tree'])
    expect(code, stderr).toBe(0)
    expect(stdout).toContain('Cancelling 2 runs: lead, a')
    for (const one of [lead, a]) {
      await until(`${one.run_id} is being cancelled`, async () => {
        const run = await house.client.runs.get({ params: { run_id: one.run_id } })
        return run.cancel_requested || run.state === 'CANCELLED'
      })
    }
    expect(await stateOf(b.run_id)).toBe('SUCCEEDED')
    const none = await baton(['run', 'cancel', b.run_id, '--tree'])
    expect(none).toMatchObject({ code: 0, stdout: expect.stringMatching(/^There is nothing to cancel: /) })
  })

  test('cancelling one run leaves its children alone', async () => {
    const lead = await begun('lead')
    const child = await begun('child', lead.run_id)
    const { stdout } = await baton(['run', 'cancel', lead.run_id])
    expect(stdout).toContain(`Cancelling ${lead.run_id}.`)
    expect((await house.client.runs.get({ params: { run_id: child.run_id } })).cancel_requested).toBe(false)
  })

  test('a tree that was stopped says why and how it goes on; released it does, once', async () => {
    await limit({ max_tree_messages: 1 })
    const lead = await begun('lead')
    const child = await begun('child', lead.run_id)
    const send = ['run', 'message', 'send', '--to', lead.run_id, '--subject', 's', '--body', 'b']
    expect((await baton(send, inside(child))).code).toBe(0)
    const refused = await baton(send, inside(child))
    expect(refused.code).toBe(9)
    expect(refused.stderr).toContain('was stopped')
    expect((await baton(['run', 'tree', lead.run_id])).stdout).toContain(`baton run release ${lead.run_id}`)
    const got = await baton(['run', 'get', lead.run_id])
    expect(got.stdout).toMatch(
      new RegExp(
        `^Tree +was stopped: .*limit of 1 \\(max_tree_messages\\)\\. .*baton run release ${lead.run_id}$`,
        'm',
      ),
    )
    const released = await baton(['run', 'release', child.run_id])
    expect(released).toMatchObject({ code: 0, stdout: expect.stringContaining('The tree goes on.') })
    expect((await treeOf(lead.run_id)).stopped).toBeNull()
    expect((await baton(send, inside(child))).code).toBe(0)
    expect((await baton(['run', 'release', lead.run_id])).code).toBe(6)
  })
})

describe('messages', () => {
  test('sent, listed, read and delivered, each with the fields that programs rely on', async () => {
    const lead = await begun('lead')
    const child = await begun('child', lead.run_id)
    const to = ['--to', `${lead.run_id},${child.run_id}`]
    const sent = await json(['run', 'message', 'send', ...to, '--subject', 'Hello', '--body', 'the body'])
    expect(sent).toEqual({ message_ids: [expect.any(String), expect.any(String)] })
    const [message_id = ''] = (sent as { message_ids: string[] }).message_ids
    const header = { message_id, sender_run_id: '', subject: 'Hello', sent_at: expect.any(String) }
    const list = ['run', 'message', 'list', lead.run_id]
    expect(await json(list)).toEqual([{ ...header, delivered_at: null, read_at: null }])
    expect((await baton(list)).stdout).toMatch(new RegExp(`^${message_id} +accepted .* a person +Hello$`, 'm'))
    expect(await json(['run', 'message', 'read', message_id])).toEqual({
      ...header,
      body: 'the body',
      delivered_at: null,
      read_at: expect.any(String),
    })
    expect(await json([...list, '--unread'])).toEqual([])
    for (const spelled of ['mark-delivered', 'delivered'])
      expect(await json(['task', 'message', spelled, message_id])).toEqual({ message_id, delivered: true })
    expect(await json([...list, '--since', '1h', '-L', '1'])).toEqual([
      { ...header, delivered_at: expect.any(String), read_at: expect.any(String) },
    ])
  })

  test('a body comes from stdin, and one that is too long is refused before it is sent', async () => {
    const lead = await begun('lead')
    const send = ['run', 'message', 'send', '--to', lead.run_id, '--subject', 's', '--body', '-']
    expect((await baton(send, {}, 'from stdin\n')).code).toBe(0)
    expect((await baton(send, {}, 'x'.repeat(131_073))).code).toBe(2)
    const [header] = await house.client.messages.list({ params: { run_id: lead.run_id } })
    const message = await house.client.messages.read({ params: { message_id: header?.message_id ?? '' } })
    expect(message.body).toBe('from stdin\n')
  })

  test('inside a run they are sent in its own name, to its own tree alone', async () => {
    const lead = await begun('lead')
    const child = await begun('child', lead.run_id)
    const stranger = await begun('stranger')
    const send = (to: Piece) => ['run', 'message', 'send', '--to', to.run_id, '--subject', 's', '--body', 'b']
    expect((await baton(send(lead), inside(child))).code).toBe(0)
    expect(await json(['run', 'message', 'list', lead.run_id])).toMatchObject([{ sender_run_id: child.run_id }])
    expect((await baton(send(stranger), inside(child))).code).toBe(5)
    expect((await baton([...send(lead), '--sender-run-id', lead.run_id], inside(child))).code).toBe(4)
    expect((await baton(send(child), inside(child))).code).toBe(2)
  })

  test('watched, each comes once and whole, also over a restart of the server', async () => {
    const lead = await begun('lead')
    const child = await begun('child', lead.run_id)
    const send = (subject: string) =>
      house.client.messages.send({
        body: { to: [lead.run_id], subject, body: `body of ${subject}`, sender_run_id: child.run_id },
      })
    await send('first')
    const watch = ['run', 'message', 'watch', lead.run_id, '--since-sequence', '0', '--output-format', 'ndjson']
    const watching = home.start(watch, { env: { ...env, ...inside(lead) } })
    await watching.seen('stdout', 'body of first')
    await house.restart()
    await watching.seen('stderr', 'The line broke')
    await send('second')
    await watching.seen('stdout', 'body of second')
    watching.child.kill('SIGTERM')
    const { stdout } = await watching.ended
    const [first, second] = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(first).toEqual({
      sequence: expect.any(Number),
      message_id: expect.any(String),
      sender_run_id: child.run_id,
      subject: 'first',
      body: 'body of first',
      occurred_at: expect.any(String),
    })
    expect(second.sequence).toBeGreaterThan(first.sequence)
    const later = home.start([...watch, '--since-sequence', String(first.sequence)], { env })
    await later.seen('stdout', 'body of second')
    later.child.kill('SIGINT')
    expect(await later.ended).toMatchObject({ code: 130, stdout: expect.not.stringContaining('first') })
  }, 30_000)

  const refusals: [string, string[], number, Record<string, string>?][] = [
    ['a message to nobody', ['send', '--subject', 's', '--body', 'b'], 2],
    ['a message to what is no run', ['send', '--to', 'lead', '--subject', 's', '--body', 'b'], 2],
    ['a message to a run that is not there', ['send', '--to', NOBODY, '--subject', 's', '--body', 'b'], 5],
    ['a subject that is too long', ['send', '--to', NOBODY, '--subject', 's'.repeat(1025), '--body', 'b'], 2],
    ['the messages of a run that is not there', ['list', NOBODY], 5],
    ['a limit that is none', ['list', NOBODY, '-L', '0'], 2],
    ['a message that is not there', ['read', NOBODY], 5],
    ['a message that is not there, delivered', ['mark-delivered', NOBODY], 5],
    ['watching a run that is not there', ['watch', NOBODY], 5],
    ['watching from nowhere', ['watch', NOBODY, '--since-sequence', 'x'], 2],
    ['a wrong key', ['list', NOBODY], 4, { BATON_API_KEY: WRONG_KEY }],
    ['watching where no server is', ['watch', NOBODY], 69, { BATON_SERVER: 'http://127.0.0.1:9' }],
  ]
  test.each(refusals)('%s ends with the exit code that says so', async (_, args, code, more) => {
    const ended = await baton(['run', 'message', ...args], more)
    expect(ended.code, ended.stderr).toBe(code)
    expect(ended.stderr).toMatch(/^error: /)
    expect(ended.stdout).toBe('')
  })
})

describe('the limits of a team', () => {
  test('are shown in words, changed one by one, and hold at once', async () => {
    expect((await baton(['team', 'limits'])).stdout).toMatch(/max_depth +1 +levels[\s\S]*max_tree_tokens +none/)
    const changed = await json(['team', 'limits', '--max-depth', '0', '--max-tree-tokens', '1000'])
    expect(changed).toMatchObject({ max_depth: 0, max_tree_tokens: 1000, max_children: 200, max_concurrent_runs: 50 })
    const lead = await begun('lead')
    const refused = await baton(['agent', 'run-cloud', 'x', '--parent-run-id', lead.run_id])
    expect(refused.stderr).toContain('max_depth is 0')
    expect(await json(['team', 'limits', '--max-tree-tokens', 'none'])).toMatchObject({ max_tree_tokens: null })
    for (const wrong of ['-1', 'many', '', 'none'])
      expect((await baton(['team', 'limits', `--max-depth=${wrong}`])).code, wrong).toBe(2)
    const low = await baton(['team', 'limits', '--max-depth=-3'])
    expect(low.stderr).toContain('--max-depth "-3" is not valid: too small: expected number to be >=0.')
    expect((await baton(['team', 'limits', '--max-depth', '9'], inside(lead))).code).toBe(4)
    expect(await json(['team', 'limits'])).toMatchObject({ max_depth: 0 })
  })
})

describe('what a harness says from inside its sandbox', () => {
  test('a pull request and a reference become artifacts of the run', async () => {
    const piece = await begun('lead')
    const url = 'https://example.com/pull/7'
    const support = ['harness-support', '--run-id', piece.run_id]
    const pull = [...support, 'report-artifact', 'pull-request', '--url', url, '--branch', 'fix']
    expect(await json(pull, inside(piece))).toEqual({ artifact_uid: expect.any(String) })
    const reference = ['harness-support', 'report-external-reference', '--url', url, '--reference-type', 'issue']
    const metadata = ['--title', 'Seven', '--metadata', '{"number": 7}']
    expect((await baton([...reference, ...metadata], inside(piece))).code).toBe(0)
    expect((await treeOf(piece.run_id)).artifacts).toMatchObject([
      { artifact_type: 'PULL_REQUEST', data: { url, branch: 'fix' } },
      {
        artifact_type: 'EXTERNAL_REFERENCE',
        data: { reference_type: 'issue', title: 'Seven', metadata: { number: 7 } },
      },
    ])
    expect((await baton(['run', 'tree', piece.run_id])).stdout).toContain(`PULL_REQUEST  ${url}`)
    expect((await baton([...reference, '--metadata', '[7]'], inside(piece))).code).toBe(2)
    expect((await baton([...reference, '--url', 'javascript:1'], inside(piece))).code).toBe(2)
  })

  test('a task that is finished as a failure makes the run fail when its turn ends', async () => {
    const piece = await begun('lead')
    const finish = ['harness-support', 'finish-task', '--status']
    expect((await baton([...finish, 'failure', '--summary', 'No network.'], inside(piece))).code).toBe(0)
    expect(await stateOf(piece.run_id)).toBe('INPROGRESS')
    await piece.finish()
    const run = await house.client.runs.get({ params: { run_id: piece.run_id } })
    expect(run).toMatchObject({ state: 'FAILED', status_message: { message: 'No network.' } })
    expect((await baton([...finish, 'maybe', '--summary', 'x'], inside(piece))).code).toBe(2)
  })

  test('a shutdown with an error ends the execution at once, whoever is gone; a clean one leaves the end to the runner', async () => {
    const report = ['harness-support', 'report-shutdown']
    const clean = await begun('clean')
    expect((await baton(report, inside(clean))).code).toBe(0)
    await clean.finish()
    expect(await stateOf(clean.run_id)).toBe('SUCCEEDED')
    const broken = await begun('broken')
    expect((await baton([...report, '--error-category', 'crash'], inside(broken))).code).toBe(2)
    const error = ['--error-category', 'crash', '--error-message', 'Out of memory.']
    expect((await baton([...report, ...error], inside(broken))).code).toBe(0)
    const run = await house.client.runs.get({ params: { run_id: broken.run_id } })
    expect(run).toMatchObject({ state: 'ERROR', status_message: { message: 'crash: Out of memory.' } })
    await expect(broken.finish()).rejects.toMatchObject({ code: 'conflict', retryable: false })
  })

  test('ping knows the run; no other run and no person speaks for it', async () => {
    const piece = await begun('lead')
    const other = await begun('other')
    const ping = ['harness-support', 'ping']
    expect(await json(ping, inside(piece))).toEqual({ run_id: piece.run_id, ok: true })
    expect((await baton(ping)).code).toBe(2)
    expect((await baton([...ping, '--run-id', piece.run_id])).code).toBe(4)
    const finish = ['harness-support', 'finish-task', '--status', 'success', '--summary', 'x']
    expect((await baton([...finish, '--run-id', other.run_id], inside(piece))).code).toBe(4)
    expect((await baton([...finish, '--run-id', piece.run_id])).code).toBe(4)
  })

  test('a notice to the user is kept with the run and seen by whoever gets or watches it', async () => {
    const piece = await begun('lead')
    const watching = home.start(['run', 'watch', piece.run_id], { env })
    await watching.seen('stdout', 'lead')
    const notify = ['harness-support', 'notify-user', '--message']
    for (const words of ['**Half** way.', '**Half** way.', 'Nearly done.'])
      expect((await baton([...notify, words], inside(piece))).code).toBe(0)
    await watching.seen('stdout', 'Nearly done.')
    watching.child.kill('SIGINT')
    expect((await watching.ended).stdout.match(/Half/g)).toHaveLength(1)
    const got = await baton(['run', 'get', piece.run_id])
    expect(got.stdout).toMatch(/Notice[\s\S]*\*\*Half\*\* way\.[\s\S]*Notice[\s\S]*Nearly done\./)
    const { notices } = await house.client.runs.get({ params: { run_id: piece.run_id } })
    expect(notices.map(({ message }) => message)).toEqual(['**Half** way.', 'Nearly done.'])
    const told = (await house.client.events.list({ query: { run_ids: [piece.run_id] } })).filter(
      ({ event_type }) => event_type === 'user_notified',
    )
    expect(told.map(({ ref_id }) => ref_id)).toEqual(notices.map(({ notice_id }) => notice_id))
  })

  test('the same artifact is one, however often it is reported', async () => {
    const piece = await begun('lead')
    const client = connect({ server: house.url, token: inside(piece).WARP_API_KEY ?? '' })
    const report = (branch: string) =>
      client.harnessSupport.reportArtifact({
        body: { artifact_type: 'PULL_REQUEST', data: { url: 'https://example.com/1', branch } },
      })
    const [first, second, other] = await Promise.all([report('a'), report('a'), report('b')])
    expect(second).toEqual(first)
    expect(other).not.toEqual(first)
    expect(await report('a')).toEqual(first)
    expect((await treeOf(piece.run_id)).artifacts).toHaveLength(2)
  })

  test('what it starts is a child of its own run, and it cancels that, but not what it stands beside', async () => {
    const piece = await begun('lead')
    const other = await begun('other')
    const made = await json(['agent', 'run-cloud', 'look', '--harness', 'claude'], inside(piece))
    const child = await worker.next()
    expect(made).toMatchObject({ run_id: child.run_id })
    const run = await house.client.runs.get({ params: { run_id: child.run_id } })
    expect(run).toMatchObject({ parent_run_id: piece.run_id, source: 'ORCHESTRATION' })
    expect((await baton(['run', 'cancel', other.run_id], inside(piece))).code).toBe(5)
    expect((await baton(['run', 'cancel', child.run_id], inside(piece))).code).toBe(0)
    await until('the child is cancelled', async () => (await stateOf(child.run_id)) === 'CANCELLED')
    expect(await stateOf(other.run_id)).toBe('INPROGRESS')
  })
})

test('a real run speaks to its parent and of its own work, with nothing but what it finds around it', async () => {
  // PostgreSQL of root runs as another user, which has to pass through.
  await chmod(home.folder, 0o711)
  const server = await startUp(home)
  try {
    const create = async (script: string, ...more: string[]) => {
      const made = await home.run(['agent', 'run-cloud', script, '--harness', 'command', '--jq', '.run_id', ...more])
      expect(made.code, made.stderr).toBe(0)
      return made.stdout.trim()
    }
    const parent = await create('sleep 60')
    const script = [
      'set -e',
      '"$OZ_CLI" harness-support ping',
      '"$OZ_CLI" run message send --to "$OZ_PARENT_RUN_ID" --subject result --body "from $OZ_HARNESS"',
      '"$OZ_CLI" harness-support report-artifact pull-request --url https://example.com/pull/1 --branch fix',
    ].join('\n')
    const child = await create(script, '--parent-run-id', parent, '--wait')
    const listed = await home.run(['run', 'message', 'list', parent, '--json'])
    expect(JSON.parse(listed.stdout)).toMatchObject([{ sender_run_id: child, subject: 'result' }])
    const tree = await home.run(['run', 'tree', parent])
    expect(tree.stdout).toMatch(/1 message to be delivered[\s\S]*PULL_REQUEST {2}https:\/\/example\.com\/pull\/1/)
    expect((await home.run(['run', 'cancel', parent, '--tree'])).stdout).toContain('Cancelling 1 run:')
  } finally {
    await server.stop()
  }
}, 60_000)
