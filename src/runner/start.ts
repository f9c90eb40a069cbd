/**
 * The first thing that a runner does: take the execution. It loads nothing but Node's own http, because all else can
 * be loaded while the server works; the answer is parsed by whoever asked.
 */
import { requester } from './wire.ts'

/** A server that is away is asked again for this long, in milliseconds. */
export const START_GIVE_UP_MS = 120_000
const START_ANSWER_MS = 30_000
const START_AGAIN_MS = [100, 250, 500, 1000, 2000, 4000]

export type StartOptions = {
  server: string
  token: string
  execution_id: string
  version: string
  give_up_ms?: number
  signal?: AbortSignal | undefined
  onSent: () => void
}

export type StartAnswer =
  | { answer: 'started'; body: unknown }
  | { answer: 'refused'; status: number; message: string }
  | { answer: 'away'; message: string }

export async function startExecution(options: StartOptions): Promise<StartAnswer> {
  const url = new URL(
    `${options.server.replace(/\/$/, '')}/api/v1/executions/${encodeURIComponent(options.execution_id)}/start`,
  )
  const until = performance.now() + (options.give_up_ms ?? START_GIVE_UP_MS)
  for (let tries = 0; ; tries++) {
    const got = await post(url, options).catch((error: Error) => error)
    const message =
      got instanceof Error
        ? `The server at ${url.origin} does not answer (${got.message || 'no connection'}).`
        : errorOf(got)
    if (!(got instanceof Error) && got.status < 300) return { answer: 'started', body: parsed(got.text) }
    if (!(got instanceof Error) && got.status < 500 && got.status !== 429 && got.status !== 408)
      return { answer: 'refused', status: got.status, message }
    if (performance.now() >= until || options.signal?.aborted) return { answer: 'away', message }
    const wait = (START_AGAIN_MS[Math.min(tries, START_AGAIN_MS.length - 1)] ?? 1000) * (0.75 + Math.random() / 2)
    await new Promise((resolve) => setTimeout(resolve, Math.min(wait, until - performance.now() + 1)))
  }
}

type Got = { status: number; text: string }

function post(url: URL, options: StartOptions): Promise<Got> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify({ version: options.version })
    const headers = {
      authorization: `Bearer ${options.token}`,
      accept: 'application/json',
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    }
    const sent = requester(url)(url, { method: 'POST', headers, signal: options.signal }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      response.on('error', reject)
    })
    sent.on('error', reject)
    sent.on('finish', options.onSent)
    sent.setTimeout(START_ANSWER_MS, () => sent.destroy(new Error(`no answer for ${START_ANSWER_MS / 1000} s`)))
    sent.end(body)
  })
}

function errorOf({ status, text }: Got): string {
  const problem = parsed(text)
  if (typeof problem === 'object' && problem !== null && 'error' in problem && typeof problem.error === 'string')
    return problem.error
  return `The server answered ${status}.`
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
