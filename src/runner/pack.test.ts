import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { SESSION_BYTES_MAX, SESSION_FILES_MAX } from '../contract/index.ts'
import { packSession, type Stamps, unpackSession } from './pack.ts'

let home: string
let elsewhere: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'baton-pack-'))
  elsewhere = mkdtempSync(join(tmpdir(), 'baton-pack-elsewhere-'))
  mkdirSync(join(home, 'agent/sessions/days'), { recursive: true })
})
afterEach(() => {
  for (const folder of [home, elsewhere]) rmSync(folder, { recursive: true, force: true })
})

const FOLDERS = ['agent/sessions', 'agent/state.db']
const nothing: Stamps = new Map()
const write = (path: string, text = path) => writeFileSync(join(home, path), text)
const read = (path: string) => readFileSync(join(home, path), 'utf8')
const pathsOf = async (before = nothing) => {
  const result = await packSession(home, FOLDERS, before)
  return result.found === 'session' ? [...result.packed.keys()] : result.found
}
const file = (path: string, content: string | Buffer = path) => ({
  path,
  packed: gzipSync(content).toString('base64'),
})

test('what is packed is what comes back, and nothing that lies beside the session folders', async () => {
  write('agent/sessions/days/one.jsonl')
  write('agent/state.db')
  write('agent/auth.json')
  const result = await packSession(home, FOLDERS, nothing)
  if (result.found !== 'session') throw new Error(result.found)
  const files = [...result.packed].map(([path, bytes]) => ({ path, packed: bytes.toString('base64') }))
  expect(files.map(({ path }) => path)).toEqual(['agent/sessions/days/one.jsonl', 'agent/state.db'])
  write('agent/sessions/days/later.jsonl')
  const stamps = await unpackSession(home, FOLDERS, files)
  expect(readdirSync(join(home, 'agent/sessions/days'))).toEqual(['one.jsonl'])
  expect(read('agent/sessions/days/one.jsonl')).toBe('agent/sessions/days/one.jsonl')
  expect(read('agent/auth.json')).toBe('agent/auth.json')
  expect(await pathsOf(stamps)).toBe('same')
})

test('only what changed since is packed again', async () => {
  write('agent/sessions/a')
  write('agent/sessions/b')
  const first = await packSession(home, FOLDERS, nothing)
  if (first.found !== 'session') throw new Error(first.found)
  expect(await pathsOf(first.stamps)).toBe('same')
  write('agent/sessions/b', 'more of it')
  expect(await pathsOf(first.stamps)).toEqual(['agent/sessions/b'])
})

test('symlinks and second names of other files are not followed out of the folders', async () => {
  writeFileSync(join(elsewhere, 'secret'), 'secret')
  symlinkSync(join(elsewhere, 'secret'), join(home, 'agent/sessions/link'))
  symlinkSync(elsewhere, join(home, 'agent/sessions/folder'))
  linkSync(join(elsewhere, 'secret'), join(home, 'agent/sessions/second-name'))
  write('agent/sessions/own')
  expect(await pathsOf()).toEqual(['agent/sessions/own'])
  rmSync(join(home, 'agent'), { recursive: true })
  mkdirSync(join(elsewhere, 'sessions'))
  writeFileSync(join(elsewhere, 'sessions/theirs'), 'secret')
  symlinkSync(elsewhere, join(home, 'agent'))
  expect(await pathsOf()).toBe('same')
})

test.each(['agent/auth.json', 'agent/sessions/../auth.json', '../outside', 'agent/sessionsandmore'])(
  'a kept file %s is not put back, for it is no part of the session',
  async (path) => {
    await expect(unpackSession(home, FOLDERS, [file(path)])).rejects.toThrow()
    expect(readdirSync(join(home, 'agent'))).not.toContain('auth.json')
    expect(readdirSync(elsewhere)).toEqual([])
  },
)

test('nothing is put back through a symlink', async () => {
  rmSync(join(home, 'agent'), { recursive: true })
  symlinkSync(elsewhere, join(home, 'agent'))
  await expect(unpackSession(home, FOLDERS, [file('agent/sessions/a')])).rejects.toThrow('not a folder')
  expect(readdirSync(elsewhere)).toEqual([])
})

test('what is too much is refused, in both directions', async () => {
  const bomb = file('agent/sessions/bomb', Buffer.alloc(SESSION_BYTES_MAX + 1))
  await expect(unpackSession(home, FOLDERS, [bomb])).rejects.toThrow()
  write('agent/state.db', ' '.repeat(SESSION_BYTES_MAX + 1))
  expect(await pathsOf()).toBe('too_large')
  rmSync(join(home, 'agent/state.db'))
  mkdirSync(join(home, 'agent/sessions'))
  for (let at = 0; at <= SESSION_FILES_MAX; at++) write(`agent/sessions/${at}`)
  expect(await pathsOf()).toBe('too_large')
})
