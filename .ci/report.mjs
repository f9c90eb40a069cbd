/**
 * What the reports of one suite (see reporter.mjs) say together, of several tries in order: of a file counts the last.
 *   node report.mjs files REPORT…     the files that failed, one a line
 *   node report.mjs counts REPORT…    tests that passed and that failed, with a space between
 *   node report.mjs failures REPORT…  what failed at last, and what only before, each with what it said first
 */
import { readFileSync } from 'node:fs'

const [what, ...paths] = process.argv.slice(2)

/** A try that left no report changes nothing. */
const tries = paths.flatMap((path) => {
  try {
    return [JSON.parse(readFileSync(path, 'utf8'))]
  } catch {
    return []
  }
})
const last = new Map(tries.flat().map((file) => [file.name, file]))

/** Characters of what one failure said. */
const SAID_MAX = 800

const badTests = (file) => file.tests.filter(({ state }) => state === 'failed')

function tell(word, { name, errors, ...file }) {
  const where = name ?? 'outside of every file'
  for (const error of errors) console.log(`${word} ${where}\n  ${error.slice(0, SAID_MAX)}`)
  for (const test of badTests(file)) console.log(`${word} ${where} > ${test.name}\n  ${test.error?.slice(0, SAID_MAX)}`)
}

if (what === 'files') {
  for (const { ok, name } of last.values()) if (!ok && name !== null) console.log(name)
} else if (what === 'counts') {
  const tests = [...last.values()].flatMap((file) => file.tests)
  // What failed outside of its tests, as a file that could not even be read, is a failure all the same.
  const beside = [...last.values()].filter((file) => !file.ok && badTests(file).length === 0)
  console.log(tests.filter(({ state }) => state === 'passed').length, badTests({ tests }).length + beside.length)
} else if (what === 'failures') {
  for (const file of tries.flat()) if (!file.ok && last.get(file.name).ok) tell('RETRIED', file)
  for (const file of last.values()) if (!file.ok) tell('FAILED', file)
} else {
  console.error(`report.mjs: ${what} is none of files, counts and failures`)
  process.exit(2)
}
