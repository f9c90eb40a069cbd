/**
 * Everything that the command line writes. Data goes to stdout, all else to stderr.
 *
 * Whatever is written for a person is neutralised here, at the last moment, so that no text of a server or an agent is
 * ever obeyed by a terminal. Our own colours travel through that as Unicode noncharacters (`paint`), which no text
 * that was meant for people contains, and become escape sequences after it.
 */
import type { Writable } from 'node:stream'
import { Fault } from '../contract/index.ts'
import { Unreachable } from '../sdk/client.ts'
import { CommandFailure, EXIT, type ExitName, exitOfFault } from './exits.ts'
import type { Jq } from './jq.ts'
import type { OutputFormat } from './settings.ts'
import { neutralise, safeJson, truncate } from './text.ts'

export type Terminal = Writable & { isTTY?: boolean; columns?: number; rows?: number }

const END = '\ufddf'
const PAINTS = {
  bold: '\ufdd0',
  dim: '\ufdd1',
  red: '\ufdd2',
  green: '\ufdd3',
  yellow: '\ufdd4',
  cyan: '\ufdd5',
} as const
const CODES: Record<string, number> = {
  '\ufdd0': 1,
  '\ufdd1': 2,
  '\ufdd2': 31,
  '\ufdd3': 32,
  '\ufdd4': 33,
  '\ufdd5': 36,
  [END]: 0,
}
const mark = (start: string) => (text: string) => start + text + END
export const paint = {
  bold: mark(PAINTS.bold),
  dim: mark(PAINTS.dim),
  red: mark(PAINTS.red),
  green: mark(PAINTS.green),
  yellow: mark(PAINTS.yellow),
  cyan: mark(PAINTS.cyan),
}

/** A sign of life appears after this long, and a spinner turns at most this often. */
const PROGRESS_AFTER_MS = 1000
const SPIN_MS = 250
const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧']

/**
 * A function is asked again each time that the spinner turns, so that times in it go on. Of several lines, a terminal
 * shows as many as it has room for, and anything else the first.
 */
export type Standing = string | (() => string)
export type Progress = { say(text: Standing): void; done(): void }
/** `status`: shown at once and on a terminal only, where lines already tell the same. */
export type ProgressKind = 'wait' | 'status'

export type OutputOptions = {
  stdout: Terminal
  stderr: Terminal
  format: OutputFormat
  colour: { stdout: boolean; stderr: boolean }
  quiet: boolean
  debug: boolean
  jq: Jq | null
}

export type Output = {
  format: OutputFormat
  /** json or ndjson, or a jq filter. */
  machine: boolean
  /** Columns of the terminal; undefined where stdout is none. */
  width: number | undefined
  /** Lines that a `status` can have on a terminal; 0 where there is none. */
  height: number
  /** Whether stdout is a terminal. */
  terminal: boolean
  /** An answer of the API: as it is for machines (`items` one per line as ndjson), as lines for people. */
  show(body: unknown, human: () => string[], items?: () => unknown[]): Promise<void>
  /** One record of a stream: a line of JSON for machines, lines for people. */
  record(value: unknown, human: () => string[]): Promise<void>
  line(text: string): void
  /** Text as it is; the caller has made sure that stdout is not a terminal. */
  raw(text: string): void
  note(text: string): void
  warn(text: string): void
  progress(text: Standing, kind?: ProgressKind): Progress
  fail(error: unknown): ExitName
  close(): Promise<void>
}

export function openOutput(options: OutputOptions): Output {
  const { stdout, stderr, format, jq } = options
  const spinner = makeSpinner(options)
  const write = (stream: Terminal, text: string) => {
    spinner.clear()
    stream.write(text)
  }
  const say = (text: string) => write(stderr, `${dress(text, options.colour.stderr)}\n`)
  const line = (text: string) => write(stdout, `${dress(text, options.colour.stdout)}\n`)
  const machine = jq !== null || format === 'json' || format === 'ndjson'
  const filtered = async (value: unknown): Promise<void> => {
    const text = await (jq as Jq)(value)
    if (text !== '') write(stdout, `${stdout.isTTY ? neutralise(text) : text}\n`)
  }
  return {
    format,
    machine,
    terminal: stdout.isTTY === true,
    get width() {
      return stdout.isTTY ? (stdout.columns ?? 80) : undefined
    },
    get height() {
      return stderr.isTTY ? linesOf(stderr) : 0
    },
    async show(body, human, items) {
      if (jq) return filtered(body)
      if (format === 'json') return write(stdout, `${safeJson(body, 2)}\n`)
      if (format === 'ndjson') for (const item of items?.() ?? [body]) write(stdout, `${safeJson(item)}\n`)
      else for (const text of human()) line(text)
    },
    async record(value, human) {
      if (jq) return filtered(value)
      if (machine) write(stdout, `${safeJson(value)}\n`)
      else for (const text of human()) line(text)
    },
    line,
    raw: (text) => write(stdout, text),
    note: (text) => {
      if (!options.quiet) say(text)
    },
    warn: (text) => say(paint.yellow(`warning: ${text}`)),
    progress: spinner.start,
    fail: (error) => {
      const failure = describe(error)
      if (machine) write(stderr, `${safeJson(failure.problem)}\n`)
      else for (const text of failure.lines) say(text)
      if (options.debug && error instanceof Error) write(stderr, `${neutralise(stackOf(error))}\n`)
      return failure.exit
    },
    async close() {
      spinner.clear()
      spinner.stop()
      await Promise.all([stdout, stderr].map(drain))
    },
  }
}

