/**
 * Blobs in a bucket that speaks S3. A blob's name is the SHA-256 that each request is signed with, so a store refuses
 * bytes that were damaged on the way. What streams in waits in a file of this machine until it has its name.
 *
 * A store that does not answer is asked again, then the caller is told to come back (503): nothing was acknowledged
 * that is not kept. The key needs s3:GetObject, PutObject, DeleteObject and ListBucket (without the last, AWS answers
 * 403 instead of 404 for what is not there).
 */
import { openAsBlob } from 'node:fs'
import { rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { AwsClient } from 'aws4fetch'
import type { Logger } from 'pino'
import { Fault } from '../contract/index.ts'
import { draftsIn } from './blob-drafts.ts'
import { type BlobStore, type ByteRange, blobIdOf, isBlobId, placeOf } from './blobs.ts'

export type S3Options = {
  bucket: string
  /** Before each name; without slashes around it, empty for none. */
  prefix: string
  region: string
  /** Another than AWS's own, which is addressed by path: `https://minio.example:9000`. */
  endpoint: string | undefined
  access_key_id: string
  secret_access_key: string
  session_token: string | undefined
  /** Where files wait on this machine. */
  drafts_dir: string
  log: Logger
}

const TRIES = 4
const FIRST_PAUSE_MS = 100
/** For an answer to begin. A file that is sent may take longer. */
const ANSWER_MS = 20_000
const SENT_MS = 5 * 60_000
/** Seconds after which asking again may help. */
const RETRY_S = 5

type Ask = {
  method: 'GET' | 'HEAD' | 'PUT' | 'DELETE'
  headers?: Record<string, string>
  body?: Blob | Uint8Array<ArrayBuffer>
}
type Problem = { status: number; code: string }

export function s3Blobs(options: S3Options): BlobStore {
  const { bucket, prefix, region, endpoint, log } = options
  const drafts = draftsIn(options.drafts_dir)
  const client = new AwsClient({
    accessKeyId: options.access_key_id,
    secretAccessKey: options.secret_access_key,
    ...(options.session_token === undefined ? {} : { sessionToken: options.session_token }),
    service: 's3',
    region,
  })
  const root =
    endpoint !== undefined
      ? `${endpoint.replace(/\/+$/, '')}/${bucket}`
      : // TLS certificates cover one label before the region.
        bucket.includes('.')
        ? `https://s3.${region}.amazonaws.com/${bucket}`
        : `https://${bucket}.s3.${region}.amazonaws.com`
  const urlOf = (blob_id: string) => [root, ...(prefix === '' ? [] : [prefix]), placeOf(blob_id)].join('/')

  /** The answer where it is one; null where there is no such blob. */
  async function ask(blob_id: string, { method, headers = {}, body }: Ask): Promise<Response | null> {
    for (let tries = 1; ; tries += 1) {
      const answered = await send(urlOf(blob_id), { method, headers, ...(body && { body }) }).catch((error: unknown) =>
        reasonOf(error),
      )
      if (answered instanceof Response && answered.ok) return answered
      const problem = answered instanceof Response ? await problemOf(answered) : answered
      if (typeof problem !== 'string' && problem.status === 404 && problem.code !== 'NoSuchBucket') return null
      if (tries === TRIES || !isPassing(problem)) throw refusal(problem, method)
      await delay(Math.random() * FIRST_PAUSE_MS * 2 ** tries)
    }
  }

  /** Time runs until the answer begins; who reads it takes as long as he likes. */
  async function send(url: string, init: Ask): Promise<Response> {
    const slow = new AbortController()
    const timer = setTimeout(
      () => slow.abort(new Error('it does not answer in time')),
      init.method === 'PUT' ? SENT_MS : ANSWER_MS,
    )
    try {
      return await fetch(await client.sign(url, { ...init, signal: slow.signal }))
    } finally {
      clearTimeout(timer)
    }
  }

  function refusal(problem: Problem | string, method: string): Fault {
    const again = { retryable: true, retry_after_s: RETRY_S }
    if (typeof problem === 'string' || problem.status >= 500 || problem.status === 429) {
      log.warn({ method, bucket, reason: problem }, 's3.away')
      if (typeof problem !== 'string' && problem.status === 507)
        return new Fault('resource_unavailable', 'The store of files (S3) is full.', { status: 507, ...again })
      const message = 'The server cannot reach its store of files (S3) right now. Try again in a moment.'
      return new Fault('resource_unavailable', message, { status: 503, ...again })
    }
    log.error({ method, bucket, ...problem }, 's3.refused')
    return new Fault(
      'resource_unavailable',
      `The store of files (S3) refuses the server (${problem.code}). Whoever runs it must look at its key and bucket.`,
      { status: 503, ...again },
    )
  }

  const put = (blob_id: string, body: Blob | Uint8Array<ArrayBuffer>) =>
    ask(blob_id, {
      method: 'PUT',
      body,
      headers: { 'x-amz-content-sha256': blob_id, 'content-type': 'application/octet-stream' },
    }).then((answer) => {
      if (answer === null) throw refusal({ status: 404, code: 'NoSuchBucket' }, 'PUT')
      return answer.body?.cancel()
    })

  async function open(blob_id: string, range?: ByteRange): Promise<Response | null> {
    if (!isBlobId(blob_id)) return null
    return ask(blob_id, { method: 'GET', ...(range && { headers: { range: `bytes=${range.first}-${range.last}` } }) })
  }

  return {
    async write(bytes) {
      const blob_id = blobIdOf(bytes)
      await put(blob_id, new Uint8Array(bytes))
      return blob_id
    },
    async draft(chunks) {
      const { path, blob_id, size_bytes } = await drafts.write(chunks)
      return {
        blob_id,
        size_bytes,
        keep: async () => put(blob_id, await openAsBlob(path)),
        drop: () => rm(path, { force: true }),
      }
    },
    async read(blob_id) {
      const answer = await open(blob_id)
      return answer === null ? null : new Uint8Array(await answer.arrayBuffer())
    },
    async open(blob_id, range) {
      return (await open(blob_id, range))?.body ?? null
    },
    async size(blob_id) {
      const answer = isBlobId(blob_id) ? await ask(blob_id, { method: 'HEAD' }) : null
      return answer === null ? null : Number(answer.headers.get('content-length'))
    },
    async remove(blob_id) {
      if (isBlobId(blob_id)) await ask(blob_id, { method: 'DELETE' }).then((answer) => answer?.body?.cancel())
    },
    tidy: drafts.tidy,
  }
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. An answer to HEAD has no body. */
async function problemOf(answer: Response): Promise<Problem> {
  const text = await answer.text().catch(() => '')
  return { status: answer.status, code: /<Code>(\w{1,64})<\/Code>/.exec(text)?.[1] ?? `status ${answer.status}` }
}

const isPassing = (problem: Problem | string): boolean =>
  typeof problem === 'string' ||
  (problem.status >= 500 && problem.status !== 507) ||
  [408, 429].includes(problem.status) ||
  problem.code === 'RequestTimeout'

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  return cause instanceof Error
    ? `${error.message}: ${cause.message || String('code' in cause && cause.code)}`
    : error.message
}
