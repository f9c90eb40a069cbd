/** A harness's process: its streams, the end of its stderr for messages, and how it died. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { endTree, makeMark, type Tree } from './processes.ts'

const TAIL_LENGTH_MAX = 8 * 1024
const TAIL_LINES = 12
const SECRET_LENGTH_MIN = 8
/** How long its streams may go on after the process has ended, in milliseconds. */
const DRAIN_MS = 300

export type AcpProcess = {
  child: ChildProcessByStdio<Writable, Readable, Readable>
  /** Resolves with how it ended: "exited with code 3", "was ended by SIGKILL". */
  ended: Promise<string>
  noise(line: string): void
  /** Its last lines of stderr, without the secrets of its environment. */
  lastLines(): string
  /** Ends it and everything that it started. */
  end(grace_ms: number): Promise<void>
}

export type AcpCommand = { file: string; args: string[]; cwd: string; env: Record<string, string> }

/** Rejects when the program cannot be started at all. */
export function startProcess(command: AcpCommand): Promise<AcpProcess> {
  const { mark, env } = makeMark()
  const child = spawn(command.file, command.args, {
    cwd: command.cwd,
    env: { ...command.env, ...env },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const tail = makeTail(secretsOf(command.env))
  child.stderr.on('data', tail.add)
  // Writing to a process that has just died is no error of ours.
  child.stdin.on('error', () => {})
  const ended = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      const how = code === null ? `was ended by ${signal ?? 'a signal'}` : `exited with code ${code}`
      const drained = setTimeout(() => resolve(how), DRAIN_MS)
      child.once('close', () => {
        clearTimeout(drained)
        resolve(how)
      })
    })
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('spawn', () => {
      const tree: Tree = { group: child.pid ?? 0, mark }
      resolve({
        child,
        ended,
        noise: tail.line,
        lastLines: tail.lastLines,
        async end(grace_ms) {
          child.stdin.end()
          await endTree(tree, grace_ms)
          child.stdout.destroy()
          child.stderr.destroy()
        },
      })
    })
  })
}

function makeTail(secrets: string[]) {
  const decoder = new StringDecoder('utf8')
  let text = ''
  return {
    add(chunk: Buffer) {
      text = (text + decoder.write(chunk)).slice(-TAIL_LENGTH_MAX)
    },
    line(line: string) {
      text = `${text}${line}\n`.slice(-TAIL_LENGTH_MAX)
    },
    lastLines() {
      const clean = secrets.reduce((kept, secret) => kept.replaceAll(secret, '•••'), text)
      return clean
        .split('\n')
        .map((line) => line.trimEnd())
        .filter((line) => line !== '')
        .slice(-TAIL_LINES)
        .join('\n')
    },
  }
}

const secretsOf = (env: Record<string, string>): string[] =>
  Object.entries(env)
    .filter(([name, value]) => /KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL/i.test(name) && value.length >= SECRET_LENGTH_MIN)
    .map(([, value]) => value)
