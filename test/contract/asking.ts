/** How tests of the contract ask: by bare HTTP, or with the published SDK. Nothing here knows our own contract. */
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import OzAPI from 'oz-agent-sdk'
import { inject } from 'vitest'
import type { z } from 'zod'
import { describedBy } from '../house/described.ts'
import { until } from '../house/processes.ts'
import { openScriptedWorker, type Piece, type ScriptedWorker } from '../house/worker.ts'
import { Problem, RunItem } from './wire.ts'

export const { url, api_key, folder, worker_host } = inject('baton')
export const API = `${url}/api/v1`

/** Every answer here is held against what the server itself says of it, too. */
const described = describedBy(await (await fetch(`${url}/openapi.json`)).json())

export type Answer = { status: number; headers: Headers; text: string; json: unknown }
export type Ask = {
  /** Absent: none. Text is sent as it is, with whatever content type `headers` say. */
  body?: unknown
  headers?: Record<string, string>
  /** Null: without credentials. */
  key?: string | null
}

/** `path` is below /api/v1. Redirects are not followed. */
export async function ask(
  method: string,
  path: string,
  { body, headers = {}, key = api_key }: Ask = {},
): Promise<Answer> {
  const sent = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const response = await fetch(`${API}/${path}`, {
    method,
    redirect: 'manual',
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(sent === undefined ? {} : { body: sent }),
  })
  const answer = await answerOf(response)
  described.check({ method, path: new URL(`${API}/${path}`).pathname, ...answer })
  return answer
}

export async function answerOf(response: Response): Promise<Answer> {
  const said = await response.text()
  return { status: response.status, headers: response.headers, text: said, json: parse(said) }
}

function parse(said: string): unknown {
  try {
    return JSON.parse(said)
  } catch {
    return undefined
  }
}

/** The answer as the wire format has it; what differs is in the error. */
export async function answered<T extends z.ZodType>(
  [method, path, schema, status = 200]: [string, string, T, number?],
  how: Ask = {},
): Promise<z.output<T>> {
  const answer = await ask(method, path, how)
  if (answer.status !== status)
    throw new Error(`${method} ${path}: ${answer.status} instead of ${status}: ${answer.text}`)
  const parsed = schema.safeParse(answer.json)
  if (parsed.success) return parsed.data
  throw new Error(`${method} ${path} does not answer in the wire format: ${parsed.error.message}\n${answer.text}`)
}

/** The code of a refusal, whose body and status are as the wire format has them. */
export async function refused(method: string, path: string, how: Ask = {}): Promise<{ status: number; code: string }> {
  const answer = await ask(method, path, how)
  const problem = Problem.parse(answer.json)
  if (problem.status !== answer.status) throw new Error(`status ${problem.status} in an answer of ${answer.status}`)
  return { status: answer.status, code: problem.type.split('/').at(-1) ?? '' }
}

/** A GET from another address of the loopback, which the server tells apart from ours. */
export async function fetchFrom(localAddress: string, address: string, key: string): Promise<Response> {
  const asking = request(address, { localAddress, headers: { authorization: `Bearer ${key}` } }).end()
  const [incoming] = (await once(asking, 'response')) as [IncomingMessage]
  const headers = Object.entries(incoming.headers).map(([name, value]): [string, string] => [name, String(value)])
  return new Response(await text(incoming), { status: incoming.statusCode ?? 0, headers })
}

type SdkOptions = NonNullable<ConstructorParameters<typeof OzAPI>[0]>

export const sdk = (options: SdkOptions = {}): OzAPI => new OzAPI({ baseURL: API, apiKey: api_key, ...options })

/** The fields of a run beside what the published SDK knows. */
export type Config = Record<string, unknown> & { name?: string }

export const create = async (body: Record<string, unknown>): Promise<string> => {
  const { json } = await ask('POST', 'agent/runs', { body })
  if (typeof json !== 'object' || json === null || !('run_id' in json)) throw new Error(JSON.stringify(json))
  return String(json.run_id)
}

export const runOf = (run_id: string): Promise<z.output<typeof RunItem>> =>
  answered(['GET', `agent/runs/${run_id}`, RunItem])

export const reaches = (run_id: string, ...states: string[]): Promise<z.output<typeof RunItem>> =>
  until(
    `run ${run_id} is ${states.join(' or ')}`,
    async () => {
      const run = await runOf(run_id)
      return states.includes(run.state) ? run : null
    },
    25_000,
  )

/** For the real worker: those of tests take whatever names no other. */
export const REAL = { worker_host }
/** A plain command of the real worker. */
export const COMMAND = { harness: { type: 'command' }, ...REAL }
/** A worker that nobody is: the run stays in the queue. */
export const NOBODY = { worker_host: 'nobody' }

let hosts = 0

/** A worker in the test's own hands, and runs that only it is offered. */
export async function ownWorker(): Promise<ScriptedWorker & { take(body?: Record<string, unknown>): Promise<Piece> }> {
  const own = `own-${process.pid}-${++hosts}`
  const worker = await openScriptedWorker({ url, api_key, worker_host: own, capacity: 100 })
  return {
    ...worker,
    async take(body = {}) {
      const { config, ...rest } = body
      const given = typeof config === 'object' ? config : {}
      await create({ prompt: 'work', ...rest, config: { ...given, worker_host: own } })
      return worker.next()
    },
  }
}
