/** What every command is given, so that none reaches for the process itself. */
import type { Readable, Writable } from 'node:stream'
import { type Carried, type Client, connect } from '../sdk/client.ts'
import { CommandFailure } from './exits.ts'
import type { Output } from './output.ts'
import type { Environment, Settings } from './settings.ts'

export type Input = Readable & { isTTY?: boolean; fd?: number }

export type Context = {
  version: string
  out: Output
  settings: Settings
  env: Environment
  cwd: string
  pid: number
  stdin: Input
  /** For protocols; what is meant for people goes through `out`. */
  stdout: Writable
  stderr: Writable
  /** Aborted by the first Ctrl-C or SIGTERM. */
  signal: AbortSignal
  /** Whether a person may be asked: stdin and stderr are terminals, and neither --no-input nor CI was given. */
  interactive: boolean
  /** The program and first arguments that start this command line again. */
  self: string[]
  debug: boolean
}

export type Given = { args: string[]; options: Record<string, unknown> }

/** A client for the server in force. Refuses at once where no key is known. */
export function clientOf(context: Context): Client {
  const { server, api_key } = context.settings
  if (api_key.value === undefined) {
    throw new CommandFailure(
      'auth',
      `No API key is known for ${server.value}.`,
      'Start a server here with "baton up" (it logs you in), run "baton login", or set BATON_API_KEY.',
    )
  }
  return connect({
    server: server.value ?? '',
    token: api_key.value,
    headers: { 'x-oz-api-source': 'CLI', 'user-agent': `baton/${context.version}` },
    onVersion: sayOtherVersion(context),
  })
}

/** Says once when server and command line do not fit: what one knows the other may not. */
function sayOtherVersion({ version, out }: Context): (theirs: string | null) => void {
  let said = false
  return (theirs) => {
    if (said || theirs === null || minorOf(theirs) === minorOf(version)) return
    said = true
    out.note(
      `The server is Baton ${theirs}, this command line ${version}. Use the same version of both if something fails.`,
    )
  }
}

const minorOf = (version: string): string => version.split('.').slice(0, 2).join('.')

/** The body exactly as the server sent it. */
export async function bodyOf(response: Carried): Promise<unknown> {
  const text = await response.text()
  try {
    return JSON.parse(text)
  } catch {
    throw new CommandFailure(
      'failed',
      `${new URL(response.url).origin} did not answer with JSON. Is it a Baton server?`,
    )
  }
}

export const webAddress = (context: Context, run_id: string): string =>
  `${context.settings.server.value}/runs/${run_id}`

/** Everything on stdin, up to `bytes_max`. */
export async function readAll(stdin: Input, bytes_max: number, what: string): Promise<string> {
  return new TextDecoder('utf-8', { ignoreBOM: false }).decode(await readBytes(stdin, bytes_max, what))
}

export async function readBytes(stdin: Input, bytes_max: number, what: string): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of stdin) {
    const piece = Buffer.from(chunk)
    size += piece.length
    if (size > bytes_max) throw new CommandFailure('usage', `${what} is larger than ${bytes_max} bytes.`)
    chunks.push(piece)
  }
  return Buffer.concat(chunks)
}
