/** The house rules that a machine can judge. A failure says what to write instead. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = resolve(import.meta.dirname, '..')

/** The one-way rule: what each room may import of ours, beside itself. */
const ROOMS: Record<string, string[]> = {
  contract: [],
  sdk: ['contract'],
  db: [],
  engine: ['contract', 'db'],
  server: ['contract', 'engine', 'db'],
  worker: ['contract', 'sdk'],
  runner: ['contract', 'sdk'],
  agent: ['contract'],
  web: ['contract', 'sdk'],
  cli: ['contract', 'sdk'],
}

const FILE_LINES_MAX = 500
const LINE_COLUMNS_MAX = 120

/** Words that say nothing, and what to write instead. They are looked for in file and exported names. */
const EMPTY_NAMES: Record<string, string> = {
  manager: 'the noun that it keeps, or the verb that it does',
  service: 'the noun that it keeps',
  helper: 'what the function answers',
  util: 'what the function answers',
  utils: 'what the functions answer',
  common: 'what is shared, by its own noun',
  misc: 'one file per noun',
  impl: 'the name of the thing itself',
  perform: 'the verb itself',
}

/** Words of the glossary's "avoid" column, and the word that we use. */
const AVOIDED = { job: 'run', attempt: 'execution', iteration: 'execution' }

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: ROOT,
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => /^(src|test|bench|scripts|bin)\/.*\.(ts|tsx|js)$/.test(path))
const generated = (path: string): boolean => path === 'src/db/tables.ts'
const texts = new Map(tracked.map((path) => [path, readFileSync(join(ROOT, path), 'utf8')]))
const sources = [...texts].filter(([path]) => path.startsWith('src/'))

const roomOf = (path: string): string => path.split('/')[1] ?? ''
const importsOf = (text: string): string[] =>
  [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) => match[1] ?? '')

/** The CLI starts the other rooms, lazily: by `await import(…)` and by type alone. */
const lazily = (text: string, target: string): boolean =>
  [...text.matchAll(/^import\s+(type\s+)?[^'"]*'(\.[^']+)'/gm)].every(
    ([, type, from]) => from !== target || type !== undefined,
  )

test('every import follows the one-way rule', () => {
  const wrong: string[] = []
  for (const [path, text] of sources) {
    const room = roomOf(path)
    for (const from of importsOf(text)) {
      const target = relative(ROOT, resolve(ROOT, dirname(path), from))
      if (!target.startsWith('src/')) continue
      const other = roomOf(target)
      if (other === room || ROOMS[room]?.includes(other)) continue
      if (room === 'cli' && lazily(text, from)) continue
      wrong.push(`${path} imports ${target}: ${room} may import ${ROOMS[room]?.join(', ') || 'nothing of ours'}`)
    }
  }
  expect(wrong).toEqual([])
})

test('every folder of src is a known room', () => {
  expect([...new Set(sources.map(([path]) => roomOf(path)))].filter((room) => !(room in ROOMS))).toEqual([])
})

test('the browser and the contract never see Node', () => {
  const rooms = new Set(['contract', 'sdk', 'web'])
  const wrong = sources
    .filter(([path, text]) => rooms.has(roomOf(path)) && /from 'node:/.test(text))
    .map(([path]) => path)
  expect(wrong.filter((path) => !path.endsWith('.test.ts'))).toEqual([])
})

test('the engine never sees HTTP', () => {
  const wrong = sources.filter(
    ([path, text]) => roomOf(path) === 'engine' && /from '(hono|@hono|ws|node:http)/.test(text),
  )
  expect(wrong.map(([path]) => path)).toEqual([])
})

test('worker and runner never see the database', () => {
  const rooms = new Set(['worker', 'runner', 'agent'])
  const wrong = sources.filter(([path, text]) => rooms.has(roomOf(path)) && /from '(pg|kysely)'/.test(text))
  expect(wrong.map(([path]) => path)).toEqual([])
})

test('only a main.ts reads the environment, catches signals or exits', () => {
  const wrong = sources.filter(
    ([path, text]) =>
      !/\/main\.tsx?$/.test(path) && !path.endsWith('.test.ts') && /process\.(env\b|exit\(|on\('SIG)/.test(text),
  )
  expect(wrong.map(([path]) => `${path}: take what it needs as an argument`)).toEqual([])
})

test(`files have at most ${FILE_LINES_MAX} lines, lines at most ${LINE_COLUMNS_MAX} columns`, () => {
  const wrong: string[] = []
  for (const [path, text] of texts) {
    if (generated(path)) continue
    const lines = text.split('\n')
    if (lines.length > FILE_LINES_MAX)
      wrong.push(`${path} has ${lines.length} lines: a concept in it wants a file of its own`)
    lines.forEach((line, at) => {
      if (line.length > LINE_COLUMNS_MAX && !/https?:\/\/|^\s*['"`/]|(['"`])(?:(?!\1).){60,}\1/.test(line)) {
        wrong.push(`${path}:${at + 1} has ${line.length} columns`)
      }
    })
  }
  expect(wrong).toEqual([])
})

test('no name says nothing', () => {
  const wrong: string[] = []
  for (const [path, text] of sources) {
    if (generated(path)) continue
    const names = [...text.matchAll(/^export (?:async )?(?:function|const|type|class) (\w+)/gm)].map(
      (match) => match[1] ?? '',
    )
    for (const name of [
      path
        .replace(/\.\w+$/, '')
        .split('/')
        .at(-1) ?? '',
      ...names,
    ]) {
      for (const word of name.split(/(?=[A-Z])|[-_]/).map((part) => part.toLowerCase())) {
        if (word in EMPTY_NAMES) wrong.push(`${path}: ${name}: write ${EMPTY_NAMES[word]}`)
        if (word in AVOIDED) wrong.push(`${path}: ${name}: we say ${AVOIDED[word as keyof typeof AVOIDED]}`)
      }
    }
  }
  expect(wrong).toEqual([])
})

test('nothing is left half done', () => {
  const marks = new RegExp(
    `\\b(${['TO', 'FIX'].map((head) => `${head}${head === 'TO' ? 'DO' : 'ME'}`).join('|')}|XXX|HACK)\\b|\\b(it|test|describe)\\.(only|todo)\\(`,
  )
  const wrong = [...texts]
    .filter(([path, text]) => path !== 'test/tidy.test.ts' && marks.test(text))
    .map(([path]) => path)
  expect(wrong).toEqual([])
})

test('a switch has no default, so that the compiler finds the missing case', () => {
  const wrong = sources
    .filter(([path, text]) => !path.startsWith('src/web/') && /^\s+default:(?! z\.)/m.test(text))
    .map(([path]) => path)
  expect(wrong).toEqual([])
})

test('AGENTS.md stays under 80 lines and decisions under 40', () => {
  const lines = (path: string): number => readFileSync(join(ROOT, path), 'utf8').split('\n').length
  expect(lines('AGENTS.md')).toBeLessThan(80)
  const decisions = execFileSync(
    'git',
    ['ls-files', '--cached', '--others', '--exclude-standard', 'docs/decisions', 'docs/refused'],
    { cwd: ROOT, encoding: 'utf8' },
  )
  expect(
    decisions
      .trim()
      .split('\n')
      .filter((path) => path && lines(path) > 41),
  ).toEqual([])
})
