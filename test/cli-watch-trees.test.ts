/** Watching a tree through the built command line and a real server: in a pipe, for programs, on terminals. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Home, makeHome } from './cli/baton.ts'
import { ENTRY } from './house/baton.ts'
import { type House, startHouse } from './house/house.ts'
import { until } from './house/processes.ts'
import { rowsOf } from './house/terminal.ts'
import type { Piece, ScriptedWorker } from './house/worker.ts'

const TERMINAL_ROWS = 30

let home: Home
let house: House
let worker: ScriptedWorker
let env: Record<string, string>

beforeAll(async () => {
  home = await makeHome()
  house = await startHouse({ max_concurrent_runs: 50 })
  worker = await house.worker({ capacity: 50 })
  env = { BATON_SERVER: house.url, BATON_API_KEY: house.api_key }
})
afterAll(async () => {
  await house?.close()
  await home?.remove()
})

/** A run at work in the scripted worker's hands. */
async function begun(title: string, parent_run_id?: string): Promise<Piece> {
  const config = { name: title, harness: { type: 'claude' } }
  await house.client.runs.create({
    body: { prompt: `do ${title}`, title, config, ...(parent_run_id === undefined ? {} : { parent_run_id }) },
  })
  const piece = await worker.next()
  piece.claim()
  await piece.start()
  return piece
}

/**
 * A parent, watched; a child starts, writes to it and ends; then the parent does. An earlier child shows that the
 * watcher hears what happens from now on.
 */
async function played(lead: Piece, seen: (text: string, id: string) => Promise<void>): Promise<void> {
  await seen('lead', lead.run_id)
  const early = await begun('early', lead.run_id)
  await seen('early', early.run_id)
  await early.finish()
  const child = await begun('scout', lead.run_id)
  await seen('scout', child.run_id)
  await child.runner.messages.send({ body: { to: [lead.run_id], subject: 'result', body: 'three things' } })
  await child.append({ kind: 'text', text: 'All told.' })
  await child.finish()
  await seen('All told.', 'run_succeeded')
  const inbox = await lead.runner.executions.inbox({ params: { execution_id: lead.execution_id } })
  await lead.runner.executions.delivered({ params: { execution_id: lead.execution_id }, body: inbox })
  await lead.finish()
}

test('in a pipe each event is a line, and the whole tree comes last', async () => {
  const lead = await begun('lead')
  const watching = home.start(['run', 'watch', lead.run_id], { env })
  await played(lead, (text) => watching.seen('stdout', text))
  const { code, stdout } = await watching.ended
  expect(code).toBe(0)
  const lines = stdout.split('\n')
  expect(lines.filter((line) => /^STARTED scout \(claude\)/.test(line))).toHaveLength(1)
  expect(lines.filter((line) => line === 'INPROGRESS scout')).toHaveLength(1)
  expect(lines.filter((line) => line === 'MESSAGE for lead')).toHaveLength(1)
  expect(lines.filter((line) => /^SUCCEEDED scout in .*: All told\.$/.test(line))).toHaveLength(1)
  expect(stdout).toMatch(/^SUCCEEDED in [\s\S]*^└─ scout +SUCCEEDED[\s\S]*3 runs: 3 succeeded/m)
})

test('for programs the tree stands at both ends, with the events of the children between', async () => {
  const lead = await begun('lead')
  const watching = home.start(['run', 'watch', lead.run_id, '-o', 'ndjson'], { env })
  await played(lead, (_, id) => watching.seen('stdout', id))
  const records = (await watching.ended).stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  const trees = records.filter((record) => record.type === 'tree')
  expect(trees.at(-1).tree.counts).toEqual({ SUCCEEDED: 3 })
  const [, scout] = trees.at(-1).tree.nodes.filter((node: { depth: number }) => node.depth === 1)
  const events = records.filter(({ type, event }) => type === 'event' && event.run_id === scout.run_id)
  expect(events.map(({ event }) => event.event_type)).toEqual([
    'run_queued',
    'run_in_progress',
    'run_session_linked',
    'run_succeeded',
  ])
})

test.skipIf(!existsSync('/usr/bin/script'))(
  'on a terminal the tree stands below what the run says, drawn anew at most four times a second',
  async () => {
    const lead = await begun('lead')
    const terminal = openTerminal(['run', 'watch', lead.run_id])
    await lead.append({ kind: 'text', text: 'I lead.' })
    const began = performance.now()
    await played(lead, terminal.seen)
    const screen = (await terminal.ended).replace(/\x1b\[[\d;]*[A-Za-z]/g, '')
    const seconds = (performance.now() - began) / 1000
    expect(screen).toContain('└─ scout')
    expect(screen).toContain('I lead.')
    const drawn = screen.match(/⠋|⠙|⠹|⠸|⠼|⠴|⠦|⠧/g)?.length ?? 0
    expect(drawn).toBeGreaterThan(0)
    expect(drawn).toBeLessThanOrEqual(4 * seconds + 4)
  },
  30_000,
)

test.skipIf(!existsSync('/usr/bin/script')).each([80, 40])(
  'on a terminal of %i columns no run of the tree takes two rows, and nothing of what moved is left behind',
  async (columns) => {
    const lead = await begun('lead')
    const terminal = openTerminal(['run', 'watch', lead.run_id], columns)
    await terminal.seen('lead')
    const scout = await begun('a-scout-of-a-name-that-takes-more-than-a-column', lead.run_id)
    await terminal.seen('a-sc')
    await scout.append({ kind: 'text', text: 'So many words that they fill a whole row. '.repeat(3) })
    await scout.runner.messages.send({ body: { to: [lead.run_id], subject: 'result', body: 'three things' } })
    await begun('b', lead.run_id).then((other) => other.finish())
    await terminal.seen('├─')
    await lead.append({ kind: 'text', text: 'I lead.' })
    await terminal.seen('I lead.')
    await scout.finish()
    const inbox = await lead.runner.executions.inbox({ params: { execution_id: lead.execution_id } })
    await lead.runner.executions.delivered({ params: { execution_id: lead.execution_id }, body: inbox })
    await lead.finish()
    const written = await terminal.ended
    expect(written).toContain('\x1b[2m└─ \x1b[0m')
    const rows = rowsOf(written, { columns, rows: TERMINAL_ROWS })
    const texts = rows.map(({ text }) => text)
    expect(texts.join('\n')).not.toMatch(/[⠋⠙⠹⠸⠼⠴⠦⠧]/)
    const table = rows.filter(({ text }) => /^RUN |^lead |^[├└]─ /.test(text))
    expect(table.map(({ text }) => text.slice(0, 7).trim())).toEqual(['RUN', 'lead', '├─ a-sc', '└─ b'])
    for (const row of table) expect(row).toMatchObject({ wraps: false, coloured: false })
    expect(texts.filter((text) => text.startsWith('3 runs: 3 succeeded'))).toHaveLength(1)
  },
  30_000,
)

function openTerminal(args: string[], columns = 100) {
  const command = [process.execPath, ENTRY, ...args].map((word) => `'${word}'`).join(' ')
  const sized = `stty rows ${TERMINAL_ROWS} cols ${columns}; ${command}`
  const child = spawn('/usr/bin/script', ['-qec', sized, '/dev/null'], {
    env: { ...home.env, ...env, TERM: 'xterm' },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let screen = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    screen += part
  })
  const ended = new Promise<string>((resolve) => child.once('close', () => resolve(screen)))
  const seen = async (text: string) => void (await until(`"${text}" on the terminal`, () => screen.includes(text)))
  return { seen, ended }
}
