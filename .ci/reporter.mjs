/**
 * Reporter of vitest: writes, into the file that BATON_TEST_REPORT names, what each file of tests came to. Unlike
 * vitest's own JSON it says of errors that nobody caught in which file they arose, so that this file fails, and not a
 * whole suite without a word why.
 *   [{ name: string | null, ok: boolean, errors: string[], tests: [{ name, state, error: string | null }] }]
 * `name` is null for errors of no file.
 */
import { writeFileSync } from 'node:fs'

const said = (errors) => errors.map((error) => error.stack ?? error.message ?? String(error))

function fileOf(module, unhandled) {
  const uncaught = unhandled.filter((error) => error.VITEST_TEST_PATH === module.moduleId)
  const suites = [...module.children.allSuites()].flatMap((suite) => suite.errors())
  return {
    name: module.moduleId,
    ok: module.state() !== 'failed' && uncaught.length === 0,
    errors: said([...module.errors(), ...suites, ...uncaught]),
    tests: [...module.children.allTests()].map((test) => ({
      name: test.fullName,
      state: test.result().state,
      error: said(test.result().errors ?? [])[0] ?? null,
    })),
  }
}

export default class Reporter {
  onTestRunEnd(modules, unhandled) {
    const files = modules.map((module) => fileOf(module, unhandled))
    const names = new Set(files.map(({ name }) => name))
    const stray = said(unhandled.filter((error) => !names.has(error.VITEST_TEST_PATH)))
    if (stray.length > 0) files.push({ name: null, ok: false, errors: stray, tests: [] })
    writeFileSync(process.env.BATON_TEST_REPORT, JSON.stringify(files))
  }
}
