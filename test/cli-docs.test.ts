import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { COMMANDS } from '../src/cli/commands.ts'
import { EXIT } from '../src/cli/exits.ts'
import { ENVIRONMENT } from '../src/cli/settings.ts'
import { profiles } from '../src/runner/harnesses/registry.ts'

const read = (name: string) => readFile(new URL(`../docs/${name}`, import.meta.url), 'utf8')

test('every command, exit code and variable is in docs/cli.md', async () => {
  const text = await read('cli.md')
  const wanted = [
    ...COMMANDS.filter(({ hidden }) => !hidden).map(({ path }) => `| \`baton ${path}\` |`),
    ...Object.values(EXIT).map((code) => `| ${code} |`),
    ...Object.values(ENVIRONMENT).flatMap((names) => names.map((name) => `\`${name}\``)),
  ]
  expect(wanted.filter((words) => !text.includes(words))).toEqual([])
})

test('every harness and its login is in docs/harnesses.md', async () => {
  const text = await read('harnesses.md')
  const wanted = profiles.flatMap(({ name, packages }) => [
    `| \`${name}\``,
    ...packages.map((spec) => `\`${spec.slice(0, spec.lastIndexOf('@'))}\``),
  ])
  expect(wanted.filter((words) => !text.includes(words))).toEqual([])
})
