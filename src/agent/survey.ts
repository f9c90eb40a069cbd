/** The demo's scripted job: a short, true report about the repository, computed from what the real tools answered. */
import type { LanguageModelV4Prompt } from '@ai-sdk/provider'
import type { ScriptTurnInput } from './scripted.ts'

export const REPORT = 'BATON-REPORT.md'
const STEPS = ['Look at the files and the history', 'Read what explains the repository', `Write ${REPORT}`] as const
export const NO_KEY = 'No model key was found, so these words are scripted; the tools, files and processes are real.'

export const COUNT =
  'git ls-files 2>/dev/null | grep -q . && list="git ls-files -z" ' +
  '|| list="find . -type f -not -path ./.git/* -print0"; ' +
  '$list | tr "\\0" "\\n" | sed -n "s/.*\\.\\([A-Za-z0-9]*\\)$/\\1/p" | sort | uniq -c | sort -rn | head -8; ' +
  'echo "files: $($list | tr -dc "\\0" | wc -c)"; echo "lines: $($list | xargs -0 cat 2>/dev/null | wc -l)"'
export const LOG = 'git log --oneline -n 5 && echo "commits: $(git rev-list --count HEAD)"'

export function survey(prompt: LanguageModelV4Prompt): ScriptTurnInput {
  const asked = prompt.findLastIndex(({ role }) => role === 'user')
  const work = prompt.slice(asked + 1)
  const results = resultsOf(work)
  const spoken = work.filter(({ role }) => role === 'assistant').length
  if (spoken === 0) {
    return {
      text: `${NO_KEY} I will survey this repository and write a short report.`,
      thought: 'First the files and the history, then what explains them, then the report.',
      tools: [
        plan(0),
        { name: 'list', input: {} },
        { name: 'bash', input: { command: COUNT } },
        { name: 'bash', input: { command: LOG } },
        { name: 'search', input: { pattern: '\\b(function|def|func|fn)\\s+\\w+' } },
      ],
    }
  }
  if (spoken === 1) {
    return {
      text: `I see ${factsOf(results).files} files. Now what explains them.`,
      tools: [plan(1), ...toRead(results).map((path) => ({ name: 'read', input: { path, limit: 60 } }))],
    }
  }
  if (spoken === 2) {
    return { tools: [plan(2), { name: 'write', input: { path: REPORT, content: render(results) } }, plan(3)] }
  }
  const { files, lines, commits, functions } = factsOf(results)
  const history = commits === undefined ? 'There is no git history.' : `The history has ${commits} commits.`
  const text = `Done: ${files} files with ${lines} lines. ${history} ${functions} function definitions.`
  return { text: `${text} The report is in ${REPORT}. (Scripted words, real numbers.)` }
}

export type Result = { name: string; text: string }

export function resultsOf(work: LanguageModelV4Prompt): Result[] {
  return work.flatMap((message) =>
    message.role !== 'tool'
      ? []
      : message.content.flatMap((part) => {
          if (part.type !== 'tool-result') return []
          return [
            {
              name: part.toolName,
              text: part.output.type === 'text' || part.output.type === 'error-text' ? part.output.value : '',
            },
          ]
        }),
  )
}

function plan(done: number) {
  const status = (at: number) => (at < done ? 'completed' : at === done ? 'in_progress' : 'pending')
  return { name: 'todo', input: { items: STEPS.map((content, at) => ({ content, status: status(at) })) } }
}

function factsOf(results: Result[]) {
  const shells = results.filter(({ name }) => name === 'bash').map(({ text }) => text)
  const number = (label: string) =>
    shells.map((text) => new RegExp(`^${label}: *(\\d+)`, 'm').exec(text)?.[1]).find(Boolean)
  const found = results.find(({ name }) => name === 'search')?.text ?? ''
  const more = Number(/^\[(\d+) more matches/m.exec(found)?.[1] ?? 0)
  const functions = found.startsWith('No match')
    ? 0
    : found.split('\n').filter((line) => /^[^[].*?:\d+:/.test(line)).length + more
  return { files: number('files') ?? '0', lines: number('lines') ?? '0', commits: number('commits'), functions }
}

const PROSE = ['README.md', 'readme.md', 'README', 'package.json', 'pyproject.toml', 'Cargo.toml', 'go.mod', 'Makefile']

function toRead(results: Result[]): string[] {
  const files = (results.find(({ name }) => name === 'list')?.text ?? '')
    .split('\n')
    .filter((line) => !line.startsWith('['))
  const known = PROSE.filter((name) => files.includes(name)).slice(0, 2)
  const other = files.find((file) => /\.(ts|js|py|go|rs|java|c|rb)$/.test(file))
  return other === undefined ? known : [...known, other]
}

function render(results: Result[]): string {
  const { files, lines, commits, functions } = factsOf(results)
  const shells = results.filter(({ name }) => name === 'bash').map(({ text }) => text)
  const kinds = [...(shells[0] ?? '').matchAll(/^ *(\d+) (\w+)$/gm)].map(([, count, kind]) => `| .${kind} | ${count} |`)
  const log = (shells[1] ?? '')
    .split('\n')
    .filter((line) => /^[0-9a-f]{7,} /.test(line))
    .map((line) => `- ${line}`)
  const prose = results.find(({ name }) => name === 'read')?.text ?? ''
  const title = /^\s*\d+\t#+ +(.+)$/m.exec(prose)?.[1]
  return [
    '# A survey of this repository',
    '',
    `> ${NO_KEY}`,
    '',
    ...(title ? [`It calls itself **${title}**.`, ''] : []),
    `- ${files} files, ${lines} lines`,
    `- ${commits ?? 'no'} commits`,
    `- ${functions} function definitions`,
    '',
    ...(kinds.length > 0 ? ['| kind | files |', '| --- | --- |', ...kinds, ''] : []),
    ...(log.length > 0 ? ['The latest commits:', '', ...log, ''] : []),
  ].join('\n')
}
