/**
 * What vitest's reports of one suite say together, of several tries in order: of a file counts the last.
 *   node report.mjs files REPORT…     the files that failed, one a line
 *   node report.mjs counts REPORT…    tests that passed and that failed, with a space between
 *   node report.mjs failures REPORT…  what failed at last, and what only before, each with what it said first
 */
import { readFileSync } from 'node:fs'

const [what, ...paths] = process.argv.slice(2)

/** A try that left no report changes nothing. */
const tries = paths.flatMap((path) => {
  try {
    return [JSON.parse(readFileSync(path, 'utf8')).testResults]
  } catch {
    return []
  }
})
const last = new Map(tries.flat().map((file) => [file.name, file]))

/** Characters of what one failure said. */
const SAID_MAX = 800

const isBad = ({ status }) => status === 'failed'
const badTests = (file) => file.assertionResults.filter(isBad)

function tell(word, file) {
  const bad = badTests(file)
  if (bad.length === 0) console.log(`${word} ${file.name}\n  ${file.message.slice(0, SAID_MAX)}`)
  for (const { fullName, failureMessages } of bad)
    console.log(`${word} ${file.name} > ${fullName}\n  ${(failureMessages[0] ?? '').slice(0, SAID_MAX)}`)
}

if (what === 'files') {
  for (const file of last.values()) if (isBad(file)) console.log(file.name)
} else if (what === 'counts') {
  const tests = [...last.values()].flatMap((file) => file.assertionResults)
  // A file that could not even be read has no tests, and is a failure all the same.
  const unread = [...last.values()].filter((file) => isBad(file) && badTests(file).length === 0)
  console.log(tests.filter(({ status }) => status === 'passed').length, tests.filter(isBad).length + unread.length)
} else if (what === 'failures') {
  for (const file of tries.flat()) if (isBad(file) && !isBad(last.get(file.name))) tell('RETRIED', file)
  for (const file of last.values()) if (isBad(file)) tell('FAILED', file)
} else {
  console.error(`report.mjs: ${what} is none of files, counts and failures`)
  process.exit(2)
}
