/**
 * Newline-delimited JSON-RPC between the runner and a harness, forgiving: a line that is not a message is noise
 * (some harnesses print banners to stdout) and is handed to `onNoise`; it never ends the connection.
 */

import type { Readable, Writable } from 'node:stream'
import type { AnyMessage, Stream } from '@agentclientprotocol/sdk'
import { z } from 'zod'

/** The longest line that is read; longer ones are dropped and reported. */
const LINE_BYTES_MAX = 32 * 1024 * 1024

const Message = z.union([
  z.looseObject({ method: z.string() }),
  z.looseObject({ id: z.union([z.string(), z.number()]), result: z.unknown() }),
  z.looseObject({ id: z.union([z.string(), z.number()]).nullable(), error: z.unknown() }),
])

export type Listeners = {
  onNoise(line: string): void
  /**
   * Parameters of a `session/update`. Called as it is read, since the SDK may settle a prompt before updates that
   * came earlier.
   */
  onUpdate(params: unknown): void
}

export function acpStream(input: Readable, output: Writable, { onNoise, onUpdate }: Listeners): Stream {
  const readable = new ReadableStream<AnyMessage>({
    start(controller) {
      const take = (line: Buffer) => {
        const message = parseLine(line)
        if (message !== null && 'method' in message && message.method === 'session/update') onUpdate(message.params)
        else if (message !== null) controller.enqueue(message)
        else if (line.length > 0) onNoise(line.toString('utf8', 0, 2000))
      }
      readLines(input, take, (bytes) => onNoise(`(a line of more than ${bytes} bytes was dropped)`))
      input.once('close', () => {
        try {
          controller.close()
        } catch {
          // The reader has cancelled already.
        }
      })
    },
  })
  const writable = new WritableStream<AnyMessage>({
    write: (message) =>
      new Promise((resolve) => {
        // A harness that has died is reported by its exit, not by each write to it.
        if (!output.writable) return resolve()
        output.write(`${JSON.stringify(message)}\n`, () => resolve())
      }),
  })
  return { readable, writable }
}

function readLines(input: Readable, onLine: (line: Buffer) => void, onTooLong: (bytes: number) => void): void {
  let parts: Buffer[] = []
  let bytes = 0
  input.on('data', (chunk: Buffer) => {
    let from = 0
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      const rest = chunk.subarray(from, at)
      if (bytes + rest.length > LINE_BYTES_MAX) onTooLong(LINE_BYTES_MAX)
      else onLine(parts.length === 0 ? rest : Buffer.concat([...parts, rest]))
      parts = []
      bytes = 0
      from = at + 1
    }
    const rest = chunk.subarray(from)
    bytes += rest.length
    if (bytes <= LINE_BYTES_MAX && rest.length > 0) parts.push(rest)
    else if (bytes > LINE_BYTES_MAX) parts = []
  })
}

function parseLine(line: Buffer): AnyMessage | null {
  try {
    const parsed = Message.safeParse(JSON.parse(line.toString('utf8')))
    return parsed.success ? (parsed.data as AnyMessage) : null
  } catch {
    return null
  }
}
