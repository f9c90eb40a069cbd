/**
 * `npm run bench [NAME…]`: measures what docs/performance.md says, prints it, and with `--write` writes it there. Figures
 * depend on the machine; the ratios in them are of things measured side by side in one run.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { resolve } from 'node:path'
import { batches } from './batches.ts'
import { dispatch } from './dispatch.ts'
import { fanout } from './fanout.ts'
import type { Figure } from './figures.ts'
import { lifecycles } from './lifecycles.ts'
import { lists } from './lists.ts'
import { messages } from './messages.ts'
import { startup } from './startup.ts'
import { streams } from './streams.ts'
import { trees } from './trees.ts'
import { waiting } from './waiting.ts'

/** How many runs `lists` has: `--runs=N`. */
const runs = Number(process.argv.find((arg) => arg.startsWith('--runs='))?.slice('--runs='.length) ?? 1_000_000)

const BENCHES = {
  startup,
  dispatch,
  lifecycles,
  streams,
  messages,
  waiting,
  fanout,
  batches,
  trees,
  lists: () => lists(runs),
}
const PAGE = resolve(import.meta.dirname, '../docs/performance.md')
const MARK = '<!-- figures: written by `npm run bench -- --write` -->'

const names = process.argv.slice(2).filter((arg) => !arg.startsWith('--'))
const unknown = names.find((name) => !(name in BENCHES))
if (unknown !== undefined) {
  console.error(`There is no benchmark ${unknown}; there are ${Object.keys(BENCHES).join(', ')}.`)
  process.exit(2)
}

const sections = new Map<string, string>()
let held = true
for (const [name, bench] of Object.entries(BENCHES)) {
  if (names.length > 0 && !names.includes(name)) continue
  const figures = await bench()
  held &&= figures.every((figure) => figure.held !== false)
  const section = render(name, figures)
  sections.set(name, section)
  console.log(section)
}
if (process.argv.includes('--write')) write(sections)
process.exit(held ? 0 : 1)

function render(name: string, figures: Figure[]): string {
  const rows = figures.map(
    (f) =>
      `| ${f.name} | ${f.value} | ${f.promise ?? ''} | ${f.held === undefined ? '' : f.held ? 'held' : '**missed**'} |`,
  )
  return `### ${name}\n\n| what | measured | promised | |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`
}

/** What was not measured now stays as it was written. */
function write(written: Map<string, string>): void {
  const [head = '', before = ''] = readFileSync(PAGE, 'utf8').split(MARK)
  const kept = new Map(
    before.split(/^(?=### )/m).map((section) => [/^### (\S+)/.exec(section)?.[1], section.trimEnd()]),
  )
  const machine = `Node ${process.version}, ${availableParallelism()} cores (${cpus()[0]?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB.`
  const all = Object.keys(BENCHES).flatMap((name) => written.get(name)?.trimEnd() ?? kept.get(name) ?? [])
  writeFileSync(PAGE, `${head}${MARK}\n\n${machine}\n\n${all.join('\n\n')}\n`)
}
