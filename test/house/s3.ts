/**
 * A store that speaks S3, on a free port of the loopback: OpenStack Swift with its own S3 API (`s3_store.py`), which
 * checks signatures and sums itself; and before it a door that notes what is asked and can be told to be ill.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pino } from 'pino'
import { type S3Options, s3Blobs } from '../../src/engine/blobs-s3.ts'
import { listenOnLoopback } from './port.ts'

const KEY = { access_key_id: 'baton:tests', secret_access_key: 'a-secret-of-the-tests' }
const REGION = 'eu-central-1'
export const BUCKET = 'baton-test'
/** Debian's, which has its packages. */
const PYTHON = '/usr/bin/python3'

type Ill = { status: number; code: string; times: number }

/** Of its own process, which ends with its stdin: also when this one is killed. */
async function startStore(folder: string) {
  const script = join(import.meta.dirname, 's3_store.py')
  const args = [script, folder, KEY.access_key_id, KEY.secret_access_key, REGION, BUCKET]
  const child = spawn(PYTHON, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  let said = ''
  child.stderr.on('data', (text) => {
    said += text
  })
  const ended = once(child, 'exit')
  const lines = createInterface(child.stdout)
  const port = await Promise.race([
    once(lines, 'line').then(([line]) => Number(line)),
    ended.then(() => {
      throw new Error(`The S3 store did not start. It needs: apt-get install python3-swift\n${said.slice(-2000)}`)
    }),
  ])
  return {
    port,
    async close() {
      child.stdin.end()
      await ended
    },
  }
}

export async function startS3() {
  const directory = await mkdtemp(join(tmpdir(), 'baton-s3-'))
  const store = await startStore(directory)
  let ill: Ill | null = null
  const seen: string[] = []
  const door = createServer(answer)
  const { url: endpoint, port, close: leave } = await listenOnLoopback(door)

  function answer(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { method, url, headers } = incoming
    seen.push(`${method} ${url}`)
    if (ill !== null && ill.times > 0) {
      ill.times -= 1
      incoming.resume().on('end', () => refuse(outgoing, ill?.status ?? 500, ill?.code ?? ''))
      return
    }
    const asked = request({ host: '127.0.0.1', port: store.port, method, path: url, headers }, (answered) => {
      outgoing.writeHead(answered.statusCode ?? 500, answered.headers)
      answered.pipe(outgoing)
    })
    asked.on('error', () => outgoing.destroy())
    incoming.on('close', () => incoming.complete || asked.destroy())
    incoming.pipe(asked)
  }

  const options = (more: Partial<S3Options> = {}): S3Options => ({
    ...KEY,
    bucket: BUCKET,
    prefix: 'some/where',
    region: REGION,
    endpoint,
    session_token: undefined,
    drafts_dir: join(directory, 'drafts'),
    log: pino({ level: 'silent' }),
    ...more,
  })
  return {
    endpoint,
    /** What was asked of it, as `PUT /bucket/name`. */
    seen,
    blobs: (more: Partial<S3Options> = {}) => s3Blobs(options(more)),
    /** As a server is told of it. */
    env: {
      BATON_BLOBS: `s3://${BUCKET}/some/where`,
      AWS_ENDPOINT_URL_S3: endpoint,
      AWS_REGION: REGION,
      AWS_ACCESS_KEY_ID: KEY.access_key_id,
      AWS_SECRET_ACCESS_KEY: KEY.secret_access_key,
    },
    /** Answers the next `times` requests with this. */
    fail(status: number, code: string, times = Number.POSITIVE_INFINITY): void {
      ill = { status, code, times }
    },
    heal(): void {
      ill = null
    },
    /** Answers nobody, as if it were not there. */
    leave,
    comeBack: () => listenOnLoopback(door, port),
    async close(): Promise<void> {
      await leave()
      await store.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

function refuse(outgoing: ServerResponse, status: number, code: string): void {
  outgoing.writeHead(status, { 'content-type': 'application/xml' })
  outgoing.end(`<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>No.</Message></Error>`)
}
