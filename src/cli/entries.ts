/** Transcript entries as lines for a person, or as bare text. */
import type { Entry, EntryBody, NewEntry } from '../contract/index.ts'
import { paint } from './output.ts'
import { bytes, oneLine } from './text.ts'

/** Lines of one tool's output that are shown unless all of it was asked for. */
export const OUTPUT_LINES = 12

export function entryLines(entry: NewEntry & Pick<Partial<Entry>, 'cut'>, lines_max = OUTPUT_LINES): string[] {
  const lines = bodyLines(entry.body, lines_max)
  if (entry.cut) lines.push(paint.dim(`  … cut; the whole entry is ${bytes(entry.cut.bytes)} (--full shows it)`))
  return lines
}

function bodyLines(body: EntryBody, lines_max: number): string[] {
  switch (body.kind) {
    case 'prompt':
      return body.text.split('\n').map((line) => paint.bold(`> ${line}`))
    case 'text':
      return body.text.split('\n')
    case 'thought':
      return shorten(body.text, lines_max).map((line) => paint.dim(`  ${line}`))
    case 'tool_call':
      return [`${paint.cyan('●')} ${paint.bold(oneLine(body.name))} ${oneLine(body.title)}`]
    case 'tool_result':
      return resultLines(body, lines_max)
    case 'plan':
      return body.items.map(
        (item) => `  ${{ pending: '☐', in_progress: '◐', completed: '☑' }[item.status]} ${oneLine(item.content)}`,
      )
    case 'output':
      return trimEnd(body.text)
        .split('\n')
        .map((line) => (body.stream === 'stderr' ? paint.yellow(line) : line))
    case 'system':
      return [systemLine(body.level, body.text)]
    case 'gap':
      return [paint.yellow(`  … ${bytes(body.bytes)} could not be kept: ${body.reason}`)]
    case 'unknown':
      return [
        paint.dim(`  (something this version does not know) ${oneLine(JSON.stringify(body.raw) ?? '').slice(0, 200)}`),
      ]
  }
}

function systemLine(level: 'info' | 'warning' | 'error', text: string): string {
  if (level === 'error') return paint.red(`! ${text}`)
  return level === 'warning' ? paint.yellow(`! ${text}`) : paint.dim(`· ${text}`)
}

function resultLines(body: Extract<EntryBody, { kind: 'tool_result' }>, lines_max: number): string[] {
  const lines = shorten(body.output, lines_max).map((line) => paint.dim(`  │ ${line}`))
  const changed = (body.changes ?? []).map(
    (change) => `  ${paint.green(change.old_text === null ? 'new' : 'edited')} ${oneLine(change.path)}`,
  )
  if (body.status === 'denied') return [paint.yellow('  denied'), ...lines]
  const failed = body.status === 'failed' || (body.exit_code !== undefined && body.exit_code !== 0)
  const end = failed
    ? [paint.red(`  failed${body.exit_code === undefined ? '' : ` (exit code ${body.exit_code})`}`)]
    : []
  return [...lines, ...changed, ...end]
}

/** The first lines, and how many more there are. */
function shorten(text: string, lines_max: number): string[] {
  const lines = trimEnd(text).split('\n')
  if (lines.length === 1 && lines[0] === '') return []
  if (lines.length <= lines_max) return lines
  return [...lines.slice(0, lines_max), `… ${lines.length - lines_max} more lines (--full shows them)`]
}

/** Just what was said or printed; empty for entries that only describe. */
export function bareText(body: EntryBody): string {
  switch (body.kind) {
    case 'text':
    case 'output':
      return body.text
    case 'tool_result':
      return body.output
    case 'prompt':
    case 'thought':
    case 'tool_call':
    case 'plan':
    case 'system':
    case 'gap':
    case 'unknown':
      return ''
  }
}

const trimEnd = (text: string): string => text.replace(/\n+$/, '')
