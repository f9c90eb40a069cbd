/**
 * A store that speaks S3, on a free port of the loopback: s3rver, and before it a door that checks what s3rver does
 * not, the signature (AWS Signature Version 4) and the sum of what is sent, and that can be told to be ill.
 */
import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { pino } from 'pino'
import S3rver from 's3rver'
import { type S3Options, s3Blobs } from '../../src/engine/blobs-s3.ts'

/** The account that s3rver knows; the secret is the door's. */
const KEY = { access_key_id: 'S3RVER', secret_access_key: 'a secret of the tests' }
export const BUCKET = 'baton-test'

type Ill = { status: number; code: string; times: number }

export async function startS3() {
  const directory = await mkdtemp(join(tmpdir(), 'baton-s3-'))
  const buckets = [{ name: BUCKET }]
  const store = new S3rver({ address: '127.0.0.1', port: 0, directory, silent: true, configureBuckets: buckets })
  const { port: behind } = await store.run()
  let ill: Ill | null = null
  const seen: string[] = []
  const door = createServer((incoming, outgoing) => void answer(incoming, outgoing))
  const open = (port: number) => once(door.listen(port, '127.0.0.1'), 'listening')
  await open(0)
  const { port } = door.address() as AddressInfo

  async function answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const body = await buffer(incoming).catch(() => null)
    if (body === null) return
    seen.push(`${incoming.method} ${incoming.url}`)
    if (ill !== null && ill.times > 0) {
      ill.times -= 1
      return refuse(outgoing, ill.status, ill.code)
    }
    const wrong = wrongIn(incoming, body)
    if (wrong !== null) return refuse(outgoing, 403, wrong)
    const { method, url, headers } = incoming
    const asked = request({ host: '127.0.0.1', port: behind, method, path: url, headers }, (answered) => {
      outgoing.writeHead(answered.statusCode ?? 500, answered.headers)
      answered.pipe(outgoing)
    })
    asked.end(body)
  }

  const options = (more: Partial<S3Options> = {}): S3Options => ({
    ...KEY,
    bucket: BUCKET,
    prefix: 'some/where',
    region: 'eu-central-1',
    endpoint: `http://127.0.0.1:${port}`,
    session_token: undefined,
    drafts_dir: join(directory, 'drafts'),
    log: pino({ level: 'silent' }),
    ...more,
  })
  return {
    endpoint: `http://127.0.0.1:${port}`,
    /** What was asked of it, as `PUT /bucket/name`. */
    seen,
    blobs: (more: Partial<S3Options> = {}) => s3Blobs(options(more)),
    /** As a server is told of it. */
    env: {
      BATON_BLOBS: `s3://${BUCKET}/some/where`,
      AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${port}`,
      AWS_REGION: 'eu-central-1',
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
    async leave(): Promise<void> {
      door.closeAllConnections()
      await new Promise((resolve) => door.close(resolve))
    },
    comeBack: () => open(port),
    async close(): Promise<void> {
      door.closeAllConnections()
      door.close()
      await store.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

function refuse(outgoing: ServerResponse, status: number, code: string): void {
  outgoing.writeHead(status, { 'content-type': 'application/xml' })
  outgoing.end(`<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>No.</Message></Error>`)
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html; null: it is right. */
function wrongIn({ method = '', url = '', headers }: IncomingMessage, body: Buffer): string | null {
  const credentials =
    /^AWS4-HMAC-SHA256 Credential=(\w+)\/(\d{8})\/([\w-]+)\/s3\/aws4_request, ?SignedHeaders=([\w;-]+), ?Signature=(\w{64})$/
  const parts = credentials.exec(headers.authorization ?? '')
  if (!parts) return 'AccessDenied'
  const [, key_id = '', date = '', region = '', names = '', signature = ''] = parts
  if (key_id !== KEY.access_key_id) return 'InvalidAccessKeyId'
  const [path = '', query = ''] = url.split('?')
  const sum = String(headers['x-amz-content-sha256'])
  const lines = names.split(';').map((name) => `${name}:${String(headers[name]).trim()}\n`)
  const canonical = [method, path, query.split('&').sort().join('&'), lines.join(''), names, sum].join('\n')
  const scope = `${date}/${region}/s3/aws4_request`
  const to_sign = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(canonical)].join('\n')
  const mac = (secret: string | Buffer, text: string) => createHmac('sha256', secret).update(text).digest()
  const signer = [date, region, 's3', 'aws4_request'].reduce<string | Buffer>(mac, `AWS4${KEY.secret_access_key}`)
  if (mac(signer, to_sign).toString('hex') !== signature) return 'SignatureDoesNotMatch'
  return sum === 'UNSIGNED-PAYLOAD' || sum === sha256(body) ? null : 'XAmzContentSHA256Mismatch'
}

const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex')