function dress(text: string, colour: boolean): string {
  return neutralise(text).replace(/[\ufdd0-\ufddf]/g, (c) =>
    colour && CODES[c] !== undefined ? `\x1b[${CODES[c]}m` : '',
  )
}

/** Lines that may stand below what scrolls. */
const linesOf = (stderr: Terminal): number => Math.max(1, (stderr.rows ?? 24) - 2)

function makeSpinner(options: OutputOptions) {
  const { stderr, quiet } = options
  let timer: NodeJS.Timeout | undefined
  let drawn = 0
  const clear = () => {
    if (drawn > 0) stderr.write(`\r${drawn > 1 ? `\x1b[${drawn - 1}A` : ''}\x1b[J`)
    drawn = 0
  }
  const draw = (text: string, turn: number) => {
    // A line that wrapped would be counted as one, so none may.
    const columns = (stderr.columns ?? 80) - 1
    const lines = `${paint.cyan(SPINNER[turn % SPINNER.length] ?? '')} ${text}`.split('\n')
    const shown = lines
      .slice(0, linesOf(stderr))
      .map((line) => truncate(neutralise(line).replaceAll('\t', ' '), columns))
    const block = shown.map((line) => `${dress(line, options.colour.stderr)}\x1b[K`).join('\n')
    const up = drawn > 1 ? `\x1b[${drawn - 1}A` : ''
    stderr.write(`\r${up}${block}${drawn > shown.length ? '\x1b[J' : ''}`)
    drawn = shown.length
  }
  const stop = () => clearInterval(timer)
  const start = (first: Standing, kind: ProgressKind = 'wait'): Progress => {
    if (quiet || (kind === 'status' && !stderr.isTTY)) return { say: () => {}, done: () => {} }
    stop()
    let standing = first
    let turn = 0
    const began = performance.now()
    let said = ''
    const tick = () => {
      if (kind === 'wait' && performance.now() - began < PROGRESS_AFTER_MS) return
      const text = typeof standing === 'string' ? standing : standing()
      if (stderr.isTTY) return draw(text, turn++)
      const [line = ''] = text.split('\n')
      if (line === said) return
      said = line
      stderr.write(`${dress(line, false)}\n`)
    }
    timer = setInterval(tick, SPIN_MS)
    timer.unref()
    return {
      say: (next) => {
        standing = next
      },
      done: () => {
        stop()
        clear()
      },
    }
  }
  return { start, clear, stop }
}

type Description = { exit: ExitName; lines: string[]; problem: Record<string, unknown> }

function describe(error: unknown): Description {
  const exit = exitOf(error)
  const message = messageOf(error)
  const hint = hintOf(error)
  const details = error instanceof Fault ? error.details : {}
  const errors = error instanceof CommandFailure && error.wrongs.length > 0 ? error.wrongs : details.errors
  const lines = [paint.red('error: ') + message]
  for (const one of errors ?? []) lines.push(`  ${'where' in one ? one.where : one.pointer}: ${one.detail}`)
  if (hint !== undefined) lines.push(hint)
  if (details.trace_id !== undefined) lines.push(paint.dim(`trace id ${details.trace_id}`))
  const problem = {
    error: message,
    code: error instanceof Fault ? error.code : exit,
    exit_code: EXIT[exit],
    ...(error instanceof Fault ? { status: error.status, retryable: error.retryable } : {}),
    ...(errors === undefined ? {} : { errors }),
    ...(details.trace_id === undefined ? {} : { trace_id: details.trace_id }),
    ...(hint === undefined ? {} : { hint }),
  }
  return { exit, lines, problem }
}

function exitOf(error: unknown): ExitName {
  if (error instanceof CommandFailure) return error.exit
  if (error instanceof Unreachable) return 'unreachable'
  if (error instanceof Error && error.name === 'DataFolderInUse') return 'conflict'
  return error instanceof Fault ? exitOfFault(error) : 'failed'
}

function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message || error.name
  return String(error)
}

function hintOf(error: unknown): string | undefined {
  if (error instanceof CommandFailure) return error.hint
  if (error instanceof Unreachable)
    return 'Is it running? Start one here with "baton up", or name another with --server.'
  if (!(error instanceof Fault)) return undefined
  if (error.code === 'authentication_required')
    return 'Log in with "baton login", or give a key with --api-key or BATON_API_KEY.'
  return undefined
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : ''
  return (error.stack ?? error.message) + cause
}

function drain(stream: Terminal): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableEnded) return resolve()
    stream.write('', () => resolve())
  })
}
