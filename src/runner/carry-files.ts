/** Files from and to addresses that are signed: as they stream, never whole in memory. */
import { createReadStream } from 'node:fs'
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { dirname } from 'node:path'
import { Fault, type UploadTarget } from '../contract/index.ts'
import { pause, Unreachable } from '../sdk/calls.ts'
import { requester } from './wire.ts'

/** Tries of one file, and the pause before the second of them; the next is twice as long. In milliseconds. */
const TRIES = 3
const AGAIN_MS = 500

/** Refused; `status` says how. */
class Refused extends Error {
  override readonly name = 'Refused'
  readonly passing: boolean
  constructor(status: number) {
    super(`the store answered ${status}`)
    this.passing = status >= 500 || status === 408 || status === 429
  }
}

export type FetchFile = { url: string; path: string; bytes_max: number; signal: AbortSignal }

/** The file is there whole, or not at all. Throws when it cannot be fetched. */
export function fetchFile({ url, path, bytes_max, signal }: FetchFile): Promise<void> {
  return tried(signal, async () => {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const draft = `${path}.part`
    try {
      const response = await ask(url, { method: 'GET', headers: {}, signal })
      const file = await open(draft, 'w', 0o600)
      try {
        let bytes = 0
        for await (const chunk of response as AsyncIterable<Buffer>) {
          bytes += chunk.length
          if (bytes > bytes_max) throw new Error(`it has more than ${bytes_max} bytes`)
          await file.writeFile(chunk)
        }
      } finally {
        await file.close()
      }
      await rename(draft, path)
    } catch (error) {
      await rm(draft, { force: true })
      throw error
    }
  })
}

/** The bare bytes, as a target without `fields` takes them. Throws when they are not taken. */
export function sendFile(target: UploadTarget, path: string, signal: AbortSignal): Promise<void> {
  return tried(signal, async () => {
    const { size } = await stat(path)
    const headers = { ...target.headers, 'content-length': String(size) }
    const response = await ask(target.url, { method: target.method, headers, signal, file: { path, size } })
    response.resume()
  })
}

type Parts = {
  method: string
  headers: Record<string, string>
  signal: AbortSignal
  file?: { path: string; size: number }
}

function ask(address: string, { method, headers, signal, file }: Parts): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const url = new URL(address)
    const sent = requester(url)(url, { method, headers, signal })
    sent.on('error', reject)
    sent.once('response', (response) => {
      const status = response.statusCode ?? 0
      if (status >= 200 && status < 300) resolve(response)
      else {
        response.resume()
        reject(new Refused(status))
      }
    })
    if (file === undefined || file.size === 0) return void sent.end()
    const read = createReadStream(file.path, { end: file.size - 1 })
    read.on('error', (error) => sent.destroy(error))
    // Before `pipe` ends the request, which would wait for the rest of it.
    read.on('end', () => {
      if (read.bytesRead < file.size) sent.destroy(new Error('it became shorter while it was sent'))
    })
    read.pipe(sent)
  })
}

/** Three times, with a pause that doubles, where asking again may help. */
export async function tried<T>(signal: AbortSignal, step: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await step()
    } catch (error) {
      if (signal.aborted || tries >= TRIES || !isPassing(error)) throw error
      await pause(AGAIN_MS * 2 ** (tries - 1), signal)
    }
  }
}

/** Of a server that is busy, and of a network that breaks; not of our own disk. */
const isPassing = (error: unknown): boolean =>
  error instanceof Refused
    ? error.passing
    : error instanceof Unreachable ||
      (error instanceof Fault && (error.status >= 500 || error.status === 408 || error.status === 429)) ||
      isBrokenLine(error)

const isBrokenLine = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && /^(ECONN|EPIPE|ETIMEDOUT|EAI_|ENET|EHOST)/.test(String(error.code))
