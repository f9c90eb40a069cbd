import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ENTRY_BYTES_MAX, type EntryBody, makeRedactor } from '../src/contract/index.ts'
import { connect } from '../src/runner/client.ts'
import { makeDeltas } from '../src/runner/deltas.ts'
import { bodyBytes, cutMiddle, fitEntry, TEXT_LENGTH_MAX } from '../src/runner/fit.ts'
import { openJournal } from '../src/runner/journal.ts'
import { makeTranscript } from '../src/runner/transcript.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'baton-journal-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const text = (words: string): EntryBody => ({ kind: 'text', text: words })
const open = (entries_held = 0) => openJournal({ path: join(folder, 'deep', 'journal.ndjson'), entries_held })

describe('the journal', () => {
  test('numbers entries densely from 1 and reads them back from any number', () => {
    const journal = open()
    for (let at = 1; at <= 1000; at++) expect(journal.append(text(`entry ${at} ✓`)).number).toBe(at)
    expect(journal.highest).toBe(1000)
    expect(journal.read(0, 3, 1e6).map((e) => e.number)).toEqual([1, 2, 3])
    expect(journal.read(997, 500, 1e6).map((e) => e.body)).toEqual([
      text('entry 998 ✓'),
      text('entry 999 ✓'),
      text('entry 1000 ✓'),
    ])
    expect(journal.read(10, 2, 1e6).map((e) => e.number)).toEqual([11, 12])
    expect(journal.read(1000, 500, 1e6)).toEqual([])
    journal.close()
  })

  test('gives at most the bytes asked for, but always one entry', () => {
    const journal = open()
    for (let at = 0; at < 10; at++) journal.append(text('x'.repeat(100_000)))
    expect(journal.read(0, 500, 250_000)).toHaveLength(2)
    expect(journal.read(0, 500, 10)).toHaveLength(1)
    journal.close()
  })

  test('goes on with the numbering when it is opened again, and drops a line that a crash tore', () => {
    const first = open()
    first.append(text('one'))
    first.append(text('two'))
    first.close()
    appendFileSync(join(folder, 'deep', 'journal.ndjson'), '{"number":3,"at":"2026-01-01T00:00:00Z","body":{"kind":"te')
    const again = open(1)
    expect(again.resumed).toBe(true)
    expect(again.highest).toBe(2)
    expect(again.append(text('three')).number).toBe(3)
    expect(again.read(1, 500, 1e6).map((e) => e.body)).toEqual([text('two'), text('three')])
    again.close()
    expect(
      readFileSync(join(folder, 'deep', 'journal.ndjson'), 'utf8')
        .trim()
        .split('\n'),
    ).toHaveLength(3)
  })

  test('goes on after what the server holds when the file itself was lost', () => {
    const journal = open(7)
    expect(journal.append(text('eight')).number).toBe(8)
    expect(journal.read(7, 500, 1e6).map((e) => e.number)).toEqual([8])
    expect(journal.read(0, 500, 1e6).map((e) => e.number)).toEqual([8])
    journal.close()
  })
})

describe('an entry that is too large', () => {
  test('keeps head and tail of tool output and says how many bytes are missing', () => {
    const fitted = fitEntry(
      { kind: 'tool_result', call_id: 'c', status: 'completed', output: `begin${'é'.repeat(50_000)}end` },
      1000,
    )
    if (fitted.kind !== 'tool_result') throw new Error('kind changed')
    expect(fitted.output).toMatch(/^begin.*\n… 99\d{3} bytes left out …\n.*end$/s)
    expect(fitted.output).not.toContain('\u{fffd}')
    const missing = Number(/… (\d+) bytes/.exec(fitted.output)?.[1])
    const kept = Buffer.byteLength(fitted.output.replace(/\n… \d+ bytes left out …\n/, ''))
    expect(missing + kept).toBe(Buffer.byteLength(`begin${'é'.repeat(50_000)}end`))
  })

  test('is cut to the limit whatever its kind', () => {
    const huge = 'y'.repeat(3 * ENTRY_BYTES_MAX)
    const bodies: EntryBody[] = [
      text(huge),
      { kind: 'unknown', raw: { deep: [huge, { deeper: huge }] } },
      { kind: 'prompt', text: '\u0001'.repeat(ENTRY_BYTES_MAX) },
    ]
    for (const body of bodies) expect(bodyBytes(fitEntry(body, 1000))).toBeLessThanOrEqual(ENTRY_BYTES_MAX)
    const many = fitEntry({ kind: 'unknown', raw: Array.from({ length: 200_000 }, (_, at) => `item ${at}`) }, 1000)
    expect(many).toMatchObject({ kind: 'gap' })
  })

  test('never splits a character, and leaves what fits alone', () => {
    expect(cutMiddle('short', 10)).toBe('short')
    expect(cutMiddle('🙂'.repeat(100), 50)).not.toContain('\u{fffd}')
  })

  test('loses what PostgreSQL cannot keep: NUL and half characters', () => {
    expect(fitEntry(text('a\0b\ud800c'), 1000)).toEqual(text('a\u{fffd}b\u{fffd}c'))
  })
})

test('a text that goes on in the next entry keeps nothing of a secret that began in it', () => {
  const url = 'postgres://app:hunter2hunter2@db/app'
  const redactor = makeRedactor(['postgres', 'p@ssword', url])
  const journal = open()
  const signal = AbortSignal.abort()
  const client = connect({ server: 'http://127.0.0.1:9' })
  const deltas = makeDeltas({ client, execution_id: 'x', redactor, next: () => 1, onDelta: undefined, signal })
  const unused = { lease_ms: 0, heartbeat_ms: 0, cancel_grace_ms: 0, setup_command_ms: 0, clone_ms: 0 }
  const limits = { ...unused, transcript_bytes_max: 1e8, tool_output_bytes_max: 1e6 }
  const options = { journal, redactor, limits, deltas, onEntry: () => {}, onLimit: () => {} }
  const long = 'a'.repeat(TEXT_LENGTH_MAX)
  for (let at = 1; at < url.length; at++) {
    const before = journal.highest
    const transcript = makeTranscript(options)
    transcript.entry(text(`${long}${url.slice(0, at)}`))
    transcript.entry(text(`${url.slice(at)} there`))
    transcript.flush()
    const said = journal.read(before, 10, 1e8).map(({ body }) => (body.kind === 'text' ? body.text : ''))
    expect(said.join('')).toBe(`${long}••• there`)
  }
  journal.close()
})
