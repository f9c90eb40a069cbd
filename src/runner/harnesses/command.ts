/**
 * The `command` harness: the prompt is a shell command; no model.
 *
 * Output becomes `output` entries of at most 16 KB or one second each, in the order in which it was read, with live
 * deltas before them. Escape sequences are kept as they came; what is not UTF-8 is shown as the replacement character.
 */
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import type { Harness, HarnessStart, OpenHarness, TurnEnd } from './harness.ts'
import { short } from './problems.ts'
import { endTree, makeMark, type Tree } from './processes.ts'
import { onPath } from './profile.ts'

const GATHER_LENGTH = 16 * 1024
const GATHER_MS = 1000
const TAIL_LENGTH = 8 * 1024
const TAIL_LINES = 12
/** Of the grace after a cancel: the part until SIGKILL. */
const TERM_SHARE = 0.7
/** Between SIGTERM and SIGKILL for what a command has left running, in milliseconds. */
const LEFT_GRACE_MS = 500
/**
 * How long output may go on after the command has ended, when something that it left holds its pipes, in
 * milliseconds.
 */
const DRAIN_MS = 250

type StreamName = 'stdout' | 'stderr'

export const command: Harness = {
  name: 'command',
  async open(start) {
    const stop = new AbortController()
    let cancelled = false
    let running: { turn: Promise<TurnEnd>; tree: Tree } | null = null
    const grace_ms = start.assignment.limits.cancel_grace_ms * TERM_SHARE
    const open: OpenHarness = {
      session_id: null,
      async prompt(text) {
        if (cancelled) return { end: 'cancelled' }
        running = run(text, start, stop)
        const end = await running.turn
        return cancelled ? { end: 'cancelled' } : end
      },
      async cancel() {
        cancelled = true
        if (running !== null) await endTree(running.tree, grace_ms)
        stop.abort()
      },
      async close() {
        if (running !== null) await endTree(running.tree, cancelled ? 0 : LEFT_GRACE_MS)
        stop.abort()
      },
    }
    return open
  },
}

function run(text: string, start: HarnessStart, stop: AbortController): { turn: Promise<TurnEnd>; tree: Tree } {
  const { sink, env, workspace, assignment } = start
  const { transcript_bytes_max } = assignment.limits
  const shell = onPath('bash', env) ?? '/bin/sh'
  const { mark, env: marked } = makeMark()
  const child = spawn(shell, ['-c', text], {
    cwd: workspace,
    env: { ...env, ...marked },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const tree: Tree = { group: child.pid ?? 0, mark }
  const gathered = gather(sink)
  const turn = new Promise<TurnEnd>((resolve) => {
    let bytes = 0
    let limited = false
    let ended = false
    const take = (name: StreamName, readable: Readable) => {
      const decoder = new StringDecoder('utf8')
      readable.on('data', (chunk: Buffer) => {
        if (limited) return
        bytes += chunk.length
        gathered.add(name, decoder.write(chunk))
        if (bytes <= transcript_bytes_max) return
        limited = true
        void endTree(tree, 0)
      })
      readable.once('end', () => gathered.add(name, decoder.end()))
    }
    const settle = (end: TurnEnd) => {
      if (ended) return
      ended = true
      gathered.flush()
      child.stdout.destroy()
      child.stderr.destroy()
      resolve(limited ? tooMuch(transcript_bytes_max) : end)
    }
    take('stdout', child.stdout)
    take('stderr', child.stderr)
    stop.signal.addEventListener('abort', () => settle({ end: 'cancelled' }), { once: true })
    child.once('error', (error) => settle(notStarted(shell, error.message)))
    child.once('exit', (code, signal) => {
      const over = () => settle(endOf(code, signal, gathered.lastLines()))
      const drained = setTimeout(over, DRAIN_MS)
      child.once('close', () => {
        clearTimeout(drained)
        over()
      })
    })
  })
  return { turn, tree }
}

function gather(sink: HarnessStart['sink']) {
  let held: { stream: StreamName; text: string } | null = null
  let timer: NodeJS.Timeout | undefined
  let tail = ''
  let cut = false

  function flush(): void {
    clearTimeout(timer)
    timer = undefined
    if (held !== null) sink.entry({ kind: 'output', ...held })
    held = null
  }

  return {
    flush,
    add(stream: StreamName, text: string): void {
      if (text === '') return
      cut ||= tail.length + text.length > TAIL_LENGTH
      tail = (tail + text).slice(-TAIL_LENGTH)
      if (held !== null && (held.stream !== stream || held.text.length + text.length > GATHER_LENGTH)) flush()
      for (let at = 0; at < text.length; ) {
        const part = text.slice(at, at + GATHER_LENGTH).replace(/[\ud800-\udbff]$/, '')
        at += part.length || 1
        sink.delta('output', part, stream)
        held = { stream, text: held === null ? part : held.text + part }
        if (at < text.length) flush()
      }
      if (held !== null && held.text.length >= GATHER_LENGTH) flush()
      else timer ??= setTimeout(flush, GATHER_MS)
    },
    // A line that was cut may be half of a secret, which nobody would know again.
    lastLines: () =>
      (cut ? tail.slice(tail.indexOf('\n') + 1) : tail)
        .split('\n')
        .map((line) => line.trimEnd())
        .filter((line) => line !== '')
        .slice(-TAIL_LINES)
        .join('\n'),
  }
}

function endOf(code: number | null, signal: NodeJS.Signals | null, last: string): TurnEnd {
  if (code === 0) return { end: 'completed' }
  const how = code === null ? `was ended by ${signal ?? 'a signal'}` : `exited with code ${code}`
  const hint = code === 127 ? ' (127 means: command not found)' : code === 126 ? ' (126 means: not executable)' : ''
  return failed('command_failed', `The command ${how}${hint}.${last === '' ? '' : ` Its last lines were:\n${last}`}`)
}

const tooMuch = (bytes_max: number): TurnEnd =>
  failed(
    'output_limit',
    `The command wrote more than ${bytes_max} bytes and was stopped. Let it print less, for example into a file.`,
  )

const notStarted = (shell: string, why: string): TurnEnd => ({
  end: 'failed',
  outcome: 'ERROR',
  failure: {
    error_code: 'internal_error',
    retryable: true,
    reason: 'harness_start',
    message: short(`The shell ${shell} could not be started: ${why}.`),
  },
})

const failed = (reason: string, message: string): TurnEnd => ({
  end: 'failed',
  outcome: 'FAILED',
  failure: { error_code: 'operation_not_supported', retryable: false, reason, message: short(message) },
})
