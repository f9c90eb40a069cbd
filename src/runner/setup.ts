/** Runs the environment's setup commands in the workspace, in order; the first that fails ends the run. */
import type { Limits } from '../contract/index.ts'
import { duration, SetupFailure } from './failures.ts'
import { cutMiddle, utf8Tail } from './fit.ts'
import type { Groups } from './spawn.ts'
import type { Transcript } from './transcript.ts'

const LAST_LINES = 12
/** Output is gathered this long into one entry, in milliseconds. */
const GATHER_MS = 250
const GATHER_BYTES = 16 * 1024

export type SetupOptions = {
  workspace: string
  commands: string[]
  env: Record<string, string>
  limits: Pick<Limits, 'setup_command_ms' | 'tool_output_bytes_max'>
  groups: Groups
  transcript: Transcript
  signal: AbortSignal
}

export async function runSetup(options: SetupOptions): Promise<void> {
  const { commands, transcript, limits } = options
  for (const [at, command] of commands.entries()) {
    const which = `Setup command ${at + 1} of ${commands.length}`
    const started = performance.now()
    transcript.system('info', 'setup', `${which}: ${cutMiddle(command, 1000)}`)
    const output = keepOutput(transcript, limits.tool_output_bytes_max)
    const end = await options.groups.run({
      file: '/bin/sh',
      args: ['-c', command],
      cwd: options.workspace,
      env: options.env,
      limit_ms: limits.setup_command_ms,
      signal: options.signal,
      onOutput: output.add,
    })
    output.close()
    switch (end.end) {
      case 'exited':
        if (end.code !== 0) throw failed(`${which} exited with ${end.code}`, output.last())
        break
      case 'killed':
        throw failed(`${which} was ended by ${end.by}`, output.last())
      case 'timed_out':
        throw failed(`${which} took longer than ${duration(limits.setup_command_ms)} and was stopped`, output.last())
      case 'not_started':
        throw failed(`${which} could not be started`, end.message)
      case 'stopped':
        throw failed(`${which} was stopped`, '')
    }
    transcript.system('info', 'setup', `${which} succeeded in ${duration(performance.now() - started)}.`)
  }
}

const failed = (what: string, last: string) =>
  new SetupFailure(last === '' ? `${what} without saying why.` : `${what}: ${last}`, 'setup_command')

type Kept = { add(stream: 'stdout' | 'stderr', text: string): void; close(): void; last(): string }

/** Output as entries while it is little; of much, the head at once and the tail at the end, with the gap between. */
function keepOutput(transcript: Transcript, bytes_max: number): Kept {
  const half = Math.floor(bytes_max / 2)
  let gathered: { stream: 'stdout' | 'stderr'; text: string } | null = null
  let timer: NodeJS.Timeout | undefined
  let written = 0
  let tail: Buffer = Buffer.alloc(0)
  let beyond = 0
  let recent = ''

  function flush(): void {
    clearTimeout(timer)
    timer = undefined
    if (gathered === null) return
    const { stream, text } = gathered
    gathered = null
    const bytes = Buffer.from(text)
    if (written + bytes.length <= half) {
      written += bytes.length
      transcript.entry({ kind: 'output', stream, text })
      return
    }
    written = half
    beyond += bytes.length
    tail = utf8Tail(Buffer.concat([tail, bytes]), half)
  }

  return {
    add(stream, text) {
      recent = (recent + text).slice(-8192)
      if (gathered !== null && gathered.stream !== stream) flush()
      gathered = { stream, text: (gathered?.text ?? '') + text }
      if (gathered.text.length >= GATHER_BYTES) flush()
      else timer ??= setTimeout(flush, GATHER_MS)
    },
    close() {
      flush()
      if (beyond > tail.length)
        transcript.entry({ kind: 'gap', bytes: beyond - tail.length, reason: 'The middle of long output is not kept.' })
      if (tail.length > 0) transcript.entry({ kind: 'output', stream: 'stdout', text: tail.toString() })
      tail = Buffer.alloc(0)
    },
    last: () =>
      recent
        .split('\n')
        .map((line) => line.trimEnd())
        .filter((line) => line !== '')
        .slice(-LAST_LINES)
        .join('\n'),
  }
}
